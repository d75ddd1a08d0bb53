# SPDX-License-Identifier: Apache-2.0
"""What people see of a pull or a build: nothing of a quick one, a line that is redrawn on a terminal, two lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from itest.clock import Clock, Deadline
from itest.trace import say

SILENT = 2.0
"""Seconds before one is mentioned; quicker ones need no words."""

REDRAW = 0.2
"""Seconds between two updates of the line."""


class Progress:
    """How far one pull is. `doing` and `done` are its verb, `why` says more where it is first mentioned."""

    doing = "pulling"
    done = "pulled"

    def __init__(self, title: str, deadline: Deadline, why: str = "") -> None:
        self.title = title
        self.deadline = deadline
        self.why = why
        self._layers: dict[str, tuple[int, int]] = {}

    def note(self, message: Mapping[str, Any]) -> None:
        """Take in one of Docker's messages about a layer."""
        layer, detail = str(message.get("id")), message.get("progressDetail") or {}
        if message.get("status") == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif message.get("status") == "Download complete" and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1], self._layers[layer][1])

    @property
    def amount(self) -> str:
        done = sum(current for current, _ in self._layers.values())
        total = sum(total for _, total in self._layers.values())
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else "nothing downloaded yet"


class Board:
    """Tells people about what takes longer: a line redrawn on a terminal, start and end elsewhere."""

    def __init__(self, clock: Clock, quiet: bool) -> None:
        self._clock = clock
        self._quiet = quiet
        self._lock = threading.Lock()
        self._mentioned: list[Progress] = []
        self._drawn = 0.0

    @contextlib.contextmanager
    def showing(self, progress: Progress) -> Iterator[None]:
        # A timer, because a registry that cannot be reached is silent for half a minute.
        timer = threading.Timer(SILENT, self._mention, [progress])
        timer.daemon = True
        if not self._quiet:
            timer.start()
        outcome = f"could not be {progress.done}"
        try:
            yield
            outcome = progress.done
        finally:
            timer.cancel()
            with self._lock:
                if progress in self._mentioned:
                    self._mentioned.remove(progress)
                    say(f"{_erase()}{progress.title} {outcome}, after {progress.deadline.elapsed:.1f} s")
                progress.title = ""  # A timer that fires just now must not mention it any more.

    def draw(self) -> None:
        """Redraw the line, where there is one."""
        with self._lock:
            now = self._clock.monotonic()
            if self._mentioned and _terminal() and now - self._drawn > REDRAW:
                self._drawn = now
                amounts = ", ".join(f"{each.doing} {each.title} {each.amount}" for each in self._mentioned)
                # The cursor stays at the line's start, so that whatever others write next replaces it.
                print(f"\r{_erase()}itest: {amounts[:98]}\r", end="", file=sys.__stderr__, flush=True)

    def _mention(self, progress: Progress) -> None:
        with self._lock:
            if progress.title:
                self._mentioned.append(progress)
                if not _terminal():
                    say(f"{progress.doing} {progress.title}{progress.why}")
        self.draw()


def _terminal() -> bool:
    stream = sys.__stderr__
    return stream is not None and not stream.closed and stream.isatty()


def _erase() -> str:
    return "\x1b[K" if _terminal() else ""
