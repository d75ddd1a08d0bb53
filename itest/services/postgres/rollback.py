# SPDX-License-Identifier: Apache-2.0
"""isolation="rollback": all of a test runs in one transaction, which is undone after it.

The class's database and its baseline are made as for "database". What got out of the sandbox nevertheless is found by
asking which transaction ids were committed since the test before; it fails the test, and the database is then reset in
full.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from itest import naming
from itest.errors import IsolationError, ItestError, ResetError
from itest.evidence import Aside
from itest.services.postgres import leaks
from itest.services.postgres.kept import listeners, sqlalchemy_for
from itest.services.postgres.lease import PostgresLease
from itest.services.postgres.probe import BUSY
from itest.services.postgres.probe_recycle import ProbeRecycler
from itest.services.postgres.recycle import HARMLESS, SLOTS, SLOTS_OF_NONE
from itest.services.postgres.sandbox import CURE, connection_class
from itest.services.postgres.snapshot import STATISTICS
from itest.services.postgres.view import PostgresView, check_params

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from sqlalchemy import Engine

    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

# The ids of the sandbox itself, its savepoints included, count as aborted once it is rolled back. `xmin` is the oldest
# id that may still commit, so the next look begins there and misses none. Prepared, because planning it costs more than
# running it.
_PREPARE = (
    "PREPARE itest_look (bigint) AS SELECT pg_snapshot_xmin(s)::text, {position}, "
    "  ARRAY(SELECT x FROM generate_series($1, pg_snapshot_xmax(s)::text::bigint - 1) AS x "
    "        WHERE pg_xact_status(x::text::xid8) = 'committed'), " + BUSY + ", "
    "  (SELECT count(*) > 1 FROM pg_prepared_statements), EXISTS (SELECT FROM pg_prepared_xact() WHERE dbid = {database}), "
    "  {slots} FROM pg_current_snapshot() AS s"
)
_OPEN = (
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, {position}, oid, {slots} FROM pg_database "
    "WHERE datname = current_database()"
)


class RollbackLease(PostgresLease):
    """A database of a class's own, in which each test gets one sandboxed connection, kept from test to test."""

    def __init__(self, server: PostgresServer, service: Postgres, owner: str) -> None:
        super().__init__(server, service, owner)
        self._sandbox: Any = None
        self._engine: Engine | None = None
        self._handed_out: Engine | None = None
        self._listeners: list[int] = []
        self._engine_types: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
        self._unfinished = ""
        self._since = ""
        self._database = 0
        self._slots: frozenset[str] = frozenset()
        self._position_sql = "pg_current_wal_insert_lsn()::text" if server.can_recycle() else "''"
        # Where others use the server, those of no database may be theirs.
        self._slots_sql = SLOTS if server.shared or not server.instance.owned else SLOTS_OF_NONE

    def reset(self, test: str) -> PostgresView:
        try:
            # A runner that does not run cleanups, what was interrupted, or a test that went on after its last cleanup.
            if left := self._unfinished or (self._last_test if self._sandbox and self._sandbox.itest_begun else ""):
                self._ready(left, keep_place=True)
                with contextlib.suppress(IsolationError):
                    self.finish(left)
            self._ready(test)
        except self._server.driver.Error as error:
            raise ResetError(f"the sandbox of {test} could not be made: {str(error).strip()}") from error
        self._sandbox.itest_begin(test)
        if self._handed_out is not None and self._engine is not None and listeners(self._engine) != self._listeners:
            self._engine.dispose()
            self._engine = None
        self._handed_out = None
        self._unfinished = self._last_test = test
        return SandboxView(self, self._server, self._name, test, self._kept, self._directory)

    def lend(self, test: str) -> None:
        return None

    def finish(self, test: str) -> None:
        """Undo what the test did. Raises IsolationError when it ended the sandbox's transaction, committed elsewhere,
        or left a violated deferred constraint."""
        try:
            wrong = self._undo(test)
        except BaseException:
            # A signal handler's too. It is undone with its connection; the next reset looks at the rest.
            self._forget()
            raise
        self._unfinished = ""
        if wrong:
            raise IsolationError(f"{test}: {wrong}")

    def _undo(self, test: str) -> str:
        """Undo what the test did. What was wrong, empty: nothing."""
        driver = self._server.driver
        try:
            wrong, [row] = self._sandbox.itest_end(self._look())
        except driver.Error:
            # The connection is broken, so the server has undone what it did; or our statement is gone.
            wrong = self._sandbox.itest_wrong
            self._forget()
            try:
                self._ready(test, keep_place=True)
                _, [row] = self._sandbox.itest_end(self._look())
            except driver.Error as error:
                raise ResetError(f"what {test} left behind could not be looked at: {str(error).strip()}") from error
        since, position, committed, busy, statements, prepared, slots = row
        if busy:
            self._tell(leaks.end_sessions(self._server, busy, test, self.used_by))
            since, position, committed, _, statements, prepared, slots = self._sandbox.itest_end(self._look())[1][0]
        if prepared:
            leaks.roll_back_prepared(self._server, self._name, test)
        if statements:
            self._sandbox.itest_end(f"DEALLOCATE ALL; {self._prepare()}")
        changed = self._changed(committed) if committed else []
        made = set(slots) - self._slots
        if wrong or made:  # What it did to its session may have been committed too; a slot may be its session's.
            self._forget()
        leaks.drop_slots(self._server, made, test)
        if changed:
            self._reset_fully(test)
        self._since, self._written_since = since, position
        if changed and not wrong:
            wrong = (
                f"it wrote to {naming.shorten(', '.join(changed))} through another connection than its sandbox's, so "
                f"there was nothing to roll back and the database was reset in full: give code under test self.db, "
                f"self.session or self.postgres.engine, or use {CURE}"
            )
        return str(wrong)

    def settle(self, test: str, since: float, alone: bool) -> None:
        """Nothing: `finish` has looked already."""

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        return None  # Nothing is left of it.

    def close(self) -> None:
        self._forget()
        super().close()

    # What a view hands out.

    def connection(self) -> Any:
        """The sandbox; a new one where the test lost the old one."""
        if self._sandbox.closed:
            self._forget()
            self._ready(self._last_test, keep_place=True)
            self._sandbox.itest_begin(self._last_test)
        return self._sandbox

    def engine(self) -> Engine:
        """The one SQLAlchemy engine, all of whose connections are the sandbox."""
        sandbox = self.connection()
        if self._engine is None:
            sqlalchemy = sqlalchemy_for("psycopg2", "PostgresView.engine")
            self._engine = sqlalchemy.create_engine(
                "postgresql+psycopg2" + self._server.url_of(self._name).removeprefix("postgresql"),
                creator=self.connection,
                poolclass=sqlalchemy.pool.StaticPool,
            )
            sqlalchemy.event.listen(self._engine, "connect", self._connected)
            sqlalchemy.event.listen(self._engine, "checkout", _tell_apart)
            # Of what the pool lends, each is told by itself: the driver's own rollback() and close() are those of all.
            vars(self._engine.dialect).update(
                do_rollback=_roll_back, do_close=lambda connection: None, set_isolation_level=_set_level
            )
            self._listeners = listeners(self._engine)
        for types, own in zip(self._engine_types, (sandbox.string_types, sandbox.binary_types), strict=True):
            own.update(types)  # They were taken off after the test before, whose connection this was too.
        if self._handed_out is None:  # Listeners that a test adds to it go with it.
            self._handed_out = self._engine.execution_options()
        return self._handed_out

    def _connected(self, connection: Any, record: object) -> None:
        """Remember the type casters that SQLAlchemy has just registered."""
        self._engine_types = (dict(connection.string_types), dict(connection.binary_types))

    # The sandbox's connection, and what is outside it.

    def _ready(self, test: str, keep_place: bool = False) -> None:
        """Have a sandbox. `keep_place`: what was committed since the last look is still to be looked at."""
        if self._sandbox is not None and not self._sandbox.closed:
            return
        self._forget()
        self._server.check_alive()
        sandbox = self._server.open(
            self._server.nearest_url_of(self._name),
            connection_factory=connection_class(),
            application_name=naming.application_name(test),
        )
        try:
            sandbox.itest_open()
            opened = _OPEN.format(position=self._position_sql, slots=self._slots_sql.format("oid"))
            _, [(since, position, self._database, slots)] = sandbox.itest_end(opened)
            sandbox.itest_end(self._prepare())
        except BaseException:
            sandbox.itest_close()
            raise
        self._sandbox = sandbox
        if not keep_place:
            self._since, self._written_since, self._slots = since, position, frozenset(slots)

    def _forget(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            with contextlib.suppress(Exception):
                sandbox.itest_close()
        if self._engine is not None:
            self._engine.dispose()  # The engine itself stays: an app may hold it.

    def _look(self) -> str:
        return f"EXECUTE itest_look ({self._since})"

    def _prepare(self) -> str:
        slots = self._slots_sql.format(self._database)
        return _PREPARE.format(position=self._position_sql, database=self._database, slots=slots)

    def _changed(self, committed: list[int]) -> list[str]:
        """What these transactions wrote to in this database. They may be another database's, or autovacuum's."""
        server = self._server
        if isinstance(self._recycler, ProbeRecycler):
            return self._recycler.changed()
        try:
            rows = server.admin(
                # The function reads only what is flushed; a synchronous commit flushes everything before it.
                "BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'itest', ''); COMMIT; "
                f"SELECT DISTINCT split_part(record_type, '+', 1), (regexp_matches(block_ref, "
                f"'rel [0-9]+/{self._database}/([0-9]+) fork main', 'g'))[1]::bigint "
                f"FROM pg_get_wal_records_info('{self._written_since}', pg_current_wal_flush_lsn()) "
                f"WHERE xid::text::bigint = ANY(ARRAY[{','.join(str(xid % 2**32) for xid in committed)}])"
            )
        except server.driver.Error:  # The log does not reach back that far.
            return ["the database"]
        files = {file for record_type, file in rows if record_type not in HARMLESS}
        if not files:
            return []
        _, relations = self._sandbox.itest_end(
            "SELECT oid < 16384, relname FROM pg_class WHERE relkind IN ('r', 'S', 'm') "
            f"AND pg_relation_filenode(oid) = ANY(ARRAY[{','.join(map(str, files))}]) ORDER BY relname"
        )
        changed = [name for catalog, name in relations if not catalog]
        if any(catalog and name not in STATISTICS for catalog, name in relations):
            changed.append("the schema")
        return changed

    def _reset_fully(self, test: str) -> None:
        self._forget()
        try:
            self._reset(test)
        except self._server.driver.Error as error:
            raise ResetError(f"the database of {test} could not be reset: {str(error).strip()}") from error


class SandboxView(PostgresView):
    """A test's view of its sandbox: all that it hands out is one connection."""

    def __init__(self, lease: RollbackLease, *args: Any) -> None:
        super().__init__(*args)
        self._lease = lease

    @property
    def connection(self) -> Connection:
        """The sandbox: a psycopg2 connection whose commits and rollbacks are savepoints."""
        self.check_open()
        return self._lease.connection()  # type: ignore[no-any-return]  # made by a factory that returns Any

    def connect(self, **kwargs: Any) -> Connection:
        """The sandbox once more. Closing it undoes what was not committed, as ever, and leaves it open for others; of
        several that were opened since the last commit, closing the last."""
        if kwargs:
            raise ItestError(
                f"connect({', '.join(kwargs)}=...): with isolation='rollback' all connections of a test are one, which "
                f"cannot be opened with options of its own; use {CURE}"
            )
        connection: Any = self.connection
        connection.itest_hand_out()
        return connection  # type: ignore[no-any-return]  # made by a factory that returns Any

    @contextlib.contextmanager
    def _statement_connection(self) -> Iterator[Connection]:
        connection = self.connection
        connection.autocommit = True
        yield connection

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once, and return its rows. What else was done in the sandbox is committed
        with it."""
        check_params(params)
        connection: Any = self.connection
        pending = connection.itest_pending
        with connection.cursor() as cursor:
            if pending:  # A failing statement must not undo what was done before it.
                cursor.execute("SAVEPOINT itest_statement")
            try:
                cursor.execute(sql, params)
                rows = cursor.fetchall() if cursor.description else []
            except self.server.driver.Error:
                if pending:
                    cursor.execute("ROLLBACK TO SAVEPOINT itest_statement")
                else:
                    connection.rollback()
                raise
        connection.commit()
        return rows

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine whose every connection is the sandbox; the same from test to test."""
        self.check_open()
        return self._lease.engine()

    def aconnect(self, **kwargs: Any) -> NoReturn:
        raise _refused("aconnect()")

    @property
    def aengine(self) -> NoReturn:
        raise _refused("aengine")

    def asession(self, **kwargs: Any) -> NoReturn:
        raise _refused("asession()")


def _tell_apart(connection: Any, record: object, lent: Any) -> None:
    lent.__class__ = _lent_class(lent.__class__)


@functools.cache
def _lent_class(base: Any) -> Any:
    """What SQLAlchemy's pool lends, as a class that tells the sandbox which of them does something."""

    class Lent(base):  # type: ignore[misc]  # SQLAlchemy is imported on first use, so it is Any
        __slots__ = ()

        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            cursor = super().cursor(*args, **kwargs)
            if hasattr(cursor, "itest_holder"):
                cursor.itest_holder = weakref.ref(self)
            return cursor

        def commit(self) -> None:
            # Where nothing is, the sandbox's own would say what a close() has undone, which was none of this one's.
            if self.dbapi_connection.itest_pending:
                self.dbapi_connection.commit()

        def itest_roll_back(self) -> None:
            self.dbapi_connection.itest_roll_back(weakref.ref(self))

        rollback = itest_roll_back

    return Lent


def _roll_back(lent: Any) -> None:
    lent.itest_roll_back()  # The sandbox's own, where SQLAlchemy has a stand-in for one that is gone.


def _set_level(connection: Any, level: str) -> None:
    connection.itest_set_level(level)


def _refused(verb: str) -> IsolationError:
    return IsolationError(
        f"{verb} opens a connection of its own, which would not see what this test has done: "
        f"isolation='rollback' covers psycopg2 and SQLAlchemy on psycopg2. Use {CURE}"
    )


__all__ = ["RollbackLease", "SandboxView"]
