# SPDX-License-Identifier: Apache-2.0
"""External servers: which URL stands for which, and what is said when it does not work. No real server needed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

from itest import Container, Kafka, Postgres, Redis, naming, starting, testing
from itest.clock import Deadline
from itest.config import Config
from itest.engines.external import ExternalEngine
from itest.errors import ConfigError, ExternalError, MissingPackage, no_url
from itest.service import Service
from itest.session import Session
from itest.spec import ExternalSpec
from itest.starting import EXTERNAL_TIMEOUT
from itest.testing import ManualClock, MemoryEngine, MemoryService
from itest.trace import Recorder
from itest.wait import NotReady, answer
from tests.unit.inner import InnerTest

PASSWORD = "geheimes-wort"


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextlib.contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server whose every connection is handled by `talk`; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(10)


@contextlib.contextmanager
def dripping() -> Iterator[int]:
    """A server whose answer comes byte by byte and never to an end; gives its port."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not over.wait(0.01):
            connection.sendall(b"+")

    with server(drip) as port:
        try:
            yield port
        finally:
            over.set()


def refuse_redis(connection: socket.socket) -> None:
    """Say to each command that the password is wrong, and which it was: servers have done worse."""
    while connection.recv(4096):
        connection.sendall(b"-WRONGPASS invalid username-password pair, not %s\r\n" % PASSWORD.encode())


def want_password_of_redis(connection: socket.socket) -> None:
    while connection.recv(4096):
        connection.sendall(b"-NOAUTH Authentication required.\r\n")


def refuse_postgres(
    connection: socket.socket,
    code: str = "28P01",
    message: str = f'password authentication failed for user "ann", tried {PASSWORD}',
) -> None:
    """The start of the protocol, up to the refusal (PostgreSQL manual, 53.2.1 and 53.7)."""
    read_startup(connection)
    text = f"SFATAL\0C{code}\0M{message}\0\0".encode()
    connection.sendall(b"E" + struct.pack("!i", len(text) + 4) + text)


def want_password(connection: socket.socket) -> None:
    """The same, up to the question for it, as a text."""
    read_startup(connection)
    connection.sendall(b"R" + struct.pack("!ii", 8, 3))


def read_startup(connection: socket.socket) -> None:
    while True:
        if len(begin := connection.recv(8)) < 8:
            raise ConnectionError("the client has given up")
        [length, code] = struct.unpack("!ii", begin)
        if code in (80877103, 80877104):  # SSLRequest, GSSENCRequest
            connection.sendall(b"N")
            continue
        connection.recv(length - 8)
        return


class UnusableTest(unittest.TestCase):
    def lend(self, service: Service, **settings: str) -> ExternalError:
        """The error of a server that cannot be used."""
        self.clock = ManualClock()
        with (
            testing.session(MemoryEngine(), clock=self.clock, **settings) as session,
            self.assertRaises(ExternalError) as caught,
        ):
            session.lend(service)
        self.assertNotIn(PASSWORD, str(caught.exception))
        self.assertIsNone(caught.exception.__cause__)
        return caught.exception

    def test_what_only_a_server_of_ours_can_be_told_is_said_to_be_in_vain(self) -> None:
        with testing.session(MemoryEngine(), quiet=False) as session, mock.patch("itest.trace.say") as say:
            service = testing.MemoryService(env={"A": "1"}, external="TEST_URL")
            with mock.patch.object(type(session.config), "variable", return_value="memory://somewhere"):
                session.lend(service)
        said = [call.args[0] for call in say.call_args_list]
        self.assertIn("Memory at 127.0.0.1:1 is external: env change nothing there", said)

    def test_a_redis_where_nobody_listens_is_given_up_after_ten_seconds(self) -> None:
        port = closed_port()
        error = self.lend(Redis(), redis_url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
        self.assertRegex(
            str(error),
            rf"^the external Redis at 127\.0\.0\.1:{port}, named by ITEST_REDIS_URL, cannot be used: "
            r"ConnectionError: Error \d+ connecting to .*Connection refused.*"
            r"\(tried for 10\.0 s; is it running, and are host, port, user and password right\?\)$",
        )
        self.assertEqual((self.clock.now, EXTERNAL_TIMEOUT), (10, 10))

    def test_an_answer_that_comes_to_no_end_is_not_waited_for(self) -> None:
        self.enterContext(mock.patch.object(starting, "EXTERNAL_TIMEOUT", 0.1))
        self.enterContext(mock.patch.object(starting, "LONGEST_ANSWER", 0.2))
        with dripping() as port:
            error = self.lend(Redis(), redis_url=f"redis://127.0.0.1:{port}/0")
        self.assertIn("cannot be used: what it answers had come to no end after 0.3 s (tried for ", str(error))

    def test_a_postgres_where_nobody_listens_is_given_up_too(self) -> None:
        port = closed_port()
        error = self.lend(Postgres(startup_timeout=2.0), postgres_url=f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/x")
        self.assertRegex(
            str(error),
            rf"^the external PostgreSQL at 127\.0\.0\.1:{port}, named by ITEST_POSTGRES_URL, cannot be used: "
            r"OperationalError: .*Connection refused.*\(tried for 2\.0 s; ",
        )

    def test_a_wrong_password_of_redis_ends_the_wait_at_once(self) -> None:
        with server(refuse_redis) as port:
            naming.remember_secret(PASSWORD)  # As reading the settings does.
            error = self.lend(Redis(), redis_url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
        self.assertEqual(
            str(error),
            f"the external Redis at 127.0.0.1:{port}, named by ITEST_REDIS_URL, cannot be used: the password is wrong: "
            "invalid username-password pair, not *** (tried for 0.0 s)",
        )
        self.assertEqual(self.clock.slept, [])

    def test_a_wrong_password_of_postgres_ends_the_wait_at_once(self) -> None:
        environment = {"TEST_DB": f"postgresql://ann:{PASSWORD}@127.0.0.1"}
        with server(refuse_postgres) as port, mock.patch.object(naming, "_known_secrets", set()):
            environment["TEST_DB"] += f":{port}/x"
            error = self.lend(Postgres(external="TEST_DB"), environment=environment)  # type: ignore[arg-type]  # no string
            text = str(error)
        self.assertRegex(
            text,
            rf"^the external PostgreSQL at 127\.0\.0\.1:{port}, named by TEST_DB, cannot be used: the user or the password "
            r'is wrong: .*password authentication failed for user "ann", tried \*\*\* '
            r"\(tried for 0\.0 s\)$",
        )
        self.assertEqual(self.clock.slept, [])

    def test_what_no_waiting_cures_in_postgres_ends_it_at_once(self) -> None:
        for code, message, meaning in (
            ("3D000", 'database "nope" does not exist', "there is no such database or user: "),
            ("28000", 'role "nobody" does not exist', "there is no such database or user: "),
        ):
            with self.subTest(message), server(partial(refuse_postgres, code=code, message=message)) as port:
                error = self.lend(Postgres(), postgres_url=f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/nope")
                self.assertRegex(str(error), rf"cannot be used: {meaning}.*{message} \(tried for 0\.0 s\)$")
                self.assertEqual(self.clock.slept, [])
        with server(want_password) as port:
            error = self.lend(Postgres(), postgres_url=f"postgresql://ann@127.0.0.1:{port}/x?passfile=/nowhere")
            self.assertRegex(str(error), r"cannot be used: it wants a password: .*no password supplied")
            error = self.lend(Postgres(), postgres_url=f"postgresql://ann@127.0.0.1:{port}/x?sslmode=require")
            self.assertRegex(str(error), r"cannot be used: it does not speak TLS: .*server does not support SSL")
        self.assertEqual(self.clock.slept, [])

    def test_what_libpq_refuses_before_it_asks_anybody_ends_the_wait_at_once(self) -> None:
        url = f"postgresql://ann:{PASSWORD}@127.0.0.1:{closed_port()}/x"
        with mock.patch.dict(os.environ, {"PGSERVICE": "shop", "PGSERVICEFILE": os.devnull}):
            error = self.lend(Postgres(), postgres_url=url)
        self.assertRegex(
            str(error), r'definition of service "shop" not found; correct the variable PGSERVICE, or do without it '
        )
        with mock.patch.dict(os.environ, {"PGSSLMINPROTOCOLVERSION": "nine"}):
            error = self.lend(Postgres(), postgres_url=url)
        self.assertRegex(
            str(error), r"correct the variable PGSSLMINPROTOCOLVERSION, or do without it \(tried for 0\.0 s\)$"
        )
        error = self.lend(Postgres(), postgres_url=f"{url}?sslmode=some")
        self.assertRegex(str(error), r'invalid sslmode value: "some"; correct sslmode= in the URL, or do without it ')
        self.assertEqual(self.clock.slept, [])

    def test_a_redis_that_wants_a_password_and_was_given_none(self) -> None:
        with server(want_password_of_redis) as port:
            error = self.lend(Redis(), redis_url=f"redis://127.0.0.1:{port}/0")
        self.assertRegex(str(error), r"cannot be used: it wants a password: Authentication required\.")
        self.assertEqual(self.clock.slept, [])

    def test_what_is_asked_where_nobody_listens(self) -> None:
        port = closed_port()
        error = self.lend(Kafka(startup_timeout=0.1), kafka_bootstrap_servers=f"127.0.0.1:{port}")
        self.assertRegex(str(error), r" s; is it running, and are host and port right\?\)$")
        error = self.lend(Postgres(startup_timeout=0.1), postgres_url=f"postgresql://u@127.0.0.1:{port}/x")
        self.assertRegex(str(error), r" s; is it running, and are host, port, user, password and database right\?\)$")


class WrongUrlTest(unittest.TestCase):
    def assertWrong(self, service: Service, url: str, message: str) -> None:
        with self.assertRaises(ConfigError) as caught:
            service.external_spec(url, "TEST_URL")
        self.assertEqual(str(caught.exception), message)
        self.assertNotIn(PASSWORD, str(caught.exception))

    def test_of_redis(self) -> None:
        for url in (f"http://:{PASSWORD}@db:6379", "localhost:6379", "redis://", "redis:///0", ""):
            self.assertWrong(
                Redis(), url, "TEST_URL is no URL of a Redis server: it must look like redis://:password@host:6379"
            )

    def test_of_postgres(self) -> None:
        for url in (f"mysql://ann:{PASSWORD}@db/x", "localhost:5432", "postgresql:///x", "dbname=x"):
            self.assertWrong(
                Postgres(),
                url,
                "TEST_URL is no URL of a PostgreSQL server: it must look like "
                "postgresql://user:password@host:5432/database",
            )

    def test_of_no_url_at_all(self) -> None:
        for service, scheme in ((Redis(), "redis"), (Postgres(), "postgresql")):
            for rest in (f":{PASSWORD}@[db", f":{PASSWORD}@db:99999", "u:mir#pw-123@h:9/x", "u:mir/pw-123@h:9/x"):
                self.assertWrong(service, f"{scheme}://{rest}", str(no_url("TEST_URL")))
        self.assertWrong(Container("web:1"), "http://u:mir?pw-123@h:9/x", str(no_url("TEST_URL")))
        self.assertNotIn("mir", str(no_url("TEST_URL")))

    def test_of_postgres_with_an_unencoded_at_sign(self) -> None:
        for user in (f"ann:{PASSWORD}@more-99", "ann@corp:word"):
            self.assertWrong(Postgres(), f"postgresql://{user}@db/x", str(no_url("TEST_URL")))
        self.assertIn("@ of a user or password must be percent-encoded", str(no_url("TEST_URL")))
        Redis().external_spec(f"redis://:{PASSWORD}@more-99@db", "TEST_URL")

    def test_it_is_an_error_of_the_class_even_where_skipping_is_allowed(self) -> None:
        with (
            testing.session(MemoryEngine(), redis_url=f"http://:{PASSWORD}@db") as session,
            self.assertRaisesRegex(ConfigError, r"^ITEST_REDIS_URL is no URL of a Redis server: "),
        ):
            session.lend(Redis())

    def test_a_url_in_a_file_is_not_put_down_to_a_variable(self) -> None:
        sources = {"redis_url": "[tool.itest] in /shop/pyproject.toml"}
        with (
            testing.session(MemoryEngine(), redis_url=f"http://:{PASSWORD}@db", sources=sources) as session,
            self.assertRaisesRegex(
                ConfigError, r"^redis_url in \[tool\.itest\] in /shop/pyproject\.toml is no URL of a "
            ),
        ):
            session.lend(Redis())


class ChosenTest(InnerTest):
    """With a service in memory, whose external server always answers."""

    def external(self, **fields: object) -> MemoryService:
        return self.service(external="TEST_URL", **fields)

    def in_session(self, service: MemoryService, url: str = f"memory://:{PASSWORD}@db") -> Session:
        session = self.use(MemoryEngine(), environment={"TEST_URL": url} if url else {})
        self.server = session.lend(service)
        return session

    def test_nothing_is_started_and_nothing_stopped(self) -> None:
        session = self.in_session(self.external())
        self.assertFalse(self.server.instance.owned)
        self.assertEqual(str(self.server.instance), "127.0.0.1:1")
        session.close()
        self.assertEqual(self.events, ["close server"])

    def test_a_variable_that_is_not_set_leaves_the_engine(self) -> None:
        self.in_session(self.external(), url="")
        self.assertEqual(self.events, ["start memory:1"])

    def test_its_password_is_masked_from_then_on(self) -> None:
        with mock.patch.object(naming, "_known_secrets", set()):
            self.in_session(self.external())
            self.assertEqual(naming.mask(f"AUTH {PASSWORD}"), "AUTH ***")

    def test_equal_urls_share_a_server(self) -> None:
        session = self.in_session(self.external())
        self.assertIs(session.lend(self.external(image="memory:2")), self.server)

    def test_an_error_of_ours_is_not_wrapped(self) -> None:
        missing = MissingPackage("memory", "memory", "the service Memory")

        def check(instance: object) -> None:
            raise missing

        with self.assertRaises(MissingPackage) as caught:
            self.in_session(self.external(check_ready=answer("an answer", check, ())))
        self.assertIs(caught.exception, missing)

    def test_a_broken_client_package_is_not_the_servers_fault(self) -> None:
        broken = ModuleNotFoundError("No module named 'memory._speedups'", name="memory._speedups")
        check = answer("an answer", mock.Mock(side_effect=broken), ())
        with self.assertRaises(ModuleNotFoundError) as caught:
            self.in_session(self.external(check_ready=check))
        self.assertIs(caught.exception, broken)

    def test_the_reason_is_one_line(self) -> None:
        def check(instance: object) -> None:
            raise NotReady("two\nlines " * 100)

        self.use(MemoryEngine(), clock=ManualClock(), environment={"TEST_URL": f"memory://:{PASSWORD}@db"})
        with self.assertRaises(ExternalError) as caught:
            self.session.lend(self.external(check_ready=answer("an answer", check, ())))
        self.assertNotIn("\n", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 700)


class EngineTest(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = ExternalEngine()
        spec = ExternalSpec("redis://:geheim@db:6379", {"redis": ("db", 6379), "admin": ("db", 1)}, "TEST_URL")
        self.instance = self.engine.start(spec, {}, Deadline.after(1), Recorder())

    def test_it_is_always_there_and_never_ours(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        self.assertEqual((self.engine.find({"a": "b"}), self.engine.remove({"a": "b"})), ([], 0))
        self.engine.close()

    def test_all_that_is_known_is_the_address(self) -> None:
        self.assertEqual((self.instance.id, str(self.instance)), ("db:6379", "db:6379"))
        self.assertEqual(self.instance.endpoint("admin"), ("db", 1))
        self.assertTrue(self.instance.state().running)
        self.assertEqual(self.instance.logs(tail=5), "")
        self.instance.stop()
        self.assertTrue(self.instance.state().running)

    def test_a_port_it_does_not_have(self) -> None:
        with self.assertRaisesRegex(KeyError, re.escape("no port 'http'; it has 'redis', 'admin'")):
            self.instance.endpoint("http")

    def test_a_command(self) -> None:
        with self.assertRaises(ExternalError) as caught:
            self.instance.exec(["ls"])
        self.assertEqual(str(caught.exception), "no command can be run beside db:6379: it is an external server")

    def test_settings_have_the_url_of_each_service(self) -> None:
        config = Config(redis_url="redis://a", postgres_url="postgresql://b")
        self.assertEqual(getattr(config, Redis.external_setting), "redis://a")
        self.assertEqual(getattr(config, Postgres.external_setting), "postgresql://b")
