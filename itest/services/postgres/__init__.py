# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL.

declaration.py  Postgres and PostgresMixin: what is wanted, as a container and as a process; customs.py: of the server itself
programs.py     where a process's programs come from
init.py         scripts that a new server runs; init_run.py runs them on a local process
server.py       a running server: its template databases and the databases cloned from them; administered.py: its connection
nearest.py      shorter ways to it than the address that users are told; libpq.py: connections as such
template.py     a template database, built once per content, with its extensions.py; warm.py: those that later runs have
leases.py       which lease stands for which isolation
lease.py        "database": a database of a class's own, recycled before each test
recycle.py      undoing only what was done, as the write-ahead log says (log.py): snapshot.py is the pristine state, undo.py has
                the statements, outside.py sees without asking; probe_recycle.py: where that log cannot be read
spares.py       databases that classes have given back
shared.py       what belongs to the server as a whole: roles, settings
leaks.py        what a test left running; kept.py: the connections that stay open
rollback.py     "rollback": sandbox.py is its connection
truncate.py     "truncate", with its ledger.py; schema.py: "schema"; both by probe.py, which asks in a session of its own
                (probe_session.py) whether the structure.py has changed
strays.py       databases that a killed run left on an external server; standing.py: the session that says that a run lives
loading/        fixtures; factories.py: factory_boy
view.py         what a test gets; async_engine.py: of SQLAlchemy for asyncio
evidence.py     the state of a failed test's database; aside.py: how to look at one that is kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itest.packages import lazily
from itest.services.postgres.declaration import Postgres, PostgresMixin

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer
    from itest.services.postgres.view import PostgresView

__all__ = ["Postgres", "PostgresMixin", "PostgresServer", "PostgresView"]

if not TYPE_CHECKING:  # So that a wrong name is still an error there.
    __getattr__ = lazily(__name__, {"PostgresServer": "server", "PostgresView": "view"})
