# SPDX-License-Identifier: Apache-2.0
"""Migrations: what brings an empty database to the schema under test. Run once per content, into a template database.

    protocol.py  Migrator, and what a failure is reported as
    sql.py       SqlFiles
    models.py    MetaData: the tables of SQLAlchemy models
    alembic.py   Alembic
    django.py    Django
    command.py   Command: any program
    function.py  Function: any function of the view

Anything with `fingerprint()` and `apply(view)` is a migrator, or with `fingerprint(base)` and `apply(view, base)`; so is a
plain function that takes the view.
"""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from itest.migrations.alembic import Alembic
from itest.migrations.command import Command
from itest.migrations.django import Django
from itest.migrations.function import CURE, Function
from itest.migrations.models import MetaData
from itest.migrations.protocol import Migrator, with_base
from itest.migrations.sql import SqlFiles

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView

__all__ = ["Alembic", "Command", "Django", "Function", "MetaData", "Migrator", "SqlFiles", "migrate", "migrator"]


def migrator(value: object) -> Migrator:
    """A declaration's `migrations` as a migrator; a plain path stands for `SqlFiles`, SQLAlchemy's metadata, or a declarative
    base that has it, for `MetaData`. Raises TypeError for none of them."""
    if isinstance(value, str | Path):
        if Path(value).suffix == ".ini":
            raise TypeError(
                f"{str(value)!r} is no SQL; if it is Alembic's configuration, write Alembic({str(value)!r})"
            )
        return SqlFiles(value)
    if isinstance(value, Migrator) and not isinstance(value, type):
        if inspect.iscoroutinefunction(value.apply):
            raise TypeError(f"{type(value).__qualname__}.apply is a coroutine function, and nothing awaits it: {CURE}")
        return with_base(value)
    if _is_metadata(getattr(value, "metadata", value)):
        return MetaData(value)
    if callable(value) and not isinstance(value, type):
        return Function(value)
    raise TypeError(
        f"{value!r} is no migrator: give SqlFiles(path), Alembic(ini), MetaData(Base.metadata), Django(settings), "
        f"Command(argv) or a function of the view"
    )


def migrate(migrations: object, view: PostgresView, base: Path) -> None:
    """Apply a declaration's `migrations`. Raises MigrationError."""
    from itest import early_reads  # Only a template that is made anew needs it.

    applied = migrator(migrations)
    # Django's ORM follows each class, whatever the settings have read.
    with contextlib.nullcontext() if isinstance(applied, Django) else early_reads.noted():
        applied.apply(view, base)


def _is_metadata(value: object) -> bool:
    """Whether it is SQLAlchemy's, without importing that to find out."""
    return any(
        (each.__module__.partition(".")[0], each.__name__) == ("sqlalchemy", "MetaData") for each in type(value).__mro__
    )
