# SPDX-License-Identifier: Apache-2.0
"""Databases that a class has given back as it got them: the next class with the same template need not wait for a clone.

On a server that stays for later runs one of each template rests there meanwhile. Its name says which template, its comment
up to where the log had been read when it was clean; whoever takes it reads on from there, and sees what has happened since.
A spare gets another name each time: whoever has kept an address of the class before must not reach the next one's data.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from itest import naming
from itest.errors import ResetError
from itest.services.postgres.log import NOBODY
from itest.services.postgres.recycle import HARMLESS
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

MOST = 4
"""Spares that a server has at most, of all templates together: each takes 8 MB or more, mostly of memory."""

RESTING = "itest_r_"
"""How the names of databases that rest begin; a digest of the template's name follows."""

AT_REST = "itest: at rest, clean at {}"
_POSITION = r"itest: at rest, clean at ([0-9A-F]+/[0-9A-F]+)"


class Spare(NamedTuple):
    """A database that was like its template when the log had been read up to this position."""

    name: str
    position: str
    oid: int = 0
    """Its object id, where that is known."""


def unwritten(server: PostgresServer, name: str, since: str, oid: int = 0) -> str:
    """Up to where the log was read, if it says that nobody has written to a database since that position; else empty.

    Of unlogged tables it says nothing. Raises the driver's error when it does not reach back that far.
    """
    if not oid:
        [(oid,)] = server.admin("SELECT oid FROM pg_database WHERE datname = %s", name)
    told = server.log.changes(since, oid, NOBODY)
    written = any(database == oid and kind.partition("+")[0] not in HARMLESS for database, _, kind in told.records)
    return "" if written or told.prepared else told.position


class Spares:
    """The spares of one server. Their recyclers have nothing to look at but the log: none has unlogged tables."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._spares: list[tuple[str, Spare]] = []
        """Each after its template, those first that were given first."""

    def take(self, pristine: str) -> str:
        """A database that is like this one, and nobody else's from now on; empty: there is none."""
        server = self._server
        while spare := self._next(pristine):
            name = ""
            # Another process was faster, or the log is gone: then it is of no use.
            with contextlib.suppress(server.driver.Error, ResetError):
                if unwritten(server, spare.name, spare.position, spare.oid):
                    name = server.rename(spare.name)
            if name:
                return name
            with contextlib.suppress(server.driver.Error, ResetError):
                server.drop_foreign(spare.name)
        return ""

    def give(self, pristine: str, spare: Spare) -> None:
        """Have it for the next class, in place of the oldest where there are enough."""
        self._spares.append((pristine, spare))
        if len(self._spares) > MOST:
            _, oldest = self._spares.pop(0)
            with contextlib.suppress(self._server.driver.Error, ResetError):
                self._server.drop(oldest.name)

    def rest(self, passing: Collection[str]) -> None:
        """The server stays for later runs: leave them one of each kind, but of what passes with this one. Raises the driver's
        error, ResetError."""
        for pristine, (name, position, _) in dict(self._spares).items():
            if pristine in passing:
                continue
            new = f"{self._resting(pristine)}{self._server.token}"
            self._server.rename(name, new)
            self._server.admin(f"""COMMENT ON DATABASE "{new}" IS '{AT_REST.format(position)}'""")

    def resting(self, names: Iterable[str]) -> set[str]:
        """Of all databases of the server those that rest, one of each kind whose template is still there."""
        kinds = {self._resting(name) for name in names}
        found: dict[str, str] = {}
        for name in sorted(names):
            kind = name[: name.rfind("_") + 1]
            if name.startswith(RESTING) and kind in kinds:
                found[kind] = name
        return set(found.values())

    def close(self) -> None:
        """Nothing: the server drops what it has made."""
        self._spares.clear()

    def _next(self, pristine: str) -> Spare | None:
        for each in self._spares[::-1]:
            with contextlib.suppress(ValueError):  # Another thread was faster.
                if each[0] == pristine:
                    self._spares.remove(each)
                    return each[1]
        server = self._server
        if server.fresh or not server.reused:
            return None
        rows = server.admin(
            "SELECT oid, datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, %s)",
            self._resting(pristine),
        )
        for oid, name, comment in rows:
            if found := re.fullmatch(_POSITION, comment or ""):
                return Spare(name, found[1], oid)
        return None

    @staticmethod
    def _resting(pristine: str) -> str:
        return f"{RESTING}{naming.fingerprint(pristine)}_"
