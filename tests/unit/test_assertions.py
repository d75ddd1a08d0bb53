# SPDX-License-Identifier: Apache-2.0
"""The assertions' texts and timing, on views that are made up."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Kafka, Postgres, naming
from itest.assertions import ANY, Assertions
from itest.errors import ReceiveTimeout
from itest.testing import ManualClock


class Message:
    def __init__(self, value: object) -> None:
        self.value = value


class FakeQueue:
    def __init__(self, *values: object) -> None:
        self.messages = [Message(value) for value in values]
        self.passed: list[Message] = []

    def passed_over(self, topic: str) -> list[Message]:
        return self.passed

    def receive(self, topic: str, count: int, timeout: float) -> list[Message]:
        if not self.messages:
            raise ReceiveTimeout(
                "0 of 1 message arrived within 4.98 s. It ends at offset 2.", looked="It ends at offset 2."
            )
        return [self.messages.pop(0)]


class FakeView:
    def __init__(self, **members: Any) -> None:
        vars(self).update(members)


class View:
    def __repr__(self) -> str:
        return "<view>"


class AssertionTest(unittest.TestCase):
    def setUp(self) -> None:
        class Inner(Assertions, unittest.TestCase):
            _itest_clock = ManualClock()

        self.inner: Any = Inner()

    def assertFails(self, text: str, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        with self.assertRaises(AssertionError) as caught:
            call(*args, **kwargs)
        self.assertEqual(str(caught.exception), text)
        with self.assertRaises(AssertionError) as caught:
            call(*args, **kwargs, msg="mine")
        self.assertEqual(str(caught.exception), f"{text} : mine")


class EventuallyTest(AssertionTest):
    def test_what_it_returns(self) -> None:
        self.assertEqual(self.inner.assertEventually(lambda: "value"), "value")

    def test_it_waits_until_it_is_true(self) -> None:
        answers = iter([None, 0, [], "done"])
        self.assertEqual(self.inner.assertEventually(lambda: next(answers)), "done")

    def test_an_assertion_means_not_yet(self) -> None:
        answers = iter([1, 2, 3])

        def check() -> bool:
            self.inner.assertEqual(next(answers), 3)
            return True

        self.inner.assertEventually(check)

    def test_another_exception_escapes_at_once(self) -> None:
        call = mock.Mock(side_effect=ZeroDivisionError)
        with self.assertRaises(ZeroDivisionError):
            self.inner.assertEventually(call)
        self.assertEqual(call.call_count, 1)

    def test_pauses_grow_to_a_tenth_of_a_second_and_end_at_the_deadline(self) -> None:
        clock = self.inner._itest_clock
        start, moments = clock.monotonic(), []

        def check() -> None:
            moments.append(clock.monotonic() - start)

        with self.assertRaises(AssertionError):
            self.inner.assertEventually(check, timeout=1)
        pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
        self.assertAlmostEqual(pauses[0], 0.010)
        self.assertAlmostEqual(max(pauses), 0.100)
        self.assertAlmostEqual(moments[-1], 1.0)

    def test_the_last_reason_is_told(self) -> None:
        self.assertFails(
            "not true within 0 s, tried once; at last it returned 0", self.inner.assertEventually, lambda: 0, timeout=0
        )
        self.assertFails(
            "not true within 0 s, tried once; at last it raised AssertionError: 1 != 2",
            self.inner.assertEventually,
            lambda: self.inner.assertEqual(1, 2),
            timeout=0,
        )
        self.assertFails(
            "not true within 0.02 s, tried 3 times; at last it returned None; a check made of assertions must end with "
            "`return True`",
            self.inner.assertEventually,
            lambda: None,
            timeout=0.02,
        )

    def test_in_an_event_loop_what_it_waits_for_may_be_a_task_of_that(self) -> None:
        self.inner.kafka = FakeView(queue=FakeQueue())
        self.inner.postgres = FakeView(execute=lambda sql, *params: [(0,)])
        told = "; all tasks of the event loop that runs in this thread stood still meanwhile: await asyncio.to_thread(self."
        waiting = {
            "assertEventually": lambda seconds: self.inner.assertEventually(lambda: 0, seconds),
            "assertProduced": lambda seconds: self.inner.assertProduced("t", timeout=seconds),
            "assertRowCount": lambda seconds: self.inner.assertRowCount("t", 1, timeout=seconds),
        }

        def failure(name: str, seconds: float) -> str:
            with self.assertRaises(AssertionError) as caught:
                waiting[name](seconds)
            return str(caught.exception)

        async def test(name: str, seconds: float) -> str:
            return failure(name, seconds)

        async def on_a_thread(name: str) -> str:
            return await asyncio.to_thread(failure, name, 1)

        for name in waiting:
            with self.subTest(name):
                self.assertIn(f"{told}{name}, ...)", asyncio.run(test(name, 1)))
                for text in (failure(name, 1), asyncio.run(on_a_thread(name)), asyncio.run(test(name, 0))):
                    self.assertNotIn("event loop", text)

    def test_a_coroutine_is_refused(self) -> None:
        async def check() -> bool:
            return True

        with self.assertRaisesRegex(TypeError, "this one is async"):
            self.inner.assertEventually(check)

    def test_what_is_no_function_and_no_seconds_is_refused(self) -> None:
        for wrong in ((self.inner.assertRowCount, "users", 0), (True,), (bool, True), (bool, None)):
            with (
                self.subTest(wrong),
                self.assertRaisesRegex(TypeError, "it takes a function that .* and seconds: assertEv"),
            ):
                self.inner.assertEventually(*wrong)


class RowCountTest(AssertionTest):
    def rows(self, *rows: tuple[object, ...]) -> mock.Mock:
        execute = mock.Mock(side_effect=lambda sql, params: [(len(rows),)] if "count(*)" in sql else list(rows[:5]))
        self.inner.postgres = FakeView(execute=execute)
        return execute

    def test_the_right_count(self) -> None:
        execute = self.rows((1,))
        self.inner.assertRowCount("users", 1)
        execute.assert_called_once_with("SELECT count(*) FROM users", None)

    def test_too_many(self) -> None:
        self.rows(*[(number, "ann") for number in range(7)])
        self.assertFails(
            "7 rows in users where name = %s, not 1\n  (0, 'ann')\n  (1, 'ann')\n  (2, 'ann')\n  (3, 'ann')\n  (4, 'ann')\n"
            "  and 2 more",
            self.inner.assertRowCount,
            "users",
            1,
            where="name = %s",
            params=["ann"],
        )

    def test_too_few(self) -> None:
        self.rows((1, "ann"))
        self.assertFails(
            "1 row in users, not 2; rows that are not committed are not counted\n  (1, 'ann')",
            self.inner.assertRowCount,
            "users",
            2,
        )

    def count(self, *counts: int) -> mock.Mock:
        """A table that has so many rows when it is counted: the last number from then on."""
        left = list(counts)
        execute = mock.Mock(side_effect=lambda *_: [(left.pop(0) if len(left) > 1 else left[0],)])
        self.inner.postgres = FakeView(execute=execute)
        return execute

    def test_it_waits_for_rows(self) -> None:
        execute = self.count(0, 0, 1)
        self.inner.assertRowCount("users", 1, timeout=5)
        self.assertEqual(execute.call_count, 3)
        self.count(0)
        self.assertFails(
            "0 rows in users, not 1 within 5 s; rows that are not committed are not counted\n  (0,)",
            self.inner.assertRowCount,
            "users",
            1,
            timeout=5,
        )

    def test_a_class_or_table_of_sqlalchemy_stands_for_its_name(self) -> None:
        table = FakeView(fullname="app.users")
        for given in (table, type("User", (), {"__table__": table})):
            self.count(1).reset_mock()
            self.inner.assertRowCount(given, 1)
            self.inner.postgres.execute.assert_called_once_with("SELECT count(*) FROM app.users", None)
        with self.assertRaisesRegex(AssertionError, r"^1 row in app\.users, not 0"):
            self.inner.assertRowCount(table, 0)

    def test_what_is_no_table_is_refused(self) -> None:
        self.count(1)
        for wrong in (5, None, "", type("Model", (), {})):
            with (
                self.subTest(wrong),
                self.assertRaisesRegex(TypeError, "^table=.*: it takes a table's name, a class that"),
            ):
                self.inner.assertRowCount(wrong, 1)

    def test_a_condition_is_text(self) -> None:
        self.count(1)
        with self.assertRaisesRegex(
            TypeError, r"^where=\{'name': 'x'\}: it takes an SQL condition, and its values in params"
        ):
            self.inner.assertRowCount("users", 1, where={"name": "x"})

    def test_it_is_a_check_of_what_is_to_be_eventually(self) -> None:
        self.count(0, 0, 1)
        self.inner.assertEventually(lambda: self.inner.assertRowCount("users", 1))

    def test_a_count_is_a_whole_number(self) -> None:
        for wrong in (-1, None, "1", 1.0, True):
            with self.assertRaises(ValueError) as caught:
                self.inner.assertRowCount("users", wrong)
            self.assertEqual(str(caught.exception), f"n={wrong!r}: a table has a whole number of rows")

    def test_a_service_that_is_not_there(self) -> None:
        self.inner.postgres = None
        for kind, call in {
            "Postgres": lambda: self.inner.assertRowCount("users", 1),
            "Kafka": lambda: self.inner.assertProduced("orders", service="postgres"),
            "Redis": lambda: self.inner.assertCached("key", service="postgres"),
        }.items():
            with self.assertRaises(TypeError) as caught:
                call()
            self.assertTrue(
                str(caught.exception).endswith(
                    f"Inner has no service 'postgres' for this: add {kind}Mixin to the bases of the class, or declare a {kind}"
                ),
                caught.exception,
            )

    def test_what_is_no_name_of_a_service(self) -> None:
        for shown, name, call in (
            ("5", "redis", lambda: self.inner.assertCached("key", "value", 5)),
            ("<view>", "postgres", lambda: self.inner.assertRowCount("users", 1, service=View())),
        ):
            with self.assertRaises(TypeError) as caught:
                call()
            self.assertEqual(
                str(caught.exception), f"service={shown}: it takes the name of a declaration, service={name!r}"
            )

    def test_services_of_other_names_that_would_do_are_named(self) -> None:
        inner: Any = type("T", (ContainerTestCase,), {"main": Postgres(), "other": Postgres(), "queue": Kafka()})()
        inner.main, inner.other, inner.queue = (
            FakeView(execute=list),
            FakeView(execute=list),
            FakeView(queue=FakeQueue()),
        )
        for ask, named in (
            (lambda: inner.assertRowCount("users", 1), "service='main' or service='other'"),
            (lambda: inner.assertProduced("orders"), "service='queue'"),
        ):
            with self.subTest(named), self.assertRaises(TypeError) as raised:
                ask()
            self.assertTrue(
                str(raised.exception).endswith(f"for this; name the declaration: {named}"), raised.exception
            )


class ProducedTest(AssertionTest):
    def produce(self, *values: object) -> None:
        self.inner.kafka = FakeView(queue=FakeQueue(*values))

    def test_the_messages_are_returned(self) -> None:
        self.produce(b"a", b"b", b"a")
        self.assertEqual([message.value for message in self.inner.assertProduced("t", b"a", count=2)], [b"a", b"a"])
        self.produce(b"a", b"b")
        self.assertEqual([message.value for message in self.inner.assertProduced("t")], [b"a"])

    def test_too_few(self) -> None:
        self.produce()
        self.assertFails(
            "0 of 1 message on topic 't' arrived within 5 s. It ends at offset 2.",
            self.inner.assertProduced,
            "t",
        )

    def test_other_values(self) -> None:
        self.produce(b"a", b"b")
        with self.assertRaises(AssertionError) as caught:
            self.inner.assertProduced("t", b"a", count=2, timeout=1)
        self.assertEqual(
            str(caught.exception),
            "1 of 2 messages on topic 't' equal to b'a' arrived within 1 s; 1 with other values: b'b'. "
            "It ends at offset 2.",
        )

    def values(self, *args: Any, **kwargs: Any) -> list[object]:
        return [message.value for message in self.inner.assertProduced("t", *args, **kwargs)]

    def test_in_any_order(self) -> None:
        self.produce(b"a", b"b", b"c", b"b")
        self.assertEqual(self.values(b"c"), [b"c"])
        self.assertEqual(self.values(b"b", count=2), [b"b", b"b"])
        self.assertEqual(self.values(b"a"), [b"a"])
        self.assertEqual(self.values(count=0), [])

    def test_what_was_there_when_another_was_not_to_arrive(self) -> None:
        self.produce(b"created")
        self.assertEqual(self.values(b"cancelled", count=0), [])
        self.assertEqual(self.values(b"created"), [b"created"])

    def test_what_a_failure_has_seen_is_there_for_the_next_attempt(self) -> None:
        self.produce(b"a", b"b")
        for _ in range(2):
            with self.assertRaisesRegex(AssertionError, "^no messages .* but one did: b'a'$"):
                self.values(b"a", count=0)
            with self.assertRaisesRegex(AssertionError, r"^1 of 2 messages .*; 1 with other values: b'b'\. It ends"):
                self.values(b"a", count=2)
        self.inner.kafka.queue.messages.append(Message(b"a"))
        self.assertEqual(self.values(b"a", count=2), [b"a", b"a"])

    def test_the_newest_that_were_passed_over_are_shown(self) -> None:
        self.produce(*(b"old%d" % number for number in range(6)), b"b")
        self.assertEqual(self.values(b"b"), [b"b"])
        self.inner.kafka.queue.messages.append(Message(b"newest"))
        self.assertFails(
            "0 of 1 message on topic 't' equal to b'c' arrived within 5 s or before; 7 with other values, the last 5: "
            "b'old2'; b'old3'; b'old4'; b'old5'; b'newest'. It ends at offset 2.",
            self.values,
            b"c",
        )
        self.assertFails(
            "no messages on topic 't' equal to b'old1' were to arrive within 5 s or before, but one did: b'old1'",
            self.values,
            b"old1",
            count=0,
        )

    def test_a_count_is_a_whole_number(self) -> None:
        self.produce()
        for wrong in (-1, None, "1", 1.0, True):
            with self.assertRaises(ValueError) as caught:
                self.inner.assertProduced("t", count=wrong)
            self.assertEqual(
                str(caught.exception),
                f"count={wrong!r}: a whole number of messages can be waited for, or none with count=0",
            )


class FakeCache:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def type(self, key: str) -> bytes:
        kinds = {bytes: b"string", dict: b"hash", list: b"list", set: b"set", bytearray: b"MBbloom--"}
        return kinds[type(self.values[key])] if key in self.values else b"none"

    def get(self, key: str) -> Any:
        return self.values[key]

    hgetall = smembers = get

    def lrange(self, key: str, start: int, end: int) -> Any:
        return self.values[key]

    def scan_iter(self, count: int) -> list[bytes]:
        return [key.encode() for key in self.values]


class CachedTest(AssertionTest):
    def cache(self, **values: Any) -> None:
        self.inner.redis = FakeView(cache=FakeCache(**values))

    def test_values_of_all_kinds(self) -> None:
        self.cache(a=b"text", b=b"5", c={b"x": b"1"}, d=[b"a", b"b"], e={b"a"})
        self.assertEqual(self.inner.assertCached("a"), b"text")
        self.inner.assertCached("a", "text")
        self.inner.assertCached("a", b"text")
        self.inner.assertCached("b", 5)
        self.inner.assertCached("c", {"x": 1})
        self.inner.assertCached("d", ["a", "b"])
        self.inner.assertCached("e", {"a"})
        self.inner.assertCached("a", ANY)

    def test_numbers_of_any_size(self) -> None:
        self.cache(a=b"1e+20", b=b"5.0", c=b"5", d={b"x": 1.0}, e=[b"0.1", b"1e+20"], f={b"5.0"})
        for key, value in (("a", 1e20), ("b", 5.0), ("c", 5.0), ("d", {"x": 1}), ("e", [0.1, 1e20]), ("f", {5.0})):
            self.inner.assertCached(key, value)
        for key, value in (("a", 1e21), ("b", 5), ("d", {"x": 2}), ("d", {"x": 1, "y": 1}), ("e", [0.1]), ("c", [5])):
            with self.assertRaises(AssertionError, msg=key):
                self.inner.assertCached(key, value)

    def test_a_type_that_is_not_read(self) -> None:
        self.cache(a=bytearray(b"module"))
        self.assertIsNone(self.inner.assertCached("a"))
        with self.assertRaisesRegex(
            TypeError, "^'a' in redis is of the type MBbloom--, whose value itest does not read"
        ):
            self.inner.assertCached("a", b"module")

    def test_another_value(self) -> None:
        self.cache(a=b"text")
        self.assertFails("'a' in redis is b'text', not 'other'", self.inner.assertCached, "a", "other")

    def test_json_is_text(self) -> None:
        self.cache(a=b'{"x": 1}')
        self.assertFails(
            "'a' in redis is b'{\"x\": 1}', not {'x': 1}; a dict is equal to a hash, a list to a list, a set to a set, and this "
            "is a string: if it is JSON, compare json.loads(self.assertCached('a'))",
            self.inner.assertCached,
            "a",
            {"x": 1},
        )

    def test_no_such_key(self) -> None:
        self.cache()
        self.assertFails("no key 'x' in redis; there are none", self.inner.assertCached, "x")
        self.cache(**{f"k{number}": b"" for number in range(7)})
        self.assertFails("no key 'x' in redis; there are k0, k1, k2, k3, k4 and 2 more", self.inner.assertCached, "x")


def _unique(_: int) -> str:
    return naming.unique("user")


class UniqueTest(AssertionTest):
    def test_its_form(self) -> None:
        self.assertRegex(self.inner.unique("user"), r"^user-[0-9a-f]{8}-\d+-\d+$")
        self.assertRegex(self.inner.unique(), r"^[0-9a-f]{8}-\d+-\d+$")
        self.assertRegex(self.inner.unique(5), r"^5-[0-9a-f]{8}-\d+-\d+$")

    def test_it_is_never_the_same_nor_too_long(self) -> None:
        names = [self.inner.unique("a name that is longer than a column") for _ in range(1000)]
        self.assertEqual(len(set(names)), 1000)
        self.assertLessEqual(max(map(len, names)), 40)

    def test_it_differs_between_processes(self) -> None:
        naming.unique()
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                names = pool.map(_unique, range(20), chunksize=1)
            self.assertEqual(len({naming.unique("user"), *names}), 21, method)
