# SPDX-License-Identifier: Apache-2.0
"""The state of a test's database when the test has failed: its sessions, what they wait for, what it has written.

Only what the server keeps anyway is read, so that a test that passes pays nothing: each session's last statement
(pg_stat_activity), locks, and the write-ahead log. No statement is logged for this. All of it is asked on connections
of its own, so that neither a hanging session nor a thread of the test can be in the way; where the server has none left, the
administrative one tells how many are idle.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.clock import wall
from itest.evidence import Evidence
from itest.services.postgres.kept import SCRUB
from itest.services.postgres.leaks import OF_OTHERS

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

OPTIONS = "-c statement_timeout=1500 -c lock_timeout=20 -c default_transaction_read_only=on"
UNLOGGED = f"{OPTIONS} -c log_min_messages=fatal"
"""For a superuser: a lock that is waited for in vain here is no error of the test, whose log is shown."""

LABEL = "itest evidence"

MOST_COUNTED = 100_000
"""Rows up to which a table is counted."""

MOST_TABLES = 20
"""Tables whose rows are counted."""

_SESSIONS = (
    "SELECT pid, state, extract(epoch FROM clock_timestamp() - xact_start)::float8, "
    "extract(epoch FROM clock_timestamp() - query_start)::float8, wait_event_type, query, application_name, "
    "pg_blocking_pids(pid) FROM pg_stat_activity "
    "WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
    "AND application_name NOT IN ('itest', 'itest reset', 'itest log', %s) "
    # Those in a transaction first, and among them those that wait for others.
    "ORDER BY cardinality(pg_blocking_pids(pid)) DESC, xact_start IS NULL, query_start DESC"
)
_LOCKS = (
    "SELECT pid, granted, mode, relation::regclass::text FROM pg_locks "
    "WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND locktype = 'relation' "
    "AND pid = ANY(%s) AND relation >= 16384 "
    "AND relation IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'm')) ORDER BY pid, relation"
)

_IDLE = (
    f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND backend_type = 'client backend' AND {OF_OTHERS}"
)

MOST_LOCKS = 3
"""Locked tables of a session that are named."""

_STRENGTHS = (
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)

_FLUSH = "SELECT pg_logical_emit_message(false, 'itest', '', true)"
_FLUSH_BEFORE_17 = (
    "BEGIN READ WRITE; SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, '', ''); "
    "COMMIT; SELECT 1"
)

_NOT_THERE = r'FATAL: +database "([^"]+)" does not exist'

_VERBS = (("INSERT", "inserted"), ("UPDATE", "updated"), ("DELETE", "deleted"), ("MULTI_INSERT", "inserted"))


def evidence(server: PostgresServer, name: str, since: float, written: Mapping[str, Collection[str]]) -> Evidence:
    """Of the database of that name. `written` has the kinds of log records of each table that was written to."""
    found = Evidence(f"database {name}")
    with _connection(server, name) as ask:
        sessions = _sessions(server, name, ask)
        busy = [session for session in sessions if session.busy]
        locks = ask(_LOCKS, [session.pid for session in busy]) if busy else []
        for session in busy:
            found.lines.append(session.text(locks))
        for session in sessions:
            if not session.busy and session.age is not None and session.age < max(0.0, wall() - since):
                found.lines.append(session.text([]))
        for table in list(written)[:MOST_TABLES]:
            found.lines.append(f"wrote to {table}{_verbs(written[table])}, {_count(server, ask, table)}")
        if len(written) > MOST_TABLES:
            found.lines.append(f"wrote to {len(written) - MOST_TABLES} more tables")
        found.more = [f"session {session.pid} of {session.label!r}: {session.query}" for session in sessions]
    return found


def waits(server: PostgresServer, name: str) -> list[str]:
    """The sessions of the database of that name that wait for a lock, and those that hold it; where none waits, those that
    are busy with a statement."""
    with _connection(server, name) as ask:
        sessions = _sessions(server, name, ask)
        involved = {pid for session in sessions if session.blockers for pid in (session.pid, *session.blockers)}
        told = [session for session in sessions if session.pid in involved]
        told = told or [session for session in sessions if session.state == "active"]
        locks = ask(_LOCKS, [session.pid for session in told]) if involved else []
        return [session.text(locks) for session in told]


def meaning(server: PostgresServer, name: str, log: Sequence[str]) -> list[str]:
    """Which databases of other classes were asked for by one who is to use that of this name."""
    asked = dict.fromkeys(match[1] for line in log if (match := re.search(_NOT_THERE, line)))
    return [
        f"{other} was another class's database, whose URL the app has kept since its import: make its engine in the factory "
        f"or lifespan, or use App.command"
        for other in asked
        if other != name and server.made(other)
    ]


def _sessions(server: PostgresServer, name: str, ask: Any) -> list[_Session]:
    rows = ask(_SESSIONS, name, LABEL)
    # On a server that is not ours other people work in the same database: only what tells its test is a test's.
    told = [row for row in rows if server.instance.owned or server.is_itests(name) or row[6].startswith("itest:")]
    return [_Session(row) for row in told if not _is_ours(row)]


class _Session:
    """A session of the database, but for those of itest's own."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.pid, state, self.transaction, self.age, self._waits, query, self.label, self.blockers = row
        self.state: str = state or "state unknown"
        self.query = " ".join(str(query).split())

    @property
    def busy(self) -> bool:
        return self.transaction is not None

    def text(self, locks: list[tuple[Any, ...]]) -> str:
        said = [f"session {self.pid}{self._who}, {self.state}"]
        if self.transaction is not None:
            said[0] += f" for {self.transaction:.1f} s"
        said.append(f"last statement: {naming.shorten(self.query, 100)}")
        if self.blockers:
            wanted = [relation for pid, granted, _, relation in locks if pid == self.pid and not granted]
            what = f"a lock on {wanted[0]}" if wanted else "a lock"
            said.append(f"waits for {what} held by session {' and '.join(map(str, self.blockers))}")
        held: dict[str, int] = {}  # Of each table the strongest one.
        for pid, granted, mode, relation in locks:
            if pid == self.pid and granted and mode in _STRENGTHS:
                held[relation] = max(held.get(relation, 0), _STRENGTHS.index(mode))
        if held:
            names = [f"{relation} ({_mode(_STRENGTHS[strength])})" for relation, strength in held.items()]
            more = f" and {len(names) - MOST_LOCKS} more" if len(names) > MOST_LOCKS else ""
            said.append(f"has locked {', '.join(names[:MOST_LOCKS])}{more}")
        return "; ".join(said)

    @property
    def _who(self) -> str:
        return f" of {self.label!r}" if self.label and not self.label.startswith("itest:") else ""


_OURS = (SCRUB[:40], "BEGIN READ WRITE; SELECT set_config", "COMMIT; SELECT pg_current_wal_insert_lsn()")
"""What the statements of a reset begin with."""


def _is_ours(row: tuple[Any, ...]) -> bool:
    """Whether its last statement is one of itest's: then the test has not used that session."""
    query, transaction = str(row[5]), row[2]
    return transaction is None and (not query or query.startswith(_OURS))


def _mode(mode: str) -> str:
    """`RowExclusiveLock` as the manual's tables have it: ROW EXCLUSIVE."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return words.strip().upper()


def _verbs(records: Collection[str]) -> str:
    kinds = {record.partition("+")[0].removeprefix("HOT_") for record in records}
    verbs = list(dict.fromkeys(verb for kind, verb in _VERBS if kind in kinds))
    return f" ({', '.join(verbs)})" if verbs else ""


def _count(server: PostgresServer, ask: Any, table: str) -> str:
    """How many rows are committed; of a very large table that it is one."""
    try:
        [(rows,)] = ask(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT {MOST_COUNTED + 1}) AS rows")
    except server.driver.errors.LockNotAvailable:
        return "whose rows are not counted, since it is locked"
    except server.driver.errors.UndefinedTable:
        return "which is not there, or not committed"
    if rows > MOST_COUNTED:
        return f"which has more than {MOST_COUNTED} committed rows"
    return f"which has {rows or 'no'} committed row{'s'[: rows != 1]}"


@contextlib.contextmanager
def _connection(server: PostgresServer, name: str) -> Iterator[Any]:
    options = UNLOGGED if server.instance.owned else OPTIONS
    try:
        connection = server.connection(name, LABEL, options=options, connect_timeout=2)
    except server.driver.OperationalError as error:
        from itest import causes  # Runs without failures import this module, too, for "schema" and "truncate".

        if not causes.is_said("too many clients", str(error), causes.DRIVER):
            raise
        [(idle,)] = server.admin(_IDLE)
        raise server.driver.OperationalError(
            f"too many clients, {idle} of them idle; ITEST_STRICT=1 fails the test that leaves its connections open"
        ) from error

    def ask(sql: str, *params: object) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return cursor.fetchall()  # type: ignore[no-any-return]  # a driver's connection is Any here

    try:
        yield ask
    finally:
        connection.close()


def tables(server: PostgresServer, name: str, files: Collection[int]) -> dict[int, str]:
    """The names of the tables of that database that lie in these files, as far as they are committed."""
    with _connection(server, name) as ask:
        rows = ask(
            "SELECT pg_relation_filenode(c.oid)::bigint, quote_ident(nspname) || '.' || quote_ident(relname) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND relpersistence <> 't' AND pg_relation_filenode(c.oid) = ANY(%s)",
            list(files),
        )
    return dict(rows)


def written(server: PostgresServer, since: str, database: int, without: str) -> dict[int, set[str]]:
    """The kinds of records since that position of the write-ahead log by the file that they are about.

    Transaction `without` is left out: it is that of the reset itself.
    """
    with _connection(server, server.database) as ask:
        # Only what is flushed can be read, and a failed test's last changes may not be committed, let alone flushed.
        ask(_FLUSH if server.number >= 170000 else _FLUSH_BEFORE_17)
        found: dict[int, set[str]] = {}
        for file, record in ask(
            "SELECT DISTINCT relfilenode::bigint, record_type FROM pg_get_wal_block_info(%s::pg_lsn, "
            "pg_current_wal_flush_lsn(), false) WHERE relforknumber = 0 AND reldatabase = %s AND xid <> %s::xid "
            "AND resource_manager IN ('Heap', 'Heap2', 'XLOG')",  # Not of indexes and sequences.
            since,
            database,
            without,
        ):
            found.setdefault(int(file), set()).add(record)
    return found
