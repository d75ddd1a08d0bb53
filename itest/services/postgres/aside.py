# SPDX-License-Identifier: Apache-2.0
"""How to look at a database that was kept of a failed test."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from itest.evidence import Aside

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer


def aside(server: PostgresServer, database: str, write: Callable[[str, str], Path]) -> Aside:
    """The commands for it. The password is in a file as psql takes them: host:port:database:user:password."""
    endpoint = server.instance.endpoint()
    password, user = (part.replace("\\", "\\\\").replace(":", "\\:") for part in (server.password, server.user))
    file = write("pgpass", f"*:*:*:{user}:{password}\n")
    host = shlex.join(["psql", "-h", endpoint.host, "-p", str(endpoint.port), "-U", server.user, "-d", database])
    commands = [f"PGPASSFILE={shlex.quote(str(file))} {host}"]
    if hasattr(server.instance, "go_on"):  # A container: the image has a psql, and trusts whoever is inside.
        inside = ["docker", "exec", "-it", server.instance.id[:12], "psql", "-U", server.user, "-d", database]
        commands.append(shlex.join(inside))
    return Aside(tuple(commands))
