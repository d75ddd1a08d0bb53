# SPDX-License-Identifier: Apache-2.0
"""A schema made from SQLAlchemy models instead of migrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import MigrationError
from itest.migrations.protocol import reported
from itest.packages import client_package
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


class Statement(NamedTuple):
    """A statement with the values that it is given, and the schema in which it makes something, empty for none."""

    text: str
    values: str
    schema: str


class MetaData:
    """The tables of a SQLAlchemy `MetaData`, made by `create_all`: `MetaData(Base.metadata)`, or `MetaData(Base)`. Raises
    TypeError for something else.

    Schemas that its tables, enums and sequences are in are made first, unless a listener of its own makes some; with
    isolation="schema" they are refused.
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
        made = sorted(self._statements())
        if any(one.values for one in made) and sorted(self._statements()) != made:
            made = [one._replace(values="") for one in made]  # A time or a random number, which says nothing.
        return naming.fingerprint("MetaData", *made)

    @property
    def lasting(self) -> bool:
        """Whether what it makes may be kept for later runs: not if a listener does what the fingerprint cannot see."""
        self._statements()
        return self._complete

    def apply(self, view: PostgresView, base: Path) -> None:
        schema = client_package("sqlalchemy.schema", "sqlalchemy", "MetaData")
        made = self._statements()
        names = sorted({one.schema for one in made if one.schema})
        if names and view.schema:
            raise MigrationError(
                f"MetaData: its tables, enums or sequences name schemas of their own ({', '.join(names)}), which with "
                f"isolation='schema' would be made in the database itself, for all and for good; leave the schema out there, or "
                f"declare isolation='database'"
            )
        if any("CREATE SCHEMA" in one.text.upper() for one in made):
            names = []
        with reported("MetaData.create_all"), view.engine.begin() as connection:
            for name in names:
                connection.execute(schema.CreateSchema(name, if_not_exists=True))
            self.metadata.create_all(connection)

    def _statements(self) -> list[Statement]:
        """All that `create_all` executes: tables, indexes, enums, sequences, comments, and what listeners add."""
        sqlalchemy = client_package("sqlalchemy", "sqlalchemy", "MetaData")
        schema = client_package("sqlalchemy.schema", "sqlalchemy", "MetaData")
        made: list[Statement] = []

        def note(statement: Any, *values: Any, **options: Any) -> None:
            compiled = statement.compile(dialect=engine.dialect)
            given = [value for value in (compiled.params, *values) if value]
            place = getattr(getattr(statement, "element", None), "schema", None)
            made.append(Statement(str(compiled), repr(given) if given else "", place or ""))

        # An engine that executes nothing.
        engine = sqlalchemy.create_mock_engine("postgresql+psycopg2://", note)
        try:
            self.metadata.create_all(engine, checkfirst=False)
        except Exception:  # A listener wants a real connection; the tables themselves are what is left.
            self._complete = False
            made.clear()
            for table in self.metadata.sorted_tables:
                note(schema.CreateTable(table))
                for index in table.indexes:
                    note(schema.CreateIndex(index))
        return made

    def __repr__(self) -> str:
        return f"MetaData({len(self.metadata.tables)} tables)"
