# SPDX-License-Identifier: Apache-2.0
"""Migrations: what brings an empty database to the schema under test. Run once per content, into a template database.

Anything with `fingerprint()` and `apply(view)` is a migrator; so is a plain function that takes the view.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from itest import naming
from itest.errors import ConfigError, ItestError

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


@runtime_checkable
class Migrator(Protocol):
    """The two methods of a migrator. `base` is the directory of the test module, for relative paths."""

    def fingerprint(self, base: Path) -> str:
        """Equal as long as `apply` would do the same; it names the template database."""

    def apply(self, view: PostgresView, base: Path) -> None:
        """Migrate the empty database of this view."""


@dataclass(frozen=True, slots=True)
class SqlFiles:
    """The `.sql` files of a directory in the order of their names, or one file. Each runs in one transaction."""

    path: str | Path

    def fingerprint(self, base: Path) -> str:
        return naming.fingerprint("SqlFiles", [(file.name, file.read_bytes()) for file in self._files(base)])

    def apply(self, view: PostgresView, base: Path) -> None:
        for file in self._files(base):
            run_sql_file(view, file)

    def _files(self, base: Path) -> list[Path]:
        place = base / self.path
        files = [place] if place.is_file() else sorted(place.glob("*.sql"))
        if not files:
            raise ConfigError(f"SqlFiles({str(self.path)!r}): there is no .sql file at {place}")
        return files


class MetaData:
    """The tables of a SQLAlchemy `MetaData`, made by `create_all`: `MetaData(Base.metadata)`."""

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata

    def fingerprint(self, base: Path) -> str:
        from sqlalchemy.dialects import postgresql
        from sqlalchemy.schema import CreateIndex, CreateTable

        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no annotation there
        tables = self.metadata.sorted_tables
        statements = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
        statements += sorted(str(CreateIndex(index).compile(dialect=dialect)) for t in tables for index in t.indexes)
        return naming.fingerprint("MetaData", statements)

    def apply(self, view: PostgresView, base: Path) -> None:
        self.metadata.create_all(view.engine)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that takes the view and migrates its database. Its source is its fingerprint."""

    function: Callable[[PostgresView], object]

    def fingerprint(self, base: Path) -> str:
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):  # Built-in, or typed into a console: only its name is known.
            source = repr(getattr(self.function, "__qualname__", type(self.function)))
        return naming.fingerprint("Function", source)

    def apply(self, view: PostgresView, base: Path) -> None:
        self.function(view)


def migrator(value: object) -> Migrator:
    """A declaration's `migrations` as a migrator; a plain path stands for `SqlFiles`."""
    if isinstance(value, str | Path):
        return SqlFiles(value)
    if isinstance(value, Migrator):
        return value
    if callable(value):
        return Function(value)
    raise TypeError(f"{value!r} is no migrator: give SqlFiles(path), MetaData(Base.metadata) or a function of the view")


class SqlError(ItestError):
    """A statement of a .sql file failed. `file` and `line` say where."""

    def __init__(self, message: str, file: Path, line: int) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


def run_sql_file(view: PostgresView, file: Path) -> None:
    """Run a .sql file in one transaction. Raises SqlError with file, line and the server's own message."""
    sql = file.read_text(encoding="utf-8")
    if not sql.strip():
        return
    connection = view.connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
    except view.server.driver.Error as error:
        position = getattr(getattr(error, "diag", None), "statement_position", None)
        line = sql.count("\n", 0, int(position) - 1) + 1 if position else 1
        raise SqlError(f"{file}, line {line}: {str(error).strip()}", file, line) from error
    finally:
        connection.close()
