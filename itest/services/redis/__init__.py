# SPDX-License-Identifier: Apache-2.0
"""Redis. The reference service: the others have the same parts.

__init__.py  Redis and RedisMixin: what is wanted
recipes.py   as a container and as a process
programs.py  where a process's program comes from
clients.py   redis-py: the clients of itest itself, and the one that is kept for the tests of a class
server.py    a running server: its numbered databases; claims.py: those of an external one
by_socket.py the way to it for resets
lease.py     the database of a class, brought back to its baseline before each test
state.py     what no FLUSHDB undoes
round_trip.py  commands that are sent together
evidence.py  what there is when a test has failed
view.py      what a test gets
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from itest import naming
from itest.config import Config
from itest.engines import Instance
from itest.errors import ENCODED, ConfigError, ExternalError, no_url
from itest.packages import lazily, need_client
from itest.server_settings import Setting
from itest.service import Service, ServiceMixin
from itest.services.redis import recipes
from itest.services.redis.clients import RIGHTS, connect, package, with_authority
from itest.services.redis.recipes import PORT
from itest.shorthand import Shorthand
from itest.spec import ContainerSpec, ExternalSpec, ProcessSpec
from itest.wait import ANSWER_TIMEOUT, Check, answer

if TYPE_CHECKING:
    from redis import Redis as Client

    from itest.services.redis.server import RedisServer
    from itest.services.redis.view import RedisView  # named as a text, in the base

__all__ = ["Redis", "RedisMixin", "RedisServer", "RedisView"]

if not TYPE_CHECKING:  # So that a wrong name is still an error there.
    __getattr__ = lazily(__name__, {"RedisServer": "server", "RedisView": "view"})

IMAGE = "redis:8"


@dataclass(frozen=True, eq=False, repr=False)
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
    url_parts: ClassVar[str] = "host, port, user and password"
    asks_to_connect: ClassVar[bool] = True

    image: str = IMAGE
    decode_responses: bool = False
    settings: Mapping[str, Setting] | None = None
    tls: bool = False

    if TYPE_CHECKING:
        _: KW_ONLY
        isolation: Literal["", "database", "prefix", "none"] = ""

    def _check(self) -> None:
        super()._check()
        recipes.check(self)

    def check_client(self) -> None:
        need_client("redis", "redis", "the service Redis")

    def import_ahead(self) -> None:
        package()
        importlib.import_module("itest.services.redis.server")

    def container(self, secret: str) -> ContainerSpec:
        return recipes.container(self, secret)

    def process(self, secret: str, config: Config) -> ProcessSpec:
        return recipes.process(self, secret, config)

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
        except ValueError:
            raise no_url(source) from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ConfigError(f"{source} is no URL of a Redis server: it must look like redis://:password@host:6379")
        return ExternalSpec(_numbered(url, source), {"redis": (parts.hostname, port)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        endpoint = instance.endpoint("redis")
        if self.tls:
            return with_authority(f"rediss://:{secret}@{endpoint}", recipes.authority(self))
        return f"redis://:{secret}@{endpoint}"

    def readiness(self, address: str) -> Check:
        redis = package()

        def ping(instance: Instance) -> None:
            # Who has taken its port in between may say nothing, and only the next poll sees that it has ended over that.
            patience: dict[str, Any] = {"socket_timeout": ANSWER_TIMEOUT} if instance.owned else {}
            with connect(address, **patience) as connection:
                try:
                    connection.ping()
                except redis.AuthenticationError as error:  # A ConnectionError too, but waiting will not cure it.
                    given = naming.url_password(address)
                    raise ExternalError(
                        f"{'the password is wrong' if given else 'it wants a password'}: {error}"
                    ) from error
                except redis.exceptions.NoPermissionError as error:
                    raise ExternalError(f"{error}. Its user needs {RIGHTS[self.isolation_or_default]}") from error

        return answer("PING to answer", ping, (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError))

    def connect(self, instance: Instance, address: str) -> RedisServer:
        from itest.services.redis.server import RedisServer  # While it is being started it is imported ahead.

        return RedisServer(self, instance, address)


def _numbered(url: str, source: str) -> str:
    """The URL with the number of its database as its path. For redis-py one in the query counts more. Raises ConfigError."""
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    number = asked.pop("db", [parts.path.strip("/") or "0"])[0]
    if not number.isdecimal() or parts.fragment:
        raise ConfigError(  # Without what stands there: it may be the rest of a password with a / or #.
            f"{source} names no database of Redis: after the server comes its number alone, redis://host:6379/0; and {ENCODED}"
        )
    return (
        parts._replace(path=f"/{number}", query=urlencode(asked, doseq=True)).geturl() if "db=" in parts.query else url
    )


class RedisMixin(ServiceMixin):
    """Declares `redis`; `self.cache` is a client on the test's own database."""

    redis = Redis()

    cache: Shorthand[Client] = Shorthand("redis", "cache")
