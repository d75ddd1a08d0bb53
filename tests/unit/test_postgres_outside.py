# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a server without asking it: here this process stands for the server's first one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from itest.services.postgres import outside
from itest.services.postgres.outside import Outside

CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def server(place: Path | None, root: Path | None = None) -> Any:
    instance = SimpleNamespace(owned=True, root=lambda: root)
    if place is not None:
        instance.place = place
    return cast(Any, SimpleNamespace(instance=instance))


@unittest.skipUnless(CHILDREN.exists(), "this kernel does not list children")
class OutsideTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="itest-")))
        self.data = self.place / "data"
        self.data.mkdir()
        (self.data / "postmaster.pid").write_text(f"{os.getpid()}\n{self.data}\n")
        (self.data / "postgresql.auto.conf").write_text("# settings\n")
        (self.data / "pg_replslot").mkdir()
        self.outside = Outside(server(self.place))
        self.addCleanup(self.outside.close)

    def test_it_is_the_same_as_long_as_nothing_happens(self) -> None:
        seen = self.outside.look()
        self.assertIsNotNone(seen)
        self.assertEqual(self.outside.look(), seen)

    def test_a_session_more_and_one_in_its_place(self) -> None:
        seen = [self.outside.look()]
        for _ in range(2):
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as session:
                seen.append(self.outside.look())
                session.communicate(b"\n", timeout=30)
            self.assertEqual(self.outside.look(), seen[0])
        self.assertEqual(len({*seen}), 3)

    def test_alter_system_writes_another_file(self) -> None:
        seen = self.outside.look()
        (self.data / "new").write_text("# settings\n")
        (self.data / "new").replace(self.data / "postgresql.auto.conf")
        self.assertNotEqual(self.outside.look(), seen)

    def test_a_replication_slot(self) -> None:
        seen = self.outside.look()
        (self.data / "pg_replslot" / "made").mkdir()
        self.assertNotEqual(self.outside.look(), seen)

    def test_what_cannot_be_seen(self) -> None:
        for name in ("postgresql.auto.conf", "postmaster.pid"):
            (self.data / name).unlink()
            gone = Outside(server(self.place))
            self.addCleanup(gone.close)
            self.assertIsNone(gone.look(), name)
        self.assertIsNone(Outside(server(None)).look())
        with mock.patch.object(outside, "SURE", 1):  # A list that may not be all of it.
            self.assertIsNone(self.outside.look())
        self.outside.close()
        self.assertIsNone(self.outside.look())

    def test_a_container_whose_first_process_is_another(self) -> None:
        """It has been started by a script that stays: its children are not the server's."""
        root = Path(f"/proc/{os.getpid()}/root")
        with mock.patch.object(outside, "_first_process", return_value=7):
            self.assertIsNone(Outside(server(None, root)).look())


if __name__ == "__main__":
    unittest.main()
