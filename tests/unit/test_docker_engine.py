# SPDX-License-Identifier: Apache-2.0
"""The docker engine against a server that answers as Docker does; the real one is in tests/integration."""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import sys
import threading
import unittest
import warnings
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import parse_qs

from itest import naming, owners, packages, sweep
from itest.build import Build
from itest.clock import Deadline
from itest.engines import (
    Endpoint,
    State,
    docker,
    docker_client,
    docker_link,
    docker_quick,
    docker_things,
)
from itest.engines.docker_address import Address
from itest.engines.docker_errors import OutOfReach
from itest.engines.docker_instance import PORTS
from itest.errors import InstanceDied, ItestError, PortTaken, StartError
from itest.spec import ContainerSpec, Port
from tests.unit.fake_docker import LABELS, SPEC, FakeDockerTest, Handler
from tests.unit.test_external import dripping

PROXY = {
    "HTTP_PROXY": "http://me:geheim@127.0.0.1:1",
    "http_proxy": "http://me:geheim@127.0.0.1:1",
    "NO_PROXY": "",
    "no_proxy": "",
}
"""The environment of a proxy that nobody is at."""


class AvailableTest(FakeDockerTest):
    def test_it_answers(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        self.assertIsNone(self.engine.unavailable())
        self.assertEqual(self.server.requests("GET"), ["GET /version"])

    def test_it_is_something_else(self) -> None:
        self.answers["GET /version"] = b"<html>welcome</html>"
        reason = self.engine.unavailable() or ""
        self.assertRegex(reason, "^something listens at .*, but it does not answer as Docker does: ")

    def test_it_says_nothing(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            mock.patch.object(docker_link, "ANSWER_TIMEOUT", 0.1),
        ):
            engine = self.make(environment={"DOCKER_HOST": f"tcp://127.0.0.1:{silent.getsockname()[1]}"})
            self.assertRegex(engine.unavailable() or "", "does not answer as Docker does: .*timed out")

    def test_what_it_says_comes_to_no_end(self) -> None:
        with dripping() as port, mock.patch.object(docker_link, "ANSWER_TIMEOUT", 0.2):
            engine = self.make(environment={"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
            self.assertRegex(engine.unavailable() or "", "does not answer as Docker does: .* no end after 0.8 s; see")

    def test_no_proxy_stands_between_this_machine_and_itself(self) -> None:
        with mock.patch.dict(os.environ, PROXY):
            self.assertIsNone(self.engine.unavailable())
            self.assertEqual(self.engine.things(), [])

    def test_a_proxy_before_another_machine_is_named(self) -> None:
        address = Address("tcp://docker.example:2375", "DOCKER_HOST")
        with mock.patch.dict(os.environ, PROXY), self.assertRaises(OutOfReach) as caught:
            docker_client.connected(address, timeout=10)
        self.assertRegex(
            str(caught.exception),
            r"^Docker at tcp://docker\.example:2375 \(DOCKER_HOST\) is asked through the environment's proxy "
            r"http://me:\*\*\*@127\.0\.0\.1:1, and does not answer: .*; if it needs none, add docker\.example to the variable "
            r"NO_PROXY$",
        )

    def test_a_certificate_that_is_not_there(self) -> None:
        engine = self.make(environment={"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.home})
        for name in ("cert.pem", "key.pem", "ca.pem"):
            self.assertRegex(
                engine.unavailable() or "",
                rf"^Docker is to be asked by TLS at tcp://127\.0\.0\.1:\d+ \(DOCKER_HOST\), but there is no {self.home}/{name}: "
                r"correct DOCKER_CERT_PATH, or unset it and DOCKER_TLS_VERIFY$",
            )
            Path(self.home, name).touch()

    def test_the_sdk_is_not_installed(self) -> None:
        with mock.patch.dict(sys.modules, {"docker.api": None}):
            self.assertRegex(
                self.engine.unavailable() or "",
                r"Docker answers at .*, but the package 'docker' cannot be imported: pip install 'docker>=7\.1'$",
            )


class QuickAvailableTest(FakeDockerTest):
    """On a Unix socket, without the SDK."""

    unix = True

    def test_what_the_tests_have_by_the_sdks_name_is_not_the_sdk(self) -> None:
        with mock.patch.object(packages, "_stranger", return_value="/tests/docker.py"):
            self.assertRegex(
                self.engine.unavailable() or "",
                r"^Docker answers at .*, but the package 'docker' is not what it needs: Python finds another one of that name "
                r"first, /tests/docker\.py: rename it, or have it found as a part of the tests' package",
            )

    def test_it_answers(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        self.assertIsNone(self.engine.unavailable())
        self.assertEqual(self.server.requests("GET"), ["GET /_ping"])

    def test_it_is_something_else(self) -> None:
        for answer in (b"<html>welcome</html>", (404, b"OK"), {"ApiVersion": "1.43"}, b""):
            self.answers["GET /_ping"] = answer
            reason = self.engine.unavailable() or ""
            self.assertRegex(reason, "^something listens at .*, but it does not answer as Docker does: ")


class StartTest(FakeDockerTest):
    def test_what_is_asked_for(self) -> None:
        spec = ContainerSpec(
            "web:1",
            env={"ADDRESS": "http://{endpoint:admin}/{other}"},
            command=("serve", "--port={port:admin}"),
            ports={"http": Port(80), "admin": Port(81, chosen=True)},
            tmpfs={"/data": 1000, "/tmp": 0},
        )
        instance = self.start(spec)
        asked = self.server.body("POST /containers/create")
        admin = instance.endpoint("admin").port
        self.assertEqual(asked["Env"], [f"ADDRESS=http://127.0.0.1:{admin}/{{other}}"])
        self.assertEqual(asked["Cmd"], ["serve", f"--port={admin}"])
        self.assertNotIn("Entrypoint", {key for key, value in asked.items() if value is not None})
        self.assertEqual({**asked["Labels"], **LABELS}, asked["Labels"])
        host = asked["HostConfig"]
        self.assertEqual(
            host["PortBindings"],
            {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
                "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(admin)}],
            },
        )
        self.assertEqual(host["Tmpfs"], {"/data": "size=1000", "/tmp": ""})
        self.assertNotIn("Privileged", host)
        self.assertRegex(self.server.requests("POST /containers/create")[0], r"\?name=itest-web-[0-9a-f]{10}$")
        self.assertEqual(self.server.requests("GET /containers"), [], "a chosen port needs no look-up")
        self.assertEqual(str(instance), "container c0ffeec0ffee (web:1)")

    def test_a_daemon_on_another_machine_publishes_for_the_network(self) -> None:
        with mock.patch.object(Address, "host", "build.example"):
            self.answers[f"GET /containers/{'c0ffee' * 10}/json"] = {
                "State": {"Running": True, "Status": "running", "ExitCode": 0},
                "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "4711"}]}},
            }
            self.assertEqual(self.start().endpoint(), Endpoint("build.example", 4711))
        bindings = self.server.body("POST /containers/create")["HostConfig"]["PortBindings"]
        self.assertEqual(bindings, {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]})

    def test_a_placeholder_for_a_port_that_is_not_chosen(self) -> None:
        text = self.fails(StartError, ContainerSpec("web:1", env={"A": "{port:http}"}, ports={"http": Port(80)}))
        self.assertIn("declare that port with Port(..., chosen=True)", text)

    def test_no_free_port(self) -> None:
        with (
            mock.patch.object(docker, "free_port", side_effect=OSError("no free port could be found on 127.0.0.1")),
            self.assertRaisesRegex(StartError, "^could not start image web:1: no free port could be found on 127"),
        ):
            self.start(ContainerSpec("web:1", ports={"http": Port(80, chosen=True)}))
        self.assertEqual(self.server.requests("POST"), [])

    def test_docker_went_away(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        self.server.shutdown()
        self.server.server_close()
        self.assertRegex(self.fails(StartError), "^could not look for image web:1, Docker does not answer: ")

    def test_docker_went_away_before_its_client_was_made(self) -> None:
        """That is no reason to skip the tests that are left: Unavailable would be."""
        engine = self.make()
        engine.unavailable()
        engine._link._made = None
        self.server.shutdown()
        self.server.server_close()
        for _ in range(2):  # Nor is it from then on.
            with self.assertRaisesRegex(OutOfReach, "^nothing listens at .*, so Docker is not running: start it"):
                _ = engine.client
            for ask in (partial(self.start, engine=engine), partial(engine.identity, SPEC, self.trace)):
                with self.assertRaisesRegex(
                    StartError, "^could not look for its images, Docker does not answer: nothing"
                ):
                    ask()

    def test_a_limit_that_docker_ignores_is_said_once(self) -> None:
        warnings = [
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        ]
        self.answers["POST /containers/create"] = (201, {"Id": "c0ffee" * 10, "Warnings": warnings})
        self.start()
        self.start()
        self.assertEqual(self.stderr.getvalue().count("itest: "), 1)
        self.assertIn(f"itest: image web:1, Docker says: {warnings[0]}; rootless Docker and ", self.stderr.getvalue())

    def test_a_port_that_was_taken(self) -> None:
        for said in (
            "driver failed programming external connectivity: Bind for 127.0.0.1:1 failed: port is already allocated",
            "Error starting userland proxy: listen tcp4 127.0.0.1:4711: bind: address already in use",
        ):
            with self.subTest(said):
                self.answers[f"POST /containers/{'c0ffee' * 10}/start"] = (500, {"message": said})
                text = self.fails(PortTaken)
                self.assertEqual(
                    text,
                    f"could not start image web:1, Docker says: {said}; another program took the port, or it is "
                    f"reserved on this machine",
                )
                [removal] = self.server.requests("DELETE")
                self.assertRegex(removal, r"^DELETE /containers/itest-web-\w+\?force=1&v=1$")
                self.server.asked.clear()

    def test_a_refusal_is_one_sentence_without_passwords(self) -> None:
        self.answers["POST /containers/create"] = (400, {"message": f"bad\nvalue {naming.secret()}"})
        self.assertEqual(self.fails(StartError), "could not start image web:1, Docker says: bad value ***")
        self.assertEqual(len(self.server.requests("DELETE")), 1)

    def test_no_answer_to_create(self) -> None:
        """The container may exist all the same: it is removed by its name."""
        self.assertIsNone(self.engine.unavailable())
        released = threading.Event()
        self.addCleanup(released.set)
        self.answers["POST /containers/create"] = lambda handler: released.wait(60) and None
        send = self.engine.client.send

        def impatient(request: Any, **options: Any) -> Any:
            if request.path_url.partition("?")[0].endswith("/containers/create"):
                options["timeout"] = 0.1
            return send(request, **options)

        with mock.patch.object(self.engine.client, "send", impatient):
            text = self.fails(StartError)
        self.assertIn("could not start image web:1, Docker does not answer: ", text)
        self.assertIn("Read timed out", text)
        self.assertRegex(self.server.requests("DELETE")[0], r"^DELETE /containers/itest-web-\w+\?")

    def test_what_could_not_be_removed_is_said(self) -> None:
        self.answers["POST /containers/create"] = (500, {"message": "no"})
        self.enterContext(mock.patch.object(docker, "_name", return_value="itest-web-1"))
        self.answers["DELETE /containers/itest-web-1"] = (500, {"message": "device is busy"})
        with self.assertRaises(StartError) as caught:
            self.start()
        self.assertEqual(
            caught.exception.__notes__,
            [
                "and its container, if Docker has made it, was left behind: "
                "could not remove itest-web-1, Docker says: device is busy"
            ],
        )


class InstanceTest(FakeDockerTest):
    def setUp(self) -> None:
        super().setUp()
        self.instance = self.start()
        self.path = f"/containers/{self.instance.id}"
        self.inspects()

    def inspects(self, ports: dict[str, Any] | None = None, **state: Any) -> None:
        state = {"Running": True, "Status": "running", "ExitCode": 0, "OOMKilled": False, **state}
        self.answers[f"GET {self.path}/json"] = {
            "State": state,
            "Config": {"Tty": False},
            "NetworkSettings": {"Ports": {"80/tcp": None} if ports is None else ports},
        }

    def test_state(self) -> None:
        self.assertEqual(self.instance.state(), State(True))
        self.inspects(Health={"Status": "starting"})
        self.assertEqual(self.instance.state().health, "starting")
        self.inspects(Running=False, Status="exited", ExitCode=137, OOMKilled=True, Health={"Status": "none"})
        self.assertEqual(self.instance.state(), State(False, "exited", 137, True))
        self.assertEqual(str(self.instance.state()), "exited with exit code 137, killed for lack of memory")
        self.inspects(Status="restarting", ExitCode=3)
        self.answers[f"GET {self.path}/json"]["RestartCount"] = 2
        self.assertEqual(self.instance.state(), State(True, "restarting", 3, restarts=2))
        self.assertEqual(str(self.instance.state()), "ended with exit code 3, and Docker starts it again")
        self.answers[f"GET {self.path}/json"] = (500, {"message": "disk is full"})
        with self.assertRaisesRegex(ItestError, "^could not inspect container c0ffee.*, Docker says: disk is full$"):
            self.instance.state()
        del self.answers[f"GET {self.path}/json"]
        self.assertEqual(self.instance.state(), State(False, "removed"))

    def test_one_that_somebody_else_has_started_again(self) -> None:
        self.inspects(StartedAt="2026-11-30T06:46:02.5Z")
        self.assertEqual(self.instance.state(), State(True))
        self.inspects(StartedAt="2026-11-30T06:47:03.5Z")
        for _ in range(2):
            self.assertEqual(self.instance.state(), State(True, restarted=True))
        self.instance.go_on()
        self.assertEqual(self.instance.state(), State(True))

    def test_ports_that_docker_has_chosen_anew_at_a_restart(self) -> None:
        for moment, host_port in (("2026-11-30T06:46:02.5Z", "40001"), ("2026-11-30T06:47:03.5Z", "40002")):
            self.inspects({"80/tcp": [{"HostPort": host_port}]}, StartedAt=moment)
            self.instance.state()
            self.assertEqual(self.instance.endpoint(), Endpoint("127.0.0.1", int(host_port)))

    def test_state_without_docker(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.assertEqual(self.instance.state(), State(True, "out of reach, because Docker does not answer"))
        with self.assertRaisesRegex(ItestError, "^could not remove container c0ffee.*, Docker does not answer: .*info"):
            self.instance.stop()

    def test_what_it_publishes_is_out_of_reach_in_a_container_with_a_network_of_its_own(self) -> None:
        job = "ab" * 32
        endpoints = {"http": Endpoint("127.0.0.1", 4711)}
        for around, mode, refused, expected in (
            (job, "bridge", True, True),
            (job, "bridge", False, False),
            (job, "host", True, False),
            (job, "container:c0ffee", True, False),
            ("", "bridge", True, False),
            ("cd" * 32, "bridge", True, False),  # Another Docker's.
        ):
            self.answers[f"GET /containers/{job}/json"] = {"State": {}, "HostConfig": {"NetworkMode": mode}}
            with (
                mock.patch.object(owners, "container", return_value=around),
                mock.patch("itest.engines.docker_instance.refuses", return_value=refused),
                mock.patch.object(self.instance, "_endpoints", endpoints),
            ):
                self.assertIs(self.instance.cut_off(), expected, (around, mode, refused))

    def test_endpoint_waits_until_it_is_published(self) -> None:
        published = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4711"}]}
        threading.Timer(0.05, self.inspects, [published]).start()
        self.assertEqual(self.instance.endpoint("http"), Endpoint("127.0.0.1", 4711))
        self.server.asked.clear()
        self.assertEqual(self.instance.endpoint(), Endpoint("127.0.0.1", 4711))
        self.assertEqual(self.server.asked, [])

    def test_endpoint_of_a_dead_container(self) -> None:
        self.inspects(ports={}, Running=False, Status="exited", ExitCode=3)
        self.answers[f"GET {self.path}/logs"] = b"\x02\0\0\0\0\0\0\x05oops\n"
        deadline = Deadline.after(1)
        with self.assertRaises(InstanceDied) as caught:
            self.instance.endpoint()
        self.assertFalse(deadline.passed)
        self.assertEqual(caught.exception.exit_code, 3)
        self.assertIsNone(caught.exception.__context__)
        self.assertIn("oops", caught.exception.__notes__[0])

    def test_endpoint_of_a_port_that_is_not_there(self) -> None:
        with self.assertRaisesRegex(KeyError, r"container c0ffeec0ffee \(web:1\) has no port 'smtp'; it has 'http'"):
            self.instance.endpoint("smtp")
        with self.assertRaisesRegex(KeyError, "has no port'"):
            self.start(ContainerSpec("web:1")).endpoint()

    def test_logs(self) -> None:
        frames = [(1, b"one\n"), (2, b"two \xff\n"), (1, b"three\n")]
        self.answers[f"GET {self.path}/logs"] = b"".join(
            struct.pack(">BxxxL", stream, len(data)) + data for stream, data in frames
        )
        self.assertEqual(self.instance.logs(tail=3, since=1234.5), "one\ntwo \ufffd\nthree\n")
        self.assertIn("tail=3", self.server.requests(f"GET {self.path}/logs")[0])
        self.assertIn("since=1234.5", self.server.requests(f"GET {self.path}/logs")[0])
        dying = "can not get logs from container which is dead or marked for removal"
        self.answers[f"GET {self.path}/logs"] = (409, {"message": dying})
        self.assertEqual(self.instance.logs(), "")
        self.answers[f"GET {self.path}/logs"] = (500, {"message": "the disk is full"})
        with self.assertRaisesRegex(ItestError, "^could not read the log of .*, Docker says: the disk is full$"):
            self.instance.logs()
        del self.answers[f"GET {self.path}/json"], self.answers[f"GET {self.path}/logs"]
        self.assertEqual(self.instance.logs(), "")

    def test_usage(self) -> None:
        self.inspects()
        self.answers[f"GET {self.path}/json"].update(HostConfig={"Memory": 64 << 20}, RestartCount=2)
        self.answers[f"GET {self.path}/json"]["State"]["OOMKilled"] = True
        facts = ["restarted 2 times", "a process in it was killed for lack of memory"]
        self.assertEqual(self.instance.usage(), facts)
        stats = {"usage": 9 << 20, "stats": {"inactive_file": 2 << 20}}
        self.answers[f"GET {self.path}/stats"] = {"memory_stats": stats}
        self.assertEqual(self.instance.usage(), ["7 MB of 64 MB in use", *facts])
        self.answers["GET /info"] = {"CgroupDriver": "none"}
        self.assertEqual(self.instance.usage(), facts, "what rootless Docker tells then is not the container's")
        del self.answers[f"GET {self.path}/json"]
        self.assertEqual(self.instance.usage(), [])

    def test_going_on_tells_since_when_its_log_is_new(self) -> None:
        words = b"2001-09-09T01:46:40.123456999Z last words\n"
        self.answers[f"GET {self.path}/logs"] = struct.pack(">BxxxL", 1, len(words)) + words
        since = self.instance.go_on()
        self.assertTrue(1_000_000_000.123457 < since < 1_000_000_000.123460, since)
        for nothing in (b"", (500, {"message": "configured logging driver does not support reading"})):
            self.answers[f"GET {self.path}/logs"] = nothing
            self.assertEqual(self.instance.go_on(), 0.0)

    def executes(self, output: bytes, *states: dict[str, Any]) -> None:
        self.answers[f"POST {self.path}/exec"] = (201, {"Id": "job"})
        self.answers["POST /exec/job/start"] = lambda _: (200, output)
        self.answers["GET /exec/job/json"] = [(lambda _, state=state: (200, state)) for state in states]

    def test_exec(self) -> None:
        output = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x02\xffx"
        self.executes(output, {"Running": True, "ExitCode": None}, {"Running": False, "ExitCode": 3})
        self.assertEqual(self.instance.exec(["a", "b"]), (3, "out\n\ufffdx", "err\n"))
        self.assertEqual(self.server.body(f"POST {self.path}/exec")["Cmd"], ["a", "b"])

    def test_exec_that_docker_refuses(self) -> None:
        self.executes(b"")
        self.answers["POST /exec/job/start"] = (400, {"message": "OCI runtime exec failed: no such file"})
        self.assertEqual(self.instance.exec(["a"]), (127, "", "OCI runtime exec failed: no such file"))
        self.answers[f"POST {self.path}/exec"] = (409, {"message": "container is not running"})
        self.assertEqual(self.instance.exec(["a"]), (125, "", "container is not running"))

    def test_exec_that_an_older_docker_refuses(self) -> None:
        said = b'OCI runtime exec failed: exec: "a": executable file not found in $PATH\r\n'
        self.executes(struct.pack(">BxxxL", 1, len(said)) + said, {"Running": False, "ExitCode": 126})
        self.assertEqual(self.instance.exec(["a"]), (127, "", said.decode()))

    def test_exec_that_takes_too_long(self) -> None:
        released = threading.Event()
        self.addCleanup(released.set)

        def hang(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            released.wait(60)

        self.executes(b"")
        self.answers["POST /exec/job/start"] = hang
        with self.assertRaisesRegex(
            TimeoutError, r"^`sleep 'a b'` in container c0ffee\w+ \(web:1\) had not ended after 0.1 s; if it"
        ):
            self.instance.exec(["sleep", "a b"], timeout=0.1)
        self.executes(b"", {"Running": True, "ExitCode": None})
        with self.assertRaises(TimeoutError):
            self.instance.exec(["a"], timeout=0.05)

    def test_stop(self) -> None:
        self.instance.stop()
        self.assertEqual(self.server.requests("DELETE"), [f"DELETE {self.path}?force=1&v=1"])
        self.answers[f"DELETE {self.path}"] = (404, {"message": "No such container"})
        self.instance.stop()

    def test_stop_while_somebody_else_removes_it(self) -> None:
        self.answers[f"DELETE {self.path}"] = (409, {"message": "removal of container c0ffee is already in progress"})
        threading.Timer(0.05, self.answers.pop, [f"GET {self.path}/json"]).start()
        self.instance.stop()
        self.assertNotIn(f"GET {self.path}/json", self.answers)

    def test_stop_that_fails(self) -> None:
        self.answers[f"DELETE {self.path}"] = (500, {"message": "device is busy"})
        with self.assertRaises(ItestError) as caught:
            self.instance.stop()
        self.assertEqual(
            str(caught.exception), "could not remove container c0ffeec0ffee (web:1), Docker says: device is busy"
        )


class UnixInstanceTest(InstanceTest):
    """The same at a Unix socket, where most is asked without the SDK."""

    unix = True

    def test_a_usual_run_does_without_the_sdk(self) -> None:
        published = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4711"}]}
        self.inspects(published)
        self.answers[f"GET {self.path}/logs"] = b"\x01\0\0\0\0\0\0\x03hi\n"
        self.assertEqual(self.instance.state(), State(True))
        self.assertEqual(self.instance.endpoint(), Endpoint("127.0.0.1", 4711))
        self.assertIsNone(self.instance.direct_endpoint())
        self.assertEqual(self.instance.logs(), "hi\n")
        self.assertTrue(self.engine.find(LABELS) == [] and self.engine._link.quick, "a client of the SDK was made")

    def test_a_failing_test_is_looked_into_without_the_sdk(self) -> None:
        """It may have replaced what the SDK's import needs: `time.time`, say."""
        self.test_usage()
        self.assertTrue(self.engine._link.quick, "a client of the SDK was made")

    def test_the_log_of_a_terminal_is_one_stream(self) -> None:
        self.inspects()
        self.answers[f"GET {self.path}/json"]["Config"]["Tty"] = True
        self.answers[f"GET {self.path}/logs"] = b"\x01\0\0\0\0\0\0\x03hi\n"
        self.assertEqual(self.instance.logs(), "\x01\0\0\0\0\0\0\x03hi\n")

    def test_what_cannot_be_asked_quickly_is_asked_by_the_sdk(self) -> None:
        self.answers[f"GET {self.path}/logs"] = b"\x01\0\0\0\0\0\0\x03hi\n"
        with mock.patch.object(docker_quick, "_exchange", side_effect=OSError("no descriptor is left")):
            self.assertEqual(self.instance.state(), State(True))
            self.assertEqual(self.instance.logs(), "hi\n")
        self.assertFalse(self.engine._link.quick)


class InterceptedTest(FakeDockerTest):
    """Packages that answer a test's requests do not answer those to Docker, whenever its client is made."""

    unix = True

    def works(self) -> None:
        """Docker is asked by the SDK, by a client that is made now."""
        self.assertEqual(self.make().client.version()["Version"], "24.0.0")

    def test_responses(self) -> None:
        import requests  # Comes with the package docker.

        refused = mock.Mock(side_effect=requests.ConnectionError("the call doesn't match any registered mock"))
        with mock.patch("requests.adapters.HTTPAdapter.send", refused):
            self.works()
        refused.assert_not_called()

    def test_requests_mock(self) -> None:
        import requests

        send = requests.Session.send

        def fake(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            adapter = mock.Mock(**{"send.side_effect": requests.ConnectionError("No mock address")})
            with mock.patch.object(self, "get_adapter", return_value=adapter):
                return send(self, request, **kwargs)

        with mock.patch.object(requests.Session, "send", fake):
            self.works()

    def test_vcrpy(self) -> None:
        import urllib3

        class Recording(urllib3.connection.HTTPConnection):
            """A cassette's."""

        pool = urllib3.connectionpool.HTTPConnectionPool
        get = pool._get_conn

        def get_one_of_its_own(self: Any, timeout: float | None = None) -> Any:
            for _ in range(100):  # It has no end.
                if isinstance(connection := get(self, timeout), self.ConnectionCls):
                    return connection
            raise AssertionError("the pool never has one")

        with (
            mock.patch.object(pool, "ConnectionCls", Recording),
            mock.patch.object(pool, "_get_conn", get_one_of_its_own),
        ):
            self.works()


class SilentTest(FakeDockerTest):
    """Docker that takes connections and does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.instance = self.start()
        self.released = threading.Event()
        self.addCleanup(self.released.set)
        self.path = f"/containers/{self.instance.id}"
        self.place = self.engine.address.socket or self.engine.address.url
        self.addCleanup(docker_quick.silent.discard, self.place)

    def hang(self) -> None:
        """Have a request wait in vain, and Docker not answer from then on."""
        self.answers["GET /_ping"] = self.answers[f"GET {self.path}/json"] = self.hanging
        with mock.patch.object(self.engine.client, "timeout", 0.1):
            self.assertEqual(str(self.instance.state()), "out of reach, because Docker does not answer")

    def greeting_in_vain(self) -> None:
        """Have a greeting take a tenth of a second."""
        for module in (docker_client, docker_quick):
            self.enterContext(mock.patch.object(module, "ANSWER_TIMEOUT", 0.1))

    def hanging(self, handler: Handler) -> Any:
        self.released.wait(60)
        return 200, b"OK"

    def test_from_then_on_it_is_only_greeted(self) -> None:
        self.hang()
        self.greeting_in_vain()
        self.server.asked.clear()
        self.assertEqual(str(self.instance.state()), "out of reach, because Docker does not answer")
        for ask in (self.instance.stop, self.instance.logs, lambda: self.engine.find(LABELS), self.start):
            with self.assertRaisesRegex(ItestError, "Docker does not answer: "):
                ask()
        self.assertEqual({line for line, _, _ in self.server.asked}, {"GET /_ping"})

    def test_one_that_just_took_long_is_asked_again(self) -> None:
        self.hang()
        self.answers["GET /_ping"] = b"OK"
        self.instance.stop()
        self.assertNotIn(self.place, docker_quick.silent)


class UnixSilentTest(SilentTest):
    unix = True

    def hang(self) -> None:
        self.answers["GET /_ping"] = self.hanging
        with self.assertRaises(TimeoutError):
            docker_quick.ask(self.place, "GET", "/_ping", timeout=0.1)

    def test_the_sdk_does_not_ask_once_more(self) -> None:
        self.answers[f"GET {self.path}/json"] = {"State": {"Running": True, "Status": "running", "ExitCode": 0}}
        with mock.patch.object(docker_quick, "_sent", side_effect=TimeoutError("timed out")):
            self.assertEqual(str(self.instance.state()), "out of reach, because Docker does not answer")
        self.assertTrue(self.engine._link.quick)
        self.assertTrue(self.instance.state().running)

    def test_a_client_that_is_made_then(self) -> None:
        self.hang()
        self.greeting_in_vain()
        self.server.asked.clear()
        with self.assertRaisesRegex(OutOfReach, "it does not answer as Docker does: .*timed out"):
            _ = self.engine.client
        self.assertEqual({line for line, _, _ in self.server.asked}, {"GET /_ping"})


class FindTest(FakeDockerTest):
    def setUp(self) -> None:
        super().setUp()
        ports = {PORTS: '{"http": "80/tcp"}'}
        self.answers["GET /containers/json"] = [
            {"Id": name * 32, "Image": "web:1", "Labels": {**LABELS, **labels}, "Created": 1, "State": "running"}
            for name, labels in {"a1": ports, "b2": {PORTS: "?"}, "c3": {}}.items()
        ]
        self.answers["GET /networks"] = [{"Id": name, "Name": name, "Labels": LABELS} for name in ("n1", "n2")]

    def test_find(self) -> None:
        found = self.engine.find(LABELS)
        self.assertEqual([instance.id[:2] for instance in found], ["a1", "b2", "c3"])
        self.assertEqual(str(found[0]), "container a1a1a1a1a1a1 (web:1)")
        asked = parse_qs(self.server.requests("GET /containers/json")[0].split("?")[1])
        self.assertEqual(json.loads(asked["filters"][0]), {"label": ["itest.session=s1", "itest.service=web"]})
        self.assertEqual(asked["all"], ["1"])

    def test_remove(self) -> None:
        self.answers["DELETE /networks/n2"] = (404, {"message": "network n2 not found"})
        self.assertEqual(self.engine.remove(LABELS), 5)
        self.assertEqual(len(self.server.requests("DELETE /containers")), 3)
        self.assertEqual(self.server.requests("DELETE /networks"), ["DELETE /networks/n1", "DELETE /networks/n2"])

    def test_remove_tries_all_of_them(self) -> None:
        self.answers[f"DELETE /containers/{'a1' * 32}"] = (500, {"message": "device is busy"})
        with self.assertRaisesRegex(ItestError, r"could not remove container a1a1.* Docker says: device is busy"):
            self.engine.remove(LABELS)
        self.assertEqual(len(self.server.requests("DELETE /containers")), 3)

    def test_remove_while_the_interpreter_shuts_down(self) -> None:
        with mock.patch("itest.side_by_side.Thread", side_effect=RuntimeError("can't create new thread")):
            self.assertEqual(self.engine.remove(LABELS), 5)

    def test_without_a_label(self) -> None:
        for method in (self.engine.find, self.engine.remove):
            with self.assertRaisesRegex(ValueError, "at least one label is needed"):
                method({})

    def test_nothing_stays_open_after_close(self) -> None:
        gc.collect()  # What other tests have left open is not held against this one.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.engine.find(LABELS)
            self.engine.close()
            self.engine.close()
            gc.collect()
        self.assertEqual([str(warning.message) for warning in caught], [])


if __name__ == "__main__":
    unittest.main()


class ThingsTest(FakeDockerTest):
    """What itest has made, for a sweep; over TCP by the SDK, over a Unix socket without it."""

    CONTAINER: ClassVar[dict[str, Any]] = {
        "Id": "c0ffee" * 10,
        "Image": "web:1",
        "Labels": LABELS,
        "Created": 1700000000,
        "State": "exited",
    }
    NETWORK: ClassVar[dict[str, Any]] = {
        "Id": "beef" * 16,
        "Name": "itest-1",
        "Labels": LABELS,
        "Created": "2023-11-14T22:13:20.123456789Z",
    }
    VOLUME: ClassVar[dict[str, Any]] = {
        "Name": "itest-s1-data",
        "Driver": "local",
        "Labels": LABELS,
        "CreatedAt": "2023-11-14T22:13:20Z",
    }

    def at_socket(self, status: int = 200, said: Any = None, error: Exception | None = None) -> Any:
        """An engine whose Docker, at a Unix socket, answers like this."""
        self.ask = self.enterContext(mock.patch.object(docker_quick, "ask", return_value=(status, said)))
        self.ask.side_effect = error
        return mock.Mock(address=Address("unix:///docker.sock", "a test"))

    def all_there(self) -> None:
        self.answers.update({"GET /containers/json": [self.CONTAINER], "GET /networks": [self.NETWORK]})
        self.answers["GET /volumes"] = {"Volumes": [self.VOLUME]}

    def each_deleted(self, answer: Any) -> list[str]:
        paths = [
            f"DELETE /containers/{'c0ffee' * 10}",
            f"DELETE /networks/{'beef' * 16}",
            "DELETE /volumes/itest-s1-data",
        ]
        self.answers.update(dict.fromkeys(paths, answer))
        return paths

    def test_containers_networks_and_volumes_of_all_runs(self) -> None:
        self.all_there()
        container, network, volume = self.engine.things()
        self.assertEqual(
            [str(container), str(network), str(volume)],
            ["container c0ffeec0ffee (web:1)", "network beefbeefbeef (itest-1)", "volume itest-s1-data (local)"],
        )
        self.assertEqual((volume.created, volume.labels), (1700000000.0, LABELS))
        self.assertEqual((container.created, int(network.created)), (1700000000.0, 1700000000))
        self.assertEqual((container.running, container.labels), (False, LABELS))
        for line in [
            line for what in ("containers", "networks", "volumes") for line in self.server.requests(f"GET /{what}")
        ]:
            asked = parse_qs(line.partition("?")[2])
            self.assertEqual(json.loads(asked["filters"][0]), {"label": ["itest.session"]})

    def test_one_that_is_paused_has_not_ended(self) -> None:
        self.answers.update({"GET /containers/json": [{**self.CONTAINER, "State": "paused"}], "GET /networks": []})
        self.answers["GET /volumes"] = {"Volumes": []}
        [thing] = self.engine.things()
        self.assertEqual((thing.running, thing.paused), (True, True))

    def test_a_container_with_a_kept_state_is_called_by_the_image_it_stands_for(self) -> None:
        for build, title in ((None, "web:1"), (Build("/web"), "image of /web/Dockerfile")):
            self.server.asked.clear()
            self.start(ContainerSpec("web:1", build=build, warm="sha256:5961"))
            asked = self.server.body("POST /containers/create")
            self.assertEqual(asked["Image"], "sha256:5961")
            listed = {**self.CONTAINER, "Image": "sha256:5961", "Labels": asked["Labels"]}
            self.answers.update(
                {"GET /containers/json": [listed], "GET /networks": [], "GET /volumes": {"Volumes": []}}
            )
            [thing], [instance] = self.engine.things(), self.engine.find(LABELS)
            self.assertEqual([str(thing), str(instance)], [f"container c0ffeec0ffee ({title})"] * 2)

    def test_they_are_removed_by_their_whole_ids_and_may_be_gone(self) -> None:
        self.all_there()
        for answer in ((204, b""), (404, {"message": "no such thing"})):
            paths = self.each_deleted(answer)
            for thing in self.engine.things():
                thing.remove()
        asked = [line.partition("?")[0] for line in self.server.requests("DELETE")]
        self.assertEqual(asked, paths * 2)

    def test_one_that_cannot_be_removed(self) -> None:
        self.all_there()
        self.each_deleted((500, {"message": "it has active endpoints"}))
        for thing in self.engine.things():
            text = f"^could not remove {thing.kind} {thing.id}, Docker says: it has active endpoints$"
            with self.assertRaisesRegex(ItestError, text):
                thing.remove()

    def test_what_a_container_has_left_that_has_ended(self) -> None:
        job = "ab" * 32
        owner = f"1@job pidns=4026532181 container={job}"
        self.answers["GET /containers/json"] = [{**self.CONTAINER, "Labels": {**LABELS, naming.OWNER: owner}}]
        for answer, ended in (
            ({"State": {"Running": True, "Status": "running"}}, False),
            ({"State": {"Running": False, "Status": "exited", "ExitCode": 137}}, True),
            ((404, {"message": "No such container"}), True),
            (lambda handler: None, False),  # Docker does not answer.
        ):
            self.answers[f"GET /containers/{job}/json"] = answer
            self.assertEqual([sweep.is_over(thing) for thing in self.engine.things()], [ended], answer)

    def test_the_container_that_a_run_is_in_is_named_where_it_is_one_of_this_docker(self) -> None:
        job = "ab" * 32
        labels = {naming.SESSION: "s1", naming.OWNER: "1@job pidns=4026532181"}
        named = {**labels, naming.OWNER: f"{labels[naming.OWNER]} container={job}"}
        running = {"State": {"Running": True, "Status": "running"}}
        gone = 404, {"message": "No such container"}
        for around, answer, expected in (("", running, labels), (job, gone, labels), (job, running, named)):
            self.answers[f"GET /containers/{job}/json"] = answer
            with mock.patch.object(owners, "container", return_value=around):
                engine = self.make()
                self.assertEqual(
                    [engine.owned(labels), engine.owned(labels), engine.owned(named)], [expected] * 2 + [named]
                )
                engine.start(SPEC, labels, Deadline.after(60), self.trace)
            self.assertEqual(
                self.server.body("POST /containers/create")["Labels"][naming.OWNER], expected[naming.OWNER]
            )
            self.server.asked.clear()

    def test_a_unix_socket_is_asked_three_times_and_the_sdk_is_not_needed(self) -> None:
        engine = self.at_socket()
        network_ = {**self.NETWORK, "Created": "?", "Labels": None}
        self.ask.side_effect = [(200, [self.CONTAINER]), (200, [network_]), (200, {"Volumes": [self.VOLUME]})]
        container, network, volume = docker_things.things(engine)
        self.assertEqual((str(container), network.created, network.labels), ("container c0ffeec0ffee (web:1)", 0.0, {}))
        self.assertEqual(str(volume), "volume itest-s1-data (local)")
        self.assertEqual(self.ask.call_count, 3)

    def test_no_list(self) -> None:
        for status, said, error, text in (
            (500, {"message": "out of order"}, None, "Docker says: {'message': 'out of order'}"),
            (200, {"no": "list"}, None, "Docker says: {'no': 'list'}"),
            (0, None, TimeoutError("timed out"), r"Docker does not answer: timed out; see whether it still runs .*"),
        ):
            with (
                self.subTest(text),
                self.assertRaisesRegex(ItestError, f"^could not list the containers of itest, {text}$"),
            ):
                docker_things.things(self.at_socket(status, said, error))

    def test_docker_went_away(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        self.server.shutdown()
        self.server.server_close()
        with self.assertRaisesRegex(ItestError, "^could not list the containers of itest, Docker does not answer: "):
            self.engine.things()
