# SPDX-License-Identifier: Apache-2.0
"""What docs/async.md shows, run."""

from __future__ import annotations

import unittest
from pathlib import Path

from tests import readme

PAGE = Path(__file__).resolve().parents[2] / "docs" / "async.md"


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return readme.suite(loader, PAGE)
