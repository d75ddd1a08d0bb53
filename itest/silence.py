# SPDX-License-Identifier: Apache-2.0
"""A server that runs and has stopped answering: paused, say, or its machine stands still.

A client that is written in C waits for its answer without an end, deaf to Ctrl-C. So a thread looks after statements of
itest's own that take long: it asks whether the server still answers anybody else, and if not, hangs up.
"""

from __future__ import annotations

from collections.abc import Callable

from itest.clock import SYSTEM
from itest.side_by_side import Lookout

PATIENCE = 10.0
"""Seconds after which the server of a statement is asked, and each so many seconds again. It may take as long as it likes as
long as the server answers others: a large database is copied for minutes."""

TICK = 1.0
"""Seconds between two looks of the thread."""


def sentence(server: str, silence: str, *, ours: bool = True) -> str:
    """Why a server is given up: what it does not do, in words. `ours`: nobody else uses it, so it can be replaced."""
    question = "did a test pause it, or does its machine stand still?"
    then = "gets a new one" if ours else "connects to it anew"
    return f"{server} {silence}, though it runs: {question} The next class {then}"


class Watch(Lookout):
    """Used as the context of each statement, by one thread at a time; it takes 0.5 us.

    `answers` says whether the server answers at all. `hang_up` is called with the seconds that were waited, on another
    thread; it must have the statement end with an error.
    """

    def __init__(self, answers: Callable[[], bool], hang_up: Callable[[float], None]) -> None:
        self._answers = answers
        self._hang_up = hang_up
        self._began: float | None = None
        self._asked = 0.0
        super().__init__(self._look_after, "itest-silence", TICK)

    def __enter__(self) -> None:
        self._began = SYSTEM.monotonic()
        self.begin()

    def __exit__(self, *_: object) -> None:
        self._began = None

    def _look_after(self) -> None:
        began, now = self._began, SYSTEM.monotonic()
        if began is None or now - max(began, self._asked) < PATIENCE:
            return
        answers, self._asked = self._answers(), SYSTEM.monotonic()
        if not answers and self._began == began:
            self._hang_up(self._asked - began)
