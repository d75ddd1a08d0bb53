# SPDX-License-Identifier: Apache-2.0
"""Any container as it is declared: what an engine is asked to run, and what is refused."""

from __future__ import annotations

import io
import re
import socket
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import (
    Build,
    Container,
    ContainerTestCase,
    Healthcheck,
    Mount,
    Port,
    health,
    http,
    log,
    naming,
    port,
    testing,
)
from itest.clock import Deadline
from itest.config import Config
from itest.container_options import ContainerOptions, size
from itest.engines import Endpoint, ExecResult, State, docker_exec, docker_listening
from itest.engines.docker_address import Address
from itest.engines.docker_options import add
from itest.errors import (
    ConfigError,
    DeclarationError,
    ExecTimeout,
    InstanceDied,
    ItestError,
    StartError,
    StartTimeout,
    Unavailable,
)
from itest.services.container import ContainerView
from itest.services.container.texts import env_file
from itest.spec import ContainerSpec
from itest.testing import ManualClock, MemoryEngine, MemoryInstance
from itest.wait import NotReady, ended, until_ready
from tests.unit.inner import InnerTest, run

HERE = Path(__file__).resolve().parent


class SpecTest(unittest.TestCase):
    def spec(self, *image: str, **fields: Any) -> ContainerSpec:
        return Container(*(image or ("web:1",)), **fields).container("secret")

    def test_the_least(self) -> None:
        self.assertEqual(self.spec(), ContainerSpec("web:1"))

    def test_commands(self) -> None:
        spec = self.spec(command="serve --title 'two words'", entrypoint=["/run", "it"])
        self.assertEqual((spec.command, spec.entrypoint), (("serve", "--title", "two words"), ("/run", "it")))
        self.assertEqual(self.spec(entrypoint="").entrypoint, ())

    def test_ports(self) -> None:
        for written, expected in {
            "one number": (9200, {"9200": (9200, "tcp")}),
            "text": ("53/udp", {"53/udp": (53, "udp")}),
            "list": ([9200, "53/udp", Port(1)], {"9200": (9200, "tcp"), "53/udp": (53, "udp"), "1": (1, "tcp")}),
            "names": ({"http": 80, "dns": "53/udp", "api": Port(81)}, {"http": (80, "tcp"), "dns": (53, "udp"), "api": (81, "tcp")}),
        }.values():  # fmt: skip
            with self.subTest(written):
                ports = self.spec(ports=written).ports
                self.assertEqual({name: (each.number, each.protocol) for name, each in ports.items()}, expected)
                self.assertTrue(all(each.chosen for each in ports.values()), "so that a restart keeps them")

    def test_environment(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            one, two = Path(directory, "one.env"), Path(directory, "two.env")
            one.write_text("A=1\nB=1\nC=1\n")
            two.write_text("B=2\nC=2\n")
            spec = self.spec(env_file=[one, str(two)], env={"C": 3})
        self.assertEqual(spec.env, {"A": "1", "B": "2", "C": "3"})

    def test_what_looks_like_a_password_is_hidden(self) -> None:
        self.spec(env={"API_TOKEN": "tok-0123456789", "TOKEN_LIMIT": "5", "MODE": "plain-enough-text"})
        self.assertEqual(naming.mask("tok-0123456789 5 plain-enough-text"), "*** 5 plain-enough-text")

    def test_files(self) -> None:
        spec = self.spec(files={"/a": "text", "/b": b"\0", "/c": HERE, "/d": Path(__file__)})
        self.assertEqual(spec.files, {"/a": b"text", "/b": b"\0", "/c": HERE, "/d": HERE / "test_container.py"})

    def test_relative_paths_start_at_the_module(self) -> None:
        class Case(ContainerTestCase):
            web = Container("web:1", files={"/a": Path("fixtures")}, volumes={"/b": Path("fixtures"), "/c": "data"})

        declaration = vars(Case)["web"]
        spec = declaration.container("")
        self.assertEqual(spec.files, {"/a": HERE / "fixtures"})
        self.assertEqual(spec.options.mounts, {"/b": Mount(HERE / "fixtures"), "/c": Mount("data")})
        copy = declaration.replace(env={"A": "1"}).at_place_of(declaration)
        self.assertEqual(copy.container("").files, spec.files)

    def test_builds(self) -> None:
        class Case(ContainerTestCase):
            text = Container(build="fixtures")
            path = Container(build=Path("/elsewhere"), platform="linux/arm64", pull="always")
            full = Container(build=Build("fixtures", args={"A": "1"}))

        text, path, full = (vars(Case)[name].container("") for name in ("text", "path", "full"))
        self.assertEqual((text.image, text.build), ("", Build(HERE / "fixtures")))
        self.assertEqual((path.build, path.platform, path.pull), (Build(Path("/elsewhere")), "linux/arm64", "always"))
        self.assertEqual(full.build, Build(HERE / "fixtures", args={"A": "1"}))

    def test_options(self) -> None:
        options = self.spec(
            memory="512m",
            shm_size=1000,
            ulimits={"nofile": 5, "nproc": [1, 2]},
            cap_add="NET_ADMIN",
            healthcheck="true",
        ).options
        self.assertEqual((options.memory, options.shm_size), (512 * 2**20, 1000))
        self.assertEqual(options.ulimits, {"nofile": (5, 5), "nproc": (1, 2)})
        self.assertEqual(options.cap_add, ("NET_ADMIN",))
        self.assertEqual(options.healthcheck, Healthcheck("true"))
        self.assertEqual(self.spec(healthcheck=False).options.healthcheck, Healthcheck(""))
        self.assertEqual(self.spec(healthcheck=["a", "b"]).options.healthcheck, Healthcheck(("a", "b")))

    def test_tmpfs(self) -> None:
        self.assertEqual(self.spec(tmpfs="/a").tmpfs, {"/a": 0})
        self.assertEqual(self.spec(tmpfs=["/a", "/b"]).tmpfs, {"/a": 0, "/b": 0})
        self.assertEqual(self.spec(tmpfs={"/a": "1k", "/b": 5}).tmpfs, {"/a": 1024, "/b": 5})

    def test_sizes(self) -> None:
        for text, expected in {"1": 1, "10b": 10, "2k": 2048, "1.5M": 1572864, "1 GiB": 2**30, "1gb": 2**30}.items():
            self.assertEqual(size(text), expected)

    def test_each_option_makes_a_container_of_its_own(self) -> None:
        options: list[dict[str, Any]] = [
            {}, {"memory": 1}, {"user": "1"}, {"volumes": {"/a": "a"}}, {"volumes": {"/a": "b"}}, {"healthcheck": "true"},
            {"volumes": {"/a": Mount("a", read_only=True)}}, {"api": {"Tty": True}}, {"labels": {"a": "b"}},
        ]  # fmt: skip
        prints = [self.spec(**each).fingerprint() for each in options]
        self.assertEqual(len(set(prints)), len(options))
        self.assertEqual(self.spec(memory="1k").fingerprint(), self.spec(memory=1024).fingerprint())

    def test_a_running_one(self) -> None:
        spec = Container("web:1", ports={"http": 80}).external_spec("http://web.example:8080/", "WEB_URL")
        self.assertEqual(spec.ports, {"http": ("web.example", 8080)})
        self.assertEqual(
            Container("web:1").external_spec("https://web.example", "X").ports, {"http": ("web.example", 443)}
        )
        for url in ("nonsense", "tcp://web.example", "http://:5"):
            with self.assertRaisesRegex(ConfigError, "^WEB_URL is no URL with host and port: it must look like"):
                Container("web:1").external_spec(url, "WEB_URL")
        for ready in (http("/", port="admin"), port() & port("admin")):
            service = Container("web:1", ports={"http": 80, "admin": 81}, ready=ready)
            with self.assertRaisesRegex(
                ConfigError, "^WEB_URL says where one port of image web:1 is, 'http', and ready="
            ):
                service.external_spec("http://web.example", "WEB_URL")
        service.replace(ready=http("/")).external_spec("http://web.example", "WEB_URL")


class BadDeclarationTest(unittest.TestCase):
    def test_what_is_refused_when_the_class_is_made(self) -> None:
        def later() -> None: ...

        async def soon() -> None: ...

        web = {"image": "web:1"}
        for fields, text in (
            ({}, r"it names no image; write Container('image:tag'), or Container(build='directory')"),
            ({**web, "build": "."}, "both image 'web:1' and build= are given: leave out one of them"),
            ({**web, "pull": "often"}, "pull: 'often' is none of 'missing', 'always', 'never'"),
            ({"build": 5}, "build: 5 is neither a directory nor a Build"),
            ({"image": 5}, "image must be a text like 'busybox:1.37', not 5"),
            ({**web, "ports": {"http": "eighty"}}, "ports: 'eighty' is no container port; write a number, '53/udp' or Port(...)"),
            ({**web, "ports": ["80:8080"]}, "ports: '80:8080' is no container port; write a number, '53/udp' or Port(...)"),
            ({**web, "ports": 70000}, "ports: 70000/tcp is no container port: it must be 1 to 65535, and tcp, udp or sctp"),
            ({**web, "ports": "53/ddp"}, "ports: 53/ddp is no container port: it must be 1 to 65535, and tcp, udp or sctp"),
            ({**web, "ports": {"a": 80, "b": "80"}}, "ports: 'a' and 'b' are both 80/tcp"),
            ({**web, "ports": {"two words": 80}}, "ports: 'two words' is no name of a port; write one like 'http'"),
            ({**web, "ports": {"80/tcp": 8080}}, "ports: '80/tcp' is no name: write {'http': 80}; host ports are free ones"),
            ({**web, "ports": {80: None}}, "ports: 80 is no name: write {'http': 80}; host ports are free ones"),
            ({**web, "ports": {"53/udp": 53}}, "ports: '53/udp' is no name: write {'http': '53/udp'}; host ports are free ones"),
            ({**web, "ready": http(port="htp"), "ports": {"http": 80}}, "ready mentions port 'htp'; declared are 'http'"),
            ({**web, "ready": log("x") & port("b"), "ports": {"a": 80}}, "ready mentions port 'b'; declared are 'a'"),
            ({**web, "ready": http("/x")}, "ready waits for GET /x to answer, but no port is declared: ports={'http': 80}"),
            ({**web, "ready": port("dns"), "ports": {"dns": "53/udp"}}, "ready: nobody can see whether port 'dns' answers, since it is not TCP"),
            ({**web, "ready": "up"}, "ready: 'up' is neither a check, like http('/health'), nor a function"),
            ({**web, "ready": port}, "ready: port makes a check and is none: write port(...)"),
            ({**web, "ready": lambda: True}, "ready: the function takes (), and is given one argument, the view: write `lambda view: ...`"),
            ({**web, "ready": soon}, "ready: the function is async, and nothing would await it; make it a plain one"),
            ({**web, "ready": later, "job": True}, "job=True is ready when it has ended, so it has no ready="),
            ({**web, "reuse": True}, "reuse=True: itest cannot bring a container's data back to what it was"),
            ({**web, "restart": "sometimes"}, "restart: 'sometimes' is no policy of Docker's: 'no', 'on-failure', 'on-failure:3', 'always' or 'unless-stopped'"),
            ({**web, "labels": {"itest.owner": "me"}}, "labels: 'itest.owner' begins with 'itest.', which is for itest itself"),
            ({**web, "env": {"DEBUG": True}}, "env: DEBUG is a bool, not a text: write one, in quotes or by str(), or leave it out"),
            ({**web, "env": {"PW": b"x"}}, "env: PW is a bytes, not a text: write one, in quotes or by str(), or leave it out"),
            ({**web, "env": {"A=B": "c"}}, "env: 'A=B' is no name of a variable"),
            ({**web, "command": "echo 'open"}, "command: \"echo 'open\" is no command: No closing quotation"),
            ({**web, "command": ["sleep", True]}, "command: a word of the command must be a text, a Path or a number, not True"),
            ({**web, "memory": "much"}, "memory: 'much' is no size: write a number of bytes, or a text like '512m' or '1.5g'"),
            ({**web, "memory": -1}, "memory: -1 is no size: write a number of bytes, or a text like '512m' or '1.5g'"),
            ({**web, "cpus": "half"}, "cpus: 'half' is no number of processors, like 0.5"),
            ({**web, "ulimits": {"nofile": "x"}}, "ulimits: nofile='x' is no limit; write a number, or (soft, hard)"),
            ({**web, "volumes": {"data": "x"}}, "volumes: 'data' is no absolute path in the container; write it as '/etc/x.conf'"),
            ({**web, "volumes": {"/data": "./x"}}, "volumes: './x' is no name of a volume; for a file or directory of this machine write a Path"),
            ({**web, "files": {"x.conf": "x"}}, "files: 'x.conf' is no absolute path in the container; write it as '/etc/x.conf'"),
            ({**web, "files": {"/x": 5}}, "files: 5 for /x is neither a text nor bytes nor a Path"),
            ({**web, "files": {"/run/x": "x"}, "tmpfs": "/run"}, "files: /run/x would be hidden by the tmpfs that is mounted on /run"),
            ({**web, "files": {"/a/x": "x"}, "volumes": {"/a": Path("/b")}}, "files: /a/x would be written into /b of this machine, mounted there"),
            ({**web, "healthcheck": True}, "healthcheck: True says no command; write one, or leave it out for the image's own"),
        ):  # fmt: skip
            with self.subTest(text), self.assertRaises(DeclarationError) as caught:
                type("Case", (ContainerTestCase,), {"__module__": __name__, "web": Container(**fields)})  # type: ignore[arg-type]  # wrong on purpose
            self.assertEqual(str(caught.exception), f"Case.web: {text}")

    def test_a_port_without_a_name_is_called_by_its_number(self) -> None:
        for ready in (http(port=9000), port(9000), port("9000")):
            type("Case", (ContainerTestCase,), {"web": Container("web:1", ports=9000, ready=ready)})

    def test_a_health_check_whose_times_are_no_numbers(self) -> None:
        for fields, text in (
            ({"interval": "5s"}, "interval='5s' is no number of seconds, like 0.5"),
            ({"timeout": True}, "timeout=True is no number of seconds, like 0.5"),
            ({"start_period": -1}, "start_period=-1 is no number of seconds, like 0.5"),
            ({"retries": "3"}, "retries='3' is no whole number"),
        ):
            with self.subTest(text), self.assertRaises(DeclarationError) as caught:
                Healthcheck("true", **fields)  # type: ignore[arg-type]  # wrong on purpose
            self.assertEqual(str(caught.exception), f"Healthcheck: {text}")
        with self.assertRaisesRegex(
            DeclarationError, "^Healthcheck: None is no command; write it as a text or a list$"
        ):
            Healthcheck(None)  # type: ignore[arg-type]  # as above

    def test_an_unknown_option(self) -> None:
        with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'mem'"):
            Container("web:1", mem="5m")  # type: ignore[call-arg]  # wrong on purpose

    def test_attempts(self) -> None:
        with self.assertRaisesRegex(DeclarationError, r"^Case\.web: start_attempts=0 is no number from 1 on$"):
            type("Case", (ContainerTestCase,), {"web": Container("web:1", start_attempts=0)})

    def test_an_env_file_that_is_wrong(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "x.env")
            file.write_text("# fine\nexport A='b c'\nNONSENSE\n")
            with self.assertRaisesRegex(
                StartError, r"^could not read env_file .*x\.env: line 3 is not NAME=value: 'NONSENSE'$"
            ):
                env_file(file)
            file.write_text("export A='b c'\nE=\n")
            self.assertEqual(env_file(file), {"A": "b c", "E": ""})


class CreateTest(unittest.TestCase):
    """The options in Docker's words."""

    HERE = Address("unix:///docker.sock", "a test")
    LABELS: ClassVar[dict[str, str]] = {naming.SESSION: "s1", naming.OWNER: "me"}

    def asked(self, address: Address = HERE, **options: Any) -> dict[str, Any]:
        config: dict[str, Any] = {"Labels": dict(self.LABELS), "HostConfig": {"ExtraHosts": ["a:b"]}}
        add(config, ContainerSpec("web:1", options=ContainerOptions(**options)), self.LABELS, address)
        return config

    def test_nothing_is_asked_for_that_nobody_wants(self) -> None:
        self.assertEqual(self.asked(), {"Labels": self.LABELS, "HostConfig": {"ExtraHosts": ["a:b"]}})

    def test_a_privileged_container_only_for_who_asks(self) -> None:
        self.assertTrue(self.asked(privileged=True)["HostConfig"]["Privileged"])

    def test_volumes(self) -> None:
        [mount] = self.asked(mounts={"/data": Mount("data", read_only=True)})["HostConfig"]["Mounts"]
        self.assertEqual(
            mount,
            {
                "Type": "volume",
                "Source": "itest-s1-data",
                "Target": "/data",
                "ReadOnly": True,
            },
        )

    def test_a_directory_of_this_machine_on_another_machine(self) -> None:
        far = Address("tcp://build.example:2375", "a test")
        with self.assertRaisesRegex(
            StartError,
            r"^could not start image web:1: /src of this machine cannot be mounted at /x, because Docker is on "
            r"build\.example; have it copied there with files=\{\.\.\.\}$",
        ):
            self.asked(far, mounts={"/x": Mount(Path("/src"))})

    def test_the_health_check(self) -> None:
        asked = self.asked(healthcheck=Healthcheck(["a", "b"], interval=0.5))["Healthcheck"]
        self.assertEqual((asked["Test"], asked["Interval"]), (["CMD", "a", "b"], 500_000_000))
        self.assertEqual(self.asked(healthcheck=Healthcheck("a b"))["Healthcheck"]["Test"], ["CMD-SHELL", "a b"])
        self.assertEqual(self.asked(healthcheck=Healthcheck(""))["Healthcheck"], {"Test": ["NONE"]})

    def test_anything_else_is_merged(self) -> None:
        asked = self.asked(memory=5, api={"Tty": True, "HostConfig": {"Sysctls": {"a": "1"}, "Memory": 6}})
        self.assertEqual((asked["Tty"], asked["HostConfig"]["Sysctls"]), (True, {"a": "1"}))
        self.assertEqual((asked["HostConfig"]["Memory"], asked["HostConfig"]["MemorySwap"]), (6, 5))

    def test_labels_and_hosts_are_added(self) -> None:
        asked = self.asked(labels={"a": "b", naming.OWNER: "x"}, extra_hosts={"c": "d"})
        self.assertEqual(asked["Labels"], {"a": "b", **self.LABELS})
        self.assertEqual(asked["HostConfig"]["ExtraHosts"], ["a:b", "c:d"])


class LifeTest(InnerTest):
    """The life of a container in memory."""

    def test_without_docker_tests_skip_with_the_reason(self) -> None:
        engine = MemoryEngine(unavailable="there is no Docker")
        process = mock.Mock(unavailable=lambda: None)
        process.name = "process"

        class Case(ContainerTestCase):
            web = Container("web:1")

            def test(self) -> None:
                raise AssertionError("it must not run")

        with testing.session(engine, process):
            result = run(Case)
        self.check(result, ran=0, skipped=1)
        [(_, reason)] = result.skipped
        self.assertEqual(
            reason,
            "nothing here can run Container: memory: there is no Docker; process: image web:1 runs in a container only, "
            "so it needs Docker",
        )
        with testing.session(engine, process, require="1"):
            self.check(run(Case), ran=0, errors=1)

    def test_no_recipe_for_local_processes(self) -> None:
        with self.assertRaisesRegex(
            Unavailable, "^image of .*/Dockerfile runs in a container only, so it needs Docker$"
        ):
            Container(build=".").process("", Config())

    def test_each_class_has_its_own_and_each_test_finds_it_running(self) -> None:
        class One(ContainerTestCase):
            web = Container("web:1", ports=80, ready=lambda view: bool(view.url))

            def test_1(self) -> None:
                self.assertEqual(self.web.url, f"http://127.0.0.1:{self.web.port}")

            def test_2(self) -> None:
                self.assertRegex(repr(self.web), r"^<ContainerView of container memory-\d \(web:1\)>$")

        class Two(One):
            pass

        self.check(run(One, Two), ran=4)
        self.assertEqual(self.events, ["start web:1", "stop web:1"] * 2 + ["close"])

    def test_attempts(self) -> None:
        numbers: list[str] = []

        def prepare(instance: MemoryInstance) -> None:
            numbers.append(instance.id)
            if len(numbers) < 3:
                instance.end()

        session = self.use(MemoryEngine(prepare))
        with self.assertRaises(InstanceDied) as caught:
            session.lend(Container("web:1", start_attempts=2))
        self.assertEqual(caught.exception.__notes__[-1], "this was the last of 2 attempts to start it")
        session.lend(Container("web:2", start_attempts=2))
        self.assertEqual(len(numbers), 3)

    def test_a_job(self) -> None:
        session = self.use(MemoryEngine(lambda instance: instance.end(0)))
        server = session.lend(Container("job:1", job=True))
        self.assertIs(session.lend(Container("job:1", job=True)), server)
        self.assertTrue(server.lives())

    def test_what_only_a_container_can_do(self) -> None:
        view = self.session.lend(Container("web:1", ports={"http": 80}, ready=lambda view: True)).view()  # type: ignore[attr-defined]  # a ContainerServer
        for call in (view.pause, view.restart, lambda: view.copy_from("/x"), lambda: view.exec("x", user="root")):
            with self.assertRaisesRegex(
                ItestError, r"^could not [\w ]+ container memory-1 .*: it is no container that"
            ):
                call()
        self.assertEqual(view.exec("true").exit_code, 127)

    def test_what_a_command_cannot_read_is_refused_before_it_runs(self) -> None:
        view = self.session.lend(Container("web:1", ready=lambda view: True)).view()  # type: ignore[attr-defined]  # as above
        for wrong in (io.BytesIO(b"x"), 3, ["a"]):
            with self.assertRaisesRegex(
                TypeError, r"^exec: stdin must be a text or bytes \(of a file, file.read\(\)\), not "
            ):
                view.exec(["cat"], stdin=wrong)
        self.assertEqual(view.exec("true", user=None, directory=None, stdin=None).exit_code, 127)  # As for subprocess.

    def test_arguments_of_another_type_are_refused_in_words(self) -> None:
        view = self.session.lend(Container("web:1", ready=lambda view: True)).view()  # type: ignore[attr-defined]  # as above
        for call, said in (
            (
                lambda: view.exec(None),
                "exec: None is no command: write a list of words, or a text",
            ),
            (lambda: view.exec(b"ls"), "exec: b'ls' is no command: .*"),
            (
                lambda: view.exec(["sleep", None]),
                "exec: a word of the command must be a text, a Path or a number, not None",
            ),
            (lambda: view.exec("id", user=True), "exec: user must be a text, a Path or a number, not True"),
            (lambda: view.exec("id", directory=b"/"), "exec: directory must be a text, .*, not b'/'"),
            (lambda: view.exec("id", env=["A=b"]), r"exec: env must be a dict, \{'NAME': value\}, not a list"),
            (lambda: view.exec("id", env={"A": True}), "exec: env: A is a bool, not a text: .*"),
            (lambda: view.copy_from(None), "copy_from: the path must be a text, a Path or a number, not None"),
            (lambda: view.copy_to(None, ""), "copy_to: the path must be a text, a Path or a number, not None"),
            (lambda: view.stop(grace=0.5), "grace=0.5: it takes a whole number of seconds, 0 for a kill at once, .*"),
            (lambda: view.stop(grace=-1), "grace=-1: it takes .*"),
        ):
            with self.subTest(said), self.assertRaisesRegex(TypeError, f"^{said}$"):
                call()
        for call in (lambda: view.exec("id", env={"A": None}), lambda: view.stop(grace=None)):
            with self.assertRaisesRegex(ItestError, "it is no container that"):  # They get that far.
                call()

    def test_paths_and_numbers_are_words_of_a_command(self) -> None:
        view = self.session.lend(Container("web:1", ready=lambda view: True)).view()  # type: ignore[attr-defined]  # as above
        self.assertEqual(view.exec([Path("/bin/none"), 3]).stderr, "/bin/none: not found")

    def test_ports_of_the_view(self) -> None:
        ports = {"dns": "53/udp", "http": 80, "admin": 81}
        server: Any = self.session.lend(Container("web:1", ports=ports, ready=lambda view: True))
        view = server.view()
        self.assertEqual(view.endpoint(), view.endpoint("http"))
        self.assertEqual(view.endpoint(81), view.endpoint("admin"))
        self.assertEqual(view.admin_url, view.url_for("admin"))
        self.assertLessEqual({"admin_url", "admin_port", "url_for"}, set(dir(view)))
        self.assertEqual(view.url_for("admin", scheme="grpc"), f"grpc://127.0.0.1:{view.admin_port}")
        self.assertIn("CONTAINER_ADMIN_URL", view.env)
        with self.assertRaisesRegex(
            ItestError, "^port 'x' of .* is not published; published are 'dns', 'http', 'admin':"
        ):
            view.endpoint("x")
        lonely: Any = self.session.lend(Container("web:2"))
        with self.assertRaisesRegex(ItestError, r"^container memory-2 \(web:2\) publishes no port: declare it, "):
            lonely.view().url  # noqa: B018  # that reading it raises is the point
        self.assertEqual(lonely.view().env, {})

    def test_its_variables_have_the_name_that_the_class_gives_it(self) -> None:
        shared = Container("web:1", ports={"http": 80}, ready=lambda view: True)
        seen: list[str] = []

        class A(ContainerTestCase):
            web = shared

            def test(self) -> None:
                seen.append(next(iter(self.web.env)))

        class B(ContainerTestCase):
            site = shared

            def test(self) -> None:
                seen.append(next(iter(self.site.env)))

        self.check(run(A, B), ran=2)
        self.assertEqual(seen, ["WEB_URL", "SITE_URL"])

    def test_one_that_runs_already(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"https://127.0.0.1:{server.getsockname()[1]}/prefix"
            session = self.use(MemoryEngine(), environment={"SEARCH_URL": url})
            view = session.lend(Container("web:1", ports={"http": 80, "admin": 81}, external="SEARCH_URL")).view()  # type: ignore[attr-defined]  # a ContainerServer
        self.assertEqual((view.url, view.port), (url, server_port := int(url.split(":")[2].split("/")[0])))
        self.assertEqual(view.inside().url, f"https://host.docker.internal:{server_port}/prefix")
        self.assertEqual(set(view.env), {"CONTAINER_URL", "CONTAINER_HOST", "CONTAINER_PORT"})
        with self.assertRaisesRegex(
            ItestError, f"^127.0.0.1:{server_port}: external server from SEARCH_URL has no port 'admin'; it has 'http'$"
        ):
            view.endpoint("admin")
        with self.assertRaisesRegex(ItestError, "^could not pause 127.*: it is no container that itest has started$"):
            view.pause()
        self.assertEqual(self.events, [])


class ReadinessTest(InnerTest):
    def lend(self, prepare: Any = None, **fields: Any) -> Any:
        return self.use(MemoryEngine(prepare)).lend(Container("web:1", startup_timeout=0.5, **fields))

    def test_the_health_check_counts_where_there_is_one(self) -> None:
        def prepare(instance: Any) -> None:
            instance.current = State(True, health="starting")
            instance.go_on = None
            instance.health_command = lambda: ("check", "it")
            instance.answers["check", "it"] = answers

        answers = ExecResult(0, "", "")
        self.lend(prepare, ports=80)
        answers = ExecResult(2, "no ", "disk\n")
        with self.assertRaises(StartTimeout) as caught:
            self.lend(prepare, ports=80)
        self.assertEqual(caught.exception.reason, "its health check exited with 2: no disk")

    def test_healthy_is_healthy(self) -> None:
        self.lend(lambda instance: setattr(instance, "current", State(True, health="healthy")), ports=80)

    def test_the_reason_of_an_unhealthy_one(self) -> None:
        state = State(True, health="unhealthy", health_said="no disk")
        with self.assertRaises(StartTimeout) as caught:
            self.lend(lambda instance: setattr(instance, "current", state), ready=health())
        self.assertEqual(caught.exception.reason, "its health is unhealthy: no disk")

    def test_ports(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def prepare(instance: Any) -> None:
                instance._ports["http"] = Endpoint(*server.getsockname())

            self.lend(prepare, ports={"http": 80})
            with (
                self.assertRaises(StartTimeout) as caught,
                mock.patch.object(MemoryInstance, "silence", lambda *_: "not yet"),
            ):
                self.lend(prepare, ports={"http": 80})
        self.assertEqual(caught.exception.reason, "not yet")

    def test_a_function_that_raises_is_asked_again(self) -> None:
        calls = iter([ConnectionError("refused"), ValueError("no JSON"), None, 0, True])

        def answers(view: Any) -> Any:
            value = next(calls)
            if isinstance(value, Exception):
                raise value
            return value

        self.lend(ready=answers)

    def test_a_command_that_fails_or_runs_on_is_not_ready(self) -> None:
        answers = iter([ExecResult(1, "", ""), ExecTimeout("`true` had not ended"), ExecResult(0, "", "")])

        def answer(view: Any) -> Any:
            if isinstance(value := next(answers), Exception):
                raise value
            return value

        self.lend(ready=answer)
        self.assertEqual(list(answers), [])

    def test_functions_are_combined_with_checks(self) -> None:
        def asks(answers: Iterator[object]) -> Callable[[ContainerView], object]:
            return lambda view: view.logs() == "" and next(answers)

        for combine in (lambda check, function: check & function, lambda check, function: function & check):
            answers = iter([False, True])
            self.lend(ready=combine(log("^"), asks(answers)))
            self.assertEqual(list(answers), [])
        for combine in (lambda check, function: check | function, lambda check, function: function | check):
            answers = iter([False, True])
            self.lend(ready=combine(log("never"), asks(answers)))
            self.assertEqual(list(answers), [])
        with self.assertRaisesRegex(DeclarationError, "ready: 5 is neither a check"):
            log("up") & 5  # type: ignore[operator]  # that it is refused is the point

    def test_what_is_not_there_yet_is_no_mistake(self) -> None:
        calls = iter([None, ItestError("could not copy /done"), re.match("", "")])

        def answer(view: Any) -> bool:
            if isinstance(value := next(calls), Exception):
                raise value
            return value.group() == ""  # type: ignore[union-attr]  # that it is None at first is the point

        self.lend(ready=answer)
        self.assertEqual(list(calls), [])

        with self.assertRaises(StartTimeout) as caught:
            self.lend(ready=lambda view: re.match("x", "").group())  # type: ignore[union-attr]  # as above
        self.assertEqual(
            caught.exception.reason, "it raised AttributeError: 'NoneType' object has no attribute 'group'"
        )

    def test_a_mistake_in_a_function_ends_it(self) -> None:
        mistakes: list[tuple[type[Exception], Callable[[Any], object]]] = [
            (AttributeError, lambda view: view.nonsense),
            (AttributeError, lambda view: view.nonsense()),
            (AttributeError, lambda view: re.nonsense),  # type: ignore[attr-defined]  # that there is none is the point
            (NameError, lambda view: nonsense),  # type: ignore[name-defined]  # noqa: F821  # as above
            (ImportError, lambda view: __import__("nonsense")),
            (DeclarationError, lambda view: view.endpoint(8080)),
        ]
        for kind, function in mistakes:
            with self.subTest(kind), self.assertRaises(kind):
                self.lend(ready=function)


class Bare:
    """As much of an instance as `Listening` needs."""

    def __init__(self, table: str = "", direct: Endpoint | None = None, outside: Endpoint | None = None) -> None:
        self.table = table
        self.direct = direct
        self.outside = outside
        self.asked = 0

    def endpoint(self, name: str) -> Endpoint:
        assert self.outside is not None
        return self.outside

    def direct_endpoint(self, name: str) -> Endpoint | None:
        return self.direct

    def exec(self, argv: list[str]) -> ExecResult:
        self.asked += 1
        return ExecResult(0 if self.table else 127, self.table, "")


class ListeningTest(unittest.TestCase):
    HEAD = "  sl  local_address rem_address   st\n"
    ANY = HEAD + "   0: 00000000:0050 00000000:0000 0A 00000000:00000000\n"
    LOCAL = HEAD + "   0: 0100007F:0050 00000000:0000 0A 0\n   1: 00000000:1F90 00000000:0000 0A 0\n"
    SIX = HEAD + HEAD + "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n"
    RESOLVER = HEAD + "   0: 0B00007F:0050 00000000:0000 0A 0\n"
    BUSY = HEAD + "   0: 0A0B0C0D:0050 0A0B0C0E:1F90 01 0\n"

    def silence(self, bare: Any, number: int = 80) -> str:
        return docker_listening.Listening(bare).silence("http", number)

    def closed(self) -> Endpoint:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return Endpoint(*server.getsockname())

    def test_its_table_of_sockets(self) -> None:
        self.assertEqual(self.silence(Bare(self.ANY)), "")
        self.assertEqual(self.silence(Bare(self.SIX)), "")
        self.assertEqual(
            self.silence(Bare(self.LOCAL)),
            "its process listens on container port 80 on 127.0.0.1 only, where nobody outside of the container can reach "
            "it: have it listen on 0.0.0.0",
        )
        self.assertEqual(self.silence(Bare(self.BUSY)), "nothing in the container listens on port 80")
        for number in (80, 81):  # Docker's own name server is none of the container's.
            self.assertEqual(
                self.silence(Bare(self.RESOLVER), number), f"nothing in the container listens on port {number}"
            )
        self.assertEqual(
            self.silence(Bare(self.LOCAL), 81), "nothing in the container listens on port 81; it listens on 80, 8080"
        )

    def test_its_own_address_is_asked_first(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            bare = Bare(self.BUSY, direct=Endpoint(*server.getsockname()))
            self.assertEqual((self.silence(bare), bare.asked), ("", 0))

    def test_after_many_refusals_its_table_says_why(self) -> None:
        bare: Any = Bare(self.LOCAL, direct=self.closed())
        listening = docker_listening.Listening(bare)
        said = [listening.silence("http", 80) for _ in range(docker_listening.EXPLAIN_EVERY + 1)]
        self.assertEqual(said[0], "nothing in the container answers on port 80")
        self.assertIn("on 127.0.0.1 only", said[-1])
        self.assertEqual(bare.asked, 1)

    def test_after_half_the_time_too_however_few_they_were(self) -> None:
        bare: Any = Bare(self.LOCAL, direct=self.closed())
        listening, clock = docker_listening.Listening(bare), ManualClock()
        said: list[str] = []

        def look(_: object) -> None:
            clock.sleep(0.9)
            said.append(listening.silence("http", 80))
            raise NotReady(said[-1])

        instance: Any = mock.Mock(**{"state.return_value": State(running=True), "logs.return_value": ""})
        with self.assertRaisesRegex(StartTimeout, r"Last reason: its process listens on .* on 127\.0\.0\.1 only"):
            until_ready(look, instance, Deadline.after(4, clock), subject="it")
        self.assertEqual(said[0], "nothing in the container answers on port 80")
        self.assertEqual(bare.asked, 1)

    def test_without_address_and_table_the_proxy_tells(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            outside = Endpoint(*server.getsockname())
            with mock.patch.object(docker_listening, "HANG_UP", 0.05):
                self.assertEqual(self.silence(Bare(outside=outside)), "", "it stays open")

            def hang_up() -> None:
                server.accept()[0].close()
                server.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            self.assertEqual(self.silence(Bare(outside=outside)), "nothing in the container answers on port 80")
            thread.join(5)
        self.assertEqual(self.silence(Bare(outside=self.closed())), "nothing in the container answers on port 80")


class InputTest(unittest.TestCase):
    def test_a_docker_that_it_cannot_be_sent_to(self) -> None:
        client = mock.Mock(base_url="https://docker.example:2376", api_version="1.43")
        with self.assertRaisesRegex(
            ItestError, "^could not run it: stdin= needs a Docker that is reached by a Unix socket"
        ):
            docker_exec.output_with_input(client, "", "job", b"x", Deadline.after(1), "run it")

    def test_what_docker_says_instead(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, number = server.getsockname()

            def refuse() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(10000)
                    connection.sendall(b'HTTP/1.1 409 Conflict\r\n\r\n{"message": "is paused"}')

            thread = threading.Thread(target=refuse)
            thread.start()
            client = mock.Mock(base_url=f"http://{host}:{number}", api_version="1.43")
            with self.assertRaisesRegex(ItestError, "^could not run it, Docker says: .*is paused"):
                docker_exec.output_with_input(client, "", "job", b"x", Deadline.after(60), "run it")
            thread.join(5)

    def test_a_connection_that_is_reset_as_its_input_was_not_read(self) -> None:
        """As Podman ends one; Docker just closes it."""
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
            server.bind(path := f"{directory}/podman.sock")
            server.listen()

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(10000)
                    connection.sendall(b"HTTP/1.1 101 Switching\r\n\r\n\x01\0\0\0\0\0\0\x06early\n")
                    connection.recv(1)

            thread = threading.Thread(target=answer)
            thread.start()
            client = mock.Mock(api_version="1.43")
            large = b"x" * 10_000_000
            output = docker_exec.output_with_input(client, path, "job", large, Deadline.after(60), "run it")
            self.assertEqual(output, {1: b"early\n", 2: b""})
            thread.join(5)


class CheckTest(unittest.TestCase):
    def test_the_ports_that_checks_look_at(self) -> None:
        self.assertEqual((http(port="a") & (port("b") | log("x")) & port()).ports(), ["a", "b", ""])

    def test_a_job_that_fails_between_two_looks_is_not_ready(self) -> None:
        instance = mock.Mock(state=lambda: State(False, "exited", 2))
        with self.assertRaisesRegex(NotReady, "^it is exited with exit code 2$"):
            ended()(instance)
        instance.state = lambda: State(False, "exited", 0)
        ended()(instance)

    def test_not_ready_is_passed_on(self) -> None:
        def later(view: Any) -> None:
            raise NotReady("soon")

        check = Container("web:1", ready=later).readiness("")
        with self.assertRaisesRegex(NotReady, "^soon$"):
            check(mock.Mock())
        self.assertEqual(str(check), "the function later to return something true")
        self.assertEqual(str(Container("web:1", ready=lambda view: 1).readiness("")), "its function to be true")

    def test_names_that_are_exported(self) -> None:
        import itest
        import itest.wait as module

        self.assertIs(itest.http, module.http)
        self.assertIs(itest.wait, module)
