# SPDX-License-Identifier: Apache-2.0
"""What docs/images.md shows, run."""

from __future__ import annotations

import unittest
from pathlib import Path

import itest
from itest.config import load
from itest.engines.docker import DockerEngine
from tests import readme

PAGE = Path(__file__).resolve().parents[2] / "docs" / "images.md"


def setUpModule() -> None:
    engine = DockerEngine(load())
    reason = engine.unavailable()
    engine.close()
    if reason:
        raise unittest.SkipTest(f"Docker cannot be used: {reason}")


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return readme.suite(loader, PAGE) if "Container" in itest.__all__ else tests
