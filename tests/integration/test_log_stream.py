# SPDX-License-Identifier: Apache-2.0
"""The logs of real servers on their way to `logging`, from a container and from a local process."""

from __future__ import annotations

import logging
import threading
import unittest

from itest import ContainerTestCase, Redis, RedisMixin, testing
from tests.unit.inner import run as run_inner


class LogStreamTest(unittest.TestCase):
    def test_from_a_container(self) -> None:
        self.check("docker")

    def test_from_a_local_process(self) -> None:
        self.check("process")

    def check(self, engine: str) -> None:
        logger = logging.getLogger("itest.redis")
        messages: list[str] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                messages.append(record.getMessage())

        handler, level = Keep(), logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        self.addCleanup(logger.setLevel, level)
        self.addCleanup(logger.removeHandler, handler)

        class Inner(RedisMixin, ContainerTestCase):
            redis = Redis(scope="class")

            def test_a(self) -> None:
                self.assertEventually(lambda: any("eady to accept" in line for line in messages), timeout=10)

        with testing.session(engine=engine, logging=True, quiet=True, require="0"):
            result = run_inner(Inner)
        if result.skipped:
            self.skipTest(result.skipped[0][1])
        self.assertEqual([text for _, text in result.failures + result.errors], [])
        self.assertEqual([each.name for each in threading.enumerate() if each.name.startswith("itest-log")], [])
