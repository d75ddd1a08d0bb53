# SPDX-License-Identifier: Apache-2.0
"""A WSGI app behind waitress, on threads of this process.

waitress because it needs no other package, serves requests side by side as servers in production do, and says in its
log what an app raised.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import copy_context
from typing import Any, TypeVar

from itest.engines.thread_calls import Calls
from itest.engines.thread_log import AppLog

GRACE = 2
"""Seconds that requests have to be answered when the app is stopped."""

THREADS = 8
"""Requests that are answered side by side."""

T = TypeVar("T")


class WsgiServing:
    """Serves one app until it is stopped."""

    def __init__(self, app: Any, listeners: Sequence[socket.socket], log: AppLog) -> None:
        from waitress.server import create_server

        self.failure: BaseException | None = None
        self.calls = Calls()
        self._app = app
        self._log = log
        self._sockets: dict[int, Any] = {}
        self._server = create_server(self._answer, map=self._sockets, sockets=list(listeners), threads=THREADS)
        for each in self._sockets.values():
            if hasattr(each, "channel_class"):
                each.channel_class = _channel_class(self.calls)

    def served(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The app, as any thread may call it, which then goes on as one of its own."""
        return copy_context().run(self._answer, environ, start_response)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The app, as waitress calls it on threads that are there for nothing else."""
        self._log.enter()
        environ = {**environ, "wsgi.errors": self._log.stream}
        return self._app(environ, start_response)  # type: ignore[no-any-return]  # what WSGI says of an app

    def serve(self, ready: threading.Event) -> None:
        """Serve until `stop` is called."""
        ready.set()
        try:
            self._server.run()
        finally:
            self._server.task_dispatcher.shutdown(timeout=GRACE)

    def stop(self) -> None:
        """Have it end in an orderly way. Called from another thread."""
        from waitress import wasyncore

        # Each of its sockets has one, and any of them wakes its loop, which may be accepting somebody just now: a copy.
        found = [each.pull_trigger for each in list(self._sockets.values()) if hasattr(each, "pull_trigger")]
        if found:
            with contextlib.suppress(OSError):  # It has ended already.
                found[0](lambda: wasyncore.close_all(self._sockets))

    def cancel(self) -> None:
        """Nothing: what a thread does cannot be ended."""

    def catch_up(self, seconds: float) -> None:
        """Nothing: what an app raises is logged before its answer is sent."""

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        coroutine.close()
        raise TypeError("a WSGI app has no event loop")


def _channel_class(calls: Calls) -> Any:
    """waitress's own, whose calls of the app last until what it has answered with is closed (`call_on_close`)."""
    from waitress.channel import HTTPChannel
    from waitress.task import WSGITask

    class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
        def execute(self) -> None:
            with calls.during(f"{self.request.command} {self.request.path}"):
                super().execute()

    class Channel(HTTPChannel):  # type: ignore[misc]  # as above
        task_class = Task

    return Channel
