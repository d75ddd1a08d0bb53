# SPDX-License-Identifier: Apache-2.0
"""What the catalogs say about tables that fixtures are loaded into: columns, foreign keys, sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from itest.services.postgres.view import RELATION


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `kind` is `json`, `array`, `json[]` or empty; `cast` the type to cast a text to, without its length."""

    kind: str
    cast: str


@dataclass(frozen=True, slots=True)
class Key:
    """A foreign key: the child's columns point at the parent's, both by quoted name in the same order.

    `child` is the loaded table; `child_name` as well, or the partition of it that alone has the key.
    """

    name: str
    child: int
    child_name: str
    parent: int
    parent_name: str
    columns: tuple[str, ...]
    quoted: tuple[str, ...]
    targets: tuple[str, ...]
    full: bool
    """MATCH FULL: either all columns are null or none is."""
    checkable: bool
    """Whether rows can be checked against it by a query: it is enforced, was valid before, compares by equality."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A sequence that fills a column when nobody else does. It ends at `lowest` and `highest`."""

    table: int
    column: str
    quoted: str
    sequence: str
    ascending: bool
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `name` quoted and with its schema, `triggers` whether more than foreign keys fires for new rows: users'
    triggers, and what checks a deferrable constraint of uniqueness; on the table or a partition of it."""

    oid: int
    plain: str
    name: str
    triggers: bool
    columns: dict[str, Column]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The tables by the names that were asked for, their foreign keys and sequences."""

    tables: dict[str, Table]
    superuser: bool
    role: str
    keys: list[Key] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)


_TABLES = f"""
WITH wanted AS (
  SELECT n, {RELATION} AS oid
  FROM unnest(%s::text[]) AS n)
SELECT n, c.oid, c.relname, quote_ident(s.nspname) || '.' || quote_ident(c.relname),
  parts.oids,
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY(parts.oids)
    AND (NOT t.tgisinternal OR t.tgconstrrelid = 0) AND t.tgenabled IN ('O', 'A')),
  (SELECT json_agg(json_build_array(a.attname,
     CASE WHEN b.typname IN ('json', 'jsonb') THEN 'json'
          WHEN b.typcategory = 'A' AND b.typname IN ('_json', '_jsonb') THEN 'json[]'
          WHEN b.typcategory = 'A' THEN 'array' ELSE '' END,
     format_type(a.atttypid, -1)) ORDER BY a.attnum)
   FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
   JOIN pg_type b ON b.oid = (
     WITH RECURSIVE base AS (
       SELECT t.oid, t.typtype, t.typbasetype
       UNION ALL SELECT d.oid, d.typtype, d.typbasetype FROM base JOIN pg_type d ON d.oid = base.typbasetype)
     SELECT oid FROM base WHERE typtype <> 'd')
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  current_setting('is_superuser') = 'on', current_setting('session_replication_role')
FROM wanted LEFT JOIN pg_class c ON c.oid = wanted.oid AND c.relkind IN ('r', 'p', 'v', 'f')
LEFT JOIN pg_namespace s ON s.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT CASE WHEN c.relkind = 'p' THEN ARRAY(SELECT relid::oid FROM pg_partition_tree(c.oid))
  ELSE ARRAY[c.oid] END AS oids) AS parts
"""
# Of the server's own triggers, those of foreign keys name another table in tgconstrrelid.

_KEYS = """
SELECT c.conname, c.conrelid, CASE WHEN h.relkind = 'r' THEN 'ONLY ' ELSE '' END || c.conrelid::regclass,
  c.confrelid, CASE WHEN p.relkind = 'r' THEN 'ONLY ' ELSE '' END || c.confrelid::regclass,
  k.columns, k.quoted, k.targets, c.confmatchtype = 'f',
  c.convalidated AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true'
    AND coalesce(to_jsonb(c) ->> 'conperiod', 'false') = 'false'
FROM pg_constraint c JOIN pg_class h ON h.oid = c.conrelid JOIN pg_class p ON p.oid = c.confrelid
CROSS JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY n) AS columns, array_agg(quote_ident(a.attname) ORDER BY n) AS quoted,
    array_agg(quote_ident(b.attname) ORDER BY n) AS targets
  FROM generate_subscripts(c.conkey, 1) AS n
  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[n]
  JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = c.confkey[n]) AS k
WHERE c.contype = 'f' AND c.conrelid = ANY(%(parts)s)
  AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.oid = c.conparentid AND o.conrelid = ANY(%(parts)s))
ORDER BY c.conname
"""
# ONLY, because constraints do not see the tables that inherit. to_jsonb, because conenforced and conperiod came with
# PostgreSQL 18. A key of or to a partitioned table is there once more for each partition; those have the first as their
# parent. A partition may have keys of its own besides.

_COUNTERS = """
WITH lines AS (
  SELECT t AS loaded, t AS relation FROM unnest(%(oids)s::oid[]) AS t
  UNION SELECT t, relid::oid FROM unnest(%(oids)s::oid[]) AS t, pg_partition_ancestors(t))
SELECT DISTINCT found.loaded, a.attname, quote_ident(a.attname), quote_ident(n.nspname) || '.' || quote_ident(s.relname),
       q.seqincrement > 0, q.seqmin, q.seqmax
FROM (SELECT l.loaded, d.refobjid AS relation, d.refobjsubid AS number, d.objid AS sequence FROM lines l
      JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = l.relation AND d.deptype IN ('a', 'i')
      UNION
      SELECT l.loaded, f.adrelid, f.adnum, d.refobjid FROM lines l JOIN pg_attrdef f ON f.adrelid = l.relation
      JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
     ) AS found
JOIN pg_class s ON s.oid = found.sequence AND s.relkind = 'S'
JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN pg_attribute a ON a.attrelid = found.relation AND a.attnum = found.number
WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
"""
# Owned sequences (serial, identity) and those that a default merely uses (SQLAlchemy's Sequence); of a partition also those
# of the tables that it is part of, which may alone have them.


def read(cursor: Any, names: Iterable[str]) -> Catalog:
    """What there is of the named tables. A name is taken as it is first, then in lower case; a dot parts a schema."""
    cursor.execute(_TABLES, (list(names),))
    tables: dict[str, Table] = {}
    part_of: dict[int, int] = {}
    superuser, role = False, "origin"
    for name, oid, plain, full_name, parts, triggers, columns, is_superuser, current_role in cursor.fetchall():
        superuser, role = is_superuser, current_role
        if oid is not None:
            types = {column: Column(column_kind, cast) for column, column_kind, cast in columns or []}
            tables[name] = Table(oid, plain, full_name, triggers, types)
            part_of.update(dict.fromkeys(parts, oid))
    oids = sorted({table.oid for table in tables.values()})
    cursor.execute(_KEYS, {"parts": list(part_of)})
    keys = [
        Key(
            name,
            part_of[child],
            child_name,
            parent,
            parent_name,
            tuple(columns),
            tuple(quoted),
            tuple(targets),
            full,
            checkable,
        )
        for name, child, child_name, parent, parent_name, columns, quoted, targets, full, checkable in cursor.fetchall()
    ]
    cursor.execute(_COUNTERS, {"oids": oids})
    return Catalog(tables, superuser, role, keys, [Counter(*row) for row in cursor.fetchall()])


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def table_names(cursor: Any) -> list[str]:
    """The tables that a name could have meant, for a message."""
    cursor.execute(
        "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN '' ELSE n.nspname || '.' END || c.relname FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' "
        "AND n.nspname <> 'information_schema' ORDER BY 1"
    )
    return [name for (name,) in cursor.fetchall()]
