# SPDX-License-Identifier: Apache-2.0
"""Spans: what happened when. The one source of progress lines, the timing table and reports."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from itest.clock import SYSTEM, Clock


class Span:
    """A timed step. `name` is a verb (pull, fetch, start, ready, reset, stop), `subject` what it was done to."""

    def __init__(
        self,
        name: str,
        subject: str,
        started: float,
        ended: float | None = None,
        facts: dict[str, str] | None = None,
        *,
        failed: bool = False,
        parent: Span | None = None,
    ) -> None:
        self.name = name
        self.subject = subject
        self.started = started
        self.ended = ended
        self.facts = {} if facts is None else facts
        self.failed = failed
        self.again = False
        """Whether it failed and is tried again: nobody is told of that."""
        self.parent = parent
        """The step that this one is a part of."""
        self.amount = ""
        """How far it has come, for people: `12 of 140 MB`."""
        self.share: float | None = None
        """How much of it is done, 0 to 1; None where nobody knows."""

    @property
    def seconds(self) -> float:
        """The step's length; 0 while it is still going on."""
        return 0.0 if self.ended is None else self.ended - self.started


class Recorder:
    """Collects the spans of a session, from any thread, and tells listeners about each that begins and each that ends."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self.spans: list[Span] = []
        self.begun: list[Callable[[Span], None]] = []
        self.listeners: list[Callable[[Span], None]] = []

    def span(self, name: str, subject: str, **facts: str) -> Timed:
        """Time the body of the `with`. The span is kept whether the body succeeds or not."""
        return Timed(self, Span(name, subject, 0.0, facts=facts))

    def begin(self, name: str, subject: str, facts: dict[str, str]) -> Span:
        """A span for what begins in one call and ends in another, as tests do. Listeners are not told of it."""
        span = Span(name, subject, self._clock.monotonic(), facts=facts)
        self.spans.append(span)
        return span

    def end(self, span: Span) -> None:
        """The end of a span of `begin`."""
        span.ended = self._clock.monotonic()


class Timed:
    """The `with` of a span. A class, because there is one between any two tests: a generator costs three times as much."""

    __slots__ = ("_outer", "_recorder", "_span")

    def __init__(self, recorder: Recorder, span: Span) -> None:
        self._recorder = recorder
        self._span = span
        self._outer: tuple[Recorder, Span | None] | None = None

    def __enter__(self) -> Span:
        recorder, span = self._recorder, self._span
        self._outer = outer = getattr(_here, "now", None)
        if outer is not None and outer[0] is recorder:
            span.parent = outer[1]
        span.started = recorder._clock.monotonic()
        recorder.spans.append(span)  # Which any thread may do at any time.
        _here.now = (recorder, span)
        for listener in recorder.begun:
            listener(span)
        return span

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        recorder, span = self._recorder, self._span
        span.failed = span.failed or kind is not None
        span.ended = recorder._clock.monotonic()
        _here.now = self._outer
        for listener in recorder.listeners:
            listener(span)


_here = threading.local()
"""`now`: the recorder and innermost span of this thread; None for the span where it is in none."""


@contextmanager
def step(name: str, subject: str, **facts: str) -> Iterator[Span]:
    """A part of the step that this thread is in, for code that knows no recorder; kept nowhere outside of any step."""
    now: tuple[Recorder, Span | None] | None = getattr(_here, "now", None)
    if now is None:
        yield Span(name, subject, 0.0, facts=facts)
        return
    with now[0].span(name, subject, **facts) as span:
        yield span


@contextmanager
def kept_by(recorder: Recorder) -> Iterator[None]:
    """For code that knows no recorder: its steps are kept by this one, also where this thread is in no step."""
    outer = getattr(_here, "now", None)
    _here.now = outer or (recorder, None)
    try:
        yield
    finally:
        _here.now = outer


drawn = False
"""Whether a line of progress is on the terminal, for whoever writes next to erase."""


def say(line: str) -> None:
    """One line on the real standard error: seen even where a runner captures `sys.stderr`. Never raises: nobody may read
    it any more, or its disk may be full."""
    stream = sys.__stderr__
    if stream is not None and not stream.closed:
        text = f"{ERASE if drawn else ''}itest: {line}\n"
        with suppress(OSError, ValueError):
            try:
                number = stream.fileno()
            except (OSError, ValueError):  # It is no file.
                print(text, end="", file=stream, flush=True)
                return
            # Not through the stream: Python aborts where a daemon thread, as those that start servers are, holds its lock at
            # the interpreter's end (https://docs.python.org/3.11/library/threading.html#threading.Thread.daemon).
            left = text.encode(stream.encoding, "backslashreplace")
            while left:
                left = left[os.write(number, left) :]


ERASE = "\x1b[K"
"""Erases a terminal's line from the cursor on."""
