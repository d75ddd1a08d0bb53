# SPDX-License-Identifier: Apache-2.0
"""What a test leaves behind: threads are found here, and what services find is reported here.

What is found at the next reset is said on standard error with the name of the test that left it. With `strict` it is
looked for at the end of each test, collected, and fails that test.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection

from itest import trace

THREAD_GRACE = 0.05
"""Seconds that a thread has to end by itself: many are just about to."""

_SPARED = ("itest", "asyncio_", "uvloop_")
"""What the names of threads begin with that are not a test's: ours, and those of event loops, which outlive tests."""

_current = threading.local()


def report(line: str) -> None:
    """Say what a test left behind, or have it fail that test."""
    collected: list[str] | None = getattr(_current, "collected", None)
    if collected is None:
        trace.say(line)
    else:
        collected.append(line)


def are_collected() -> bool:
    """Whether what is reported on this thread will fail the running test."""
    return getattr(_current, "collected", None) is not None


def begin() -> None:
    """From here on, what is reported on this thread is the running test's and is collected."""
    _current.collected = []


def end() -> list[str]:
    """What was collected since `begin`."""
    collected: list[str] | None = getattr(_current, "collected", None)
    _current.collected = None
    return collected or []


def threads() -> frozenset[threading.Thread]:
    """Those that run now."""
    return frozenset(threading.enumerate())


def report_threads(test: str, before: Collection[threading.Thread]) -> None:
    """Report the threads that were not there before, and for whose end the interpreter would wait."""
    left = [each for each in threading.enumerate() if each not in before and not each.daemon]
    # What runs Django's async ORM keeps its thread for the whole process.
    executor = getattr(getattr(sys.modules.get("asgiref.sync"), "SyncToAsync", None), "single_thread_executor", None)
    spared = getattr(executor, "_threads", ())
    for thread in left:
        if thread.name.startswith(_SPARED) or thread is threading.current_thread() or thread in spared:
            continue
        thread.join(THREAD_GRACE)
        if thread.is_alive():
            report(f"{test} left a thread behind, which runs on: {thread.name!r}{_target(thread)}")


def _target(thread: threading.Thread) -> str:
    """What it runs, as far as it tells."""
    target = getattr(thread, "_target", None)
    name = getattr(target, "__qualname__", "")
    return f", {getattr(target, '__module__', '')}.{name}()" if name else ""
