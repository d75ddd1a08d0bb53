# SPDX-License-Identifier: Apache-2.0
"""The requests that an app on a thread is at work on, which may be for longer than until they are answered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

from itest import naming


class Calls:
    """The calls of one app that have begun and not ended, each by its request: `POST /orders`."""

    def __init__(self) -> None:
        self._ended = threading.Condition()
        self._open: dict[object, str] = {}
        self._told: set[object] = set()

    @contextlib.contextmanager
    def during(self, request: str) -> Iterator[Callable[[], object]]:
        """What it runs in. What it gives ends it before that."""
        call = object()

        def end() -> None:
            with self._ended:
                self._open.pop(call, None)
                self._ended.notify_all()

        with self._ended:
            self._open[call] = request
        try:
            yield end
        finally:
            end()

    def __str__(self) -> str:
        with self._ended:
            return _in_short(self._open.values())

    def rest(self, seconds: float) -> str:
        """Wait for all to end, no longer than that. Those that have not, each of which is waited for and told this once only;
        empty: there are none."""
        with self._ended:
            self._ended.wait_for(lambda: self._open.keys() <= self._told, seconds)
            left = [request for call, request in self._open.items() if call not in self._told]
            self._told = set(self._open)
        return _in_short(left)


def _in_short(requests: Iterable[str]) -> str:
    """For a sentence, each of them once."""
    return naming.shorten(", ".join(dict.fromkeys(requests)))
