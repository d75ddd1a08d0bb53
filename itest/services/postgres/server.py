# SPDX-License-Identifier: Apache-2.0
"""A running PostgreSQL server: its template databases and the databases cloned from them.

Every name made here starts with this server object's own random prefix, so runs that share an external server never
meet, and nothing else is ever dropped.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from itest import naming
from itest.engines import Instance
from itest.errors import ItestError, ResetError
from itest.lease import Lease
from itest.service import Service
from itest.services.postgres import leaks, shared, warm
from itest.services.postgres.administered import Administered
from itest.services.postgres.customs import BASE
from itest.services.postgres.log import Log
from itest.services.postgres.snapshot import OURS, Snapshot
from itest.services.postgres.spares import Spares
from itest.spec import Keep

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.view import PostgresView

VISIT_LOCK = int.from_bytes(b"itvs", "big") & 0x7FFFFFFF
"""The first key of the advisory locks that visits of a database hold alone, and its clones together."""

Part = TypeVar("Part")


class PostgresServer(Administered):
    """A running PostgreSQL: lends databases of its own to classes."""

    def __init__(self, service: Postgres, instance: Instance, address: str) -> None:
        super().__init__(service, instance, address)
        self.token = naming.random_hex(4)
        self._prefix = naming.identifier(BASE, self.token)
        self.numbers = itertools.count(1)
        """For the names of databases."""
        self._templates: dict[str, str] = {}
        self._passing: set[str] = set()
        """The templates that no other run may take for its own, on a server that several use."""
        self._databases: set[str] = set()
        self._snapshots: dict[str, Snapshot] = {}
        self._shared: shared.Shared | None = None
        self._leases: set[int] = set()
        self._first: object = None
        self._impure: shared.Shared | None = None
        self.options = service.options()
        self.has_init = bool(service.init)
        self.log = Log(self)
        self._parts: dict[object, Any] = {}
        try:
            self.base = self._base(service)
        except BaseException:
            super().close()
            raise

    def lease(self, service: Service[PostgresView], owner: str) -> Lease[PostgresView]:
        from itest.services.postgres.leases import lease

        with self._lock:
            if self._first is None and self.instance.owned and self.fresh:  # What was found running is not kept.
                self.can_recycle()  # It may make an extension, which is not a test's doing.
                self._first = warm.footprint(self)
        return lease(self, service, owner)  # type: ignore[arg-type]  # only a Postgres leads to this server

    def part(self, kind: Callable[[PostgresServer], Part]) -> Part:
        """The one `kind(server)` of this server: made at the first call, closed with the server."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            return self._parts[kind]  # type: ignore[no-any-return]  # what kind(self) gave

    @property
    def reused(self) -> bool:
        """Whether it stays on for later runs."""
        return self.share is not None and bool(self.share.lifetime)

    def part_made(self, kind: Callable[[PostgresServer], Any]) -> bool:
        """Whether somebody has asked for that part."""
        return kind in self._parts

    def keep(self, *, cold: bool) -> Keep | None:
        with self._lock:
            if not self.instance.owned or self._leases or self._first is None:
                return None  # Nobody has used it, or somebody still does.
            kept = warm.keep(self, self._first, self._impure, cold=cold)
        if kept is not None and not kept.failed:
            self.close()
        return kept

    def footprint(self) -> str:
        self.can_recycle()  # It may make an extension, which is not a test's doing.
        self._first = warm.footprint(self)
        return naming.fingerprint(self._first)

    def clear(self) -> None:
        rows = self.admin(
            "SELECT datname, datname ~ %s, shobj_description(oid, 'pg_database') FROM pg_database", warm.OURS
        )
        # Of what a function or a command reads, their keys say nothing: it may be another by now.
        passing = {name for name, _, comment in rows if comment in (warm.PASSING, warm.IMPURE)}
        resting = self.part(Spares).resting({name for name, *_ in rows} - passing)
        for name, ours, _ in rows:
            if ours and (name in passing or not name.startswith(warm.TEMPLATE)) and name not in resting:
                self.drop_foreign(name)

    def close(self) -> None:
        if self.reused:
            with contextlib.suppress(self.driver.Error, ResetError):
                self.part(Spares).rest(self._passing)
        if not self.instance.owned or self.shared:
            for name in [*self._databases, *([] if self.shared else self._templates.values())]:
                with contextlib.suppress(self.driver.Error, ResetError):
                    self.drop(name)
        # Else other workers of the run clone them.
        if self._passing and self.share is not None and self.share.runs_alone:
            for name in self._passing:
                with contextlib.suppress(self.driver.Error, ResetError):
                    self.drop_foreign(name)
        for part in self._parts.values():
            with contextlib.suppress(self.driver.Error, ItestError):
                part.close()
        self.log.close()
        super().close()

    def _base(self, service: Postgres) -> str:
        """The database that a class without migrations gets a copy of."""
        base = service.database or BASE
        if not self.instance.owned:
            return "template1"
        if not self.exists(base):
            if not service.init and not service.database:
                return "template1"
            from itest.services.postgres import init_run

            init_run.run(self, service, base)  # On a local process, at its first start.
        return base

    # Recycling: what it needs of the server as a whole.

    def can_recycle(self) -> bool:
        """Whether changes can be read from the write-ahead log."""
        with self._lock:
            return self.log.readable

    def remember_shared(self, lease: object) -> None:
        """Called for each lease: the shared state before the first of them is restored after the last."""
        with self._lock:
            if not self._leases and self.can_recycle() and not self.shared:
                self._shared = shared.read(self, self.database)
            self._leases.add(id(lease))

    def restore_shared(self, lease: object) -> None:
        with self._lock:
            self._leases.discard(id(lease))
            if not self._leases and self._shared is not None:
                if shared.read(self, self.database) != self._shared:
                    shared.restore(self, self._shared)
                self._shared = None

    def snapshot(self, pristine: str, cursor: Any = None) -> Snapshot:
        """The snapshot of a pristine database, taken at the first call, through a cursor on a fresh clone if there is one."""
        with self._lock:
            if pristine not in self._snapshots:
                if cursor is None:
                    with self.visit(pristine) as cursor:
                        self._snapshots[pristine] = Snapshot(self, pristine, cursor)
                else:
                    self._snapshots[pristine] = Snapshot(self, pristine, cursor)
            return self._snapshots[pristine]

    @contextlib.contextmanager
    def visit(self, name: str) -> Iterator[Any]:
        """A cursor on a database that others want to clone: nobody does while it is visited."""
        with self._lock, self._among_processes(name, "pg_advisory_lock", "pg_advisory_unlock"):
            connection = self.connection(name, "itest", options=OURS if self.instance.owned else None)
            try:
                with connection.cursor() as cursor:
                    yield cursor
            finally:
                connection.close()

    @contextlib.contextmanager
    def _among_processes(self, name: str, lock: str, unlock: str) -> Iterator[None]:
        """Hold an advisory lock for a database, where other processes visit and clone it as well."""
        if not self.shared:
            yield
            return
        self.admin(f"SELECT {lock}(%s, hashtext(%s))", VISIT_LOCK, name)
        try:
            yield
        finally:
            self.admin(f"SELECT {unlock}(%s, hashtext(%s))", VISIT_LOCK, name)

    # Databases.

    @property
    def templates(self) -> set[str]:
        """The databases that leases clone and must leave alone."""
        return {self.base, *self._templates.values()}

    def template(self, service: Postgres, base: Path) -> str:
        """The template database for a declaration's extensions, migrations and fixtures, built at the first call."""
        if service.migrations is None and not service.fixtures and not service.extensions:
            return self.base
        from itest.services.postgres.template import build, build_once, fingerprint, foundation, lasts

        key = fingerprint(service, base, self.number // 10000)
        passing = self.share if self.reused and not lasts(service) else None
        # Another run at the same moment may be of an older code, of which the key says nothing.
        if passing is not None:
            key = naming.fingerprint(key, passing.run)
        with self._lock:
            if key not in self._templates:
                if self.instance.owned:
                    before = shared.read(self, self.database) if self.can_recycle() else None
                    name, pure = build_once(self, service, base, key)
                    if not pure and self._impure is None:
                        self._impure = before
                    self._templates[key] = name
                    if passing is not None:
                        self._passing.add(name)
                else:
                    self._templates[key] = build(self, service, base, foundation(self, service, base))
                if self._shared is not None:  # Roles that migrations made belong to the template and stay.
                    self._shared = shared.read(self, self.database)
            return self._templates[key]

    def prune(self, to_come: Sequence[Service[Any]]) -> None:
        with self._lock:
            old = list(self._templates)[: -warm.MOST]
            # What belongs to a template outside of it would be there already, if it had to be built again after all.
            if not old or self._leases or self.shared or self.reused or not self.instance.owned or self._impure:
                return
            from itest.services.postgres.template import keys  # It is there already: it has built those.

            needed = set().union(*(keys(each, self.number // 10000) for each in to_come if each.kind == self.kind))
            with contextlib.suppress(self.driver.Error, ResetError):
                for key in old:
                    if key not in needed:
                        self.drop_foreign(name := self._templates.pop(key))
                        self._snapshots.pop(name, None)

    def create(self, template: str, name: str = "") -> str:
        """Clone a database; under a new name unless one is given. Returns the name."""
        name = name or f"{self._prefix}_{next(self.numbers)}"
        # On our own servers the data lies in memory and the two checkpoints of FILE_COPY cost nothing.
        strategy = " STRATEGY file_copy" if self.instance.owned and self.number >= 150000 else ""
        with self._lock, self._among_processes(template, "pg_advisory_lock_shared", "pg_advisory_unlock_shared"):
            if template != "template1":
                self.end_sessions(template)  # With one that is just leaving, the server would wait 100 ms or more.
            self.admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{strategy}')
            self._databases.add(name)
            if self.instance.owned:
                self.admin("; ".join(shared.properties(self, template)).replace("{name}", f'"{name}"'))
            else:
                from itest.services.postgres.strays import Strays

                self.part(Strays).mark(name)
                self._copy_settings(template, name)
        return name

    def _copy_settings(self, template: str, name: str) -> None:
        """Set for a clone what its template has by ALTER DATABASE, as far as the user of an external server may."""
        for statement in shared.settings(self, template) if self.made(template) else ():
            with contextlib.suppress(self.driver.errors.InsufficientPrivilege):
                self.admin(statement.replace("{name}", f'"{name}"'))

    def drop(self, name: str) -> None:
        """End every session of a database of ours and drop it. Raises ResetError when sessions do not go away."""
        assert self.made(name), f"{name} was not made here"
        with self._lock:
            # Not WITH (FORCE): with a session that is still leaving it waits 100 ms before it looks again.
            self._drop(name, f'DROP DATABASE IF EXISTS "{name}"')
            self._databases.discard(name)
            self._snapshots.pop(name, None)

    def _drop(self, name: str, statement: str) -> None:
        self.end_sessions(name)
        try:
            self.admin(statement)
        except self.driver.errors.WrongObjectType:  # It is a template, as a test has made it.
            quoted = name.replace('"', '""')
            self.admin(f'ALTER DATABASE "{quoted}" IS_TEMPLATE false')
            self._drop(name, statement)
        except self.driver.errors.ObjectInUse:
            leaks.roll_back_prepared(self, name, "somebody")
            leaks.drop_subscriptions(self, name)
            slots = self.admin("SELECT slot_name FROM pg_replication_slots WHERE database = %s", name)
            leaks.drop_slots(self, [slot for (slot,) in slots], "somebody")
            self.end_sessions(name)
            self.admin(statement)

    def rename(self, name: str, new: str = "") -> str:
        """Give a database of ours another name, under which it outlives this object; without one, a new name of this
        object's. Returns the name."""
        own = not new
        new = new or f"{self._prefix}_{next(self.numbers)}"
        with self._lock:
            self.end_sessions(name)
            self.admin(f'ALTER DATABASE "{name}" RENAME TO "{new}"')
            self._databases.discard(name)
            if own:
                self._databases.add(new)
        return new

    def made(self, name: str) -> bool:
        """Whether a database has a name of ours."""
        return name.startswith(f"{self._prefix}_")

    @staticmethod
    def is_itests(name: str) -> bool:
        """Whether a database was made by itest, in whichever process of the run."""
        return re.match(warm.OURS, name) is not None

    def drop_foreign(self, name: str) -> None:
        """Drop any database on a server of ours."""
        assert self.instance.owned, f"{name} was not made here"
        quoted = name.replace('"', '""')
        self._drop(name, f'DROP DATABASE "{quoted}" WITH (FORCE)')
