# SPDX-License-Identifier: Apache-2.0
"""Servers that run and have stopped answering: the test that asks fails in bounded time, and the next class gets another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import traceback
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from itest import Kafka, Postgres, Redis, silence, testing
from itest.errors import ItestError, ResetError, Unavailable
from itest.service import Server
from itest.services.kafka import clients, round_trip
from itest.services.postgres import administered
from itest.services.redis import clients as redis_clients


class SilenceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.session = self.enterContext(testing.session(quiet=True, startup_timeout=30.0))

    def lend(self, service: Any) -> Server[Any]:
        try:
            server: Server[Any] = self.session.lend(service)
        except Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None
        return server

    def freeze(self, server: Server[Any]) -> None:
        instance: Any = server.instance
        if hasattr(instance, "place"):
            found = subprocess.run(
                ["pgrep", "-P", str(instance._child.pid)], capture_output=True, text=True, check=False
            )
            for pid in [instance._child.pid, *map(int, found.stdout.split())]:
                os.kill(pid, signal.SIGSTOP)
        else:
            instance._client.pause(instance.id)
            self.assertIn("paused", instance.usage())

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """Nobody is, before the server stands still: on a busy machine it may take its time."""
        with (
            mock.patch.object(silence, "PATIENCE", 0.3),
            mock.patch.object(silence, "TICK", 0.05),
            mock.patch.object(administered, "PROBE_TIMEOUT", 2),  # Less is 2 s too, to libpq.
            mock.patch.dict(round_trip.ask.__kwdefaults__, seconds=0.5),
            mock.patch.object(clients, "ANSWER_TIMEOUT", 0.5),
        ):
            yield

    def check(self, service: Any, hasten: Callable[[Any], object] = lambda lease: None) -> None:
        server = self.lend(service)
        lease = server.lease(service, "tests.Silence")
        lease.seal()
        lease.reset("tests.Silence.test_1").close()
        self.freeze(server)
        hasten(lease)
        with self.impatient():
            for test in ("test_2", "test_3"):
                with self.assertRaisesRegex(
                    ResetError, r"though it runs: did a test pause it, .* The next class gets a new one$"
                ) as caught:
                    lease.reset(f"tests.Silence.{test}")
                self.assertNotIn("NeedsClone", "".join(traceback.format_exception(caught.exception)))
            lease.close()
        another = self.lend(service)
        self.assertIsNot(another, server)
        lease = another.lease(service, "tests.Silence")
        lease.seal()
        lease.reset("tests.Silence.test_1").close()
        lease.close()

    def test_postgres(self) -> None:
        self.check(Postgres())

    def test_redis(self) -> None:
        def hasten(lease: Any) -> None:
            """The ten seconds of all of itest's clients would be waited for."""
            connection = lease._admin.connection
            connection.socket_timeout = 0.5
            connection._sock.settimeout(0.5)

        self.check(Redis(), hasten)

    def test_redis_since_the_last_test_of_a_class_or_between_classes(self) -> None:
        with mock.patch.object(redis_clients, "SOCKET_TIMEOUT", 0.5):
            server = self.lend(Redis())
            lease = server.lease(Redis(), "tests.Silence")
            lease.seal()
            lease.reset("tests.Silence.test_last").close()
            self.freeze(server)
            lease.close()
            other = self.lend(Redis())
            self.assertIsNot(other, server)
            self.freeze(other)
            with self.assertRaisesRegex(
                ResetError, r"^(Redis|Valkey) .* though it runs: .* The next class gets a new one$"
            ):
                other.lease(Redis(), "tests.Silence")
            self.assertIsNot(self.lend(Redis()), other)

    def test_kafka(self) -> None:
        self.check(Kafka())

    def test_kafka_that_is_late_is_not_given_up(self) -> None:
        server: Any = self.lend(Kafka())
        late = clients.errors().KafkaTimeoutError("late")
        with (
            self.assertRaisesRegex(ItestError, "^asking on Kafka at .* failed: KafkaTimeoutError"),
            server.doing("asking"),
        ):
            raise late
        self.assertEqual(server.silent, "")
        self.assertEqual(server.topics.all(), {})

    def test_an_external_one_is_the_next_classs_too(self) -> None:
        own: Any = self.lend(Postgres())
        with testing.session(quiet=True, postgres_url=own.address) as session:
            server: Any = session.lend(Postgres())
            server._hang_up(15.0)
            self.assertRegex(server.silent, r"^PostgreSQL .* has not answered for 15 s, .* class connects to it anew$")

    def test_a_statement_may_take_as_long_as_it_likes(self) -> None:
        server: Any = self.lend(Postgres())
        with self.impatient():
            self.assertEqual(server.admin("SELECT 1 FROM pg_sleep(1.5)"), [(1,)])
        self.assertEqual(server.silent, "")
