# SPDX-License-Identifier: Apache-2.0
"""What people see of a step that takes long: nothing of a quick one, on a terminal a line with a bar that is redrawn,
elsewhere a line now and then, under CI a line each minute and where it failed.

The line is drawn behind the cursor, which stays where it is: the dots of unittest stand where they stood, and whatever
others write next replaces the line.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from itest import trace
from itest.clock import SYSTEM, Clock
from itest.trace import Recorder, Span
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

SILENT = 2.0
"""Seconds before a step is mentioned; quicker ones need no words."""

AGAIN = 30.0
"""Seconds after which it is mentioned again, where nothing can be redrawn; then after twice as many, and so on."""

MINUTE = 60.0
"""Seconds after which it is mentioned under CI, and then each so many: what hangs there is to be seen in the job's log."""

REDRAW = 0.2
"""Seconds between two updates of the line."""

BAR = 20
"""Columns of a bar."""


class Words(NamedTuple):
    """How a step is spoken of: `pulling` while it goes on, `pulled` afterwards."""

    doing: str
    done: str
    announced: bool = False
    """Whether something else tells that it is done."""


STEPS = {
    "pull": Words("pulling", "pulled"),
    "build": Words("building", "built"),
    "fetch": Words("fetching", "fetched"),
    "prepare": Words("preparing", "prepared", announced=True),
    "start": Words("starting", "started", announced=True),
    "migrate": Words("migrating", "migrated"),
    "keep": Words("keeping", "kept"),
}


class _Entry:
    """A step that goes on."""

    def __init__(self, span: Span, due: float) -> None:
        self.span = span
        self.since = span.started
        """Its beginning, or the end of the last part of it that was a step of its own."""
        self.due = due
        """Seconds from there at which it is mentioned next."""
        self.mentioned = False
        self.explained = False
        """Whether it was told already why it fails."""

    @property
    def title(self) -> str:
        facts = self.span.facts
        return facts.get("title") or facts.get("image") or self.span.subject


class Board:
    """Tells people what takes long. It listens to a recorder; a thread looks on while something goes on.

    `ci`: nobody watches, so only failures are told, and what takes minutes. `dumb`: the terminal cannot redraw a line.
    """

    def __init__(self, clock: Clock = SYSTEM, *, ci: bool = False, dumb: bool = False) -> None:
        self._clock = clock
        self._ci = ci
        self._dumb = dumb
        self._lock = threading.RLock()
        self._entries: dict[int, _Entry] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._console: Console | None = None

    def listen(self, recorder: Recorder) -> None:
        """Hear of what this recorder times."""
        recorder.begun.append(self.begin)
        recorder.listeners.append(self.end)

    @property
    def _first(self) -> float:
        """Seconds after which a step is mentioned first."""
        return MINUTE if self._ci else SILENT

    def begin(self, span: Span) -> None:
        if span.name not in STEPS:
            return
        with self._lock:
            self._entries[id(span)] = _Entry(span, self._first)
            self._wake.set()  # It may be due earlier than what the thread waits for.
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="itest-progress", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # None can be started during the interpreter's shutdown.
                    self._thread = None

    def end(self, span: Span) -> None:
        if span.name not in STEPS:
            return
        with self._lock:
            entry = self._entries.pop(id(span), None)
            if entry is None or span.ended is None:
                return
            around = self._around(span)
            if span.failed and not span.again:
                self._tell_failure(entry, around)
            elif entry.mentioned and not span.failed and not STEPS[span.name].announced:
                trace.say(f"{entry.title} {STEPS[span.name].done}, after {span.seconds:.1f} s")
            for outer in around[:1]:
                outer.since, outer.due = span.ended, self._first
            if not self._entries:
                self._erase()
            self._wake.set()

    def look(self) -> float:
        """Tell what is due, and return the seconds until there may be something again."""
        with self._lock:
            now = self._clock.monotonic()
            inner = [entry for entry in self._entries.values() if not self._has_part(entry)]
            if _is_terminal(sys.__stderr__) and not (self._dumb or self._ci):
                shown = [entry for entry in inner if now - entry.since >= SILENT]
                if shown:
                    try:
                        self._draw(shown, now)
                    except ImportError:  # Something of the tests has the name of a package that it needs, say.
                        self._dumb = True
                        return 0.0
                    for entry in shown:
                        entry.mentioned = True
                    return REDRAW
                self._erase()
            else:
                for entry in inner:
                    if now - entry.since >= entry.due:
                        self._mention(entry, now)
            return max(0.0, min((entry.since + entry.due - now for entry in inner), default=AGAIN))

    def _watch(self) -> None:
        while True:
            with self._lock:
                self._wake.clear()
                if not self._entries:
                    self._thread = None
                    return
                pause = AGAIN
                with contextlib.suppress(OSError, ValueError):  # Nobody can be told any more.
                    pause = self.look()
            self._wake.wait(pause)

    def _around(self, span: Span) -> list[_Entry]:
        """What this step is a part of, from the innermost outwards."""
        found = []
        while (span := span.parent) is not None:  # type: ignore[assignment]  # the loop ends where it is None
            if entry := self._entries.get(id(span)):
                found.append(entry)
        return found

    def _has_part(self, entry: _Entry) -> bool:
        """Whether one of its parts goes on: then that is what it is busy with."""
        return any(entry in self._around(other.span) for other in self._entries.values())

    def _mention(self, entry: _Entry, now: float) -> None:
        words, seconds = STEPS[entry.span.name], now - entry.since
        how_far = f", {entry.span.amount}" if entry.span.amount else ""
        why = "" if entry.mentioned else entry.span.facts.get("why", "")
        again = "still " if entry.mentioned or self._ci else ""
        trace.say(f"{again}{words.doing} {entry.title}{why} ({seconds:.0f} s so far{how_far})")
        entry.due = entry.due + MINUTE if self._ci else entry.due * 2 if entry.mentioned else AGAIN
        entry.mentioned = True

    def _tell_failure(self, entry: _Entry, around: list[_Entry]) -> None:
        span = entry.span
        if not entry.explained and (entry.mentioned or (self._ci and span.seconds >= SILENT)):
            at = f", at {span.amount}" if span.amount else ""
            trace.say(f"{entry.title} could not be {STEPS[span.name].done}, after {span.seconds:.1f} s{at}")
            entry.explained = True
        for outer in around:
            outer.explained = outer.explained or entry.explained

    # The line on a terminal.

    def _draw(self, entries: list[_Entry], now: float) -> None:
        stream = sys.__stderr__
        if stream is None:
            return
        # The cursor is saved and restored, and the terminal told to cut the line where it is too long.
        line = self._line(stream, entries, now)
        print(f"\x1b7\x1b[?7l{trace.ERASE} {line}\x1b[?7h\x1b8", end="", file=stream, flush=True)
        trace.drawn = True

    def _erase(self) -> None:
        if trace.drawn:
            trace.drawn = False
            stream = sys.__stderr__
            if stream is not None and not stream.closed:
                print(trace.ERASE, end="", file=stream, flush=True)

    def _line(self, stream: TextIO, entries: list[_Entry], now: float) -> str:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._console is None or self._console.file is not stream:
            from rich.console import Console

            self._console = Console(file=stream, highlight=False, width=500)
        grid = Table.grid(padding=(0, 1))
        cells: list[ProgressBar | Text] = []
        for number, entry in enumerate(entries):
            span = entry.span
            cells.append(Text(f"{'│ ' if number else 'itest: '}{STEPS[span.name].doing} {entry.title}"))
            if span.share is not None:
                cells.append(ProgressBar(total=1.0, completed=span.share, width=BAR))
            cells.append(Text(", ".join(filter(None, [span.amount, f"{now - entry.since:.0f} s"])), style="dim"))
        grid.add_row(*cells)
        with self._console.capture() as captured:
            self._console.print(grid, end="", no_wrap=True)
        return captured.get().rstrip("\n").rstrip()


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
