# SPDX-License-Identifier: Apache-2.0
"""Connections that stay open from test to test, because opening one costs more than a whole reset.

What a test did to them is undone between tests; one that is broken, or whose changes cannot be undone, is replaced.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from itest import alive, leaks
from itest.packages import client_package

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from sqlalchemy import Engine

    from itest.services.postgres.server import PostgresServer

SCRUB = (
    # DISCARD ALL by its documented parts: that command refuses to share a round trip with others.
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; CLOSE ALL; UNLISTEN *; "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; SELECT pg_advisory_unlock_all()"
)
"""Its end is a query, to which more columns can be added."""

IDLE, ACTIVE, IN_TRANSACTION = 0, 1, 2
"""psycopg2's TRANSACTION_STATUS_IDLE; TRANSACTION_STATUS_ACTIVE: a statement is running, so another thread is using the
connection; and TRANSACTION_STATUS_INTRANS: none is, in a transaction that none has failed in."""

UNRETURNED = (
    "did not return a connection to `postgres.engine`; it was closed: at its end (tearDown) call Session.remove(), or close() "
    "what has it"
)


class _Link:
    """A kept connection, a cursor of ours on it, and what it was when it was new, after the statement `setting`. `out` is
    SQLAlchemy's proxy while somebody has it."""

    def __init__(self, connection: Any, setting: str = "") -> None:
        self.connection = connection
        self.cursor: Any = connection.cursor()
        self.setting = setting
        self.scrub = SCRUB.replace("RESET ALL", f"RESET ALL; {setting}") if setting else SCRUB
        self.pid: int = connection.info.backend_pid
        self.process = os.getpid()
        self.encoding: str = connection.encoding
        self.strings: dict[int, Any] = dict(connection.string_types)
        self.binaries: dict[int, Any] = dict(connection.binary_types)
        self.out: Any = None


class Kept:
    """The kept connections of one database: psycopg2's, one for each setting, and those in the pool of one SQLAlchemy engine."""

    def __init__(self, server: PostgresServer, name: str, label: str) -> None:
        self._server = server
        self._name = name
        self._url = server.url_of(name)
        self._label = label
        self.opening = threading.RLock()
        """Held while what is there once for all threads is made at its first use: several may come at once."""
        self.in_statement = threading.Lock()
        """Held by the thread that uses the connection for statements. A test's thread may have been left in one, and a child
        forked meanwhile, so nobody waits for it."""
        self._own: dict[str, _Link] = {}
        self._engine: Engine | None = None
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        """All that were made: somebody may go on with one of before the last scrub."""
        self._handed_out: Engine | None = None
        self._listeners: list[int] = []
        self._pooled: dict[int, _Link] = {}
        self._used: dict[int, _Link] = {}
        self.opened: weakref.WeakSet[Any] = weakref.WeakSet()
        """What the class's own view has opened besides, and not closed yet."""
        self.scrubbed: Any = None
        """The connection that the last scrub was the last to bring back to what it was when new; None: there is none."""
        self.cut = False
        """Whether the last scrub has ended a session that was doing something, which may have committed until then."""
        self.used_by: Sequence[str] = ()
        """As the lease's."""
        self.told = ""
        """What the note of a later test says of a session that was ended in or since the last scrub, as a test had left it."""

    def connection(self, setting: str = "") -> Connection:
        """The kept psycopg2 connection; with a `setting`, another one, in which that statement holds from test to test. It is
        no option of the connection's: the URL may have some of its own, and poolers refuse most."""
        with self.opening:
            own = self._own.get(setting)
            if own is not None and own.pid not in self._used and self._is_over(own):
                # Its session was ended a moment ago, and was still there when the last reset looked.
                self._give_up(own)
                own = None
            # A forked child's statements may come while its parent's run. A transaction it has in common with its parent.
            forked = own is not None and setting and own.process != os.getpid()
            if own is None or own.connection.closed or forked:
                own = self._own[setting] = self._open(setting)
            self._used[own.pid] = own
        return own.connection  # type: ignore[no-any-return]  # Any, because psycopg2 is imported on first use

    def _open(self, setting: str) -> _Link:
        link = _Link(self._connect(), setting)
        if setting:
            link.connection.autocommit = True
            link.cursor.execute(setting)
        return link

    def engine(self) -> Engine:
        """The kept SQLAlchemy engine, the same until the next scrub. Listeners that a test adds to it go with it."""
        with self.opening:
            if self._engine is None:
                self._engine = self._new_engine()
                self._listeners = listeners(self._engine)
            if self._handed_out is None:
                self._handed_out = self._engine.execution_options()
            return self._handed_out

    def _new_engine(self) -> Engine:
        sqlalchemy = sqlalchemy_for("psycopg2", "PostgresView.engine")
        engine: Engine = sqlalchemy.create_engine(
            "postgresql+psycopg2" + self._url.removeprefix("postgresql"), creator=self._connect
        )
        for name in ("connect", "checkout", "checkin", "close", "invalidate"):
            sqlalchemy.event.listen(engine, name, getattr(self, f"_on_{name}"))
        self._engines.add(engine)
        return engine

    def _connect(self) -> Any:
        alive.check(self._server)
        return self._server.open(self.nearest_url(), application_name=self._label)

    def nearest_url(self) -> str:
        """Of the moment: a server that was started again may be reached in another way."""
        return self._server.nearest_url_of(self._name)

    def _on_connect(self, connection: Any, record: Any) -> None:
        self._pooled[id(connection)] = _Link(connection)

    def _on_checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        if link := self._pooled.get(id(connection)):
            link.out = proxy
            self._used[link.pid] = link

    def _on_checkin(self, connection: Any, record: Any) -> None:
        if link := self._pooled.get(id(connection)):
            link.out = None

    def _on_close(self, connection: Any, record: Any) -> None:
        self._pooled.pop(id(connection), None)

    def _on_invalidate(self, connection: Any, record: Any, exception: Any) -> None:
        self._pooled.pop(id(connection), None)

    def count(self) -> int:
        """How many there are. One whose session has ended, by whomever, is given up; that of `scrubbed` has just answered."""
        for link in [*self._pooled.values(), *self._own.values()]:
            if link.connection is self.scrubbed:
                continue
            if self._is_over(link):
                self._give_up(link)
        return len(self._pooled) + len(self._own)

    def _is_over(self, link: _Link) -> bool:
        """Whether the session of one that nobody uses has ended. Takes 1 us."""
        return bool(link.connection.closed) or alive.has_spoken(link.connection)

    def pids(self) -> set[int]:
        """The sessions that are kept here."""
        return {link.pid for link in [*self._pooled.values(), *self._own.values()]}

    def has_uncommitted(self) -> bool:
        """Whether anything was written on a connection that is in use, or opened by the class, and is not committed. Asks the
        server only where one is in a transaction."""
        connections = [*(link.connection for link in self._used.values()), *self.opened]
        return any(map(self._has_written, connections))

    def _has_written(self, connection: Any) -> bool:
        if connection.closed or connection.get_transaction_status() != IN_TRANSACTION:
            return False
        with contextlib.suppress(self._server.driver.Error), connection.cursor() as cursor:
            cursor.execute("SELECT WHERE txid_current_if_assigned() IS NOT NULL")
            return bool(cursor.rowcount > 0)
        return False  # Somebody has ended its session.

    def scrub(self, asked: str = "", test: str = "a test") -> tuple[Any, ...] | None:
        """Undo what was done to the used connections. Returns the values of the expressions `asked`, which ride along with
        the last one, or None when no connection was used or none was fit to be kept."""
        try:
            return self._scrub(f", {asked}" if asked else "", test)
        except BaseException:  # A signal handler's. What was not brought back would never be.
            self.close()
            raise

    def _scrub(self, asked: str, test: str) -> tuple[Any, ...] | None:
        used, self._used = self._used, {}
        if self._handed_out is not None and self._engine is not None and listeners(self._engine) != self._listeners:
            self._dispose()
        self._handed_out = self.scrubbed = None
        self.cut, self.told = False, ""
        values = None
        for link in used.values():
            if link.connection.closed:
                continue
            if link.connection.get_transaction_status() == ACTIVE:
                leaks.report(
                    f"{test} left a thread behind that is using its database connection; the session was ended"
                )
                self.cut = True
                self._give_up(link)
            elif link.out is not None:
                leaks.report(f"{test} {UNRETURNED}")
                self.told = f"{test.rpartition('.')[2]} {UNRETURNED}"
                self._give_up(link)
            else:
                try:
                    values = _scrub(link, asked)
                    self.scrubbed = link.connection
                    continue
                except self._server.driver.Error:
                    self._give_up(link)
            values = None
        return values

    def close(self) -> None:
        """Close all of them; the next use opens new ones."""
        self._used.clear()
        self._dispose()
        for link in list(self._own.values()):
            self._give_up(link)

    def _give_up(self, link: _Link) -> None:
        pooled = self._pooled.pop(id(link.connection), None)
        if link.connection is self.scrubbed:
            self.scrubbed = None
        with contextlib.suppress(Exception):
            end_statement(self._server, link.connection)
            if link.out is not None:
                link.out.invalidate()
            else:
                link.connection.close()
        if self._own.get(link.setting) is link:
            del self._own[link.setting]
        elif pooled is not None and link.out is None and self._engine is not None:
            self._engine.dispose()  # Else its pool would hand out the closed one. The engine goes on with a new pool.

    def _dispose(self) -> None:
        for link in [link for link in self._pooled.values() if link.out is not None]:
            self._give_up(link)
        self._pooled.clear()
        self._handed_out = None
        for engine in list(self._engines):
            engine.dispose()  # It goes on with a new pool.
        self._engine = None


def sqlalchemy_for(driver: str, purpose: str) -> Any:
    """SQLAlchemy, with what an engine of that driver would import by itself, and which must not be lost either
    (`client_package`)."""
    sqlalchemy = client_package("sqlalchemy", "sqlalchemy", purpose)
    client_package(f"sqlalchemy.dialects.postgresql.{driver}", "sqlalchemy", purpose)
    return sqlalchemy


def listeners(engine: Engine) -> list[int]:
    """How many listeners each event of an engine's pool and of its dialect has. A test may have added some: others are with
    what it was handed out, which is a copy (Engine.execution_options), but pool and dialect are those of all copies."""
    both: list[Any] = [engine.pool.dispatch, engine.dialect.dispatch]
    return [len(getattr(dispatch, name)) for dispatch in both for name in _events(dispatch.__class__)]


@functools.cache
def _events(kind: Any) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def end_statement(server: PostgresServer, connection: Any) -> None:
    """End the session of a connection that another thread is using: the thread holds the connection's lock until its
    statement is done, so that even close() would wait for it."""
    if not connection.closed and connection.get_transaction_status() == ACTIVE:
        server.end_session(connection.info.backend_pid)


def _scrub(link: _Link, asked: str) -> tuple[Any, ...]:
    """One round trip, two for a transaction that was left open. Raises where the connection cannot be brought back to
    what it was when it was new."""
    connection = link.connection
    connection.rollback()  # Costs nothing outside a transaction.
    if (connection.isolation_level, connection.readonly, connection.deferrable) != (None, None, None):
        connection.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT")  # 3 round trips
    connection.autocommit = True  # None.
    if connection.get_transaction_status() != IDLE:
        link.cursor.execute("ROLLBACK")  # psycopg2's own does not know of a BEGIN that was sent as a statement.
    connection.cursor_factory = None
    if connection.encoding != link.encoding:
        connection.set_client_encoding(link.encoding)
    for casters, first in ((connection.string_types, link.strings), (connection.binary_types, link.binaries)):
        if casters != first:
            casters.clear()
            casters.update(first)
    link.cursor.execute(link.scrub + asked)
    _, *values = link.cursor.fetchone()
    connection.autocommit = False
    connection.notices.clear()
    connection.notifies.clear()
    return tuple(values)
