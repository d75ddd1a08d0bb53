# SPDX-License-Identifier: Apache-2.0
"""What the doctor makes of what this machine cannot be made to be."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import Redis, cli, naming, sweep
from itest.cli import look
from itest.cli.doctor import _levelled, daemon, local, machine
from itest.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from itest.clock import Deadline
from itest.config import Config
from itest.engines import ExecResult, compose_program, privileges
from itest.engines.compose_program import Program
from itest.errors import Unavailable
from itest.spec import ProcessSpec
from itest.testing import ManualClock, MemoryEngine
from tests.unit.fake_docker import FakeDockerTest
from tests.unit.test_external import PASSWORD, closed_port, dripping, refuse_postgres, refuse_redis, server
from tests.unit.test_sweep import DEAD, add
from tests.unit.test_wait import instance_of

ROOT = Path(__file__).resolve().parents[2]


class MachineTest(unittest.TestCase):
    def test_space(self) -> None:
        gigabyte = machine.GIGABYTE
        self.assertEqual(machine.room("disk", 9 * gigabyte, "/", "x"), Finding("disk", OK, "9.0 GB free at /"))
        self.assertEqual(machine.room("disk", gigabyte, "/", "x"), Finding("disk", NOTE, "only 1.0 GB free at /: x"))
        self.assertEqual(machine.room("disk", 0, "/", "x"), Finding("disk", PROBLEM, "only 0.0 GB free at /: x"))

    def test_a_cache_directory_that_cannot_be_written_to(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        [found, *_] = machine.space(Config(cache_dir=place / "not" / "yet"))
        self.assertIn(f"GB free at {place}", found.said)
        self.assertEqual(list(place.iterdir()), [], "nothing is left of looking")
        place.joinpath("file").touch()
        [found, *_] = machine.space(Config(cache_dir=place / "file" / "cache"))
        self.assertEqual(
            found,
            Finding(
                "cache",
                NOTE,
                f"{place}/file/cache cannot be written to (Not a directory), so each run starts from nothing: set "
                f"ITEST_CACHE_DIR to another directory",
            ),
        )

    def test_a_directory_in_the_cache_that_cannot_be_written_to(self) -> None:
        for name in ("warm", "servers"):
            place = Path(self.enterContext(tempfile.TemporaryDirectory()), name)
            place.touch()
            [found, *_] = machine.space(Config(cache_dir=place.parent))
            self.assertIn(f"{place} cannot be written to (Not a directory)", found.said)

    def test_a_cache_directory_that_is_a_link_to_nowhere(self) -> None:
        link = Path(self.enterContext(tempfile.TemporaryDirectory()), "link")
        link.symlink_to("nowhere")
        for cache in (link, link / "cache"):
            [found, *_] = machine.space(Config(cache_dir=cache))
            self.assertIn(f"{cache} cannot be written to (No such file or directory)", found.said)

    def test_a_user_id_without_a_name(self) -> None:
        spec = ProcessSpec("PostgreSQL 18.6", ("postgres",), (), runs_as_root=False)
        said = "PostgreSQL 18.6 would not start, as it runs as a user id without a name: run the tests as a user that has one"
        for names, namespace, level in (((), (), PROBLEM), ((), ("unshare",), OK), ((4711,), (), OK)):
            with (
                mock.patch.object(privileges.os, "geteuid", return_value=4711),
                mock.patch.object(privileges, "_has_name", names.__contains__),
                mock.patch.object(privileges.Privileges, "_namespace", namespace),
                mock.patch.object(local, "_wanted", return_value=[mock.Mock(process=lambda secret, config: spec)]),
            ):
                found, *_ = local.servers(Config(environment={"PATH": ""}))
            self.assertEqual((found.level, found.said.startswith(said)), (level, level == PROBLEM), found)

    def test_kafka_that_mvn_would_fetch(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        place.joinpath("file").touch()
        self.enterContext(mock.patch.multiple(local.jars, find_java=lambda config: "/jre/bin/java", find_maven=bool))
        said = "Apache Kafka 4.1.1 would be fetched by mvn once, for /jre/bin/java"
        vain = f"not used: {said}, but {place}/file cannot be written to (Not a directory): set ITEST_CACHE_DIR"
        for cache, expected in (
            (place / "cache", Finding("process", OK, said)),
            (place / "file", Finding("process", NOTE, vain)),
        ):
            *_, found = local.servers(Config(cache_dir=cache, environment={"PATH": ""}))
            self.assertEqual(found, expected)

    def test_docker_compose(self) -> None:
        said = "compose = '/nowhere/docker-compose' (the setting, or ITEST_COMPOSE) is no program"
        self.assertEqual(
            list(daemon.compose(Config(compose="/nowhere/docker-compose"))), [Finding("compose", PROBLEM, said)]
        )
        with mock.patch.object(compose_program, "find", return_value=Program(("/bin/docker-compose",), "2.26.1")):
            said = "Docker Compose 2.26.1 is there (/bin/docker-compose)"
            self.assertEqual(list(daemon.compose(Config())), [Finding("compose", OK, said)])
        with mock.patch.object(compose_program, "find", side_effect=Unavailable("it is not here")):
            self.assertEqual(list(daemon.compose(Config())), [Finding("compose", NOTE, "it is not here")])

    def test_a_package_that_is_not_installed(self) -> None:
        with mock.patch.object(machine, "_version", lambda name: "" if name == "redis" else "1.0"):
            found = list(machine.versions())
        self.assertEqual(
            found[-1],
            Finding("packages", NOTE, "redis is not installed: pip install 'itest-containers[redis]' for this service"),
        )
        self.assertIn("psycopg2 1.0", found[1].said)

    def test_a_package_that_another_one_hides(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        place.joinpath("kafka").mkdir()
        place.joinpath("kafka", "__init__.py").touch()
        self.enterContext(mock.patch.object(sys, "path", [str(place), *sys.path]))
        with mock.patch.dict(sys.modules):
            for name in [name for name in sys.modules if name.partition(".")[0] == "kafka"]:
                del sys.modules[name]
            found = list(machine.versions())
        self.assertEqual(found[-1].level, NOTE)
        said = f"kafka-python cannot be used: Python finds another one of that name first, {place}/kafka/__init__.py: rename it"
        self.assertTrue(found[-1].said.startswith(said), found[-1].said)
        self.assertNotIn("kafka-python", found[1].said)

    def test_settings_that_hold_no_password(self) -> None:
        config = Config(quiet=True, redis_url="redis://:hush@here", sources={"quiet": "the variable ITEST_QUIET"})
        self.assertEqual(list(machine.settings(config)), [Finding("settings", OK, "quiet = True")])
        self.assertEqual(list(machine.settings(Config())), [])

    def test_external_servers_are_asked_as_tests_would_ask_them(self) -> None:
        naming.remember_secret(PASSWORD)  # As reading the settings does.
        with server(refuse_postgres) as port, server(refuse_redis) as other:
            config = Config(
                postgres_url=f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/x",
                redis_url=f"redis://:{PASSWORD}@127.0.0.1:{other}",
                kafka_bootstrap_servers=f"127.0.0.1:{closed_port()}",
            )
            found = list(machine.external(config))
        self.assertEqual([finding.level for finding in found], [PROBLEM] * 3)
        for finding, reason in zip(found, ("password is wrong", "password is wrong", "refused"), strict=True):
            self.assertRegex(
                finding.said, rf"^the external server 127\.0\.0\.1:\d+ cannot be used \(.*{reason}.*\): start it, or "
            )
            self.assertNotIn(PASSWORD, finding.said)

    def test_an_external_server_whose_answer_comes_to_no_end(self) -> None:
        with dripping() as port, mock.patch.object(machine, "LONGEST_ANSWER", 0.2):
            [found] = machine.external(Config(redis_url=f"redis://127.0.0.1:{port}"))
        self.assertIn("cannot be used (what it answers had come to no end after 0.2 s): start it, or", found.said)

    def test_an_external_server_that_answers(self) -> None:
        with mock.patch.object(Redis, "readiness", return_value=lambda instance: None):
            [found] = machine.external(Config(redis_url="redis://here:6379"))
        self.assertEqual(
            found, Finding("redis", OK, "an external server is used, here:6379 (from ITEST_REDIS_URL), and it answers")
        )

    def test_leftovers(self) -> None:
        engine = MemoryEngine()
        with mock.patch.object(look, "engines", lambda config: [engine]):
            self.assertEqual(list(machine.leftovers(Config())), [])
            session = add(engine, "web:1", DEAD).labels[naming.SESSION]
            with mock.patch.object(sweep, "keepers", lambda: f"python -c {sweep.KEEPER} {session}"):
                [kept] = machine.leftovers(Config())
                add(engine, "web:2", naming.owner())
                [two] = machine.leftovers(Config())
            [found] = machine.leftovers(Config())
        said = "1 thing of a run that goes on, or is kept, on memory: `itest ps`"
        self.assertEqual((kept.level, kept.said), (OK, said))
        self.assertEqual(two.said, "2 things of runs that go on, or are kept, on memory: `itest ps`")
        self.assertEqual(
            found,
            Finding(
                "leftovers",
                NOTE,
                "killed runs have left container memory-1 (web:1): the next run removes it, or `itest sweep`",
            ),
        )

    def test_what_is_in_the_way_of_an_engine_that_is_not_used_is_a_note(self) -> None:
        problem = Finding("container", PROBLEM, "x")
        self.assertEqual(list(_levelled(iter([problem]), needed=True)), [problem])
        self.assertEqual(list(_levelled(iter([problem]), needed=False)), [Finding("container", NOTE, "x")])


class ContainerTest(unittest.TestCase):
    """The container that is started, by what it answers."""

    SCRIPT = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"

    def setUp(self) -> None:
        self.instance = instance_of("http")

    def test_limits_that_are_ignored(self) -> None:
        answers = {"max\n": NOTE, "9223372036854771712\n": NOTE, f"{daemon.MEMORY}\n": OK}
        for answer, level in answers.items():
            self.instance.answers["sh", "-c", self.SCRIPT] = ExecResult(0, answer, "")
            [found] = daemon._limits(self.instance)
            self.assertEqual((found.name, found.level), ("limits", level))
        self.instance.answers.clear()
        self.assertEqual(list(daemon._limits(self.instance)), [])

    def test_free_space(self) -> None:
        self.assertIsNone(daemon._free(self.instance))
        table = "Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 100 60 40 60% /\n"
        self.instance.answers["df", "-Pk", "/"] = ExecResult(0, table, "")
        self.assertEqual(daemon._free(self.instance), 40 * 1024)

    def test_a_port_that_does_not_answer(self) -> None:
        found = daemon._port(self.instance, Deadline.after(1, ManualClock()))
        self.assertEqual((found.name, found.level), ("port", PROBLEM))
        self.assertRegex(
            found.said, r"^its published port \S+ does not answer: GET http.*; see whether a firewall or VPN "
        )

    def test_a_port_that_this_container_does_not_reach(self) -> None:
        self.instance.cut_off = lambda: True  # type: ignore[attr-defined]  # what a container has
        found = daemon._port(self.instance, Deadline.after(60, ManualClock()))
        self.assertEqual((found.name, found.level), ("port", PROBLEM))
        self.assertRegex(
            found.said,
            r"^its published port \S+ does not answer: This process is in a container .*--network host.*[^.]$",
        )

    def test_an_image_that_cannot_listen(self) -> None:
        self.instance.log = "sh: httpd: not found\nno program here can listen\n"
        found = daemon._port(self.instance, Deadline.after(1, ManualClock()))
        self.assertEqual(found, Finding("port", NOTE, "not tried: the image has no program that listens"))


class DaemonTest(FakeDockerTest):
    """A Docker that says what this machine's does not say."""

    INFO: ClassVar[dict[str, Any]] = {
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
        "CgroupVersion": "1",
        "CgroupDriver": "none",
        "MemoryLimit": False,
        "NCPU": 4,
        "MemTotal": 8 * 2**30,
    }

    def examine(self) -> list[Finding]:
        self.answers["GET /info"] = self.INFO
        self.answers.setdefault("GET /images/json", [])
        engine = self.engine
        with mock.patch.object(daemon, "DockerEngine", lambda config: engine):
            return list(daemon.examine(Config(), "", False))

    def test_rootless_without_limits_and_without_images(self) -> None:
        found = {each.name: each for each in self.examine()}
        self.assertIn("Docker 24.0.0, rootless answers at tcp://", found["docker"].said)
        self.assertIn("cgroup v1 (none), 4 processors, 8.0 GB memory", found["docker"].said)
        self.assertEqual(found["limits"].level, NOTE)
        self.assertRegex(
            found["limits"].said, "^Docker ignores limits of memory: rootless Docker and Podman need cgroup v2"
        )
        self.assertEqual(found["image"].level, NOTE)
        self.assertEqual(
            found["container"],
            Finding(
                "container",
                NOTE,
                "none was started, as no image is there: `itest doctor --pull` pulls a small one and starts it",
            ),
        )

    def test_podman(self) -> None:
        self.server.software = "Libpod/5.4.0 (linux)"
        self.answers["GET /version"] = {"ApiVersion": "1.43", "Version": "5.4.0"}
        self.answers["GET /images/json"] = [
            {"RepoTags": ["docker.io/library/redis:8"], "Size": 87_000_000, "Id": "a"},
            {"RepoTags": ["docker.io/apache/kafka:4.1.1"], "Size": 417_000_000, "Id": "b"},
            {"RepoTags": ["localhost/itest-warm:4d4dd40f1e4e8a4f"], "Size": 1, "Id": "c"},
        ]
        self.answers["GET /images/redis:8/json"] = {"Id": "sha256:0"}
        found = self.examine()
        self.assertIn("Podman 5.4.0, rootless answers at ", found[0].said)
        images = [each.said for each in found if each.name == "image"]
        self.assertIn("redis:8 is there (87 MB)", images)
        self.assertIn("apache/kafka:4.1.1 is there (417 MB)", images)
        self.assertEqual(self.server.body("POST /containers/create")["Image"], "redis:8")

    def test_an_image_without_a_shell_is_passed_over(self) -> None:
        self.answers["GET /images/json"] = [
            {"RepoTags": ["tiny:1"], "Size": 1, "Id": "a"},
            {"RepoTags": ["web:1"], "Size": 2, "Id": "b"},
        ]
        self.answers["GET /images/tiny:1/json"] = {"Id": "sha256:0"}
        no_shell = 'OCI runtime create failed: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown'
        self.answers[f"POST /containers/{'c0ffee' * 10}/start"] = (400, {"message": no_shell})
        found = self.examine()[-1]
        self.assertEqual(found.level, PROBLEM)
        self.assertRegex(found.said, "^could not start image web:1, ")
        self.assertEqual(len(self.server.requests("POST /containers/create")), 2)


class PermissionTest(unittest.TestCase):
    CODE = (
        "import os, sys\n"
        "from itest.engines.docker_address import Address, problem\n"
        "os.setegid(65534); os.seteuid(65534)\n"
        "print(problem(Address('unix://' + sys.argv[1], 'DOCKER_HOST')))\n"
    )

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_a_socket_that_only_others_may_use(self) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
            Path(directory).chmod(0o755)
            path = Path(directory, "docker.sock")
            listener.bind(str(path))
            listener.listen()
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            argv = [sys.executable, "-c", self.CODE, str(path)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            said = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout
        self.assertEqual(
            said,
            f"this user may not use the Docker socket unix://{path} (DOCKER_HOST): add the user to the group docker "
            f"(`sudo usermod -aG docker $USER`, then log in again) or use rootless Docker\n",
        )


class OutputTest(unittest.TestCase):
    def test_on_a_terminal_lines_are_wrapped_under_themselves(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        unavailable = MemoryEngine(unavailable="it is not there: " + "install it " * 20)
        unavailable.name = "docker"
        with (
            mock.patch.object(cli, "load", Config),
            mock.patch.object(look, "engines", lambda config: [unavailable]),
            mock.patch.object(local, "servers", lambda config: iter(())),
            mock.patch.dict(os.environ, {"COLUMNS": "80"}),
            contextlib.redirect_stdout(Terminal()) as output,
        ):
            self.assertEqual(cli.main(["doctor"]), 1)
        text = output.getvalue()
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.assertRegex(text, r"(?m)^problem docker      not used: it is not there: install it .*\n {20}install it")
        self.assertRegex(text, r"\n\ntests cannot run as they should: \d problems\n$")
