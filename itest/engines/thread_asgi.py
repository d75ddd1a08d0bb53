# SPDX-License-Identifier: Apache-2.0
"""An ASGI app behind uvicorn, in an event loop of its own on a thread of this process; its lifespan is honoured."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, TypeVar

from itest.engines.thread_calls import Calls
from itest.engines.thread_log import AppLog

GRACE = 2
"""Seconds that requests have to be answered when the app is stopped; after that they are cancelled."""

EVENTS = b"text/event-stream"
"""What a stream of events says it is."""

T = TypeVar("T")

Message = MutableMapping[str, Any]


class AsgiServing:
    """Serves one app until it is stopped."""

    def __init__(self, app: Any, listeners: Sequence[socket.socket], log: AppLog) -> None:
        import uvicorn

        self.failure: BaseException | None = None
        self.calls = Calls()
        self._app = app
        self._log = log
        self._listeners = list(listeners)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.served, interface="asgi3", log_config=None, log_level=None, timeout_graceful_shutdown=GRACE
            )
        )

    async def served(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """The app, as uvicorn calls it, and as it is called in this process."""
        self._log.enter()
        if scope["type"] == "lifespan":
            try:
                return await self._app(scope, receive, send)  # type: ignore[no-any-return]  # an app returns nothing
            except BaseException as error:
                self.failure = error
                raise
        if "state" not in scope:
            scope = {**scope, "state": self._server.lifespan.state.copy()}
        if scope["type"] != "http":  # A WebSocket lasts for as long as its client wants.
            return await self._app(scope, receive, send)  # type: ignore[no-any-return]  # as above
        with self.calls.during(f"{scope['method']} {scope['path']}") as end:

            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = [*message.get("headers", ())]  # An iterable, by ASGI: it may be read once.
                    message = {**message, "headers": headers}
                    if EVENTS in dict(headers).get(b"content-type", b""):
                        end()  # It lasts for as long as its client wants, too.
                await send(message)

            return await self._app(scope, receive, sent)  # type: ignore[no-any-return]  # as above

    def serve(self, ready: threading.Event) -> None:
        """Serve until `stop` is called; `ready` is set when the app has started. Raises what ended it otherwise."""
        start = self._server.startup

        async def start_and_tell(sockets: list[socket.socket] | None = None) -> None:
            await start(sockets)
            if self._server.lifespan.should_exit:  # uvicorn 0.34 returns then, where newer ones exit themselves.
                sys.exit("the lifespan has failed")
            self.failure = None  # That of an app which knows no lifespan, and says so by any exception.
            ready.set()

        self._server.startup = start_and_tell  # type: ignore[method-assign]  # it has no hook for this
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._task = asyncio.current_task()
        await self._server.serve(sockets=self._listeners)

    def stop(self) -> None:
        """Have it end in an orderly way. Called from another thread."""
        self._server.should_exit = True

    def cancel(self) -> None:
        """Have it end now, also while it is starting."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    def catch_up(self, seconds: float) -> None:
        """One turn of its loop. Nothing in that loop itself, nor where it does not turn."""
        if self._loop is None or not self._loop.is_running() or _is_running_here(self._loop):
            return
        turned = threading.Event()
        with contextlib.suppress(RuntimeError):  # It has been closed meanwhile.
            self._loop.call_soon_threadsafe(turned.set)
            turned.wait(seconds)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Run it in the app's event loop. Raises TimeoutError."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
