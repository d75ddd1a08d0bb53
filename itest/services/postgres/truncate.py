# SPDX-License-Identifier: Apache-2.0
"""isolation="truncate": the tests work in the database that the URL of an external server names.

Nothing is created but what migrations make, and that only where there is no table yet. Rows that were there are never
touched; a test that touches them fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itest import naming, trace
from itest.errors import IsolationError, ResetError
from itest.evidence import Evidence
from itest.lease import Lease
from itest.services.postgres import evidence
from itest.services.postgres.kept import Kept
from itest.services.postgres.ledger import TABLES, Ledger
from itest.services.postgres.probe import Probe
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer


class TruncateLease(Lease[PostgresView]):
    """The database that is there already, its own tables brought back to the baseline before each test."""

    def __init__(self, server: PostgresServer, service: Postgres, owner: str) -> None:
        self._server = server
        self._directory = service.directory
        self._ledger = server.part(Ledger)
        self._ledger.prepare(service, self._directory)
        self._probe = Probe(server, lambda: server.connection(server.database, "itest reset"), TABLES)
        self._kept = Kept(server, server.database, naming.application_name(owner))
        self._owner = self._last_test = owner
        self._dropped = ""
        self.view = PostgresView(server, server.database, owner, self._kept, self._directory)
        if service.fixtures:
            self.view.load(*service.fixtures)

    def seal(self) -> None:
        self.view.report_uncommitted()
        self.view.close()
        self._kept.close()
        self._check(self._ledger.origin, f"{self._owner}, when it wrote its baseline,")
        self._probe.learn(lambda oid, name: self._ledger.protected(oid))

    def reset(self, test: str) -> PostgresView:
        try:
            if self._dropped:
                raise ResetError(self._dropped)
            self._kept.scrub(test=self._last_test)
            self._probe.undo(lambda: self._probe.end_users(self._last_test))
        except (ResetError, self._server.driver.Error) as error:
            raise ResetError(
                f"the database {self._server.database} could not be reset for {test}: {str(error).strip()}"
            ) from error
        self._last_test = test
        return PostgresView(self._server, self._server.database, test, self._kept, self._directory)

    def finish(self, test: str) -> None:
        """Raises IsolationError when the test dropped a table, or wrote to one that is not to be emptied."""
        if lost := self._probe.lost():
            names = naming.shorten(", ".join(name.removeprefix("public.") for name in lost))
            self._dropped = (
                f"{test} dropped {names}, which with isolation='truncate' is not undone, so that the tests after it in its "
                f"class cannot run. Declare isolation='schema' or 'database' for tests that change the schema"
            )
            raise IsolationError(self._dropped)
        self._check(self._probe, test)

    def evidence(self, since: float) -> Evidence:
        return evidence.evidence(self._server, self._server.database, since, {})

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        try:
            self._probe.end_users(self._last_test)
            self._probe.close()
            self._ledger.undo()
        except (ResetError, self._server.driver.Error) as error:
            trace.say(
                f"what {self._owner} left in {self._server.database} could not be undone: {naming.mask(str(error))}"
            )

    def _check(self, probe: Probe, who: str) -> None:
        written = probe.dirty(lambda table: table.protected)
        if written:
            names = ", ".join(probe.tables[oid].shown for oid in written)
            probe.accept(written)  # Said once: it must not fail the tests after it too.
            raise IsolationError(
                f"{who} wrote to {names}, which had rows before itest came: such tables are never emptied, and what was "
                f"written stays. Use a database whose tables are empty, or isolation='schema' or 'database'"
            )
