# SPDX-License-Identifier: Apache-2.0
"""Migrations that are plain .sql files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming, script
from itest.errors import ConfigError, MigrationError
from itest.migrations.protocol import PATH, check

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


@dataclass(frozen=True, slots=True)
class SqlFiles:
    """The `.sql` files of a directory in the order of their names (its subdirectories are left out), or one file.

    Each runs in one transaction; one that says BEGIN and COMMIT itself, or needs to be outside of a transaction (CREATE
    INDEX CONCURRENTLY, a procedure that commits), runs statement by statement. The rows of `COPY ... FROM stdin` are understood.
    """

    path: str | Path

    def __post_init__(self) -> None:
        check("SqlFiles: path", self.path, PATH, "that of a directory or a file")

    def fingerprint(self, base: Path) -> str:
        return naming.fingerprint("SqlFiles", [(file.name, file.read_bytes()) for file in self._files(base)])

    def apply(self, view: PostgresView, base: Path) -> None:
        for file in self._files(base):
            try:
                sql = script.read(file)
                # A connection for each, because a dump empties the search_path of its session.
                connection = view.connect()
                connection.autocommit = True
                script.run_alone(connection, sql, view.server)
            except script.ScriptError as error:
                message = f"migration {error.sentence(file)}"
                raise MigrationError(
                    message, file=file, line=error.line, statement=error.statement
                ) from error.__cause__

    def _files(self, base: Path) -> list[Path]:
        if files := _scripts(base / self.path):
            return files
        hint = naming.further_up(base, self.path, lambda place: bool(_scripts(place)))
        raise ConfigError(
            f"SqlFiles({str(self.path)!r}): there is no .sql file at {(base / self.path).resolve()}{hint}"
        )


def _scripts(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.glob("*.sql"))
