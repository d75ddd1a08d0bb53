# SPDX-License-Identifier: Apache-2.0
"""A psycopg2 connection whose commits and rollbacks stay inside one transaction, which is undone after the test.

`commit()` becomes RELEASE and a new SAVEPOINT, `rollback()` becomes ROLLBACK TO SAVEPOINT. It is a real psycopg2
connection, so cursors of all kinds, COPY, large objects, adapters and SQLAlchemy work on it as ever.

psycopg2 itself must never learn that transactions are swapped beneath it: its own status says "in a transaction" from
the first statement on, so it never sends a BEGIN of its own. All BEGINs, SAVEPOINTs and ROLLBACKs are ours.

Several hold it at once: each connection of the engine, and each that `connect()` has handed out. One that goes on where
another one has something uncommitted begins with a savepoint, so that a rollback takes back its own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from itest import naming
from itest.errors import IsolationError
from itest.packages import client_package
from itest.services.postgres.uses import SAVEPOINT, Uses
from itest.tuples import NamedTuple

KEEP = f"RELEASE SAVEPOINT {SAVEPOINT}; SAVEPOINT {SAVEPOINT}"
UNDO = f"ROLLBACK TO SAVEPOINT {SAVEPOINT}"
SCRUB = "SELECT pg_advisory_unlock_all(); DISCARD SEQUENCES"
"""What outlives a ROLLBACK in a session, but for prepared statements, which the lease has its own of. Settings, temporary
tables, cursors and LISTEN do not."""

NO_SUCH_SAVEPOINT = "3B001"
NO_SUCH_STATEMENT = "26000"
NOT_IN_A_TRANSACTION = ("25001", "2D000")
"""Refused because a transaction is under way: isolation levels, VACUUM and the like; a COMMIT in a procedure or DO."""

CURE = "isolation='database', where commits are real"
LEVELS = {1: "read committed", 2: "repeatable read", 3: "serializable", 4: "read uncommitted"}
"""psycopg2's numbers for SQL's transaction isolation levels; 0 is autocommit."""

NO_SUCH_CONSTRAINT = "42704"

LOST = (
    "what one connection had written and not committed was taken back with what another one did, for they are all one "
    f"sandbox: commit what is to stay first, or use {CURE}"
)

# SET CONSTRAINTS means all constraints of a name, so one that is initially deferred decides for its namesakes.
_CONSTRAINTS = (
    "SELECT current_setting('default_transaction_isolation'), count(*) > 0, coalesce(bool_or(deferred), false), "
    "  string_agg(name, ', ') FILTER (WHERE NOT deferred) FROM ("
    "  SELECT quote_ident(nspname) || '.' || quote_ident(conname) AS name, bool_or(condeferred) AS deferred "
    "  FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace WHERE condeferrable GROUP BY 1) AS constraints"
)


class Commit(NamedTuple):
    """What a commit sends: it checks deferred constraints, and the next transaction has them deferred again."""

    statements: str
    immediate: str = ""
    """What makes those immediate again that are so at first, where others are not."""

    @classmethod
    def of(cls, deferrable: bool, deferred: bool, immediate: str | None) -> Commit:
        """As there are constraints that can be deferred, that are so at first, and by names those that are not."""
        if not deferrable:
            return cls(KEEP)
        if not deferred:
            return cls(f"SET CONSTRAINTS ALL IMMEDIATE; {KEEP}")
        # Without names, since a test may drop what they name, or what has the same name may be no deferrable one.
        again = f"SET CONSTRAINTS {immediate} IMMEDIATE; {KEEP}" if immediate else ""
        return cls(f"SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; {KEEP}", again)


@functools.cache
def connection_class() -> Any:
    """The sandbox as a subclass of psycopg2's connection: `psycopg2.connect(url, connection_factory=...)`."""
    psycopg2 = client_package("psycopg2", "postgres", "isolation='rollback'")
    extensions = client_package("psycopg2.extensions", "postgres", "isolation='rollback'")
    base: Any = extensions.connection
    plain, idle, failed = extensions.cursor, extensions.TRANSACTION_STATUS_IDLE, extensions.TRANSACTION_STATUS_INERROR

    class SandboxConnection(base):  # type: ignore[misc]  # psycopg2 is imported on first use, so it is Any
        # For the lease. These names must not be psycopg2's.

        def itest_open(self) -> None:
            self._first_commit = Commit(KEEP)
            self.itest_begin("")
            [(self._default_level, *facts)] = self._send(_CONSTRAINTS)  # Here psycopg2 sends its BEGIN.
            self._first_commit = Commit.of(*facts)
            self._send("ROLLBACK")

        def itest_begin(self, test: str) -> None:
            """From here on it is this test's, and the thread's that calls. The transaction begins at the first use."""
            self._test = test
            self._thread = threading.get_ident()
            self._commit = self._first_commit
            self._escape = self._stray = ""
            self._begun = self._lost = self._block = self._autocommit = False
            self._uses = Uses()
            self._opened = [0]
            self._readonly: bool | None = None
            self._deferrable: bool | None = None
            self.cursor_factory = None
            for leftovers in (self.notices, self.notifies, self.string_types, self.binary_types):
                leftovers.clear()

        def itest_end(self, look: str) -> tuple[str, list[tuple[Any, ...]]]:
            """Undo all. Returns what was wrong (empty: nothing), and the rows of the query `look`, run afterwards."""
            begun, self._begun = self._begun, False
            wrong = self.itest_wrong
            if not begun:
                return wrong, self._send(look)
            clean = f"ROLLBACK; {SCRUB}; {look}"
            if wrong or self.get_transaction_status() in (idle, failed):
                return wrong, self._send(clean)
            try:
                return "", self._send(f"SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT {SAVEPOINT}; {clean}")
            except psycopg2.Error as error:
                if self.closed or error.pgcode == NO_SUCH_STATEMENT:
                    raise
                wrong = _ended("a statement") if error.pgcode == NO_SUCH_SAVEPOINT else _violated(error)
            return wrong, self._send(clean)

        def itest_close(self) -> None:
            super().close()

        @property
        def itest_wrong(self) -> str:
            """What was wrong so far."""
            return str(self._escape or self._stray)

        @property
        def itest_begun(self) -> bool:
            """Whether it was used since the test's begin, or since `itest_end`."""
            return bool(self._begun)

        @property
        def itest_pending(self) -> bool:
            """Whether something was done since the last commit or rollback."""
            return bool(self._uses)

        def itest_hand_out(self) -> None:
            """`connect()` hands it out once more. Which of them a statement is sent by cannot be known, since they are one
            object; it counts as that of the newest which came when the others had something uncommitted."""
            if len(self._opened) in self._uses.holders:
                self._opened.append(1)
            else:
                self._opened[-1] += 1

        def itest_roll_back(self, holder: object = None) -> None:
            """Take back what this connection of the engine did; None, those that are gone without having been closed."""
            if not self._begun:
                return
            self._check()
            gone = [other for other in self._uses.holders if isinstance(other, weakref.ref) and other() is None]
            for each in gone if holder is None else [holder]:
                self._take_back(each)

        def itest_set_level(self, level: str) -> None:
            """As SQLAlchemy does for one connection of the engine; this one is the others' too, so nothing is rolled back."""
            if level != "AUTOCOMMIT":
                self._level(level)
            self._autocommit = level == "AUTOCOMMIT"

        def itest_run(self, cursor: Any, call: Callable[..., Any], statement: object, *args: Any, **kwargs: Any) -> Any:
            """Have a cursor run a statement, inside the sandbox."""
            self._enter(cursor.itest_holder)
            try:
                result = call(statement, *args, **kwargs)
            except BaseException as error:
                if getattr(error, "pgcode", "") in NOT_IN_A_TRANSACTION:
                    error.add_note(
                        f"with isolation='rollback' all of a test is one transaction, and a savepoint in it, where this cannot "
                        f"be done: use {CURE}"
                    )
                status = self.get_transaction_status()
                if status == idle and not self.closed:
                    self._escaped(statement)
                elif status == failed and self._releases:
                    self._take_back(self._uses.last)
                raise
            if self.get_transaction_status() == idle:
                self._escaped(statement)
            self._uses.did(cursor.statusmessage or "", cursor.query or b"")
            if self._releases:
                self.commit()
            return result

        # What psycopg2 has, staying inside.

        def commit(self) -> None:
            if not self._begun:
                return
            self._check()
            if self._lost and not self._uses:
                self._stray = LOST
                raise IsolationError(f"{self._test}: {LOST}")
            if self.get_transaction_status() == failed:  # A server answers a COMMIT with a ROLLBACK then.
                self._take_back(self._uses.last)
                return
            try:
                self._send(self._commit.statements)
            except psycopg2.Error as error:
                if error.pgcode == NO_SUCH_SAVEPOINT:
                    self._escaped("COMMIT")
                if not self.closed:
                    if len(self._uses.writers) > 1:
                        self._stray = LOST
                    self._undo()
                raise
            if self._commit.immediate:
                self._make_immediate()
            self._restart()

        def rollback(self) -> None:
            if not self._begun:
                return
            self._check()
            self._take_back(max((level for level in self._uses.holders if isinstance(level, int)), default=None))

        def close(self) -> None:
            """Undo what was not committed, as closing does, and stay open: others hold this connection too. One of several
            that may have done it undoes nothing."""
            if self._begun and not self._escape and not self.closed and self._thread == threading.get_ident():
                level = len(self._opened)
                self._opened[-1] = max(0, self._opened[-1] - 1)
                if self._opened[-1] and self.get_transaction_status() != failed:
                    return
                self._lost = level in self._uses.writers
                with contextlib.suppress(psycopg2.Error, IsolationError):
                    self._take_back(level)
                if level > 1 and len(self._opened) == level:
                    self._opened.pop()

        def reset(self) -> None:
            self.rollback()
            self._autocommit, self._readonly, self._deferrable = False, None, None
            self._enter()
            self._send("RESET ALL; SET SESSION AUTHORIZATION DEFAULT")
            self.commit()

        def __enter__(self) -> Any:
            if self._block:
                raise psycopg2.ProgrammingError("the connection cannot be re-entered recursively")
            self._block = True
            return self

        def __exit__(self, kind: object, error: object, traceback: object) -> None:
            self._block = False
            self.rollback() if kind else self.commit()

        def cursor(
            self, name: str | None = None, cursor_factory: Any = None, withhold: bool = False, scrollable: Any = None
        ) -> Any:
            self._check()
            factory = _cursor_class(cursor_factory or self.cursor_factory or plain)
            return super().cursor(name, factory, withhold, scrollable)

        def lobject(self, *args: Any, **kwargs: Any) -> Any:
            self._enter()
            self._uses.did("LARGE OBJECT", b"")
            return super().lobject(*args, **kwargs)

        @property
        def autocommit(self) -> bool:
            return bool(self._autocommit)

        @autocommit.setter
        def autocommit(self, value: bool) -> None:
            if bool(value) != self._autocommit:
                self._outside("autocommit")
                self._autocommit = bool(value)

        @property
        def isolation_level(self) -> None:
            return None

        @isolation_level.setter
        def isolation_level(self, value: Any) -> None:
            self._level(value)

        def set_isolation_level(self, level: Any) -> None:
            if level != 0:
                self._level(level)
            self.rollback()  # As psycopg2's does.
            self._autocommit = level == 0

        @property
        def readonly(self) -> bool | None:
            return self._readonly

        @readonly.setter
        def readonly(self, value: Any) -> None:
            self._outside("readonly")
            self._readonly = None if value in (None, "DEFAULT") else bool(value)
            if self._begun:
                self._send(KEEP)
                self._restart()

        @property
        def deferrable(self) -> bool | None:
            return self._deferrable

        @deferrable.setter
        def deferrable(self, value: Any) -> None:  # Means something to serializable transactions only.
            self._deferrable = None if value in (None, "DEFAULT") else bool(value)

        def set_session(
            self, isolation_level: Any = None, readonly: Any = None, deferrable: Any = None, autocommit: Any = None
        ) -> None:
            self._outside("set_session")
            self._level(isolation_level)
            if readonly is not None:
                self.readonly = readonly
            if deferrable is not None:
                self.deferrable = deferrable
            if autocommit is not None:
                self._autocommit = bool(autocommit)

        def set_client_encoding(self, encoding: str) -> None:
            if _plain_name(encoding) != _plain_name(self.encoding):  # psycopg2 would end the transaction for it.
                raise IsolationError(f"the encoding of a connection cannot be changed inside a sandbox; use {CURE}")

        def tpc_begin(self, *args: Any) -> NoReturn:
            raise IsolationError(f"two-phase commits are real commits, and a sandbox has none; use {CURE}")

        tpc_prepare = tpc_commit = tpc_rollback = tpc_recover = tpc_begin

        # How it stays inside.

        def _make_immediate(self) -> None:
            try:
                self._send(self._commit.immediate)
            except psycopg2.Error as error:
                if error.pgcode != NO_SUCH_CONSTRAINT:
                    raise
                self._send(UNDO)  # To the commit. The test has dropped one of them.
                [(_, *facts)] = self._send(_CONSTRAINTS)
                self._commit = Commit.of(*facts)
                if self._commit.immediate:
                    self._send(self._commit.immediate)

        @property
        def _releases(self) -> bool:
            """Whether each statement is committed by itself."""
            return bool(self._autocommit and not self._block)

        def _check(self) -> None:
            if self._thread != threading.get_ident():
                self._stray = (  # Kept too, because what is raised in a thread seldom reaches its test.
                    f"the sandbox is one connection, for the thread that runs the test, and the thread "
                    f"{threading.current_thread().name!r} used it: use {CURE}, and each thread has a connection of its own"
                )
                raise IsolationError(f"{self._test}: {self._stray}")
            if self._escape:
                raise IsolationError(self._escape)

        def _enter(self, holder: object = None) -> None:
            self._check()
            if not self._begun:  # Not before, so that now() is not older than it must be.
                self._send(f"BEGIN; SAVEPOINT {SAVEPOINT}")
                self._begun = True
                self._restart()
            self._lost = False
            if self.get_transaction_status() == failed and self._uses:
                return  # Whose use it is must stay known: it is the one to take back.
            if change := self._uses.enter(holder or len(self._opened)):
                self._send(change)

        def _restart(self) -> None:
            self._uses.clear()
            self._opened = [sum(self._opened)]
            if self._readonly:
                self._send("SET TRANSACTION READ ONLY")  # It ends with the savepoint.

        def _undo(self) -> None:
            """Back to the last commit."""
            try:
                self._send(UNDO)
            except psycopg2.Error as error:
                if error.pgcode == NO_SUCH_SAVEPOINT:
                    self._escaped("ROLLBACK")
                raise
            self._restart()

        def _take_back(self, holder: object) -> None:
            """Undo what it has done since the last commit, and nothing of others where that is possible."""
            has_failed = self.get_transaction_status() == failed
            if has_failed and self._uses.last not in (None, holder):  # Whoever failed is in everybody's way.
                self._take_back(self._uses.last)
                has_failed = False
            savepoint, lost = self._uses.take_back(holder, has_failed)
            if lost:
                self._stray = LOST
            if savepoint == SAVEPOINT or (has_failed and not savepoint):
                self._undo()
            elif savepoint:
                try:
                    self._send(f"ROLLBACK TO SAVEPOINT {savepoint}; RELEASE SAVEPOINT {savepoint}")
                except psycopg2.Error as error:
                    if error.pgcode != NO_SUCH_SAVEPOINT:
                        raise
                    self._stray = LOST  # Another one has gone back to a savepoint of its own from before.
                    self._undo()

        def _outside(self, what: str) -> None:
            """psycopg2 refuses this inside a transaction."""
            self._check()
            if self._uses:
                raise psycopg2.ProgrammingError(
                    f"{what} cannot be used inside a transaction (with isolation='rollback', all connections of a test "
                    f"are one: commit what was done on the others first)"
                )

        def _level(self, value: Any) -> None:
            name = LEVELS.get(value, str(value).lower())
            if value is not None and name not in ("default", self._default_level, "read uncommitted"):
                raise IsolationError(
                    f"isolation='rollback' runs all of a test in one transaction, which is {self._default_level} and "
                    f"cannot become {name}: use {CURE}"
                )

        def _escaped(self, statement: object) -> NoReturn:
            text = statement.decode(errors="replace") if isinstance(statement, bytes) else str(statement)
            self._escape = _ended(f"`{naming.shorten(text, 80)}`")
            raise IsolationError(self._escape)

        def _send(self, sql: str) -> list[tuple[Any, ...]]:
            with super().cursor(None, plain) as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []

    return SandboxConnection


@functools.cache
def _cursor_class(factory: Any) -> Any:
    """A cursor class, its statements run inside the sandbox. What is no class is left as it is."""
    if not isinstance(factory, type):
        return factory

    def inside(name: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = getattr(super(cls, self), name)
            if not args:  # The statement by its keyword.
                first = next(iter(kwargs), "")
                return self.connection.itest_run(self, lambda _: call(**kwargs), kwargs.get(first, ""))
            return self.connection.itest_run(self, call, *args, **kwargs)

        return method

    names = ("execute", "executemany", "callproc", "copy_from", "copy_to", "copy_expert")
    # `itest_holder` is what the engine lent that it is of; None, the connection as it was handed out.
    cls = type(
        f"Sandbox{factory.__name__}", (factory,), {"itest_holder": None, **{name: inside(name) for name in names}}
    )
    return cls


def _ended(what: str) -> str:
    return (
        f"{what} ended the transaction of the sandbox: use the connection's commit() and rollback(), which stay inside "
        f"it, or {CURE}"
    )


def _violated(error: Any) -> str:
    return f"a deferred constraint is violated, which a real commit would have reported: {str(error).strip()}"


def _plain_name(encoding: str) -> str:
    return "".join(filter(str.isalnum, encoding.upper()))
