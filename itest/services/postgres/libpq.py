# SPDX-License-Identifier: Apache-2.0
"""Connections of psycopg2: how long they may take, and what the environment has a say in."""

from __future__ import annotations

import re
from typing import Any

CONNECT_TIMEOUT = 10
"""Whole seconds in which a server must answer a new connection. By itself libpq waits for one that accepts and says nothing
without an end."""

OURS = {
    "sslmode": (0, "prefer"),
    "sslrootcert": (0, ""),
    "hostaddr": (0, ""),
    "requirepeer": (0, ""),
    "options": (0, ""),
    "client_encoding": (0, ""),
    "target_session_attrs": (0, "any"),
    "gssencmode": (120000, "disable"),
    "channel_binding": (130000, "prefer"),
    "require_auth": (160000, "!gss,!sspi"),
    "sslcertmode": (160000, "allow"),
    "sslnegotiation": (170000, "postgres"),
}
"""What is told to libpq for a server of ours, since which version it knows that: PGSSLMODE, PGHOSTADDR, PGREQUIREAUTH and others
of a developer's shell are meant for another one (PostgreSQL's documentation, "Environment Variables"). An empty value counts as
given. PGSERVICE cannot be overruled, for there is no name of a service that means none, nor PGTZ, PGDATESTYLE and PGGEQO, for
which there are no keywords: what would set them in `options` would overrule the database's own settings too."""

OURS_ASYNC = {"ssl": "prefer", "target_session_attrs": "any", "direct_tls": False}
"""The same for asyncpg, which reads three of them."""

ADMINISTRATIVE = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c datestyle=ISO "
    "-c quote_all_identifiers=off"
)
"""Options of itest's own sessions on a server of ours, which else would follow what a test sets by ALTER SYSTEM."""


def connect(driver: Any, url: str, owned: bool, **kwargs: Any) -> Any:
    """A new connection; keyword arguments as for `psycopg2.connect`, which win over the URL, as that does over the
    environment. Raises the driver's OperationalError, also where nobody answers in time."""
    settings: dict[str, Any] = {}
    if owned:
        version = driver.extensions.libpq_version()
        # What a URL of ours says itself is meant: by `require_auth` the server has to prove that it is the one (nearest.py).
        settings = {name: value for name, (since, value) in OURS.items() if version >= since and f"{name}=" not in url}
    if "connect_timeout" not in url:
        settings["connect_timeout"] = CONNECT_TIMEOUT
    return driver.connect(url, **{**settings, **kwargs})


def refusal(error: Exception, url: str) -> str:
    """What has libpq give up before it asks the server, and what to do; empty where it is not that."""
    if (found := re.search(_REFUSAL, str(error))) is None:
        return ""
    name = next(filter(None, found.groups()))
    place = f"{name}= in the URL" if f"{name}=" in url else f"the variable PG{name.upper().replace('_', '')}"
    return f"libpq does not even try to connect: {str(error).strip()}; correct {place}, or do without it"


_REFUSAL = r'invalid "?(\w+)"? value: "|may not be used with (\w+)=|definition of (service) |(service) file "'
