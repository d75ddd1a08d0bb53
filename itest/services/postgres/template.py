# SPDX-License-Identifier: Apache-2.0
"""Template databases: migrated and filled once per content, then cloned for each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itest import fixture_files, naming
from itest.migrations import migrator
from itest.services.postgres.kept import Kept
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

FORMAT = 2
"""Part of each template's key; raised when itest builds templates differently."""


def fingerprint(service: Postgres, base: Path, server_version: int = 0) -> str:
    """Equal for declarations whose migrations and fixtures lead to the same database on servers of this major version.

    A fixture counts with its name, because it says which table a .csv file is for and how a file is read.
    """
    migrations = "" if service.migrations is None else migrator(service.migrations).fingerprint(base)
    files = [fixture_files.locate(fixture, [base]) for fixture in service.fixtures]
    fixtures = [(file.name, file.read_bytes()) for file in files]
    return naming.fingerprint("template", FORMAT, server_version, migrations, fixtures)


def build(server: PostgresServer, service: Postgres, base: Path, name: str) -> str:
    """Migrate and fill the database `name`. If that fails it is dropped again and the error goes on."""
    kept = Kept(server, name, "itest migrations")
    view = PostgresView(server, name, "migrations", kept, base)
    try:
        if service.migrations is not None:
            migrator(service.migrations).apply(view, base)
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
