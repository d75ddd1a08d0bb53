# SPDX-License-Identifier: Apache-2.0
"""The write-ahead log as a record of what was changed, read through the contrib module pg_walinspect."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from itest.clock import ready
from itest.services.postgres import libpq
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

OK, READ = 0, 1
"""psycopg2's POLL_OK and POLL_READ."""

ANSWER_TIMEOUT = 60.0
"""Seconds in which the server must have read its log: what its statement_timeout for a reset is."""

NOBODY = "2"
"""A transaction that no record is of (FrozenTransactionId, access/transam.h). Not 0: a sequence's record has that one where the
savepoint that its first value was taken in has no number yet (nextval_internal in commands/sequence.c)."""

_CHANGES = (
    "WITH e AS MATERIALIZED (SELECT {end} AS position) "
    "SELECT DISTINCT reldatabase::bigint, relfilenode::bigint, record_type "
    "FROM e, pg_get_wal_block_info($1, position, false) "
    "WHERE relforknumber = 0 AND reldatabase IN (0, $2) AND xid <> $3 "
    "UNION ALL SELECT dbid, NULL, NULL FROM pg_prepared_xact() WHERE dbid = $2 "
    "UNION ALL SELECT NULL, NULL, position::text FROM e"
)


class Changes(NamedTuple):
    """What the log tells."""

    records: list[tuple[int, int, str]]
    """Of each kind of change: the database (0 for the shared catalogs), the file, and the type of the record."""
    prepared: bool
    """Whether the database has prepared transactions."""
    position: str
    """Up to where it was read."""


class Log:
    """The log of a server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._prepared_by: object = None
        self._connection: Any = None
        self._asking = threading.Lock()

    @cached_property
    def readable(self) -> bool:
        """Whether changes can be read from it: it is our own server, 16 or later, and has pg_walinspect."""
        server = self._server
        if not server.instance.owned or server.number < 160000:
            return False
        try:
            server.admin("CREATE EXTENSION IF NOT EXISTS pg_walinspect")  # In a database where no test looks.
        except server.driver.Error:  # An image without the contrib modules.
            return False
        return True

    def changes(self, since: str, database: int, without: str) -> Changes:
        """What was changed since that position, but for one transaction, in a database and in the shared catalogs.

        Raises the driver's error when the log does not reach back that far.
        """
        server = self._server
        with server.administration() as session:
            question = self._question(since, database, without)
            if self._prepared_by is not session:
                question = f"{self._preparation}; {question}"
                self._prepared_by = session  # It stays prepared, also where the question then fails.
            return _changes(server.admin(question))

    @contextlib.contextmanager
    def changes_meanwhile(self, since: str, database: int, without: str) -> Iterator[Callable[[], Changes]]:
        """As `changes`, asked at once and answered by what the `with` gives: the server reads while it is asked for
        other things. It sees all that was done before.

        On a connection of its own; who finds that in use asks when the answer is wanted.
        """
        if not self._asking.acquire(blocking=False):
            yield lambda: self.changes(since, database, without)
            return
        try:
            cursor = self._second().cursor()
            cursor.execute(self._question(since, database, without))
            answered = False

            def answer() -> Changes:
                nonlocal answered
                _wait(cursor.connection)
                answered = True
                return _changes(cursor.fetchall())

            try:
                yield answer
            finally:
                if not answered:
                    self._drop_second()
        except (self._server.driver.Error, TimeoutError):
            self._drop_second()  # As long as it waits for an answer, it can be asked nothing else.
            raise
        finally:
            self._asking.release()

    def close(self) -> None:
        """Close its own connection."""
        with self._asking:
            self._drop_second()

    @property
    def _preparation(self) -> str:
        # The functions read only what is flushed. From 17 on a message can do that, before that a commit.
        end = "pg_logical_emit_message(false, 'itest', '', true)"
        if self._server.number < 170000:
            end = "pg_current_wal_flush_lsn()"
        return f"PREPARE itest_log (pg_lsn, oid, xid) AS {_CHANGES.format(end=end)}"

    def _question(self, since: str, database: int, without: str) -> str:
        flush = ""
        if self._server.number < 170000:
            flush = "BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, '', ''); COMMIT; "
        return f"{flush}EXECUTE itest_log ('{since}', {database}, '{without}')"

    def _second(self) -> Any:
        if self._connection is None or self._connection.closed:
            server = self._server
            server.check_alive()
            self._connection = server.open(
                server.nearest_url_of(server.database),
                application_name="itest log",
                async_=True,
                options=libpq.ADMINISTRATIVE,
            )
            _wait(self._connection)
            cursor = self._connection.cursor()  # By its name, since the connection alone does not keep it.
            cursor.execute(self._preparation)
            _wait(self._connection)
        return self._connection

    def _drop_second(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _changes(rows: list[tuple[Any, ...]]) -> Changes:
    *rows, (_, _, position) = rows
    log = [row for row in rows if row[1] is not None]
    return Changes(log, len(log) < len(rows), position)


def _wait(connection: Any) -> None:
    """Until an asynchronous connection is done with what it was asked. Raises the driver's error."""
    while (state := connection.poll()) != OK:
        if not ready(connection, ANSWER_TIMEOUT, to_write=state != READ):
            raise TimeoutError(f"the server's log was not read within {ANSWER_TIMEOUT:g} s")
