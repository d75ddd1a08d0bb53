# SPDX-License-Identifier: Apache-2.0
"""The schema of the benchmark, as SQL and as SQLAlchemy metadata, and what a test does to it.

Each table has a serial key, a foreign key to its parent in a binary tree, an index on that, and a text column: five
relations and a sequence. That is what an ordinary application's tables look like to PostgreSQL.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.measure import SEED, BenchmarkError

if TYPE_CHECKING:
    from sqlalchemy import MetaData

ROWS = 3
"""Rows that a test inserts into each table that it dirties."""


def names(tables: int) -> list[str]:
    return [f"t{number:04}" for number in range(tables)]


def ddl(tables: int) -> str:
    """CREATE statements, parents first."""
    statements = []
    for number, name in enumerate(names(tables)):
        parent = f" REFERENCES t{_parent(number):04}" if number else ""
        statements.append(
            f"CREATE TABLE {name} (id serial PRIMARY KEY, parent_id integer{parent}, body text);\n"
            f"CREATE INDEX {name}_parent ON {name} (parent_id);\n"
        )
    return "".join(statements)


def metadata(tables: int) -> MetaData:
    """The same for `create_all`."""
    from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text

    found = MetaData()
    for number, name in enumerate(names(tables)):
        parent = [ForeignKey(f"t{_parent(number):04}.id")] if number else []
        Table(
            name,
            found,
            Column("id", Integer, primary_key=True),
            Column("parent_id", Integer, *parent, index=True),
            Column("body", Text),
        )
    return found


@dataclass(slots=True)
class Work:
    """What the bodies of a batch do: other tables each time, the same ones for every contender."""

    tables: int
    dirty: int
    _random: random.Random = field(default_factory=lambda: random.Random(SEED))

    def run(self, connection: Any) -> None:
        """One body, on any DBAPI connection. Raises BenchmarkError when the rows of an earlier body are there."""
        picked = self.pick()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM t{picked[0]:04}")
            [rows] = cursor.fetchone()
            if rows:
                raise BenchmarkError(f"t{picked[0]:04} has {rows} rows before the test wrote any: nothing was isolated")
            for number in picked[: self.dirty]:
                cursor.execute(
                    f"INSERT INTO t{number:04} (parent_id, body) "
                    f"SELECT {f'(SELECT max(id) FROM t{_parent(number):04})' if number else 'NULL'}, 'row ' || n "
                    f"FROM generate_series(1, {ROWS}) n"
                )
        if self.dirty:
            connection.commit()  # A test that only reads seldom thinks of ending its transaction.

    def pick(self) -> list[int]:
        """Numbers of tables, at least one, parents before children: one and its ancestors, then others."""
        number = self._random.randrange(self.tables)
        picked = {number}
        while len(picked) < self.dirty:
            number = _parent(number) if number else self._random.randrange(self.tables)
            picked.add(number)
        return sorted(picked)


def _parent(number: int) -> int:
    return (number - 1) // 2
