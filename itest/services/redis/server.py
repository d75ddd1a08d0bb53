# SPDX-License-Identifier: Apache-2.0
"""A running Redis: the numbered databases that it lends."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from itest import alive, naming, trace
from itest.engines import Instance
from itest.errors import ExternalError, ItestError, ResetError
from itest.service import Server, Service
from itest.services.redis import recipes
from itest.services.redis.claims import Claims
from itest.services.redis.clients import RIGHTS, SOCKET_TIMEOUT, connect, nameless, package
from itest.services.redis.lease import RedisLease
from itest.services.redis.state import state_of
from itest.services.redis.view import RedisView
from itest.silence import sentence

if TYPE_CHECKING:
    from redis import Redis as Client

    from itest.services.redis import Redis

KEPT_KEY = "itest:kept:{}"
"""Says on a server that others use too that a database is to stay. FLUSHALL removes it, together with what it is about."""


class RedisServer(Server["RedisView"]):
    """A running Redis; hands out its numbered databases."""

    def __init__(self, service: Redis, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.address = address
        self.owned = instance.owned
        self.authority = recipes.authority(service) if self.owned else ""
        self.database = int(urlsplit(address).path.strip("/") or 0)
        self._nearest = address
        self._run = ""
        """What each connection by the nearest way must find there: the server's run_id, which is another one after each start."""
        self._databases = recipes.databases(service)
        self._admin = self._first_connection()
        self._lock = threading.Lock()
        self._leased: set[int] = set()
        self._for_good: set[int] = set()
        self._prefixes: set[str] = set()
        self._outside: Claims | None = None
        self._version = self._asked_version()

    @property
    def version(self) -> str:
        return self._version

    def lease(self, service: Service[RedisView], owner: str) -> RedisLease:
        try:
            return RedisLease(self, cast("Redis", service), owner)  # Nothing else leads to this server.
        except package().TimeoutError:
            if self.shared:
                raise
            raise ResetError(self.fell_silent()) from None

    def _asked_version(self) -> str:
        try:
            info: Any = self._admin.info("server")
        except package().ResponseError:  # A user who may not ask; that is all the version is for.
            return "Redis"
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    def footprint(self) -> str:
        return naming.fingerprint(*state_of(self._admin))

    def hung_up(self) -> bool:
        # As far as redis-py lets us see it: the connection that lies unused in the pool.
        idle: Any = getattr(self._admin.connection_pool, "_available_connections", None)
        socket = getattr(idle[-1], "_sock", None) if idle else None
        return socket is not None and alive.has_spoken(socket)

    def fell_silent(self) -> str:
        """Why nothing is asked of it from now on: it does not answer."""
        silence = f"does not answer within {SOCKET_TIMEOUT:g} s"
        self.silent = sentence(f"{self.version} ({self.instance})", silence, ours=self.owned)
        return self.silent

    def locked_out(self, error: Exception, test: str) -> str:
        """Why nothing is asked of it from now on: a test has changed users or the password, so that it refuses even what
        would undo that."""
        self.silent = (
            f"{self.version} ({self.instance}) refuses what itest needs, since {test} changed its users or its password: "
            f"{str(error).rstrip('.')}. The next class gets a new one"
        )
        return self.silent

    def clear(self) -> None:
        self._admin.flushall(asynchronous=True)
        self._admin.script_flush()

    def close(self) -> None:
        if not self.owned or self.shared:
            # After Ctrl-C: a database that keeps keys would never be used again.
            for number in self._leased - self._for_good:
                self.give_database(number)
            for prefix in list(self._prefixes):
                self.give_prefix(prefix)
        if self._outside is not None:
            self._outside.close()
        self._admin.close()

    def url_of(self, database: int) -> str:
        return urlsplit(self.address)._replace(path=f"/{database}").geturl()

    def nearest_url_of(self, database: int) -> str:
        """The same for connections that itest keeps itself: around Docker's proxy where that can be."""
        return urlsplit(self._nearest)._replace(path=f"/{database}").geturl()

    def connect_to(self, database: int, **more: Any) -> Client:
        """A client of ours on a database, by the nearest way; `more` as for `connect`."""
        return connect(self.nearest_url_of(database), redis_connect_func=self.greet, **more)

    def greet(self, connection: Any) -> None:
        """What redis-py says on a new connection by the nearest way, and the question who is there: an address is somebody
        else's soon after its container was stopped. Raises what redis-py raises."""
        connection.on_connect()
        if not self._run:
            return
        connection.send_command("INFO", "server")
        if self._run not in str(connection.read_response()):
            self.silent = (
                f"{self.version} ({self.instance}) is not at {connection.host} any more, where another one answers: its "
                f"container was restarted, or taken from its network. The next class gets a new one"
            )
            raise package().ConnectionError(self.silent)

    def _first_connection(self) -> Client:
        """That the other way leads to this very server is shown by its run_id. The password would not show it: a server
        without one takes any (HELLO), and others of this run have the same."""
        if direct := self.instance.direct_endpoint():
            user, _, _ = urlsplit(self.address).netloc.rpartition("@")
            nearest = nameless(urlsplit(self.address)._replace(netloc=f"{user}@{direct}").geturl())
            client = connect(nearest, redis_connect_func=self.greet)
            # Packages that keep tests from the network, but for this machine, have errors of their own.
            with contextlib.suppress(Exception), connect(self.address) as published:
                if (run := _run_id(client)) and run == _run_id(published):
                    self._run, self._nearest = run, nearest
                    return client
            client.close()
        return connect(self.address, retries=0 if self.owned else 1)  # Somebody may cut idle ones.

    def not_permitted(self, what: str, isolation: str, error: Exception) -> ExternalError:
        """An external server has refused a command."""
        return ExternalError(
            f"{what} on {self._version} at {self.instance} failed: {error}. Its user needs {RIGHTS[isolation]}"
        )

    def keep_database(self) -> int:
        """As `take_database`, for good: it is not emptied at the end."""
        number = self.take_database()
        if self.shared:
            self._admin.set(KEPT_KEY.format(number), "itest")
        with self._lock:
            self._for_good.add(number)
        return number

    def take_database(self) -> int:
        """The number of a database that nobody else uses, on an external server an empty one. Raises ItestError when there
        is none, of an external server ExternalError."""
        where = f"{self._version} at {self.instance}"
        try:
            with self._lock:
                count = self._count()
                for number in range(1, count):
                    if number not in self._leased and self._claim(number):
                        self._leased.add(number)
                        return number
                left = self._claims.left() if not self.owned else []
        except package().RedisError as error:
            if self.owned:
                raise
            reason = f"{error}. Its user needs {RIGHTS['database']}"
            raise ExternalError(f"no database of {where} could be taken: {reason}") from error
        if self.owned:
            raise ItestError(
                f"no free database on {where}: classes have all of 1 to {count - 1}; raise `databases` in the settings of the "
                f"declaration, which is {recipes.DATABASES} by default"
            )
        if count < 2:
            raise ExternalError(f"{where} has one database alone; use Redis(isolation='prefix')")
        killed = f"; {', '.join(map(str, left))}: used by runs that were killed, look and empty them" if left else ""
        raise ExternalError(
            f"no free database on {where}: all of 1 to {count - 1} hold keys or are used by another run; raise its setting "
            f"`databases`, or empty one{killed}"
        )

    def give_database(self, number: int, *, at_once: bool = False) -> None:
        """Empty a database that `take_database` gave, with `at_once` to its last byte, and let others have it."""
        with self._lock:
            self._leased.discard(number)
            try:
                self.hold(number)
                with self.connect_to(number) as connection:
                    if at_once:  # redis-py's own may still be asynchronous, by a setting.
                        connection.execute_command("FLUSHDB", "SYNC")
                    else:
                        connection.flushdb(asynchronous=True)
                if self.share is not None:
                    self.share.give_back(_claim_of(number))
                elif not self.owned:
                    self._claims.give(number)
            except (package().RedisError, ResetError) as error:
                if not self.owned:
                    trace.say(f"database {number} of {self._version} at {self.instance} was not emptied: {error}")

    def take_prefix(self) -> str:
        """A prefix of keys that nobody else has."""
        prefix = f"itest:{naming.random_hex(4)}:"
        self._prefixes.add(prefix)
        return prefix

    def give_prefix(self, prefix: str) -> None:
        """Delete the keys that begin with it."""
        self._prefixes.discard(prefix)
        try:
            for key in list(self._admin.scan_iter(f"{prefix}*", count=1000)):
                self._admin.unlink(key)  # One by one: those of a cluster may be on different nodes.
        except package().RedisError as error:
            if not self.owned:
                trace.say(f"keys that begin with {prefix} are left on {self._version} at {self.instance}: {error}")

    def hold(self, number: int) -> None:
        """See, on an external server, that the database is still this run's. Raises ResetError."""
        if not self.owned:
            self._claims.hold(number)

    @property
    def _claims(self) -> Claims:
        if self._outside is None:
            self._outside = Claims(self)
        return self._outside

    def _count(self) -> int:
        if self.owned:
            return self._databases
        try:
            settings: Any = self._admin.config_get("databases")
        except package().ResponseError:  # Managed servers forbid CONFIG; 16 is what Redis ships with.
            return 16
        return int(settings.get("databases", 16))

    def _claim(self, number: int) -> bool:
        """Whether a database is ours now, for none of our leases has it.

        On a server of ours that other processes use, it is claimed by a lock, and one that is kept is left alone.
        """
        if not self.owned:
            return number != self.database and self._claims.take(number)
        if not self.shared or self.share is None:
            return True
        if not self.share.claim(_claim_of(number)):
            return False
        if self._admin.exists(KEPT_KEY.format(number)):
            self.share.give_back(_claim_of(number))
            return False
        return True


def _run_id(client: Any) -> str:
    """Empty for a server that tells none."""
    return str(client.info("server").get("run_id", ""))


def _claim_of(number: int) -> str:
    return f"database-{number}"
