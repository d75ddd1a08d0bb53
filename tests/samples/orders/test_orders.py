# SPDX-License-Identifier: Apache-2.0
"""The first suite of the README, and two more tests that must not see anything of the first, in whatever order."""

from itest import ContainerTestCase, KafkaMixin, Postgres, PostgresMixin, RedisMixin
from itest.migrations import SqlFiles


class OrderTest(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    postgres = Postgres(migrations=SqlFiles("migrations"))

    def test_order(self):
        with self.db.cursor() as cursor:
            cursor.execute("INSERT INTO orders (item) VALUES ('book')")
        self.db.commit()
        self.cache.set("last-order", "book")
        self.queue.send("orders", b"book")
        [message] = self.queue.receive("orders", count=1, timeout=5)
        self.assertEqual(message.value, b"book")

    def test_nothing_is_left_of_other_tests(self):
        self.order_after_nothing("pen")

    def test_nothing_is_left_of_other_tests_either(self):
        self.order_after_nothing("ink")

    def order_after_nothing(self, item):
        with self.db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM orders")
            self.assertEqual(cursor.fetchone(), (0,))
            cursor.execute("INSERT INTO orders (item) VALUES (%s) RETURNING id", (item,))
            self.assertEqual(cursor.fetchone(), (1,))
        self.db.commit()
        self.assertEqual(self.cache.keys(), [])
        self.cache.set("last-order", item)
        self.queue.send("orders", item.encode())
        [message] = self.queue.receive("orders", count=1, timeout=5)
        self.assertEqual(message.value, item.encode())


class UnchangedOrderTest(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    """The same without a declaration: the table is part of the class's baseline."""

    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE TABLE orders (item text)")

    def test_order(self):
        with self.db.cursor() as cursor:  # psycopg2 connection to this test's own database
            cursor.execute("INSERT INTO orders (item) VALUES ('book')")
        self.db.commit()  # a real commit; gone before the next test
        self.cache.set("last-order", "book")  # redis.Redis on this test's own database
        self.queue.send("orders", b"book")  # kafka-python underneath
        [message] = self.queue.receive("orders", count=1, timeout=5)
        self.assertEqual(message.value, b"book")
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM orders"), [(1,)])

    test_order_again = test_order
