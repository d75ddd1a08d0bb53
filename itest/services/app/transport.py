# SPDX-License-Identifier: Apache-2.0
"""Requests to an app in this process without a socket, so that what it raises reaches the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itest.engines import ThreadedApp
from itest.packages import client_package

if TYPE_CHECKING:
    from types import TracebackType

    from httpx import BaseTransport, Request, Response

PURPOSE = "test_client"


def wsgi_transport(instance: ThreadedApp) -> BaseTransport:
    transport: BaseTransport = client_package("httpx", "app", PURPOSE).WSGITransport(instance.served)
    return transport


class LoopTransport:
    """Calls an ASGI app in the event loop that serves it, where its connections and locks belong. A transport of httpx,
    which asks for no more than this of one."""

    def __init__(self, instance: ThreadedApp) -> None:
        self._instance = instance
        self._httpx = client_package("httpx", "app", PURPOSE)
        self._transport = self._httpx.ASGITransport(instance.served)

    def handle_request(self, request: Request) -> Response:
        request.read()  # Here, since it may come from a generator of the test's.
        seconds = request.extensions.get("timeout", {}).get("read")
        try:
            return self._instance.run(self._answer(request), seconds)
        except TimeoutError as error:
            raise self._httpx.ReadTimeout(f"no answer within {seconds:g} s", request=request) from error

    async def _answer(self, request: Request) -> Response:
        response: Any = await self._transport.handle_async_request(request)
        body = b"".join([part async for part in response.stream])
        made: Response = self._httpx.Response(
            response.status_code, headers=response.headers, stream=self._httpx.ByteStream(body)
        )
        return made

    def __enter__(self) -> LoopTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing: it holds no connection."""
