# SPDX-License-Identifier: Apache-2.0
"""Which kind of lease stands for which isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itest import trace
from itest.errors import ExternalError
from itest.services.postgres.lease import PostgresLease

if TYPE_CHECKING:
    from itest.lease import Lease
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer
    from itest.services.postgres.view import PostgresView


def lease(server: PostgresServer, service: Postgres, owner: str) -> Lease[PostgresView]:
    """The lease of a class, as its declaration's isolation wants it. Raises ExternalError where it cannot be had."""
    isolation = service.isolation_or_default
    owned = server.instance.owned
    if not owned and isolation in ("database", "rollback"):
        _check_may_create(server, isolation)
        from itest.services.postgres.strays import Strays

        # Before anything is made: it refuses a server where that could not be told from what a dead run left.
        server.part(Strays)
    if not owned and isolation in ("truncate", "none") and service.extensions:
        from itest.services.postgres import extensions

        extensions.need(server, service)
    if not owned and isolation == "none" and (service.migrations is not None or service.fixtures):
        trace.say(
            f"{owner}: isolation='none' takes the external database {server.database} as it is, so neither migrations nor "
            f"fixtures are applied"
        )
    # A run needs one or two of them, and each brings modules of its own.
    if isolation == "rollback":
        from itest.services.postgres.rollback import RollbackLease

        return RollbackLease(server, service, owner)
    if isolation == "schema":
        from itest.services.postgres.schema import SchemaLease

        return SchemaLease(server, service, owner)
    if isolation == "truncate" and not owned:  # A server of ours has no database but those that itest makes.
        from itest.services.postgres.truncate import TruncateLease

        return TruncateLease(server, service, owner)
    return PostgresLease(server, service, owner)


def _check_may_create(server: PostgresServer, isolation: str) -> None:
    [(may_create,)] = server.admin("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
    if not may_create:
        raise ExternalError(
            f"the user {server.user!r} of the external {server.version} at {server.instance} may not create databases, "
            f"and with isolation={isolation!r} each class gets one of its own: ALTER ROLE {server.user} CREATEDB, or "
            f"declare isolation='schema' (a schema of its own in {server.database!r}) or isolation='truncate' (the "
            f"tables of {server.database!r} that are empty)"
        )
