# SPDX-License-Identifier: Apache-2.0
"""A session on an external server that stands as long as the run. What it holds, an advisory lock above all, tells other runs
that this one lives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from itest.errors import ExternalError

if TYPE_CHECKING:
    from itest.services.postgres.administered import Administered

Ask = Callable[..., list[tuple[Any, ...]]]

KEEPALIVE = 60
"""Seconds without traffic after which the kernel asks the other side whether it is there: less than what networks forget idle
connections after (from 240 s, Azure's load balancer)."""


PID = "SELECT pg_backend_pid()"

TAKE = """
SELECT 1 WHERE CASE WHEN EXISTS (
  SELECT FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()
  WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2 AND pid = pg_backend_pid()
) THEN false ELSE pg_try_advisory_lock(%s, %s) END
"""
"""Takes a lock that nobody has. By itself a session is given once more what it has, and a pooler may have lent it to the very
run that lives."""

NAME = re.compile(r"itest_([0-9a-f]{8})_[0-9]+")
"""What a run calls what it makes on such a server, with its token."""


def key(token: str) -> int:
    """A token, or another hexadecimal number, as a key of advisory locks."""
    return int(token, 16) & 0x7FFFFFFF


class Standing:
    """One that is opened anew where somebody has cut it: a proxy, an administrator, a test that ends all sessions.

    `begin` is called with `ask` of each new session, to have it hold what the one before has held.
    """

    def __init__(self, server: Administered, label: str, begin: Callable[[Ask], object]) -> None:
        self._server = server
        self._label = label
        self._begin = begin
        self._own = self._opened()

    def ask(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Run a statement and give its rows. Raises the driver's errors."""
        driver = self._server.driver
        try:
            return _ask(self._own, sql, *params)
        except (driver.OperationalError, driver.InterfaceError):
            if not self._own.closed:
                raise
        self._own = self._opened()
        return _ask(self._own, sql, *params)

    def left_by_dead(self, rows: Iterable[tuple[str, str | None]], comment: str, lock: int) -> Iterator[str]:
        """Those of these names, each given with its comment, that runs have made which hold their lock no more. Nobody else
        takes one for such while it is looked at. `comment` is theirs, with `{token}` for the run's."""
        for name, said in rows:
            if (found := NAME.fullmatch(name)) is None or said != comment.format(token=found[1]):
                continue
            if self.ask(TAKE, *(lock, key(found[1])) * 2):
                try:
                    yield name
                finally:
                    self.ask("SELECT pg_advisory_unlock(%s, %s)", lock, key(found[1]))

    def close(self) -> None:
        self._own.close()

    def _opened(self) -> Any:
        server = self._server
        own = server.connection(server.database, self._label, keepalives_idle=KEEPALIVE)
        try:
            self._need_session(own)
            self._need_writes(own)
            if server.number >= 140000:  # Which may be set for all idle sessions of a server, a database or a user.
                _ask(own, "SET idle_session_timeout = 0")
            self._begin(lambda sql, *params: _ask(own, sql, *params))
        except BaseException:
            own.close()
            raise
        return own

    def _need_session(self, own: Any) -> None:
        """Raise ExternalError where a pooler lends sessions for a transaction or a statement: what one of them holds, another
        run would be lent as well, and take this one for dead."""
        # Twice, as a pooler may lend another one each time (PgBouncer's server_round_robin); outside a transaction.
        pids = {_ask(own, PID)[0] for _ in range(2)}
        if len(pids) > 1 or self._server.admin(PID)[0] in pids:
            raise ExternalError(
                f"at {self._server.instance} a pooler lends one session to several connections (PgBouncer does with "
                f"pool_mode=transaction or statement), and by what a session holds runs of itest know of one another: name "
                f"the server itself, or a pool with pool_mode=session"
            )

    def _need_writes(self, own: Any) -> None:
        """Raise ExternalError where nothing can be made."""
        server = self._server
        [(replica, mode)] = _ask(own, "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
        if mode == "on":
            reason = f"lets the user {server.user!r} read only: turn default_transaction_read_only off for that user"
            raise ExternalError(
                f"the external {server.version} at {server.instance} "
                f"{'is a read-only replica: name the primary' if replica else reason}, or declare isolation='none'"
            )


def _ask(connection: Any, sql: str, *params: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []
