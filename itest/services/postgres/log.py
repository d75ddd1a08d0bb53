# SPDX-License-Identifier: Apache-2.0
"""The write-ahead log as a record of what was changed, read through the contrib module pg_walinspect."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

_CHANGES = (
    "WITH e AS MATERIALIZED (SELECT {end} AS position) "
    "SELECT DISTINCT reldatabase::bigint, relfilenode::bigint, record_type "
    "FROM e, pg_get_wal_block_info($1, position, false) "
    "WHERE relforknumber = 0 AND reldatabase IN (0, $2) AND xid <> $3 "
    "UNION ALL SELECT dbid, NULL, NULL FROM pg_prepared_xact() WHERE dbid = $2 "
    "UNION ALL SELECT NULL, NULL, position::text FROM e"
)


class Log:
    """The log of a server, read on its administrative connection."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._prepared_by: object = None

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

    def changes(self, since: str, database: int, without: str) -> tuple[list[tuple[int, int, str]], bool, str]:
        """What was changed since that position, but for one transaction: (database, file, record type), of a database
        and of the shared catalogs (whose database is 0); whether the database has prepared transactions; and up to
        where the log was read.

        Raises the driver's error when the log does not reach back that far.
        """
        server = self._server
        # The functions read only what is flushed. From 17 on a message can do that, before that a commit.
        flush, end = "", "pg_logical_emit_message(false, 'itest', '', true)"
        if server.number < 170000:
            flush = "BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, '', ''); COMMIT; "
            end = "pg_current_wal_flush_lsn()"
        with server.administration() as session:
            if self._prepared_by is not session:
                server.admin(f"PREPARE itest_log (pg_lsn, oid, xid) AS {_CHANGES.format(end=end)}")
                self._prepared_by = session
            *rows, (_, _, position) = server.admin(f"{flush}EXECUTE itest_log ('{since}', {database}, '{without}')")
        log = [row for row in rows if row[1] is not None]
        return log, len(log) < len(rows), position
