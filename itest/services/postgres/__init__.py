# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL.

declaration.py  Postgres and PostgresMixin: what is wanted, as a container and as a process
programs.py     where a process's programs come from
server.py       a running server: its template databases and the databases cloned from them
lease.py        the database of a class, brought back to its baseline before each test
view.py         what a test gets
"""

from itest.services.postgres.declaration import Postgres, PostgresMixin
from itest.services.postgres.server import PostgresServer
from itest.services.postgres.view import PostgresView

__all__ = ["Postgres", "PostgresMixin", "PostgresServer", "PostgresView"]
