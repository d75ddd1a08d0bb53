# SPDX-License-Identifier: Apache-2.0
"""`itest doctor` on this machine: with Docker and without, with sockets that are none, images that cannot be pulled."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from itest.config import load
from itest.engines.docker import DockerEngine
from tests.integration.test_command_line import CommandLineTest
from tests.unit.test_external import closed_port


def nowhere() -> dict[str, str]:
    """The settings for external servers that are not there."""
    address = f"127.0.0.1:{closed_port()}"
    return {
        "ITEST_POSTGRES_URL": f"postgresql://postgres@{address}/postgres",
        "ITEST_REDIS_URL": f"redis://{address}",
        "ITEST_KAFKA_BOOTSTRAP_SERVERS": address,
    }


class DoctorTest(CommandLineTest):
    def doctor(self, *arguments: str, code: int = 0, **changes: str) -> list[dict[str, Any]]:
        """What it finds, as JSON; the text is looked at too."""
        output, _ = self.itest("doctor", "--json", *arguments, code=code, **changes)
        found = json.loads(output)
        self.assertEqual(found["ok"], code == 0)
        return list(found["findings"])

    def said(self, findings: list[dict[str, Any]], name: str, level: str) -> str:
        return "\n".join(each["said"] for each in findings if (each["name"], each["level"]) == (name, level))


class WithDockerTest(DoctorTest):
    def setUp(self) -> None:
        super().setUp()
        engine = DockerEngine(load())
        reason = engine.unavailable()
        engine.close()
        if reason:
            self.skipTest(f"Docker cannot be used: {reason}")
        self.environment.pop("ITEST_ENGINE", None)

    def test_a_container_is_started_and_stopped(self) -> None:
        process = self.start("doctor")
        output, errors = process.communicate(timeout=120)
        self.assertEqual((process.returncode, errors), (0, ""), output)
        for line in (
            r"ok +itest +itest \d+\.\d+\.\d+, Python 3\.\d+\.\d+, ",
            r"ok +packages +docker \d.*psycopg2 \d",
            r"ok +docker +(Docker|Podman) \d+.* answers at unix://.*, API 1\.\d+, linux/.*, cgroup v[12] ",
            r"(ok|note) +image +postgres:17 is (not )?there",
            r"ok +container +one of \S+ was started in \d+\.\d s, and stopped",
            r"(ok|note) +port +(its published port answers at 127\.0\.0\.1:\d+|not tried)",
            r"\w+ +disk +.*\d+\.\d GB free at Docker's own disk",
            r"\w+ +cache +.*GB free at ",
            r"ok +engine +tests run on Docker, not local processes \(Docker is preferred\)$",
        ):
            self.assertRegex(output, f"(?m)^{line}")
        left = [thing for thing in json.loads(self.itest("ps", "--json")[0]) if thing["service"] == "doctor"]
        self.assertEqual([thing for thing in left if (thing["owner"] or {}).get("pid") == process.pid], [])

    def test_an_image_that_cannot_be_pulled(self) -> None:
        findings = self.doctor("--image", "localhost:1/web:1", "--pull", code=1)
        said = self.said(findings, "container", "problem")
        self.assertRegex(said, "^image localhost:1/web:1 .*could not be pulled: .*connection refused")
        self.assertIn("the Docker host cannot reach the registry localhost:1: check its network, ", said)

    def test_an_image_that_is_not_there_is_not_pulled(self) -> None:
        findings = self.doctor("--image", "localhost:1/web:1", code=1)
        self.assertEqual(
            self.said(findings, "container", "problem"),
            "image localhost:1/web:1 is not on the Docker host: `itest doctor --image localhost:1/web:1 --pull` tries to "
            "pull it",
        )

    def test_a_docker_compose_that_is_not_there(self) -> None:
        findings = self.doctor(code=1, ITEST_COMPOSE="/nowhere/docker-compose")
        self.assertIn("compose = '/nowhere/docker-compose'", self.said(findings, "compose", "problem"))

    def test_a_context_that_docker_host_wins_over(self) -> None:
        home = Path(self.enterContext(tempfile.TemporaryDirectory()))
        home.joinpath("config.json").write_text('{"currentContext": "colima"}')
        address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        findings = self.doctor(DOCKER_CONFIG=str(home), DOCKER_HOST=address)
        self.assertIn("DOCKER_HOST wins over the docker context 'colima'", self.said(findings, "docker", "note"))


class WithoutDockerTest(DoctorTest):
    """Whether local processes can do instead depends on the machine, so Docker is made necessary where that counts."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "docker.sock"
        self.environment.update(DOCKER_HOST=f"unix://{self.path}", ITEST_ENGINE="docker")

    def problem(self, **changes: str) -> str:
        findings = self.doctor(code=1, **changes)
        self.assertIn("no engine that the settings allow (engine = 'docker'", self.said(findings, "engine", "problem"))
        return self.said(findings, "docker", "problem")

    def test_no_socket(self) -> None:
        self.assertEqual(
            self.problem(),
            f"not used: there is no Docker socket at unix://{self.path} (DOCKER_HOST): start it (Docker Desktop, `colima "
            f"start`, `sudo systemctl start docker`) or set DOCKER_HOST",
        )

    def test_a_dead_socket(self) -> None:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(self.path))
        self.assertIn(
            f"nothing listens at unix://{self.path} (DOCKER_HOST), so Docker is not running: ", self.problem()
        )

    def test_a_file_that_is_no_socket(self) -> None:
        self.path.touch()
        self.assertIn(f"unix://{self.path} (DOCKER_HOST) is no socket: correct DOCKER_HOST", self.problem())

    def test_a_listener_that_closes(self) -> None:
        with self.listening(b""):
            self.assertRegex(
                self.problem(),
                r"something listens at .*, but it does not answer as Docker does: .*; see whether Docker runs there "
                r"\(`docker version`\), else correct DOCKER_HOST$",
            )

    def test_a_listener_that_is_not_docker(self) -> None:
        with self.listening(b"HTTP/1.0 404 Not Found\r\n\r\nnobody here"):
            self.assertIn("does not answer as Docker does: it says nobody here; see whether", self.problem())

    def test_a_port_that_refuses(self) -> None:
        self.assertIn("nothing listens at tcp://127.0.0.1:1 ", self.problem(DOCKER_HOST="tcp://127.0.0.1:1"))

    def test_docker_desktop(self) -> None:
        path = self.path.parent / ".docker" / "run" / "docker.sock"
        self.assertIn("Docker Desktop is not running, start it", self.problem(DOCKER_HOST=f"unix://{path}"))

    def test_a_context_that_is_not_there(self) -> None:
        changes = {"DOCKER_HOST": "", "DOCKER_CONTEXT": "nowhere"}
        self.assertIn("see `docker context ls`", self.problem(**changes))

    @contextmanager
    def listening(self, answer: bytes) -> Iterator[None]:
        """Somebody accepts connections at the path, says that, and closes."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen()

            def serve() -> None:
                with suppress(OSError):  # The listener is shut down.
                    while True:
                        connection, _ = listener.accept()
                        with connection, suppress(OSError):  # Who only looks whether somebody listens has left.
                            connection.recv(1000) if answer else None
                            connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join(5)


class ProcessesTest(DoctorTest):
    def setUp(self) -> None:
        super().setUp()
        self.environment.update(DOCKER_HOST="unix:///nowhere/docker.sock")
        self.environment.pop("ITEST_ENGINE", None)

    def test_local_processes_do_instead(self) -> None:
        output, _ = self.itest_any("doctor", "--json")
        found = json.loads(output)
        servers = [each for each in found["findings"] if each["name"] == "process" and "would stand in" in each["said"]]
        if not any("Valkey" in each["said"] or "Redis" in each["said"] for each in servers):
            self.skipTest("there is no server for local processes here")
        self.assertTrue(found["ok"], output)
        self.assertRegex(self.said(found["findings"], "process", "ok"), r"was started in .* and was stopped")
        self.assertIn("not used: there is no Docker socket", self.said(found["findings"], "docker", "note"))
        self.assertIn("tests run on local processes, not Docker (as ", self.said(found["findings"], "engine", "ok"))

    def itest_any(self, *arguments: str) -> tuple[str, str]:
        process = self.start(*arguments)
        return process.communicate(timeout=120)

    def test_nothing_at_all(self) -> None:
        findings = self.doctor(code=1, ITEST_REDIS_BIN="/nowhere/redis-server", ITEST_POSTGRES_BIN="/nowhere")
        self.assertIn("the setting redis_bin names '/nowhere/redis-server'", self.said(findings, "process", "problem"))
        self.assertIn("no server is here that could be started: pip install", self.said(findings, "process", "problem"))

    def test_a_setting_that_names_no_server_is_a_problem_where_that_would_be_used(self) -> None:
        findings = self.doctor(code=1, ITEST_ENGINE="process", ITEST_REDIS_BIN="/nowhere/redis-server")
        said = "not used: the setting redis_bin names '/nowhere/redis-server', which does not run as a Redis server"
        self.assertIn(said, self.said(findings, "process", "problem"))
        findings = self.doctor(code=1, ITEST_ENGINE="process", ITEST_REDIS_BIN="/nowhere/redis-server", **nowhere())
        self.assertEqual(self.said(findings, "process", "note"), "")

    def test_where_all_servers_are_external_no_engine_is_needed(self) -> None:
        for engine in ("docker", "process", "auto"):
            findings = self.doctor(code=1, ITEST_ENGINE=engine, **nowhere())
            self.assertIn("not used: there is no Docker socket", self.said(findings, "docker", "note"))
            problems = {finding["name"] for finding in findings if finding["level"] == "problem"}
            self.assertEqual(problems, {"postgres", "redis", "kafka"})
        findings = self.doctor(code=1, ITEST_ENGINE="docker", ITEST_REDIS_URL=nowhere()["ITEST_REDIS_URL"])
        self.assertIn("not used: there is no Docker socket", self.said(findings, "docker", "problem"))

    def test_an_external_server_that_is_not_there(self) -> None:
        findings = self.doctor(code=1, ITEST_REDIS_URL="redis://:hush-hush-hush@127.0.0.1:1")
        self.assertRegex(
            self.said(findings, "redis", "problem"),
            r"^the external server 127\.0\.0\.1:1 cannot be used \(.*refused\.\): start it, or correct ITEST_REDIS_URL$",
        )
        self.assertNotIn("hush", json.dumps(findings))
