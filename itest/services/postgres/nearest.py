# SPDX-License-Identifier: Apache-2.0
"""Shorter ways to a server of ours than the address that users are told, for connections that itest keeps itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from itest.container_root import socket_in
from itest.engines import place_of
from itest.services.postgres.customs import PORT

if TYPE_CHECKING:
    from itest.engines import Instance
    from itest.services.postgres.administered import Administered

TIMEOUT = 2
"""Seconds that a way has to prove itself; libpq takes no less."""

DIRECTORY = ("run", "postgresql")
"""Where the official images have their socket, those on Debian and those on Alpine."""

SOCKET_PATH_LIMIT = 80
"""Characters of a directory below which a socket can be reached by its path, which has 104 bytes at most on macOS."""


Way = tuple[str, dict[str, Any]]
"""A URL, and what is to be given with it to have the server prove itself."""


def ways(server: Administered) -> list[Way]:
    """URLs to be tried, the shortest way first, with what proves that each leads to this very server.

    A Unix socket is answered sooner than a port, and asks for no password: connecting takes a third of the time. A local
    process has one in its own directory, a container in its own files, where this process may look into them.
    A container has an address of its own, too, behind Docker's proxy. Another container may have it by now, so the password
    is the proof: it is this run's, and SCRAM has the server prove that it knows it too (RFC 5802, the server's signature).
    One that was chosen is none: others may have it.
    """
    instance, address = server.instance, urlsplit(server.address)
    found: list[Way] = []
    if instance.owned and (socket := _socket(instance)):
        directory, port = socket
        query = urlencode({"host": str(directory), "port": port})
        found.append((address._replace(query=query).geturl(), {"connect_timeout": TIMEOUT}))
    if not server.chosen_password and (direct := instance.direct_endpoint()):
        user, _, _ = address.netloc.rpartition("@")
        # In the URL, so that each connection is proved: after a restart of the container that address may be another one's.
        url = address._replace(netloc=f"{user}@{direct}", query=urlencode({"require_auth": "scram-sha-256"})).geturl()
        found.append((url, {"connect_timeout": TIMEOUT}))
    return found


def _socket(instance: Instance) -> tuple[Path, int] | None:
    """The directory of the server's Unix socket and the port in its name."""
    if place := place_of(instance):
        return (place / "data", instance.endpoint("postgres").port) if len(str(place)) <= SOCKET_PATH_LIMIT else None
    root = instance.root()
    if root is None or (socket := socket_in(root, *DIRECTORY, f".s.PGSQL.{PORT}")) is None:
        return None
    return socket.parent, PORT
