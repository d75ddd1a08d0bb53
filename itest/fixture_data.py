# SPDX-License-Identifier: Apache-2.0
"""What a fixture's file holds: a script, or rows of tables. Parsed once, as long as the file does not change."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itest import script
from itest.errors import FixtureError
from itest.packages import client_package


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of one table in one file, in its order. `csv` holds them as they stand in a .csv file instead."""

    file: Path
    table: str
    rows: Sequence[dict[str, Any]] = ()
    csv: bytes | None = None
    columns: tuple[str, ...] = ()
    encoded: dict[object, bytes] = field(default_factory=dict, compare=False)
    """Whoever sends the rows keeps here what it made of them; parsed files are shared from load to load."""

    def as_rows(self) -> Sequence[dict[str, Any]]:
        """The rows one by one, those of a .csv file with every value as text and an empty one as None."""
        if self.csv is None:
            return self.rows
        lines = csv.reader(io.StringIO(self.csv.decode("utf-8"), newline=""), strict=True)
        next(lines)
        return [dict(zip(self.columns, (value or None for value in line), strict=False)) for line in lines]


@dataclass(frozen=True, slots=True)
class Fixture:
    """What a file holds: a script or rows of tables."""

    file: Path
    sql: str | None = None
    tables: tuple[TableRows, ...] = ()


_parsed: dict[Path, tuple[tuple[int, int], Fixture]] = {}


def read(file: Path) -> Fixture:
    """What a file holds, parsed once as long as it does not change. Raises FixtureError that says what is wrong."""
    try:
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if (known := _parsed.get(file)) is None or known[0] != stamp:
            known = _parsed[file] = (stamp, _parse(file))
    except OSError as error:
        raise FixtureError(f"the fixture {script.shown(file)} cannot be read: {error}", file=file) from error
    except UnicodeDecodeError as error:
        raise FixtureError(f"the fixture {script.shown(file)} is not UTF-8: {error}", file=file) from error
    return known[1]


def _parse(file: Path) -> Fixture:
    text = file.read_text(encoding="utf-8-sig")  # Spreadsheets put a byte order mark in front.
    if file.suffix == ".sql":
        return Fixture(file, sql=text)
    if file.suffix == ".csv":
        return Fixture(file, tables=(_csv(file, text),))
    return Fixture(file, tables=_tables(file, _json(file, text) if file.suffix == ".json" else _yaml(file, text)))


def _csv(file: Path, text: str) -> TableRows:
    try:
        columns = tuple(next(csv.reader(io.StringIO(text, newline=""), strict=True), ()))
    except csv.Error as error:
        raise FixtureError(f"{script.shown(file)}, line 1: {error}", file=file, line=1) from error
    if not columns:
        raise FixtureError(f"{script.shown(file)} is empty: its first line must name the columns", file=file)
    # A blank line at the end is an editor's habit; COPY would take it for a row.
    return TableRows(file, file.stem, csv=text.rstrip("\r\n").encode() + b"\n", columns=columns)


def _json(file: Path, text: str) -> object:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(items)) != len(items):  # json itself would keep the last one and say nothing.
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise FixtureError(f"{script.shown(file)}: the name {twice!r} occurs twice in one object", file=file)
        return found

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        message = f"{script.shown(file)}, line {error.lineno}: no JSON: {error.msg} (column {error.colno})"
        raise FixtureError(message, file=file, line=error.lineno) from error


def _yaml(file: Path, text: str) -> object:
    yaml = client_package("yaml", "yaml", f"the fixture {file.name}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # The one in C is not in every build, but ten times faster.
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        line = mark.line + 1 if (mark := getattr(error, "problem_mark", None)) else 0
        place = f"{script.shown(file)}, line {line}" if line else script.shown(file)
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise FixtureError(f"{place}: no YAML: {reason}", file=file, line=line) from error


def _tables(file: Path, data: object) -> tuple[TableRows, ...]:
    form = "{table: [{column: value, ...}, ...]}"
    name = script.shown(file)
    if isinstance(data, list) and data and isinstance(data[0], dict) and "model" in data[0]:
        raise FixtureError(
            f"{name} is a dump of Django's: load it with Django (manage.py loaddata), or write {form}", file=file
        )
    if not isinstance(data, dict):
        raise FixtureError(f"{name} holds {_kind(data)}, but must hold {form}", file=file)
    tables = []
    for table, rows in data.items():
        if not isinstance(rows, list):
            message = f"{name}: {table} must be a list of rows, not {_kind(rows)}"
            raise FixtureError(message, file=file, table=str(table))
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not all(isinstance(column, str) for column in row):
                message = f"{name}: row {number} of {table} must be {{column: value, ...}}, not {_kind(row)}"
                raise FixtureError(message, file=file, table=str(table), row=number)
        tables.append(TableRows(file, str(table), rows))
    return tuple(tables)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing", bool: "a truth value"}
    return names.get(type(value), f"a {type(value).__name__}")
