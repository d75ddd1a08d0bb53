# SPDX-License-Identifier: Apache-2.0
"""Migrations by Django, in this process: `migrate` on the test database in place of the project's own."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import io
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import ConfigError
from itest.lease import Held
from itest.migrations.protocol import check, contents_of, patterns_of, reported
from itest.packages import client_package

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView

ENGINE = "django.db.backends.postgresql"

FOREIGN_OPTIONS = ("service", "passfile", "pool", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""Connection OPTIONS of the project's own database that would not fit the test database."""


LABEL = "itest django"
"""What Django's connections call themselves: they may stay, and need no advice when their session is ended."""


Opened = weakref.WeakValueDictionary[int, Any]


class Django:
    """`migrate` with these settings, for all apps or those named by label.

    While it migrates, and while a class with such a declaration runs, the connection named `database` leads to the class's
    database, and so do its mirrors: that of Django's ORM, on every thread. Apps without migrations get their tables as
    by `migrate --run-syncdb`. `depends_on` are glob patterns of further files that migrations or the settings read.
    """

    def __init__(
        self,
        settings: str,
        apps: Sequence[str] | None = None,
        database: str = "default",
        depends_on: Iterable[str] = (),
    ) -> None:
        if isinstance(apps, str):
            apps = [apps]
        check("Django: settings", settings, str, "the name of a module, 'shop.settings'")
        self.settings = settings
        self.apps = None if apps is None else tuple(apps)
        self.database = database
        self.depends_on = patterns_of(depends_on)

    def fingerprint(self, base: Path) -> str:
        django = self._set_up()
        # Not there where others configured Django.
        settings = getattr(sys.modules.get(self.settings), "__file__", None)
        more = [*([("settings", Path(settings).read_bytes())] if settings else ()), *contents_of(base, self.depends_on)]
        what = (django.get_version(), self.settings, self.apps, self.database)
        return naming.fingerprint("Django", *what, _sources(), more)

    def apply(self, view: PostgresView, base: Path) -> None:
        self._set_up()
        call_command = importlib.import_module("django.core.management").call_command
        output = io.StringIO()
        options = {"database": self.database, "interactive": False, "no_color": True, "stdout": output}
        places = {file.parent for file in _migration_files()}
        with (
            reported(f"Django({self.settings!r}), migrate", lambda file: file.parent in places) as progress,
            _leading_to(view, _aliases(self.database)),
        ):
            connection = importlib.import_module("django.db").connections[self.database]

            def note(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
                progress.statement = str(sql)
                return execute(sql, params, many, context)

            connection.connect()  # Django's SimpleTestCase forbids it where it is left to them, as the class needs no ORM.
            loader = importlib.import_module("django.db.migrations.loader").MigrationLoader
            migrated = loader(None, ignore_no_migrations=True).migrated_apps
            try:
                with connection.execute_wrapper(note):
                    if self.apps is None:
                        call_command("migrate", run_syncdb=True, **options)
                    for label in self.apps or ():
                        call_command("migrate", label, run_syncdb=label not in migrated, **options)
            except Exception as error:
                progress.file = _last_applied(output.getvalue())
                if not _is_of_database(error):
                    progress.statement = ""
                raise

    @contextlib.contextmanager
    def during(self, view: PostgresView) -> Iterator[Held]:
        """While a class runs that has this view, Django's connection leads to it, on whichever thread. `Held` is a
        transaction that was begun around the tests, as django.test.TestCase does.

        Else the connection is closed where the test before has left one open. It stays open otherwise, and connects again
        where its session has been ended.
        """
        self._set_up()
        connections = importlib.import_module("django.db").connections
        held = True  # Until a test begins outside of a transaction.
        aliases = _aliases(self.database)
        recall: Callable[[], None] | None = None
        with _leading_to(view, aliases) as opened:

            def is_held() -> bool:
                nonlocal held, recall
                led = [connections[alias] for alias in aliases]
                held = held and any(each.in_atomic_block for each in led)
                if held:
                    return True
                for each in led:
                    if each.connection is not None and not each.autocommit:
                        each.close()  # It remembers the block it was in, so another one takes its place.
                        _replace(each)
                for each in _alive(opened):
                    each.health_check_done = False
                if recall is None:
                    recall = _rows_in_memory()  # Those of the baseline.
                else:
                    recall()
                return False

            yield Held(is_held)

    def _set_up(self) -> Any:
        """Configure Django with the settings, unless the test runner has done so already."""
        django = client_package("django", "django", "migrations by Django")
        conf = importlib.import_module("django.conf")
        place = Path(*self.settings.split("."))

        def is_settings(file: Path) -> bool:
            packages = [str(each) for each in (place, place.parent) if each.name]  # They may have been split up.
            return file.match(f"{place}.py") or any(map(file.parent.match, packages))

        with reported(f"Django({self.settings!r}), import of the settings and apps", is_settings) as progress:
            try:
                if not conf.settings.configured:
                    # What DJANGO_SETTINGS_MODULE does, but for the environment, which is not ours to change.
                    holder = conf.Settings(self.settings)
                    conf.settings.configure(default_settings=holder, SETTINGS_MODULE=self.settings)
                elif conf.settings.SETTINGS_MODULE not in (None, self.settings):
                    raise ConfigError(
                        f"Django({self.settings!r}): this process runs with the settings "
                        f"{conf.settings.SETTINGS_MODULE!r} already, and Django can have only one"
                    )
                if not importlib.import_module("django.apps").apps.ready:  # It would set up logging again each time.
                    django.setup()
            except KeyError:
                progress.advice = "set what they read from the environment before the tests run"
                raise
            except ModuleNotFoundError as error:
                if error.name is None or not (self.settings + ".").startswith(error.name + "."):
                    raise
                raise ConfigError(
                    f"Django({self.settings!r}): there is no such module; run the tests from the directory that "
                    f"`manage.py` is in, or put it on PYTHONPATH"
                ) from error
        return django

    def __repr__(self) -> str:
        return f"Django({self.settings!r})"


@contextlib.contextmanager
def _leading_to(view: PostgresView, aliases: Sequence[str]) -> Iterator[Opened]:
    """Within the `with`, Django's connections of these names lead to the test database, with the options of the first. Gives
    those that were opened to it, on whichever thread."""
    connections = importlib.import_module("django.db").connections
    created = importlib.import_module("django.db.backends.signals").connection_created
    settings, owner = connections.settings[aliases[0]], os.getpid()
    before = [(connections[each], dict(connections.settings[each])) for each in aliases]
    engine = settings["ENGINE"]
    is_postgres = not engine.startswith("django.db.backends.") or engine == ENGINE  # PostGIS and others build on it.
    theirs = settings["OPTIONS"] if is_postgres else {}
    options = {name: value for name, value in theirs.items() if name not in FOREIGN_OPTIONS}
    if more := view.env.get("PGOPTIONS"):  # Last, because of two search_paths the later one counts.
        options["options"] = f"{options.get('options', '')} {more}".strip()
    opened: Opened = weakref.WeakValueDictionary()

    def note(connection: Any, **_: object) -> None:
        if connection.alias in aliases:
            opened[id(connection)] = connection

    created.connect(note, weak=False)
    try:
        ours = {
            "ENGINE": engine if is_postgres else ENGINE,
            "OPTIONS": {**options, "application_name": LABEL},
            "NAME": view.name,
            "USER": view.user,
            "PASSWORD": view.password,
            "HOST": view.host,
            "PORT": str(view.port),
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": True,
        }
        for connection, _ in before:
            connections.settings[connection.alias] |= ours  # In place, as the connections of other threads share it.
            _replace(connection)
        _forget_rows()
        yield opened
    finally:
        created.disconnect(note)
        try:  # Before the project's settings are back, by which they may be a pool's.
            for each in _alive(opened) if os.getpid() == owner else ():  # In a forked child they are its parent's.
                each.inc_thread_sharing()  # Else only its own thread may close it, where it would lead there for ever.
                each.close()
                each.dec_thread_sharing()
        finally:
            for connection, own in before:
                connections.settings[connection.alias] |= own
                connections[connection.alias] = connection
            _forget_rows()


def _aliases(alias: str) -> list[str]:
    """It, and those that Django's own runner would have lead to its test database (`TEST={"MIRROR": ...}`), but for one that
    another declaration has lead to its own. Raises ConfigError."""
    settings = importlib.import_module("django.db").connections.settings
    if alias not in settings:
        known = ", ".join(settings)
        raise ConfigError(f"Django(database={alias!r}): the settings' DATABASES have no such entry, only {known}")
    mirrors = [other for other, each in settings.items() if mirrored(each) == alias]
    return [alias, *(other for other in mirrors if leading(settings[other]) in (None, leading(settings[alias])))]


def leading(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Where itest has one lead; None where it does not."""
    if settings.get("OPTIONS", {}).get("application_name") != LABEL:
        return None
    return settings["HOST"], settings["PORT"], settings["NAME"]


def mirrored(settings: Mapping[str, Any]) -> str | None:
    """What database one is a mirror of. One that is added while a program runs has what it was given only."""
    mirror: str | None = settings.get("TEST", {}).get("MIRROR")
    return mirror


def _replace(connection: Any) -> None:
    """Another one takes the place of this thread's connection, and logs what it is asked as that did (`--debug-sql`)."""
    connections = importlib.import_module("django.db").connections
    another = connections.create_connection(connection.alias)
    another.force_debug_cursor = connection.force_debug_cursor
    connections[connection.alias] = another


def _rows_in_memory() -> Callable[[], None]:
    """Note the rows that Django keeps in memory: gives what has it keep these again and no others, for after a test."""
    apps = importlib.import_module("django.apps").apps
    places: list[tuple[Any, str]] = []
    if apps.is_installed("django.contrib.contenttypes"):
        places.append((apps.get_model("contenttypes", "ContentType").objects, "_cache"))
    if apps.is_installed("django.contrib.sites"):
        places.append((importlib.import_module("django.contrib.sites.models"), "SITE_CACHE"))
    noted = [_copied(getattr(place, name)) for place, name in places]

    def recall() -> None:
        for (place, name), rows in zip(places, noted, strict=True):
            setattr(place, name, _copied(rows))

    return recall


def _copied(rows: Any) -> Any:
    """With the objects, which a test may change; other threads may add to them meanwhile."""
    return {key: _copied(row) for key, row in [*rows.items()]} if isinstance(rows, dict) else copy.copy(rows)


def _forget_rows() -> None:
    """Have Django read again the rows that it keeps in memory: in another database their ids are others."""
    apps = importlib.import_module("django.apps").apps
    for label, model in ("contenttypes", "ContentType"), ("sites", "Site"):
        if apps.is_installed(f"django.contrib.{label}"):
            apps.get_model(label, model).objects.clear_cache()


def _alive(opened: Opened) -> list[Any]:
    """Other threads may open more meanwhile."""
    return [each for reference in opened.valuerefs() if (each := reference()) is not None]


def _last_applied(output: str) -> Path | None:
    """The migration that the command was about to apply when it failed, by what it printed."""
    names = re.findall(r"Applying (\w+)\.(\w+)\.\.\.", output)
    if not names:
        return None
    label, name = names[-1]
    loader = importlib.import_module("django.db.migrations.loader").MigrationLoader
    module, _ = loader.migrations_module(label)
    file = getattr(importlib.import_module(f"{module}.{name}"), "__file__", None)
    return Path(file) if file else None


def _is_of_database(error: BaseException) -> bool:
    return isinstance(error, importlib.import_module("django.db").Error)


def _migration_files() -> list[Path]:
    """The migrations of the installed apps."""
    apps = importlib.import_module("django.apps").apps
    loader = importlib.import_module("django.db.migrations.loader").MigrationLoader
    found: list[Path] = []
    for app in apps.get_app_configs():
        module, _ = loader.migrations_module(app.label)
        with contextlib.suppress(ModuleNotFoundError):
            spec = importlib.util.find_spec(module) if module else None
            for place in (spec.submodule_search_locations or ()) if spec else ():
                found += sorted(Path(place).glob("*.py"))
    return found


def _sources() -> list[tuple[str, str, bytes]]:
    """Migrations, and models: these make the tables of apps without migrations, and permissions after `migrate`."""
    apps = importlib.import_module("django.apps").apps
    files = _migration_files()
    for app in apps.get_app_configs():
        file = Path(getattr(app.models_module, "__file__", None) or "")
        if file.name:
            files += sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]
    return [(file.parent.parent.name, file.name, file.read_bytes()) for file in files]
