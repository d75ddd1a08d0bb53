# SPDX-License-Identifier: Apache-2.0
"""What docs/command-line.md shows, typed: each command of a console block must end with 0 and print what stands there.

`...` stands for anything, as in doctest; `> ` goes on with a command. A doctor that finds a problem ends with 1.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import unittest
from pathlib import Path

from tests.documents import files_in
from tests.integration.test_command_line import CommandLineTest
from tests.programs import write_program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"
BLOCK = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (?P<command>.*\n(?:> .*\n)*)(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


class PageTest(CommandLineTest):
    def test_the_page(self) -> None:
        self.need_engine()
        text = PAGE.read_text(encoding="utf-8")
        for name, source in files_in(text).items():
            self.place.joinpath(name).write_text(source, encoding="utf-8")
        self.place.joinpath("tests", "test_people.py").write_text(
            files_in(text)["tests/test_people.py"], encoding="utf-8"
        )
        programs = self.place / "bin"
        for name, argv in (("itest", f"{sys.executable} -m itest"), ("python", sys.executable)):
            write_program(programs / name, f'exec {argv} "$@"')
        environment = {**self.environment, "PATH": f"{programs}:{self.environment['PATH']}"}
        self.addCleanup(self.itest, "down", "--all")
        checker = doctest.OutputChecker()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        typed = [found for block in BLOCK.finditer(text) for found in COMMAND.finditer(block["text"])]
        self.assertGreater(len(typed), 8)
        for found in typed:
            command = re.sub(r"^> ", "", found["command"], flags=re.MULTILINE)
            with self.subTest(command):
                run = subprocess.run(
                    ["sh", "-c", command], cwd=self.place, env=environment, capture_output=True, text=True, timeout=120
                )
                self.assertEqual(run.returncode, 1 if '"ok": false' in run.stdout else 0, run.stdout + run.stderr)
                self.assertTrue(checker.check_output(found["output"], run.stdout, flags), run.stdout + run.stderr)


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return unittest.TestSuite([PageTest("test_the_page")])
