# SPDX-License-Identifier: Apache-2.0
"""examples/tutorials run, in one process and by parallel workers; and docs/tutorials.md counts its lines rightly."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import unittest

from itest.config import load
from tests import code_lines
from tests.documents import ROOT

PROJECT = ROOT / "examples" / "tutorials"
PAGE = ROOT / "docs" / "tutorials.md"
ROW = re.compile(r"^\| (?P<name>.+?) \| (?P<theirs>\d+) \| (?P<ours>\d+) \| (?P<fewer>\d+) \| (?P<files>.+) \|$", re.M)
FILE = re.compile(r"\((\.\./examples/tutorials/tests/[\w/]+\.py)\)")


class RunTest(unittest.TestCase):
    def run_project(self, *arguments: str) -> str:
        # What needs Docker skips without it.
        optional = {"ITEST_REQUIRE": "0"} if load().engine == "process" else {}
        environment = {**os.environ, **optional, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-W", "error", "-m", *arguments]
        run = subprocess.run(argv, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        return run.stderr

    def test_every_example_runs(self) -> None:
        said = self.run_project("unittest", "discover", "-v", "-s", "tests", "-t", ".")
        modules = set(re.findall(r"^test_\w+ \((tests[\w.]+?)\.\w+\.\w+\)|in (tests[\w.]+)", said, re.M))
        there = {
            ".".join(file.relative_to(PROJECT).with_suffix("").parts) for file in PROJECT.glob("tests/*/test_*.py")
        }
        if "skipped=" not in said:
            self.assertEqual({module for module, _ in modules}, there)

    def test_parallel_workers_need_nothing_more(self) -> None:
        said = self.run_project(
            "unittest_parallel", "-j", "2", "-s", "tests/python_apis", "-t", ".", "-p", "test_s*.py"
        )
        self.assertRegex(said, r"Ran 4 tests")
        # Not in all lines: what other tests have killed just now may be swept, and that is said too.
        started = re.findall(r"^itest: PostgreSQL .*, ready in ", said, re.MULTILINE)
        self.assertLessEqual(len(started), 1, "one server for both workers")


class CountTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.page = PAGE.read_text(encoding="utf-8")
        cls.rows = list(ROW.finditer(cls.page))

    def test_each_row_is_right_and_shorter(self) -> None:
        for row in self.rows:
            with self.subTest(row["name"]):
                files = [PAGE.parent / file for file in FILE.findall(row["files"])]
                ours = sum(code_lines.python(file.read_text(encoding="utf-8")) for file in files)
                self.assertEqual(ours, int(row["ours"]))
                self.assertEqual(int(row["theirs"]) - ours, int(row["fewer"]))
                self.assertGreater(int(row["fewer"]), 0)

    def test_the_command_that_the_page_names_counts_them(self) -> None:
        [arguments] = re.findall(r"`python -m (tests\.code_lines [^`]*)`", " ".join(self.page.split()))
        run = subprocess.run(
            f"{shlex.quote(sys.executable)} -m {arguments}",
            shell=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        for row in self.rows:
            for file in FILE.findall(row["files"]):
                self.assertIn(f"{file.removeprefix('../')}: ", run.stdout)

    def test_the_sum_is_right(self) -> None:
        ours, theirs = (sum(int(row[side]) for row in self.rows) for side in ("ours", "theirs"))
        text = " ".join(self.page.split())
        self.assertIn(f"{ours} lines of code stand where there were {theirs}: {theirs - ours} fewer", text)

    def test_every_module_is_there_once(self) -> None:
        named = [str((PAGE.parent / file).resolve()) for file in FILE.findall(self.page)]
        there = [str(file) for file in PROJECT.glob("tests/*/*.py") if file.name != "__init__.py"]
        self.assertEqual(sorted(named), sorted(there))


class CodeLinesTest(unittest.TestCase):
    def test_python(self) -> None:
        source = '"""A docstring\n\nof three lines."""\n\n# A comment.\nx = """\n\nno docstring"""  # Two lines.\n\n\ndef f():\n    """Doc."""\n    return (\n        x\n    )\n'
        self.assertEqual(code_lines.python(source), 6)

    def test_other_languages(self) -> None:
        self.assertEqual(code_lines.other("// A comment.\n#[test]\n\nfn f() {\n    g() // Counts.\n}\n"), 4)

    def test_the_examples_of_a_page(self) -> None:
        text = (
            "Text.\n\n```python\n# One.\nx = 1\n```\n\n```rust\nlet x = 1;\n```\n\n```python\n[ini\na = b\n# c\n```\n"
        )
        self.assertEqual(list(code_lines.examples(text)), [(3, "python", 1), (8, "rust", 1), (12, "python", 2)])
