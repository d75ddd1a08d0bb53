# SPDX-License-Identifier: Apache-2.0
"""Customised Redis as it is declared: settings, Redis Stack, TLS and its certificates. No server needed."""

from __future__ import annotations

import importlib.util
import shutil
import ssl
import stat
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from itest import Redis, certificates
from itest.config import Config
from itest.engines import Endpoint
from itest.errors import ConfigError, DeclarationError, Unavailable
from itest.services.redis import clients, programs, recipes
from tests.programs import write_program


class SettingsTest(unittest.TestCase):
    def refused(self, *args: Any, **fields: Any) -> str:
        with self.assertRaises(DeclarationError) as caught:
            Redis(*args, **fields).check("T", "redis")
        return str(caught.exception).removeprefix("T.redis: ")

    def test_they_are_written_as_the_server_reads_them(self) -> None:
        service = Redis(settings={"maxmemory": 1000, "lazyfree-lazy-expire": True, "save": ""})
        service.check("T", "redis")
        command = service.container("geheim").command
        for name, value in (("--maxmemory", "1000"), ("--lazyfree-lazy-expire", "yes"), ("--save", "")):
            self.assertEqual(command[command.index(name) + 1], value)

    def test_what_is_none_is_refused(self) -> None:
        self.assertEqual(
            self.refused(settings="maxmemory 64mb"),
            'settings must map names to values, settings={"maxmemory": "64mb"}, not \'maxmemory 64mb\'',
        )
        self.assertIn("is no name of a setting", self.refused(settings={"--maxmemory 1mb": ""}))
        self.assertEqual(
            self.refused(settings={"requirepass": "x"}),
            "requirepass in settings: itest chooses the password, ask the view for it",
        )

    def test_as_many_databases_as_the_server_has_are_lent(self) -> None:
        self.assertEqual(recipes.databases(Redis()), recipes.DATABASES)
        self.assertEqual(recipes.databases(Redis(settings={"databases": 16})), 16)

    def test_names_in_capitals_are_the_same_settings(self) -> None:
        self.assertEqual(recipes.databases(Redis(settings={"Databases": 16})), 16)

    def test_a_class_needs_a_database_besides_number_0(self) -> None:
        said = self.refused(settings={"databases": 1})
        self.assertEqual(
            said,
            "databases = 1 in settings leaves no class a database, for number 0 is none's; say 2 or more, or "
            'isolation="prefix"',
        )
        self.assertIn("databases = many", self.refused(settings={"databases": "many"}))
        Redis(settings={"databases": 1}, isolation="prefix").check("T", "redis")

    def test_a_cluster_has_no_databases_to_give(self) -> None:
        for value in (True, "yes"):
            self.assertEqual(
                self.refused(settings={"cluster-enabled": value}),
                'cluster-enabled in settings leaves number 0 alone, which no class is given; say isolation="prefix"',
            )
        Redis(settings={"cluster-enabled": True}, isolation="prefix").check("T", "redis")
        Redis(settings={"cluster-enabled": False}).check("T", "redis")

    def test_what_itest_needs_keeps_its_name(self) -> None:
        self.assertEqual(
            self.refused(settings={"rename-command": "flushdb X"}),
            "rename-command in settings: itest needs FLUSHDB itself, by this name",
        )
        for harmless in ("KEYS xkeys", ""):
            Redis(settings={"rename-command": harmless}).check("T", "redis")

    def test_redis_stack_is_told_by_its_variable(self) -> None:
        for image in ("redis/redis-stack-server:7.4.0-v3", "registry:5000/redis/redis-stack@sha256:0"):
            spec = Redis(image, settings={"maxmemory": "64mb"}).container("geheim")
            self.assertEqual((spec.command, spec.entrypoint), ((), None))
            self.assertEqual(
                spec.env["REDIS_ARGS"],
                "--requirepass geheim --save 999999999 1 --appendonly no --databases 512 "
                "--unixsocket /data/itest.sock --unixsocketperm 777 --maxmemory 64mb",
            )

    def test_redis_stack_cannot_be_told_nothing(self) -> None:
        said = self.refused("redis/redis-stack", settings={"notify-keyspace-events": ""})
        self.assertEqual(said, "notify-keyspace-events in settings is empty, which Redis Stack's image cannot be told")

    def test_an_image_that_is_configured_otherwise_is_refused(self) -> None:
        for image in ("bitnami/redis:8.0", "registry:5000/mirror/bitnamilegacy/valkey"):
            self.assertEqual(
                self.refused(image),
                f"image {image!r} is not configured like the official redis image; use that one, Valkey's or Redis "
                f"Stack's, or declare it as a Container",
            )

    def test_other_images_are_not(self) -> None:
        for image in ("redis:8", "valkey/valkey:8", "redis-stack.example.org/redis:8"):
            self.assertEqual(dict(Redis(image).container("geheim").env), {})


class TlsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(recipes, "load", return_value=Config(cache_dir=self.cache)))

    def test_a_container_gets_the_certificate_and_no_other_port(self) -> None:
        spec = Redis(tls=True).container("geheim")
        self.assertEqual(
            set(spec.files), {f"/etc/itest/tls/{n}" for n in ("authority.pem", "server.pem", "server.key")}
        )
        command = spec.command
        self.assertEqual(command[command.index("--port") + 1], "0")
        self.assertEqual(command[command.index("--tls-port") + 1], "6379")
        self.assertEqual(command[command.index("--tls-key-file") + 1], "/etc/itest/tls/server.key")

    def test_a_process_too(self) -> None:
        with mock.patch.object(recipes, "find_program", return_value=("/x/redis-server", "Redis 8")) as find:
            spec = Redis(tls=True).process("geheim", Config())
        find.assert_called_once_with(mock.ANY, tls=True)
        names = {f"tls/{name}" for name in ("authority.pem", "server.pem", "server.key")}
        self.assertEqual(set(spec.files), {"password.secret", *names})
        self.assertEqual(spec.argv[spec.argv.index("--tls-port") + 1], "{port:redis}")
        self.assertEqual(spec.argv[-1], "{directory}/tls/server.key")

    def test_servers_with_and_without_are_not_the_same_and_two_with_it_are(self) -> None:
        found = [Redis(tls=tls).container("").fingerprint() for tls in (True, True, False)]
        self.assertEqual((found[0], len(set(found))), (found[1], 2))

    def test_the_address_says_whom_to_trust(self) -> None:
        def address(host: str) -> Any:
            instance: Any = SimpleNamespace(endpoint=lambda name: Endpoint(host, 7))
            return urlsplit(Redis(tls=True).address(instance, "geheim"))

        here, there = address("127.0.0.1"), address("docker.example.org")
        self.assertEqual((here.scheme, here.netloc), ("rediss", ":geheim@127.0.0.1:7"))
        self.assertRegex(here.query, r"^ssl_ca_certs=/.*/authority\.pem$")
        self.assertTrue(there.query.endswith("authority.pem&ssl_check_hostname=false"))

    def test_an_address_without_tls_stays_as_it_is(self) -> None:
        self.assertEqual(clients.nameless("redis://:p@h:1/2"), "redis://:p@h:1/2")


class CertificatesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def talk(self, files: certificates.Certificates) -> None:
        """A handshake with every check that Python knows, by name and by address."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        client = ssl.create_default_context(cafile=str(files.authority))
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        for name in ("localhost", "127.0.0.1", "::1"):
            ends = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
            one = client.wrap_bio(ends[0][0], ends[0][1], server_hostname=name)
            two = server.wrap_bio(ends[0][1], ends[0][0], server_side=True)
            done = 0
            for _ in range(6):
                for each in (one, two):
                    try:
                        each.do_handshake()
                        done += 1
                    except ssl.SSLWantReadError:
                        pass
            self.assertGreaterEqual(done, 2)

    def test_by_openssl(self) -> None:
        program = shutil.which("openssl")
        if program is None:
            self.skipTest("needs openssl")
        files = certificates._in(self.cache)
        certificates.by_program(files, program)
        self.talk(files)
        self.assertEqual({file.name for file in self.cache.iterdir()}, {file.name for file in files})

    def test_by_the_package(self) -> None:
        if importlib.util.find_spec("cryptography") is None:
            self.skipTest("needs the package cryptography")
        files = certificates._in(self.cache)
        certificates.by_package(files)
        self.talk(files)
        self.assertEqual({file.name for file in self.cache.iterdir()}, {file.name for file in files})

    def test_they_stay_and_their_key_is_for_the_user_alone(self) -> None:
        files = certificates.local(self.cache)
        self.assertEqual(stat.S_IMODE(files.key.stat().st_mode), 0o600)
        before = files.key.read_bytes()
        self.assertEqual(certificates.local(self.cache).key.read_bytes(), before)

    def test_after_a_month_there_are_new_ones_and_the_old_ones_go(self) -> None:
        first = certificates.local(self.cache)
        with mock.patch.object(certificates, "wall", return_value=certificates.wall() + 62 * certificates.DAY):
            second = certificates.local(self.cache)
        self.assertNotEqual(first.key, second.key)
        self.assertEqual([file.name for file in (self.cache / "certificates").iterdir()], [second.key.parent.name])

    def test_those_who_come_at_the_same_time_find_the_same_ones(self) -> None:
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(certificates.local(self.cache).authority.read_bytes()))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual((len(found), len(set(found))), (4, 1))

    def test_without_anything_to_make_them(self) -> None:
        with (
            mock.patch("importlib.util.find_spec", return_value=None),
            mock.patch.object(shutil, "which", return_value=None),
            self.assertRaises(Unavailable) as caught,
        ):
            certificates.local(self.cache)
        self.assertEqual(
            str(caught.exception),
            "nothing here can make certificates for tls=True: install the package cryptography (pip install "
            "cryptography) or the program openssl",
        )

    def test_without_a_place_for_them(self) -> None:
        place = self.cache / "file"
        place.touch()
        with self.assertRaisesRegex(ConfigError, "certificates for tls=True cannot be kept in .*/file/certificates: "):
            certificates.local(place)

    def test_an_openssl_that_fails(self) -> None:
        failed = subprocess.CompletedProcess([], 1, "", "unable to load config")
        with mock.patch.object(subprocess, "run", return_value=failed), self.assertRaises(Unavailable) as caught:
            certificates.by_program(certificates._in(self.cache), "/usr/bin/openssl")
        self.assertEqual(
            str(caught.exception),
            "/usr/bin/openssl could not make certificates for tls=True: `openssl ecparam` exited with 1: "
            "unable to load config",
        )


class ProgramTest(unittest.TestCase):
    """Which program speaks TLS. The programs here are two-line scripts."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.which: dict[str, str] = {}
        self.enterContext(mock.patch.object(shutil, "which", self.which.get))
        self.enterContext(mock.patch("importlib.util.find_spec", return_value=None))

    def program(self, name: str, started: str) -> str:
        script = f"[ $1 = --version ] && echo 'Redis server v=8.0.0 sha=0' && exit\necho '{started}'\nexit 1"
        return str(write_program(self.directory / name, script))

    def test_one_that_does_is_preferred(self) -> None:
        self.which["valkey-server"] = self.program("one", "# Failed finding TLS support.")
        self.which["redis-server"] = able = self.program("two", "# No tls-cert-file configured!")
        self.assertEqual(programs.find_program(Config(), tls=True), (able, "Redis 8.0.0 from PATH"))
        self.assertEqual(programs.find_program(Config())[0], self.which["valkey-server"])

    def test_one_that_was_named_is_not_passed_over(self) -> None:
        self.which["redis-server"] = self.program("two", "# No tls-cert-file configured!")
        with self.assertRaisesRegex(Unavailable, "Redis 8.0.0 from the setting redis_bin was built without it"):
            programs.find_program(Config(redis_bin=self.program("mine", "# no")), tls=True)

    def test_where_none_does_it_says_so(self) -> None:
        self.which["valkey-server"] = self.program("one", "# Failed finding TLS support.")
        with self.assertRaises(Unavailable) as caught:
            programs.find_program(Config(), tls=True)
        self.assertEqual(
            str(caught.exception),
            "no Redis or Valkey server for local processes speaks TLS: Redis 8.0.0 from PATH was built without it; "
            "install redis-server (Debian's speaks it), name one in the setting redis_bin, or use Docker",
        )
