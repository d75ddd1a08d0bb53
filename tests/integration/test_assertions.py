# SPDX-License-Identifier: Apache-2.0
"""The assertions against real services."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from sqlalchemy import orm

from itest import ContainerTestCase, KafkaMixin, Postgres, PostgresMixin, Redis, RedisMixin

TABLES = """
CREATE TABLE users (name text); CREATE TABLE "user" (n int); CREATE TABLE "order" (n int); CREATE TABLE "Mixed" (n int);
CREATE SCHEMA app; CREATE TABLE app."Mixed" (n int);
"""


class Base(orm.DeclarativeBase):
    pass


class Mixed(Base):
    __tablename__ = "Mixed"
    __table_args__: ClassVar[Any] = {"schema": "app"}
    n: orm.Mapped[int] = orm.mapped_column(primary_key=True)


class PostgresTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=lambda view: view.execute(TABLES))

    def test_committed_rows(self) -> None:
        self.assertRowCount("users", 0)
        with self.db.cursor() as cursor:
            cursor.execute("INSERT INTO users VALUES ('ann'), ('bob')")
        with self.assertRaisesRegex(
            AssertionError, "^0 rows in users, not 2; rows that are not committed are not counted$"
        ):
            self.assertRowCount("users", 2)
        self.db.commit()
        self.assertRowCount("users", 2)
        self.assertRowCount("users", 1, where="name = %s", params=["ann"])
        with self.assertRaisesRegex(AssertionError, r"^2 rows in users, not 1\n  \('ann',\)\n  \('bob',\) : mine$"):
            self.assertRowCount("users", 1, msg="mine")

    def test_a_name_is_taken_as_fixtures_have_it(self) -> None:
        self.postgres.execute("INSERT INTO app.\"Mixed\" VALUES (1); INSERT INTO users VALUES ('ann')")
        # Not of this table is the one row that `FROM user` finds.
        for table in ("user", "order", "Mixed"):
            self.assertRowCount(table, 0)
        with self.assertRaisesRegex(
            AssertionError, r"^1 row in app\.Mixed, not 2; rows that are not com\w+ are .*\n  \(1,\)$"
        ):
            self.assertRowCount("app.Mixed", 2)
        for table in ("USERS", "public.Users", "users AS u", 'app."Mixed"', "(SELECT 1) AS one"):
            self.assertRowCount(table, 1)
        with self.assertRaisesRegex(self.postgres.server.driver.Error, 'relation "current_user" does not exist'):
            self.assertRowCount("current_user", 1)

    def test_a_class_that_is_mapped_to_a_table(self) -> None:
        self.postgres.execute('INSERT INTO app."Mixed" VALUES (1)')
        self.assertRowCount(Mixed, 1)
        self.assertRowCount(Mixed.metadata.tables["app.Mixed"], 1)

    def test_eventually(self) -> None:
        timer = threading.Timer(0.05, self.postgres.execute, ["INSERT INTO users VALUES ('ann')"])
        timer.start()
        self.addCleanup(timer.join, 10)
        rows = self.assertEventually(lambda: self.postgres.connection.closed or self.count())
        self.assertEqual(rows, 1)

    def test_rows_that_another_thread_writes(self) -> None:
        self.assertRowCount("users", 0)
        timer = threading.Timer(0.05, self.postgres.execute, ["INSERT INTO users VALUES ('ann')"])
        timer.start()
        self.addCleanup(timer.join, 10)
        self.assertRowCount("users", 1, timeout=60)

    def count(self) -> int:
        with self.db, self.db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM users")
            [count] = cursor.fetchone() or (0,)
        return count  # type: ignore[no-any-return]  # from the database


class ParametersTest(PostgresMixin, ContainerTestCase):
    def test_they_are_in_a_list(self) -> None:
        for wrong in (1, "a", b"a", {1}):
            with (
                self.subTest(wrong),
                self.assertRaisesRegex(TypeError, "^params=.*: it takes a list, tuple or dict of val"),
            ):
                self.postgres.execute("SELECT %s", wrong)
        self.assertEqual(self.postgres.execute("SELECT %s", (1,)), [(1,)])
        self.assertEqual(self.postgres.execute("SELECT %(n)s", {"n": 1}), [(1,)])


class ParametersRollbackTest(ParametersTest):
    postgres = Postgres(isolation="rollback")


class RedisTest(RedisMixin, ContainerTestCase):
    texts = Redis(decode_responses=True)

    def test_keys_of_all_kinds(self) -> None:
        self.cache.set("text", "ä")
        self.cache.set("number", 5)
        self.cache.hset("hash", mapping={"a": 1})
        self.cache.rpush("list", "a", "b")
        self.cache.sadd("set", "a", "b")
        self.cache.zadd("scores", {"a": 1.5, "b": 2})
        self.cache.xadd("stream", {"a": 1})
        self.assertEqual(self.assertCached("text", "ä"), "ä".encode())
        self.assertCached("number", 5)
        self.cache.set("large", 1e20)
        self.assertCached("large", 1e20)
        self.assertCached("hash", {"a": 1})
        self.assertCached("list", ["a", "b"])
        self.assertCached("set", {"a", "b"})
        self.assertCached("scores", {"a": 1.5, "b": 2})
        self.assertEqual(self.assertCached("stream", [{"a": 1}]), [{b"a": b"1"}])
        with self.assertRaisesRegex(AssertionError, r"^'list' in redis is \[b'a', b'b'\], not \['a'\]$"):
            self.assertCached("list", ["a"])
        with self.assertRaisesRegex(
            AssertionError, "^no key 'nothing' in redis; there are hash, large, list, number, scores and 3 more$"
        ):
            self.assertCached("nothing")

    def test_another_declaration(self) -> None:
        self.texts.cache.set("a", "b")
        self.assertEqual(self.assertCached("a", b"b", service="texts"), "b")
        with self.assertRaisesRegex(AssertionError, "no key 'a' in redis; there are none"):
            self.assertCached("a")


class KafkaTest(KafkaMixin, ContainerTestCase):
    def test_messages(self) -> None:
        for value in (b"a", b"b", b"a", b"c"):
            self.queue.send("orders", value)
        [message] = self.assertProduced("orders")
        self.assertEqual((message.value, message.offset), (b"a", 0))
        [message] = self.assertProduced("orders", b"a")
        self.assertEqual(message.offset, 2)
        [message] = self.queue.receive("orders")
        self.assertEqual(message.value, b"c")
        with self.assertRaisesRegex(
            AssertionError,
            r"^0 of 1 message on topic 'orders' equal to b'x' arrived within 0\.2 s or before; 1 with other values: b'b'\. Partition 0 was",
        ):
            self.assertProduced("orders", b"x", timeout=0.2)
        self.assertEqual(self.assertProduced("orders", timeout=0)[0].value, b"b")

    def test_by_key(self) -> None:
        for key in ("ann", None, b"bob"):
            self.queue.send("letters", b"x", key=key)
        self.assertEqual(self.assertProduced("letters", key=None)[0].key, None)
        self.assertEqual(self.assertProduced("letters", b"x", key="bob")[0].key, b"bob")

    def test_none(self) -> None:
        self.queue.send("letters", b"a")
        self.assertEqual(self.assertProduced("mail", count=0, timeout=0), [])
        self.assertEqual(self.assertProduced("letters", b"b", count=0, timeout=0.1), [])
        self.queue.send("letters", b"b")
        with self.assertRaisesRegex(
            AssertionError,
            r"^no messages on topic 'letters' equal to b'b' were to arrive within 5 s or before, but one did: b'b'$",
        ):
            self.assertProduced("letters", b"b", count=0)
