# SPDX-License-Identifier: Apache-2.0
"""Looking into a container from outside: only into that very one, and never by a link that leads out of it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from itest.container_root import root_of, socket_in


@unittest.skipUnless(sys.platform == "linux", "Linux shows processes their containers' files")
class RootTest(unittest.TestCase):
    def setUp(self) -> None:
        # As good as a container's id: what the names of this process's own control groups have in common.
        self.group = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[0]

    def test_the_root_of_a_process_in_the_containers_control_group(self) -> None:
        root = root_of(self.group, os.getpid())
        self.assertEqual(root, Path(f"/proc/{os.getpid()}/root"))

    def test_a_process_of_another_group(self) -> None:
        self.assertIsNone(root_of("0" * 64, os.getpid()))

    def test_a_process_that_has_ended(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait(30)
        self.assertIsNone(root_of(self.group, process.pid))


class SocketTest(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="itest-")))
        (self.root / "run" / "server").mkdir(parents=True)
        listening = self.enterContext(contextlib.closing(socket.socket(socket.AF_UNIX)))
        listening.bind(str(self.root / "run" / "server" / "its.socket"))

    def test_a_socket(self) -> None:
        self.assertEqual(socket_in(self.root, "run", "server", "its.socket"), self.root / "run/server/its.socket")

    def test_what_is_none(self) -> None:
        (self.root / "run" / "file").touch()
        for path in (("run", "file"), ("run", "server"), ("run", "nothing"), ("run", "file", "its.socket")):
            with self.subTest(path):
                self.assertIsNone(socket_in(self.root, *path))

    def test_links_are_not_followed(self) -> None:
        (self.root / "var").symlink_to(self.root)
        (self.root / "run" / "link").symlink_to(self.root / "run" / "server" / "its.socket")
        self.assertIsNone(socket_in(self.root, "var", "run", "server", "its.socket"))
        self.assertIsNone(socket_in(self.root, "run", "link"))


if __name__ == "__main__":
    unittest.main()
