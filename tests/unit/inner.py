# SPDX-License-Identifier: Apache-2.0
"""Tiny inner test cases, run on a plain result, and the sequence of events they leave."""

from __future__ import annotations

import unittest
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from itest import session as sessions
from itest import testing, whole_run
from itest.diagnose import HEAD
from itest.service import ServiceMixin
from itest.testing import MemoryEngine, MemoryService, MemoryView

START = "start memory:1"
STOP = ["close server", "stop memory:1"]


def suite_of(*subjects: type[unittest.TestCase] | unittest.TestCase) -> unittest.TestSuite:
    """A suite of whole classes and single tests, in this order."""
    load = unittest.TestLoader().loadTestsFromTestCase
    return unittest.TestSuite(load(subject) if isinstance(subject, type) else subject for subject in subjects)


def run(*subjects: type[unittest.TestCase] | unittest.TestCase, result: Any = None) -> unittest.TestResult:
    """Run them as a runner does: startTestRun, the suite, and stopTestRun whatever happens."""
    result = unittest.TestResult() if result is None else result
    with apart():
        result.startTestRun()
        try:
            suite_of(*subjects)(result)
        finally:
            result.stopTestRun()
    return result


def apart() -> AbstractContextManager[object]:
    """Within the `with`, runs are none within the run of the test that makes them."""
    return mock.patch.object(whole_run, "_runs", [])


def error_line(text: str) -> str:
    """The last line of a traceback, without the note about the services that follows it."""
    return text.partition(f"\n{HEAD}")[0].strip().splitlines()[-1]


class MemoryMixin(ServiceMixin):
    """Declares `memory`; `self.data` is the dict of its view."""

    memory = MemoryService()

    @property
    def data(self) -> dict[str, object]:
        return self.memory.data


class InnerTest(unittest.TestCase):
    """Base of tests that run inner tests: a session on the memory engine, whose events all go to `self.events`."""

    def setUp(self) -> None:
        self.enterContext(apart())
        self.events: list[str] = []
        self.use(MemoryEngine())

    def use(self, engine: MemoryEngine, **settings: Any) -> sessions.Session:
        """From here on, run on this engine and with these settings."""
        engine.events = self.events
        self.engine = engine
        self.session = self.enterContext(testing.session(engine, **settings))
        return self.session

    def service(self, image: str = "memory:1", **fields: Any) -> MemoryService:
        """A declaration that reports to `self.events`."""
        return MemoryService(image, events=self.events, **fields)

    def check(
        self, result: unittest.TestResult, *, ran: int, failures: int = 0, errors: int = 0, skipped: int = 0
    ) -> None:
        """The result's counts; its texts are the message if they differ."""
        found = (result.testsRun, len(result.failures), len(result.errors), len(result.skipped))
        texts = [text for _, text in [*result.failures, *result.errors, *result.skipped]]
        self.assertEqual(found, (ran, failures, errors, skipped), "\n".join(texts))

    def last_line(self, result: unittest.TestResult, number: int = 0) -> str:
        """The last line of an error's text, without the module of its type: `StartError: no such image`."""
        return error_line(result.errors[number][1]).removeprefix("itest.errors.")


__all__ = ["START", "STOP", "InnerTest", "MemoryMixin", "MemoryView", "apart", "error_line", "run", "suite_of"]
