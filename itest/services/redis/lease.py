# SPDX-License-Identifier: Apache-2.0
"""The database of a class, flushed and refilled before each test; its baseline is kept in memory."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from itest.errors import ResetError
from itest.evidence import Aside, Evidence
from itest.lease import Lease
from itest.services.redis import by_socket
from itest.services.redis.clients import Kept, package
from itest.services.redis.evidence import evidence
from itest.services.redis.round_trip import Command, RoundTrip, refresh
from itest.services.redis.state import LOOK, ServerState
from itest.services.redis.view import RedisView

if TYPE_CHECKING:
    from itest.services.redis import Redis
    from itest.services.redis.server import RedisServer


class RedisLease(Lease["RedisView"]):
    """A numbered database for a class; its baseline is kept in memory and put back after each flush."""

    def __init__(self, server: RedisServer, service: Redis, owner: str) -> None:
        self._server = server
        self._isolation = service.isolation_or_default
        numbered = self._isolation == "database"
        self.database = server.take_database() if numbered else server.database
        self._prefix = server.take_prefix() if self._isolation == "prefix" else ""
        self._baseline: list[tuple[bytes, int, bytes]] = []
        self._limited = False
        self._last_test = owner
        self._admin = by_socket.client(server, self.database)
        if server.owned and numbered:  # Code under test may know another number than the one it was given.
            self._admin.flushdb(asynchronous=True)
        whole = not server.shared
        # Whose a client in a database of several workers is cannot be told.
        self._rest = ServerState(self._admin, whole=whole) if server.owned and (numbered or whole) else None
        self._round_trip: RoundTrip | None = None
        self._kept = Kept(server, server.nearest_url_of(self.database), service.decode_responses)
        self.view = RedisView(server, self.database, self._kept, self._prefix)

    def seal(self) -> None:
        self.view.close()
        self._kept.close()
        try:
            keys = [] if self._isolation == "none" else self._keys()
            answers = RoundTrip(self._admin, [(command, key) for key in keys for command in ("DUMP", "PEXPIRETIME")])()
        except package().exceptions.NoPermissionError as error:
            if self._server.owned:
                raise
            raise self._server.not_permitted("reading the baseline", self._isolation, error) from error
        # A key that expired in between has no dump; expiry is a moment (ms since 1970), so it goes on running.
        self._baseline = [
            (key, max(0, at), dump) for key, dump, at in zip(keys, answers[::2], answers[1::2], strict=True) if dump
        ]
        try:
            self._limited = int(self._own().info("memory").get("maxmemory", 0)) > 0
        except package().ResponseError:
            self._limited = True  # Who may not ask must take it so.
        self._round_trip = None
        if self._rest is not None:
            self._rest.remember()

    def reset(self, test: str) -> RedisView:
        """One round trip: flush, put the baseline back, and look at what belongs to the server as a whole. Where the test
        before has left the server so that it refuses this, it is undone and all is done once more."""
        if self._isolation != "none":
            if self._server.silent:
                raise ResetError(self._server.silent)
            try:
                self._reset()
            except package().TimeoutError:
                if self._server.shared:
                    raise
                raise ResetError(self._server.fell_silent()) from None
            except self._refusals as error:
                raise ResetError(self._server.locked_out(error, self._last_test)) from None
            except package().exceptions.NoPermissionError as error:
                if self._server.owned:
                    raise
                raise self._server.not_permitted(f"the reset for {test}", self._isolation, error) from error
            self._kept.renew()
        self._last_test = test
        return RedisView(self._server, self.database, self._kept, self._prefix)

    @property
    def _refusals(self) -> tuple[type[Exception], ...]:
        """The errors that say of a server of ours alone that it is of no use any more."""
        if not self._server.owned or self._server.shared:
            return ()
        return package().exceptions.NoPermissionError, package().exceptions.AuthenticationError

    def _reset(self) -> None:
        if self._isolation == "database":
            self._server.hold(self.database)
        try:
            answers = self._answers()
        except package().ConnectionError:
            if self._server.owned:
                raise
            connection: Any = self._admin.connection
            connection.disconnect()  # A proxy, or a network that forgets idle connections.
            answers = self._answers()
        except (package().ResponseError, package().TimeoutError) as error:
            if self._rest is None:
                raise
            self._rest.rescue(error, self._last_test)
            answers = self._answers()
        if self._rest is not None and self._rest.restore(answers, self.database, self._kept, self._last_test):
            self._answers()  # Under that test's settings the baseline may have been evicted as it was put back.

    def _answers(self) -> list[Any]:
        if self._round_trip is None or self._prefix:
            self._round_trip = RoundTrip(self._admin, [*self._resetting()])
        return self._round_trip()

    def _resetting(self) -> Iterator[Command]:
        # First what is only looked at: Redis frees what it has flushed on a thread, which takes its time from the rest. With a
        # limit of memory it frees first; else the baseline may be refused, or evicted at once, and the test's own keys too.
        if self._rest is not None:
            yield from LOOK
        if self._isolation == "database":
            yield "FLUSHDB", "SYNC" if self._limited else "ASYNC"
        else:
            for key in self._keys():  # One by one: those of a cluster may be on different nodes.
                yield "DEL" if self._limited else "UNLINK", key
        for key, expires_at, dump in self._baseline:
            yield "RESTORE", key, expires_at, dump, "REPLACE", *(("ABSTTL",) if expires_at else ())

    def _keys(self) -> list[bytes]:
        return list(self._own().scan_iter(f"{self._prefix}*", count=1000))

    def _own(self) -> Any:
        """Our client, after a time in which the server may have ended its connection."""
        refresh(self._admin.connection)
        return self._admin

    def settle(self, test: str, since: float, alone: bool) -> None:
        if self._rest is not None and self._isolation != "none":
            # In number 0 there may be clients of others, of itest itself too.
            self._rest.settle(self.database, self._kept, test, alone and self._isolation == "database")

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        if self._isolation != "database":
            return None
        number = self._server.keep_database()
        self._own().swapdb(self.database, number)
        url = urlsplit(self._server.address)
        words = ["redis-cli", "-h", str(url.hostname), "-p", str(url.port), "-n", str(number)]
        words += ["--tls", "--cacert", self._server.authority] if self._server.authority else []
        file = write("redis-password", unquote(url.password or ""))
        return Aside((f'REDISCLI_AUTH="$(cat {shlex.quote(str(file))})" {shlex.join(words)}',))

    def evidence(self, since: float) -> Evidence:
        if self._isolation == "none":
            return Evidence()  # It may be anybody's, and as large as can be.
        baseline = {key: dump for key, _, dump in self._baseline}
        return evidence(self._server.connect_to(self.database), f"{self._prefix}*", baseline, since)

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        if not self._server.lives():
            self._admin.close()
            return  # Nobody answers at the address of a container that is gone, not even with a refusal.
        if self._prefix:
            self._server.give_prefix(self._prefix)
        try:
            if self._rest is not None:
                # The next class may get this number, and the last test's clients still wait there.
                self._rest.leave(self.database, self._kept, self._last_test)
        except self._refusals as error:
            self._server.locked_out(error, self._last_test)
        except package().TimeoutError:
            if not self._server.shared:
                self._server.fell_silent()
        except package().RedisError:
            pass  # The next lease finds out.
        self._admin.close()
        if self._isolation == "database" and not self._server.silent:
            self._server.give_database(self.database, at_once=self._limited)
