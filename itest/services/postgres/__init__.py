# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL.

declaration.py  Postgres and PostgresMixin: what is wanted, as a container and as a process
programs.py     where a process's programs come from
server.py       a running server: its template databases and the databases cloned from them; administered.py: its connection
template.py     a template database, built once per content
leases.py       which lease stands for which isolation
lease.py        "database": a database of a class's own, recycled before each test
recycle.py      undoing only what was done, as the write-ahead log says (log.py); snapshot.py: the pristine state
shared.py       what belongs to the server as a whole: roles, settings
leaks.py        what a test left running; kept.py: the connections that stay open
rollback.py     "rollback": sandbox.py is its connection
truncate.py     "truncate", with its ledger; schema.py: "schema"; both by probe.py, which asks in a session of its own
strays.py       databases that a killed run left on an external server; standing.py: the session that says that a run lives
loading/        fixtures; factories.py: factory_boy
view.py         what a test gets
nearest.py      shorter ways to it than the address that users are told
spares.py       databases that classes have given back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itest.packages import lazily
from itest.services.postgres.declaration import Postgres, PostgresMixin

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer
    from itest.services.postgres.view import PostgresView

__all__ = ["Postgres", "PostgresMixin", "PostgresServer", "PostgresView"]

__getattr__ = lazily(__name__, {"PostgresServer": "server", "PostgresView": "view"})
