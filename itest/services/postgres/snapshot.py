# SPDX-License-Identifier: Apache-2.0
"""What a pristine database holds: which relation lies in which file, and, when asked for, its rows.

A clone has the same files (relfilenode) as its template, so one snapshot serves every clone of it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

FIRST_USER_OID = 16384
"""Lower object ids are the system's (FirstNormalObjectId in PostgreSQL's transam.h)."""

STATISTICS = frozenset({"pg_statistic", "pg_statistic_ext_data"})
"""Catalogs that ANALYZE and autovacuum write; they change no data."""

LARGEST_COPY = 8 * 1024 * 1024
"""Bytes of a table up to which its baseline rows are kept in memory; beyond that a new clone is cheaper."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or sequence. `rows` is whether the pristine one may hold any; `size` is in bytes."""

    name: str
    kind: str
    rows: bool
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """The pristine content of a relation: a table's rows as COPY text with their columns, a sequence's position."""

    columns: str = ""
    rows: bytes = b""
    position: tuple[int, bool] | None = None


class Snapshot:
    """A pristine database as it was when the snapshot was taken, from a connection to it or to a fresh clone of it."""

    def __init__(self, server: PostgresServer, pristine: str, cursor: Any) -> None:
        self._server = server
        self._pristine = pristine
        self._contents: dict[str, Content] = {}
        self.relations: dict[int, Relation] = {}
        self.catalogs: dict[int, str] = {}
        self.unlogged: list[Relation] = []
        cursor.execute(
            "SELECT pg_relation_filenode(c.oid), c.oid, c.relname, "
            "       quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind, c.relpersistence, "
            f"      CASE WHEN c.relkind = 'r' AND c.oid >= {FIRST_USER_OID} THEN pg_relation_size(c.oid) ELSE 0 END "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'S', 'm') AND c.relpersistence <> 't'"
        )
        for filenode, oid, name, full_name, kind, persistence, size in cursor.fetchall():
            if oid < FIRST_USER_OID:
                self.catalogs[filenode] = name
                continue
            relation = Relation(full_name, kind, rows=size > 0, size=size)
            self.relations[filenode] = relation
            if persistence == "u" and kind == "r":
                self.unlogged.append(relation)

    def contents(self, relations: Iterable[Relation]) -> dict[str, Content]:
        """The pristine content of these relations, by name. Read from the pristine database once, then from memory."""
        relations = list(relations)
        if missing := [relation for relation in relations if relation.name not in self._contents]:
            self._read(missing)
        return {relation.name: self._contents[relation.name] for relation in relations}

    def _read(self, relations: Sequence[Relation]) -> None:
        for relation in relations:
            if relation.kind == "r" and not relation.rows:
                self._contents[relation.name] = Content()
        missing = [relation for relation in relations if relation.name not in self._contents]
        if not missing:
            return
        with self._server.visit(self._pristine) as cursor:
            for relation in missing:
                read = _position if relation.kind == "S" else _rows
                self._contents[relation.name] = read(cursor, relation.name)


def _position(cursor: Any, name: str) -> Content:
    cursor.execute(f"SELECT last_value, is_called FROM {name}")
    return Content(position=cursor.fetchone())


def _rows(cursor: Any, name: str) -> Content:
    cursor.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (name,),
    )
    [columns] = cursor.fetchone()
    data = io.BytesIO()
    # A query, because `COPY table` also gives the rows of inheriting tables' parents only by ONLY.
    cursor.copy_expert(f"COPY (SELECT {columns or ''} FROM ONLY {name}) TO STDOUT", data)
    return Content(columns=columns or "", rows=data.getvalue())
