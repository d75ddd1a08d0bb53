# SPDX-License-Identifier: Apache-2.0
"""Any container as a service, on a real Docker."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

from itest import App, Container, ContainerTestCase, Healthcheck, Mount, Port, http, log, naming, port, testing
from itest.clock import Deadline
from itest.config import load
from itest.engines import docker_listening
from itest.engines.docker import DockerEngine
from itest.engines.docker_instance import DockerInstance
from itest.errors import DeclarationError, InstanceDied, ItestError, StartError, StartTimeout
from itest.services.container.server import ContainerServer
from itest.session import Session
from tests.integration.needs import get, need_docker
from tests.unit.inner import run

IMAGE = "busybox:1.37"
SERVE = "httpd -f -p 80 -h /www"
SLEEP = "exec sleep 600"


def setUpModule() -> None:
    need_docker()


class WebTest(ContainerTestCase):
    """What people do with a container."""

    web = Container(IMAGE, command=SERVE, ports={"http": 80}, files={"/www/index.html": "hello"})

    def test_it_answers(self) -> None:
        self.assertEqual(get(self.web.url), "hello")
        self.assertEqual(self.web.url, f"http://127.0.0.1:{self.web.port}")
        self.assertEqual(self.web.url, self.web.url_for("http"))
        self.assertEqual(self.web.endpoint(80), self.web.endpoint("http"))
        self.assertEqual(self.web.http_port, self.web.port)

    def test_the_variables_of_an_app(self) -> None:
        self.assertEqual(
            self.web.env, {"WEB_URL": self.web.url, "WEB_HOST": self.web.host, "WEB_PORT": str(self.web.port)}
        )

    def test_a_port_that_is_not_published(self) -> None:
        with self.assertRaisesRegex(ItestError, "port 'admin' of container .* is not published; published are 'http'"):
            self.web.endpoint("admin")
        with self.assertRaisesRegex(AttributeError, "'ContainerView' object has no attribute 'admin_url'"):
            self.web.admin_url  # noqa: B018  # that reading it raises is the point

    def test_commands(self) -> None:
        result = self.web.exec("echo out; echo err >&2; exit 3")
        self.assertEqual(result, (3, "out\n", "err\n"))
        self.assertEqual(self.web.exec(["echo", "a b"]).stdout, "a b\n")
        result = self.web.exec("id -u; pwd; echo $WHO", user="1000", directory="/www", env={"WHO": "me"})
        self.assertEqual(result.stdout, "1000\n/www\nme\n")
        result = self.web.exec(["ls", Path("/www/index.html")], user=1000, directory=Path("/www"), env={"COUNT": 3})
        self.assertEqual(result, (0, "/www/index.html\n", ""))
        self.assertEqual(self.web.exec("id -u", user=0).stdout, "0\n")
        self.assertEqual(self.web.copy_from(PurePosixPath("/www/index.html")), b"hello")

    def test_a_command_of_nobody(self) -> None:
        code, out, error = self.web.exec(["id"], user="nobody-here")
        self.assertEqual((code, out), (126, ""))
        self.assertIn("unable to find user nobody-here", error)

    def test_a_command_reads_its_input(self) -> None:
        self.assertEqual(self.web.exec(["cat"], stdin="some text").stdout, "some text")
        self.assertEqual(self.web.exec(["cat"], stdin=memoryview(b"some bytes")).stdout, "some bytes")
        large = b"0123456789abcdef" * 100_000
        self.assertEqual(self.web.exec(["md5sum"], stdin=large).stdout.split()[0], self.md5(large))
        self.assertEqual(len(self.web.exec(["cat"], stdin=large).stdout), len(large))
        self.assertEqual(self.web.exec("echo early; exit 4", stdin=large), (4, "early\n", ""))
        with self.assertRaisesRegex(TimeoutError, "had not ended after 0.3 s"):
            self.web.exec(["sleep", "30"], stdin="x", timeout=0.3)

    @staticmethod
    def md5(data: bytes) -> str:
        return hashlib.md5(data).hexdigest()

    def test_copies(self) -> None:
        self.assertEqual(self.web.copy_from("/www/index.html"), b"hello")
        self.web.copy_to("/www/more/new.txt", "new")
        self.assertEqual(get(f"{self.web.url}/more/new.txt"), "new")
        with tempfile.TemporaryDirectory() as directory:
            self.web.copy_from("/www", Path(directory, "copy"))
            self.assertEqual(Path(directory, "copy", "more", "new.txt").read_text(), "new")
            self.web.copy_from("/www/index.html", Path(directory, "index"))
            self.assertEqual(Path(directory, "index").read_text(), "hello")
            self.web.copy_from("/www/index.html", directory)
            self.assertEqual(Path(directory, "index.html").read_text(), "hello")
            self.web.copy_to("/tree", Path(directory, "copy"))
            self.assertEqual(self.web.exec("cat /tree/more/new.txt").stdout, "new")
        with self.assertRaisesRegex(ItestError, "could not copy /nothing from container .*, Docker says: .*/nothing"):
            self.web.copy_from("/nothing")
        with self.assertRaisesRegex(ItestError, r"^/www is a directory: say where .* copy_from\('/www', directory\)"):
            self.web.copy_from("/www")
        with self.assertRaisesRegex(StartError, "could not put /nowhere/x into the container as /x: there is no such"):
            self.web.copy_to("/x", Path("/nowhere/x"))

    def test_what_is_no_content_is_not_copied(self) -> None:
        with self.assertRaisesRegex(DeclarationError, "^copy_to: 5 for /x is neither a text nor bytes nor a Path$"):
            self.web.copy_to("/x", 5)  # type: ignore[arg-type]  # that it is refused is the point

    def test_links_are_followed(self) -> None:
        self.web.exec(
            "mkdir /links; cd /links; echo real > real; ln -s real near; ln -s /links/near far; ln -s /links /all"
        )
        for path in ("/links/near", "/links/far", "/all/real"):
            self.assertEqual(self.web.copy_from(path), b"real\n", path)
        with tempfile.TemporaryDirectory() as directory:
            self.web.copy_from("/all", directory)
            self.assertEqual(sorted(path.name for path in Path(directory).iterdir()), ["near", "real"])
            self.web.copy_from("/links/far", directory)
            self.assertEqual(Path(directory, "far").read_text(), "real\n")
        self.web.exec("ln -s /nowhere /links/broken")
        with self.assertRaisesRegex(ItestError, "could not copy /links/broken from .*, Docker says: .*/nowhere"):
            self.web.copy_from("/links/broken")

    def test_a_file_does_not_take_the_place_of_a_directory(self) -> None:
        self.web.copy_to("/kept/page", "page")
        with self.assertRaisesRegex(ItestError, "cannot overwrite directory .*; name the file itself"):
            self.web.copy_to("/kept", "page")
        with self.assertRaisesRegex(ItestError, "not a directory; name the file itself"):
            self.web.copy_to("/kept/page/x", "page")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "more").write_text("more")
            with self.assertRaisesRegex(ItestError, "cannot overwrite non-directory .*; name the file itself"):
                self.web.copy_to("/kept/page", Path(directory))
            self.web.copy_to("/kept", Path(directory))
        self.assertEqual(self.web.exec("cat /kept/page /kept/more").stdout, "pagemore")

    def test_1_a_pause_is_undone_after_the_test(self) -> None:
        self.web.pause()
        with self.assertRaises(OSError):
            urllib.request.urlopen(self.web.url, timeout=0.3)

    def test_2_a_pause_was_undone_after_the_test(self) -> None:
        self.assertEqual(get(self.web.url), "hello")
        self.web.pause()
        self.web.unpause()
        self.assertEqual(get(self.web.url), "hello")

    def test_a_restart_keeps_the_address_and_returns_when_it_is_ready(self) -> None:
        before = self.web.url
        self.web.exec("echo kept > /www/kept")
        self.web.restart(grace=0)
        self.assertEqual(self.web.url, before)
        self.assertEqual(get(f"{before}/kept"), "kept\n")

    def test_3_what_a_test_has_stopped(self) -> None:
        self.web.stop(grace=0)
        self.assertFalse(self.web.server.lives())
        self.assertIsNotNone(self.web.exit_code)
        with self.assertRaises(OSError):
            get(self.web.url)

    def test_4_runs_again_in_the_next(self) -> None:
        self.assertEqual(get(self.web.url), "hello")


class OptionsTest(ContainerTestCase):
    """Each option has the effect that it says."""

    box = Container(
        IMAGE,
        command=["sh", "-c", SLEEP],
        env={"NUMBER": 1, "BOTH": "env"},
        env_file="settings.env",
        user="1000:1000",
        workdir="/work",
        hostname="boxhost",
        memory="64m",
        cpus=0.5,
        shm_size="16m",
        ulimits={"nofile": (100, 200)},
        cap_drop=["CHOWN"],
        cap_add=["SYS_NICE"],
        tmpfs={"/scratch": "1m"},
        extra_hosts={"other": "10.1.2.3"},
        labels={"team": "shop"},
        restart="on-failure:2",
        volumes={"/data": "data", "/src": Mount(Path("mounted"), read_only=True), "/scratch/inner": "inner"},
        files={"/scratch/inner/first": "first", "/work/run.sh": "#!/bin/sh\necho ran\n", "/tree": Path("mounted")},
        api={"HostConfig": {"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"}}},
    )

    @classmethod
    def setUpClass(cls) -> None:
        directory = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (directory / "settings.env").write_text('# comment\n\nFROM_FILE="quoted"\nBOTH=file\n')
        (directory / "mounted").mkdir(mode=0o755)
        (directory / "mounted" / "file").write_text("mounted")
        directory.chmod(0o755)
        # As if the test's module were there.
        cls.enterClassContext(mock.patch.object(Container, "directory", directory))
        super().setUpClass()

    def inspected(self) -> dict[str, Any]:
        instance: Any = self.box.server.instance
        return dict(instance._client.inspect_container(instance.id))

    def out(self, script: str) -> str:
        result = self.box.exec(script)
        self.assertEqual(result.exit_code, 0, result)
        return result.stdout.strip()

    def test_environment(self) -> None:
        self.assertEqual(self.out("echo $NUMBER $BOTH $FROM_FILE"), "1 env quoted")
        command = "echo ${NUMBER-none} $BOTH"
        self.assertEqual(self.box.exec(command, env={"NUMBER": None, "BOTH": 2}).stdout, "none 2\n")

    def test_process(self) -> None:
        self.assertEqual(self.out("id -u; id -g; pwd; hostname").split(), ["1000", "1000", "/work", "boxhost"])
        # Of its own process: a command beside it has another soft limit now and then, on a busy machine (runc's exec).
        self.assertEqual(self.out("grep 'open files' /proc/1/limits").split()[3:5], ["100", "200"])

    def test_limits(self) -> None:
        host = self.inspected()["HostConfig"]
        self.assertEqual((host["Memory"], host["MemorySwap"], host["NanoCpus"]), (64 * 2**20, 64 * 2**20, 500_000_000))
        self.assertEqual(host["ShmSize"], 16 * 2**20)
        self.assertEqual((host["CapAdd"], host["CapDrop"]), (["SYS_NICE"], ["CHOWN"]))
        self.assertEqual(host["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})
        self.assertFalse(host["Privileged"])
        self.assertEqual(self.out("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "0")

    def test_names(self) -> None:
        self.assertIn("10.1.2.3", self.out("grep other /etc/hosts"))
        labels = self.inspected()["Config"]["Labels"]
        self.assertEqual((labels["team"], labels[naming.SERVICE]), ("shop", "container"))

    def test_files(self) -> None:
        self.assertEqual(self.out("./run.sh"), "ran")
        self.assertEqual(self.out("cat /tree/file"), "mounted")

    def test_mounts(self) -> None:
        self.assertEqual(self.out("cat /src/file"), "mounted")
        self.assertNotEqual(self.box.exec("touch /src/new").exit_code, 0)
        self.assertIn("size=1024k", self.out("mount | grep /scratch"))

    def test_directories_in_memory_are_not_copied_from_nor_to(self) -> None:
        for path in ("/scratch/a b", "/data/../scratch/a b"):
            with self.assertRaises(ItestError) as caught:
                self.box.copy_to(path, "new")
            self.assertEqual(
                str(caught.exception),
                f"copy_to: {path} is in the tmpfs that is mounted on /scratch, and Docker's copies see only what it hides: write "
                f"it by exec(\"cat > '{path}'\", stdin=...), or choose another directory",
            )
        self.assertEqual(self.box.exec("cat > '/scratch/a b'", stdin="content", user="root").exit_code, 0)
        for path in ("/scratch/a b", "scratch/a b"):
            with self.assertRaisesRegex(
                ItestError, rf"^copy_from: {path} is .*: read it by exec\(\"cat '{path}'\"\), or"
            ):
                self.box.copy_from(path)
        self.assertEqual(self.out("cat '/scratch/a b'"), "content")

    def test_a_volume_in_a_directory_in_memory_is(self) -> None:
        self.assertEqual(self.out("cat /scratch/inner/first"), "first")
        self.box.copy_to("/scratch/inner/more", "more")
        self.assertEqual(self.out("cat /scratch/inner/more"), "more")
        self.assertEqual(self.box.copy_from("/scratch/inner/more"), b"more")

    def test_the_volume_is_the_sessions_own(self) -> None:
        [mount] = [each for each in self.inspected()["Mounts"] if each["Destination"] == "/data"]
        labels = self.inspected()["Config"]["Labels"]
        self.assertEqual(mount["Name"], f"itest-{labels[naming.SESSION]}-data")
        client: Any = self.box.server.instance._client  # type: ignore[attr-defined]
        self.assertEqual(client.inspect_volume(mount["Name"])["Labels"][naming.OWNER], labels[naming.OWNER])


class NeighboursTest(ContainerTestCase):
    """Containers of a class share volumes and a network, and refer to one another."""

    writer = Container(IMAGE, command="sh -c 'echo from the writer > /out/text'", volumes={"/out": "shared"}, job=True)
    web = Container(IMAGE, command=SERVE, ports=[Port(80)], volumes={"/www": "shared"}, depends_on=["writer"])
    asking = Container(
        IMAGE, command=["wget", "-q", "-O", "-", "{web.url}/text"], job=True, files={"/where": "at {web.url}"}
    )

    def test_a_job_is_ready_when_it_has_ended(self) -> None:
        self.assertEqual(self.writer.exit_code, 0)
        self.assertEqual(get(f"{self.web.url}/text"), "from the writer\n")

    def test_a_container_reaches_its_neighbour_by_name(self) -> None:
        self.assertEqual(self.asking.logs(), "from the writer\n")
        self.assertEqual(self.asking.copy_from("/where"), b"at http://web:80")

    def test_what_refers_to_a_job_is_still_there_for_the_second_test(self) -> None:
        self.assertEqual(self.asking.exit_code, 0)


class StartTest(unittest.TestCase):
    """Starts, by themselves."""

    def setUp(self) -> None:
        self.session: Session = self.enterContext(testing.session(quiet=True, startup_timeout=30.0))

    def lend(self, image: str = IMAGE, **fields: Any) -> Any:
        server = self.session.lend(Container(image, **fields), "test")
        self.addCleanup(self.session.take_back, server)
        return server.view()

    def fails(self, expected: type[Exception], **fields: Any) -> Exception:
        with self.assertRaises(expected) as caught:
            self.lend(**fields)
        return caught.exception

    def fails_late(self, text: str, seconds: float, **fields: Any) -> Exception:
        """It does not become ready in these seconds. Where it has not come as far as this text, on a busy machine, it has more."""
        for startup_timeout in (seconds, 20):  # By a label it is another one, of which the session knows nothing yet.
            labels = {"seconds": str(startup_timeout)}
            error = self.fails(StartTimeout, startup_timeout=startup_timeout, labels=labels, **fields)
            if text in str(error):
                break
        return error


class ReadinessTest(StartTest):
    LATE = f"sleep 0.5; mkdir /www; echo late > /www/index.html; exec {SERVE}"

    def test_a_published_port_is_ready_when_the_process_listens_and_not_when_docker_does(self) -> None:
        view = self.lend(command=["sh", "-c", self.LATE], ports={"http": 80})
        self.assertEqual(get(view.url), "late\n")

    def test_the_same_where_the_containers_own_address_is_out_of_reach(self) -> None:
        self.enterContext(mock.patch.object(DockerInstance, "direct_endpoint", lambda *_: None))
        with self.subTest("its table of sockets"):
            self.assertEqual(get(self.lend(command=["sh", "-c", self.LATE], ports={"http": 80}).url), "late\n")
        with self.subTest("an image without cat"):
            self.enterContext(mock.patch.object(docker_listening, "_table", lambda _: None))
            self.assertEqual(get(self.lend(command=["sh", "-c", self.LATE], ports={"http": 80}).url), "late\n")

    def test_an_image_with_nothing_but_its_program(self) -> None:
        engine: Any = self.session._engines.usable()[0]
        instance: Any = self.lend(command="sleep 600").server.instance
        chunks, _ = engine.client.get_archive(instance.id, "/bin/busybox")
        image = f"itest-test-bare:{naming.session_id()}"
        engine.client.import_image_from_data(b"".join(chunks), repository=image.split(":")[0], tag=image.split(":")[1])
        self.addCleanup(engine.client.remove_image, image, force=True)
        self.enterContext(mock.patch.object(DockerInstance, "direct_endpoint", lambda *_: None))
        view = self.lend(image, command=["/busybox", "httpd", "-f", "-p", "80"], ports=80)
        self.assertEqual(view.exec("true").exit_code, 127)
        urllib.request.urlopen(f"{view.url}/busybox").close()
        with self.assertRaises(StartTimeout) as caught:
            self.lend(image, command=["/busybox", "sleep", "600"], ports=80, startup_timeout=2)
        self.assertEqual(caught.exception.reason, "nothing in the container answers on port 80")

    def test_all_named_tcp_ports_must_answer_and_udp_ports_need_not(self) -> None:
        script = "(sleep 0.5; exec nc -ll -p 81 -e true) & exec nc -ll -p 80 -e true"
        view = self.lend(command=["sh", "-c", script], ports={"dns": "53/udp", "one": 80, "two": 81})
        self.assertEqual(view.endpoint(), view.endpoint("one"))
        socket.create_connection(view.endpoint("two"), timeout=5).close()

    def test_udp(self) -> None:
        view = self.lend(command="sleep 600", ports={"dns": "53/udp"})
        instance: Any = view.server.instance
        ports = instance._client.inspect_container(instance.id)["NetworkSettings"]["Ports"]
        self.assertEqual(ports, {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": str(view.endpoint("dns").port)}]})
        self.assertEqual(view.endpoint(53), view.endpoint())

    def test_a_health_check_is_run_at_once_and_not_only_when_docker_does(self) -> None:
        check = Healthcheck("test -e /done", interval=60)
        view = self.lend(command=["sh", "-c", f"sleep 0.5; touch /done; {SLEEP}"], healthcheck=check)
        self.assertEqual(view.exec("test -e /done").exit_code, 0)
        self.lend(command=SLEEP.removeprefix("exec "), healthcheck=Healthcheck(["true"], interval=60))

    def test_a_health_check_can_be_switched_off(self) -> None:
        self.assertEqual(self.lend(command="sleep 600", healthcheck=False).server.instance.state().health, "")

    def test_a_log(self) -> None:
        view = self.lend(command=["sh", "-c", f"sleep 0.3; echo going up; {SLEEP}"], ready=log("going up"))
        self.assertEqual(view.logs(), "going up\n")
        view.restart(grace=0)
        self.assertEqual(view.logs(), "going up\n" * 2, "the line of the first life is not taken for the second's")

    def test_an_end_within_the_time_that_docker_gives(self) -> None:
        loop = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"
        view = self.lend(command=["sh", "-c", loop], ready=log("up"))
        view.stop(grace=None)
        self.assertEqual(view.exit_code, 3)

    def test_checks_together(self) -> None:
        view = self.lend(
            command=["sh", "-c", f"mkdir /www; echo serving; exec {SERVE}"],
            ports={"http": 80},
            ready=http("/", status=404) & log("serving") & port("http"),
        )
        with self.assertRaises(urllib.error.HTTPError) as caught:
            get(view.url)
        caught.exception.close()

    def test_a_function(self) -> None:
        calls = []

        def answers(view: Any) -> bool:
            calls.append(view.url)
            return get(view.url) == "late\n"

        view = self.lend(command=["sh", "-c", self.LATE], ports={"http": 80}, ready=answers)
        self.assertGreater(len(calls), 1)
        self.assertEqual(set(calls), {view.url})

    def test_attempts(self) -> None:
        script = "test -e /marks/one && exec sleep 600; touch /marks/one; exit 1"
        holder = self.lend(command="sleep 600", volumes={"/marks": "marks"})
        view = self.lend(command=["sh", "-c", script], volumes={"/marks": "marks"}, start_attempts=2)
        self.assertTrue(view.server.lives())
        self.assertTrue(holder.server.lives())


class AgainTest(StartTest):
    def test_what_it_logs_at_once_is_seen(self) -> None:
        script = "trap exit TERM; echo serving; sleep 600 & wait"
        view = self.lend(command=["sh", "-c", script], ready=log("serving"))
        for _ in range(5):
            view.restart()

    def test_what_it_has_logged_before_is_no_sign(self) -> None:
        once = "test -e /done && exec sleep 600; touch /done; echo serving"
        script = f"{once}; trap 'echo serving no more; exit' TERM; sleep 600 & wait"
        view = self.lend(command=["sh", "-c", script], ready=log("serving"))
        view.server.service = view.server.service.replace(startup_timeout=1)
        with self.assertRaisesRegex(StartTimeout, "seen 0 of 1 times in the log"):
            view.restart()


class RestartPolicyTest(StartTest):
    def test_one_that_ends_again_and_again(self) -> None:
        for ports in ((), 80):
            error = self.fails_late(" again, ", 2, command="sh -c 'echo boom; exit 3'", restart="always", ports=ports)
            self.assertRegex(str(error), r"Docker has started it again, as it ended, \d+ times: see its last log lines")
            self.assertIn("  | boom", error.__notes__[0])

    def test_one_that_runs_the_third_time(self) -> None:
        script = "echo . >> /lives; test $(wc -l < /lives) -lt 3 && exit 3; echo ready; exec sleep 600"
        for ready in (None, log("ready")):
            view = self.lend(command=["sh", "-c", script], restart="on-failure", ready=ready)
            self.assertEqual(view.exec(["wc", "-l", "/lives"]).stdout.split()[0], "3")


class BadInputTest(StartTest):
    def test_it_ends_at_once(self) -> None:
        error = self.fails(InstanceDied, command=["sh", "-c", "echo no licence key >&2; exit 3"])
        self.assertRegex(
            str(error),
            r"^Container \(image busybox:1\.37\) ended before it was ready: exited with exit code 3, .* while waiting for "
            r"it to run\. ",
        )
        self.assertIn("  | no licence key", error.__notes__[0])

    def test_it_ends_and_was_not_declared_as_a_job(self) -> None:
        error = self.fails(InstanceDied, command="true")
        self.assertIn("exited with exit code 0", str(error))
        self.assertIn("job=True", str(error))

    def test_it_ends_at_once_each_time(self) -> None:
        error = self.fails(InstanceDied, command="false", start_attempts=2)
        self.assertIn("this was the last of 2 attempts to start it", error.__notes__)

    def test_a_job_that_fails(self) -> None:
        error = self.fails(InstanceDied, command=["sh", "-c", "echo table is missing; exit 2"], job=True)
        self.assertIn("exited with exit code 2", str(error))
        self.assertIn("while waiting for it to end with exit code 0", str(error))
        self.assertIn("  | table is missing", error.__notes__[0])

    def test_a_job_that_never_ends(self) -> None:
        error = self.fails(StartTimeout, command="sleep 600", job=True, startup_timeout=0.5)
        self.assertIn("waiting for it to end with exit code 0. Last reason: it still runs.", str(error))

    def test_it_never_listens(self) -> None:
        error = self.fails(StartTimeout, command="sleep 600", ports={"http": 80}, startup_timeout=1)
        self.assertRegex(
            str(error),
            r"did not become ready within 1 s, waiting for port 'http' to accept connections\. "
            r"Last reason: nothing in the container (answers|listens) on port 80",
        )

    def test_it_listens_where_nobody_can_reach_it(self) -> None:
        command = ["sh", "-c", "mkdir /www; exec httpd -f -p 127.0.0.1:80 -h /www"]
        for ready in (None, http("/")):
            error = self.fails_late("127.0.0.1 only", 3, command=command, ports={"http": 80}, ready=ready)
            self.assertIn("on container port 80 on 127.0.0.1 only", str(error))
            self.assertIn("have it listen on 0.0.0.0", str(error))

    def test_it_listens_on_another_port(self) -> None:
        command = ["sh", "-c", "mkdir /www; exec httpd -f -p 8080 -h /www"]
        error = self.fails_late("it listens", 3, command=command, ports={"http": 80})
        self.assertIn("nothing in the container listens on port 80; it listens on 8080", str(error))

    def test_a_health_check_that_fails(self) -> None:
        check = "echo no disk; exit 1"
        error = self.fails_late("no disk", 1, command="sleep 600", healthcheck=check)
        self.assertIn(
            "waiting for its health check to pass. Last reason: its health check exited with 1: no disk", str(error)
        )

    def test_a_health_check_that_hangs(self) -> None:
        error = self.fails(StartTimeout, command="sleep 600", healthcheck="sleep 100", startup_timeout=1)
        self.assertIn("Last reason: `/bin/sh -c 'sleep 100'` had not ended after 2 s. If it", str(error))

    def test_a_function_that_is_never_true(self) -> None:
        def looks(view: Any) -> None:
            view.logs()

        error = self.fails(StartTimeout, command="sleep 600", ready=looks, startup_timeout=0.5)
        self.assertIn("waiting for the function looks to return something true", str(error))
        self.assertIn("Last reason: it returned None; it must return something true", str(error))

    def test_a_function_with_a_mistake(self) -> None:
        self.fails(AttributeError, command="sleep 600", ready=lambda view: view.nonsense)
        self.assertEqual(self.session._engines.usable()[0].find({naming.SESSION: self.session.id}), [])

    def test_a_file_that_is_not_there(self) -> None:
        error = self.fails(StartError, command="sleep 600", files={"/etc/x.conf": Path("nowhere/x.conf")})
        self.assertRegex(
            str(error),
            r"^could not start image busybox:1\.37: there is no /.*/nowhere/x\.conf, which is to be /etc/x\.conf in the "
            r"container; paths start at the directory of the test's module$",
        )

    def test_a_file_in_the_place_of_a_directory_of_the_image(self) -> None:
        error = self.fails(StartError, command="sleep 600", files={"/etc": "text"})
        self.assertIn("Docker says: ", str(error))
        self.assertIn("; name the file itself, ", str(error))

    def test_an_env_file_that_is_not_there(self) -> None:
        error = self.fails(StartError, command="sleep 600", env_file="nowhere.env")
        self.assertRegex(str(error), r"^could not read env_file /.*/nowhere\.env: No such file or directory$")

    def test_a_directory_to_mount_that_is_not_there(self) -> None:
        error = self.fails(StartError, command="sleep 600", volumes={"/src": Path("/nowhere/at/all")})
        self.assertRegex(str(error), r"^could not start image busybox:1\.37, Docker says: .*/nowhere/at/all; check it")

    def test_what_docker_refuses(self) -> None:
        error = self.fails(StartError, command="sleep 600", user="nobody-here")
        self.assertRegex(
            str(error), "^could not start image busybox:1.37, Docker says: .*nobody-here: .*; the image has no user"
        )


class BuildTest(StartTest):
    def test_a_directory_with_a_dockerfile(self) -> None:
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "page").write_text("built")
        (directory / "Dockerfile").write_text(
            f'FROM {IMAGE}\nCOPY page /www/page\nCMD ["httpd", "-f", "-p", "80", "-h", "/www"]\n'
        )
        self.assertEqual(get(f"{self.lend('', build=directory, ports=80).url}/page"), "built")

    def test_no_dockerfile(self) -> None:
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with self.assertRaisesRegex(StartError, "Dockerfile"):
            self.lend("", build=directory)


class VolumeTest(StartTest):
    def volumes(self) -> list[str]:
        engine: Any = self.session._engines.usable()[0]
        found = engine.client.volumes(filters={"label": f"{naming.SESSION}={self.session.id}"})["Volumes"]
        return [volume["Name"] for volume in found or []]

    def test_it_goes_with_the_last_container_that_has_it(self) -> None:
        one, two = (
            self.session.lend(Container(IMAGE, command="sleep 600", volumes={"/x": "x"}), name) for name in ("1", "2")
        )
        one.instance.exec(["touch", "/x/seen"])
        self.assertEqual(two.instance.exec(["ls", "/x"]).stdout, "seen\n")
        self.session.take_back(one)
        self.assertEqual(len(self.volumes()), 1)
        self.session.take_back(two)
        self.assertEqual(self.volumes(), [])

    def test_it_goes_with_a_start_that_failed(self) -> None:
        self.fails(StartError, command="no-such-program", volumes={"/x": "x"})
        self.fails(InstanceDied, command="false", volumes={"/x": "x"})
        self.assertEqual(self.volumes(), [])

    def test_it_is_removed_by_label_and_listed(self) -> None:
        self.lend(command="sleep 600", volumes={"/x": "x"})
        engine = self.session._engines.usable()[0]
        ours = [thing for thing in engine.things() if thing.labels.get(naming.SESSION) == self.session.id]
        self.assertEqual([thing.kind for thing in ours], ["container", "volume"])
        self.assertEqual(engine.remove({naming.SESSION: self.session.id}), 2)
        self.assertEqual(self.volumes(), [])

    def test_it_goes_with_the_session(self) -> None:
        self.session.lend(Container(IMAGE, command="sleep 600", volumes={"/x": "x"}), "test")
        self.session.close()
        engine = DockerEngine(load())
        self.addCleanup(engine.close)
        found = engine.client.volumes(filters={"label": f"{naming.SESSION}={self.session.id}"})["Volumes"]
        self.assertEqual(found or [], [])

    def test_files_can_be_put_into_it(self) -> None:
        view = self.lend(command="sleep 600", volumes={"/x": "x"}, files={"/x/deep/file": "content"})
        self.assertEqual(view.exec("cat /x/deep/file").stdout, "content")

    def test_it_goes_when_the_run_is_killed(self) -> None:
        script = (
            "import sys; from itest import Container, session\n"
            f"session.current().lend(Container({IMAGE!r}, command='sleep 600', volumes={{'/x': 'x'}}))\n"
            "print(session.current().id, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            label = f"{naming.SESSION}={process.stdout.readline().strip()}"
            process.kill()
        engine = DockerEngine(load())
        self.addCleanup(engine.close)
        deadline = Deadline.after(30)
        while engine.client.volumes(filters={"label": label})["Volumes"]:
            self.assertFalse(deadline.passed, "the volume is still there")
            deadline.pause(0.1)
        self.assertEqual(engine.client.containers(all=True, filters={"label": label}), [])


class EndTest(unittest.TestCase):
    """What is said of a container that a test has not stopped and that has ended."""

    def run_with(self, *tests: Callable[[Any], object], **fields: Any) -> unittest.TestResult:
        """Run these tests on an app in a container, in this order."""
        named = {f"test_{number}": test for number, test in enumerate(tests)}
        app = App.container(IMAGE, command=SERVE, ports=80, files={"/www/index.html": "hello"}, **fields)
        with testing.session(quiet=True):
            return run(type("Case", (ContainerTestCase,), {"app": app, **named}))

    @staticmethod
    def works(case: Any) -> None:
        case.assertEqual(case.app.client.get("/").text, "hello")

    @staticmethod
    def kill(case: Any) -> None:
        case.app.server.instance._client.kill(case.app.server.instance.id)
        deadline = Deadline.after(10)
        while case.app.server.lives() and not deadline.passed:
            deadline.pause(0.02)

    @staticmethod
    def remove(case: Any) -> None:
        case.app.server.instance.stop()

    def check(self, result: unittest.TestResult, **expected: str) -> None:
        """Just these tests have failed, with these texts."""
        found = {case._testMethodName: text for case, text in [*result.failures, *result.errors]}  # type: ignore[attr-defined]  # tests, no set-ups
        self.assertEqual(list(found), list(expected), found)
        for name, text in expected.items():
            self.assertRegex(found[name], text)

    def test_it_fails_the_test_and_runs_again_in_the_next(self) -> None:
        def kill_paused(case: Any) -> None:
            case.app.pause()
            self.kill(case)

        result = self.run_with(self.kill, self.works, kill_paused, self.works)
        ended = (
            r"exited with exit code 137 \(SIGKILL\) under this test; it is started again before the next test\. A test"
        )
        self.check(result, test_0=rf"IsolationError: Container \(container .*\) {ended}", test_2=ended)
        self.assertIn("app: container", result.failures[0][1])

    def test_one_that_a_test_has_stopped_or_has_for_itself(self) -> None:
        self.check(self.run_with(lambda case: case.app.stop(grace=0), self.works))
        self.check(self.run_with(self.kill, self.works, scope="test"))

    def test_its_end_is_seen_before_docker_tells_it(self) -> None:
        def end(case: Any) -> None:
            with socket.create_connection((case.app.host, case.app.port), timeout=10) as client:
                client.sendall(b"SHUTDOWN NOSAVE\r\n")
                while client.recv(100):
                    pass

        app = Container("redis:8", ports=6379, ready=log("Ready to accept"))
        with testing.session(quiet=True):
            result = run(type("Case", (ContainerTestCase,), {"app": app, "test_0": end}))
        self.check(result, test_0=r"IsolationError: .* exited with exit code 0 under this test; it is")

    def test_one_that_ends_between_two_tests(self) -> None:
        with mock.patch.object(ContainerServer, "report_end", lambda _: None):
            result = self.run_with(self.kill, self.works, self.works)
        self.check(
            result,
            test_1=r"ResetError: .* exited with exit code 137 \(SIGKILL\), during or after .*Case\.test_0; it is",
        )

    def test_one_that_a_test_has_removed(self) -> None:
        result = self.run_with(self.remove, self.works)
        gone = r"Container \(container .*\) was removed"
        self.check(
            result,
            test_0=rf"IsolationError: {gone} under this test; the next class gets a new one\.",
            test_1=rf"ResetError: {gone}, during or after .*Case\.test_0; the next class gets a new one",
        )
        self.assertIn("ENDED under this test: was removed; the next class gets a new one", result.failures[0][1])


class ClassTest(unittest.TestCase):
    def test_one_for_the_whole_run_is_on_the_network_of_each_class(self) -> None:
        seen = []

        class First(ContainerTestCase):
            web = Container(IMAGE, command=SERVE, ports=80, files={"/www/page": "page"}, scope="session")
            client = Container(IMAGE, command="wget -qO- {web.url}/page", job=True)

            def test(self) -> None:
                seen.append((self.web.server.instance.id, self.client.logs(), get(f"{self.web.url}/page")))

        class Second(First):
            pass

        with testing.session(quiet=True):
            result = run(First, Second)
        self.assertEqual(result.errors + result.failures, [])
        self.assertEqual([texts for _, *texts in seen], [["page", "page"]] * 2)
        self.assertEqual(len({identity for identity, *_ in seen}), 1)

    def test_each_class_has_its_own(self) -> None:
        seen = []

        class First(ContainerTestCase):
            box = Container(IMAGE, command="sleep 600")

            def test(self) -> None:
                seen.append(self.box.server.instance.id)

        class Second(First):
            pass

        with testing.session(quiet=True):
            result = run(First, Second)
        self.assertEqual(result.errors + result.failures, [])
        self.assertEqual(len(set(seen)), 2)
