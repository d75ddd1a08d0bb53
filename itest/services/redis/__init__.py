# SPDX-License-Identifier: Apache-2.0
"""Redis. The reference service: the others have the same parts in the same order.

This file has the constants, the declaration, the server, the lease, the view and the mixin. Beside it: `recipes.py` (as a
container and as a process), `clients.py`, `state.py` (what no FLUSHDB undoes) and `programs.py` (where a local server
program comes from).
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from itest import alive
from itest.async_clients import own_time
from itest.config import Config
from itest.engines import Instance
from itest.errors import ConfigError, ExternalError
from itest.evidence import Aside, Evidence
from itest.naming import fingerprint
from itest.packages import client_package
from itest.server_settings import Setting
from itest.service import Lease, Server, Service, ServiceMixin, View
from itest.services.redis import recipes
from itest.services.redis.clients import UNCHECKED, Kept, connect, nameless, package, with_authority
from itest.services.redis.evidence import evidence
from itest.services.redis.recipes import PORT
from itest.services.redis.state import ServerState, state_of
from itest.spec import ContainerSpec, ExternalSpec, ProcessSpec
from itest.wait import Check, answer

if TYPE_CHECKING:
    from redis import Redis as Client
    from redis.asyncio import Redis as AsyncClient

IMAGE = "redis:8"
LEASE_SECONDS = 3600
"""After this long without a reset, a database number of an external server counts as given back by a dead run."""
LEASE_KEY = "itest:lease:{}"


@dataclass(frozen=True, eq=False)
class Redis(Service["RedisView"]):
    """A Redis server; any image that takes redis-server's options, Valkey included, and Redis Stack.

    Each class gets a numbered database of its own, which is emptied (`FLUSHDB ASYNC`) and refilled with the class's
    baseline before each test. With `isolation="prefix"` it shares the database of the URL and gets a prefix for its
    keys instead (`self.redis.key("user:1")`), for clusters and servers with one database. `decode_responses` makes the
    clients handed out return `str` instead of `bytes`. `settings` are options of redis.conf, `{"maxmemory": "64mb"}`.
    With `tls` the server speaks TLS alone, with a certificate that itest makes; clients and URLs know whom to trust.
    """

    kind: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis"
    isolations: ClassVar[tuple[str, ...]] = ("database", "prefix", "none")
    external_setting: ClassVar[str] = "redis_url"
    asks_to_connect: ClassVar[bool] = True

    image: str = IMAGE
    decode_responses: bool = False
    settings: Mapping[str, Setting] | None = None
    tls: bool = False

    def check(self, owner: str, name: str) -> None:
        super().check(owner, name)
        recipes.check(self, f"{owner}.{name}")

    def check_client(self) -> None:
        package()

    def container(self, secret: str) -> ContainerSpec:
        return recipes.container(self, secret)

    def process(self, secret: str, config: Config) -> ProcessSpec:
        return recipes.process(self, secret, config)

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
        except ValueError as error:
            raise ConfigError(f"{source} is no URL: {error}") from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigError(f"{source} is no URL of a Redis server: it must look like redis://:password@host:6379")
        return ExternalSpec(url, {"redis": (parts.hostname, port)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        endpoint = instance.endpoint("redis")
        if self.tls:
            return with_authority(f"rediss://:{secret}@{endpoint}", recipes.authority(self))
        return f"redis://:{secret}@{endpoint}"

    def ready(self, address: str) -> Check:
        redis = package()

        def ping(instance: Instance) -> None:
            with connect(address) as connection:
                try:
                    connection.ping()
                except redis.AuthenticationError as error:  # A ConnectionError too, but waiting will not cure it.
                    raise ExternalError(f"the password is wrong: {error}") from error

        return answer("PING to answer", ping, (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError))

    def connect(self, instance: Instance, address: str) -> RedisServer:
        return RedisServer(self, instance, address)


class RedisServer(Server["RedisView"]):
    """A running Redis; hands out its numbered databases."""

    def __init__(self, service: Redis, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.address = address
        self.owned = instance.owned
        self.authority = recipes.authority(service) if self.owned else ""
        self.database = int(urlsplit(address).path.lstrip("/") or 0)
        self._nearest = address
        self._databases = recipes.databases(service)
        self._admin = self._first_connection()
        self._lock = threading.Lock()
        self._leased: set[int] = set()
        self._for_good: set[int] = set()
        info: Any = self._admin.info("server")
        name, number = (
            ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
        )
        self._version = f"{name} {number}"

    @property
    def version(self) -> str:
        return self._version

    def lease(self, service: Service[RedisView], owner: str) -> RedisLease:
        assert isinstance(service, Redis)
        return RedisLease(self, service, owner)

    def footprint(self) -> str:
        return fingerprint(*state_of(self._admin))

    def hung_up(self) -> bool:
        # As far as redis-py lets us see it: the connection that lies unused in the pool.
        idle: Any = getattr(self._admin.connection_pool, "_available_connections", None)
        socket = getattr(idle[-1], "_sock", None) if idle else None
        return socket is not None and alive.has_spoken(socket)

    def clear(self) -> None:
        self._admin.flushall(asynchronous=True)
        self._admin.script_flush()

    def close(self) -> None:
        if not self.owned or self.shared:
            for number in (
                self._leased - self._for_good
            ):  # After Ctrl-C: a database that keeps keys would never be used again.
                self.give_database(number)
        self._admin.close()

    def url_of(self, database: int) -> str:
        return urlsplit(self.address)._replace(path=f"/{database}").geturl()

    def nearest_url_of(self, database: int) -> str:
        """The same for connections that itest keeps itself: around Docker's proxy where that can be."""
        return urlsplit(self._nearest)._replace(path=f"/{database}").geturl()

    def _first_connection(self) -> Client:
        """That the other way leads to this very server is shown by the password, which is this run's: a server with
        another one refuses it, and so does a server without."""
        if direct := self.instance.direct_endpoint():
            user, _, _ = urlsplit(self.address).netloc.rpartition("@")
            nearest = nameless(urlsplit(self.address)._replace(netloc=f"{user}@{direct}").geturl())
            client = connect(nearest)
            with contextlib.suppress(package().RedisError):
                client.ping()
                self._nearest = nearest
                return client
            client.close()
        return connect(self.address)

    def keep_database(self) -> int:
        """As `take_database`, for good: it is not emptied at the end."""
        number = self.take_database()
        with self._lock:
            self._for_good.add(number)
        return number

    def take_database(self) -> int:
        """The number of an empty database that nobody else uses. Raises ExternalError when there is none."""
        with self._lock:
            for number in range(1, self._count()):
                if number not in self._leased and (self._claim(number) if self.shared or not self.owned else True):
                    self._leased.add(number)
                    return number
        raise ExternalError(
            f"no free database on {self._version} at {self.instance}: all of 1 to {self._count() - 1} hold keys or are "
            f"used by another run; raise its setting `databases`, or empty one"
        )

    def give_database(self, number: int) -> None:
        """Empty a database that `take_database` gave, and let others have it."""
        with self._lock, contextlib.suppress(package().RedisError):
            with connect(self.url_of(number)) as connection:
                connection.flushdb(asynchronous=True)
            if not self.owned or self.shared:
                self._admin.delete(LEASE_KEY.format(number))
            self._leased.discard(number)

    def renew(self, number: int) -> None:
        """Say on an external server that the database is still in use."""
        if not self.owned:
            self._admin.expire(LEASE_KEY.format(number), LEASE_SECONDS)

    def _count(self) -> int:
        if self.owned:
            return self._databases
        try:
            settings: Any = self._admin.config_get("databases")
        except package().ResponseError:  # Managed servers forbid CONFIG; 16 is what Redis ships with.
            return 16
        return int(settings.get("databases", 16))

    def _claim(self, number: int) -> bool:
        """Whether a database of a server that others use too is ours now: claimed by a key in the URL's own database,
        and empty.

        On an external server one that holds keys is somebody's, whatever the claims say, and is never touched. On ours
        claims do not end by themselves: there are more numbers than workers that could be killed.
        """
        if number == self.database:
            return False
        key = LEASE_KEY.format(number)
        if self.owned:
            return bool(self._admin.set(key, "itest", nx=True))
        if not self._admin.set(key, "itest", nx=True, ex=LEASE_SECONDS):
            return False
        with connect(self.url_of(number)) as connection:
            if connection.dbsize() == 0:
                return True
        self._admin.delete(key)
        return False


class RedisLease(Lease["RedisView"]):
    """A numbered database for a class; its baseline is kept in memory and put back after each flush."""

    def __init__(self, server: RedisServer, service: Redis, owner: str) -> None:
        self._server = server
        self._isolation = service.isolation_or_default
        numbered = self._isolation == "database"
        self.database = server.take_database() if numbered else server.database
        self._prefix = f"itest:{secrets.token_hex(4)}:" if self._isolation == "prefix" else ""
        self._baseline: list[tuple[bytes, int, bytes]] = []
        self._last_test = owner
        self._admin = connect(server.nearest_url_of(self.database))
        self._rest = ServerState(self._admin, whole=not server.shared) if server.owned and numbered else None
        self._kept = Kept(server, server.nearest_url_of(self.database), service.decode_responses)
        self.view = RedisView(server, self.database, self._kept, self._prefix)

    def seal(self) -> None:
        self.view.close()
        self._kept.close()
        keys = [] if self._isolation == "none" else list(self._admin.scan_iter(f"{self._prefix}*", count=1000))
        pipeline: Any = self._admin.pipeline(transaction=False)  # redis-py types answers, not pipelines
        for key in keys:
            pipeline.dump(key).pexpiretime(key)
        answers = pipeline.execute()
        # A key that expired in between has no dump; expiry is a moment (ms since 1970), so it goes on running.
        self._baseline = [
            (key, max(0, at), dump) for key, dump, at in zip(keys, answers[::2], answers[1::2], strict=True) if dump
        ]
        if self._rest is not None:
            self._rest.remember()

    def reset(self, test: str) -> RedisView:
        """One round trip: flush, put the baseline back, and look at what belongs to the server as a whole."""
        if self._isolation != "none":
            pipeline: Any = self._admin.pipeline(transaction=False)
            # First what is only looked at: Redis frees what it has flushed on a thread, which takes its time from the rest.
            if self._rest is not None:
                self._rest.look(pipeline)
            if self._isolation == "database":
                pipeline.flushdb(asynchronous=True)
            elif ours := list(self._admin.scan_iter(f"{self._prefix}*", count=1000)):
                pipeline.unlink(*ours)
            for key, expires_at, dump in self._baseline:
                pipeline.restore(key, expires_at, dump, replace=True, absttl=expires_at > 0)
            answers = pipeline.execute()
            if self._rest is not None:
                self._rest.restore(answers, self.database, self._kept, self._last_test)
            self._server.renew(self.database)
        self._last_test = test
        return RedisView(self._server, self.database, self._kept, self._prefix)

    def settle(self, test: str, since: float, alone: bool) -> None:
        if self._rest is not None:
            self._rest.settle(self.database, self._kept, test, alone)

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        if self._isolation != "database":
            return None
        number = self._server.keep_database()
        self._admin.swapdb(self.database, number)
        url = urlsplit(self._server.address)
        words = ["redis-cli", "-h", str(url.hostname), "-p", str(url.port), "-n", str(number)]
        words += ["--tls", "--cacert", self._server.authority] if self._server.authority else []
        file = write("redis-password", unquote(url.password or ""))
        return Aside((f'REDISCLI_AUTH="$(cat {shlex.quote(str(file))})" {shlex.join(words)}',))

    def evidence(self, since: float) -> Evidence:
        if self._isolation == "none":
            return Evidence()  # It may be anybody's, and as large as can be.
        baseline = {key: dump for key, _, dump in self._baseline}
        return evidence(self._server.nearest_url_of(self.database), f"{self._prefix}*", baseline, since)

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        if not self._server.instance.state().running:
            self._admin.close()
            return  # Nobody answers at the address of a container that is gone, not even with a refusal.
        with contextlib.suppress(package().RedisError):
            if self._prefix and (ours := list(self._admin.scan_iter(f"{self._prefix}*", count=1000))):
                self._admin.unlink(*ours)
            if self._rest is not None:
                self._rest.forget()
        self._admin.close()
        if self._isolation == "database":
            self._server.give_database(self.database)


class RedisView(View):
    """What a test gets of Redis: a database of its own."""

    server: RedisServer

    def __init__(self, server: RedisServer, database: int, kept: Kept, prefix: str) -> None:
        super().__init__(server)
        self.database = database
        self.prefix = prefix
        self._kept = kept

    @property
    def url(self) -> str:
        url = self.server.url_of(self.database)
        if self._inside is not None and self.authority:  # The file is not there, and the certificate not for that name.
            url = urlsplit(url)._replace(query=UNCHECKED).geturl()
        return self._reached(url)

    @property
    def authority(self) -> str:
        """With `tls`, the file with the certificate of the authority that clients must trust; empty without."""
        return self.server.authority

    @property
    def env(self) -> dict[str, str]:
        trust = {"REDIS_CA_FILE": self.authority} if self.authority and self._inside is None else {}
        return {"REDIS_URL": self.url, **trust}

    def key(self, name: str) -> str:
        """The key that stands for this name: with `isolation="prefix"` under the class's own prefix."""
        return f"{self.prefix}{name}"

    @property
    def cache(self) -> Client:
        """The view's own client; `self.cache` on a RedisMixin. Its connection is kept from test to test."""
        return self._kept.client()

    def client(self, **kwargs: Any) -> Client:
        """A new client on this database; keyword arguments as for `redis.Redis.from_url`. Closed after the test."""
        client = package().Redis.from_url(self.url, **{"decode_responses": self._kept.decode_responses, **kwargs})
        return self._closing(client)  # type: ignore[no-any-return]  # _closing returns what it was given

    @own_time()
    def aclient(self, **kwargs: Any) -> AsyncClient:
        """A new asyncio client on this database, for the running event loop; keyword arguments as for
        `redis.asyncio.Redis.from_url`. Closed after the test."""
        asynchronous = client_package("redis.asyncio", "redis", "RedisView.aclient()")
        client: AsyncClient = asynchronous.Redis.from_url(
            self.url, **{"decode_responses": self._kept.decode_responses, **kwargs}
        )
        return self._closing_async(client, client.aclose, "aclient")


class RedisMixin(ServiceMixin):
    """Declares `redis`; `self.cache` is a client on the test's own database."""

    redis = Redis()

    @property
    def cache(self) -> Client:
        return self.redis.cache
