# SPDX-License-Identifier: Apache-2.0
"""`strict` on real servers: what a test leaves in them fails it and is ended; what itest itself keeps does not."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg2
import redis
import redis.asyncio

from itest import AsyncContainerTestCase, ContainerTestCase, KafkaMixin, PostgresMixin, RedisMixin, testing
from itest.diagnose import HEAD

LATE = 0.4


class StrictTest(unittest.TestCase):
    def failures(self, *classes: type[unittest.TestCase]) -> dict[str, str]:
        """The last lines of the failures by test, their notes left out; nothing else may go wrong."""
        result = unittest.TestResult()
        load = unittest.TestLoader().loadTestsFromTestCase
        with testing.session(strict=True, quiet=True):
            unittest.TestSuite(map(load, classes)).run(result)
        if result.skipped:
            self.skipTest(result.skipped[0][1])
        self.assertEqual([text for _, text in result.errors], [])
        return {test._testMethodName: text.partition(f"\n{HEAD}")[0].splitlines()[-1] for test, text in result.failures}

    def test_postgres(self) -> None:
        kept = self.enterContext(contextlib.ExitStack())

        class Inner(PostgresMixin, ContainerTestCase):
            def test_idle(self) -> None:
                connection = psycopg2.connect(self.postgres.url, application_name="shop")
                kept.callback(connection.close)

            def test_transaction(self) -> None:
                connection = psycopg2.connect(self.postgres.url)
                kept.callback(connection.close)
                connection.cursor().execute("CREATE TABLE orders ()")

            def test_all_that_itest_closes(self) -> None:
                self.postgres.execute("SELECT 1")
                self.postgres.connect().cursor().execute("SELECT 1")
                self.db.cursor().execute("CREATE TABLE orders ()")
                with self.postgres.session() as session:
                    session.connection()

        found = self.failures(Inner)
        self.assertEqual(set(found), {"test_idle", "test_transaction"})
        self.assertRegex(
            found["test_idle"],
            r"test_idle did not close a database connection, and it was ended: session \d+ of 'shop', idle, "
            r"last statement: \S.*; close it, or connect in setUpClass what lasts for the class",
        )
        self.assertRegex(
            found["test_transaction"], r"left a database session behind, .*in transaction.*CREATE TABLE orders"
        )

    def test_what_was_closed_though_the_server_hears_of_it_late(self) -> None:
        """As behind Docker's proxy on a busy machine."""

        class Inner(PostgresMixin, RedisMixin, ContainerTestCase):
            def test_idle(self) -> None:
                with late(self.postgres.url) as url:
                    psycopg2.connect(url).close()

            def test_transaction(self) -> None:
                with late(self.postgres.url) as url, contextlib.closing(psycopg2.connect(url)) as connection:
                    connection.cursor().execute("CREATE TABLE orders ()")

            def test_redis(self) -> None:
                with late(self.redis.url) as url, redis.Redis.from_url(url) as client:
                    client.get("order")

            def test_subscribed(self) -> None:
                with late(self.redis.url) as url, redis.Redis.from_url(url) as client, client.pubsub() as pubsub:
                    pubsub.subscribe("news")
                    pubsub.get_message(timeout=20)

        self.assertEqual(self.failures(Inner), {})

    def test_a_pool_of_the_class(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            @classmethod
            def setUpClass(cls) -> None:
                import sqlalchemy

                super().setUpClass()
                cls.engine = sqlalchemy.create_engine(cls.postgres.sqlalchemy_url, pool_pre_ping=True)
                cls.addClassCleanup(cls.engine.dispose)
                with cls.engine.begin() as connection:
                    connection.exec_driver_sql("CREATE TABLE orders ()")

            def test_1_connects_again(self) -> None:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("SELECT FROM orders")

            def test_2_grows(self) -> None:
                with self.engine.connect(), self.engine.connect() as connection:
                    connection.exec_driver_sql("SELECT FROM orders")

        self.assertEqual(self.failures(Inner), {})

    def test_a_pool_that_the_class_has_emptied(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            @classmethod
            def setUpClass(cls) -> None:
                import sqlalchemy

                super().setUpClass()
                cls.engine = sqlalchemy.create_engine(cls.postgres.sqlalchemy_url)
                cls.addClassCleanup(cls.engine.dispose)

            def test_1(self) -> None:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("SELECT 1")

            test_2 = test_1

        result = unittest.TestResult()
        with testing.session(strict=True, quiet=True):
            unittest.defaultTestLoader.loadTestsFromTestCase(Inner).run(result)
        if result.skipped:
            self.skipTest(result.skipped[0][1])
        [(_, first)], [(_, second)] = result.failures, result.errors
        told = "close it, or connect in setUpClass what lasts for the class (and no dispose() there)"
        self.assertRegex(first, rf"test_1 did not close a database connection, .*{re.escape(told)}")
        self.assertNotIn("and itest ended it", first)
        self.assertIn(f"\n  test_1 did not close a database connection, and itest ended it: {told}\n", second)

    def test_coroutines(self) -> None:
        class Inner(PostgresMixin, AsyncContainerTestCase):
            async def test_task(self) -> None:
                self.task = asyncio.create_task(asyncio.sleep(30), name="worker")

            async def test_all_that_itest_closes(self) -> None:
                connection = await self.postgres.aconnect()
                await connection.fetch("SELECT 1")

        found = self.failures(Inner)
        self.assertEqual(set(found), {"test_task"})
        self.assertIn("left an asyncio task behind, which was cancelled: 'worker', sleep()", found["test_task"])

    def test_redis(self) -> None:
        kept = self.enterContext(contextlib.ExitStack())

        class Inner(RedisMixin, ContainerTestCase):
            def client(self) -> Any:
                client = redis.Redis.from_url(self.redis.url)
                kept.callback(client.close)
                return client

            def test_idle(self) -> None:
                self.client().get("order")

            def test_subscribed(self) -> None:
                pubsub = self.client().pubsub()
                kept.callback(pubsub.close)
                pubsub.subscribe("news")
                pubsub.get_message(timeout=20)  # Redis has heard of it.

            def test_all_that_itest_closes(self) -> None:
                self.cache.set("order", 1)
                self.redis.client().get("order")

        found = self.failures(Inner)
        self.assertEqual(set(found), {"test_idle", "test_subscribed"})
        self.assertRegex(
            found["test_idle"], r"did not close a Redis client, and it was ended: client \d+, last command: get"
        )
        self.assertIn("it was subscribed, last command: subscribe", found["test_subscribed"])

    def test_clients_of_a_class_with_an_event_loop_of_its_own_may_connect_in_a_test(self) -> None:
        class Inner(PostgresMixin, RedisMixin, AsyncContainerTestCase):
            loop_scope = "class"
            pool: Any
            client: Any

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                cls.pool = await asyncpg.create_pool(cls.postgres.url, min_size=0)
                cls.client = redis.asyncio.Redis.from_url(cls.redis.url)

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                await cls.pool.close()
                await cls.client.aclose()

            async def test_1(self) -> None:
                await self.pool.execute("SELECT 1")
                await self.client.set("order", 1)

            test_2 = test_1

            async def test_task(self) -> None:
                self.task = asyncio.create_task(asyncio.sleep(3600))

        self.assertEqual(set(self.failures(Inner)), {"test_task"})

    def test_kafka(self) -> None:
        kept = self.enterContext(contextlib.ExitStack())

        class Inner(KafkaMixin, ContainerTestCase):
            def test_consumer(self) -> None:
                import kafka  # Here, where itest has seen to it that importing it warns of nothing.

                self.queue.send("orders", b"book")
                consumer = kafka.KafkaConsumer(
                    self.kafka.topic("orders"),
                    bootstrap_servers=self.kafka.bootstrap_servers,
                    group_id=self.kafka.group("shop"),
                    auto_offset_reset="earliest",
                )
                kept.callback(consumer.close, autocommit=False, timeout_ms=1000)
                consumer.poll(timeout_ms=10_000)

            def test_transaction(self) -> None:
                import kafka

                producer = kafka.KafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers, transactional_id="shop")
                kept.callback(producer.close, 1)
                producer.init_transactions()
                producer.begin_transaction()
                producer.send(self.kafka.topic("orders"), b"book").get(10)

            def test_all_that_itest_closes(self) -> None:
                self.queue.send("orders", b"book")
                producer = self.kafka.producer(transactional_id="billing")
                producer.init_transactions()
                producer.begin_transaction()
                producer.send(self.kafka.topic("orders"), b"book").get(10)
                self.kafka.consumer("orders", group_id="shop").poll(timeout_ms=10_000)

        found = self.failures(Inner)
        self.assertEqual(set(found), {"test_consumer", "test_transaction"})
        self.assertIn("left the transaction 'shop' open, and it was aborted", found["test_transaction"])
        self.assertIn("left 1 consumer behind in the group 'shop', put out of it", found["test_consumer"])


@contextlib.contextmanager
def late(url: str) -> Iterator[str]:
    """The URL of a proxy for one connection, which passes on that it was closed when `LATE` seconds are over."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=pass_on, args=(listener, (parts.hostname, parts.port)), daemon=True).start()
        user = parts.netloc.rpartition("@")[0]
        yield parts._replace(netloc=f"{user}@127.0.0.1:{listener.getsockname()[1]}").geturl()


def pass_on(listener: socket.socket, to: Any) -> None:
    client, _ = listener.accept()
    with client, socket.create_connection(to) as server:
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        copy(client, server)
        time.sleep(LATE)
        server.shutdown(socket.SHUT_RDWR)


def copy(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):  # The other side has closed it.
        while data := source.recv(65536):
            to.sendall(data)
