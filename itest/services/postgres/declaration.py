# SPDX-License-Identifier: Apache-2.0
"""What is wanted of PostgreSQL, and how a container or a local process provides it."""

from __future__ import annotations

import functools
import importlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote, unquote, urlsplit

from itest.arguments import Text, variables_of
from itest.config import Config
from itest.engines import Instance
from itest.errors import ConfigError, DeclarationError, ExternalError, ItestError, StartError, Unavailable, no_url
from itest.fixture_files import check_name
from itest.packages import client_package, need_client
from itest.server_settings import Setting, texts
from itest.service import Service, ServiceMixin
from itest.services.postgres import customs, init, libpq
from itest.services.postgres.customs import BASE, PORT, USER, hashed, password_statement
from itest.shorthand import Shorthand
from itest.spec import ContainerSpec, ExternalSpec, Port, ProcessSpec
from itest.wait import ANSWER_TIMEOUT, Check, answer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from psycopg2.extensions import connection as Connection
    from sqlalchemy.orm import Session

    from itest.container_options import ContainerOptions, Mount
    from itest.migrations.protocol import Migrations
    from itest.services.postgres.server import PostgresServer
    from itest.services.postgres.view import PostgresView

IMAGE = "postgres:17"

SHORT_PAUSE = 0.010
"""Seconds between two polls of a server that begins with a kept state: it takes tenths of a second, and a poll a thousandth."""

FIRST_START_PAUSE = 0.020
"""The same for one that makes its data first. That takes a second in a container, in which the usual pause grows to 0.07."""

FINAL = {
    "authentication failed": "the user or the password is wrong",
    "no password supplied": "it wants a password",
    '" does not exist': "there is no such database or user",
    "server does not support SSL": "it does not speak TLS",
}
"""What the server or libpq says of a connection that no waiting will bring about, and what that means."""

SETTINGS = {
    # Nothing of a test database is worth surviving a crash of its server.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # It writes to databases that nobody uses, a minute after their last change: a server that was left alone would look as
    # if somebody had used it. Tests end long before their dead rows would matter.
    "autovacuum": "off",
    "max_connections": "300",
    # The data lies in memory, and so does the log that waits for a checkpoint.
    "max_wal_size": "256MB",
    # Two-phase commit is off by default; a few slots cost nothing.
    "max_prepared_transactions": "10",
}


@dataclass(frozen=True, eq=False, repr=False)
class Postgres(Service["PostgresView"]):
    """A PostgreSQL server, and for each class a database of its own on it.

    `migrations` brings an empty database to the schema under test: `SqlFiles("migrations")`, `Alembic("alembic.ini")`,
    `MetaData(Base.metadata)`, `Django("shop.settings")`, `Command([...])`, or a function of the view. `fixtures` are
    files loaded after it: .sql, .json, .yaml, .csv. Paths are relative to the module of the class that the declaration
    is assigned in.

    `init` are scripts that a new server runs once, as files in the image's /docker-entrypoint-initdb.d; `extensions` are
    made in each database before its migrations. `settings` are server settings, `{"work_mem": "8MB"}`; `env` are
    variables of the server, among them POSTGRES_INITDB_ARGS. `user` is the superuser's name; `password` is random unless
    one is given. `database` names the database that `init` runs in: each class gets a copy of it under a name of its own.
    """

    kind: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    isolations: ClassVar[tuple[str, ...]] = ("database", "rollback", "truncate", "schema", "none")
    external_setting: ClassVar[str] = "postgres_url"
    url_parts: ClassVar[str] = "host, port, user, password and database"
    asks_to_connect: ClassVar[bool] = True

    image: str = IMAGE
    migrations: Migrations | None = None
    fixtures: Sequence[str | Path] = ()
    init: Sequence[str | Path] = ()
    extensions: Sequence[str] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    env: Mapping[str, Text] = field(default_factory=dict)
    user: str = USER
    password: str = field(default="", repr=False)
    database: str = ""
    volumes: Mapping[str, str | Path | Mount] = field(default_factory=dict)
    """Mounts, by absolute path: a text names a volume, which containers of a run share; a Path is of this machine."""
    ready: Check | None = None
    """What else is waited for, once a client gets an answer: `itest.wait.log("seeded")`."""

    if TYPE_CHECKING:
        _: KW_ONLY
        isolation: Literal["", "database", "rollback", "truncate", "schema", "none"] = ""

    def _check(self) -> None:
        super()._check()
        customs.check(self)
        if self.migrations is not None:
            try:
                from itest.migrations import migrator

                migrator(self.migrations)
            except TypeError as error:
                raise DeclarationError(str(error)) from None
        for fixture in self.fixtures:
            check_name(fixture)

    def during(self, view: PostgresView) -> AbstractContextManager[object]:
        enter: Callable[[PostgresView], AbstractContextManager[object]]
        enter = getattr(self.migrations, "during", super().during)
        return enter(view)

    @property
    def sharable(self) -> bool:
        return self.isolation_or_default in ("database", "rollback")  # The others use one database for all.

    @property
    def keepable(self) -> bool:
        if self.volumes:
            return False  # What lies in them is not seen in what a kept state is found by.
        if self.ready is None:
            return True
        from itest.wait_checks import Log  # Who declares a check has it already.

        # What init and the image's entrypoint log is in no log of a server that begins without them.
        return not any(isinstance(part, Log) for part in self.ready.parts())

    @property
    def environment(self) -> dict[str, str]:
        """`env` as texts."""
        return variables_of("env", self.env)

    def check_client(self) -> None:
        need_client("psycopg2", "postgres", "the service PostgreSQL")

    def import_ahead(self) -> None:
        client_package("psycopg2", "postgres", "the service PostgreSQL")
        importlib.import_module("itest.services.postgres.server")
        importlib.import_module("itest.services.postgres.leases")
        if self.migrations is not None or self.fixtures or self.extensions:
            importlib.import_module("itest.services.postgres.template")

    def container(self, secret: str) -> ContainerSpec:
        return ContainerSpec(
            image=self.image,
            env={
                "POSTGRES_PASSWORD": self.password or secret,
                "POSTGRES_DB": self.database or BASE,
                "POSTGRES_INITDB_ARGS": "--no-sync",
                # A path of ours, because the image's own moved with PostgreSQL 18 (docker-library/postgres#1259).
                "PGDATA": f"{customs.PLACE}/data",
                **customs.QUICK_PG_CTL,
                **customs.variables(self),
                **self.environment,
            },
            command=("postgres", *self.options()),
            ports={"postgres": Port(PORT)},
            tmpfs={path: 0 for path in (customs.PLACE, customs.SHARED_MEMORY) if path not in self.volumes},
            secrets=frozenset({"POSTGRES_PASSWORD"}),
            files=init.in_container(self),
            options=self._container_options(),
        )

    def _container_options(self) -> ContainerOptions | None:
        if not self.volumes:
            return None
        from itest.container_options import ContainerOptions, mounts

        return ContainerOptions(mounts=mounts(self.volumes, self.directory))

    def process(self, secret: str, config: Config) -> ProcessSpec:
        if self.volumes:
            raise Unavailable(
                f"volumes ({', '.join(self.volumes)}) are mounted into containers only, so they need Docker"
            )
        customs.check_variables(self)
        from itest.services.postgres.programs import find_programs

        programs = find_programs(config)
        locale = "C" if sys.platform == "darwin" else "C.UTF-8"
        data = "{directory}/data"
        initdb = [programs.initdb, "--pgdata", data, "--username", self.user, "--pwfile", "{directory}/password.secret"]
        initdb += [
            "--auth-host",
            "scram-sha-256",
            "--auth-local",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            locale,
            "--no-sync",
            *customs.initdb_arguments(self),  # Of an option that is given twice the last one counts.
        ]
        options = {
            "listen_addresses": "127.0.0.1",
            # In the data directory, which only we may enter. Relative, because the path of a socket must be short.
            "unix_socket_directories": ".",
            # In the data directory, so that removing the directory removes it (a SIGKILL leaves one in /dev/shm behind).
            "dynamic_shared_memory_type": "mmap",
        }
        return ProcessSpec(
            version=programs.version,
            replaces=self.image,
            argv=(programs.postgres, "-D", data, "-p", "{port:postgres}", *self.options(options)),
            ports=("postgres",),
            files={"password.secret": self.password or secret, **init.in_process(self)},
            prepare=(tuple(initdb),),
            env={**customs.password_variable(self), **self.environment},
            stop_signal=signal.SIGQUIT,  # Immediate shutdown; unlike SIGKILL it leaves no shared memory behind.
            runs_as_root=False,
        )

    def options(self, extra: Mapping[str, str] | None = None) -> list[str]:
        """The settings as options of the program."""
        settings = {**SETTINGS, **(extra or {}), **texts(self.settings, ("on", "off"))}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
        except ValueError:
            raise no_url(source) from None
        if parts.scheme.split("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
            raise ConfigError(
                f"{source} is no URL of a PostgreSQL server: it must look like "
                f"postgresql://user:password@host:5432/database"
            )
        if parts.netloc.count("@") > 1:  # Python takes the last one for the end of the password, libpq the first.
            raise no_url(source)
        plain = parts._replace(scheme="postgresql").geturl()  # Drivers, as in postgresql+asyncpg, are SQLAlchemy's.
        return ExternalSpec(plain, {"postgres": (parts.hostname, port)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        user, password = quote(self.user, safe=""), quote(self.password or secret, safe="")
        return f"postgresql://{user}:{password}@{instance.endpoint('postgres')}/postgres"

    def readiness(self, address: str) -> Check:
        return self._and_own(self._answers(address, lambda cursor: cursor.execute("SELECT 1"), FIRST_START_PAUSE))

    def ready_again(self, address: str, secret: str) -> Check:
        statement = password_statement(unquote(urlsplit(address).username or ""))
        password = hashed(self.password or secret)  # Here and now, while the server is still starting.
        # Once it has had its answer, the password is another one.
        ask = self._answers(address, lambda cursor: cursor.execute(statement, (password,)), SHORT_PAUSE, once=True)
        return self._and_own(ask)

    def _and_own(self, check: Check) -> Check:
        return check if self.ready is None else check & self.ready

    def _answers(
        self, address: str, ask: Callable[[Any], object], longest_pause: float, *, once: bool = False
    ) -> Check:
        driver = client_package("psycopg2", "postgres", "the service PostgreSQL")

        def select(instance: Instance) -> None:
            try:
                connection = libpq.connect(driver, address, instance.owned, connect_timeout=int(ANSWER_TIMEOUT))
            except driver.OperationalError as error:
                if refused := libpq.refusal(error, address):
                    raise (ConfigError if instance.owned else ExternalError)(refused) from None
                for said, meaning in FINAL.items():
                    if said in str(error):
                        raise self._final(f"{meaning}: {error}", instance) from error
                raise
            try:
                with connection, connection.cursor() as cursor:
                    ask(cursor)
            finally:
                connection.close()

        if once:
            select = functools.cache(select)  # type: ignore[assignment]  # no protocol promises its __hash__
        return answer("SELECT 1 to answer", select, (driver.OperationalError,), longest_pause)

    def _final(self, problem: str, instance: Instance) -> ItestError:
        if not instance.owned:
            return ExternalError(problem)
        return StartError(
            f"{self.title} runs, but {problem.strip()}; itest made it otherwise: has the image, or a script of init, changed "
            f"that?",
            service=self.kind,
        )

    def connect(self, instance: Instance, address: str) -> PostgresServer:
        from itest.services.postgres.server import PostgresServer  # While it is being started it is imported ahead.

        return PostgresServer(self, instance, address)


class PostgresMixin(ServiceMixin):
    """Declares `postgres`; `self.db` is a psycopg2 connection, `self.session` a SQLAlchemy session, both to the test's
    own database."""

    postgres = Postgres()

    db: Shorthand[Connection] = Shorthand("postgres", "connection")
    session: Shorthand[Session] = Shorthand("postgres", "own_session")
