# SPDX-License-Identifier: Apache-2.0
"""The recycler of a database of ours on a server whose write-ahead log cannot be read: by the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itest.errors import ResetError
from itest.services.postgres import leaks
from itest.services.postgres.probe import BUSY, USERS, WITHIN_REACH, Probe
from itest.services.postgres.structure import READABLE, database_state
from itest.services.postgres.undo import NeedsClone

if TYPE_CHECKING:
    from itest.services.postgres.kept import Kept
    from itest.services.postgres.server import PostgresServer


class ProbeRecycler:
    """The same verbs as Recycler's. Everything that is no row means a new clone; roles and other things of the whole
    server are left alone, because the server is not ours."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._server = server
        self._name = name
        self._probe = Probe(server, lambda: server.connection(name, "itest reset"), f"{USERS} AND {WITHIN_REACH}")
        [(oid, readable)] = self._probe.ask(
            f"SELECT oid, {READABLE} FROM pg_database WHERE datname = current_database()"
        )
        self._probe.schema_state = database_state(readable)
        self._probe.others = leaks.SOMEBODY_BUSY
        self._probe.learn()
        self._busy = f"SELECT {BUSY.format(database=oid)}"

    def close(self) -> None:
        self._probe.close()

    def recycle(self, kept: Kept, test: str) -> bool:
        """Undo what was done since the last call; whether anything was. Raises NeedsClone where that will not do."""
        kept.scrub(test=test)
        try:
            if not self._probe.undo(lambda: self._end_others(kept, test)):
                raise NeedsClone("the schema changed")
        except ResetError as error:
            raise NeedsClone(str(error)) from error
        return True

    def _end_others(self, kept: Kept, test: str) -> None:
        [[busy]] = self._probe.ask(self._busy)
        if busy:
            kept.told = leaks.end_sessions(self._server, busy, test, kept.used_by) or kept.told
        if self._probe.ask("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            leaks.roll_back_prepared(self._server, self._name, test)

    def changed(self) -> list[str]:
        """The names of the tables that differ from the baseline."""
        return self._probe.changed()
