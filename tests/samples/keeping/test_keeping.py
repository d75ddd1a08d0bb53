# SPDX-License-Identifier: Apache-2.0
"""A test that fails, one that must not notice, and one that passes."""

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class KeptTest(PostgresMixin, RedisMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE TABLE orders (item text)")
        cls.redis.cache.set("open", "yes")

    def test_1_fails(self):
        self.postgres.execute("INSERT INTO orders VALUES ('book')")
        self.cache.set("last-order", "book")
        self.fail("on purpose")

    def test_2_starts_from_the_baseline(self):
        self.assertRowCount("orders", 0)
        self.assertEqual(self.cache.keys(), [b"open"])
        self.cache.set("last-order", "pen")

    def test_3_too(self):
        self.assertRowCount("orders", 0)
        self.assertEqual(self.cache.keys(), [b"open"])
