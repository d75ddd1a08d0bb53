# SPDX-License-Identifier: Apache-2.0
"""What is told of a test, or of a class's set-up, that has been running for very long: where it is, and what its services
wait for.

Another thread looks at it while it goes on, and asks the services on connections of its own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from itest import naming, trace
from itest.case import ContainerMixin
from itest.loan import Loan
from itest.side_by_side import within

if TYPE_CHECKING:
    import asyncio

SECONDS = 3.0
"""How long each service may take to answer."""

MOST_FRAMES = 3
"""Innermost places that are told of a stack."""

MOST_LINES = 10
"""Lines of each service, and tasks, at most."""

_DEBUGGERS = ("bdb", "pydevd")
"""Modules that a thread is in while somebody looks at it in a debugger: pdb's, and that of PyCharm and VS Code."""

_PACKAGES = re.compile(r"[/\\](site|dist)-packages[/\\]")
_NOT_THEIRS = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(__file__) + os.sep, "<")


def tell(what: str, seconds: float, thread: int, runner: object, loans: Sequence[Loan]) -> None:
    """Say it of what has been running on that thread for so long. `runner` is what has its event loop, if any."""
    places = _places(thread, getattr(runner, "_loop", None))
    if places is None:
        return
    lines = [f"{what} has been running for {seconds:.0f} s", *_first(places)]
    for loan in loans:
        lines += (f"{loan.name}: {line}" for line in _first(_waits(loan)))
    trace.say(naming.clean_log("\n  ".join(lines)))


def _places(thread: int, loop: asyncio.AbstractEventLoop | None) -> list[str] | None:
    """Where the test is, a line for its thread, or for each task of its loop; None where somebody debugs it."""
    stack = list(_stack(thread))
    if any(str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS for frame in stack):
        return None
    if place := _place(filter(_is_theirs, stack)):
        return [f"at {place}"]
    places = []
    if loop is not None:
        import asyncio

        for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
            if place := _place(filter(_is_theirs, _stack_of(task))):
                places.append(f"task {task.get_name()!r} at {place}")
    return places or [f"at {place}" for place in [_place(stack)] if place]


def _stack(thread: int) -> Iterator[FrameType]:
    """The test's frames, the innermost first."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not ContainerMixin.run.__code__:
        yield frame
        frame = frame.f_back


def _stack_of(task: asyncio.Task[Any]) -> list[FrameType]:
    """The same of what a task waits in: `get_stack()` has the outermost frame only."""
    frames: list[FrameType | None] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        kind = next((each for each in ("cr", "gi", "ag") if hasattr(awaited, f"{each}_frame")), None)
        frames.append(getattr(awaited, f"{kind}_frame", None))
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return [frame for frame in reversed(frames) if frame is not None]


def _is_theirs(frame: FrameType) -> bool:
    """Whether it is of the user's own code."""
    file = frame.f_code.co_filename
    return not file.startswith(_NOT_THEIRS) and not _PACKAGES.search(file)


def _place(stack: Iterable[FrameType]) -> str:
    frames = [frame for frame, _ in zip(stack, range(MOST_FRAMES), strict=False)]
    return ", called at ".join(
        f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_qualname}" for frame in frames
    )


def _short(file: str) -> str:
    with suppress(OSError):  # The directory is not there any more.
        return file.removeprefix(os.getcwd() + os.sep)
    return file


def _waits(loan: Loan) -> list[str]:
    if loan.lent is None:
        return []
    try:
        return within(SECONDS, loan.lent[1].waits, "itest-waits")
    except Exception as error:
        return [f"could not be asked what it waits for: {naming.shorten(str(error) or type(error).__name__)}"]


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"... and {more} more"]
