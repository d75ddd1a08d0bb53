# SPDX-License-Identifier: Apache-2.0
"""The reset that needs no special right: one statement finds the tables that differ from the baseline, a second undoes it.

For servers whose write-ahead log cannot be read: external ones, and those before PostgreSQL 16. A table that was empty
is dirty when it has a row; one with baseline rows when their number or the newest transaction that wrote to them
differs. Rows are kept in memory. Sequences are set back unasked, because that costs less than to ask.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import ResetError
from itest.services.postgres import leaks
from itest.services.postgres.probe_session import ProbeSession

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

ROUNDS = 3
"""How often the dirty tables are emptied before triggers that fill them again are given up on."""

NOTICED = "50ms"
"""How long the question whether there are transactions of others waits for a lock of one of them."""

LOCKED = "55P03"
MISSING = ("42P01", "3F000")
"""No such table, no such schema."""

_TABLES = """
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
  coalesce((SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''), ''),
  ARRAY(SELECT 'ENABLE ' || CASE enabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END || what || quote_ident(name)
        FROM (SELECT tgenabled, 'TRIGGER ', tgname FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
              UNION ALL SELECT ev_enabled, 'RULE ', rulename FROM pg_rewrite WHERE ev_class = c.oid) AS t(enabled, what, name)
        WHERE enabled <> 'D'),
  ARRAY(SELECT DISTINCT confrelid::bigint FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f'),
  pg_has_role(c.relowner, 'USAGE'), row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {where}
ORDER BY 2
"""

_SEQUENCES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), owner.oid IS NOT NULL,
  CASE WHEN owner.relkind = 'p' THEN
    ARRAY(SELECT p.oid::bigint FROM pg_partition_tree(owner.oid) JOIN pg_class p ON p.oid = relid WHERE p.relkind = 'r')
  ELSE ARRAY[owner.oid::bigint] END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class owner ON owner.oid = d.refobjid
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {where}
"""
"""The sequences, whether a table owns each, and which tables hold the rows of that: of a partitioned one, its partitions."""

BUSY = f"ARRAY(SELECT pid FROM pg_stat_get_activity(NULL) WHERE {leaks.IS_BUSY})"
"""An expression: the sessions of a database that are in a transaction or hold an advisory lock, `{database}` its oid."""

USERS = "n.nspname !~ '^(pg_|itest_[0-9a-f]{8}_[0-9]+$)' AND n.nspname NOT IN ('information_schema', 'itest_ledger')"
"""Where users have their tables: not in what a run with isolation='schema' has made, or a killed one has left."""

NO_EXTENSION = """NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"""
"""Which relations no extension has made: others may change by themselves, or be somebody else's."""

WITHIN_REACH = f"""({NO_EXTENSION} OR has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE'))"""
"""Those, and where everything is ours what extensions have made, if this user may read and write it."""

SCHEMA, OTHERS = -1, -2
"""Stand among the dirty tables for the schema, and for what others are at."""


class Refused(ResetError):
    """The baseline's rows cannot come back under the table's definition: a constraint that was made NOT VALID when they were
    there, or a rule, is in the way."""


@dataclass(slots=True)
class Table:
    """A table: what it had at baseline, and what is needed to bring that back."""

    name: str
    columns: str
    triggers: tuple[str, ...]
    """What enables each trigger of the user's, and each rule, that is enabled: `ENABLE TRIGGER name`."""
    references: frozenset[int]
    owned: bool
    protected: bool = False
    state: tuple[int, int] = (0, 0)
    """Rows and the newest transaction among them."""
    rows: bytes = b""

    @property
    def listed(self) -> str:
        """Its columns as a statement lists them; there may be none that can be written to."""
        return f" ({self.columns})" if self.columns else ""

    @property
    def always(self) -> bool:
        """Whether it has triggers or rules that fire in spite of session_replication_role."""
        return any(enable.startswith(("ENABLE ALWAYS", "ENABLE REPLICA")) for enable in self.triggers)

    @property
    def shown(self) -> str:
        return self.name.removeprefix("public.")


class Probe:
    """The reset of the tables that `where` selects (a condition on pg_namespace n and pg_class c).

    `connect` opens a connection in autocommit. `schema_state` is an expression that changes with the schema; empty, the
    schema is not watched. `shapes` is one that does not change where pg_class, the first catalog of that, only says that
    relations lie in other files than before, after TRUNCATE and the like; empty, that is a change like others.
    """

    def __init__(
        self,
        server: PostgresServer,
        connect: Callable[[], Any],
        where: str,
        schema_state: str = "",
        shapes: str = "",
    ) -> None:
        self._server = server
        self._session = ProbeSession(server.driver, connect)
        self._where = where
        self.schema_state = schema_state
        self.others = leaks.IN_TRANSACTION
        """An expression: whether somebody else is at something that may be a test's."""
        self._shapes = shapes or "''"
        self.sequences: dict[str, tuple[int, bool]] = {}
        """Their `last_value` and `is_called` at baseline."""
        self._schema = self._shape = ""
        self.tables: dict[int, Table] = {}

    def learn(self, protected: Callable[[int, str], bool] = lambda oid, name: False) -> None:
        """What there is now is the baseline. Tables for which `protected` holds are watched and never written to.

        Raises ResetError when there are rows that this user may not see.
        """
        found = self.ask(_TABLES.format(where=self._where))
        if hidden := ", ".join(name for _, name, *_, secured in found if secured):
            user = self._server.user
            raise ResetError(
                f"row-level security hides rows of {naming.shorten(hidden)} from the user {user!r}, so that it cannot be seen "
                f"what a test does there: ALTER ROLE {user} BYPASSRLS, and SET ROLE to another one in tests of policies; or, "
                f"for the owner of the tables, leave out FORCE ROW LEVEL SECURITY"
            )
        self.tables = {
            oid: Table(name, columns, tuple(triggers), frozenset(references), owned, protected(oid, name))
            for oid, name, columns, triggers, references, owned, _ in found
        }
        self._measure(self.tables)
        for table in self.tables.values():
            if table.state[0] and not table.protected:
                data = io.BytesIO()
                with self._session.cursor() as cursor:
                    cursor.copy_expert(f"COPY (SELECT {table.columns} FROM ONLY {table.name}) TO STDOUT", data)
                table.rows = data.getvalue()
        ours = {oid for oid, table in self.tables.items() if not table.protected}
        # One that no table owns may be somebody else's where anything is.
        unowned = not any(table.protected for table in self.tables.values())
        names = [
            name
            for name, owned, holders in self.ask(_SEQUENCES.format(where=self._where))
            if (ours.issuperset(holders) if owned else unowned)
        ]
        self.sequences = {}
        for name in names:
            [self.sequences[name]] = self.ask(f"SELECT last_value, is_called FROM {name}")
        self.look_at_schema()

    def adopt(self, other: Probe) -> None:
        """Have the baseline of another probe, whose schema was made once more: bring its rows here, by table names. What is
        the same in both is not written: constraints made NOT VALID may forbid it.

        Raises ResetError when there is no such table.
        """
        self.learn()
        by_name = {table.name: table for table in self.tables.values()}
        for table in other.tables.values():
            if table.name not in by_name:
                raise ResetError(f"the schema was made again, and its migrations made no {table.shown} this time")
            here = by_name[table.name]
            if here.rows != table.rows:
                here.rows = table.rows
                here.state = (-1, 0) if table.rows else (0, 0)  # Not what it has: it is to be refilled.
        self.sequences = other.sequences
        self.undo()

    def dirty(self, only: Callable[[Table], bool] = lambda table: True, *, others: bool = False) -> list[int]:
        """The tables that differ from the baseline, and SCHEMA if that does; with `others`, OTHERS if there are any."""
        parts = [f"SELECT {OTHERS} WHERE {self.others}"] if others else []
        for oid, table in self.tables.items():
            if only(table):
                count, newest = table.state
                parts.append(
                    f"SELECT {oid} FROM ONLY {table.name} HAVING count(*) <> {count} OR max(xmin::text::bigint) <> {newest}"
                    if count
                    else f"SELECT {oid} WHERE EXISTS (SELECT FROM ONLY {table.name})"
                )
        if self.schema_state:
            parts.append(f"SELECT {SCHEMA} WHERE {self.schema_state} <> '{self._schema}'")
        try:
            rows = self._session.ask_again(" UNION ALL ".join(parts), NOTICED if others else "") if parts else []
            return [oid for (oid,) in rows]
        except self._server.driver.Error as error:
            if not self.schema_state or error.pgcode not in MISSING:
                raise
            return [SCHEMA]

    def undo(self, end_others: Callable[[], object] | None = None) -> bool:
        """Bring everything back to the baseline. False when the schema differs: that is not undone here.

        `end_others` is called first where there are transactions of others than this session. Raises ResetError when it
        cannot be done: a session holds a lock, a trigger always adds rows, a right is missing; Refused when a constraint or a
        rule is in the way.
        """
        try:
            return self._session.twice(lambda: self._undo(end_others))
        except self._server.driver.IntegrityError as error:
            raise Refused(
                f"the tables could not be brought back to the baseline: {str(error).strip()}. Where a constraint was made NOT "
                f"VALID over rows that it forbids: declare isolation='database', or 'schema' with such rows made by migrations "
                f"or fixtures, and none in that table by setUpTestData"
            ) from error
        except self._server.driver.errors.FeatureNotSupported as error:
            user = self._server.user
            raise Refused(
                f"the tables could not be brought back to the baseline: {str(error).strip()}. A rule of a table is off during a "
                f"reset only where {user!r} owns the table or may set session_replication_role: GRANT SET ON PARAMETER "
                f"session_replication_role TO {user} (PostgreSQL 15 and later), or declare isolation='database'"
            ) from error
        except self._server.driver.Error as error:
            raise ResetError(self._reason(error)) from error

    def look_at_schema(self) -> None:
        """What the schema is now is its baseline."""
        if self.schema_state:
            self._schema, self._shape = self._schema_now()

    @property
    def structure(self) -> tuple[str, str]:
        """Of the schema as it was last looked at: equal where it differs only in where relations lie."""
        return _structure(self._schema, self._shape)

    def end_users(self, test: str) -> None:
        """End the transactions that a test has left on the tables, in the database of the server's URL."""
        if ours := [str(oid) for oid, table in self.tables.items() if not table.protected]:
            leaks.end_users(self._server, f"c.oid IN ({', '.join(ours)})", test)

    def changed(self) -> list[str]:
        """The names of what is dirty."""
        return ["the schema" if oid == SCHEMA else self.tables[oid].shown for oid in self.dirty()]

    def accept(self, oids: Iterable[int]) -> None:
        """Take what these tables hold now for their baseline: they are protected, and it was said once."""
        self._measure(oids)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self._session.ask(sql)

    def lost(self) -> list[str]:
        """The names of the tables and sequences that are no longer there."""
        names = [*(table.name for table in self.tables.values()), *self.sequences]
        if not names:
            return []
        listed = ", ".join(map(_quoted, names))
        lost = self._session.ask_again(
            f"SELECT name FROM unnest(ARRAY[{listed}]) AS name WHERE to_regclass(name) IS NULL"
        )
        return sorted(name for (name,) in lost)

    def forget_lost(self) -> bool:
        """Look no more for what is no longer there. Whether anything is."""
        lost = self.lost()
        self.tables = {oid: table for oid, table in self.tables.items() if table.name not in lost}
        self.sequences = {name: at for name, at in self.sequences.items() if name not in lost}
        return bool(lost)

    def close(self) -> None:
        self._session.close()

    # How.

    def _undo(self, end_others: Callable[[], object] | None) -> bool:
        for number in range(ROUNDS + 1):
            try:
                dirty = self.dirty(lambda table: not table.protected, others=end_others is not None)
            except self._server.driver.errors.LockNotAvailable:
                if end_others is None:
                    raise
                dirty = [OTHERS]  # They have even this question wait for a lock of theirs.
            if OTHERS in dirty and end_others is not None:
                end_others()
                end_others, dirty = None, self.dirty(lambda table: not table.protected)
            if SCHEMA in dirty:
                if not self._only_moved():
                    return False
                dirty.remove(SCHEMA)
            if number and not dirty:
                return True
            if number < ROUNDS and self._restore(dirty):
                return True
        names = ", ".join(self.tables[oid].shown for oid in dirty)
        raise ResetError(
            f"emptying {names} {ROUNDS} times did not empty it: a trigger on a table that {self._server.user!r} does "
            f"not own, or a rule, fills it again"
        )

    def _only_moved(self) -> bool:
        """Whether the schema differs only in where relations lie; then what it is now is its baseline."""
        try:
            schema, shape = self._schema_now()
        except self._server.driver.Error as error:
            if error.pgcode not in MISSING:
                raise
            return False
        if not shape or _structure(schema, shape) != self.structure:
            return False
        self._schema, self._shape = schema, shape
        return True

    def _schema_now(self) -> tuple[str, str]:
        [(schema, shape)] = self.ask(f"SELECT {self.schema_state}, {self._shapes}")
        return schema, shape

    def _measure(self, oids: Iterable[int]) -> None:
        parts = [
            f"SELECT {oid}, count(*), coalesce(max(xmin::text::bigint), 0) FROM ONLY {self.tables[oid].name}"
            for oid in oids
        ]
        if parts:
            for oid, count, newest in self._session.ask_again(" UNION ALL ".join(parts)):
                self.tables[oid].state = (count, newest)

    def _restore(self, dirty: Sequence[int]) -> bool:
        """Empty and refill these tables, and set all sequences back, in one transaction. False when a trigger may have
        written to tables meanwhile."""
        chosen = [self.tables[oid] for oid in (dirty if self._session.replica else self._referencing(dirty))]
        refill = [table for table in chosen if table.rows]
        setvals = [
            f"setval({_quoted(name)}, {at}, {str(called).lower()})" for name, (at, called) in self.sequences.items()
        ]
        if not chosen:
            if setvals:
                self.ask(f"SELECT {', '.join(setvals)}")
            return True
        triggered = [table for table in chosen if (table.always if self._session.replica else table.triggers)]
        ours = [table for table in triggered if table.owned]
        deletes = ", ".join(f"d{number} AS (DELETE FROM ONLY {table.name})" for number, table in enumerate(chosen))
        statements = [
            "BEGIN",
            *(f"ALTER TABLE {table.name} {_disabling(enable)}" for table in ours for enable in table.triggers),
        ]
        # One statement, so that foreign keys are checked when all of it is done.
        statements.append(f"WITH {deletes} SELECT {', '.join(setvals) or 1}")
        # By name, so that those which were disabled stay so.
        end = [*(f"ALTER TABLE {table.name} {enable}" for table in ours for enable in table.triggers), "COMMIT"]
        try:
            with self._session.cursor() as cursor:
                cursor.execute("; ".join(statements if refill else [*statements, *end]))
                if refill:
                    self._refill(cursor, refill)
                    cursor.execute("; ".join(end))
        except self._server.driver.Error:
            if self._session.open:
                self.ask("ROLLBACK")
            raise
        self._measure([oid for oid, table in self.tables.items() if table in refill])
        if ours:  # The triggers' own change of it.
            self.look_at_schema()
        return len(ours) == len(triggered)

    def _refill(self, cursor: Any, tables: Sequence[Table]) -> None:
        if self._session.replica or len(tables) == 1:
            for table in tables:
                cursor.copy_expert(f"COPY {table.name}{table.listed} FROM STDIN", io.BytesIO(table.rows))
            return
        parts = []
        for number, table in enumerate(tables):
            stage = f"pg_temp.itest_{number}"
            cursor.execute(
                f"CREATE TEMP TABLE itest_{number} ON COMMIT DROP AS SELECT {table.columns} FROM {table.name} WITH NO DATA"
            )
            cursor.copy_expert(f"COPY {stage} FROM STDIN", io.BytesIO(table.rows))
            parts.append(
                f"i{number} AS (INSERT INTO {table.name}{table.listed} OVERRIDING SYSTEM VALUE "
                f"SELECT {table.columns} FROM {stage})"
            )
        cursor.execute(f"WITH {', '.join(parts)} SELECT 1")

    def _referencing(self, dirty: Sequence[int]) -> list[int]:
        """These tables and all whose baseline rows refer to them, however indirectly: they must go and come together."""
        found = list(dirty)
        for parent in found:
            found += [
                oid
                for oid, table in self.tables.items()
                if parent in table.references and table.rows and oid not in found and not table.protected
            ]
        return found

    def _reason(self, error: Any) -> str:
        reason = f"the tables could not be emptied: {str(error).strip()}"
        if error.pgcode == LOCKED:
            reason += f". {leaks.in_transaction(self.ask)}"
        return reason


def _disabling(enable: str) -> str:
    return re.sub("^ENABLE (ALWAYS |REPLICA )?", "DISABLE ", enable)


def _quoted(name: str) -> str:
    return f"'{name.replace(chr(39), chr(39) * 2)}'"


def _structure(schema: str, shape: str) -> tuple[str, str]:
    return schema.partition(" ")[2], shape
