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
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from itest.services.postgres import leaks, shared
from itest.services.postgres.log import NOBODY, Changes
from itest.services.postgres.outside import Outside
from itest.services.postgres.snapshot import OURS, STATISTICS, Files, Relation, Snapshot
from itest.services.postgres.undo import NeedsClone, UndoScripts
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer

POSITION = "pg_current_wal_insert_lsn()::text"
"""An expression: where the log ends."""

SLOTS = "ARRAY(SELECT slot_name FROM pg_get_replication_slots() WHERE datoid = {})"
SLOTS_OF_NONE = SLOTS.replace("= {}", "= {} OR datoid IS NULL")
"""An expression: the replication slots of a database, `{}` its oid; and those of none."""


class Limit(NamedTuple):
    """Past what a new clone costs less: of a small database, and whatever its size is."""

    small: int
    most: float

    def of(self, size: int, alone: bool) -> float:
        """For a database with so many bytes of rows. `alone`: nobody else has it open, who would lose the connection."""
        return min(self.most, self.small * (DEARER + size) // DEARER) if alone else self.most


MB = 1024 * 1024

DEARER = 12 * MB
"""Bytes of rows with which a clone costs twice what an empty one does, 25 ms (docs/design.md, "Isolation")."""

LOG = Limit(4 * MB, 32 * MB)
"""Bytes of write-ahead log to be read, which takes 9 ms a MB."""

ROWS = Limit(4000, math.inf)
"""Baseline rows to be put back (Undo.weight), which takes 6 us a row."""

LIFE = Limit(64 * MB, 256 * MB)
"""Bytes of log that were read since the last clone. Nothing but a new one removes the dead rows that resets leave: these
servers have no autovacuum."""

LONGEST_SPARE = 4 * MB
"""Bytes of log that a class may have written for its database to serve the next one, which begins to count anew."""

HARMLESS = frozenset({
    "LOCK", "LOCK_UPDATED", "INPLACE", "PRUNE", "PRUNE_ON_ACCESS", "PRUNE_VACUUM_SCAN", "PRUNE_VACUUM_CLEANUP",
    "VACUUM", "FREEZE_PAGE", "VISIBLE", "FPI_FOR_HINT", "NEW_CID",
})  # fmt: skip
"""Types of log records that change no row: row locks, statistics and flags in pg_class, vacuuming, hint bits."""


class Recycler:
    """The reset of one database of ours on a server of ours. `state` is the shared state that belongs to it.

    It looks at a fresh clone at once, for what only that can tell; where the log's position `since` is known at which the
    database was pristine, and that it has no unlogged relations, not before something is to be undone.
    """

    def __init__(self, server: PostgresServer, name: str, pristine: str, state: shared.Shared, since: str = "") -> None:
        self._server = server
        self._name = name
        self._pristine = pristine
        self._state = state
        self._own: Any = None
        self._snapshot: Snapshot | None = None
        self._moved: Files | None = None
        # On a server that other processes use, those of no database may be theirs.
        slots = SLOTS if server.shared else SLOTS_OF_NONE
        [(self._oid, position, self._system, first_slots)] = server.admin(
            f"SELECT oid, {POSITION}, pg_read_file(%s), {slots.format('oid')} FROM pg_database WHERE datname = %s",
            shared.SYSTEM_FILE,
            name,
        )
        self._slots = frozenset(first_slots)
        self.position = since or position
        """Where the log ended when the database was last seen to be pristine."""
        self._scanned, self._undoing, self._read = self.position, NOBODY, 0
        self._was_dirty = False
        self._scripts = UndoScripts(lambda relations: self._known.contents(relations))
        # What can be said without reading the log, by a few cheap expressions: where it ends, ALTER SYSTEM's file, the
        # replication slots, and how many sessions there are. Who they are is asked only if there are others than ours; and
        # of all but the first only if something can be seen from outside.
        self._look = (
            f"{POSITION}, pg_read_file('{shared.SYSTEM_FILE}'), {slots.format(self._oid)}, "
            f"pg_stat_get_db_numbackends({self._oid})"
        )
        self._seen: object = None
        """What was seen from outside when all sessions were ours, and the file and the slots as they are to be."""
        if not since:
            with self._session.cursor() as cursor:
                self._snapshot = server.snapshot(pristine, cursor)
        # Their nextval writes no log, so that an unmoved position says nothing of them.
        self._silent = not since and any(relation.kind == "S" for relation in self._known.unlogged)

    @property
    def pid(self) -> int:
        """Of its own session; 0 while it has none."""
        return 0 if self._own is None else int(self._own.info.backend_pid)

    @property
    def as_new(self) -> bool:
        """Whether the database can serve another class when it is pristine again, and all of that be read in the log."""
        plain = self._snapshot is None or not self._snapshot.unlogged  # It is not looked at where that is known.
        return self._moved is None and plain and self._read < LONGEST_SPARE

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def recycle(self, kept: Kept, test: str) -> bool:
        """Undo what was done since the last call; whether anything was. Raises NeedsClone where that will not do.

        `test` is the name of the test that used the database, for reports of what it left behind.
        """
        asked: contextlib.AbstractContextManager[Callable[[], Changes] | None] = contextlib.nullcontext()
        if self._was_dirty:  # As the one before was, mostly: so the log is read while the session is brought back.
            asked = self._server.log.changes_meanwhile(self._scanned, self._oid, self._undoing)
        with asked as answer:
            seen, alone = self._server.part(Outside).look(), True
            if seen is not None and seen == self._seen:
                [position], system = kept.scrub(POSITION, test) or self._looked(POSITION), self._system
            else:
                position, system, slots, count = kept.scrub(self._look, test) or self._looked(self._look)
                alone = count == (self._own is not None) + kept.count()
                made = set(slots) - self._slots
                self._seen = seen if alone and system == self._system and not made else None
                leaks.drop_slots(self._server, made, test)
                if not alone and self._end_leaked(kept, test):
                    position, system, *_ = self._looked(self._look)
                    answer = None  # It does not tell what those did to their end.
            if kept.cut:
                answer = None
            if answer is None and position == self.position and system == self._system and not self._silent:
                return False
            length, size = _bytes(position) - _bytes(self._scanned), self._known.size
            self._read += length
            if length > (longest := LOG.of(size, alone)):
                raise NeedsClone(f"more than {longest / MB:.0f} MB were written")
            if self._read > (longest := LIFE.of(size, alone)):
                raise NeedsClone(f"more than {longest / MB:.0f} MB were written since it was cloned")
            read = answer or (lambda: self._server.log.changes(self._scanned, self._oid, self._undoing))
            changed, catalogs, shared_too, position = self._changes(read(), test)
        if shared_too or system != self._system:
            server = self._server
            if shared.read(server, self._name) != self._state or leaks.subscriptions(server, self._name):
                raise NeedsClone("roles, settings, databases or subscriptions of the server changed")
            self._system = system
        if catalogs:
            changed |= self._look_into(catalogs)
        # Not from the end of our own transaction: what an app writes meanwhile must be seen the next time.
        self._scanned = self.position = position
        self._was_dirty = bool(changed)
        if changed:
            # A session's caches know the tables that were used in it: 0.3 ms for 3 tables, 0.6 where they are news.
            self._undo(changed, kept.scrubbed or self._session, ROWS.of(size, alone))
        return bool(changed)

    def written(self, since: str = "") -> dict[str, set[str]]:
        """The tables written to since that position of the log, or the last reset, and by which kinds of log records. Touches
        nothing that a reset or a test uses, so that any thread may ask."""
        from itest.services.postgres import evidence  # Only failing tests need it.

        known, catalogs = self._files.relations, self._files.catalogs
        logged = evidence.written(self._server, since or self._scanned, self._oid, self._undoing)
        written = {file: records for file, records in logged.items() if not records <= HARMLESS}
        names = {file: known[file].name for file in written.keys() & known.keys() if known[file].kind == "r"}
        if others := written.keys() - known.keys() - catalogs.keys():  # Of tables that the test has made or truncated.
            names |= evidence.tables(self._server, self._name, others)
        found = {name.removeprefix("public."): written[file] for file, name in names.items()}
        return dict(sorted(found.items()))

    @property
    def _session(self) -> Any:
        """Its own connection, opened when it is needed."""
        if self._own is None:
            self._own = self._server.connection(self._name, "itest reset", options=OURS)
            self._ask(
                "PREPARE sessions AS SELECT pid, xact_start IS NOT NULL "
                "OR pid IN (SELECT pid FROM pg_lock_status() WHERE locktype = 'advisory') FROM pg_stat_get_activity(NULL) "
                f"WHERE datid = {self._oid} AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        return self._own

    def _looked(self, asked: str) -> tuple[Any, ...]:
        [values] = self._server.admin(f"SELECT {asked}")
        return values

    @property
    def _known(self) -> Snapshot:
        """What its pristine database holds."""
        if self._snapshot is None:
            self._snapshot = self._server.snapshot(self._pristine)
        return self._snapshot

    @property
    def _files(self) -> Files:
        """Which relation lies where by now."""
        return self._known.files if self._moved is None else self._moved

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self._session.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _end_leaked(self, kept: Kept, test: str) -> bool:
        """End what sessions of others are doing; whether they were doing anything."""
        sessions = dict(self._ask("EXECUTE sessions"))
        busy = [pid for pid in sessions.keys() - kept.pids() if sessions[pid]]
        told = leaks.end_sessions(self._server, busy, test, kept.used_by) if busy else None
        kept.told = told or kept.told
        return told is not None

    def _changes(self, told: Changes, test: str) -> tuple[set[Relation], set[str], bool, str]:
        """The tables and sequences written to since the last reset, the catalogs, whether shared ones were, and up to
        where the log was read."""
        if told.prepared:
            leaks.roll_back_prepared(self._server, self._name, test)
        changed: set[Relation] = set(self._known.unlogged)  # They are not in the log.
        catalogs: set[str] = set()
        shared_too = False
        files = self._files
        for database, file, record in told.records:
            if record.partition("+")[0] in HARMLESS:
                continue
            if database != self._oid:
                shared_too = True
            elif relation := files.relations.get(file):
                changed.add(relation)
            elif (catalog := files.catalogs.get(file)) and catalog not in STATISTICS:
                catalogs.add(catalog)
        return changed, catalogs, shared_too, told.position

    def _look_into(self, catalogs: Collection[str]) -> set[Relation]:
        """The relations that lie in other files than before, after TRUNCATE and the like. Raises NeedsClone if there is
        more to it: temporary tables that are gone, and what was rolled back, have left the catalogs as they were."""
        with self._session.cursor() as cursor:
            differing = self._known.changed_catalogs(catalogs, cursor)
            if not differing:
                return set()
            if differing != {"pg_class"} or not self._known.same_shapes(cursor):
                raise NeedsClone(f"the schema changed ({', '.join(sorted(differing))})")
            before = self._files
            self._moved = now = Files.read(cursor, before.known)
        if before.catalogs != now.catalogs:
            raise NeedsClone("system catalogs were rewritten")
        return {relation for file, relation in now.relations.items() if file not in before.relations}

    def _undo(self, changed: Collection[Relation], connection: Any, most: float) -> None:
        """Empty and refill the changed tables, set back the changed sequences, in one transaction."""
        start, refill = self._scripts.script(changed, most)
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
            self.position, self._undoing, _ = cursor.fetchone()
        connection.autocommit = was
        if any(relation.cached for relation in changed):
            with self._session.cursor() as cursor:
                self._moved = Files.read(cursor, self._files.known)


def _bytes(position: str) -> int:
    """A log position `16/B374D848` as a number of bytes."""
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)
