# SPDX-License-Identifier: Apache-2.0
"""The database of a class: cloned from its template, brought back to its baseline before each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from itest import naming
from itest.errors import ResetError
from itest.service import Lease
from itest.services.postgres import roles
from itest.services.postgres.kept import Kept
from itest.services.postgres.recycle import Recycler
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer


class PostgresLease(Lease[PostgresView]):
    """A database of a class's own, under one name for all its tests, so that addresses stay the same."""

    def __init__(self, server: PostgresServer, service: Postgres, owner: str) -> None:
        self._server = server
        self._directory = service.directory
        self._isolated = service.isolation_or_default == "database"
        self._own = self._isolated or server.instance.owned
        self._recycler: Recycler | None = None
        self._last_test = owner
        if self._own:
            self._pristine = server.template(service, service.directory)
            self._name = server.create(self._pristine)
        else:  # isolation="none" on an external server: its database as it is, nothing made and nothing dropped
            self._pristine = self._name = server.database
        self._roles_before = self._roles = roles.read(server) if self._isolated and server.can_recycle() else None
        self._position = self._log_position()
        self._kept = Kept(server, self._name, naming.application_name(owner))
        self.view = PostgresView(server, self._name, owner, self._kept, self._directory)

    def seal(self) -> None:
        self.view.close()
        self._kept.close()
        if not self._isolated:
            return
        server = self._server
        server.end_sessions(self._name)
        if self._log_position() != self._position:  # Somebody wrote: what there is now may differ from the template.
            self._pristine = server.create(self._name)
            self._roles = roles.read(server) if self._roles else None
        if server.can_recycle():
            self._recycler = Recycler(server, self._name, self._pristine)

    def reset(self, test: str) -> PostgresView:
        """Undo what the test before did, or clone the database anew under its old name where undoing will not do."""
        if self._isolated:
            try:
                if self._recycler is None or not self._recycler.recycle(self._kept, self._last_test):
                    self._clone_again()
            except self._server.driver.Error as error:
                raise ResetError(f"the database of {test} could not be reset: {str(error).strip()}") from error
        self._last_test = test
        return PostgresView(self._server, self._name, test, self._kept, self._directory)

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        if self._recycler is not None:
            self._recycler.close()
        if not self._own:
            return
        for name in {self._name, self._pristine} - self._server.templates:
            with contextlib.suppress(self._server.driver.Error, ResetError):
                self._server.drop(name)
        if self._roles_before is not None:
            with contextlib.suppress(self._server.driver.Error):
                roles.restore(self._server, self._roles_before)

    def _clone_again(self) -> None:
        server = self._server
        roles_changed = False
        if self._recycler is not None:
            roles_changed = self._recycler.roles_changed
            self._recycler.close()
            self._recycler = None
        self._kept.close()
        server.drop(self._name)
        if roles_changed and self._roles is not None:
            roles.restore(server, self._roles)
        server.create(self._pristine, self._name)
        if server.can_recycle():
            self._recycler = Recycler(server, self._name, self._pristine)

    def _log_position(self) -> object:
        """Where the write-ahead log ends. It moves when anybody writes, so the same position means the same data.

        No two positions are taken for the same on external servers, where `nextval` may leave no trace.
        """
        if not self._server.instance.owned:
            return object()
        [(position,)] = self._server.admin("SELECT pg_current_wal_insert_lsn()::text")
        return position
