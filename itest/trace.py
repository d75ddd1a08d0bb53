# SPDX-License-Identifier: Apache-2.0
"""Spans: what happened when. The one source of progress lines, the timing table and reports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from itest.clock import SYSTEM, Clock


@dataclass(slots=True)
class Span:
    """A timed step. `name` is a verb (pull, start, ready, reset, stop), `subject` what it was done to."""

    name: str
    subject: str
    started: float
    ended: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    @property
    def seconds(self) -> float:
        """The step's length; 0 while it is still going on."""
        return 0.0 if self.ended is None else self.ended - self.started


class Recorder:
    """Collects the spans of a session, from any thread, and tells listeners about each one that ends."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.spans: list[Span] = []
        self.listeners: list[Callable[[Span], None]] = []

    @contextmanager
    def span(self, name: str, subject: str, **facts: str) -> Iterator[Span]:
        """Time the body of the `with`. The span is kept whether the body succeeds or not."""
        span = Span(name, subject, self._clock.monotonic(), facts=facts)
        with self._lock:
            self.spans.append(span)
        try:
            yield span
        except BaseException:
            span.failed = True
            raise
        finally:
            span.ended = self._clock.monotonic()
            for listener in self.listeners:
                listener(span)


def say(line: str) -> None:
    """One line on the real standard error: seen even where a runner captures `sys.stderr`."""
    stream = sys.__stderr__
    if stream is not None and not stream.closed:
        print(f"itest: {line}", file=stream, flush=True)
