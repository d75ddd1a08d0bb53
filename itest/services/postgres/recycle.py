# SPDX-License-Identifier: Apache-2.0
"""Bringing a database back to its pristine state by undoing only what was done to it.

What changed is read from the write-ahead log (pg_walinspect, PostgreSQL 16 and later): it names each relation whose
blocks were written, so the cost follows what a test did and not how large the schema is, and nothing is installed that
code under test could see. Changed tables are emptied and refilled, changed sequences set back. Anything else that
changed (tables made or altered, large objects, ...) means a new clone, and `recycle` says so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from itest import naming, trace
from itest.clock import Deadline
from itest.services.postgres.snapshot import LARGEST_COPY, STATISTICS, Relation, Snapshot

if TYPE_CHECKING:
    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer

GRACE = 0.05
"""Seconds that a transaction of somebody else may take to end by itself: a live app may be in the middle of one."""

LONGEST_LOG = 32 * 1024 * 1024
"""Bytes of write-ahead log past which reading it costs more than a new clone."""

DATA_CHANGES = ("INSERT", "DELETE", "UPDATE", "HOT_UPDATE", "CONFIRM", "MULTI_INSERT", "LOG")
"""Record types (first word) that change rows or sequences. Others lock, prune, freeze, set hints or serve indexes."""

OWN_SETTINGS = (
    "SET session_replication_role = replica; "  # No trigger fires and no foreign key is checked.
    "SET lock_timeout = '2s'; SET statement_timeout = '30s'; SET synchronous_commit = on; "
    "SET row_security = off"
)


class Recycler:
    """The reset of one database of ours on a server of ours."""

    def __init__(self, server: PostgresServer, name: str, pristine: str) -> None:
        self._server = server
        self._name = name
        self._own = server.connection(name, "itest reset")
        with self._own.cursor() as cursor:
            cursor.execute(OWN_SETTINGS)
            cursor.execute(
                "SELECT oid, current_setting('max_prepared_transactions') <> '0' "
                "FROM pg_database WHERE datname = current_database()"
            )
            self._oid, self._may_prepare = cursor.fetchone()
            self._snapshot = server.snapshot(pristine, cursor)
        self._look = (
            "SELECT pg_current_wal_insert_lsn()::text, "
            "ARRAY(SELECT pid FROM pg_stat_get_activity(NULL) WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() "
            f"AND datid = {self._oid} AND backend_type = 'client backend'), "
            f"ARRAY(SELECT pid FROM pg_lock_status() WHERE locktype = 'advisory' AND database = {self._oid} "
            "AND pid <> pg_backend_pid())"
        )
        self._position: str = self._ask(self._look)[0][0]
        self.roles_changed = False

    def close(self) -> None:
        self._own.close()

    def recycle(self, kept: Kept, test: str) -> bool:
        """Undo what was done since the last call. False when only a new clone will do; then nothing is promised.

        `test` is the name of the test that used the database, for reports of what it left behind.
        """
        [(position, busy, lockers)] = kept.scrub(self._look) or self._ask(self._look)
        if busy or lockers:
            self._end_leaked(test)
            [(position, _, _)] = self._ask(self._look)
        if position == self._position:
            return True
        if self._may_prepare and self._ask(f"SELECT 1 FROM pg_prepared_xact() WHERE dbid = {self._oid}"):
            return False  # It outlives its session; dropping the database rolls it back.
        changed = self._changed(position)
        if changed is None:
            return False
        return self._undo(changed)

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self._own.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()  # type: ignore[no-any-return]  # psycopg2 is not a typed package

    def _changed(self, position: str) -> list[Relation] | None:
        """The tables and sequences written to since the last reset; None when something else changed too."""
        if _bytes(position) - _bytes(self._position) > LONGEST_LOG:
            return None
        if (log := self._server.log_changes(self._position, self._oid)) is None:
            return None
        touched, self.roles_changed = log
        if self.roles_changed:
            return None
        changed: list[Relation] = list(self._snapshot.unlogged)  # They are not in the log.
        catalogs = False
        for filenode, record_type in touched:
            if record_type.split("+")[0] not in DATA_CHANGES:
                continue
            if relation := self._snapshot.relations.get(filenode):
                if relation.kind == "m" or (relation.rows and relation.size > LARGEST_COPY):
                    return None
                changed.append(relation)
            elif self._snapshot.catalogs.get(filenode) not in STATISTICS and filenode in self._snapshot.catalogs:
                catalogs = True
        return None if catalogs else list(dict.fromkeys(changed))

    def _undo(self, changed: Sequence[Relation]) -> bool:
        """Empty and refill the changed tables, set back the changed sequences."""
        driver = self._server.driver
        contents = self._snapshot.contents(changed)
        tables = [relation.name for relation in changed if relation.kind == "r"]
        positions = {name: content.position for name, content in contents.items() if content.position}
        setvals = [f"setval('{name.replace(chr(39), chr(39) * 2)}', {at}, {called})" for name, (at, called) in positions.items()]
        statements = ["BEGIN", *(f"DELETE FROM ONLY {name}" for name in tables)]
        statements += [f"SELECT {', '.join(setvals)}"] if setvals else []
        end = "COMMIT; SELECT pg_current_wal_insert_lsn()::text"
        refill = [name for name in tables if contents[name].rows]
        try:
            with self._own.cursor() as cursor:
                if refill:
                    cursor.execute("; ".join(statements))
                    for name in refill:
                        content = contents[name]
                        cursor.copy_expert(f"COPY {name} ({content.columns}) FROM STDIN", io.BytesIO(content.rows))
                    cursor.execute(end)
                else:
                    cursor.execute("; ".join([*statements, end]))
                [self._position] = cursor.fetchone()
        except driver.Error:
            return False  # A lock that is still held, or something else we do not know: a new clone undoes it.
        return True

    def _end_leaked(self, test: str) -> None:
        """End the sessions that hold a transaction or an advisory lock, and say which test left them."""
        grace = Deadline.after(GRACE)
        while True:
            [(_, busy, lockers)] = self._ask(self._look)
            if not busy and not lockers:
                return
            if grace.passed:
                break
            grace.pause(0.002)
        leaked = self._ask(
            "SELECT pid, state, query FROM pg_stat_activity WHERE pid = ANY(ARRAY[%s]::int[])"
            % ",".join(map(str, {*busy, *lockers}))
        )
        for pid, state, query in leaked:
            trace.say(
                f"{test} left a database session behind, which was ended: {state}, "
                f"last statement: {naming.shorten(naming.mask(query))}"
            )
            self._server.end_session(pid)


def _bytes(position: str) -> int:
    """A log position `16/B374D848` as a number of bytes."""
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)
