# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL and Redis in two classes, one of which inherits the tests of the other."""

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class FirstTest(PostgresMixin, RedisMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE TABLE visits (name text)")
        cls.postgres.execute("INSERT INTO visits VALUES ('baseline')")
        cls.redis.cache.set("visits", 1)

    def test_visit(self):
        self.assertEqual(self.postgres.execute("SELECT name FROM visits"), [("baseline",)])
        self.assertEqual(self.cache.get("visits"), b"1")
        with self.db.cursor() as cursor:
            cursor.execute("INSERT INTO visits VALUES (%s)", (self.id(),))
        self.db.commit()
        self.assertEqual(self.cache.incr("visits"), 2)
        self.cache.set("another", "key")
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM visits"), [(2,)])

    test_visit_again = test_visit


class InheritedFirstTest(FirstTest):
    def test_own(self):
        self.postgres.execute("DROP TABLE visits")
        self.cache.flushdb()
