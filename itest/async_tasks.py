# SPDX-License-Identifier: Apache-2.0
"""Tasks of asyncio that outlive what started them: ended, and named with the place where they were made."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import warnings
from collections.abc import Collection
from typing import Any

from itest import async_clients, leaks, naming
from itest.clock import Deadline

TURNS = 5
"""How often the loop may go round before a task counts as left behind: many are just about to end."""

GRACE = 0.05
"""Seconds that one has to end by itself after that, as threads have."""

CLIENTS = ("aiokafka", "asyncpg", "psycopg_pool", "redis")
"""Packages whose clients and pools begin tasks of their own when they are used: to read from a connection, to replace one
that a reset has ended. Those of a client that lasts for the class may begin in any of its tests, and belong to none."""

CANCEL_TIMEOUT = 1.0
"""Seconds in which a task that is cancelled must end."""

_given_up: set[asyncio.Task[Any]] = set()
"""Those that have not ended by then."""

_OURS = os.path.dirname(asyncio.__file__)


def is_anything_left(
    loop: asyncio.AbstractEventLoop, before: Collection[asyncio.Task[Any]], spared: Collection[str] = ()
) -> bool:
    """Whether `end` would have anything to do in this loop, which is not running. To run it costs 0.2 ms."""
    return async_clients.are_open(loop) or any(
        not _is_of(task, spared) for task in asyncio.all_tasks(loop).difference(before)
    )


async def end(before: Collection[asyncio.Task[Any]] = (), spared: Collection[str] = ()) -> list[str]:
    """Close the clients that belong to the running loop, and cancel all of its tasks but those of `before` and those that
    the packages `spared` have made for themselves.

    Returns a text for each task that is not a client's or asyncio's own: its name, its coroutine and where it was made.
    """
    known = {*before, *_given_up, asyncio.current_task()}

    def others(packages: Collection[str]) -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() - known if not _is_of(task, packages)}

    for _ in range(TURNS):
        if not others(spared):
            break
        await asyncio.sleep(0)
    clients = {*spared, *async_clients.packages(asyncio.get_running_loop())}
    deadline = Deadline.after(GRACE)
    while (late := others(clients)) and not deadline.passed:  # The end of a generator may begin that of another one.
        await asyncio.wait(late, timeout=deadline.remaining)
    # First the test's own, which may be using the clients; then the clients, and whatever those leave behind.
    left = await _cancel(first := others(clients))
    await async_clients.close_all()
    left += await _cancel(others(clients) - first)
    await _cancel(others(spared) - first)
    return left


def close(runner: asyncio.Runner) -> None:
    """Close a runner and its loop, but not as `Runner.close()` does where a task was given up: that waits for it for ever."""
    if any(not task.done() and task.get_loop() is runner.get_loop() for task in _given_up):
        loop = runner.get_loop()
        _keep(asyncio.all_tasks(loop))
        loop.close()
        with contextlib.suppress(RuntimeError):  # It cannot wait in a closed loop, and is done with it all the same.
            runner.close()
    else:
        runner.close()


def report(subject: str, left: list[str], file: str, line: int) -> None:
    """Say of a test, or a class, which tasks it left behind: a ResourceWarning at that place, and with `strict` as other
    things are told that a test leaves."""
    if not left:
        return
    count = f"{len(left)} asyncio tasks" if len(left) > 1 else "an asyncio task"
    text = (
        f"{subject} left {count} behind, which {'were' if len(left) > 1 else 'was'} cancelled: {'; '.join(left)}. "
        f"Await what a test starts, use asyncio.TaskGroup, or cancel it in a cleanup"
    )
    if leaks.are_collected():
        leaks.report(text)
    else:
        warnings.warn_explicit(text, ResourceWarning, file, line)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> list[str]:
    if not tasks:
        return []
    texts = {task: _text(task) for task in tasks}  # A task that has ended has lost its coroutine's frame.
    for task in tasks:
        task.cancel()
    _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
    for task in stubborn:
        texts[task] += (
            f", which did not end within {CANCEL_TIMEOUT:g} s of its cancellation and was given up (let CancelledError "
            f"through: `except Exception`, not a bare `except`)"
        )
    _given_up.update(stubborn)
    for task in tasks - stubborn:
        if not task.cancelled() and (error := task.exception()):
            texts[task] += f", which then raised {naming.shorten(repr(error))}"
    return sorted(text for task, text in texts.items() if not _ends_a_generator(task))


def _keep(tasks: set[asyncio.Task[Any]]) -> None:
    """Have these tasks never collected, not even at the process's end: Python raises GeneratorExit in a coroutine that is,
    and one that swallows that as well, with no loop left to wait in, would go round for ever."""
    import ctypes

    for task in tasks:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))


def _ends_a_generator(task: asyncio.Task[Any]) -> bool:
    """Whether it is asyncio's own, which closes an asynchronous generator that nobody has any more: after a `break`, say."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"


def _text(task: asyncio.Task[Any]) -> str:
    coroutine: Any = task.get_coro()
    text = f"{task.get_name()!r}, {getattr(coroutine, '__qualname__', coroutine)}()"
    file, line = _made_at(task)
    return f"{text}, made at {file}:{line}" if file else text


def _made_at(task: asyncio.Task[Any]) -> tuple[str, int]:
    """The file and line that made a task, which asyncio keeps in debug mode; that is how unittest runs its loops."""
    for frame in reversed(getattr(task, "_source_traceback", None) or ()):
        if os.path.dirname(frame.filename) != _OURS:  # The last frames are asyncio's own.
            return frame.filename, frame.lineno or 0
    return "", 0


def _is_of(task: asyncio.Task[Any], packages: Collection[str]) -> bool:
    """Whether one of these packages has made a task for itself."""
    file, _ = _made_at(task)
    if file:
        places = [getattr(sys.modules.get(package), "__file__", None) for package in packages]
        return any(place and file.startswith(os.path.dirname(place) + os.sep) for place in places)
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in packages
