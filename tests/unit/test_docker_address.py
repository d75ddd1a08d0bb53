# SPDX-License-Identifier: Apache-2.0
"""Where Docker is, the sentence for each reason why it cannot be used, and free ports."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from itest.config import Config
from itest.engines import docker_address, ports
from itest.engines.docker import DockerEngine
from itest.engines.docker_address import Address, locate, problem
from itest.engines.ports import free_port
from itest.errors import Unavailable


class AddressTest(unittest.TestCase):
    def setUp(self) -> None:
        self.home = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.environment = {"HOME": str(self.home)}

    def context(self, name: str, host: str, current: bool = True, certificates: bool = False) -> None:
        key = hashlib.sha256(name.encode()).hexdigest()
        meta = self.home / ".docker/contexts/meta" / key
        meta.mkdir(parents=True)
        meta.joinpath("meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
        if certificates:
            (self.home / ".docker/contexts/tls" / key / "docker").mkdir(parents=True)
        if current:
            (self.home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))

    def test_docker_host_wins_over_the_context(self) -> None:
        self.context("colima", "unix:///colima.sock")
        address = locate({**self.environment, "DOCKER_HOST": "tcp://10.0.0.5:2375", "DOCKER_CONTEXT": "colima"})
        self.assertEqual(address, Address("tcp://10.0.0.5:2375", "DOCKER_HOST"))
        self.assertEqual(address.host, "10.0.0.5")

    def test_docker_host_without_a_scheme(self) -> None:
        self.assertEqual(locate({"DOCKER_HOST": "/run/d.sock"}).url, "unix:///run/d.sock")
        self.assertEqual(locate({"DOCKER_HOST": "host:2375"}).url, "tcp://host:2375")

    def test_docker_host_without_a_port(self) -> None:
        for said, meant in (
            ("tcp://h", "tcp://h:2375"),
            ("127.0.0.1", "tcp://127.0.0.1:2375"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
        ):
            with self.subTest(said):
                self.assertEqual(locate({"DOCKER_HOST": said}).url, meant)
        self.assertEqual(locate({"DOCKER_HOST": "tcp://h", "DOCKER_CERT_PATH": "/certs"}).url, "tcp://h:2376")

    def test_docker_host_with_tls(self) -> None:
        address = locate({"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"})
        self.assertEqual((address.certificates, address.verify), (Path("/certs"), True))
        address = locate({**self.environment, "DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1"})
        self.assertEqual(address.certificates, self.home / ".docker")

    def test_docker_host_that_is_no_address(self) -> None:
        slips = ("unix://", "unix:///", "unix://nonexistent", "unix://tmp/docker.sock", "unix:/var/run/docker.sock")
        for url in ("ftp://h", "tcp://h:port", *slips):
            with self.subTest(url), self.assertRaisesRegex(Unavailable, r"\(DOCKER_HOST\) is not an address of Docker"):
                locate({"DOCKER_HOST": url})

    def test_a_password_in_the_address_is_not_shown(self) -> None:
        self.assertNotIn("hunter2", str(locate({"DOCKER_HOST": "tcp://me:hunter2@h:2375"})))

    def test_current_context(self) -> None:
        self.context("colima", "unix:///colima.sock")
        self.assertEqual(locate(self.environment), Address("unix:///colima.sock", "the docker context 'colima'"))

    def test_context_of_the_environment(self) -> None:
        self.context("remote", "tcp://far:2376", current=False, certificates=True)
        address = locate({**self.environment, "DOCKER_CONTEXT": "remote"})
        self.assertEqual(address.url, "tcp://far:2376")
        self.assertTrue(address.certificates and address.certificates.is_dir())

    def test_context_that_is_gone(self) -> None:
        with self.assertRaises(Unavailable) as caught:
            locate({**self.environment, "DOCKER_CONTEXT": "gone"})
        self.assertEqual(
            str(caught.exception),
            "the docker context 'gone' (the variable DOCKER_CONTEXT) cannot be read: see `docker context ls`, then "
            "`docker context use` one that exists",
        )

    def test_broken_configuration_means_the_default(self) -> None:
        (self.home / ".docker").mkdir()
        (self.home / ".docker/config.json").write_text("{")
        self.assertTrue(locate(self.environment).url.startswith("unix://"))

    def test_the_first_socket_that_somebody_listens_on(self) -> None:
        stale, live = self.home / "stale", self.home / "live"
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(stale))
        addresses = [Address(f"unix://{self.home / name}", name) for name in ("none", "stale", "live")]
        self.assertEqual(docker_address._first_usable(addresses).source, "stale")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(live))
            listener.listen()
            self.assertEqual(docker_address._first_usable(addresses).source, "live")
        self.assertEqual(docker_address._first_usable(addresses[:1]).source, "none")

    def test_where_published_ports_are_reached(self) -> None:
        for url, host in {
            "unix:///var/run/docker.sock": "127.0.0.1",
            "tcp://localhost:2375": "127.0.0.1",
            "tcp://127.0.0.2:2375": "127.0.0.1",
            "tcp://docker:2375": "docker",
            "ssh://me@build.example": "build.example",
        }.items():
            with self.subTest(url):
                self.assertEqual(Address(url, "x").host, host)


class ProblemTest(unittest.TestCase):
    """Each sentence says what is wrong and what to do; none takes long."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.directory / "docker.sock"
        self.address = Address(f"unix://{self.path}", "DOCKER_HOST")
        self.name = f"unix://{self.path} (DOCKER_HOST)"

    def test_no_socket(self) -> None:
        reason = DockerEngine(Config(environment={"DOCKER_HOST": f"unix://{self.path}"})).unavailable()
        self.assertEqual(
            reason,
            f"there is no Docker socket at {self.name}: start it (Docker Desktop, `colima start`, "
            f"`sudo systemctl start docker`) or set DOCKER_HOST",
        )

    def test_socket_that_refuses(self) -> None:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(self.path))
        reason = DockerEngine(Config(environment={"DOCKER_HOST": f"unix://{self.path}"})).unavailable()
        assert reason is not None
        self.assertIn(f"nothing listens at {self.name}, so Docker is not running: start it", reason)

    def test_socket_without_permission(self) -> None:
        with mock.patch.object(docker_address, "_connect_unix", side_effect=PermissionError(13, "Permission denied")):
            self.assertEqual(
                problem(self.address),
                f"this user may not use the Docker socket {self.name}: add the user to the group docker "
                f"(`sudo usermod -aG docker $USER`, then log in again) or use rootless Docker",
            )

    def test_port_that_refuses(self) -> None:
        reason = problem(Address(f"tcp://127.0.0.1:{free_port()}", "DOCKER_HOST"))
        self.assertRegex(reason or "", r"nothing listens at tcp://127.0.0.1:\d+ \(DOCKER_HOST\)")

    def test_unknown_host(self) -> None:
        with mock.patch("socket.create_connection", side_effect=socket.gaierror(-2, "Name or service not known")):
            reason = problem(Address("tcp://nowhere.invalid:2375", "DOCKER_HOST"))
        self.assertRegex(reason or "", "the host of tcp://nowhere.invalid:2375 .* is not known to this machine: ")

    def test_host_that_does_not_answer(self) -> None:
        released = threading.Event()
        self.addCleanup(released.set)
        with (
            mock.patch("socket.create_connection", side_effect=lambda *_, **__: released.wait(60) and socket.socket()),
            mock.patch.object(docker_address, "CONNECT_TIMEOUT", 0.05),
        ):
            reason = problem(Address("tcp://10.255.255.1:2375", "DOCKER_HOST"))
        self.assertRegex(reason or "", r"did not answer within 0\.05 s: correct DOCKER_HOST")

    def test_a_path_that_is_too_long_for_a_socket(self) -> None:
        reason = problem(Address(f"unix://{self.directory}/{'d' * 108}", "DOCKER_HOST"))
        self.assertRegex(
            reason or "", r"cannot be reached \(AF_UNIX path too long\): take a shorter one in DOCKER_HOST$"
        )

    def test_other_trouble(self) -> None:
        with mock.patch.object(docker_address, "_connect_unix", side_effect=OSError("no buffer space")):
            self.assertIn("cannot be reached (no buffer space): start it", problem(self.address) or "")


class FreePortTest(unittest.TestCase):
    def test_it_can_be_listened_on_and_is_not_handed_out_again(self) -> None:
        chosen = [free_port() for _ in range(50)]
        self.assertEqual(len(set(chosen)), 50)
        others = set()
        for _ in range(200):
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                others.add(other.getsockname()[1])
        if sys.platform == "linux":
            self.assertFalse(others & set(chosen))
        with socket.create_server(("127.0.0.1", chosen[0])):
            pass

    def test_one_that_somebody_has_is_not_chosen(self) -> None:
        """Neither one that is listened at, nor one that was chosen for a server that does not listen yet."""
        chosen = free_port()
        with socket.create_server(("127.0.0.1", 0)) as other:
            for taken in (chosen, other.getsockname()[1]):
                with (
                    self.subTest(taken),
                    mock.patch.object(ports, "_quiet", return_value=range(taken, taken + 1)),
                    self.assertRaisesRegex(OSError, "^no free port could be found on 127.0.0.1: Address already "),
                ):
                    free_port()

    def test_without_one_the_last_reason_is_told(self) -> None:
        lo = "; bring up the loopback interface (`ip link set lo up`), which has no such address here"
        for number, cure in ((errno.ENETUNREACH, lo), (errno.EACCES, "")):
            error = OSError(number, os.strerror(number))
            with mock.patch("socket.create_connection", side_effect=error), self.assertRaises(OSError) as caught:
                free_port()
            said = f"no free port could be found on 127.0.0.1: {error.strerror}{cure}"
            self.assertEqual(str(caught.exception), said)

    def test_where_the_system_gives_from_all_ports_it_chooses(self) -> None:
        for settings, quiet in (("1024\t60999\n", range(0)), ("32768\t60999\n", range(20_000, 30_000))):
            with self.subTest(settings), mock.patch("builtins.open", mock.mock_open(read_data=settings)):
                self.assertEqual(ports._quiet(), quiet)
                self.assertGreater(free_port(), 1023)


if __name__ == "__main__":
    unittest.main()
