# SPDX-License-Identifier: Apache-2.0
"""Calls that take long, at the same time: a start, a stop, a removal spend their time waiting for somebody else. One that
may take no longer than so long. And one that is made again and again, while other things go on.

Not by an executor: the interpreter's end waits for an executor's threads, and so a run that is interrupted while a server
hangs in its start would not end before that start's time limit. Its module imports logging besides.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")

LONGEST_LOOK = 1.0
"""Seconds for which the end of a lookout waits for its thread, which may be looking."""


def side_by_side(
    functions: Sequence[Callable[[], T]], name: str, each: Callable[[int, T | BaseException], None] | None = None
) -> list[T | BaseException]:
    """What each of them returned or raised, in order. Whoever is interrupted meanwhile goes on without them.

    `each` is given that one by one, with its number, as soon as it is there and those before it were; it must not raise.
    """
    found: dict[int, T | BaseException] = {}

    def call(number: int) -> None:
        try:
            found[number] = functions[number]()
        except BaseException as error:
            found[number] = error

    threads: list[Thread] = []
    if len(functions) > 1:
        with contextlib.suppress(RuntimeError):  # None can be started during the interpreter's shutdown.
            for number in range(len(functions)):
                thread = Thread(target=call, args=(number,), name=name, daemon=True)
                thread.start()
                threads.append(thread)
    for number in range(len(threads), len(functions)):
        try:
            found[number] = functions[number]()
        except Exception as error:
            found[number] = error
    for number in range(len(functions)):
        if number < len(threads):
            threads[number].join()
        if each is not None:
            each(number, found[number])
    return [found[number] for number in range(len(functions))]


def within(seconds: float, function: Callable[[], T], name: str) -> T:
    """What it returns or raises. Raises TimeoutError after so many seconds, and leaves the thread of that name to it.

    For what knows no such limit: looking up a name, or clients that count their timeout anew with each byte that comes.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            found.append(function())
        except BaseException as error:
            failed.append(error)

    try:
        thread = Thread(target=call, name=name, daemon=True)
        thread.start()
    except RuntimeError:  # None can be started during the interpreter's shutdown.
        return function()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"what it answers had come to no end after {seconds:g} s")
    return found[0]


class Lookout:
    """Calls `look` every `pause` seconds, on a thread of its own, from `begin` until `close`, or until the process forks."""

    def __init__(self, look: Callable[[], object], name: str, pause: float) -> None:
        self._look = look
        self._name = name
        self._pause = pause
        self._thread: Thread | None = None
        self._end = Event()
        """Has the thread end; each has one of its own, as one that is looking outlives `close`."""
        _lookouts.add(self)

    def begin(self) -> None:
        """Cheap where it has begun: it is called again and again."""
        if self._thread is None:
            self._end = Event()
            thread = Thread(target=self._repeat, args=(self._end,), name=self._name, daemon=True)
            with contextlib.suppress(RuntimeError):  # As above.
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """End the thread; the next `begin` starts it again."""
        thread, self._thread = self._thread, None
        self._end.set()
        if thread is not None:
            thread.join(LONGEST_LOOK)

    def _repeat(self, end: Event) -> None:
        while not end.wait(self._pause):
            self._look()


_lookouts: WeakSet[Lookout] = WeakSet()


def _close_all() -> None:
    for lookout in list(_lookouts):
        lookout.close()


# From Python 3.12 on a fork in a process with threads is a DeprecationWarning, in most versions also where they are started
# again right after it (https://github.com/python/cpython/issues/137109).
os.register_at_fork(before=_close_all)
