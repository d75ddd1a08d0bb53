# SPDX-License-Identifier: Apache-2.0
"""The asyncio clients of each service against real servers, in loops of both scopes."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import unittest
import warnings
from typing import Any
from unittest import mock

from itest import (
    AsyncContainerTestCase,
    ContainerTestCase,
    Kafka,
    KafkaMixin,
    Postgres,
    PostgresMixin,
    Redis,
    RedisMixin,
    async_clients,
)
from itest.errors import IsolationError, LoopError, MissingPackage


def migrate(view: Any) -> None:
    view.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")


class PostgresTest(PostgresMixin, AsyncContainerTestCase):
    """Each of the first two finds nothing of what the other did."""

    postgres = Postgres(migrations=migrate)

    async def test_1_connections_side_by_side_commit_and_are_reset(self) -> None:
        self.assertRowCount("orders", 0)
        connections = await asyncio.gather(*(self.postgres.aconnect() for _ in range(5)))
        await asyncio.gather(
            *(
                connection.execute("INSERT INTO orders (item) VALUES ($1)", f"book {number}")
                for number, connection in enumerate(connections)
            )
        )
        self.assertRowCount("orders", 5)
        self.assertEqual(await connections[0].fetchval("SELECT max(id) FROM orders"), 5)

    async def test_2_again(self) -> None:
        await self.test_1_connections_side_by_side_commit_and_are_reset()

    async def test_one_that_holds_a_lock_is_closed(self) -> None:
        connection = await self.postgres.aconnect(server_settings={"work_mem": "1MB"})
        self.assertEqual(await connection.fetchval("SHOW work_mem"), "1MB")
        await connection.execute("BEGIN; INSERT INTO orders (item) VALUES ('book'); LOCK TABLE orders")

    async def test_its_session_says_whose_it_is(self) -> None:
        connection = await self.postgres.aconnect()
        name = await connection.fetchval("SELECT current_setting('application_name')")
        self.assertIn("test_its_session_says_whose_it_is", name)
        async with self.postgres.aengine.connect() as proxy:
            raw = (await proxy.get_raw_connection()).driver_connection
            assert raw is not None
            self.assertEqual(await raw.fetchval("SELECT current_setting('application_name')"), name)

    async def test_the_engine_of_sqlalchemy(self) -> None:
        from sqlalchemy import text

        async def insert(number: int) -> None:
            async with self.postgres.aengine.begin() as connection:
                await connection.execute(text("INSERT INTO orders (item) VALUES (:item)"), {"item": str(number)})

        await asyncio.gather(*map(insert, range(5)))
        self.assertRowCount("orders", 5)
        left = await self.postgres.aengine.connect()  # Never closed.
        await left.execute(text("INSERT INTO orders (item) VALUES ('uncommitted')"))
        self.left = left

    async def test_a_session_of_sqlalchemy(self) -> None:
        from sqlalchemy import Column, Integer, Text
        from sqlalchemy.orm import declarative_base

        class Order(declarative_base()):  # type: ignore[misc]
            __tablename__ = "orders"
            id = Column(Integer, primary_key=True)
            item = Column(Text)

        session = self.postgres.asession()
        order = Order(item="book")
        session.add(order)
        await session.commit()
        self.assertEqual((order.id, order.item), (1, "book"))
        async with self.postgres.asession(expire_on_commit=True) as other:
            found = await other.get(Order, 1)
            assert found is not None
            self.assertEqual(found.item, "book")

    async def test_wrong_arguments_are_the_drivers_to_refuse(self) -> None:
        with self.assertRaisesRegex(TypeError, "nonsense"):
            await self.postgres.aconnect(nonsense=True)

    def test_no_session_is_left_of_any_of_these(self) -> None:
        labels = [name for (name,) in self.postgres.execute("SELECT application_name FROM pg_stat_activity")]
        self.assertEqual([name for name in labels if "PostgresTest.test_" in name and "no_session" not in name], [])


class SchemaTest(PostgresMixin, AsyncContainerTestCase):
    postgres = Postgres(migrations=migrate, isolation="schema")

    async def test_all_clients_are_in_the_schema(self) -> None:
        from sqlalchemy import text

        connection = await self.postgres.aconnect()
        name = await connection.fetchval("SELECT current_schema()")
        self.assertRegex(name, "^itest_")
        self.assertEqual(await self.postgres.asession().scalar(text("SELECT current_schema()")), name)


class RollbackTest(PostgresMixin, AsyncContainerTestCase):
    postgres = Postgres(migrations=migrate, isolation="rollback")

    async def test_clients_of_asyncio_are_refused_with_advice(self) -> None:
        for verb, ask in (
            ("aconnect()", self.postgres.aconnect),
            ("asession()", self.postgres.asession),
            ("aengine", lambda: self.postgres.aengine),
        ):
            with self.assertRaises(IsolationError) as caught:
                ask()
            self.assertEqual(
                str(caught.exception),
                f"{verb} opens a connection of its own, which would not see what this test has done: isolation='rollback' "
                f"covers psycopg2 and SQLAlchemy on psycopg2. Use isolation='database', where commits are real",
            )


class RedisTest(RedisMixin, AsyncContainerTestCase):
    texts = Redis(decode_responses=True)

    async def test_1_clients_side_by_side_are_reset(self) -> None:
        clients = [self.redis.aclient() for _ in range(5)]
        self.assertEqual(await clients[0].keys(), [])
        await asyncio.gather(*(client.set(f"visit-{number}", "yes") for number, client in enumerate(clients)))
        self.assertEqual(len(self.cache.keys()), 5)
        self.assertEqual(await clients[0].get("visit-1"), b"yes")

    async def test_2_again(self) -> None:
        await self.test_1_clients_side_by_side_are_reset()

    async def test_options(self) -> None:
        client = self.texts.aclient()
        await client.set("text", "ä")
        self.assertEqual(await client.get("text"), "ä")
        self.assertEqual(await self.texts.aclient(decode_responses=False).get("text"), "ä".encode())

    async def test_a_subscription_is_closed_with_its_client(self) -> None:
        channel = self.redis.aclient().pubsub()
        await channel.subscribe("news")
        await self.redis.aclient(client_name="itest-async").publish("news", "new")
        while (message := await channel.get_message(timeout=20)) and message["type"] != "message":
            pass
        assert message is not None
        self.assertEqual(message["data"], b"new")

    def test_nothing_stays_connected(self) -> None:
        self.assertEqual([one for one in self.cache.client_list() if one["name"] == "itest-async"], [])


class KafkaTest(KafkaMixin, AsyncContainerTestCase):
    kafka = Kafka(codec="text")

    async def test_1_produce_and_consume_by_the_names_of_the_test(self) -> None:
        consumer = await self.kafka.aconsumer("orders", group_id="billing")
        self.assertEqual(consumer.subscription(), {self.kafka.topic("orders")})
        producer = await self.kafka.aproducer()
        await asyncio.gather(
            *(producer.send_and_wait(self.kafka.topic("orders"), f"book {n}".encode()) for n in range(5))
        )
        found = [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(5)]
        self.assertEqual(sorted(found), [f"book {n}".encode() for n in range(5)])
        self.assertEqual(len(self.queue.receive("orders", count=5)), 5)

    async def test_2_again(self) -> None:
        await self.test_1_produce_and_consume_by_the_names_of_the_test()

    async def test_3_a_transaction_that_is_left_open(self) -> None:
        producer = await self.kafka.aproducer(transactional_id="billing")
        await producer.begin_transaction()
        await producer.send_and_wait(self.kafka.topic("orders"), b"open")

    async def test_4_is_aborted_with_its_producer(self) -> None:
        # The abort is answered before it is complete.
        state = self.kafka.admin.describe_transactions(["billing"])["billing"].state
        self.assertIn(state, ("PrepareAbort", "CompleteAbort"))

    async def test_what_a_sync_client_sent_and_a_consumer_without_a_group(self) -> None:
        self.queue.send("orders", "book")
        async with self.kafka.aconsumer("orders") as consumer:
            self.assertEqual((await asyncio.wait_for(consumer.getone(), 20)).value, b"book")

    async def test_a_producer_that_was_stopped_says_so(self) -> None:
        async with self.kafka.aproducer() as producer:
            await producer.send_and_wait(self.kafka.topic("orders"), b"book")
        for call in (producer.send, producer.send_and_wait, producer.begin_transaction):
            with self.assertRaisesRegex(
                LoopError, r"^this producer of aproducer\(\) was stopped .* make one in each test"
            ):
                await asyncio.wait_for(call(self.kafka.topic("orders"), b"more"), 20)

    async def test_one_that_cannot_start_leaves_nothing(self) -> None:
        from aiokafka.errors import KafkaConnectionError

        with self.assertRaises(KafkaConnectionError):
            await self.kafka.aproducer(bootstrap_servers="127.0.0.1:1")


class LoopOfTheClassTest(PostgresMixin, RedisMixin, AsyncContainerTestCase):
    """A pool of the class's own, made once, on data that is reset underneath it."""

    postgres = Postgres(migrations=migrate)
    loop_scope = "class"

    pool: Any
    cache_of_class: Any

    @classmethod
    async def asyncSetUpClass(cls) -> None:
        import asyncpg

        cls.cache_of_class = cls.redis.aclient()
        await cls.cache_of_class.set("user", "ann")
        connection = await cls.postgres.aconnect()
        await connection.execute("INSERT INTO orders (item) VALUES ('of the class')")
        cls.pool = await asyncpg.create_pool(cls.postgres.url, min_size=1)

    @classmethod
    async def asyncTearDownClass(cls) -> None:
        await cls.pool.close()

    async def test_1_the_baseline_is_there(self) -> None:
        self.assertEqual(await self.pool.fetchval("SELECT array_agg(item) FROM orders"), ["of the class"])
        await self.pool.execute("INSERT INTO orders (item) VALUES ('of the test')")
        self.assertEqual(await self.redis.aclient().get("user"), b"ann")
        await self.redis.aclient().delete("user")

    async def test_2_again(self) -> None:
        await self.test_1_the_baseline_is_there()


class ProducerOfTheClassTest(KafkaMixin, AsyncContainerTestCase):
    """A client of the class's own, which begins to read from a broker when a test first uses it."""

    loop_scope = "class"

    producer: Any

    @classmethod
    async def asyncSetUpClass(cls) -> None:
        import aiokafka

        cls.producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cls.kafka.bootstrap_servers)
        await cls.producer.start()

    @classmethod
    async def asyncTearDownClass(cls) -> None:
        await cls.producer.stop()

    async def test_1_it_sends(self) -> None:
        await asyncio.wait_for(self.producer.send_and_wait(self.kafka.topic("orders"), b"book"), 20)
        self.assertProduced("orders", value=b"book")

    async def test_2_again(self) -> None:
        await self.test_1_it_sends()


class RunAsyncTest(PostgresMixin, AsyncContainerTestCase):
    postgres = Postgres(migrations=migrate)

    @classmethod
    def setUpTestData(cls) -> None:
        cls.runAsync(cls.fill())

    @classmethod
    async def fill(cls) -> None:
        connection = await cls.postgres.aconnect()
        await connection.executemany("INSERT INTO orders (item) VALUES ($1)", [("a",), ("b",)])

    async def test_the_baseline_is_there(self) -> None:
        self.assertRowCount("orders", 2)


class PlainTest(PostgresMixin, RedisMixin, ContainerTestCase):
    def test_without_a_loop_an_error_says_what_to_do(self) -> None:
        for verb, ask in (
            ("PostgresView.aconnect", self.postgres.aconnect),
            ("PostgresView.asession", self.postgres.asession),
            ("RedisView.aclient", self.redis.aclient),
        ):
            with self.assertRaisesRegex(
                LoopError, rf"^{verb}\(\) was called where no event loop is running: call it in an"
            ):
                ask()

    def test_in_asyncio_run_clients_are_closed_with_its_loop(self) -> None:
        async def work() -> Any:
            connection = await self.postgres.aconnect()
            self.assertEqual(await connection.fetchval("SELECT 1"), 1)
            return connection

        self.assertTrue(asyncio.run(work()).is_closed())

    def test_in_a_loop_on_a_thread(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def end() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

        self.addCleanup(end)

        async def work() -> Any:
            return await self.postgres.aconnect()

        connection = asyncio.run_coroutine_threadsafe(work(), loop).result(10)
        self.postgres.close()
        self.assertTrue(connection.is_closed())


class MissingPackageTest(PostgresMixin, KafkaMixin, AsyncContainerTestCase):
    async def test_the_extra_that_brings_it(self) -> None:
        for package, extra, ask in (
            ("asyncpg", "asyncpg", self.postgres.aconnect),
            ("asyncpg", "asyncpg", lambda: self.postgres.aengine),
            ("greenlet", "sqlalchemy", lambda: self.postgres.aengine),
            ("sqlalchemy.ext.asyncio", "sqlalchemy", self.postgres.asession),
            ("aiokafka", "aiokafka", self.kafka.aproducer),
            ("aiokafka", "aiokafka", lambda: self.kafka.aconsumer("orders")),
        ):
            with mock.patch.dict("sys.modules", {package: None}), self.assertRaises(MissingPackage) as caught:
                ask()
            self.assertTrue(
                str(caught.exception).endswith(f"pip install 'itest-containers[{extra}]'"), caught.exception
            )


class EndedLoopTest(unittest.TestCase):
    def test_a_pool_of_a_loop_that_has_ended_is_an_error_that_says_so(self) -> None:
        class T(PostgresMixin, AsyncContainerTestCase):
            pool: Any

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.pool = asyncio.run(cls.make())

            @classmethod
            async def make(cls) -> Any:
                import asyncpg

                return await asyncpg.create_pool(cls.postgres.url, min_size=0)

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(T)(result)
        [(_, text)] = result.errors
        self.assertRegex(
            text, r"LoopError: .*T\.pool is a Pool \(asyncpg\) of an event loop that has ended: clients belong to"
        )


class LeftTaskTest(unittest.TestCase):
    def test_one_that_uses_a_client_is_ended_and_named_and_the_client_is_closed(self) -> None:
        class T(PostgresMixin, KafkaMixin, AsyncContainerTestCase):
            postgres = Postgres(migrations=migrate)

            async def test_1(self) -> None:
                await self.kafka.aproducer()  # It has tasks of its own.
                connection = await self.postgres.aconnect()
                self.task = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
                while not self.postgres.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"):
                    await asyncio.sleep(0.001)

            def test_2(self) -> None:
                query = "SELECT query FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
                self.assertEqual(self.postgres.execute(query), [])

        result = unittest.TestResult()
        gc.collect()  # What earlier tests have left to be collected may warn, too.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            unittest.defaultTestLoader.loadTestsFromTestCase(T)(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (2, [], []))
        [warning] = caught
        self.assertRegex(
            str(warning.message), r"T\.test_1 left an asyncio task behind, .*Connection\.execute\(\), made at "
        )


class DeadServerTest(PostgresMixin, RedisMixin, AsyncContainerTestCase):
    postgres = Postgres(scope="test")
    redis = Redis(scope="test")

    async def test_clients_of_servers_that_are_gone_close_soon(self) -> None:
        await self.postgres.aconnect()
        await self.redis.aclient().ping()
        self.postgres.server.instance.stop()
        self.redis.server.instance.stop()
        started = time.monotonic()
        await async_clients.close_all()
        self.assertLess(time.monotonic() - started, 2 * async_clients.CLOSE_TIMEOUT)


if __name__ == "__main__":
    unittest.main()
