# SPDX-License-Identifier: Apache-2.0
"""The database of a class: cloned from its template, brought back to its baseline before each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from itest.errors import ResetError
from itest.service import Lease
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
        self._baseline: str | None = None
        self._own = self._isolated or server.instance.owned
        if self._own:
            self._template = server.template(service, service.directory)
            self._name = server.create(self._template)
        else:  # isolation="none" on an external server: its database as it is, nothing made and nothing dropped
            self._name = server.database
        self._position = self._log_position()
        self.view = PostgresView(server, self._name, owner, service.directory)

    def seal(self) -> None:
        self.view.close()
        if not self._isolated:
            return
        self._server.end_sessions(self._name)
        if self._log_position() != self._position:  # Somebody wrote: what there is now may differ from the template.
            self._baseline = self._server.create(self._name)
        self._position = self._log_position()

    def reset(self, test: str) -> PostgresView:
        """A new clone under the old name; the old one is kept if nobody on the server wrote since the last reset."""
        if self._isolated:
            server = self._server
            try:
                server.end_sessions(self._name)
                if self._log_position() != self._position:
                    server.drop(self._name)
                    server.create(self._baseline or self._template, self._name)
                    self._position = self._log_position()
            except server.driver.Error as error:
                raise ResetError(f"the database of {test} could not be reset: {str(error).strip()}") from error
        return PostgresView(self._server, self._name, test, self._directory)

    def close(self) -> None:
        self.view.close()
        if self._own:
            for name in filter(None, (self._name, self._baseline)):
                with contextlib.suppress(self._server.driver.Error, ResetError):
                    self._server.drop(name)

    def _log_position(self) -> object:
        """Where the write-ahead log ends. It moves when anybody writes, so the same position means the same data.

        Sequences are the exception: `nextval` writes only every 32nd time, but always after a checkpoint, and a clone
        by file copy (which our own servers make) ends with one. Elsewhere no two positions are taken for the same.
        """
        if not self._server.instance.owned:
            return object()
        [(position,)] = self._server.admin("SELECT pg_current_wal_insert_lsn()::text")
        return position
