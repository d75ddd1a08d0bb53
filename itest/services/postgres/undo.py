# SPDX-License-Identifier: Apache-2.0
"""The statements that undo what was done to the tables and sequences of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from itest.services.postgres.snapshot import Content, Relation
from itest.tuples import NamedTuple

LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a table up to which its baseline rows are kept in memory; beyond that a new clone is cheaper."""

LONG_ROW = 600
"""Bytes of text that take as long to be put back as a short row with an index or two, 6 us."""

SETTINGS = {"session_replication_role": "replica", "lock_timeout": "2s", "statement_timeout": "60s"}
"""What OURS means for a superuser's DELETE and setval, for a connection that was opened without."""

SETTINGS_OF_COPY = {"datestyle": "ISO", "intervalstyle": "postgres", "client_encoding": "UTF8"}
"""What says how the text of a row is read."""


class NeedsClone(Exception):
    """Only a new clone will do; the message says why."""


class UndoScripts:
    """Of the relations of one database, whose pristine `contents` it asks for when it needs them, and once."""

    def __init__(self, contents: Callable[[list[Relation]], list[Content]]) -> None:
        self._contents = contents
        self._undos: dict[Relation, Undo] = {}

    def script(self, changed: Iterable[Relation], most: float) -> tuple[str, list[tuple[str, bytes]]]:
        """The statements that undo changes of these relations, and the COPY statements with their rows after them. Raises
        NeedsClone where those are more rows than `most`."""
        relations = sorted(changed, key=_NAME)
        if new := [relation for relation in relations if relation not in self._undos]:
            for relation in new:
                _check(relation)
            self._undos.update(zip(new, map(Undo.of, new, self._contents(new)), strict=True))
        undos = [self._undos[relation] for relation in relations]
        if (rows := sum(undo.weight for undo in undos)) > most:
            raise NeedsClone(f"{rows} baseline rows would have to be put back")
        refill = [(undo.copy, undo.rows) for undo in undos if undo.rows]
        selected = [_START_OF_COPY if refill else _START, *(undo.setval for undo in undos if undo.setval)]
        start = "; ".join([", ".join(selected), *(undo.delete for undo in undos if undo.delete)])
        return start, refill


class Undo(NamedTuple):
    """What undoes changes of one relation: what to select, the statements, the rows for the latter one."""

    setval: str = ""
    delete: str = ""
    copy: str = ""
    rows: bytes = b""
    weight: int = 0
    """How many rows, of which a long one counts as several."""

    @classmethod
    def of(cls, relation: Relation, content: Content) -> Undo:
        if content.position:
            last, called = content.position
            name = relation.name.replace("'", "''")
            setval = f"setval('{name}', {last}, {called})"
            if relation.cached:  # Sessions of others have taken values ahead; with its file they forget them.
                return cls(delete=f"ALTER SEQUENCE {relation.name} RESTART; SELECT {setval}")
            return cls(setval=setval)
        copy = f"COPY {relation.name}{content.columns} FROM STDIN"
        weight = content.rows.count(b"\n") + len(content.rows) // LONG_ROW
        return cls(delete=f"DELETE FROM ONLY {relation.name}", copy=copy, rows=content.rows, weight=weight)


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
