# SPDX-License-Identifier: Apache-2.0
"""Migrations by Alembic, in this process: a third of the time of its command."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import ConfigError, MigrationError
from itest.migrations.protocol import PATH, Progress, check, contents_of, patterns_of, reported
from itest.packages import client_package

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


class Alembic:
    """`alembic upgrade heads` with this `alembic.ini`, on the test database.

    env.py may use `config.attributes["connection"]`, as Alembic's own recipe for sharing a connection does, or connect
    by `sqlalchemy.url`; both lead to the test database, also where it sets that URL itself. Of such a URL the driver
    (`+asyncpg`) is kept. One that connects elsewhere is stopped before it migrates there. Its logging set-up is left
    out: it would silence the loggers that tests look at. `depends_on` are glob patterns of further files that
    migrations read.
    """

    def __init__(
        self, ini: str | Path = "alembic.ini", revision: str = "heads", depends_on: Iterable[str] = ()
    ) -> None:
        check("Alembic: ini", ini, PATH, "the path of an alembic.ini")
        self.ini = ini
        self.revision = revision
        self.depends_on = patterns_of(depends_on)

    def fingerprint(self, base: Path) -> str:
        alembic = client_package("alembic", "alembic", "migrations by Alembic")
        with _untouched():
            config = self._config(base)
            directories = self._directories(config)
        ini = [Path(file) for file in (config.config_file_name, getattr(config, "toml_file_name", None)) if file]
        files = [(file.name, file.read_bytes()) for file in ini]
        files += [
            (file.relative_to(place).as_posix(), file.read_bytes())
            for place in directories
            for file in sorted(place.rglob("*"))
            if file.is_file() and file.suffix != ".pyc"
        ]
        more = contents_of(base, self.depends_on)
        return naming.fingerprint("Alembic", alembic.__version__, self.revision, files, more)

    def apply(self, view: PostgresView, base: Path) -> None:
        client_package("alembic", "alembic", "migrations by Alembic")
        command = client_package("alembic.command", "alembic", "migrations by Alembic")
        with _untouched():
            config = self._config(base)
            _keep_url(config, view)
            directories = self._directories(config)
            title = f"Alembic({str(self.ini)!r}), upgrade to {self.revision}"
            with (
                reported(title, lambda file: any(file.is_relative_to(place) for place in directories)) as progress,
                view.engine.connect() as connection,
                _nowhere_else(view, f"Alembic({str(self.ini)!r})", progress),
            ):
                # Not in a transaction yet, so that Alembic makes one (or one per migration) as it does by itself.
                config.attributes["connection"] = connection
                command.upgrade(config, self.revision)
                if not connection.closed:  # By an env.py that takes it for its own.
                    connection.commit()

    def _config(self, base: Path) -> Any:
        ini = (base / self.ini).resolve()
        if not ini.is_file():
            hint = naming.further_up(base, self.ini)
            raise ConfigError(f"Alembic({str(self.ini)!r}): there is no file {ini}{hint}")
        make = client_package("alembic.config", "alembic", "migrations by Alembic").Config
        project = ini.with_name("pyproject.toml")
        if project.is_file() and "toml_file" in inspect.signature(make).parameters:  # Since Alembic 1.16.
            config = make(str(ini), toml_file=str(project))
        else:
            config = make(str(ini))
        with reported(f"Alembic({str(self.ini)!r})"):
            _place(config, ini.parent)
        return config

    def _directories(self, config: Any) -> list[Path]:
        """Where env.py and the versions lie."""
        scripts = client_package("alembic.script", "alembic", "migrations by Alembic").ScriptDirectory
        with reported(f"Alembic({str(self.ini)!r})") as progress:
            if not config.get_main_option("script_location"):
                progress.advice = (
                    "an ini of Flask-Migrate's has none, as its env.py needs the app: give Function(migrate, "
                    "depends_on=[...]) in which flask_migrate.upgrade() runs in the app's context (docs/migrations.md)"
                )
            found = scripts.from_config(config)
            versions = [Path(place) for place in found._version_locations]
        places = list(dict.fromkeys(place.resolve() for place in [Path(found.dir), *versions]))
        return [place for place in places if not any(other in place.parents for other in places)]

    def __repr__(self) -> str:
        return f"Alembic({str(self.ini)!r}, {self.revision!r})"


def _place(config: Any, directory: Path) -> None:
    """Have the ini's relative paths start from its directory: Alembic takes them from the working directory, which may
    be another one when tests run."""

    def placed(path: str) -> str:
        place = (directory / path).resolve()
        return str(place) if path and place.is_dir() else path

    if hasattr(config, "get_alembic_option"):  # Since Alembic 1.16, which has pyproject.toml and paths by lists.
        locations = {
            "script_location": [config.get_alembic_option("script_location") or ""],
            "version_locations": config.get_version_locations_list(),
            "prepend_sys_path": config.get_prepend_sys_paths_list(),
        }
        config.set_main_option("path_separator", "newline")
    else:
        names = ("script_location", "version_locations", "prepend_sys_path")
        locations = {name: [config.get_main_option(name) or ""] for name in names}
    for name, paths in locations.items():
        if value := "\n".join(placed(path) for path in paths or ()):
            config.set_main_option(name, value.replace("%", "%%"))  # configparser's own escape.


def _keep_url(config: Any, view: PostgresView) -> None:
    """Have `sqlalchemy.url` lead to the test database, whatever the ini says and env.py sets. Their driver stays."""
    set_option = config.set_section_option

    def set_section_option(section: str, name: str, value: str) -> None:
        if name == "sqlalchemy.url":
            dialect, _, driver = str(value).partition("://")[0].partition("+")
            url = view.url_for(driver if driver and dialect.startswith("postgres") else "psycopg2")
            value = url.replace("%", "%%")
        set_option(section, name, value)

    config.set_section_option = set_section_option
    section = config.config_ini_section
    # Raw, because what it refers to (`%(DB_USER)s`) may be for env.py to set.
    config.set_main_option("sqlalchemy.url", config.file_config.get(section, "sqlalchemy.url", raw=True, fallback=""))


@contextlib.contextmanager
def _nowhere_else(view: PostgresView, title: str, progress: Progress) -> Iterator[None]:
    """Within the `with`, an env.py that would migrate another database than the test's, or another schema than the
    class's own, is stopped before it does. One that finds nobody there is told what to do in `progress`.

    It can know of the developer's own one from a variable or from the settings of the project.
    """
    environment = client_package("alembic.runtime.environment", "alembic", "migrations by Alembic").EnvironmentContext
    original = environment.configure
    which = f"{_WHICH}, current_schema()::text" if view.schema else _WHICH  # Else env.py may choose among schemas.
    [own] = view.execute(which)
    place = "the test's schema" if view.schema else "the test database"
    connected = False

    def configure(self: Any, connection: Any = None, *args: Any, **kwargs: Any) -> None:
        nonlocal connected
        connected = True
        if connection is not None and _answer_of(connection, which) != own:
            raise MigrationError(
                f"{title}: env.py connects to {connection.engine.url} and not to {place}, so no migration was "
                f"run; {_INSTEAD}"
            )
        original(self, connection, *args, **kwargs)

    environment.configure = configure
    try:
        yield
    except Exception as error:
        if not connected and _is_of_connecting(error):
            progress.advice = f"if env.py connects by a URL of its own, {_INSTEAD}"
        raise
    finally:
        environment.configure = original


_INSTEAD = (
    'let it use config.attributes["connection"] where there is one, or connect by the URL that '
    'config.get_main_option("sqlalchemy.url") returns'
)


_WHICH = "SELECT current_database()::text, extract(epoch FROM pg_postmaster_start_time())::text"
"""Which database of which server: asked of the server, because one place has many URLs."""


def _answer_of(connection: Any, which: str) -> tuple[str, ...]:
    if connection.dialect.name != "postgresql":
        return ()
    began = connection.in_transaction()
    found = tuple(connection.exec_driver_sql(which).one())
    if not began:  # Or Alembic would take the transaction that this began for env.py's, and leave the commit to it.
        connection.rollback()
    return found


def _is_of_connecting(error: Exception) -> bool:
    """Whether nobody answered, or let us in. Some drivers' own errors come through SQLAlchemy as they are (asyncpg's)."""
    if isinstance(error, OSError):
        return error.filename is None
    errors = client_package("sqlalchemy.exc", "sqlalchemy", "migrations by Alembic")
    return isinstance(error, errors.DBAPIError) and error.statement is None


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """Undo what env.py does to the whole process: sys.path and the logging set-up.

    `fileConfig` closes every handler and disables every logger there is (logging/config.py), so that `assertLogs` of
    later tests would see nothing.
    """
    logging_config: Any = importlib.import_module("logging.config")
    path = list(sys.path)
    originals = (logging_config.fileConfig, logging_config.dictConfig)
    logging_config.fileConfig = logging_config.dictConfig = lambda *args, **kwargs: None
    try:
        yield
    finally:
        logging_config.fileConfig, logging_config.dictConfig = originals
        sys.path[:] = path
