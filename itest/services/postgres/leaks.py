# SPDX-License-Identifier: Apache-2.0
"""What a test left running in its database: found, ended, and reported with the test's name."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from itest import leaks, naming
from itest.clock import Deadline

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

GRACE = 0.05
"""Seconds that a transaction of somebody else may take to end by itself: a live app may be in the middle of one."""

CLOSE_GRACE = 0.25
"""Seconds in which the session of a connection that was closed is gone."""


def end_sessions(server: PostgresServer, pids: Collection[int], test: str) -> bool:
    """End those of the sessions that are in a transaction or hold an advisory lock. Whether there were any, even if
    they ended by themselves; idle ones, say of an app's connection pool, are left alone."""
    found = (
        "SELECT pid, application_name, state, query, extract(epoch FROM clock_timestamp() - xact_start)::float8 "
        "FROM pg_stat_activity WHERE pid = ANY(%s) AND backend_type = 'client backend' AND (xact_start IS NOT NULL "
        "OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))"
    )
    grace = Deadline.after(GRACE)
    waited = False
    while left := server.admin(found, list(pids)):
        if grace.passed:
            break
        waited = True
        grace.pause(0.002)
    for pid, label, state, query, seconds in left:
        server.end_session(pid)
        leaks.report(report(test, pid, label, state, query, seconds))
    return waited


def end_idle(server: PostgresServer, name: str, since: float, kept: Collection[int], test: str) -> None:
    """End the sessions of a database that a test opened and did not close, though they do nothing."""
    found = (
        "SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = %s "
        "AND backend_type = 'client backend' AND backend_start >= to_timestamp(%s) AND pid <> ALL(%s) "
        "AND application_name NOT IN ('itest', 'itest reset', 'itest log', 'itest evidence')"
    )
    grace = Deadline.after(CLOSE_GRACE)
    while (left := server.admin(found, name, since, list(kept))) and not grace.passed:
        grace.pause(0.005)  # One whose client is closed is just about to end.
    for pid, label, state, query in left:
        server.end_session(pid)
        leaks.report(
            f"{test} did not close a database connection, and it was ended: session {pid}{_who(label)}, {state}, last "
            f"statement: {naming.shorten(naming.mask(query)) or 'none'}"
        )


def report(test: str, pid: int, label: str, state: str | None, query: str, seconds: float | None) -> str:
    """A sentence about a session that was ended."""
    holding = "holding an advisory lock" if seconds is None else f"in a transaction for {seconds:.1f} s"
    return (
        f"{test} left a database session behind, and it was ended: session {pid}{_who(label)}, {state or 'state unknown'}, "
        f"{holding}, last statement: {naming.shorten(naming.mask(query)) or 'none'}"
    )


def _who(label: str) -> str:
    return f" of {label!r}" if label and not label.startswith("itest:") else ""


def roll_back_prepared(server: PostgresServer, name: str, test: str) -> None:
    """End the prepared transactions of a database: they outlive their sessions and hold their locks."""
    with server.visit(name) as cursor:
        cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
        for (gid,) in cursor.fetchall():
            cursor.execute("ROLLBACK PREPARED %s", (gid,))
            leaks.report(f"{test} left a prepared transaction behind, and it was rolled back: {naming.shorten(gid)!r}")
