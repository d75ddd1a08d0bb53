# SPDX-License-Identifier: Apache-2.0
"""Bringing a database back to its pristine state by undoing only what was done to it.

What changed is read from the write-ahead log (pg_walinspect, PostgreSQL 16 and later): it names each relation whose
blocks were written, so the cost follows what a test did and not how large the schema is, and nothing is installed that
code under test could see. Changed tables are emptied and refilled, changed sequences set back. Where anything else
changed (tables made or altered, large objects, ...) NeedsClone is raised, and says what.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from itest.services.postgres import leaks, shared
from itest.services.postgres.log import Changes
from itest.services.postgres.snapshot import OURS, STATISTICS, Files, Relation

if TYPE_CHECKING:
    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer

LONGEST_LOG = 32 * 1024 * 1024
"""Bytes of write-ahead log past which reading it costs more than a new clone."""

LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a table up to which its baseline rows are kept in memory; beyond that a new clone is cheaper."""

HARMLESS = frozenset({
    "LOCK", "LOCK_UPDATED", "INPLACE", "PRUNE", "PRUNE_ON_ACCESS", "PRUNE_VACUUM_SCAN", "PRUNE_VACUUM_CLEANUP",
    "VACUUM", "FREEZE_PAGE", "VISIBLE", "FPI_FOR_HINT", "NEW_CID",
})  # fmt: skip
"""Types of log records that change no row: row locks, statistics and flags in pg_class, vacuuming, hint bits."""


SCRIPTS = 100
"""How many sets of changed relations the statements are kept for: the tests of a class change the same few."""

SETTINGS = {"session_replication_role": "replica", "lock_timeout": "2s", "statement_timeout": "60s"}
"""What OURS means for a superuser's DELETE and setval, for a connection that was opened without."""

SETTINGS_OF_COPY = {"datestyle": "ISO", "intervalstyle": "postgres", "client_encoding": "UTF8"}


class NeedsClone(Exception):
    """Only a new clone will do; the message says why."""


class Recycler:
    """The reset of one database of ours on a server of ours. `state` is the shared state that belongs to it."""

    def __init__(self, server: PostgresServer, name: str, pristine: str, state: shared.Shared) -> None:
        self._server = server
        self._name = name
        self._state = state
        self._own = server.connection(name, "itest reset", options=OURS)
        [(self._oid,)] = self._ask("SELECT oid FROM pg_database WHERE datname = current_database()")
        with self._own.cursor() as cursor:
            self._snapshot = server.snapshot(pristine, cursor)
        self._files = self._snapshot.files
        # Their nextval writes no log, so that an unmoved position says nothing of them.
        self._silent = [relation for relation in self._snapshot.unlogged if relation.kind == "S"]
        # What can be said without reading the log, in one cheap statement: where it ends, ALTER SYSTEM's file, and how
        # many sessions there are. Who they are is asked only if there are others than ours.
        self._look = (
            f"SELECT pg_current_wal_insert_lsn()::text, pg_read_file('{shared.SYSTEM_FILE}'), "
            f"pg_stat_get_db_numbackends({self._oid})"
        )
        self._ask(
            "PREPARE sessions AS SELECT pid, xact_start IS NOT NULL "
            "OR pid IN (SELECT pid FROM pg_lock_status() WHERE locktype = 'advisory') FROM pg_stat_get_activity(NULL) "
            f"WHERE datid = {self._oid} AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        [(self._position, self._system, _)] = self._ask(self._look)
        self._scanned, self._undoing = self._position, "0"
        self._was_dirty = False
        self._scripts: dict[frozenset[Relation], tuple[str, list[tuple[str, bytes]]]] = {}

    def close(self) -> None:
        self._own.close()

    def recycle(self, kept: Kept, test: str) -> bool:
        """Undo what was done since the last call; whether anything was. Raises NeedsClone where that will not do.

        `test` is the name of the test that used the database, for reports of what it left behind.
        """
        asked: contextlib.AbstractContextManager[Callable[[], Changes] | None] = contextlib.nullcontext()
        if self._was_dirty:  # As the one before was, mostly: so the log is read while the session is brought back.
            asked = self._server.log.changes_meanwhile(self._scanned, self._oid, self._undoing)
        with asked as answer:
            [(position, system, count)] = kept.scrub(self._look, test) or self._ask(self._look)
            if count != 1 + kept.count() and self._end_leaked(kept, test):
                [(position, system, _)] = self._ask(self._look)
                answer = None  # It does not tell what those did to their end.
            if answer is None and position == self._position and system == self._system and not self._silent:
                return False
            if _bytes(position) - _bytes(self._scanned) > LONGEST_LOG:
                raise NeedsClone(f"more than {LONGEST_LOG >> 20} MB were written")
            read = answer or (lambda: self._server.log.changes(self._scanned, self._oid, self._undoing))
            changed, catalogs, shared_too, position = self._changes(read(), test)
        if shared_too or system != self._system:
            if shared.read(self._server, self._name) != self._state:
                raise NeedsClone("roles, settings or databases of the server changed")
            self._system = system
        if catalogs:
            changed |= self._look_into(catalogs)
        # Not from the end of our own transaction: what an app writes meanwhile must be seen the next time.
        self._scanned = self._position = position
        self._was_dirty = bool(changed)
        if changed:
            # A session's caches know the tables that were used in it: 0.3 ms for 3 tables, 0.6 where they are news.
            self._undo(changed, kept.scrubbed or self._own)
        return bool(changed)

    def written(self) -> dict[str, set[str]]:
        """The tables written to since the last reset, and by which kinds of log records. Touches nothing that a reset
        or a test uses, so that any thread may ask."""
        from itest.services.postgres import evidence  # Only failing tests need it.

        files = self._files.relations
        found: dict[str, set[str]] = {}
        for file, records in evidence.written(self._server, self._scanned, self._oid, self._undoing).items():
            if (relation := files.get(file)) is not None and relation.kind == "r" and not records <= HARMLESS:
                found[relation.name.removeprefix("public.")] = records
        return dict(sorted(found.items()))

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self._own.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _end_leaked(self, kept: Kept, test: str) -> bool:
        """End what sessions of others are doing; whether they were doing anything."""
        sessions = dict(self._ask("EXECUTE sessions"))
        busy = [pid for pid in kept.foreign(sessions.keys()) if sessions[pid]]
        return bool(busy) and leaks.end_sessions(self._server, busy, test)

    def _changes(self, told: Changes, test: str) -> tuple[set[Relation], set[str], bool, str]:
        """The tables and sequences written to since the last reset, the catalogs, whether shared ones were, and up to
        where the log was read."""
        if told.prepared:
            leaks.roll_back_prepared(self._server, self._name, test)
        changed: set[Relation] = set(self._snapshot.unlogged)  # They are not in the log.
        catalogs: set[str] = set()
        shared_too = False
        for database, file, record in told.records:
            if record.partition("+")[0] in HARMLESS:
                continue
            if database != self._oid:
                shared_too = True
            elif relation := self._files.relations.get(file):
                changed.add(relation)
            elif (catalog := self._files.catalogs.get(file)) and catalog not in STATISTICS:
                catalogs.add(catalog)
        return changed, catalogs, shared_too, told.position

    def _look_into(self, catalogs: Collection[str]) -> set[Relation]:
        """The relations that lie in other files than before, after TRUNCATE and the like. Raises NeedsClone if there is
        more to it: temporary tables that are gone, and what was rolled back, have left the catalogs as they were."""
        with self._own.cursor() as cursor:
            differing = self._snapshot.changed_catalogs(catalogs, cursor)
            if not differing:
                return set()
            if differing != {"pg_class"} or not self._snapshot.same_shapes(cursor):
                raise NeedsClone(f"the schema changed ({', '.join(sorted(differing))})")
            before, self._files = self._files, Files.read(cursor, self._files.known)
        if before.catalogs != self._files.catalogs:
            raise NeedsClone("system catalogs were rewritten")
        return {relation for file, relation in self._files.relations.items() if file not in before.relations}

    def _undo(self, changed: Iterable[Relation], connection: Any) -> None:
        """Empty and refill the changed tables, set back the changed sequences, in one transaction."""
        which = frozenset(changed)
        if which not in self._scripts:
            if len(self._scripts) >= SCRIPTS:
                self._scripts.clear()
            self._scripts[which] = self._script(which)
        start, refill = self._scripts[which]
        end = (
            "COMMIT; SELECT pg_current_wal_insert_lsn()::text, current_setting('itest.xid'), "
            "set_config('itest.xid', '', false)"
        )
        was, connection.autocommit = connection.autocommit, True  # Says only whether psycopg2 sends BEGIN by itself.
        with connection.cursor() as cursor:
            if refill:
                cursor.execute(start)
                for copy, rows in refill:
                    cursor.copy_expert(copy, io.BytesIO(rows))
                cursor.execute(end)
            else:
                cursor.execute(f"{start}; {end}")
            self._position, self._undoing, _ = cursor.fetchone()
        connection.autocommit = was

    def _script(self, changed: Iterable[Relation]) -> tuple[str, list[tuple[str, bytes]]]:
        """The statements that undo changes of these relations, and the COPY statements with their rows after them."""
        relations = sorted(changed, key=lambda relation: relation.name)
        for relation in relations:
            if relation.kind == "m":
                raise NeedsClone(f"the materialized view {relation.name} was refreshed")
            if relation.guarded:
                raise NeedsClone(f"{relation.name} has triggers or rules that always fire")
            if relation.size > LARGEST_COPY:
                raise NeedsClone(f"{relation.name} has more than {LARGEST_COPY >> 20} MB of baseline rows")
        contents = list(zip(relations, self._snapshot.contents(relations), strict=True))
        settings = SETTINGS | (SETTINGS_OF_COPY if any(content.rows for _, content in contents) else {})
        steps = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
        steps.append("set_config('itest.xid', pg_current_xact_id()::xid::text, false)")
        for relation, content in contents:
            if content.position:
                last, called = content.position
                name = relation.name.replace("'", "''")
                steps.append(f"setval('{name}', {last}, {called})")
        deletes = [f"DELETE FROM ONLY {relation.name}" for relation in relations if relation.kind == "r"]
        start = "; ".join(["BEGIN READ WRITE", f"SELECT {', '.join(steps)}", *deletes])
        refill = [(f"COPY {relation.name}{content.columns} FROM STDIN", content.rows) for relation, content in contents]
        return start, [(copy, rows) for copy, rows in refill if rows]


def _bytes(position: str) -> int:
    """A log position `16/B374D848` as a number of bytes."""
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)
