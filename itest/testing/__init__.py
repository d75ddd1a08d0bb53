# SPDX-License-Identifier: Apache-2.0
"""For tests of itest, of services and of engines: an engine in memory, a clock by hand, conformance test classes.

memory.py       an engine and a service with no server behind them
conformance.py  what every engine and every service must do

Nothing here is used by itest itself, and no engine is ever chosen from here by itself.
"""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from itest import session as sessions
from itest.clock import SYSTEM, Clock
from itest.config import Config, load
from itest.engines import Engine
from itest.testing.conformance import EngineConformance, ServiceConformance
from itest.testing.memory import MemoryEngine, MemoryInstance, MemoryLease, MemoryServer, MemoryService, MemoryView

__all__ = [
    "EngineConformance",
    "ManualClock",
    "MemoryEngine",
    "MemoryInstance",
    "MemoryLease",
    "MemoryServer",
    "MemoryService",
    "MemoryView",
    "ServiceConformance",
    "session",
]


class ManualClock:
    """A clock that moves only when told to, or when somebody sleeps. `slept` lists the pauses, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@contextlib.contextmanager
def session(*engines: Engine, clock: Clock = SYSTEM, **settings: Any) -> Iterator[sessions.Session]:
    """Within the `with`, tests of this process run on these engines and settings; the session is closed after it.

    Without engines, the usual ones are used and the settings are added to those of files and environment.
    """
    config = Config(**{"quiet": True, **settings}) if engines else replace(load(), **settings)
    ours = sessions.Session(config, engines or None, clock)
    before = sessions.install(ours)
    try:
        yield ours
    finally:
        sessions.install(before)
        ours.close()


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """Nothing here is to be run as it stands, though discovery takes the file, by its name, for one with tests."""
    return unittest.TestSuite()
