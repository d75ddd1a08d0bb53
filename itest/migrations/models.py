# SPDX-License-Identifier: Apache-2.0
"""A schema made from SQLAlchemy models instead of migrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.migrations.protocol import reported
from itest.packages import client_package

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


class MetaData:
    """The tables of a SQLAlchemy `MetaData`, made by `create_all`: `MetaData(Base.metadata)`, or `MetaData(Base)`. Raises
    TypeError for something else.

    Schemas that its tables are in are made first, unless a listener of its own makes some.
    """

    def __init__(self, metadata: Any) -> None:
        metadata = getattr(metadata, "metadata", metadata)  # Of a declarative base.
        if not hasattr(metadata, "create_all"):
            raise TypeError(
                f"MetaData({metadata!r}): that is no SQLAlchemy MetaData; give Base.metadata of your models"
            )
        self.metadata = metadata
        self._complete = True

    def fingerprint(self, base: Path) -> str:
        # Sorted, because the indexes of a table are a set.
        return naming.fingerprint("MetaData", *sorted(self._statements()))

    @property
    def lasting(self) -> bool:
        """Whether what it makes may be kept for later runs: not if a listener does what the fingerprint cannot see."""
        self._statements()
        return self._complete

    def apply(self, view: PostgresView, base: Path) -> None:
        schema = client_package("sqlalchemy.schema", "sqlalchemy", "MetaData")
        names = sorted({table.schema for table in self.metadata.tables.values() if table.schema})
        if any("CREATE SCHEMA" in statement.upper() for statement in self._statements()):
            names = []
        with reported("MetaData.create_all"), view.engine.begin() as connection:
            for name in names:
                connection.execute(schema.CreateSchema(name, if_not_exists=True))
            self.metadata.create_all(connection)

    def _statements(self) -> list[str]:
        """All that `create_all` executes: tables, indexes, enums, sequences, comments, and what listeners add."""
        sqlalchemy = client_package("sqlalchemy", "sqlalchemy", "MetaData")
        schema = client_package("sqlalchemy.schema", "sqlalchemy", "MetaData")
        statements: list[str] = []

        def text(statement: Any) -> str:
            return str(statement.compile(dialect=engine.dialect))

        # An engine that executes nothing.
        engine = sqlalchemy.create_mock_engine(
            "postgresql+psycopg2://", lambda statement, *args, **kwargs: statements.append(text(statement))
        )
        try:
            self.metadata.create_all(engine, checkfirst=False)
        except Exception:  # A listener wants a real connection; the tables themselves are what is left.
            self._complete = False
            tables = self.metadata.sorted_tables
            statements = [text(schema.CreateTable(table)) for table in tables]
            statements += [text(schema.CreateIndex(index)) for table in tables for index in table.indexes]
        return statements

    def __repr__(self) -> str:
        return f"MetaData({len(self.metadata.tables)} tables)"
