# SPDX-License-Identifier: Apache-2.0
"""Template databases: migrated and filled once per content, then cloned for each class.

Fixtures are loaded into a clone of the template of their migrations, which classes with other fixtures share.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from itest import fixture_files, naming, trace
from itest.clock import Deadline
from itest.engines import place_of
from itest.errors import ResetError
from itest.migrations import migrate, migrator
from itest.services.postgres import extensions, warm
from itest.services.postgres.kept import Kept
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

FORMAT = 2
"""Part of each template's key; raised when itest builds templates differently."""

LOCK = int.from_bytes(b"ittm", "big") & 0x7FFFFFFF
"""The first key of the advisory locks under which templates are built; the second is the template's key."""

BUILD_WAIT = 600.0
"""Seconds that another process may take to build the same template."""


def fingerprint(service: Postgres, base: Path, server_version: int = 0) -> str:
    """Equal for declarations that lead to the same database on servers of this major version.

    A fixture counts with its name, because it says which table a .csv file is for and how a file is read.
    """
    migrations = "" if service.migrations is None else migrator(service.migrations).fingerprint(base)
    files = [fixture_files.locate(fixture, [base]) for fixture in service.fixtures]
    fixtures = [(file.name, file.read_bytes()) for file in files]
    more = [list(service.extensions)] if service.extensions else []
    return naming.fingerprint("template", FORMAT, server_version, migrations, fixtures, *more)


@functools.cache
def keys(service: Postgres, server_version: int) -> frozenset[str]:
    """The fingerprints of a declaration's template and of that one's foundation; none where they cannot be told yet."""
    with contextlib.suppress(Exception):
        both = service, service.replace(fixtures=())
        return frozenset(fingerprint(each, service.directory, server_version) for each in both)
    return frozenset()


def build_once(server: PostgresServer, service: Postgres, base: Path, key: str) -> tuple[str, bool]:
    """The template of that key on a server of ours, built unless it is there: by an earlier run whose state the server
    began with, or by another process. Also whether building it left everything outside of it as it was.

    It has its name only when it is complete, so that nobody takes a half-built one for it.
    """
    name = f"itest_t_{key}"
    if server.exists(name):
        with trace.step("found", service.kind, server=server.instance.id, template=key):
            return name, True
    with _building(server, key):
        if server.exists(name):
            return name, True
        below = foundation(server, service, base)
        before = warm.footprint(server)
        made = build(server, service, base, below, key)
        pure = warm.footprint(server) == before
        comment = warm.NEW if pure else warm.IMPURE
        if pure and not (lasts(service) and not (place_of(server.instance) is None and _has_unlogged(server, made))):
            comment = warm.PASSING
        server.admin(f'COMMENT ON DATABASE "{made}" IS %s', comment)
        server.rename(made, name)
    return name, pure


@contextlib.contextmanager
def _building(server: PostgresServer, key: str) -> Iterator[None]:
    """Within the `with`, no other process builds the same template."""
    number = int(key, 16) & 0x7FFFFFFF
    deadline = Deadline.after(BUILD_WAIT)
    while not server.admin("SELECT 1 WHERE pg_try_advisory_lock(%s, %s)", LOCK, number):
        if deadline.passed:
            raise ResetError(
                f"another process has been building the template database itest_t_{key} for {BUILD_WAIT:g} s; "
                f"see what its migrations wait for"
            )
        deadline.pause(0.02)
    try:
        yield
    finally:
        server.admin("SELECT pg_advisory_unlock(%s, %s)", LOCK, number)


def lasts(service: Postgres) -> bool:
    """Whether the template may outlive the run: its key says all that shapes what the migrations do."""
    return service.migrations is None or bool(getattr(migrator(service.migrations), "lasting", True))


def _has_unlogged(server: PostgresServer, name: str) -> bool:
    with server.visit(name) as cursor:
        cursor.execute("SELECT 1 FROM pg_class WHERE relpersistence = 'u' LIMIT 1")
        return bool(cursor.fetchall())


def foundation(server: PostgresServer, service: Postgres, base: Path) -> str:
    """The database that a template begins as a clone of: with fixtures, the template of all but those."""
    if not service.fixtures or (service.migrations is None and not service.extensions):
        return server.base
    return server.template(service.replace(fixtures=()), base)


def build(server: PostgresServer, service: Postgres, base: Path, below: str, key: str = "") -> str:
    """A new database: a clone of `below`, its foundation, with what that lacks of extensions, migrations and fixtures; `key`
    is the template's. If that fails it is dropped again and the error goes on."""
    name = server.create(below)
    kept = Kept(server, name, "itest migrations")
    view = PostgresView(server, name, "migrations", kept, base)
    on = below.removeprefix(warm.TEMPLATE)
    try:
        with trace.step("migrate", service.kind, server=server.instance.id, template=key, on=on):
            if below == server.base:
                extensions.create(server, service, name)
                if service.migrations is not None:
                    migrate(service.migrations, view, base)
            if service.fixtures:
                view.load(*service.fixtures)
    except BaseException:
        view.close()
        kept.close()
        server.drop(name)
        raise
    view.close()
    kept.close()
    server.end_sessions(name)  # A pool that the migrations left open would make every clone of it fail.
    return name
