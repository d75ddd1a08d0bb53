# SPDX-License-Identifier: Apache-2.0
"""The statements that undo what was done to the tables and sequences of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from itest.services.postgres.snapshot import Content, Relation

LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a table up to which its baseline rows are kept in memory; beyond that a new clone is cheaper."""

SETTINGS = {"session_replication_role": "replica", "lock_timeout": "2s", "statement_timeout": "60s"}
"""What OURS means for a superuser's DELETE and setval, for a connection that was opened without."""

SETTINGS_OF_COPY = {"datestyle": "ISO", "intervalstyle": "postgres", "client_encoding": "UTF8"}


class NeedsClone(Exception):
    """Only a new clone will do; the message says why."""


class Cures:
    """Of the relations of one database, whose pristine `contents` it asks for when it needs them, and once."""

    def __init__(self, contents: Callable[[list[Relation]], list[Content]]) -> None:
        self._contents = contents
        self._cures: dict[Relation, Cure] = {}

    def script(self, changed: Iterable[Relation]) -> tuple[str, list[tuple[str, bytes]]]:
        """The statements that undo changes of these relations, and the COPY statements with their rows after them."""
        relations = sorted(changed, key=_NAME)
        if new := [relation for relation in relations if relation not in self._cures]:
            for relation in new:
                _check(relation)
            self._cures.update(zip(new, map(Cure.of, new, self._contents(new)), strict=True))
        cures = [self._cures[relation] for relation in relations]
        refill = [(cure.copy, cure.rows) for cure in cures if cure.rows]
        selected = [_START_OF_COPY if refill else _START, *(cure.setval for cure in cures if cure.setval)]
        start = "; ".join([", ".join(selected), *(cure.delete for cure in cures if cure.delete)])
        return start, refill


class Cure(NamedTuple):
    """What undoes changes of one relation: what to select, the statements, the rows for the latter one."""

    setval: str = ""
    delete: str = ""
    copy: str = ""
    rows: bytes = b""

    @classmethod
    def of(cls, relation: Relation, content: Content) -> Cure:
        if content.position:
            last, called = content.position
            name = relation.name.replace("'", "''")
            return cls(setval=f"setval('{name}', {last}, {called})")
        copy = f"COPY {relation.name}{content.columns} FROM STDIN"
        return cls(delete=f"DELETE FROM ONLY {relation.name}", copy=copy, rows=content.rows)


def _check(relation: Relation) -> None:
    """Raise NeedsClone for one that cannot be brought back."""
    if relation.kind == "m":
        raise NeedsClone(f"the materialized view {relation.name} was refreshed")
    if relation.guarded:
        raise NeedsClone(f"{relation.name} has triggers or rules that always fire")
    if relation.size > LARGEST_COPY:
        raise NeedsClone(f"{relation.name} has more than {LARGEST_COPY >> 20} MB of baseline rows")


def _start(settings: dict[str, str]) -> str:
    steps = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
    return (
        f"BEGIN READ WRITE; SELECT {', '.join(steps)}, set_config('itest.xid', pg_current_xact_id()::xid::text, false)"
    )


_START, _START_OF_COPY = _start(SETTINGS), _start(SETTINGS | SETTINGS_OF_COPY)
_NAME = attrgetter("name")
