# SPDX-License-Identifier: Apache-2.0
"""Clients of asyncio that views hand out: opened in the event loop that is running, and closed in that same loop.

Who runs the loop does not matter: a test case, `asyncio.run()`, another framework. An event loop that ends closes the
async generators that are alive in it, so a generator of ours waits in each loop where there are clients, and closes
them. asyncio itself is imported when the first client is made.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from itest.clock import SYSTEM
from itest.errors import LoopError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

CLOSE_TIMEOUT = 2.0
"""Seconds that closing one client may take; a server that is gone must not delay tests."""

C = TypeVar("C")

_groups: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.WeakSet[_Group]] = weakref.WeakKeyDictionary()
"""The clients of all views, by the loop that they belong to."""


def running_loop(verb: str) -> AbstractEventLoop:
    """The event loop that is running here. Raises LoopError, saying what to do, where there is none."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if _in_trio():
            raise LoopError(
                f"{verb} was called in trio, and gives a client of asyncio: call it in a test of an AsyncContainerTestCase, or "
                f"use a client of trio's with the address that the view has"
            ) from None
        raise LoopError(
            f"{verb} was called where no event loop is running: call it in an `async def` test, or in asyncSetUp, of an "
            f"AsyncContainerTestCase; for a class's own data there is cls.runAsync(...)"
        ) from None


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    with contextlib.suppress(AttributeError, RuntimeError):
        return trio is not None and trio.lowlevel.current_task() is not None
    return False


@contextlib.contextmanager
def own_time() -> Iterator[None]:
    """What itest does within a step of the running loop (it imports a package, or waits for a topic) is not held against
    the test: in debug mode, asyncio writes about each step that takes longer than the loop's `slow_callback_duration`.

    Nothing where no loop is running, and plain tests do without asyncio."""
    loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", lambda: None)()
    started = SYSTEM.monotonic()
    try:
        yield
    finally:
        if loop is not None:
            spent = SYSTEM.monotonic() - started

            def next_step() -> None:
                loop.slow_callback_duration -= spent

            loop.slow_callback_duration += spent
            loop.call_soon(next_step)


async def close_all() -> None:
    """Close all clients that belong to the running loop, whichever view handed them out."""
    import asyncio

    for group in list(_groups.get(asyncio.get_running_loop(), ())):
        await group.aclose()


def are_open(loop: AbstractEventLoop) -> bool:
    """Whether any client belongs to this loop."""
    return any(not group.closed for group in _groups.get(loop, ()))


def packages(loop: AbstractEventLoop) -> set[str]:
    """The packages whose clients were handed out in this loop: tasks of theirs are not the test's."""
    return {package for group in _groups.get(loop, ()) for package in group.packages}


class AsyncClients:
    """The clients of one view."""

    def __init__(self) -> None:
        self._groups: dict[AbstractEventLoop, _Group] = {}

    def add(self, client: Any, close: Callable[[], Awaitable[object]], verb: str) -> None:
        """Have a client closed before the running loop ends, or with the view. Raises LoopError without a loop."""
        loop = running_loop(verb)
        if (group := self._groups.get(loop)) is None or group.closed:
            group = self._groups[loop] = _Group()
            _groups.setdefault(loop, weakref.WeakSet()).add(group)
        group.packages.add(type(client).__module__.partition(".")[0])
        group.closers.append(close)

    def close(self) -> None:
        """Close what is still open, from outside of the loops that it belongs to."""
        import asyncio

        here = asyncio._get_running_loop()
        for loop, group in self._groups.items():
            if group.closed or loop.is_closed() or loop is here:
                continue
            with contextlib.suppress(Exception):
                if loop.is_running():  # On a thread of its own.
                    asyncio.run_coroutine_threadsafe(group.aclose(), loop).result(CLOSE_TIMEOUT)
                elif here is None:
                    loop.run_until_complete(group.aclose())
        self._groups.clear()


class _Group:
    """The clients of one view in one loop."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self.closers: list[Callable[[], Awaitable[object]]] = []
        self.closed = False
        self._guard = self._wait()
        with contextlib.suppress(StopIteration):  # The first step makes it known to the loop; it awaits nothing.
            self._guard.__anext__().__await__().send(None)

    async def aclose(self) -> None:
        await self._guard.aclose()

    async def _wait(self) -> AsyncGenerator[None, None]:
        import asyncio

        try:
            yield
        finally:
            self.closed = True
            while self.closers:
                # As for other clients, closing must not fail a test: see `view._quietly`.
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self.closers.pop()(), CLOSE_TIMEOUT)


class Opening(Generic[C]):
    """A client that was asked for: `await` it, and it is closed after the test; or use it in `async with`, which closes
    it at the end of the block."""

    def __init__(self, verb: str, open: Callable[[], Awaitable[C]], close: Callable[[C], Awaitable[object]]) -> None:
        running_loop(verb)
        self._verb = verb
        self._open = open
        self._close = close

    def __await__(self) -> Generator[Any, None, C]:
        return self._open().__await__()

    async def __aenter__(self) -> C:
        self._client = await self._open()
        return self._client

    async def __aexit__(self, *error: object) -> None:
        await self._close(self._client)

    def __repr__(self) -> str:
        return f"<{self._verb}, which is no coroutine: `await` it, or use asyncio.gather() or asyncio.ensure_future()>"

    if not TYPE_CHECKING:  # So that a forgotten `await` is an error there.

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{self._verb} is not awaited yet, so it has no {name!r}: write `await ...{self._verb}`"
            )


__all__ = ["CLOSE_TIMEOUT", "AsyncClients", "Opening", "are_open", "close_all", "own_time", "packages", "running_loop"]
