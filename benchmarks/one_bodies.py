# SPDX-License-Identifier: Apache-2.0
"""The one test of a run, whoever has started its services: it asks each of them something, and notes when."""

from __future__ import annotations

import json
import os
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENTS = "ITEST_BENCHMARK_MOMENTS"
"""The variable with the path of the file for the moments, which are seconds since 1970: the parent reads the same clock."""


class OneTest(unittest.TestCase):
    """Base of both suites; the subclasses have the clients."""

    def note(self, *questions: Callable[[], object]) -> None:
        """Ask, and write when the test began, and when it had its last answer, which is its end."""
        moments = {"test": time.time()}
        for ask in questions:
            ask()
        moments["end"] = time.time()
        Path(os.environ[MOMENTS]).write_text(json.dumps(moments), encoding="utf-8")


def ask_postgres(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def ask_redis(client: Any) -> None:
    assert client.ping()
