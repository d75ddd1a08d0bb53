# SPDX-License-Identifier: Apache-2.0
"""Databases on an external server that a killed run left behind: told for sure, and dropped by the next run.

Each database that itest makes there has a comment that names its run, and a session of the run holds an advisory lock
for as long as the run lives. Such locks belong to one database, so the comment names that one too.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from itest import trace
from itest.errors import ExternalError, ResetError
from itest.services.postgres.standing import Standing, key

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

COMMENT = "itest: a test database of the run {token}, whose lock is in the database {oid}"
LOCK = int.from_bytes(b"itdb", "big") & 0x7FFFFFFF
"""The first key of the advisory locks; the second is the run's token."""


class Strays:
    """The marks of a run on the databases that it makes."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._led = False
        """Whether connections are known to lead where their URL says."""
        self._own = Standing(
            server,
            f"itest run {server.token}",
            lambda ask: ask("SELECT pg_advisory_lock(%s, %s)", LOCK, key(server.token)),
        )
        self._ask = self._own.ask
        try:
            [(self._oid,)] = self._ask("SELECT oid FROM pg_database WHERE datname = current_database()")
            self._sweep()
        except BaseException:
            self._own.close()
            raise

    def mark(self, name: str) -> None:
        """Say of a new database whose it is. Raises ExternalError where connections do not lead into it."""
        self._ask(f'COMMENT ON DATABASE "{name}" IS %s', COMMENT.format(token=self._server.token, oid=self._oid))
        if not self._led:
            self._check_way(name)
            self._led = True

    def close(self) -> None:
        self._own.close()

    def _check_way(self, name: str) -> None:
        """A pooler may have one database for all names: migrations and tests would change that one."""
        server = self._server
        try:
            with contextlib.closing(server.connection(name, "itest")) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT current_database()")
                [(found,)] = cursor.fetchall()
            reason = f"leads into {found!r}"
        except server.driver.OperationalError as error:
            found, reason = "", f"fails ({str(error).strip()})"
        if found != name:
            raise ExternalError(
                f"a connection to the database {name}, which was just made at {server.instance}, {reason}: if that is a pooler, "
                f"name the server itself, or have the pooler pass on names that it does not know (PgBouncer: * = host=..., "
                f"without dbname=)"
            )

    def _sweep(self) -> None:
        rows = self._ask(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database "
            "WHERE datname LIKE 'itest\\_%%' AND pg_has_role(datdba, 'USAGE')"
        )
        for name in self._own.left_by_dead(rows, COMMENT.replace("{oid}", str(self._oid)), LOCK):
            with contextlib.suppress(self._server.driver.Error, ResetError):
                self._server.end_sessions(name)
                self._drop(name)
                trace.say(f"dropped the database {name}, which a killed run had left on {self._server.instance}")

    def _drop(self, name: str) -> None:
        statement = f'DROP DATABASE IF EXISTS "{name}"'
        try:
            self._ask(statement)
        except self._server.driver.errors.WrongObjectType:  # It is a template, as a test has made it.
            self._ask(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
            self._ask(statement)
