# SPDX-License-Identifier: Apache-2.0
"""The rows of fixtures in the portions that one COPY takes, and the order of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from itest import script
from itest.errors import FixtureError
from itest.fixture_data import TableRows
from itest.services.postgres.loading.catalog import Key, Table, quoted
from itest.services.postgres.loading.encoding import Unfit, copy_text, text_of


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that one COPY takes: of one table and file, one after the other, with the same columns."""

    source: TableRows
    table: Table
    columns: tuple[str, ...]
    first: int = 0
    """The index of its first row in the file's rows."""
    count: int = 0

    @property
    def target(self) -> str:
        """The table with the columns, as COPY and INSERT name them."""
        return f"{self.table.name} ({', '.join(quoted(column) for column in self.columns)})"

    def rows(self) -> Iterator[list[str | None]]:
        """The values of each row as texts that the server reads. Raises FixtureError for one that does not fit."""
        rows = self.source.as_rows()
        if self.source.csv is not None:
            yield from ([row[column] for column in self.columns] for row in rows)
            return
        kinds = [(column, self.table.columns[column].kind) for column in self.columns]
        for number, row in enumerate(rows[self.first : self.first + self.count], self.first + 1):
            try:
                yield [text_of(row[column], kind, column) for column, kind in kinds]
            except Unfit as unfit:
                file, table = self.source.file, self.source.table
                message = f"{script.shown(file)}: row {number} of {table}: column {unfit.column!r}: {unfit}"
                raise FixtureError(message, file=file, table=table, row=number, column=unfit.column) from None

    def copied(self) -> bytes:
        """The rows as COPY reads them. Kept with the parsed file, because tests load the same one again and again."""
        if self.source.csv is not None:
            return self.source.csv
        key = (self.first, self.columns, tuple(self.table.columns[column].kind for column in self.columns))
        if (data := self.source.encoded.get(key)) is None:
            data = self.source.encoded[key] = "".join(copy_text(row) for row in self.rows()).encode()
        return data


def groups_of(source: TableRows, table: Table) -> Iterator[Group]:
    """The portions of one file's rows of a table: a new one begins where the columns change."""
    if source.csv is not None:
        yield Group(source, table, source.columns)
        return
    first = 0
    for index, row in enumerate(source.rows):
        if row.keys() != source.rows[first].keys():
            yield Group(source, table, tuple(source.rows[first]), first, index - first)
            first = index
    if source.rows:
        yield Group(source, table, tuple(source.rows[first]), first, len(source.rows) - first)


def in_order(groups: Sequence[Group], keys: Iterable[Key]) -> tuple[list[Group], list[Group]]:
    """The groups with parents before children; and those that refer to each other in a circle, or wait for these."""
    waiting = list(groups)
    parents: dict[int, set[int]] = {group.table.oid: set() for group in groups}
    several = {oid for oid in parents if sum(group.table.oid == oid for group in groups) > 1}
    for key in keys:
        # Within one COPY a table may refer to itself in any order; over several, it is a circle.
        if key.child in parents and key.parent in parents and (key.child != key.parent or key.child in several):
            parents[key.child].add(key.parent)
    ordered: list[Group] = []
    while ready := [group for group in waiting if not parents[group.table.oid]]:
        ordered += ready
        done = {group.table.oid for group in ready}
        waiting = [group for group in waiting if group.table.oid not in done]
        for oid in parents:
            parents[oid] -= done
    return ordered, waiting
