# SPDX-License-Identifier: Apache-2.0
"""The ways around Docker's proxy: taken only where they lead to the very server, and never shown to users."""

from __future__ import annotations

import contextlib
import socket
import time
import unittest
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import redis

from itest import Postgres, Redis, testing
from itest.clock import Deadline
from itest.container_root import root_of
from itest.engines import Endpoint, container_of, docker_listening
from itest.engines import docker_instance as module
from itest.engines.docker_instance import DockerInstance
from itest.engines.ports import free_port, is_ours
from itest.errors import Unavailable
from itest.service import Service
from itest.services.postgres.outside import Outside
from itest.services.postgres.server import PostgresServer
from itest.services.redis import RedisServer
from itest.services.redis.clients import Kept
from itest.session import Session
from itest.wait import answer, until_ready

session: Session
_closing = contextlib.ExitStack()


def setUpModule() -> None:
    global session
    session = _closing.enter_context(testing.session())
    try:
        direct = session.lend(Redis()).instance.direct_endpoint()
    except Unavailable as error:
        _closing.close()
        raise unittest.SkipTest(str(error)) from error
    if direct is None:
        _closing.close()
        raise unittest.SkipTest("no containers here, or none whose network is this machine's own")


def tearDownModule() -> None:
    _closing.close()


class DirectTest(unittest.TestCase):
    def connected(self, service: Service, direct: Endpoint | None) -> PostgresServer | RedisServer:
        """Another server object for the running server, whose instance says that this is the way to it, and no other."""
        server = session.lend(service)
        with (
            mock.patch.object(DockerInstance, "direct_endpoint", return_value=direct),
            mock.patch.object(DockerInstance, "root", return_value=None),
        ):
            other = service.connect(server.instance, server.address)
        self.addCleanup(other.close)
        return other

    def test_connections_of_our_own_go_that_way_and_users_are_told_the_published_one(self) -> None:
        for service in (Postgres(), Redis()):
            with self.subTest(service.kind):
                direct = session.lend(service).instance.direct_endpoint()
                server = self.connected(service, direct)
                name: str | int = "itest" if isinstance(server, PostgresServer) else 3
                self.assertEqual(urlsplit(server.nearest_url_of(name)).netloc.rpartition("@")[2], str(direct))
                self.assertEqual(urlsplit(server.url_of(name)).hostname, "127.0.0.1")

    def test_what_does_not_answer_is_not_taken(self) -> None:
        for service, kind in ((Postgres(), PostgresServer), (Redis(), RedisServer)):
            with self.subTest(service.kind):
                server = self.connected(service, Endpoint("127.0.0.1", free_port()))
                self.assertIsInstance(server, kind)
                self.assertEqual(server._nearest, server.address)
                self.assertRegex(server.version, r"\d")

    def test_what_a_test_is_kept_from_is_not_taken(self) -> None:
        """As pytest-socket does it with --allow-hosts=127.0.0.1 --allow-unix-socket."""
        connect = socket.socket.connect

        def guarded(self: socket.socket, address: Any) -> None:
            if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
                self.close()
                raise RuntimeError(f"a test tried to use socket.socket.connect() with the host {address[0]!r}")
            connect(self, address)

        for service in (Postgres(), Redis()):
            with self.subTest(service.kind):
                direct = session.lend(service).instance.direct_endpoint()
                assert direct is not None
                with mock.patch.object(socket.socket, "connect", guarded):
                    server = self.connected(service, direct)
                    self.assertRegex(server.version, r"\d")
                    self.assertIsNone(docker_listening._answers(direct))
                self.assertTrue(docker_listening._answers(direct))

    def test_another_server_at_that_address_is_not_taken(self) -> None:
        """It has another password."""
        for service in (Postgres(), Redis()):
            with self.subTest(service.kind), testing.session() as elsewhere:
                stranger = elsewhere.lend(service).instance.direct_endpoint()
                self.assertIsNotNone(stranger)
                server = self.connected(service, stranger)
                self.assertEqual(server._nearest, server.address)

    def test_a_postgres_that_lets_anybody_in_is_not_taken(self) -> None:
        trusting = Postgres(env={"POSTGRES_HOST_AUTH_METHOD": "trust"})
        with testing.session() as elsewhere:
            stranger = elsewhere.lend(trusting).instance.direct_endpoint()
            server = self.connected(Postgres(), stranger)
            self.assertEqual(server._nearest, server.address)
            server = self.connected(Postgres(), session.lend(Postgres()).instance.direct_endpoint())
            assert isinstance(server, PostgresServer)
            server._nearest = server._nearest.replace(
                urlsplit(server._nearest).netloc.rpartition("@")[2], str(stranger)
            )
            with self.assertRaisesRegex(server.driver.OperationalError, "authentication"):
                server.connection("postgres", "one that came later")

    def test_a_redis_that_takes_the_same_password_is_not_taken(self) -> None:
        """It has none, and by HELLO it takes any; or it is this run's as well."""
        stranger = session.lend(Redis(), "another")
        assert isinstance(stranger, RedisServer)
        self.addCleanup(session.take_back, stranger)
        for nopass in (False, True):
            with self.subTest(nopass=nopass):
                if nopass:
                    stranger._admin.execute_command("ACL", "SETUSER", "default", "nopass")
                server = self.connected(Redis(), stranger.instance.direct_endpoint())
                self.assertEqual(server._nearest, server.address)

    def test_a_redis_that_got_the_address_later_is_not_written_to(self) -> None:
        stranger = session.lend(Redis(), "another")
        assert isinstance(stranger, RedisServer)
        self.addCleanup(session.take_back, stranger)
        server = self.connected(Redis(), session.lend(Redis()).instance.direct_endpoint())
        assert isinstance(server, RedisServer)
        there = Kept(server, stranger.nearest_url_of(1), decode_responses=True)
        self.addCleanup(there.close)
        self.assertTrue(server.lives())
        with self.assertRaisesRegex(redis.ConnectionError, "is not at .* any more, where another one answers"):
            there.client().set("from a test", 1)
        self.assertFalse(server.lives())
        with stranger.connect_to(1) as client:
            self.assertEqual(client.keys(), [])

    def test_a_network_of_another_machine_is_not_tried(self) -> None:
        instance = session.lend(Redis()).instance
        self.assertIsNotNone(instance.direct_endpoint())
        with mock.patch.object(module, "is_ours", return_value=False):
            self.assertIsNone(instance.direct_endpoint())
        self.assertTrue(is_ours("127.0.0.1"))
        for address in ("", "192.0.2.1", "nonsense"):
            self.assertFalse(is_ours(address), address)

    def test_who_may_look_into_the_container_uses_the_socket_in_it(self) -> None:
        server = session.lend(Postgres())
        assert isinstance(server, PostgresServer)
        if (root := server.instance.root()) is None:
            self.skipTest("this user may not look into Docker's containers")
        lease = server.lease(Postgres(), "tests.Some")
        self.addCleanup(lease.close)
        lease.seal()
        view = lease.reset("tests.Some.test_one")
        self.addCleanup(view.close)
        self.assertEqual(view.connection.info.host, str(root / "run" / "postgresql"))
        self.assertEqual((urlsplit(view.url).hostname, view.host), ("127.0.0.1", "127.0.0.1"))
        self.assertEqual(view.connect().info.host, view.connection.info.host)
        self.assertEqual(view.connect(sslmode="disable").info.host, "127.0.0.1")
        self.assertIsNotNone(server.part(Outside).look())

    def test_a_redis_is_reset_by_the_socket_in_its_container_also_after_a_restart(self) -> None:
        service = Redis(scope="class")
        server = session.lend(service, "restarted")
        self.addCleanup(session.take_back, server)
        if server.instance.root() is None:
            self.skipTest("this user may not look into Docker's containers")
        lease = server.lease(service, "C")
        self.addCleanup(lease.close)
        lease.seal()
        addresses = {client["addr"] for client in lease.reset("C.test").cache.client_list()}
        self.assertIn("/data/itest.sock:0", addresses, "the reset's connection")
        self.assertEqual(len(addresses), 3, "the session's own, and the test's, have addresses")
        container = container_of(server.instance, "restart")
        container.halt(0)
        container.go_on()
        up = answer("a reset", lambda _: lease.reset("C.test"), (redis.ConnectionError,))
        until_ready(up, server.instance, Deadline.after(30), subject="Redis")

    def test_without_its_socket_a_redis_is_reset_by_its_address(self) -> None:
        service = Redis(settings={"unixsocket": ""})
        server = session.lend(service)
        lease = server.lease(service, "C")
        self.addCleanup(lease.close)
        lease.seal()
        view = lease.reset("C.test")
        view.cache.set("left", 1)
        self.assertEqual(lease.reset("C.test_two").cache.dbsize(), 0)
        self.assertFalse([each for each in view.cache.client_list() if each["addr"].startswith("/")])

    def test_a_process_of_another_container_is_not_looked_into(self) -> None:
        """Its number may have been this one's, before a restart of the container or on another machine."""
        instance, other = (session.lend(service).instance for service in (Postgres(), Redis()))
        if (root := other.root()) is None:
            self.skipTest("this user may not look into Docker's containers")
        self.assertIsNone(root_of(instance.id, int(root.parent.name)))
        self.assertEqual(root_of(other.id, int(root.parent.name)), root)

    def test_a_container_that_is_gone_delays_nothing(self) -> None:
        """Its address refuses nobody: whoever connected there would wait for seconds, each time."""
        for service in (Postgres(scope="class"), Redis(scope="class")):
            with self.subTest(service.kind):
                taken: list[float] = []
                # The whole machine may stand still for a moment.
                while not taken or (taken[-1] >= 1.0 and len(taken) < 3):
                    taken.append(self.end_of_one_that_is_gone(service))
                self.assertLess(taken[-1], 1.0, taken)

    def end_of_one_that_is_gone(self, service: Service) -> float:
        """The seconds that it takes."""
        server = session.lend(service, "gone")
        lease = server.lease(service, "C")
        lease.seal()
        lease.reset("C.test")
        server.instance.stop()
        begun = time.monotonic()
        lease.close()
        session.take_back(server)
        return time.monotonic() - begun
