# SPDX-License-Identifier: Apache-2.0
"""`extensions`: made in a template database before its migrations, which may need them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.engines import place_of
from itest.errors import DeclarationError, Unavailable
from itest.script import reason_of

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

_NAME = re.compile(r"[A-Za-z_][\w-]*")


def check(extensions: Any) -> None:
    """Raise DeclarationError for what cannot be a list of names of extensions."""
    for name in extensions:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DeclarationError(f"{name!r} is no name of an extension")


def create(server: PostgresServer, service: Postgres, database: str) -> None:
    """Have the extensions in a database. Raises DeclarationError, or Unavailable where another engine would have them."""
    if not service.extensions:
        return
    connection = server.connection(database, "itest extensions")
    try:
        for name in service.extensions:
            _create(connection, server, service, name)
    finally:
        connection.close()
    server.end_sessions(database)


def need(server: PostgresServer, service: Postgres) -> None:
    """Raise DeclarationError for extensions that a database lacks in which itest makes nothing."""
    there = {name for (name,) in server.admin("SELECT extname FROM pg_extension")}
    if missing := [name for name in service.extensions if name not in there]:
        raise DeclarationError(
            f"the database {server.database!r} of the external server at {server.instance} has no extension "
            f"{', '.join(missing)}, and with isolation={service.isolation_or_default!r} nothing is made there: "
            f"CREATE EXTENSION {missing[0]}"
        )


def _create(connection: Any, server: PostgresServer, service: Postgres, name: str) -> None:
    with connection.cursor() as cursor:
        try:
            cursor.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE')
            return
        except server.driver.Error as error:
            reason = error
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = %s", (name,))
        [(installed,)] = cursor.fetchall()
    said = naming.mask(reason_of(reason))
    if installed:
        message = f"the extension {name!r} could not be made in {server.version} ({_origin(server, service)}): {said}"
        raise DeclarationError(message) from reason
    if not server.instance.owned:
        raise DeclarationError(f"the extension {name!r} is not installed on the {_origin(server, service)}") from reason
    if place_of(server.instance) is None:
        raise DeclarationError(
            f"the extension {name!r} is not installed in {_origin(server, service)}; take an image that has it, as "
            f"pgvector/pgvector has vector and postgis/postgis has postgis"
        ) from reason
    raise Unavailable(
        f"the extension {name!r} is not installed in {server.version} as a local process; install it, or use Docker "
        f"with an image that has it"
    ) from reason


def _origin(server: PostgresServer, service: Postgres) -> str:
    return f"image {service.image}" if server.instance.owned else f"external server at {server.instance}"
