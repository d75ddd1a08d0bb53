# SPDX-License-Identifier: Apache-2.0
"""What a test gets of PostgreSQL: a database of its own, and connections to it that close themselves."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from itest import fixture_files, naming
from itest.async_clients import CLOSE_TIMEOUT, Opening, own_time
from itest.packages import client_package
from itest.service import View
from itest.services.postgres import async_engine, leaks, libpq
from itest.services.postgres.kept import end_statement

if TYPE_CHECKING:
    import asyncpg
    from psycopg2.extensions import connection as Connection
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer

HERE = Path(__file__).resolve().parent
"""Where the declaration of PostgresMixin stands."""

LOCK_SECONDS = 10
"""How long `execute` waits for a lock: if the test itself holds it, on another connection, nobody would ever end the wait, for
the driver does not listen to Ctrl-C meanwhile."""

RELATION = """COALESCE(
    to_regclass(quote_ident(n)),
    CASE WHEN strpos(n, '.') > 0 THEN
      to_regclass(quote_ident(split_part(n, '.', 1)) || '.' || quote_ident(substr(n, strpos(n, '.') + 1))) END,
    to_regclass(quote_ident(lower(n))),
    CASE WHEN strpos(n, '.') > 0 THEN
      to_regclass(quote_ident(split_part(lower(n), '.', 1)) || '.' || quote_ident(substr(lower(n), strpos(n, '.') + 1)))
    END)"""
"""An expression: the table that a user means by the name `n`, which is taken as it is first, then in lower case; a dot parts
a schema."""


class PostgresView(View):
    """A test database. `name`, `user` and `password` are what a client needs besides `host` and `port`."""

    server: PostgresServer
    schema = ""
    """The schema that all its addresses lead into, with isolation="schema"."""
    _async_engine: AsyncEngine | None = None

    def __init__(self, server: PostgresServer, name: str, test: str, kept: Kept, directory: Path) -> None:
        super().__init__(server)
        self.name = name
        self._kept = kept
        self._test = test
        self._directory = directory
        self._session: Session | None = None

    @property
    def _label(self) -> str:
        return naming.application_name(self._test)

    @property
    def user(self) -> str:
        """As whom its clients connect: by default the superuser of the run's own server."""
        return self.server.user

    @property
    def password(self) -> str:
        """The user's, for clients that take host and port. Empty for an external server without one."""
        return self.server.password

    @property
    def url(self) -> str:
        return self._reached(self.server.url_of(self.name))

    def url_for(self, driver: str) -> str:
        url = super().url_for(driver)
        parts = urlsplit(url)
        if driver != "asyncpg" or not parts.query:
            return url
        # SQLAlchemy gives each of these to asyncpg's connect() by name, which knows libpq's (`options`, `sslmode`) in its
        # `dsn` only; what else the URL says wins over that.
        dsn = quote(f"postgresql://?{parts.query}", safe="")
        return parts._replace(query=f"dsn={dsn}").geturl()

    @property
    def sqlalchemy_url(self) -> str:
        """The URL for `sqlalchemy.create_engine`, which from 2.1 on takes a plain one for psycopg's and not psycopg2's."""
        return self.url_for("psycopg2")

    @property
    def asyncpg_url(self) -> str:
        """The URL for `sqlalchemy.ext.asyncio.create_async_engine` over asyncpg; asyncpg itself takes `url`."""
        return self.url_for("asyncpg")

    @property
    def dsn(self) -> str:
        """The address in libpq's keyword form."""
        dsn: str = client_package("psycopg2.extensions", "postgres", "PostgresView.dsn").make_dsn(
            host=self.host, port=self.port, dbname=self.name, user=self.user, password=self.password
        )
        return dsn

    @property
    def env(self) -> dict[str, str]:
        parts = urlsplit(self.url)
        return {
            "DATABASE_URL": self.url,
            "PGHOST": parts.hostname or "",
            "PGPORT": str(self.port),
            "PGDATABASE": self.name,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
        }

    @property
    def connection(self) -> Connection:
        """The view's own psycopg2 connection; `self.db` on a PostgresMixin. It is kept open from test to test, and
        rolled back and brought back to its first state in between."""
        self.check_open()
        return self._kept.connection()

    def connect(self, **kwargs: Any) -> Connection:
        """A new psycopg2 connection; keyword arguments as for `psycopg2.connect`, without any by the shortest way there is, as
        `connection` has it. Closed after the test.

        Raises psycopg2's OperationalError where the server does not answer within 10 s (`connect_timeout`).
        """
        self.check_open()
        # What is said of the connection may be meant for the URL's address, which takes 3 ms longer.
        url = self.url if kwargs else self._kept.nearest_url()
        if not self._given_to:
            kwargs.setdefault("connection_factory", _class_connection())
        connection = self.server.open(url, **{"application_name": self._label, **kwargs})
        if not self._given_to:
            self._kept.opened.add(connection)

        def close() -> None:
            end_statement(self.server, connection)
            connection.close()

        return self._closing(connection, close)  # type: ignore[no-any-return]  # _closing returns what it was given

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once, and return its rows; `params` as for psycopg2's `execute`.

        It runs on a connection of its own, kept like `connection`; while another thread's statement runs there, on a new one.
        Where somebody holds a lock that it needs, psycopg2's LockNotAvailable is raised after LOCK_SECONDS, with a note that
        says who.
        """
        check_params(params)
        with self._statement_connection() as connection, connection.cursor() as cursor:
            try:
                cursor.execute(sql, params)
            except self.server.driver.errors.LockNotAvailable as error:
                error.add_note(self._lock_note())
                raise
            return cursor.fetchall() if cursor.description else []

    def relation(self, name: str) -> str:
        """The table of that name as a statement has it, in quotes where it needs them; what names none is given back."""
        [(found, quoted)] = self.execute(
            f"SELECT {RELATION}::text, quote_ident(n) FROM (SELECT %s::text) AS t(n)", [name]
        )
        if found is None and name.isidentifier():
            return str(quoted)  # Else the server takes a plain `user` for a function, and finds a row in it.
        return str(found or name)

    @contextlib.contextmanager
    def _statement_connection(self) -> Iterator[Connection]:
        """The kept one for statements. Not while another thread is using it: psycopg2 would have this one wait for it."""
        self.check_open()
        setting = f"SET lock_timeout = '{LOCK_SECONDS}s'"
        if self._kept.in_statement.acquire(blocking=False):
            try:
                connection = self._kept.connection(setting)
                connection.autocommit = True
                yield connection
            finally:
                self._kept.in_statement.release()
            return
        with contextlib.closing(self.connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(setting)
            yield connection

    def _lock_note(self) -> str:
        # Not by the session that waited: a note on the test's failure says what it ran last.
        name = self.name.replace("'", "''")
        others = leaks.in_transaction(self.server.admin, f"'{name}'")
        return (
            f"postgres.execute() and the assertions run on a connection of their own, which waits for a lock for "
            f"{LOCK_SECONDS} s at most. {others}. If that is the test's own connection (self.db, "
            f"self.session), commit there first, or run the statement there"
        )

    def report_uncommitted(self) -> None:
        """Report what a class has written for its tests and not committed: closing the view undoes it."""
        session = self._session
        pending = session is not None and (session.new or session.dirty or session.deleted)
        if pending or self._kept.has_uncommitted():
            leaks.report_uncommitted(self._test)

    def load(self, *fixtures: str | Path) -> None:
        """Load files (.sql, .json, .yaml, .csv) in one transaction, committed; see docs/fixtures.md for what they hold.

        Paths are relative to the test's module, or to the directory `fixtures` beside it; the ending may be left out.
        Raises FixtureError that names the file and the row; then nothing was loaded.
        """
        from itest.services.postgres.loading import load  # Most tests load nothing.

        places = [] if self.directory is None else [self.directory]
        if not places or self._directory != HERE:  # Nobody has fixtures there.
            places.append(self._directory)
        files = [fixture_files.locate(fixture, places) for fixture in fixtures]
        with self._statement_connection() as connection:
            load(connection, self.server.driver, files)
            if any(file.suffix == ".sql" for file in files):
                connection.close()  # A script may have changed its session: dumps empty the search_path.

    def bind(self, *factories: Any, persistence: str | None = "commit") -> None:
        """Bind classes of factory_boy's SQLAlchemyModelFactory to this test's session, and start their sequences over.

        Undone after the test. `persistence` is what `create()` ends with: "commit", "flush" or None.
        """
        from itest.services.postgres.factories import bind

        self._cleanups.callback(bind(factories, self.own_session, persistence))

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine on the test database. Its connections are kept like `connection`."""
        self.check_open()
        return self._kept.engine()

    def session(self, **kwargs: Any) -> Session:
        """A new SQLAlchemy session on `engine`; keyword arguments as for `sqlalchemy.orm.Session`. Closed after the
        test."""
        orm = client_package("sqlalchemy.orm", "sqlalchemy", "PostgresView.session()")
        return self._closing(orm.Session(self.engine, **kwargs))  # type: ignore[no-any-return]  # _closing returns what it was given

    @property
    def own_session(self) -> Session:
        """The view's own session, made at the first use; `self.session` on a PostgresMixin.

        A class's leaves objects readable after a commit (`expire_on_commit=False`): its tests read them after it is closed.
        """
        self.check_open()
        with self._kept.opening:
            if self._session is None:
                self._session = self.session(expire_on_commit=bool(self._given_to))
            return self._session

    # The same for asyncio. What is handed out belongs to the loop that is running.

    @own_time()
    def aconnect(self, **kwargs: Any) -> Opening[asyncpg.Connection]:
        """A new asyncpg connection, to be awaited; keyword arguments as for `asyncpg.connect`. Closed after the test."""
        driver = client_package("asyncpg", "asyncpg", "PostgresView.aconnect()")
        settings = {"application_name": self._label, **kwargs.pop("server_settings", {})}
        if self.server.instance.owned:
            kwargs = {**libpq.OURS_ASYNC, **kwargs}

        async def connect() -> asyncpg.Connection:
            return await driver.connect(self.url, server_settings=settings, **kwargs)

        return self._opening("aconnect", connect, close_async)

    @property
    @own_time()
    def aengine(self) -> AsyncEngine:
        """A SQLAlchemy engine for asyncio, over asyncpg. It keeps no connections (NullPool), so that it may be used in
        any loop; those that a test does not give back are closed after it."""
        self.check_open()
        if self._async_engine is None:
            self._async_engine = async_engine.create(self)
        return self._async_engine

    @own_time()
    def asession(self, **kwargs: Any) -> AsyncSession:
        """A new SQLAlchemy AsyncSession on `aengine`; keyword arguments as for `AsyncSession`. Closed after the test.

        Objects can be read after a commit (`expire_on_commit=False`), as SQLAlchemy advises for asyncio.
        """
        asynchronous = client_package("sqlalchemy.ext.asyncio", "sqlalchemy", "PostgresView.asession()")
        session: AsyncSession = asynchronous.AsyncSession(self.aengine, **{"expire_on_commit": False, **kwargs})
        return self._closing_async(session, session.close, "asession")


@functools.cache
def _class_connection() -> Any:
    """What a class's own view connects by: a psycopg2 connection that says why it is closed in the tests."""
    driver = client_package("psycopg2", "postgres", "PostgresView.connect()")
    base: Any = client_package("psycopg2.extensions", "postgres", "PostgresView.connect()").connection

    class ClassConnection(base):  # type: ignore[misc]  # psycopg2 is imported on first use, so it is Any
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().cursor(*args, **kwargs)
            except driver.InterfaceError as error:
                if self.closed:
                    error.add_note(
                        "the class's own view has handed it out, and what that hands out is closed before the first test: "
                        "use self.db in tests, or connect in setUp"
                    )
                raise

    return ClassConnection


def check_params(params: object) -> None:
    """Raise TypeError for what psycopg2 takes no values from, and for a text, whose letters it would take for them."""
    if params is not None and (isinstance(params, str | bytes) or not hasattr(params, "__getitem__")):
        raise TypeError(
            f"params={naming.shorten(repr(params), 80)}: it takes a list, tuple or dict of values, for a single one too: "
            f"execute('SELECT %s', [1])"
        )


async def close_async(connection: asyncpg.Connection) -> None:
    """Close an asyncpg connection, by force if it takes too long."""
    try:
        await connection.close(timeout=CLOSE_TIMEOUT / 2)
    except BaseException:
        connection.terminate()
        raise
