# SPDX-License-Identifier: Apache-2.0
"""What programs say of their version is remembered."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from itest import versions
from itest.clock import Deadline
from itest.engines import launcher
from itest.versions import Answer

SAYS = f"Python {sys.version.split(maxsplit=1)[0]}\n"


def runs(pid: int) -> bool:
    """Whether it does, on Linux; a zombie does not."""
    fields = launcher._stat(pid)
    return fields is not None and fields[0] not in "ZX"


class SaidTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cache = self.directory / "cache"
        self.ask = self.enterContext(mock.patch.object(versions, "ask", wraps=versions.ask))

    def said(self, program: str = sys.executable) -> str:
        return versions.said(program, self.cache).text

    def program(self, text: str, name: str = "program") -> str:
        file = self.directory / name
        file.write_text(text)
        file.chmod(0o755)
        return str(file)

    def problem(self, program: str) -> str:
        return versions.said(program, self.cache).problem

    def test_a_program_that_may_not_be_read_is_asked_each_time(self) -> None:
        with mock.patch.object(versions, "_is_script", side_effect=PermissionError):
            self.assertEqual([self.said(), self.said()], [SAYS, SAYS])
        self.assertEqual(self.ask.call_count, 2)

    def test_a_program_is_asked_once(self) -> None:
        self.assertEqual([self.said(), self.said()], [SAYS, SAYS])
        self.assertEqual(self.ask.call_count, 1)

    def test_another_program_of_that_name_is_asked_anew(self) -> None:
        program = str(self.directory / "program")
        shutil.copyfile("/bin/sh", program)
        os.chmod(program, 0o755)
        with mock.patch.object(versions, "ask", return_value=Answer("one")):
            self.said(program)
        os.utime(program, ns=(1, 1))
        with mock.patch.object(versions, "ask", return_value=Answer("two")):
            self.assertEqual([self.said(program), self.said(program)], ["two", "two"])

    def test_a_script_is_asked_each_time_since_it_may_run_anything(self) -> None:
        what = self.directory / "what"
        script = self.program(f"#!/bin/sh\ncat {what}\n")
        for text in ("one", "two"):
            what.write_text(text)
            self.assertEqual(self.said(script), text)

    def test_one_that_does_not_run_says_why(self) -> None:
        library = "error while loading shared libraries: libssl.so.3: cannot open shared object file"
        for program, why in {
            "/nowhere": "No such file or directory",
            str(self.directory): "it is a directory",
            self.program("\0 not of this machine", "foreign"): "Exec format error",
            self.program("#!/no/such/interpreter\n", "script"): "its interpreter or loader is not there",
            self.program(f"#!/bin/sh\necho 1.2\necho '{library}' >&2\nexit 127", "lacking"): (
                f"`--version` exited with code 127: {library}"
            ),
            self.program("#!/bin/sh\nkill -9 $$", "dying"): "`--version` was killed by SIGKILL: it said nothing",
        }.items():
            with self.subTest(program):
                self.assertEqual(self.problem(program), why)
        self.assertFalse(self.cache.exists())

    def test_one_that_hangs_is_asked_once_and_ends_with_what_it_has_started(self) -> None:
        pids = self.directory / "pids"
        program = self.program(f"#!/bin/sh\nsleep 1000 &\necho $$ $! > {pids}\nwait\n")
        with mock.patch.object(versions, "WAIT", 2.0):
            for _ in range(3):
                self.assertEqual(self.problem(program), "`--version` had not ended after 2 s")
        self.assertEqual(self.ask.call_count, 1)
        for pid in map(int, pids.read_text().split()):
            deadline = Deadline.after(10)
            while runs(pid):
                self.assertFalse(deadline.passed, f"process {pid} still runs")
                deadline.pause(0.01)

    def test_one_that_was_mended_is_asked_again(self) -> None:
        self.assertEqual(
            self.problem(self.program("#!/bin/sh\nexit 3\n")), "`--version` exited with code 3: it said nothing"
        )
        self.assertEqual(self.said(self.program("#!/bin/sh\necho 1.2\n")), "1.2\n")
        os.chmod(self.directory / "program", 0o600)
        self.assertEqual(self.problem(str(self.directory / "program")), "Permission denied")
        os.chmod(self.directory / "program", 0o700)
        self.assertEqual(self.said(str(self.directory / "program")), "1.2\n")

    def test_java_says_it_to_standard_error(self) -> None:
        program = self.program('#!/bin/sh\necho "$1" >&2\n')
        self.assertEqual(versions.ask(program, "-version"), Answer("-version\n"))

    def test_what_cannot_be_read_or_written_does_not_matter(self) -> None:
        self.cache.mkdir()
        facts = [os.stat(sys.executable).st_size, os.stat(sys.executable).st_mtime_ns]
        for text in (
            "",
            "[1]",
            "[" * 100_000,
            json.dumps({sys.executable: 1}),
            json.dumps({sys.executable: [*facts, 7]}),
        ):
            (self.cache / versions.FILE).write_text(text)
            self.assertEqual(self.said(), SAYS)
        self.assertEqual(self.ask.call_count, 5)
        self.cache = self.directory / "file"
        self.cache.touch()
        self.assertEqual(self.said(), SAYS)

    def test_others_stay_known(self) -> None:
        self.said()
        with mock.patch.object(versions, "ask", return_value=Answer("a shell")):
            self.said(os.path.realpath("/bin/sh"))
        self.assertEqual([self.said(), self.said(os.path.realpath("/bin/sh"))], [SAYS, "a shell"])
        self.assertEqual(self.ask.call_count, 1)
