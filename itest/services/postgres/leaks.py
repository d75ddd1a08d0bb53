# SPDX-License-Identifier: Apache-2.0
"""What a test left running in its database: found, ended, and reported with the test's name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from itest import leaks, naming
from itest.clock import Deadline

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

GRACE = 0.05
"""Seconds that a transaction of somebody else may take to end by itself: a live app may be in the middle of one."""

CLOSE_GRACE = 1.0
"""Seconds in which the session of a connection that was closed is gone, where one that is left would fail the test: on a
busy machine Docker's proxy takes long to hang up."""

UNCLOSED = "close it, or connect in setUpClass what lasts for the class (and no dispose() there)"
"""What to do about a connection that a test did not close."""

OF_OTHERS = "application_name !~ '^itest( |$)'"
"""A condition on pg_stat_activity: the session is none of itest's own."""

_OTHER = "pid <> pg_backend_pid() AND datid = {database} AND backend_type = 'client backend'"

# To look at the locks costs 0.08 ms, so CASE and not AND, whose order is the planner's. Ours have none after a reset.
IS_BUSY = (
    f"CASE WHEN {_OTHER} THEN xact_start IS NOT NULL OR {OF_OTHERS} "
    "AND pid IN (SELECT pid FROM pg_lock_status() WHERE locktype = 'advisory') END"
)
"""A condition on pg_stat_get_activity: another session in the database with the oid `{database}` is in a transaction, or holds
an advisory lock."""

_SOMEBODY = (
    "(SELECT EXISTS (SELECT FROM pg_stat_get_activity(NULL) WHERE {}) "
    "     OR EXISTS (SELECT FROM pg_prepared_xact() WHERE dbid = oid) "
    " FROM pg_database WHERE datname = current_database())"
)
IN_TRANSACTION = _SOMEBODY.format(f"xact_start IS NOT NULL AND {_OTHER.format(database='oid')}")
"""An expression: whether there is a transaction in the database, of another session or prepared."""
SOMEBODY_BUSY = _SOMEBODY.format(IS_BUSY.format(database="oid"))
"""The same, or an advisory lock of another session: for a database that nobody but tests use."""

# Those of prepared transactions have no pid; their own lock, on their id, says whose they are.
_USERS = (
    "SELECT DISTINCT l.pid, p.gid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
    "LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid) "
    "  ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction "
    "WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.relation IN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {relations}) "
    "AND coalesce(a.usename, p.owner) = current_user AND coalesce(a.backend_start, p.prepared) >= "
    "  (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AND a.pid IS DISTINCT FROM pg_backend_pid()"
)


def end_users(server: PostgresServer, relations: str, test: str) -> None:
    """End the transactions that use relations of the URL's own database, chosen by a condition on pg_namespace n and
    pg_class c: of sessions of the URL's own user that have begun since this run is connected, and prepared since then.
    Others may be somebody else's."""
    users = server.admin(_USERS.format(relations=relations))
    if pids := [pid for pid, _ in users if pid is not None]:
        end_sessions(server, pids, test)
    for gid in (gid for _, gid in users if gid is not None):
        server.admin("ROLLBACK PREPARED %s", gid)
        leaks.report(_prepared(test, gid))


def in_transaction(ask: Callable[[str], list[tuple[Any, ...]]], database: str = "current_database()") -> str:
    """Who is in a transaction in the database that is asked, or in that of this expression: whoever waited for a lock there,
    waited for one of them."""
    sessions = ask(
        "SELECT format('session %s (%s), %s, last statement: %s', pid, application_name, state, query) "
        f"FROM pg_stat_activity WHERE datname = {database} AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
    )
    said = [naming.shorten(text) for (text,) in sessions]
    prepared = ask(f"SELECT gid FROM pg_prepared_xacts WHERE database = {database}")
    said += [f"the prepared transaction {naming.shorten(gid)!r}" for (gid,) in prepared]
    return f"In a transaction: {'; '.join(said) or 'nobody any more'}"


def end_sessions(server: PostgresServer, pids: Collection[int], test: str, used_by: Sequence[str] = ()) -> str | None:
    """End those of the sessions that are in a transaction or hold an advisory lock; idle ones, say of an app's connection
    pool, are left alone. What the note of a later test says of it, a line for each kind, empty if they ended by themselves;
    None: there were none. `used_by`: see `Lease.used_by`.
    """
    found = (
        "SELECT pid, application_name, state, query, extract(epoch FROM clock_timestamp() - xact_start)::float8 "
        "FROM pg_stat_activity WHERE pid = ANY(%s) AND backend_type = 'client backend' AND (xact_start IS NOT NULL "
        "OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))"
    )
    grace = Deadline.after(CLOSE_GRACE if leaks.are_collected() else GRACE)
    told = None
    while left := server.admin(found, list(pids)):
        if grace.passed:
            break
        told = ""
        grace.pause(0.002)
    for pid, label, state, query, seconds in left:
        server.end_session(pid)
        leaks.report(report(test, pid, label, state, query, seconds, used_by))
    # Each kind has a cure of its own, and nobody knows whose client comes next.
    kinds = dict.fromkeys(left_busy(test, used_by, in_transaction=seconds is not None) for *_, seconds in left)
    return "\n".join(kinds) if left else told


def end_idle(server: PostgresServer, name: str, since: float, kept: Collection[int], test: str) -> str:
    """End the sessions of a database that a test opened and did not close, though they do nothing. What the note of a later
    test says of it; empty: there were none."""
    found = (
        "SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = %s "
        "AND backend_type = 'client backend' AND backend_start >= to_timestamp(%s) AND pid <> ALL(%s) "
        f"AND {OF_OTHERS}"
    )
    grace = Deadline.after(CLOSE_GRACE)
    while (left := server.admin(found, name, since, list(kept))) and not grace.passed:
        grace.pause(0.005)  # One whose client is closed is just about to end.
    for pid, label, state, query in left:
        server.end_session(pid)
        leaks.report(
            f"{test} did not close a database connection, and it was ended: session {pid}{_who(label)}, {state}, last "
            f"statement: {naming.shorten(query) or 'none'}; {UNCLOSED}"
        )
    short = test.rpartition(".")[2]
    return f"{short} did not close a database connection, and itest ended it: {UNCLOSED}" if left else ""


def report_uncommitted(owner: str) -> None:
    """Report that what a class wrote for its tests is not there for them."""
    leaks.report(
        f"{owner} did not commit all that it wrote before its first test, and it was rolled back: call commit() on cls.db, "
        f"cls.session or whatever it was written by, or use cls.postgres.execute()"
    )


def report(
    test: str,
    pid: int,
    label: str,
    state: str | None,
    query: str,
    seconds: float | None,
    used_by: Sequence[str] = (),
) -> str:
    """A sentence about a session that was ended."""
    holding = "holding an advisory lock" if seconds is None else f"in a transaction for {seconds:.1f} s"
    return (
        f"{_leaver(test, seconds is not None)} left a database session behind, and it was ended: session {pid}{_who(label)}, "
        f"{state or 'state unknown'}, {holding}, last statement: {naming.shorten(query) or 'none'}; "
        f"{_cure(seconds is not None, used_by)}"
    )


def left_busy(test: str, used_by: Sequence[str] = (), *, in_transaction: bool) -> str:
    """The same for the note of a later test, whose client may be the one that had it."""
    holding = "in a transaction" if in_transaction else "holding an advisory lock"
    who = _leaver(test.rpartition(".")[2], in_transaction)
    return f"{who} left a session {holding}, and itest ended it: {_cure(in_transaction, used_by)}"


def _leaver(test: str, in_transaction: bool) -> str:
    # One that has only held a lock since the class was set up looks the same.
    return test if in_transaction else f"{test} or the set-up of its class"


def _cure(in_transaction: bool, used_by: Sequence[str]) -> str:
    cure = "at its end (tearDown) unlock it, or close the connection"
    if in_transaction:
        cure = "at its end (tearDown) call rollback() or Session.remove(), in Django connections.close_all()"
    if not used_by:
        return cure
    return f"if it is of {' or '.join(used_by)}, wait in the test until that is done (assertEventually); else {cure}"


def _who(label: str) -> str:
    return f" of {label!r}" if label and not label.startswith("itest:") else ""


def roll_back_prepared(server: PostgresServer, name: str, test: str) -> None:
    """End the prepared transactions of a database: they outlive their sessions and hold their locks."""
    with server.visit(name) as cursor:
        cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
        for (gid,) in cursor.fetchall():
            cursor.execute("ROLLBACK PREPARED %s", (gid,))
            leaks.report(_prepared(test, gid))


def drop_slots(server: PostgresServer, names: Iterable[str], test: str) -> None:
    """Drop replication slots, and end the sessions that stream from them."""
    for name in names:
        for (pid,) in server.admin("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", name):
            if pid is not None:
                server.end_session(pid)
        server.admin(  # A temporary one has ended with its session.
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", name
        )
        leaks.report(f"{test} left a replication slot behind, and it was dropped: {name!r}")


def drop_subscriptions(server: PostgresServer, name: str) -> None:
    """Drop the subscriptions of a database, and leave their slots on other servers alone: those need not be reached."""
    with server.visit(name) as cursor:
        for subscription in subscriptions(server, name):
            for change in (
                "ALTER SUBSCRIPTION {} DISABLE",
                "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                "DROP SUBSCRIPTION {}",
            ):
                cursor.execute(change.format(subscription))


def subscriptions(server: PostgresServer, name: str) -> list[str]:
    """The subscriptions of a database, quoted where SQL needs it."""
    rows = server.admin(
        "SELECT quote_ident(subname) FROM pg_subscription "
        "WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)",
        name,
    )
    return [subscription for (subscription,) in rows]


def _prepared(test: str, gid: str) -> str:
    return f"{test} left a prepared transaction behind, and it was rolled back: {naming.shorten(gid)!r}"
