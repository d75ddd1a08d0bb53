# SPDX-License-Identifier: Apache-2.0
"""What a test gets of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from itest.async_clients import own_time
from itest.packages import client_package, too_old
from itest.service import View
from itest.services.redis.clients import UNCHECKED, Kept, client_of, package

if TYPE_CHECKING:
    from redis import Redis as Client
    from redis.asyncio import Redis as AsyncClient

    from itest.services.redis.server import RedisServer


class RedisView(View):
    """What a test gets of Redis: a database of its own."""

    server: RedisServer

    def __init__(self, server: RedisServer, database: int, kept: Kept, prefix: str) -> None:
        super().__init__(server)
        self.database = database
        self.prefix = prefix
        self._kept = kept

    @property
    def url(self) -> str:
        url = self.server.url_of(self.database)
        if self._inside is not None and self.authority:  # The file is not there, and the certificate not for that name.
            url = urlsplit(url)._replace(query=UNCHECKED).geturl()
        return self._reached(url)

    @property
    def password(self) -> str:
        """The server's, for clients that take host and port: they need it. Empty for an external server without one."""
        return unquote(urlsplit(self.url).password or "")

    @property
    def authority(self) -> str:
        """With `tls`, the file with the certificate of the authority that clients must trust; empty without."""
        return self.server.authority

    @property
    def env(self) -> dict[str, str]:
        trust = {"REDIS_CA_FILE": self.authority} if self.authority and self._inside is None else {}
        return {"REDIS_URL": self.url, **trust}

    def key(self, name: str) -> str:
        """The key that stands for this name: with `isolation="prefix"` under the class's own prefix."""
        return f"{self.prefix}{name}"

    @property
    def cache(self) -> Client:
        """The view's own client; `self.cache` on a RedisMixin. Its connection is kept from test to test."""
        self.check_open()
        return self._kept.client()

    def client(self, **kwargs: Any) -> Client:
        """A new client on this database; keyword arguments as for `redis.Redis.from_url`, `username` and `password` of
        another user too. Closed after the test."""
        client = client_of(package(), self.url, **{"decode_responses": self._kept.decode_responses, **kwargs})
        return self._closing(client)  # type: ignore[no-any-return]  # _closing returns what it was given

    @own_time()
    def aclient(self, **kwargs: Any) -> AsyncClient:
        """A new asyncio client on this database, for the running event loop; keyword arguments as for `client`. Closed after the
        test."""
        asynchronous = client_package("redis.asyncio", "redis", "RedisView.aclient()")
        options = {"decode_responses": self._kept.decode_responses, **kwargs}
        client: AsyncClient = client_of(asynchronous, self.url, **options)
        if not hasattr(client, "aclose"):
            raise too_old(package(), "5.2", "redis", "RedisView.aclient()")
        return self._closing_async(client, client.aclose, "aclient")
