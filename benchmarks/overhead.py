# SPDX-License-Identifier: Apache-2.0
"""What itest itself costs a test that passes, split by part: services in memory, so that no server's time is in it.

The whole is the time between two empty bodies, beside the same with plain unittest. The parts are timed within it, which
adds 0.2 µs to each call; what is left of the whole is unittest's and the rest of itest's life cycle.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any
from unittest import mock

from benchmarks.measure import Timed, counted, run_tests, summary
from benchmarks.report import Report, Row, Target, machine
from itest import ContainerTestCase, case, loan, testing
from itest.diagnose import Diagnosis, Watched
from itest.service import View
from itest.testing import MemoryEngine, MemoryInstance, MemoryLease, MemoryService

LIMIT = 0.1
"""Milliseconds that the diagnosis may take of a test that passes."""

SERVICES = (0, 1, 3)
TESTS = 500
ROUNDS = 5
SECONDS = 5.0

DIAGNOSIS = "diagnosis"

_PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    DIAGNOSIS: (
        (Diagnosis, "__init__"),
        (Diagnosis, "end"),
        (Diagnosis, "keep"),
        (Watched, "__init__"),
        (Watched, "__getattr__"),
    ),
    "enter the class again": ((case, "_enter"),),
    "reset, without the service's part": ((loan.Loan, "reset"),),
    "the service's part of the reset": ((MemoryLease, "reset"),),
    "finish": ((loan.Loan, "finish"),),
    "close the views": ((View, "close"),),
}
"""The functions that each part consists of. None calls one of another part, but for the first of the resets."""


def run(rounds: int, tests: int, arguments: Sequence[str], say: Callable[[str], None]) -> Report:
    """Measure, in rounds."""
    gaps: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        gaps.setdefault(("unittest", "the whole"), []).extend(_gaps(_plain(), tests))
        for services in SERVICES:
            label = f"{services} service{'s'[: services != 1]}"
            gaps.setdefault((label, "the whole"), []).extend(_ours(services, tests))
            with _timed() as parts:
                _ours(services, tests)
            for name, lengths in parts.items():
                gaps.setdefault((label, name), []).extend(counted(lengths))
    return Report(
        "overhead", arguments, machine("memory", []), rows(gaps), targets(gaps), headings=("a class of",), unit="µs"
    )


def rows(gaps: dict[tuple[str, str], list[float]]) -> list[Row]:
    """A row for each part; ratios are to plain unittest's whole."""
    base = summary(gaps["unittest", "the whole"]).median
    found = []
    for (label, name), lengths in gaps.items():
        got = summary(lengths)
        ours = label != "unittest"
        found.append(Row(label, "", "", name, ours, got.count, got.median * 1000, got.p90 * 1000, got.median / base))
    return found


def targets(gaps: dict[tuple[str, str], list[float]]) -> list[Target]:
    most = f"{SERVICES[-1]} services"
    lengths = gaps.get((most, DIAGNOSIS))
    return [Target(f"diagnosis of a passing test, {most},", LIMIT, "ms", summary(lengths).median if lengths else None)]


def _gaps(cls: type[Timed], tests: int) -> list[float]:
    return counted(run_tests(cls, tests, SECONDS).gaps)


class _Body:
    """A test that does nothing."""

    watch: Any

    def test_body(self) -> None:
        self.watch.start()
        self.watch.stop()


def _plain() -> type[Timed]:
    return type("Plain", (_Body, Timed), {})


def _ours(services: int, tests: int) -> list[float]:
    def prepare(instance: MemoryInstance) -> None:
        # As a local process: the length of its log is noted when a test begins.
        instance.mark = lambda: os.stat(__file__).st_size  # type: ignore[attr-defined]  # one that has it

    declared = {f"memory_{number}": MemoryService(f"memory:{number}") for number in range(services)}
    cls = type("Ours", (_Body, ContainerTestCase, Timed), declared)
    with testing.session(MemoryEngine(prepare)):
        gaps = _gaps(cls, tests)
        cls.doClassCleanups()
    return gaps


@contextlib.contextmanager
def _timed() -> Iterator[dict[str, list[float]]]:
    """The length of each part, per test: what its functions took since the last test's end, seen at `Diagnosis.keep`,
    which is called last."""
    lengths: dict[str, list[float]] = {name: [] for name in _PARTS}
    current = dict.fromkeys(_PARTS, 0.0)

    def close_test() -> None:
        current["reset, without the service's part"] -= current["the service's part of the reset"]
        for name, length in current.items():
            lengths[name].append(length)
            current[name] = 0.0

    with contextlib.ExitStack() as stack:
        for part, functions in _PARTS.items():
            for owner, name in functions:
                last = (owner, name) == (Diagnosis, "keep")
                timed = _timing(getattr(owner, name), current, part, close_test if last else None)
                stack.enter_context(mock.patch.object(owner, name, timed))
        yield lengths


def _timing(
    function: Callable[..., Any], current: dict[str, float], part: str, then: Callable[[], object] | None
) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            current[part] += perf_counter() - began
            if then is not None:
                then()

    return timed
