# SPDX-License-Identifier: Apache-2.0
"""The shortest way to a server of ours, for the connection that resets a database: the Unix socket beside its data.

In Docker it takes a tenth from a reset after 100 000 keys (docs/benchmarks.md): Redis frees them on another thread, and what the
kernel does for a network waits for a processor too. Tests get clients by an address.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from itest.container_root import socket_in
from itest.engines import Instance, place_of
from itest.services.redis.clients import connect, package
from itest.services.redis.recipes import DATA, SOCKET

if TYPE_CHECKING:
    from redis import Redis as Client

    from itest.services.redis.server import RedisServer


def client(server: RedisServer, database: int) -> Client:
    """A client with one connection to a database: by the socket where this process can use it, else by an address."""
    if server.owned and (path := _socket(server.instance)) is not None:
        user, _, _ = urlsplit(server.address).netloc.rpartition("@")
        url = f"unix://{user}@{quote(str(path))}?db={database}"
        # A path of more than 107 bytes, on a Mac 103, is none to connect to; redis-py 8.0.0 raises ValueError for any; and
        # packages that keep tests from the network have errors of their own.
        with contextlib.suppress(Exception):
            return connect(url, single=True, connection_class=_finding(server.instance))
    return server.connect_to(database, single=True)


def _socket(instance: Instance) -> Path | None:
    """Its socket: of a local process in its own directory, of a container in its files, if this process may see them."""
    if place := place_of(instance):
        return socket_in(place, SOCKET)
    root = instance.root()
    return None if root is None else socket_in(root, DATA.lstrip("/"), SOCKET)


def _finding(instance: Instance) -> Any:
    """A class of connections that look for the socket each time: a container that was started again has its files elsewhere."""
    kind: Any = package().UnixDomainSocketConnection

    class Finding(kind):  # type: ignore[misc]  # the package is only there when it is used
        def _connect(self) -> Any:
            if (path := _socket(instance)) is not None:
                self.path = str(path)
            return super()._connect()

    return Finding
