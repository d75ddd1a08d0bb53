# SPDX-License-Identifier: Apache-2.0
"""Connections that stay open from test to test, because opening one costs more than a whole reset.

What a test did to them is undone between tests; one that is broken, or whose changes cannot be undone, is replaced.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from itest.service import client_package

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from sqlalchemy import Engine

    from itest.services.postgres.server import PostgresServer

SCRUB = (
    # DISCARD ALL by its documented parts: that command refuses to share a round trip with others.
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; CLOSE ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


class Kept:
    """The kept connections of one database: one psycopg2 connection, and those in the pool of one SQLAlchemy engine."""

    def __init__(self, server: PostgresServer, name: str, label: str) -> None:
        self._server = server
        self._url = server.url_of(name)
        self._label = label
        self._connection: Connection | None = None
        self._engine: Engine | None = None
        self._pooled: dict[int, Any] = {}
        self._used: dict[int, Any] = {}

    def connection(self) -> Connection:
        """The kept psycopg2 connection."""
        if self._connection is None or self._connection.closed:
            self._connection = self._server.driver.connect(self._url, application_name=self._label)
        self._used[id(self._connection)] = self._connection
        return self._connection

    def engine(self) -> Engine:
        """The kept SQLAlchemy engine."""
        if self._engine is None:
            sqlalchemy = client_package("sqlalchemy", "sqlalchemy", "PostgresView.engine")
            self._engine = sqlalchemy.create_engine(
                "postgresql+psycopg2" + self._url.removeprefix("postgresql"),
                connect_args={"application_name": self._label},
            )
            sqlalchemy.event.listen(self._engine, "checkout", self._checked_out)
        return self._engine

    def _checked_out(self, connection: Any, record: Any, proxy: Any) -> None:
        self._used[id(connection)] = connection

    def scrub(self, then: str) -> list[tuple[Any, ...]] | None:
        """Undo what was done to the used connections. Returns the rows of the statement `then`, which rides along with
        the last one, or None when no connection was used or none was fit to be kept."""
        used, self._used = self._used, {}
        if self._engine is not None and self._engine.pool.checkedout() > 0:  # type: ignore[attr-defined]  # QueuePool
            self._dispose()  # A connection that is still in use cannot be cleaned, and its user must not go on with it.
        rows = None
        for connection in used.values():
            if connection.closed:
                continue
            try:
                rows = _scrub(connection, then)
            except self._server.driver.Error:
                rows = None
                self._forget(connection)
        return rows

    def close(self) -> None:
        """Close all of them; the next use opens new ones."""
        self._used.clear()
        self._dispose()
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def _forget(self, connection: Any) -> None:
        with contextlib.suppress(Exception):
            connection.close()
        if connection is self._connection:
            self._connection = None
        else:
            self._dispose()

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _scrub(connection: Any, then: str) -> list[tuple[Any, ...]]:
    """One round trip. Raises where the connection cannot be brought back to what it was when it was new."""
    if connection.string_types or connection.binary_types or connection.async_:
        raise connection.InterfaceError("type casters were registered on it; there is no way to take them back")
    connection.rollback()  # Costs nothing outside a transaction.
    if (connection.isolation_level, connection.readonly, connection.deferrable) != (None, None, None):
        connection.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT")  # 3 round trips
    connection.autocommit = True  # None.
    connection.cursor_factory = None
    with connection.cursor() as cursor:
        cursor.execute(f"{SCRUB}; {then}")
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    connection.autocommit = False
    connection.notices.clear()
    connection.notifies.clear()
    return rows
