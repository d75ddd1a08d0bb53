# SPDX-License-Identifier: Apache-2.0
"""What a test gets of PostgreSQL: a database of its own, and connections to it that close themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from itest import fixture_files, naming
from itest.service import View, client_package

if TYPE_CHECKING:
    import asyncpg
    from psycopg2.extensions import connection as Connection
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer


class PostgresView(View):
    """A test database. `name`, `user` and `password` are what a client needs besides `host` and `port`."""

    server: PostgresServer

    def __init__(self, server: PostgresServer, name: str, test: str, kept: Kept, directory: Path) -> None:
        super().__init__(server)
        self.name = name
        self._kept = kept
        self._label = naming.application_name(test)
        self._directory = directory
        self._statements: Connection | None = None
        self._session: Session | None = None

    @property
    def user(self) -> str:
        return self.server.user

    @property
    def password(self) -> str:
        return self.server.password

    @property
    def url(self) -> str:
        return self.server.url_of(self.name)

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
        return self._kept.connection()

    def connect(self, **kwargs: Any) -> Connection:
        """A new psycopg2 connection; keyword arguments as for `psycopg2.connect`. Closed after the test."""
        connection = self.server.driver.connect(self.url, **{"application_name": self._label, **kwargs})
        return self._closing(connection)  # type: ignore[no-any-return]  # _closing returns what it was given

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once, and return its rows; `params` as for psycopg2's `execute`."""
        if self._statements is None or self._statements.closed:
            self._statements = self.connect()
            self._statements.autocommit = True
        with self._statements.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def load(self, *fixtures: str | Path) -> None:
        """Load .sql files, paths relative to the test module. Raises SqlError with file, line and reason."""
        for fixture in fixtures:
            if Path(fixture).suffix != ".sql":
                raise ItestError(f"the fixture {str(fixture)!r} is no .sql file")
            run_sql_file(self, self._directory / fixture)

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine on the test database. Its connections are kept like `connection`."""
        return self._kept.engine()

    def session(self, **kwargs: Any) -> Session:
        """A new SQLAlchemy session on `engine`; keyword arguments as for `sqlalchemy.orm.Session`. Closed after the test."""
        orm = client_package("sqlalchemy.orm", "sqlalchemy", "PostgresView.session()")
        return self._closing(orm.Session(self.engine, **kwargs))  # type: ignore[no-any-return]  # _closing returns what it was given

    @property
    def own_session(self) -> Session:
        """The view's own session, made at the first use; `self.session` on a PostgresMixin."""
        if self._session is None:
            self._session = self.session()
        return self._session

    async def aconnect(self, **kwargs: Any) -> asyncpg.Connection:
        """A new asyncpg connection; it is for the test's own event loop, and for the test to close."""
        driver = client_package("asyncpg", "asyncpg", "PostgresView.aconnect()")
        return await driver.connect(self.url, **kwargs)
