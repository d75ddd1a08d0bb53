# SPDX-License-Identifier: Apache-2.0
"""Measuring: a stopwatch that test bodies start and stop, and rounds in which all contenders take their turn.

What is measured is the time from the last line of one test's body to the first line of the next one's, with the client
in hand. So everything counts that happens between two tests, whoever does it: set-up, tear-down, the runner itself.
"""

from __future__ import annotations

import statistics
import unittest
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

SEED = 20240229
"""Of everything random, so that each contender and each run does the same work."""

WARM_UP = 3
"""Gaps at the start of a batch that are not counted: caches fill, server processes plan."""

FEWEST = 3
"""Gaps in a batch however slow the contender is."""

CELL_SECONDS = 25.0
"""A contender that has used up this much gets no further round."""

SEND_RECEIVE = "send + receive"
"""The part of a Kafka body that is timed by itself: one message, sent and acknowledged, then received."""


class BenchmarkError(Exception):
    """A contender did not do what it is measured for."""


class Stopwatch:
    """Times, in seconds, of one batch. `parts` are lengths within bodies, by name."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.parts: dict[str, list[float]] = {}
        self._ended: float | None = None

    def start(self) -> None:
        """The first line of a body."""
        now = perf_counter()
        if self._ended is not None:
            self.gaps.append(now - self._ended)

    def stop(self) -> None:
        """The last line of a body."""
        self._ended = perf_counter()

    def part(self, name: str, seconds: float) -> None:
        """Note how long something took within a body."""
        self.parts.setdefault(name, []).append(seconds)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: `size` tables (or keys, or topics), of which a body dirties `dirty`."""

    service: str
    size: int
    dirty: int


@dataclass(slots=True)
class Contender:
    """A strategy in one cell. `run(tests, seconds)` runs so many tests, or fewer when that much time is over."""

    strategy: str
    cell: Cell
    ours: bool
    run: Callable[[int, float], Stopwatch]
    gaps: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    used: float = 0.0

    def batch(self, tests: int, seconds: float) -> None:
        started = perf_counter()
        watch = self.run(tests, seconds)
        self.gaps += counted(watch.gaps)
        for name, lengths in watch.parts.items():
            self.parts.setdefault(name, []).extend(counted(lengths))
        self.used += perf_counter() - started


def take_turns(
    contenders: Sequence[Contender], rounds: int, tests: int, seconds: float, say: Callable[[str], None]
) -> None:
    """Run all contenders, a batch each per round, so that a slow minute of the machine hits all of them alike."""
    for number in range(1, rounds + 1):
        started = perf_counter()
        for contender in contenders:
            if contender.used < CELL_SECONDS:
                contender.batch(tests, seconds)
        say(f"round {number} of {rounds} took {perf_counter() - started:.0f} s")


def counted(lengths: Sequence[float]) -> list[float]:
    """The lengths of a batch without its warm-up."""
    return list(lengths[min(WARM_UP, len(lengths) // 3) :])


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one contender or part: how many lengths, their median and 90th percentile in milliseconds."""

    count: int
    median: float
    p90: float


def summary(lengths: Sequence[float]) -> Summary:
    if not lengths:
        raise BenchmarkError("nothing was measured")
    ordered = sorted(lengths)
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return Summary(len(ordered), statistics.median(ordered) * 1000, p90 * 1000)


class Timed(unittest.TestCase):
    """Base of the classes that are measured: `test_body` calls `watch.start()` first and `watch.stop()` last."""

    watch: ClassVar[Stopwatch]


class _Result(unittest.TestResult):
    """A plain result that ends the run when its time is over and enough has been measured."""

    def __init__(self, watch: Stopwatch, seconds: float) -> None:
        super().__init__()
        self._watch = watch
        self._seconds = seconds
        self._until: float | None = None

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if self._until is None:  # What a class needs once is not part of the time between its tests.
            self._until = perf_counter() + self._seconds
        elif perf_counter() > self._until and len(self._watch.gaps) >= FEWEST:
            self.stop()


def run_tests(case: type[Timed], tests: int, seconds: float) -> Stopwatch:
    """Run `case.test_body` as so many tests of one class, as any runner does it.

    Raises BenchmarkError when one of them does not pass, because then what was timed is not what it is called.
    """
    watch = case.watch = Stopwatch()
    result = _Result(watch, seconds)
    unittest.TestSuite([case("test_body") for _ in range(tests)]).run(result)
    for test, text in [*result.errors, *result.failures, *result.skipped]:
        raise BenchmarkError(f"{test} did not pass: {text}")
    return watch
