# SPDX-License-Identifier: Apache-2.0
"""A schema made from SQLAlchemy models instead of migrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.migrations.protocol import reported
from itest.service import client_package

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


class MetaData:
    """The tables of a SQLAlchemy `MetaData`, made by `create_all`: `MetaData(Base.metadata)`.

    Schemas that its tables are in are made first, unless the MetaData sees to it itself by a `before_create` listener.
    """

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata

    def fingerprint(self, base: Path) -> str:
        sqlalchemy = client_package("sqlalchemy", "sqlalchemy", "MetaData")
        statements: list[str] = []

        def note(statement: Any, *args: object, **kwargs: object) -> None:
            statements.append(str(statement.compile(dialect=engine.dialect)))

        # An engine that only writes down: tables, indexes, enums, sequences, comments and what listeners execute.
        engine = sqlalchemy.create_mock_engine("postgresql+psycopg2://", note)
        try:
            self.metadata.create_all(engine, checkfirst=False)
        except Exception:  # A listener of the user's wants a real connection; the tables themselves are what is left.
            statements = [self._described(sqlalchemy, table, engine.dialect) for table in self.metadata.sorted_tables]
        # Sorted, because the indexes of a table are a set.
        return naming.fingerprint("MetaData", *sorted(statements))

    def apply(self, view: PostgresView, base: Path) -> None:
        sqlalchemy = client_package("sqlalchemy", "sqlalchemy", "MetaData")
        schemas = sorted({table.schema for table in self.metadata.tables.values() if table.schema})
        with reported("MetaData.create_all"), view.engine.begin() as connection:
            if not self.metadata.dispatch.before_create:
                for schema in schemas:
                    connection.execute(sqlalchemy.schema.CreateSchema(schema, if_not_exists=True))
            self.metadata.create_all(connection)

    @staticmethod
    def _described(sqlalchemy: Any, table: Any, dialect: Any) -> str:
        schema = sqlalchemy.schema
        made = [schema.CreateTable(table), *(schema.CreateIndex(index) for index in table.indexes)]
        return "; ".join(sorted(str(one.compile(dialect=dialect)) for one in made))

    def __repr__(self) -> str:
        return f"MetaData({len(self.metadata.tables)} tables)"
