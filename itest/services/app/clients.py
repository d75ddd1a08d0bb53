# SPDX-License-Identifier: Apache-2.0
"""The clients of HTTP that the view of an app hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itest.packages import client_package
from itest.service import View

if TYPE_CHECKING:
    from httpx import AsyncClient, Client

TIMEOUT = 30.0
"""Seconds that clients wait for an answer. An app that imports half of itself for its first one may need some."""


class HttpView(View):
    """A view whose `url` is one of HTTP."""

    _client: Client | None = None

    @property
    def client(self) -> Client:
        """An `httpx.Client` whose paths start at `url`, this test's own with its own cookies. Closed after the test."""
        if self._client is None:
            httpx = client_package("httpx", "app", f"{type(self).__name__}.client")
            self._client = self._closing(httpx.Client(**self._settings()))
        return self._client

    def aclient(self, **kwargs: Any) -> AsyncClient:
        """A new `httpx.AsyncClient` whose paths start at `url`, for the running event loop, with its keyword arguments.
        Closed after the test."""
        httpx = client_package("httpx", "app", f"{type(self).__name__}.aclient()")
        client: AsyncClient = httpx.AsyncClient(**{**self._settings(), **kwargs})
        return self._closing_async(client, client.aclose, "aclient")

    def close(self) -> None:
        super().close()
        self._client = None  # Else the class's own, closed when its tests begin, would be handed out after them.

    def _settings(self) -> dict[str, Any]:
        # Neither proxies of the environment nor certificates, whose loading takes 20 ms, are for the loopback address.
        local = {} if self.url.startswith("https:") else {"verify": False}
        return {"base_url": self.url, "timeout": TIMEOUT, "trust_env": False, **local}
