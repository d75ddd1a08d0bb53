# SPDX-License-Identifier: Apache-2.0
"""Compose projects, as far as no Docker is needed: declarations, readiness, and the program Docker Compose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from itest import Compose, ContainerTestCase, health, http, log, testing
from itest.clock import SYSTEM, Clock, Deadline
from itest.config import Config
from itest.engines import State, compose_program
from itest.engines.compose_instance import ComposeInstance
from itest.engines.compose_job import ComposeJob
from itest.engines.compose_program import Program
from itest.engines.docker_address import Address
from itest.errors import DeclarationError, ItestError, StartError, StartTimeout, Unavailable
from itest.services.compose.readiness import Ready
from itest.spec import ComposeSpec, ContainerSpec, Port
from itest.testing import MemoryEngine, MemoryInstance
from itest.trace import Recorder
from itest.wait import NotReady, answer, ended
from tests.clocks import StopsUntil
from tests.programs import write_program


class DeclarationTest(unittest.TestCase):
    def assertWrong(self, text: str, **fields: Any) -> None:
        with self.assertRaises(DeclarationError) as caught:
            type("T", (ContainerTestCase,), {"stack": Compose(**fields)})
        self.assertEqual(str(caught.exception), f"T.stack: {text}")

    def test_what_can_be_seen_to_be_wrong(self) -> None:
        self.assertWrong("services must be a list: services=['web']", services="web")
        self.assertWrong("profiles must be a list: profiles=['full']", profiles="full")
        self.assertWrong("'web' is in services= and in without=", services=["web"], without=["web"])
        said = "ready must be a dict that says of which service: ready={'web': http('/health')}, not a Http"
        self.assertWrong(said, ready=http("/"))
        self.assertWrong(
            "ready: '/health' of 'web' is no check, like http('/health') of itest.wait", ready={"web": "/health"}
        )
        self.assertWrong("env: 'A B' is no name of a variable of a Compose file", env={"A B": "1"})
        self.assertWrong(
            "env: TAG is a NoneType, not a text: write one, in quotes or by str(), or leave it out", env={"TAG": None}
        )
        self.assertWrong("ports: 0 of 'web' is no port: ports={'web': [8000]}", ports={"web": [0]})
        self.assertWrong("ports: '80' of 'web' is no port: ports={'web': [8000]}", ports={"web": ["80"]})
        self.assertWrong("ports: '8000' of 'web' is no port: ports={'web': [8000]}", ports={"web": "8000"})
        self.assertWrong("services must be a list, not None; leave it out if there is none", services=None)
        self.assertWrong("profiles: 1 is no text", profiles=[1])
        self.assertWrong("file: there is none", file=[])
        self.assertWrong("file: there is none", file="")
        self.assertWrong("file must be a text or a Path or a list, not 1", file=1)
        said = "('compose.yaml', None) is no path of a file, nor a list of them: Compose('compose.yaml')"
        self.assertWrong(f"file: {said}", file=("compose.yaml", None))
        self.assertWrong("reuse=True: itest cannot bring a project's data back to what it was", reuse=True)
        self.assertWrong(
            "external: a project has no URL; declare its services that run already instead", external="URL"
        )
        self.assertWrong("unknown isolation 'database'; Compose project supports 'none'", isolation="database")

    def test_it_refers_to_neighbours(self) -> None:
        with self.assertRaisesRegex(DeclarationError, "T.stack refers to 'db', which is no service of T"):
            type("T", (ContainerTestCase,), {"stack": Compose(env={"URL": "{db.url}"})})

    def test_paths_in_a_file_that_is_a_link_start_where_the_link_is(self) -> None:
        """As with `docker compose -f`."""
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "link.yaml").symlink_to("/elsewhere/compose.yaml")
        spec = Compose(directory / "link.yaml").own_spec("", Config())
        assert isinstance(spec, ComposeSpec)
        self.assertEqual(spec.directory, directory)

    def test_its_spec(self) -> None:
        class T(ContainerTestCase):
            stack = Compose(ports={"web": 80}, env={"N": 1, "TOKEN": "a-token-of-their-own"}, ready={"web": http("/")})

        service = dict(T._itest_declarations)["stack"]
        spec = service.own_spec("", Config())
        assert isinstance(spec, ComposeSpec)
        self.assertEqual(Compose(ready={"web": http(port=8000)}).own_spec("", Config()).ready, {"web": ("8000",)})
        self.assertEqual(Compose(ready={"a": ended(), "b": log("x")}).own_spec("", Config()).jobs, ("a",))
        self.assertEqual(spec.files, (Path(__file__).resolve().parent / "compose.yaml",))
        self.assertEqual((spec.ports, spec.ready), ({"web": (80,)}, {"web": ("",)}))
        self.assertEqual(str(spec), "compose.yaml")
        self.assertIn("'N': '1'", repr(spec))
        self.assertNotIn("a-token-of-their-own", repr(spec))
        self.assertEqual(service.identity(spec), service.identity(service.own_spec("", Config())))


class ReadinessTest(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = MemoryEngine()

    def container(self, *ports: str) -> MemoryInstance:
        spec = ContainerSpec("image:1", ports={port: Port(1) for port in ports})
        instance = self.engine.start(spec, {"service": "x"}, Deadline.after(1), Recorder())
        assert isinstance(instance, MemoryInstance)
        return instance

    def project(self, *lasting: str, **containers: MemoryInstance | list[MemoryInstance]) -> Any:
        each: Any = {name: each if isinstance(each, list) else [each] for name, each in containers.items()}
        return ComposeInstance("itest-1", each, {}, "", lambda: None, lasting)

    def test_a_service_without_anything_to_be_seen_must_run_for_a_moment(self) -> None:
        project, check = self.project(a=self.container()), Ready({})
        with self.assertRaisesRegex(NotReady, "^a: it has just started$"):
            check(project)
        deadline = Deadline.after(5)
        while not deadline.passed:
            try:
                check(project)
                break
            except NotReady:
                deadline.pause(0.02)
        self.assertFalse(deadline.passed)

    def test_a_service_with_a_check_must_pass_it(self) -> None:
        def fail(_: object) -> None:
            raise OSError("refused")

        project = self.project(a=self.container())
        check = Ready({"a": answer("PING to answer", fail, (OSError,))})
        with self.assertRaisesRegex(NotReady, "^a: OSError: refused$"):
            check(project)
        self.assertEqual(str(check), "its services to be ready (a: PING to answer)")
        self.assertEqual(str(Ready({})), "its services to be ready")

    def test_health(self) -> None:
        a = self.container()
        a.current = State(True, health="starting", health_said="not yet")
        with self.assertRaisesRegex(NotReady, "^a: its health check has not passed: not yet$"):
            Ready({})(self.project(a=a))
        Ready({"a": log("^")})(self.project(a=a))  # A check of the declaration takes its place.
        with self.assertRaisesRegex(NotReady, "^a: its health is starting: not yet$"):
            Ready({"a": health()})(self.project(a=a))
        a.current = State(True, health="unhealthy", health_said="no disk")
        a.log = "the log\n"
        with self.assertRaises(StartError) as caught:
            Ready({})(self.project(a=a))
        self.assertEqual(str(caught.exception), "service 'a' is unhealthy by its own health check, which said: no disk")
        self.assertIn("the log", caught.exception.__notes__[0])
        a.current = State(True, health="healthy")
        Ready({})(self.project(a=a))

    def test_ends(self) -> None:
        a = self.container()
        a.end(0)
        Ready({})(self.project(a=a))
        Ready({"a": ended()})(self.project(a=a))
        with self.assertRaisesRegex(StartError, "service 'a' ended before it was ready: exited with exit code 0"):
            Ready({"a": http("/")})(self.project("a", a=a))
        a.end(2)
        with self.assertRaisesRegex(StartError, "service 'a' ended before it was ready: exited with exit code 2"):
            Ready({})(self.project(a=a))

    def test_each_container_of_a_service_must_be_ready(self) -> None:
        first, second = self.container(), self.container()
        first.current, second.current = State(True, health="healthy"), State(True, health="starting")
        project, check = self.project(a=[first, second]), Ready({})
        with self.assertRaisesRegex(NotReady, "^a-2: its health check has not passed$"):
            check(project)
        second.end(2)
        with self.assertRaisesRegex(StartError, "service 'a' ended before it was ready: exited with exit code 2"):
            check(project)

    def test_services_that_docker_starts_again(self) -> None:
        a = self.container()
        a.current = State(True, status="restarting", exit_code=3)
        with self.assertRaisesRegex(NotReady, "^a: it has ended with exit code 3, and Docker starts it again$"):
            Ready({})(self.project(a=a))
        a.current = State(False, status="created", exit_code=0)
        with self.assertRaisesRegex(NotReady, "it has not been started yet"):
            Ready({})(self.project(a=a))

    def test_the_end_of_one_that_is_no_job_is_a_failure_with_any_exit_code(self) -> None:
        a, b = self.container(), self.container()
        project = self.project("a", a=a, b=b)
        a.current = State(False, status="created", exit_code=0)
        self.assertTrue(project.state().running)
        a.end(0)
        b.end(0)
        a.log, b.log = "bye\n", "done\n"
        self.assertEqual(str(project.state()), "service 'a' exited with exit code 0")
        self.assertEqual(project.logs(), "a | bye\n")
        with self.assertRaisesRegex(StartError, "service 'a' ended before it was ready: exited with exit code 0"):
            Ready({})(project)

    def test_a_project_runs_until_a_service_has_failed_and_then_shows_the_log_of_that(self) -> None:
        a, b = self.container(), self.container()
        a.log, b.log = "one\ntwo\n", "three\n"
        project = self.project(first=a, b=b)
        self.assertTrue(project.state().running)
        self.assertEqual(project.logs(), "first | one\nfirst | two\nb     | three\n")
        a.end(0)
        self.assertTrue(project.state().running)
        b.end(137, oom_killed=True)
        self.assertEqual(str(project.state()), "service 'b' exited with exit code 137, killed for lack of memory")
        self.assertEqual(project.logs(), "b | three\n")
        with self.assertRaisesRegex(ItestError, "project itest-1 .first, b. publishes no port"):
            project.endpoint()


class ProgramTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(compose_program, "PLUGINS", (str(self.directory / "system"),)))

    def program(self, script: str, name: str = "bin/docker-compose") -> Path:
        return write_program(self.directory / name, script)

    def find(self, **settings: Any) -> Program:
        variables = {"HOME": str(self.directory), "PATH": str(self.directory / "bin")}
        return compose_program.find(Config(environment=variables, **settings))

    def unavailable(self, **settings: Any) -> str:
        with self.assertRaises(Unavailable) as caught:
            self.find(**settings)
        return str(caught.exception)

    def test_where_it_is_looked_for(self) -> None:
        on_path = self.program("echo 2.1.0")
        self.assertEqual(self.find(), Program((str(on_path),), "2.1.0"))
        system = self.program("echo v2.2.0", "system/docker-compose")
        self.assertEqual(self.find(), Program((str(system),), "2.2.0"))
        own = self.program("echo 2.3.0-desktop.1", ".docker/cli-plugins/docker-compose")
        self.assertEqual(self.find(), Program((str(own),), "2.3.0"))
        mine = self.program("echo 5.0.1", "mine")
        self.assertEqual(self.find(compose=str(mine)), Program((str(mine),), "5.0.1"))
        docker = self.program('[ "$1" = compose ] && echo 2.4.0', "bin/docker")
        self.assertEqual(self.find(compose="docker"), Program((str(docker), "compose"), "2.4.0"))

    def test_it_is_not_here(self) -> None:
        text = self.unavailable()
        self.assertIn("Docker Compose is not here: there is no docker-compose on PATH nor in", text)
        self.assertIn("install it (https://docs.docker.com/compose/install", text)
        self.assertIn("ITEST_COMPOSE", text)

    def test_the_setting_names_none(self) -> None:
        self.assertEqual(
            self.unavailable(compose="no-such"), "compose = 'no-such' (the setting, or ITEST_COMPOSE) is no program"
        )

    def test_version_1_is_refused(self) -> None:
        path = self.program("echo 1.29.2")
        self.assertIn(
            f"{path} is Docker Compose 1.29.2, which ended in 2023; version 2 is needed: install it", self.unavailable()
        )

    def test_something_else_of_that_name(self) -> None:
        path = self.program("echo unknown command; exit 1")
        self.assertIn(f"{path} says unknown command when it is asked for its version; install", self.unavailable())

    def test_its_environment(self) -> None:
        config = Config(environment={"COMPOSE_FILE": "x", "A": "1", "DOCKER_CONTEXT": "y", "DOCKER_TLS_VERIFY": "1"})
        found = compose_program.environment(config, Address("unix:///d.sock", "test"), {"A": "2", "B": "3"})
        common = {"COMPOSE_PROFILES": ""}
        self.assertEqual(
            found, {**common, "A": "2", "B": "3", "DOCKER_HOST": "unix:///d.sock", "DOCKER_TLS_VERIFY": "1"}
        )
        address = Address("tcp://h:2376", "test", Path("/certs"), verify=False)
        found = compose_program.environment(config, address, {})
        self.assertEqual(
            found, {**common, "A": "1", "DOCKER_HOST": "tcp://h:2376", "DOCKER_CERT_PATH": "/certs", "DOCKER_TLS": "1"}
        )

    def run_script(self, script: str, model: bytes = b"", clock: Clock = SYSTEM) -> compose_program.Result:
        program = Program((str(self.program(script)),), "2.0.0")
        return program.run(
            ["up"], Deadline.after(60, clock), environment=os.environ, directory=self.directory, model=model
        )

    def test_what_it_reads_says_and_ends_with(self) -> None:
        result = self.run_script('cat; echo "$1 in $PWD" >&2; exit 3', model=b"{}" * 100_000)
        self.assertEqual(result, (3, "{}" * 100_000, f"up in {os.path.realpath(self.directory)}\n"))

    def test_it_is_ended_when_its_time_is_over(self) -> None:
        for before in ("", "kill -STOP $$; "):  # Also if somebody has stopped it meanwhile, who has it go on.
            with self.subTest(before), self.assertRaises(TimeoutError):
                script = f"(sleep 0.1; kill -CONT $$) & {before}echo $$ > pid.new; mv pid.new pid; sleep 600 & wait"
                self.run_script(script, clock=StopsUntil((self.directory / "pid").exists))
            self.assertGone()
            (self.directory / "pid").unlink()

    def test_a_program_that_cannot_be_run(self) -> None:
        program = Program((str(self.directory / "no-such"),), "2.0.0")
        result = program.run(["up"], Deadline.after(10), environment={}, directory=self.directory)
        self.assertEqual((result.code, result.stderr), (127, f"{self.directory}/no-such: No such file or directory"))

    def test_it_ends_with_its_owner(self) -> None:
        path = self.program("echo $$ > pid.new; mv pid.new pid; sleep 600 & wait")
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom itest.clock import Deadline\n"
            "from itest.engines.compose_program import Program\n"
            f"Program(({str(path)!r},), '2').run(['up'], Deadline.after(60), environment=os.environ,"
            f" directory=Path({str(self.directory)!r}))\n"
        )
        owner = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
        with owner:
            deadline = Deadline.after(20)
            while not (self.directory / "pid").exists() and not deadline.passed:
                deadline.pause(0.01)
            owner.send_signal(signal.SIGKILL)
        self.assertGone()

    def assertGone(self) -> None:
        pid = int((self.directory / "pid").read_text())
        deadline = Deadline.after(10)
        while not deadline.passed:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
            deadline.pause(0.01)
        self.fail(f"process {pid} still runs")


class JobTest(unittest.TestCase):
    """What is asked of Compose by a job, and what that says of its failures."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def job(self, script: str, *, is_podman: bool, **variables: str) -> ComposeJob:
        program = Program((str(write_program(self.directory / "compose", script)),), "2.0.0")
        spec = ComposeSpec((self.directory / "compose.yaml",), self.directory)
        return ComposeJob(program, spec, "itest-1", {**os.environ, **variables}, lambda: is_podman)

    def test_podman_builds_without_buildkit(self) -> None:
        """Which Compose would run in a privileged container of its own. A variable of the user's wins."""
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("DOCKER_BUILDKIT", None)
        variables: dict[str, str]
        for is_podman, variables, expected in (
            (True, {}, "0"),
            (False, {}, "unset"),
            (True, {"DOCKER_BUILDKIT": "1"}, "1"),
        ):
            job = self.job("echo ${DOCKER_BUILDKIT-unset} > said", is_podman=is_podman, **variables)
            job.build(b"{}", ["web"], 60)
            self.assertEqual((self.directory / "said").read_text().strip(), expected, (is_podman, variables))

    def test_podman_never_runs_a_health_check_without_systemd(self) -> None:
        why = "no health check has said anything: Podman runs them by timers of systemd's, and never without"
        for is_podman, said, expected in (
            (True, "", f"database is starting, and {why}. If"),
            (True, "no response", "database is starting: no response. If"),
            (False, "", "database is starting. If"),
        ):
            database = mock.Mock(**{"state.return_value": State(True, health="starting", health_said=said)})
            database.logs.return_value = ""
            job = self.job("exec sleep 600", is_podman=is_podman)
            with self.assertRaises(StartTimeout) as caught:
                job.up(b"{}", Deadline.after(0.01), lambda database=database: {"database": [database]})
            self.assertIn(f"did not start within 0.01 s: {expected}", str(caught.exception))


class NoComposeTest(unittest.TestCase):
    def test_tests_skip_with_a_reason_where_it_is_missing(self) -> None:
        with (
            mock.patch.dict(os.environ, {"ITEST_ENGINE": "docker"}),
            testing.session() as session,
            mock.patch.object(compose_program, "find", side_effect=Unavailable("Docker Compose is not here")),
            mock.patch("itest.engines.compose.DockerEngine.unavailable", return_value=None),
            self.assertRaises(Unavailable) as caught,
        ):
            session.lend(Compose())
        self.assertEqual(str(caught.exception), "compose.yaml cannot be run here: Docker Compose is not here")
