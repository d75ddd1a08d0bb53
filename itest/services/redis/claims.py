# SPDX-License-Identifier: Apache-2.0
"""Numbered databases of an external server, each claimed for one run: all runs of itest on that server see it, from whatever
machine and with whatever database in their URLs.

A claim is a key in the database 0. It ends by itself an hour after the last reset, so that a killed run does not use a
number up. Beside it stands a mark without an end, by which people can be told whose leftovers a database holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import ResetError
from itest.services.redis.clients import connect

if TYPE_CHECKING:
    from itest.services.redis.server import RedisServer

CLAIM = "itest:lease:{}"
MARK = "itest:used:{}"

SECONDS = 3600
"""How long a claim lasts: a test may take as long, or be looked at in a debugger."""


class Claims:
    """Those of one run on one server. All methods raise redis-py's errors."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._token = naming.random_hex(8).encode()
        self._client: Any = connect(server.url_of(0), retries=1)  # Somebody may cut idle ones.

    def take(self, number: int) -> bool:
        """Whether a database is this run's from now on. One that holds keys is somebody's, whatever the claims say, and is
        never touched."""
        if not self._claim(number):
            return False
        try:
            with connect(self._server.url_of(number)) as connection:
                if connection.dbsize() == 0:
                    connection.flushdb()  # A user who may not is to know now, and not when something is in it.
                    self._client.set(MARK.format(number), self._token)
                    return True
        except BaseException:
            self._client.delete(CLAIM.format(number))
            raise
        self._client.delete(CLAIM.format(number))
        return False

    def hold(self, number: int) -> None:
        """See, before it is emptied, that a database is still this run's, or is so again where the claim was lost: the server
        was restarted, somebody emptied database 0, memory was short. Raises ResetError where it is another run's by now."""
        key = CLAIM.format(number)
        if self._client.get(key) == self._token:
            self._client.expire(key, SECONDS)
        elif not self._claim(number):
            raise ResetError(
                f"database {number} of {self._server.version} at {self._server.instance} is another run's by now: the key {key} "
                f"that told others of this run was lost (was the server restarted, or its database 0 emptied?)"
            )

    def give(self, number: int) -> None:
        """Let other runs have it."""
        self._client.delete(CLAIM.format(number), MARK.format(number))

    def left(self) -> list[int]:
        """Databases that runs have used which were killed: they have a mark, and no claim any more."""
        marked = [int(key.rpartition(b":")[2]) for key in self._client.scan_iter(MARK.format("*"))]
        return sorted(number for number in marked if self._client.get(CLAIM.format(number)) is None)

    def close(self) -> None:
        self._client.close()

    def _claim(self, number: int) -> bool:
        return bool(self._client.set(CLAIM.format(number), self._token, nx=True, ex=SECONDS))
