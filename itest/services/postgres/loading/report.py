# SPDX-License-Identifier: Apache-2.0
"""Errors of a load in terms of its files: which file, which row, which column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from itest import naming, script
from itest.errors import FixtureError
from itest.fixture_data import TableRows
from itest.services.postgres.loading.catalog import Table
from itest.services.postgres.loading.groups import Group

FOREIGN_KEY_VIOLATION = "23503"
LOCK_NOT_AVAILABLE = "55P03"

_CONTEXT = re.compile(r"^COPY .*?, line (\d+)(?:, column ([^:\n]+))?", re.MULTILINE)
_MISSING = re.compile(r'Key \((.*?)\)=\((.*?)\) is not present in table "(.*?)"')


def check_names(source: TableRows, table: Table | None, known_tables: Sequence[str]) -> None:
    """Raise FixtureError for a table or column that there is not."""
    name = script.shown(source.file)
    if table is None:
        message = f"{name}: there is no table {source.table!r}{_hint(source.table, known_tables, 'tables')}"
        raise FixtureError(message, file=source.file, table=source.table)
    rows: Iterable[tuple[int, Iterable[str]]] = enumerate(source.rows, 1)
    for number, columns in rows if source.csv is None else [(0, source.columns)]:
        if unknown := [column for column in columns if column not in table.columns]:
            place = f"row {number} of {source.table}" if number else f"line 1 (the columns of {source.table})"
            hint = _hint(unknown[0], list(table.columns), "columns")
            message = f"{name}: {place}: there is no column {unknown[0]!r}{hint}"
            line = 0 if number else 1
            raise FixtureError(message, file=source.file, table=source.table, row=number, line=line, column=unknown[0])


def blame(error: Any, groups: Sequence[Group], lock_seconds: int) -> NoReturn:
    """Raise FixtureError that names the file and the row that the server complained about, as far as it says."""
    found = error.diag
    suspects = [group for group in groups if found.table_name in (None, group.table.plain)] or list(groups)
    missing = _MISSING.search(found.message_detail or "") if error.pgcode == FOREIGN_KEY_VIOLATION else None
    if missing and suspects:
        columns, values, parent = missing.groups()
        orphan(columns.split(", "), values.split(", "), parent, found.constraint_name, suspects, error)
    reason = script.reason_of(error)
    if error.pgcode == LOCK_NOT_AVAILABLE:
        reason = (
            f"another connection has held a lock on it for {lock_seconds} s; "
            f"was self.db left in the middle of a transaction? Commit it before loading"
        )
    files = ", ".join(dict.fromkeys(script.shown(group.source.file) for group in suspects))
    if len({(group.source.file, group.table.oid) for group in suspects}) != 1:
        raise FixtureError(naming.mask(f"{files or 'the fixtures'} could not be loaded: {reason}")) from error
    group = suspects[0]
    source, row, line, column = group.source, 0, 0, found.column_name or ""
    place = source.table
    if context := _CONTEXT.search(found.context or ""):
        column = context[2] or column
        if source.csv is None:
            row = group.first + int(context[1])
            place = f"row {row} of {source.table}"
        else:
            line = int(context[1])
            place = f"line {line} (a row of {source.table})"
    if column:
        place += f": column {column!r}"
    message = naming.mask(f"{files}: {place}: {reason}")
    raise FixtureError(message, file=source.file, table=source.table, row=row, line=line, column=column) from error


def orphan(
    columns: Sequence[str],
    values: Sequence[str | None],
    parent: str,
    constraint: str,
    groups: Sequence[Group],
    cause: BaseException | None = None,
) -> NoReturn:
    """Raise FixtureError for a row of these groups whose foreign key finds nothing in the table `parent`."""
    source, row = _row_with(groups, columns, values)
    pairs = ", ".join(f"{column} = {value}" for column, value in zip(columns, values, strict=True))
    place = f"row {row} of {source.table}" if row else source.table
    raise FixtureError(
        f"{script.shown(source.file)}: {place}: {pairs} is not in {parent} (constraint {constraint})",
        file=source.file,
        table=source.table,
        row=row,
        column=columns[0] if len(columns) == 1 else "",
    ) from cause


def _row_with(groups: Sequence[Group], columns: Sequence[str], values: Sequence[str | None]) -> tuple[TableRows, int]:
    """The file and the number of the row that holds these values; 0 where the row was there before."""
    for group in groups:
        if set(columns) <= set(group.columns):
            places = [group.columns.index(column) for column in columns]
            for number, row in enumerate(group.rows(), group.first + 1):
                if [row[place] for place in places] == list(values):
                    return group.source, number
    return groups[0].source, 0


def _hint(name: str, known: Sequence[str], what: str) -> str:
    if near := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {near[0]!r}?"
    if known:
        return f"; the {what} are {naming.shorten(', '.join(known), 300)}"
    return f"; there are no {what}: is the schema migrated?"
