# SPDX-License-Identifier: Apache-2.0
"""Tests that fail in ten ways. What their users see is in tests/golden."""

import os
from urllib.parse import urlsplit

from itest import ContainerTestCase, KafkaMixin, PostgresMixin, Redis, RedisMixin


def remember(*urls):
    """For the test that looks for passwords in all that was written."""
    with open(os.environ["ITEST_TEST_SECRETS"], "a") as file:
        file.writelines(f"{urlsplit(url).password}\n" for url in urls)


class ShopTest(PostgresMixin, RedisMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE TABLE items (name text PRIMARY KEY, stock int CHECK (stock >= 0))")
        cls.postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text REFERENCES items)")
        cls.postgres.execute("INSERT INTO items VALUES ('book', 3), ('pen', 1)")
        cls.redis.cache.set("shop:open", "yes")
        remember(cls.postgres.url, cls.redis.url)

    def tearDown(self):
        if self.id().endswith("in_tear_down"):
            self.postgres.execute("DELETE FROM items")
        self.db.rollback()

    def order(self, item):
        with self.db.cursor() as cursor:
            cursor.execute("UPDATE items SET stock = stock - 1 WHERE name = %s", (item,))
            cursor.execute("INSERT INTO orders (item) VALUES (%s)", (item,))

    def test_01_an_assertion(self):
        self.order("book")
        self.db.commit()
        self.cache.set("last-order", "book")
        self.cache.delete("shop:open")
        self.cache.rpush("queue", "book", "pen")
        self.assertRowCount("orders", 2)

    def test_02_a_commit_that_was_forgotten(self):
        self.order("book")
        self.assertEqual(self.postgres.execute("SELECT item FROM orders"), [("book",)])

    def test_03_wrong_sql(self):
        self.postgres.execute("SELECT nmae FROM items")

    def test_04_a_constraint(self):
        self.order("pen")
        self.order("pen")

    def test_05_a_lock(self):
        self.order("book")
        other = self.postgres.connect(options="-c statement_timeout=200", application_name="reports")
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE items IN SHARE MODE")

    def test_06_subtests(self):
        for item in ("book", "pen", "ink"):
            with self.subTest(item=item):
                self.order(item)
                self.db.commit()

    def test_07_in_tear_down(self):
        self.order("book")
        self.db.commit()


class QueueTest(KafkaMixin, ContainerTestCase):
    def test_08_a_message_that_does_not_come(self):
        self.queue.send("orders", b"book")
        consumer = self.kafka.consumer("orders", group_id="shop")
        consumer.poll(timeout_ms=10_000)
        consumer.commit()
        self.queue.send("orders", b"pen")
        self.queue.receive("payments", count=1, timeout=0.2)


class DyingTest(ContainerTestCase):
    redis = Redis(scope="class")

    @classmethod
    def setUpTestData(cls):
        while "Ready to accept" not in cls.redis.logs():  # Docker may be some milliseconds behind.
            pass

    def test_09_a_server_that_ends(self):
        self.redis.cache.set("last-order", "book")
        self.redis.client().shutdown(nosave=True)
        self.assertEventually(lambda: not self.redis.server.lives())
        self.redis.cache.get("last-order")

    def test_09_and_the_test_after_it(self):
        """Never run."""

    def test_09_and_another_one(self):
        """Never run."""


class WrongDataTest(PostgresMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("INSERT INTO nowhere VALUES (1)")

    def test_10_never_run(self):
        """Never run."""
