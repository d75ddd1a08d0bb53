# SPDX-License-Identifier: Apache-2.0
"""Clients: those of itest itself, and the one that is kept open for the tests of a class."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from itest import alive
from itest.errors import ServerDied
from itest.packages import client_package
from itest.service import Server
from itest.wait import ANSWER_TIMEOUT

if TYPE_CHECKING:
    from redis import Redis as Client

    from itest.services.redis.server import RedisServer

KEPT_NAME = "itest-cache"
"""What kept connections call themselves on servers of ours, so that other leases tell them from clients of tests in CLIENT
LIST."""

SOCKET_TIMEOUT = 10.0
"""Seconds in which Redis must answer a command of ours."""

RIGHTS = {
    "database": "PING, SELECT, SET, GET, DEL, EXPIRE, DBSIZE, FLUSHDB, SCAN, DUMP, PEXPIRETIME, RESTORE and TYPE",
    "prefix": "PING, SELECT, DEL, UNLINK, SCAN, DUMP, PEXPIRETIME, RESTORE and TYPE",
    "none": "PING and SELECT",
}
"""What a user of an external server must be allowed, for each isolation."""

# What a URL says about TLS, in the words of redis-py, so that a client made of nothing but the URL works.

UNCHECKED = "ssl_cert_reqs=none&ssl_check_hostname=false"
_CHECKED = ("127.0.0.1", "localhost")
"""Hosts that our certificate is for."""


def with_authority(url: str, file: str) -> str:
    """The URL with the certificate authority that its clients must trust."""
    parts = urlsplit(url)
    url = parts._replace(query=f"ssl_ca_certs={quote(file)}").geturl()
    return url if parts.hostname in _CHECKED else nameless(url)


def nameless(url: str) -> str:
    """The URL for a host that our certificate does not name: the authority is checked all the same. One without TLS
    stays as it is."""
    parts = urlsplit(url)
    return parts._replace(query=f"{parts.query}&ssl_check_hostname=false").geturl() if parts.query else url


class Kept:
    """One client that stays connected from test to test, because connecting costs more than a whole reset."""

    def __init__(self, server: RedisServer, url: str, decode_responses: bool) -> None:
        self._server = server
        # The URL of an external server may say so as well.
        self.decode_responses = decode_responses or bool(_said(package(), url).get("decode_responses"))
        self._url = url
        self._opening = threading.Lock()
        self._client: Client | None = None
        self._made: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
        self.user = unquote(urlsplit(url).username or "") or "default"
        self.protocol = ""
        """2 or 3, once connected: the version that redis-py asks for."""
        self.ids: set[int] = set()
        """The numbers that the server gave its connections. A test may change their names."""

    def client(self) -> Client:
        with self._opening:  # Several threads may come at once.
            if self._client is None:
                self._client = client_of(
                    package(),
                    self._url,
                    decode_responses=self.decode_responses,
                    redis_connect_func=self._greet,
                    connection_class=_checked(self._server, self._url),
                    **({"client_name": KEPT_NAME} if self._server.owned else {}),
                )
                self._made = _customs(self._client)
            return self._client

    def renew(self) -> None:
        """Have the next test get a new client if one has changed this one, in this process: its callbacks, how it connects."""
        if self._client is not None and _customs(self._client) != self._made:
            self.close()

    def close(self) -> None:
        """Close its connections, those in use included; the next use opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=True)
            client.close()
        self.ids.clear()

    def _greet(self, connection: Any) -> None:
        """What is said on each new connection, those of a retry included, and one question more."""
        self._server.greet(connection)
        if not self._server.owned:
            return  # Nobody looks for them there, and its user may not be allowed CLIENT.
        connection.send_command("CLIENT", "ID")
        self.ids.add(int(connection.read_response()))
        self.protocol = str(getattr(connection, "protocol", ""))


def _customs(client: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return dict(client.response_callbacks), dict(client.connection_pool.connection_kwargs)


def _checked(server: Server[Any], url: str) -> Any:
    """A class of connections that raise ServerDied where they would try for minutes to reach a server that is gone."""
    kind: Any = package().SSLConnection if url.startswith("rediss:") else package().Connection

    class Checked(kind):  # type: ignore[misc]  # the package is only there when it is used
        def connect(self, *args: Any, **kwargs: Any) -> Any:
            if self._sock is None:  # `is_connected` is there from redis-py 8.0 on.
                try:
                    alive.check(server)
                except ServerDied as error:
                    raise error from None  # How the client came to notice explains nothing.
            return super().connect(*args, **kwargs)

    return Checked


def client_of(redis: Any, url: str, **options: Any) -> Any:
    """As `from_url` of the package redis, or redis.asyncio, but that options count where the URL says something else."""
    return redis.Redis.from_url(f"{urlsplit(url).scheme}://", **{**_said(redis, url), **options})


def _said(redis: Any, url: str) -> dict[str, Any]:
    """What a URL says, as arguments of a client."""
    return redis.connection.parse_url(url)  # type: ignore[no-any-return]  # a dict


def package() -> Any:
    """The package redis. Raises MissingPackage."""
    return client_package("redis", "redis", "the service Redis")


def connect(address: str, *, single: bool = False, retries: int = 0, **more: Any) -> Client:
    """A client of ours: does not retry by itself (whoever waits decides that) but where told to, and never hangs.

    With `single` it has one connection, `client.connection`, but for its pipelines, which is made at once. `more` is for
    redis-py, and wins. It answers in bytes, whatever the URL says for the clients of tests.
    """
    redis = package()
    client: Client = client_of(
        redis,
        address,
        decode_responses=False,
        socket_connect_timeout=ANSWER_TIMEOUT,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), retries),
        single_connection_client=single,
        **{"socket_timeout": SOCKET_TIMEOUT, **more},
    )
    return client
