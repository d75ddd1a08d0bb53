# SPDX-License-Identifier: Apache-2.0
"""Fixtures into a database: by COPY, in one transaction, whatever the order of the tables.

    catalog.py   what the catalogs say about the tables
    encoding.py  values as texts that the server reads
    groups.py    the rows in the portions that one COPY takes, and their order
    report.py    errors in terms of files and rows

A row may come before the row that it refers to. Where no other trigger is involved (a user's, or the server's own for a
deferrable constraint of uniqueness) and the role may do it, foreign keys are switched off for the load and checked by a
query after it, which is the fastest. Elsewhere tables are loaded parents first, and those that refer to each other in a
circle by one statement, because foreign keys are checked at its end. Either way triggers fire, the keys hold, and
sequences go on after the highest value that was loaded.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itest import fixture_data, script
from itest.errors import FixtureError
from itest.fixture_data import TableRows
from itest.services.postgres.loading import catalog, report
from itest.services.postgres.loading.catalog import Catalog, Key
from itest.services.postgres.loading.groups import Group, groups_of, in_order

LOCK_SECONDS = 10
"""How long a load waits for a lock that another connection holds."""


def load(connection: Any, driver: Any, files: Sequence[Path]) -> None:
    """Load these files in one transaction on a connection. Raises FixtureError; then nothing of them was loaded."""
    parsed = [fixture_data.read(file) for file in files]
    before = connection.autocommit
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            loading = _Loading(cursor, driver)
            waiting: list[TableRows] = []
            for fixture in parsed:
                if fixture.sql is None:
                    waiting += fixture.tables
                    continue
                loading.load_tables(waiting)
                waiting = []
                loading.run_script(fixture.file, fixture.sql)
            loading.load_tables(waiting)
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")  # The commit may be only a savepoint's.
        try:
            connection.commit()
        except driver.Error as error:  # Deferred constraints are checked here.
            report.blame(error, loading.groups, LOCK_SECONDS)
    except BaseException:
        with contextlib.suppress(driver.Error):
            connection.rollback()
        raise
    finally:
        if not connection.closed:
            connection.autocommit = before


class _Loading:
    """One load within its transaction. `groups` are those loaded so far."""

    def __init__(self, cursor: Any, driver: Any) -> None:
        self._cursor = cursor
        self._driver = driver
        self.groups: list[Group] = []

    def run_script(self, file: Path, sql: str) -> None:
        self._cursor.execute("SHOW search_path")
        [path] = self._cursor.fetchone()
        try:
            script.run_inside(self._cursor, sql, self._driver)
        except script.ScriptError as error:
            raise FixtureError(error.sentence(file), file=file, line=error.line) from error.__cause__
        # Dumps empty it, and what comes after could not find its tables.
        self._cursor.execute("SELECT set_config('search_path', %s, false)", (path,))

    def load_tables(self, sources: Sequence[TableRows]) -> None:
        if not sources:
            return
        found = catalog.read(self._cursor, dict.fromkeys(source.table for source in sources))
        for source in sources:  # All of them before anything is sent.
            table = found.tables.get(source.table)
            report.check_names(source, table, [] if table else catalog.table_names(self._cursor))
        groups = [group for source in sources for group in groups_of(source, found.tables[source.table])]
        self.groups += groups
        tables = {group.table.oid: group.table for group in groups}
        if (
            found.superuser
            and not any(table.triggers for table in tables.values())
            and all(key.checkable for key in found.keys)
        ):
            self._cursor.execute("SET LOCAL session_replication_role = replica")
            for group in groups:
                self._copy(group)
            # Put back at once and not by the commit, which is only a savepoint's in a sandbox.
            self._cursor.execute(f"SET LOCAL session_replication_role = {found.role}")
            self._verify([key for key in found.keys if key.child in tables], groups)
        else:
            ordered, circle = in_order(groups, found.keys)
            for group in ordered:
                self._copy(group)
            if circle:
                self._insert_at_once(circle)
        self._advance(found, groups)

    def _copy(self, group: Group) -> None:
        try:
            if not group.columns:  # Rows of nothing but defaults, which COPY has no words for.
                for _ in range(group.count):
                    self._cursor.execute(f"INSERT INTO {group.table.name} DEFAULT VALUES")
                return
            form = "" if group.source.csv is None else "FORMAT csv, HEADER true, "
            statement = f"COPY {group.target} FROM STDIN WITH ({form}ENCODING 'UTF8')"
            self._cursor.copy_expert(statement, io.BytesIO(group.copied()))
        except self._driver.Error as error:
            report.blame(error, [group], LOCK_SECONDS)

    def _insert_at_once(self, groups: Sequence[Group]) -> None:
        """All rows of tables that refer to each other, by one statement."""
        parts: list[str] = []
        params: list[object] = []
        for number, group in enumerate(groups):
            if not group.columns:
                insert = f"INSERT INTO {group.table.name} DEFAULT VALUES"
                parts += [f"d{number}_{row} AS ({insert})" for row in range(group.count)]
                continue
            rows = list(group.rows())
            params += [[row[index] for row in rows] for index in range(len(group.columns))]
            arrays = ", ".join(["%s::text[]"] * len(group.columns))
            names = ", ".join(f"v{index}" for index in range(len(group.columns)))
            casts = ", ".join(f"v{i}::{group.table.columns[column].cast}" for i, column in enumerate(group.columns))
            parts.append(
                f"g{number} AS (INSERT INTO {group.target} OVERRIDING SYSTEM VALUE "
                f"SELECT {casts} FROM unnest({arrays}) AS v({names}))"
            )
        self._cursor.execute("SAVEPOINT itest_circle")
        try:
            self._cursor.execute(f"WITH {', '.join(parts)} SELECT", params)
        except self._driver.Error as error:
            # This error knows no row. COPY finds it, unless it is a foreign key, which a single COPY cannot satisfy.
            if error.pgcode != report.FOREIGN_KEY_VIOLATION:
                for group in groups:
                    self._find_bad_row(group)
            report.blame(error, groups, LOCK_SECONDS)
        self._cursor.execute("RELEASE SAVEPOINT itest_circle")

    def _find_bad_row(self, group: Group) -> None:
        self._cursor.execute("ROLLBACK TO SAVEPOINT itest_circle")
        try:
            self._copy(group)
        except FixtureError as error:
            if getattr(error.__cause__, "pgcode", "") != report.FOREIGN_KEY_VIOLATION:
                raise

    def _verify(self, keys: Sequence[Key], groups: Sequence[Group]) -> None:
        """Raise FixtureError for a row that refers to none. One query for all foreign keys of the loaded tables."""
        queries = []
        for number, key in enumerate(keys):
            given = (" OR " if key.full else " AND ").join(f"c.{column} IS NOT NULL" for column in key.quoted)
            pairs = zip(key.targets, key.quoted, strict=True)
            match = " AND ".join(f"p.{target} = c.{column}" for target, column in pairs)
            values = ", ".join(f"c.{column}::text" for column in key.quoted)
            queries.append(
                f"(SELECT {number}, ARRAY[{values}] FROM {key.child_name} AS c WHERE ({given}) "
                f"AND NOT EXISTS (SELECT FROM {key.parent_name} AS p WHERE {match}) LIMIT 1)"
            )
        if not queries:
            return
        self._cursor.execute(" UNION ALL ".join(queries))
        for number, values in self._cursor.fetchall():
            key = keys[number]
            parent = key.parent_name.removeprefix("ONLY ")
            report.orphan(key.columns, values, parent, key.name, [g for g in groups if g.table.oid == key.child])

    def _advance(self, found: Catalog, groups: Sequence[Group]) -> None:
        """Have sequences go on after the highest loaded value, never back."""
        given = {(group.table.oid, column): group.table.name for group in groups for column in group.columns}
        queries = []
        for counter in found.counters:
            if name := given.get((counter.table, counter.column)):
                furthest, beyond = ("max", ">=") if counter.ascending else ("min", "<=")
                literal = counter.sequence.replace("'", "''")
                queries.append(
                    f"SELECT setval('{literal}', n) "
                    f"FROM (SELECT {furthest}({counter.quoted})::bigint AS n FROM {name} "
                    f"WHERE {counter.quoted} BETWEEN {counter.lowest} AND {counter.highest}) AS t, {counter.sequence} AS s "
                    f"WHERE n {beyond} s.last_value"
                )
        if queries:
            self._cursor.execute("; ".join(queries))
