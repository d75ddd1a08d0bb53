# SPDX-License-Identifier: Apache-2.0
"""Time. The only module that reads a clock or sleeps, so that waiting can be tested without waiting."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import FileDescriptorLike

LONGEST = 2_000_000.0
"""Seconds that any wait can take, 23 days: poll(2) counts milliseconds in 31 bits."""


class Clock(Protocol):
    """What waiting needs of time. `itest.testing.ManualClock` is the one for tests."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


def _real(name: str) -> Callable[[], float]:
    """That function of `time`. freezegun has kept it, where it had stopped time before this was imported."""
    kept: Callable[[], float] = getattr(sys.modules.get("freezegun.api"), f"real_{name}", getattr(time, name))
    return kept


class SystemClock:
    """The clock of this machine. Looked up once, because tests replace the functions of `time` (freezegun the monotonic
    one too): a wait would never end. perf_counter is the same clock, which time-machine leaves alone: before its version 3
    it changed `monotonic` itself, for whoever holds it."""

    monotonic = staticmethod(_real("perf_counter"))
    sleep = staticmethod(time.sleep)
    wall = staticmethod(_real("time"))


SYSTEM: Clock = SystemClock()


def wall() -> float:
    """Seconds since 1970, for stamps that people and other processes read. Never used to measure a length."""
    return SystemClock.wall()


_same = time.get_clock_info("monotonic").implementation == time.get_clock_info("perf_counter").implementation
_APART = 0.0 if _same else time.monotonic() - SystemClock.monotonic()
"""Seconds between these two clocks: on Windows each counts from a moment of its own."""


def is_real_for(package: str) -> bool:
    """Whether the code of a package has the real monotonic clock. freezegun leaves it to those that its `ignore` names, and
    knows them by the module that asks."""
    seen = eval("monotonic()", {"__name__": package, "monotonic": time.monotonic})
    return isinstance(seen, (int, float)) and abs(seen - SystemClock.monotonic() - _APART) < 1


def check_seconds(seconds: object) -> None:
    """Raise TypeError for what is no length of a wait: what is no number, and nan, which is not at most anything."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds <= LONGEST:
        raise TypeError(f"timeout={seconds!r}: a wait takes a number of seconds, at most {LONGEST:.0f}")


class Deadline:
    """A moment by which something must have happened. `Deadline.after(30)` is 30 seconds from now."""

    __slots__ = ("clock", "seconds", "started")

    def __init__(self, started: float, seconds: float, clock: Clock) -> None:
        self.started = started
        self.seconds = seconds
        self.clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM) -> Deadline:
        """Raises TypeError in the words of a `timeout`, which is what users give."""
        check_seconds(seconds)
        return cls(clock.monotonic(), seconds, clock)

    def begin_anew(self) -> None:
        """Count from now on: what was done so far does not count."""
        self.started = self.clock.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return self.clock.monotonic() - self.started

    @property
    def remaining(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def passed(self) -> bool:
        return self.elapsed >= self.seconds

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        self.clock.sleep(min(seconds, self.remaining))


def ready(file: FileDescriptorLike, seconds: float, *, to_write: bool = False) -> bool:
    """Whether it can be read from, or written to, before that many seconds are over. At its end it can be read from."""
    import select

    if not hasattr(select, "poll"):  # eventlet.monkey_patch() takes it away.
        return any(select.select([file] * (not to_write), [file] * to_write, [], seconds))
    poll = select.poll()
    poll.register(file, select.POLLOUT if to_write else select.POLLIN)
    return bool(poll.poll(seconds * 1000))
