# SPDX-License-Identifier: Apache-2.0
"""Template databases: migrated and filled once per content, then cloned for each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming
from itest.migrations import migrator, run_sql_file
from itest.services.postgres.kept import Kept
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

FORMAT = 1
"""Part of each template's key; raised when itest builds templates differently."""


def fingerprint(service: Postgres, base: Path) -> str:
    """Equal for declarations whose migrations and fixtures lead to the same database."""
    migrations = "" if service.migrations is None else migrator(service.migrations).fingerprint(base)
    fixtures = [(base / fixture).read_bytes() for fixture in service.fixtures]
    return naming.fingerprint("template", FORMAT, migrations, fixtures)


def build(server: PostgresServer, service: Postgres, base: Path, name: str) -> str:
    """Migrate and fill the database `name`. If that fails it is dropped again and the error goes on."""
    kept = Kept(server, name, "itest migrations")
    view = PostgresView(server, name, "migrations", kept, base)
    try:
        if service.migrations is not None:
            migrator(service.migrations).apply(view, base)
        for fixture in service.fixtures:
            run_sql_file(view, base / fixture)
    except BaseException:
        view.close()
        kept.close()
        server.drop(name)
        raise
    view.close()
    kept.close()
    server.end_sessions(name)  # A pool that the migrations left open would make every clone of it fail.
    return name
