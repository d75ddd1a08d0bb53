# SPDX-License-Identifier: Apache-2.0
"""What a fixture's file holds: a script, or rows of tables. Parsed once, as long as the file does not change."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
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
        """The rows one by one, those of a .csv file with every value as text, and None where there is nothing, not even
        quotes."""
        if self.csv is None:
            return self.rows
        rows = []
        for number, line in enumerate(_csv_lines(self.csv.decode("utf-8"))):
            if len(line) != len(self.columns):
                place = f"{script.shown(self.file)}: row {number} of {self.table}"
                message = f"{place}: {len(line)} values for {len(self.columns)} columns"
                raise FixtureError(message, file=self.file, table=self.table, row=number)
            rows.append(dict(zip(self.columns, line, strict=True)))
        return rows[1:]


class Number(float):
    """A number with the text it was written as, because a numeric column has digits that a float has not."""

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


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
    if text.count('"') % 2:
        raise FixtureError(f"{script.shown(file)}: a quote is not closed", file=file)
    if not columns:
        raise FixtureError(f"{script.shown(file)} is empty: its first line must name the columns", file=file)
    # A blank line at the end is an editor's habit; COPY would take it for a row.
    return TableRows(file, file.stem, csv=text.rstrip("\r\n").encode() + b"\n", columns=columns)


_CSV_VALUE = re.compile(r'((?:"(?:[^"]|"")*+"|[^",\r\n]++)*+)(,|\r\n|\n|\r)')
_CSV_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')


def _csv_lines(text: str) -> Iterator[list[str | None]]:
    """The lines as COPY reads them: nothing is NULL, `""` the empty text. The module csv knows no difference (before
    Python 3.12)."""
    line: list[str | None] = []
    for found in _CSV_VALUE.finditer(text):
        line.append(_CSV_QUOTED.sub(lambda quoted: quoted[1].replace('""', '"'), found[1]) if found[1] else None)
        if found[2] != ",":
            yield line
            line = []


def _json(file: Path, text: str) -> object:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(items)) != len(items):  # json itself would keep the last one and say nothing.
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise FixtureError(f"{script.shown(file)}: the name {twice!r} occurs twice in one object", file=file)
        return found

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_float=Number)
        if re.search(r"(?i)\\ud[89a-f]", text):  # A character of two halves, of which one may be missing.
            json.dumps(data, ensure_ascii=False).encode()
        return data
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
        message = f"{script.shown(file)}: {half} is half of a character (a surrogate without the other one)"
        raise FixtureError(message, file=file) from error
    except json.JSONDecodeError as error:
        message = f"{script.shown(file)}, line {error.lineno}: no JSON: {error.msg} (column {error.colno})"
        raise FixtureError(message, file=file, line=error.lineno) from error


def _yaml(file: Path, text: str) -> object:
    yaml = client_package("yaml", "yaml", f"the fixture {file.name}")

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # known only when it is there
        """The one in C is not in every build, but ten times faster."""

        def number(self, node: Any) -> float:
            value: float = self.construct_yaml_float(node)  # Of forms as 1_000.5, 1:30.5 and .inf too.
            return Number(node.value) if re.fullmatch(r"[-+.\deE]*\d[-+.\deE]*", node.value) else value

        def close(self) -> None:
            self.dispose()

    Loader.add_constructor("tag:yaml.org,2002:float", Loader.number)
    try:
        with contextlib.closing(Loader(text)) as loader:
            root = loader.get_single_node()
            for line, name in _names_twice(root):
                message = f"{script.shown(file)}, line {line}: the name {name!r} occurs twice in one object"
                raise FixtureError(message, file=file, line=line)
            return None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        line = mark.line + 1 if (mark := getattr(error, "problem_mark", None)) else 0
        place = f"{script.shown(file)}, line {line}" if line else script.shown(file)
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise FixtureError(f"{place}: no YAML: {reason}", file=file, line=line) from error


def _names_twice(root: Any) -> Iterator[tuple[int, str]]:
    """Lines with a name that its object has already; YAML would keep the last one and say nothing. On the way all names
    become texts: `no` and `on` are columns, not truth values, and JSON has no other names."""
    waiting, seen = [root], {id(None)}
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # By an alias.
            continue
        seen.add(id(node))
        if node.id == "sequence":
            waiting += node.value
        elif node.id == "mapping":
            names = set()
            for key, value in node.value:
                waiting.append(value)
                if key.id == "scalar" and key.tag != "tag:yaml.org,2002:merge":
                    key.tag = "tag:yaml.org,2002:str"
                    if key.value in names:
                        yield key.start_mark.line + 1, key.value
                    names.add(key.value)


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
