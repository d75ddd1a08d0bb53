# SPDX-License-Identifier: Apache-2.0
"""A running PostgreSQL as far as one administrative connection goes: how it is reached, and what is asked of it there."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from itest import alive, naming
from itest.clock import Deadline
from itest.engines import Instance
from itest.errors import ResetError, ServerDied
from itest.packages import client_package
from itest.service import Server
from itest.services.postgres import libpq, nearest
from itest.silence import Watch, sentence

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.view import PostgresView  # noqa: F401  # named as a text, in the base

SESSIONS = (
    "pg_stat_get_activity(NULL) "
    "WHERE datid = (SELECT oid FROM pg_database WHERE datname = %s) AND backend_type IN ('client backend', 'walsender')"
)
"""The clients' sessions of a database, those that stream its changes too: the rows of pg_stat_activity without the names that
this view looks up for each, which makes it take 1.1 ms in place of 0.4 where a session asks for the first time."""

ROUTINE = "LOG:  checkpoint "
"""What a server says when all is well."""

MOST_ENDED = 50
"""Sessions ended by us that are remembered: a test's log has only the last ones."""

PROBE_TIMEOUT = 5
"""Seconds in which a server must answer a new connection, where a statement has taken long. Whole ones, see libpq."""

SESSIONS_TIMEOUT = 10.0
"""Seconds that terminated sessions have to go away."""


class Administered(Server["PostgresView"]):
    """One administrative connection, used by one thread at a time; opened anew where somebody has ended it."""

    routine = ROUTINE

    def __init__(self, service: Postgres, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.address = address
        parts = urlsplit(address)
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        self.database = unquote(parts.path.lstrip("/")) or self.user
        naming.remember_secret(self.password)
        self.chosen_password = service.password if instance.owned else ""
        self._nearest = address
        self._lock = threading.RLock()
        self._ended: deque[int] = deque(maxlen=MOST_ENDED)
        self._admin: Any = None
        ways = nearest.ways(self)  # It may ask Docker, and the driver is being imported aside meanwhile.
        self.driver = client_package("psycopg2", "postgres", "the service PostgreSQL")
        self._watch = Watch(self._answers, self._hang_up)
        self._admin = self._first_connection(ways)
        self.number = int(self._admin.server_version)

    @property
    def version(self) -> str:
        major, minor = divmod(self.number, 10000)
        return f"PostgreSQL {major}.{minor}"

    def admin(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Run a statement on the administrative connection, in a transaction of its own."""
        with self._lock:
            if self.silent:
                raise ResetError(self.silent)
            try:
                return self._execute(sql, params)
            except (self.driver.OperationalError, self.driver.InterfaceError):
                if self.silent:
                    raise ResetError(self.silent) from None
                # Nobody answers at the address of a container that is gone, not even with a refusal.
                if not self._admin.closed or not self.instance.state().lives_on:
                    raise
            # A test ended every session there was.
            self._admin = self._first_connection(nearest.ways(self))
            return self._execute(sql, params)

    @contextlib.contextmanager
    def administration(self) -> Iterator[object]:
        """The administrative session for as long as the `with` lasts: what is prepared in it stays prepared."""
        with self._lock:
            yield self._admin

    def _execute(self, sql: str, params: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._watch, self._admin.cursor() as cursor:
            cursor.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        """Whether it says anything to a new client, if only that there are too many."""
        try:
            self.open(self._nearest, connect_timeout=PROBE_TIMEOUT).close()
        except self.driver.OperationalError as error:
            return "timeout expired" not in str(error)
        return True

    def _hang_up(self, seconds: float) -> None:
        """End our own connection from this side."""
        self.silent = sentence(
            f"{self.version} ({self.instance})",
            f"has not answered for {seconds:.0f} s, and does not answer a new connection within {PROBE_TIMEOUT} s",
            ours=self.instance.owned and not self.shared,
        )
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._admin.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)

    def exists(self, name: str) -> bool:
        """Whether there is a database of that name."""
        return bool(self.admin("SELECT 1 FROM pg_database WHERE datname = %s", name))

    def end_session(self, pid: int) -> None:
        """Terminate one session and wait until it is gone."""
        deadline = Deadline.after(SESSIONS_TIMEOUT)
        self._remember_ended([pid])
        while self.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", pid):
            if deadline.passed:
                raise ResetError(f"session {pid} did not end within {deadline.seconds:g} s after it was terminated")
            deadline.pause(0.001)

    def end_sessions(self, name: str, but: int = 0) -> None:
        """Terminate every session of a database, whatever it is doing or holding, and wait until they are gone; `but` one.

        A session that is told to end may still be committing: only its absence says that it will not write any more.
        """
        deadline = Deadline.after(SESSIONS_TIMEOUT)
        while left := self.admin(
            f"SELECT pid, pg_terminate_backend(pid), state, query FROM {SESSIONS} AND pid <> %s",
            name,
            but,
        ):
            self._remember_ended([pid for pid, *_ in left])
            if deadline.passed:
                pid, _, state, query = left[0]
                raise ResetError(
                    f"session {pid} of the database {name} did not end within {deadline.seconds:g} s after it was "
                    f"terminated; it is {state}, its last statement: {naming.shorten(str(query))}"
                )
            deadline.pause(0.001)

    def _remember_ended(self, pids: Iterable[int]) -> None:
        """That these sessions end is our doing, and has been told where a test had left them; who else is told to end is
        another matter."""
        self._ended.extend(pid for pid in pids if pid not in self._ended)
        ours = "" if self.shared else rf"\[({'|'.join(map(str, self._ended))})\] "  # Others end theirs as well.
        self.routine = f"{ROUTINE}|{ours}FATAL:  terminating connection due to administrator command"

    def connection(self, name: str, label: str, **kwargs: Any) -> Any:
        """A new connection of ours to a database, in autocommit; whoever asks closes it."""
        self.check_alive()
        connection = self.open(self.nearest_url_of(name), application_name=label, **kwargs)
        connection.autocommit = True
        return connection

    def open(self, url: str, **kwargs: Any) -> Any:
        """A new psycopg2 connection to a database of this server, by one of its URLs; see libpq.py."""
        return libpq.connect(self.driver, url, self.instance.owned, **kwargs)

    def _first_connection(self, ways: Iterable[nearest.Way]) -> Any:
        """The administrative connection; by it, where our own connections go from here on is found out."""
        options = {"options": libpq.ADMINISTRATIVE} if self.instance.owned else {}
        for url, proof in ways:
            self._nearest = url
            with contextlib.suppress(self.driver.Error):
                return self.connection(self.database, "itest", **options, **proof)
        self._nearest = self.address
        return self.connection(self.database, "itest", **options)

    def url_of(self, database: str) -> str:
        return urlsplit(self.address)._replace(path=f"/{database}").geturl()

    def nearest_url_of(self, database: str) -> str:
        """The same for connections that itest keeps itself."""
        return urlsplit(self._nearest)._replace(path=f"/{database}").geturl()

    def hung_up(self) -> bool:
        return self._admin is not None and (bool(self._admin.closed) or alive.has_spoken(self._admin))

    def check_alive(self) -> None:
        """Raise the driver's OperationalError if it has ended, which whoever connects must be ready for anyway."""
        try:
            alive.check(self)
        except ServerDied as error:
            raise self.driver.OperationalError(str(error)) from None

    def close(self) -> None:
        self._watch.close()
        self._admin.close()
