# SPDX-License-Identifier: Apache-2.0
"""Tests of itest. What the README shows is among them: see readme.py."""

from __future__ import annotations

import unittest
from pathlib import Path

from tests import readme

HERE = Path(__file__).resolve().parent


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """All tests below this directory, and the README's. unittest calls it in place of its own discovery."""
    if pattern is None:  # `python -m unittest tests`: discovery comes here again, with a pattern.
        return loader.discover(str(HERE), top_level_dir=str(HERE.parent))
    tests.addTests(loader.discover(str(HERE), pattern, str(HERE.parent)))
    tests.addTests(readme.suite(loader, HERE.parent / "README.md"))
    return tests
