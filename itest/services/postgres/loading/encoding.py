# SPDX-License-Identifier: Apache-2.0
"""Python values as PostgreSQL reads them from a text: the values of fixtures on their way into a column."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from itest.fixture_data import Number

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_IN_ARRAY = str.maketrans({"\\": "\\\\", '"': '\\"'})


class Unfit(Exception):
    """A value that its column cannot hold."""

    def __init__(self, reason: str, column: str) -> None:
        super().__init__(reason)
        self.column = column


def copy_text(values: Sequence[str | None]) -> str:
    """A row as a line of COPY's text format."""
    return "\t".join(["\\N" if value is None else value.translate(_ESCAPES) for value in values]) + "\n"


def text_of(value: Any, kind: str, column: str = "") -> str | None:
    """A value as the text that a column's type reads; None is NULL. `kind` as in `catalog.Column`. Raises Unfit.

    In a json or jsonb column any other value is stored as that JSON value, a text too.
    """
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, default=_plain)
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):  # YAML knows dates; a datetime is a date too.
        return value.isoformat()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, list | tuple):
        if kind not in ("array", "json[]"):
            raise Unfit("a list fits only into an array or a json column", column)
        return _array(value, "json" if kind == "json[]" else "", column)
    if isinstance(value, dict):
        raise Unfit("an object fits only into a json column", column)
    return str(value)


def _array(values: Sequence[Any], kind: str, column: str) -> str:
    return "{" + ",".join(_element(value, kind, column) for value in values) + "}"


def _element(value: Any, kind: str, column: str) -> str:
    if isinstance(value, list | tuple) and not kind:
        return _array(value, kind, column)
    text = text_of(value, kind, column)
    return "NULL" if text is None else f'"{text.translate(_IN_ARRAY)}"'


def _plain(value: Any) -> str:
    """What JSON has no form for: dates from YAML in theirs, the rest by its text."""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
