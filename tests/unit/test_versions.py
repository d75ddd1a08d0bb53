# SPDX-License-Identifier: Apache-2.0
"""What programs say of their version is remembered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from itest import versions

SAYS = f"Python {sys.version.split(maxsplit=1)[0]}\n"


class SaidTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cache = self.directory / "cache"
        self.run = self.enterContext(mock.patch.object(subprocess, "run", wraps=subprocess.run))

    def said(self, program: str = sys.executable) -> str | None:
        return versions.said(program, self.cache)

    def test_a_program_that_may_not_be_read_is_asked_each_time(self) -> None:
        with mock.patch.object(versions, "_is_script", side_effect=PermissionError):
            self.assertEqual([self.said(), self.said()], [SAYS, SAYS])
        self.assertEqual(self.run.call_count, 2)

    def test_a_program_is_asked_once(self) -> None:
        self.assertEqual([self.said(), self.said()], [SAYS, SAYS])
        self.assertEqual(self.run.call_count, 1)

    def test_another_program_of_that_name_is_asked_anew(self) -> None:
        program = str(self.directory / "program")
        shutil.copyfile("/bin/sh", program)
        os.chmod(program, 0o755)
        with mock.patch.object(subprocess, "run", return_value=mock.Mock(stdout="one")):
            self.said(program)
        os.utime(program, ns=(1, 1))
        with mock.patch.object(subprocess, "run", return_value=mock.Mock(stdout="two")):
            self.assertEqual([self.said(program), self.said(program)], ["two", "two"])

    def test_a_script_is_asked_each_time_since_it_may_run_anything(self) -> None:
        script, what = self.directory / "script", self.directory / "what"
        script.write_text(f"#!/bin/sh\ncat {what}\n")
        script.chmod(0o755)
        for text in ("one", "two"):
            what.write_text(text)
            self.assertEqual(self.said(str(script)), text)

    def test_one_that_does_not_run_says_nothing_and_is_not_remembered(self) -> None:
        program = self.directory / "program"
        program.write_bytes(b"\0 not of this machine")
        program.chmod(0o755)
        self.assertIsNone(self.said(str(program)))
        self.assertIsNone(self.said("/nowhere"))
        self.assertFalse(self.cache.exists())

    def test_what_cannot_be_read_or_written_does_not_matter(self) -> None:
        self.cache.mkdir()
        facts = [os.stat(sys.executable).st_size, os.stat(sys.executable).st_mtime_ns]
        for text in ("", "[1]", json.dumps({sys.executable: 1}), json.dumps({sys.executable: [*facts, 7]})):
            (self.cache / versions.FILE).write_text(text)
            self.assertEqual(self.said(), SAYS)
        self.assertEqual(self.run.call_count, 4)
        self.cache = self.directory / "file"
        self.cache.touch()
        self.assertEqual(self.said(), SAYS)

    def test_others_stay_known(self) -> None:
        self.said()
        with mock.patch.object(subprocess, "run", return_value=mock.Mock(stdout="a shell")):
            self.said(os.path.realpath("/bin/sh"))
        self.assertEqual([self.said(), self.said(os.path.realpath("/bin/sh"))], [SAYS, "a shell"])
        self.assertEqual(self.run.call_count, 1)
