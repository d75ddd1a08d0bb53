# SPDX-License-Identifier: Apache-2.0
"""Tests that only wait for other processes, run two at a time on any runner.

The runner goes through a class's tests from the first to the last. Meanwhile a thread goes from the last to the first,
and where they meet all is done. So a single selected test runs at once, without waiting for the others.
"""

from __future__ import annotations

import functools
import threading
import unittest
from collections.abc import Callable
from concurrent.futures import Future


def two_at_a_time(cls: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """Class decorator. Each test must stand for itself: it gets an instance of its own, without set-up or cleanups."""
    names = unittest.defaultTestLoader.getTestCaseNames(cls)
    bodies: dict[str, Callable[[unittest.TestCase], None]] = {name: getattr(cls, name) for name in names}

    def enter() -> None:
        jobs = _Jobs({name: functools.partial(body, cls(name)) for name, body in bodies.items()})
        cls.addClassCleanup(jobs.close)
        cls._jobs = jobs  # type: ignore[attr-defined]

    def wrapped(name: str) -> Callable[[unittest.TestCase], None]:
        @functools.wraps(bodies[name])
        def test(self: unittest.TestCase) -> None:
            cls._jobs.result(name)  # type: ignore[attr-defined]

        return test

    for name in names:
        setattr(cls, name, wrapped(name))
    cls.setUpClass = enter  # type: ignore[method-assign]
    return cls


class _Jobs:
    """Functions by name. Whoever asks for a result runs the function, or waits if the thread is at it already."""

    def __init__(self, functions: dict[str, Callable[[], None]]) -> None:
        self._futures: dict[str, Future[None]] = {name: Future() for name in functions}
        self._functions = functions
        self._closed = False
        self._thread = threading.Thread(target=self._run_backwards, name="two-at-a-time")
        self._thread.start()

    def result(self, name: str) -> None:
        self._run(name)
        self._futures[name].result()

    def close(self) -> None:
        self._closed = True
        self._thread.join()

    def _run_backwards(self) -> None:
        for name in reversed(self._functions):
            if self._closed:
                return
            self._run(name)

    def _run(self, name: str) -> None:
        future = self._futures[name]
        if not _claim(future):
            return
        try:
            self._functions[name]()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)


_claiming = threading.Lock()


def _claim(future: Future[None]) -> bool:
    """Whether it was nobody's and is ours now."""
    with _claiming:
        if future.running() or future.done():
            return False
        return future.set_running_or_notify_cancel()
