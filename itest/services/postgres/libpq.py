# SPDX-License-Identifier: Apache-2.0
"""Connections of psycopg2: how long they may take, and what the environment has a say in."""

from __future__ import annotations

from typing import Any

CONNECT_TIMEOUT = 10
"""Whole seconds in which a server must answer a new connection. By itself libpq waits for one that accepts and says nothing
without an end."""

OURS = {"sslmode": "prefer", "hostaddr": "", "target_session_attrs": "any"}
"""libpq's own defaults, told to it for a server of ours: PGSSLMODE, PGHOSTADDR and PGTARGETSESSIONATTRS of a developer's shell
are meant for another one (PostgreSQL's documentation, "Environment Variables")."""

OURS_ASYNC = {"ssl": "prefer", "target_session_attrs": "any"}
"""The same for asyncpg, which reads two of them."""


ADMINISTRATIVE = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c datestyle=ISO "
    "-c quote_all_identifiers=off"
)
"""Options of itest's own sessions on a server of ours, which else would follow what a test sets by ALTER SYSTEM."""


def connect(driver: Any, url: str, owned: bool, **kwargs: Any) -> Any:
    """A new connection; keyword arguments as for `psycopg2.connect`, which win over the URL, as that does over the
    environment. Raises the driver's OperationalError, also where nobody answers in time."""
    settings: dict[str, Any] = dict(OURS) if owned else {}
    if "connect_timeout" not in url:
        settings["connect_timeout"] = CONNECT_TIMEOUT
    return driver.connect(url, **{**settings, **kwargs})
