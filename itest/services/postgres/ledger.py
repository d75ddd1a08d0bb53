# SPDX-License-Identifier: Apache-2.0
"""What itest may empty and drop in a database that is not its own.

The rule: nothing that itest did not make is ever emptied or dropped. A table that is empty when a run comes is claimed;
what migrations made is ours. Both are written down in the database itself, in the schema `itest_ledger`, before
anything is done, so that the run after one that was killed knows whose leftovers it sees. An advisory lock, held by a
session for the length of the run, keeps a second run out.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming, trace
from itest.errors import ExternalError, ResetError
from itest.migrations import migrate, migrator
from itest.services.postgres import leaks
from itest.services.postgres.kept import Kept
from itest.services.postgres.probe import NO_EXTENSION, USERS, Probe, Refused
from itest.services.postgres.probe_session import LOCK_TIMEOUT
from itest.services.postgres.standing import Ask, Standing
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

SCHEMA = "itest_ledger"
COMMENT = "itest: what its run with isolation='truncate' may empty and drop here; gone when the run ends"
LOCK = int.from_bytes(b"itest", "big")
"""The key of the advisory lock."""

TABLES = f"{USERS} AND {NO_EXTENSION}"
"""Which tables may be claimed: what an extension's hold is for the extension to change."""

TYPES = ("materialized view", "view", "table", "foreign table", "sequence", "aggregate", "function", "procedure", "type",
         "extension", "schema")  # fmt: skip
"""What is dropped, in this order and as often as that helps."""

_OBJECTS = f"""
SELECT o.class::bigint, o.oid::bigint, i.type, i.identity FROM (
  SELECT 'pg_class'::regclass::oid AS class, c.oid, relnamespace AS schema FROM pg_class c WHERE relkind = ANY('{{r,p,v,m,S,f}}')
  UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
  UNION ALL SELECT 'pg_type'::regclass, t.oid, typnamespace FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
            WHERE typtype = ANY('{{e,d,r,c}}') AND (typrelid = 0 OR c.relkind = 'c')
  UNION ALL SELECT 'pg_namespace'::regclass, oid, oid FROM pg_namespace
  UNION ALL SELECT 'pg_extension'::regclass, oid, extnamespace FROM pg_extension) AS o
JOIN pg_namespace n ON n.oid = o.schema CROSS JOIN pg_identify_object(o.class, o.oid, 0) AS i
WHERE {USERS} AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0 AND d.deptype IN ('e', 'i'))
"""


@dataclass(frozen=True, slots=True)
class Made:
    """An object of the database: what it is, by number and by name, both of which must still fit when it is dropped."""

    catalog: int
    oid: int
    type: str
    identity: str


class Ledger:
    """The ledger of a run in the database of an external server's URL. Raises ExternalError where none can be kept."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._run = naming.random_hex(4)
        self._made: list[Made] = []
        self._claimed: set[int] = set()
        self._fingerprint = ""
        self._said = False
        self._own = Standing(server, "itest ledger", self._lock)
        self._ask = self._own.ask
        self.origin = Probe(server, lambda: server.connection(server.database, "itest reset"), TABLES)
        """The state of the run's own tables between classes: empty, or as the migrations left them."""
        try:
            self._open()
        except BaseException:
            self._own.close()
            self.origin.close()
            raise

    def prepare(self, service: Postgres, directory: Path) -> None:
        """Have the schema of a declaration, and all of the run's own tables as they were when it came."""
        wanted = "" if service.migrations is None else migrator(service.migrations).fingerprint(directory)
        if self.origin.tables:
            self.undo()
        if self._made and wanted != self._fingerprint:
            self._drop_made()
        if wanted and wanted != self._fingerprint:
            self._migrate(service, directory, wanted)
        self._claim()

    def protected(self, oid: int) -> bool:
        """Whether a table held rows that are not ours when the run came."""
        return oid not in self._claimed and not any(made.oid == oid for made in self._made)

    def undo(self) -> None:
        """Have the run's own tables as they were when it came. Where that cannot be, because a test has dropped one or a
        constraint does not let their rows come back, all that migrations made is dropped, and the next class has it made again.
        Raises ResetError when it cannot be done.
        """
        try:
            again = self.origin.forget_lost()
            self.origin.undo()
        except Refused:
            again = True
        if again:
            self._drop_made()
            self.origin.forget_lost()
            self.origin.undo()

    def close(self) -> None:
        """Undo all that was done here, and the ledger itself. Where that cannot be, it says so, and the ledger stays."""
        try:
            if self.origin.tables:
                self.undo()
            self._drop_made()
            self._ask(f"DROP TABLE {SCHEMA}.claims; DROP SCHEMA {SCHEMA}")
        except ResetError as error:
            trace.say(f"the database {self._server.database} is not as it was: {error}. A later run on it sees to that")
        finally:
            self.origin.close()
            self._own.close()

    # Opening.

    def _lock(self, ask: Ask) -> None:
        ask(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        if ask("SELECT 1 WHERE pg_try_advisory_lock(%s)", LOCK):
            return
        holders = ask(
            "SELECT pid, to_char(backend_start, 'HH24:MI:SS TZ'), coalesce(host(client_addr), 'this machine') "
            "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid::bigint << 32 | objid::bigint = %s",
            LOCK,
        )
        who = "; ".join(f"session {pid}, since {start}, from {host}" for pid, start, host in holders)
        raise ExternalError(
            f"another run of itest is using the database {self._server.database!r} with isolation='truncate' ({who}), and "
            f"both would empty the same tables: wait for it, or give each run, and each worker, a database of its own"
        )

    def _open(self) -> None:
        """Make the ledger, or take over what a run that was killed has left in it."""
        driver = self._server.driver
        found = self._ask("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", SCHEMA)
        if found and found != [(COMMENT,)]:
            raise ExternalError(
                f"the database {self._server.database!r} has a schema {SCHEMA} that itest did not make; rename it, or "
                f"declare isolation='schema'"
            )
        if not found:
            try:
                self._ask(
                    f"BEGIN; CREATE SCHEMA {SCHEMA}; COMMENT ON SCHEMA {SCHEMA} IS '{COMMENT.replace(chr(39), chr(39) * 2)}'; "
                    f"CREATE TABLE {SCHEMA}.claims (run text, kind text, fact jsonb); COMMIT"
                )
            except driver.errors.InsufficientPrivilege as error:
                self._ask("ROLLBACK")
                raise ExternalError(
                    f"the user {self._server.user!r} may not create a schema in the database {self._server.database!r}, and "
                    f"isolation='truncate' keeps its ledger in one, so that a killed run's leftovers can be told from "
                    f"your data: GRANT CREATE ON DATABASE {self._server.database} TO {self._server.user}"
                ) from error
            return
        facts: dict[str, list[Any]] = {"table": [], "sequence": [], "made": [], "migrating": []}
        for kind, fact in self._ask(f"SELECT kind, fact FROM {SCHEMA}.claims"):
            facts[kind].append(fact)
        if facts["migrating"]:
            before = {tuple(item) for item in facts["migrating"][0]}
            left = [made.identity for made in self._objects() if (made.catalog, made.oid) not in before]
            raise ExternalError(
                f"a run of itest was killed while it migrated the database {self._server.database!r}, so it cannot be told "
                f"for sure what it made; it looks like {naming.shorten(', '.join(left), 300) or 'nothing'}. Drop that, "
                f"then DROP SCHEMA {SCHEMA} CASCADE"
            )
        self._made = [Made(*fact) for fact in facts["made"]]
        dead = dict(facts["table"])
        if dead:
            self._empty(dead, {name: (last, called) for name, last, called in facts["sequence"]})
        self._drop_made()
        self._ask(f"DELETE FROM {SCHEMA}.claims")

    def _empty(self, dead: dict[int, str], sequences: dict[str, tuple[int, bool]]) -> None:
        """Empty the tables that a dead run had claimed. Its are the rows in them: they were empty when it came."""
        self.origin.learn(lambda oid, name: dead.get(oid) != name)
        for table in self.origin.tables.values():
            if not table.protected:
                table.state, table.rows = (0, 0), b""
        self.origin.sequences = {name: at for name, at in sequences.items() if name in self.origin.sequences}
        dirty = self.origin.changed()
        self.origin.undo()
        self.origin.tables.clear()
        if dirty:
            trace.say(
                f"emptied what a killed run had left in {self._server.database}: {naming.shorten(', '.join(dirty))}"
            )

    # What is ours.

    def _migrate(self, service: Postgres, directory: Path, wanted: str) -> None:
        server = self._server
        if tables := self.origin_names():
            if not self._said:
                self._said = True
                trace.say(
                    f"the database {server.database} has tables already ({naming.shorten(', '.join(tables), 80)}), so its "
                    f"schema is taken as it is and no migration is applied"
                )
            return
        before = self._objects()
        self._write("migrating", [[[made.catalog, made.oid] for made in before]])
        kept = Kept(server, server.database, "itest migrations")
        view = PostgresView(server, server.database, "migrations", kept, directory)
        try:
            with trace.step("migrate", service.kind, server=server.instance.id):
                migrate(service.migrations, view, directory)
            self._fingerprint = wanted
        finally:
            view.close()
            kept.close()
            self._made = [made for made in self._objects() if made not in before]
            self._write("made", [[m.catalog, m.oid, m.type, m.identity] for m in self._made], instead_of="migrating")
            if self._fingerprint != wanted:
                self._drop_made()

    def origin_names(self) -> list[str]:
        """The user tables of the database."""
        rows = self._ask(
            "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class c "
            f"JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'f') AND {USERS} ORDER BY 1"
        )
        return [name.removeprefix("public.") for (name,) in rows]

    def _claim(self) -> None:
        """Claim the tables that are empty, learn what the others hold."""
        self.origin.learn(lambda oid, name: self.protected(oid))
        empty = [(oid, table) for oid, table in self.origin.tables.items() if table.protected and not table.state[0]]
        if empty:
            self._write("table", [[oid, table.name] for oid, table in empty])
            self._claimed.update(oid for oid, _ in empty)
            self.origin.learn(lambda oid, name: self.protected(oid))
            self._write("sequence", [[name, *at] for name, at in self.origin.sequences.items()], instead_of="sequence")

    def _drop_made(self) -> None:
        """Drop what migrations of ours made, and nothing that depends on it: that would be somebody else's. Raises
        ResetError where a lock is in the way."""
        driver = self._server.driver
        left, count = self._made, -1
        while left and len(left) != count:
            count = len(left)
            for kind in TYPES:
                left = self._still_there(left)
                if names := ", ".join(made.identity for made in left if made.type == kind):
                    try:
                        self._ask(f"DROP {kind} {names}")
                    except driver.errors.DependentObjectsStillExist:
                        pass
                    except driver.errors.LockNotAvailable as error:
                        raise ResetError(
                            f"the {kind} {naming.shorten(names)} could not be dropped: {str(error).strip()}. "
                            f"{leaks.in_transaction(self._ask)}"
                        ) from error
            left = self._still_there(left)
        for made in left:  # Not together with the others of its kind, then: by itself.
            with contextlib.suppress(driver.Error):
                self._ask(f"DROP {made.type} {made.identity}")
        left = self._still_there(left)
        if left:
            names = ", ".join(f"{made.type} {made.identity}" for made in left)
            trace.say(f"left in {self._server.database}, because something else depends on it: {naming.shorten(names)}")
        self._made, self._fingerprint = [], ""
        self._ask(f"DELETE FROM {SCHEMA}.claims WHERE kind = 'made'")

    def _still_there(self, made: list[Made]) -> list[Made]:
        if not made:
            return []
        now = set(self._objects())
        return [one for one in made if one in now]

    def _objects(self) -> list[Made]:
        return [Made(*row) for row in self._ask(_OBJECTS) if row[2] in TYPES]

    def _write(self, kind: str, facts: Iterable[Any], instead_of: str = "") -> None:
        self._ask(
            f"WITH gone AS (DELETE FROM {SCHEMA}.claims WHERE kind = %s) INSERT INTO {SCHEMA}.claims "
            f"SELECT %s, %s, fact FROM jsonb_array_elements(%s::jsonb) AS fact",
            instead_of,
            self._run,
            kind,
            json.dumps(list(facts)),
        )
