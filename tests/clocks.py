# SPDX-License-Identifier: Apache-2.0
"""Clocks for what is to take too long: on that of the machine, it may come to nothing at all in so short a time."""

from __future__ import annotations

from collections.abc import Callable

from itest.clock import Deadline

PATIENCE = 60.0
"""Seconds within which it happens, whatever else this machine has to do."""


class StopsUntil:
    """A clock that stands still until something has happened, and then all time has passed. The first who asks only begins."""

    def __init__(self, happened: Callable[[], object]) -> None:
        self._happened = happened
        self._begun = False

    def monotonic(self) -> float:
        if not self._begun:
            self._begun = True
            return 0.0
        deadline = Deadline.after(PATIENCE)
        while not self._happened() and not deadline.passed:
            deadline.pause(0.01)
        return 1e6

    def sleep(self, seconds: float) -> None:
        """Time passes by itself."""
