# SPDX-License-Identifier: Apache-2.0
"""Shorter ways to a server of ours than the address that users are told, for connections that itest keeps itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

TIMEOUT = 2
"""Seconds that a way has to prove itself; libpq takes no less."""

SOCKET_PATH_LIMIT = 80
"""Characters of a directory below which a socket can be reached by its path, which has 104 bytes at most on macOS."""


def ways(server: PostgresServer) -> Iterator[tuple[str, dict[str, Any]]]:
    """URLs to be tried, the shortest way first, with what proves that each leads to this very server.

    A local process has a Unix socket in its own directory: a round trip takes half the time there, and connecting a third.
    A container has an address of its own, behind Docker's proxy. Another container may have it by now, so the password is
    the proof: it is this run's, and SCRAM has the server prove that it knows it too (RFC 5802, the server's signature). One
    that was chosen is none: others may have it.
    """
    instance, address = server.instance, urlsplit(server.address)
    place: Path | None = getattr(instance, "place", None)
    if instance.owned and place is not None and len(str(place)) <= SOCKET_PATH_LIMIT:
        query = urlencode({"host": str(place / "data"), "port": instance.endpoint("postgres").port})
        yield address._replace(query=query).geturl(), {"connect_timeout": TIMEOUT}
    if not server.chosen_password and (direct := instance.direct_endpoint()):
        user, _, _ = address.netloc.rpartition("@")
        url = address._replace(netloc=f"{user}@{direct}").geturl()
        yield url, {"connect_timeout": TIMEOUT, "require_auth": "scram-sha-256"}
