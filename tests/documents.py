# SPDX-License-Identifier: Apache-2.0
"""Documentation pages as tests: each example names its file, and all of them together are a project whose tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^(?:#|--|//) (?P<file>[\w/.-]+\.\w+)\n")
NAMED_IN_TEXT = re.compile(r"`(?P<file>[\w/.-]+\.\w+)`:\n\n\Z")
"""For formats without comments (JSON, CSV): the text before the block ends with the file's name."""


def files_in(text: str) -> dict[str, str]:
    """The examples by file name. Raises AssertionError for one that names none: it would never be run."""
    found: dict[str, str] = {}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block["language"] == "console":
            continue
        name = NAME.match(block["source"]) or NAMED_IN_TEXT.search(text[: block.start()])
        assert name is not None, f"line {line}: the example names no file"
        found[name["file"]] = block["source"]
    return found


def check_document(test: unittest.TestCase, page: str) -> None:
    """Write the examples of a page into an empty project and run its tests; none may fail."""
    check_project(test, files_in((ROOT / page).read_text(encoding="utf-8")))


def check_project(test: unittest.TestCase, files: Mapping[str, str]) -> None:
    """Run the tests of a project of these files in a process of its own. Skips where they all skip."""
    with tempfile.TemporaryDirectory() as directory:
        for name, source in files.items():
            file = Path(directory, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(source), encoding="utf-8")
        Path(directory, "tests", "__init__.py").touch()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-W", "error", "-m", "unittest", "discover", "-v", "-s", "tests", "-t", "."]
        run = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
    test.assertEqual(run.returncode, 0, run.stdout + run.stderr)
    if re.search(r"Ran 0 tests", run.stderr) and "skipped=" in run.stderr:
        test.skipTest(run.stderr)
    test.assertRegex(run.stderr, r"Ran [1-9]\d* tests?")
