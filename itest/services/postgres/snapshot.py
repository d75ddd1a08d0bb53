# SPDX-License-Identifier: Apache-2.0
"""What a pristine database holds: which relation lies in which file, and, when asked for, its rows.

A clone has the same files (relfilenode) and the same rows (xmin) as its template, so one snapshot serves every clone.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

FIRST_USER_OID = 16384
"""Lower object ids are the system's (FirstNormalObjectId in PostgreSQL's transam.h)."""

POSITIONS = 100
"""Sequences whose positions are read at once, so that a test that uses another one finds it known."""

STATISTICS = frozenset({"pg_statistic", "pg_statistic_ext_data"})
"""Catalogs that ANALYZE and autovacuum write; they change no data."""

OURS = "-c session_replication_role=replica -c row_security=off -c datestyle=ISO -c intervalstyle=postgres " + (
    "-c default_transaction_read_only=off -c statement_timeout=60s -c lock_timeout=2s -c client_encoding=UTF8 "
    "-c extra_float_digits=3"
)
"""Options of the connections that read and write baseline rows: no trigger fires, no foreign key is checked, and a
row's text means the same to both, whatever the database or the role has been set to."""

_RELATIONS = (
    "SELECT pg_relation_filenode(c.oid), c.oid, c.relname, "
    "       quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind, c.relpersistence = 'u', "
    f"      CASE WHEN c.relkind = 'r' AND c.oid >= {FIRST_USER_OID} AND pg_relation_size(c.oid) > 0 "
    "            THEN pg_table_size(c.oid) ELSE 0 END, "
    # Triggers and rules that fire in spite of session_replication_role.
    "       c.oid IN (SELECT tgrelid FROM pg_trigger WHERE tgenabled IN ('A', 'R') "
    "                 UNION SELECT ev_class FROM pg_rewrite WHERE ev_enabled IN ('A', 'R') AND ev_type > '1'), "
    "       c.relkind = 'S' AND c.oid IN (SELECT seqrelid FROM pg_sequence WHERE seqcache > 1) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'S', 'm') AND c.relpersistence <> 't' AND NOT c.relisshared"
)

# Each change of a catalog's row makes a new version with a later xmin, so equal count and equal sum mean equal rows.
# The schemas of temporary tables stay when those are gone. Rewriting a mapped catalog changes its file and no row. ALTER SEQUENCE
# ... RESTART, by which a cached sequence is set back, makes a new version of an equal row.
_ROWS = "SELECT '{0}', count(*), coalesce(sum(xmin::text::bigint), 0), 0 FROM pg_catalog.{0}"
_CATALOG_ROWS = {
    "pg_sequence": _ROWS.replace("xmin::text::bigint", "hashtextextended(pg_sequence::text, 0)::numeric"),
    "pg_namespace": f"{_ROWS} WHERE nspname !~ '^pg_(toast_)?temp_'",
    "pg_class": _ROWS.replace(
        ", 0 FROM", ", sum(pg_relation_filenode(oid)::bigint) FILTER (WHERE relfilenode = 0 AND NOT relisshared) FROM"
    ),
}

MOVED = "ARRAY['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid']"
"""The columns of pg_class that say where a relation's file is, and how large."""

_SHAPES = f"SELECT count(*), sum(hashtextextended((to_jsonb(c) - {MOVED})::text, 0)::numeric) FROM pg_class c"


class Relation(NamedTuple):
    """A table, sequence or materialized view. `size` in bytes is that of the pristine one, 0 when it has no rows.
    `guarded` ones have triggers or rules that nothing switches off; of `cached` sequences each session takes values ahead."""

    name: str
    kind: str
    unlogged: bool
    size: int
    guarded: bool
    cached: bool


class Content(NamedTuple):
    """The pristine content of a relation: a table's rows as COPY text with their columns, a sequence's position."""

    columns: str = ""
    rows: bytes = b""
    position: tuple[int, bool] | None = None


class Files(NamedTuple):
    """Which relation and which catalog lies in which file of a database, and the relations by object id."""

    relations: dict[int, Relation]
    catalogs: dict[int, str]
    known: dict[int, Relation]

    @classmethod
    def read(cls, cursor: Any, known: dict[int, Relation] | None = None) -> Files:
        """Of the cursor's database; `known` relations are taken as they are and not as they have become."""
        files = cls({}, {}, {} if known is None else known)
        cursor.execute(_RELATIONS)
        for file, oid, name, *rest in cursor.fetchall():
            if oid < FIRST_USER_OID:
                files.catalogs[file] = name
            else:
                files.relations[file] = files.known.setdefault(oid, Relation(*rest))
        return files


class Snapshot:
    """A pristine database as it was when the snapshot was taken, from a connection to it or to a fresh clone of it."""

    def __init__(self, server: PostgresServer, pristine: str, cursor: Any) -> None:
        self._server = server
        self._pristine = pristine
        self._contents: dict[str, Content] = {}
        self._catalogs: dict[str, tuple[Any, ...]] = {}
        self._shapes: object = None
        self.files = Files.read(cursor)
        self.size = sum(relation.size for relation in self.files.relations.values())
        """Bytes of all rows."""
        self.unlogged = [relation for relation in self.files.relations.values() if relation.unlogged]

    def contents(self, relations: Iterable[Relation]) -> list[Content]:
        """The pristine content of each. Read from the pristine database once, then from memory."""
        relations = list(relations)
        missing = [relation for relation in relations if relation.name not in self._contents]
        for relation in missing:
            if relation.kind == "r" and not relation.size:
                self._contents[relation.name] = Content()
        if missing := [relation for relation in missing if relation.name not in self._contents]:
            with self._server.visit(self._pristine) as cursor:
                for relation in missing:
                    if relation.kind != "S":
                        self._contents[relation.name] = _rows(cursor, relation.name)
                # Others soon: a visit costs a connection, so it brings back many positions.
                sequences = [each for each in [*missing, *self.files.relations.values()] if each.kind == "S"]
                names = dict.fromkeys(each.name for each in sequences if each.name not in self._contents)
                self._contents.update(_positions(cursor, list(names)[: max(POSITIONS, len(missing))]))
        return [self._contents[relation.name] for relation in relations]

    def changed_catalogs(self, names: Collection[str], cursor: Any) -> set[str]:
        """Those of the catalogs whose rows differ from the pristine ones in the database of this cursor."""
        if missing := [name for name in names if name not in self._catalogs]:
            with self._server.visit(self._pristine) as pristine:
                self._catalogs.update(_catalog_rows(pristine, missing))
        found = _catalog_rows(cursor, names)
        return {name for name in names if found[name] != self._catalogs[name]}

    def same_shapes(self, cursor: Any) -> bool:
        """Whether pg_class differs from the pristine one, if at all, only in where relations lie."""
        if self._shapes is None:
            with self._server.visit(self._pristine) as pristine:
                pristine.execute(_SHAPES)
                self._shapes = pristine.fetchone()
        cursor.execute(_SHAPES)
        return bool(cursor.fetchone() == self._shapes)


def _catalog_rows(cursor: Any, names: Collection[str]) -> dict[str, tuple[Any, ...]]:
    cursor.execute(" UNION ALL ".join(_CATALOG_ROWS.get(name, _ROWS).format(name) for name in names))
    return {name: tuple(rest) for name, *rest in cursor.fetchall()}


def _positions(cursor: Any, names: Sequence[str]) -> dict[str, Content]:
    if not names:
        return {}
    cursor.execute(
        " UNION ALL ".join(f"SELECT {at}, last_value, is_called FROM {name}" for at, name in enumerate(names))
    )
    return {names[at]: Content(position=(last, called)) for at, last, called in cursor.fetchall()}


def _rows(cursor: Any, name: str) -> Content:
    cursor.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (name,),
    )
    [columns] = cursor.fetchone()
    data = io.BytesIO()
    # A query: `COPY table` cannot say ONLY, nor can it read a partition's parent.
    cursor.copy_expert(f"COPY (SELECT {columns or ''} FROM ONLY {name}) TO STDOUT", data)
    return Content(columns=f" ({columns})" if columns else "", rows=data.getvalue())
