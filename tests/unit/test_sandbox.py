# SPDX-License-Identifier: Apache-2.0
"""Isolations of PostgreSQL: what can be said without a server, and when a lease's `finish` is called."""

from __future__ import annotations

import sys
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Postgres, PostgresMixin, testing
from itest.errors import DeclarationError, ExternalError, IsolationError, ItestError, MissingPackage
from itest.services.postgres import leases, sandbox, standing
from itest.services.postgres.lease import PostgresLease
from itest.services.postgres.rollback import RollbackLease
from itest.services.postgres.schema import SchemaLease
from itest.services.postgres.truncate import TruncateLease
from itest.services.postgres.uses import Uses
from itest.testing import MemoryLease
from tests.unit.inner import InnerTest, error_line, run


class DeclarationTest(unittest.TestCase):
    def test_an_unknown_one_names_those_there_are(self) -> None:
        with self.assertRaises(DeclarationError) as caught:

            class Wrong(PostgresMixin, ContainerTestCase):
                postgres = Postgres(isolation="transaction")

        self.assertEqual(
            str(caught.exception),
            "DeclarationTest.test_an_unknown_one_names_those_there_are.<locals>.Wrong.postgres: unknown isolation "
            "'transaction'; PostgreSQL supports 'database', 'rollback', "
            "'truncate', 'schema', 'none'",
        )

    def test_which_lease_stands_for_which(self) -> None:
        wanted = {
            "database": (PostgresLease, PostgresLease),
            "rollback": (RollbackLease, RollbackLease),
            "truncate": (PostgresLease, TruncateLease),
            "schema": (SchemaLease, SchemaLease),
            "none": (PostgresLease, PostgresLease),
        }
        for isolation, kinds in wanted.items():
            for owned, kind in zip((True, False), kinds, strict=True):
                server: Any = SimpleNamespace(
                    instance=SimpleNamespace(owned=owned), admin=lambda sql: [(True,)], part=mock.Mock()
                )
                with mock.patch.object(kind, "__init__", return_value=None):
                    self.assertIs(type(leases.lease(server, Postgres(isolation=isolation), "T")), kind)

    def test_no_right_to_create_databases(self) -> None:
        instance = mock.MagicMock(owned=False)
        instance.__str__.return_value = "db:5432"  # type: ignore[attr-defined]  # a mock's
        server: Any = SimpleNamespace(
            instance=instance, user="ann", version="PostgreSQL 17.6", database="shop", admin=lambda sql: [(False,)]
        )
        with self.assertRaises(ExternalError) as caught:
            leases.lease(server, Postgres(), "T")
        self.assertEqual(
            str(caught.exception),
            "the user 'ann' of the external PostgreSQL 17.6 at db:5432 may not create databases, and with "
            "isolation='database' each class gets one of its own: ALTER ROLE ann CREATEDB, or declare "
            "isolation='schema' (a "
            "schema of its own in 'shop') or isolation='truncate' (the tables of 'shop' that are empty)",
        )


class SandboxTest(unittest.TestCase):
    def test_its_error_is_a_failure_and_no_driver_error(self) -> None:
        """Code under test that catches database errors must not swallow it; runners show it as a failure."""
        self.assertTrue(issubclass(IsolationError, ItestError) and issubclass(IsolationError, AssertionError))

    def test_what_is_no_cursor_class_is_left_as_it_is(self) -> None:
        def factory() -> None:
            """Makes cursors."""

        self.assertIs(sandbox._cursor_class(factory), factory)

    def test_a_cursor_class_runs_its_statements_inside(self) -> None:
        class Cursor:
            """What psycopg2 has."""

            def execute(self, query: str, vars: object = None) -> str:
                return f"{query} {vars}"

        ran: list[object] = []

        def itest_run(cursor: Any, call: Any, statement: object, *args: Any, **kwargs: Any) -> Any:
            ran.append(statement)
            return call(statement, *args, **kwargs)

        cursor = sandbox._cursor_class(Cursor)()
        cursor.connection = SimpleNamespace(itest_run=itest_run)
        self.assertEqual([cursor.execute("one", 1), cursor.execute(query="two", vars=2)], ["one 1", "two 2"])
        self.assertEqual((ran, isinstance(cursor, Cursor)), (["one", "two"], True))
        self.assertIs(sandbox._cursor_class(Cursor), type(cursor))

    def test_without_psycopg2_it_says_what_to_install(self) -> None:
        sandbox.connection_class.cache_clear()
        self.addCleanup(sandbox.connection_class.cache_clear)
        with mock.patch.dict(sys.modules, {"psycopg2": None}), self.assertRaises(MissingPackage) as caught:
            sandbox.connection_class()
        self.assertEqual(
            str(caught.exception),
            "isolation='rollback' needs the package 'psycopg2', which is not installed: "
            "pip install 'itest-containers[postgres]'",
        )


class UsesTest(unittest.TestCase):
    """Who has done what in a sandbox."""

    def setUp(self) -> None:
        self.uses = Uses()

    def do(self, holder: str, status: str, statement: bytes = b"") -> str:
        sent = self.uses.enter(holder)
        self.uses.did(status, statement)
        return sent

    def test_each_goes_on_in_a_savepoint_and_those_of_readers_are_released(self) -> None:
        sent = [
            self.do(*done)
            for done in (
                ("a", "SELECT 1"),
                ("b", "INSERT 0 1"),
                ("b", "SELECT 1"),
                ("c", "SHOW"),
                ("d", "FETCH 1"),
                ("b", "SET"),
            )
        ]
        self.assertEqual(
            sent,
            [
                "",
                "SAVEPOINT itest_sandbox_1",
                "",
                "SAVEPOINT itest_sandbox_2",
                "RELEASE SAVEPOINT itest_sandbox_2; SAVEPOINT itest_sandbox_3",
                "RELEASE SAVEPOINT itest_sandbox_3",
            ],
        )
        self.assertEqual(self.uses.holders, ["a", "b"])

    def test_reading_in_turns_piles_nothing_up(self) -> None:
        for _ in range(100):
            self.do("a", "INSERT 0 1")
            self.do("b", "SELECT 1")
        self.assertEqual(self.uses.holders, ["a", "b"])

    def test_what_was_only_read_before_others_went_on_stays(self) -> None:
        self.do("a", "SELECT 1")
        self.do("b", "INSERT 0 1")
        self.assertEqual(self.uses.take_back("a", failed=False), ("", False))
        self.assertEqual(self.uses.take_back("b", failed=False), ("itest_sandbox_1", False))
        self.assertFalse(self.uses)

    def test_what_was_only_read_last_is_undone_since_functions_may_write(self) -> None:
        self.do("a", "SELECT 1")
        self.assertEqual(self.uses.take_back("a", failed=False), ("itest_sandbox", False))

    def test_a_failed_statement_alone(self) -> None:
        self.do("a", "SELECT 1")
        self.do("b", "INSERT 0 1")
        self.uses.enter("a")
        self.assertEqual(self.uses.take_back("a", failed=True), ("itest_sandbox_2", False))
        self.assertEqual(self.uses.holders, ["b"])

    def test_whose_loss_is_one(self) -> None:
        for status, statement, lost in (
            ("INSERT 0 1", b"", True),
            ("CREATE TABLE", b"", True),
            ("SELECT 1", b"WITH x AS (INSERT INTO t VALUES (1) RETURNING n) SELECT n FROM x", True),
            ("SELECT 1", b"WITH x AS (UPDATE t\nSET n = 1 RETURNING n) SELECT n FROM x", True),
            ("SELECT 1", b"INSERT INTO t VALUES (1); SELECT 1", True),
            ("SELECT 1", b"SELECT update FROM t FOR UPDATE; ", False),
            ("SET", b"", False),
            ("RESET", b"", False),
            ("LOCK TABLE", b"", False),
            ("SAVEPOINT", b"", False),
        ):
            with self.subTest(status, statement=statement):
                self.uses.clear()
                self.do("a", "INSERT 0 1")
                self.do("b", status, statement)
                self.assertEqual(self.uses.take_back("a", failed=False), ("itest_sandbox", lost))


class NamesTest(unittest.TestCase):
    """What is taken for ours needs all of the name and the comment."""

    def test_names(self) -> None:
        self.assertTrue(standing.NAME.fullmatch("itest_0badcafe_12"))
        for other in ("itest_0badcafe", "itest_0badcafe_", "itest_0badcafe_1x", "my_itest_0badcafe_1", "itest_shop_1"):
            self.assertIsNone(standing.NAME.fullmatch(other))


class FinishTest(InnerTest):
    """`Lease.finish` is the last of the test's own cleanups, and its error is the test's."""

    def make(self, fail: str = "", body: str = "") -> type[unittest.TestCase]:
        events = self.events

        class Inner(ContainerTestCase):
            memory = self.service()

            def setUp(self) -> None:
                self.addCleanup(events.append, "own cleanup")

            def tearDown(self) -> None:
                events.append("tearDown")

            def test_1(self) -> None:
                if body == "fail":
                    self.fail("of the test")
                if body == "escape":
                    raise IsolationError("the lease")
                if body == "skip":
                    self.skipTest("of the test")

            def test_2(self) -> None:
                """Another."""

        def finish(lease: MemoryLease, test: str) -> None:
            events.append(f"finish {test.rpartition('.')[2]}")
            if test.endswith(fail or "never"):
                raise IsolationError("of the lease")

        self.enterContext(mock.patch.object(MemoryLease, "finish", finish, create=True))
        return Inner

    def test_when_it_is_called(self) -> None:
        self.check(run(self.make()), ran=2)
        start = self.events.index("reset test_1")
        self.assertEqual(
            self.events[start : start + 5], ["reset test_1", "tearDown", "own cleanup", "finish test_1", "close test_1"]
        )

    def test_its_error_fails_the_test_that_it_is_about(self) -> None:
        result = run(self.make(fail="test_1"))
        self.check(result, ran=2, failures=1)
        [(test, trace)] = result.failures
        self.assertEqual(
            (test._testMethodName, error_line(trace)),
            ("test_1", "itest.errors.IsolationError: of the lease"),
        )

    def test_after_a_failure_and_a_skip_too(self) -> None:
        for body, counts in (("fail", {"failures": 1}), ("skip", {"skipped": 1})):
            with self.subTest(body):
                self.events.clear()
                self.check(run(self.make(body=body)), ran=2, **counts)
                self.assertIn("finish test_1", self.events)
                self.use(testing.MemoryEngine())

    def test_what_the_test_itself_has_failed_by_is_reported_once(self) -> None:
        result = run(self.make(fail="test_1", body="escape"))
        self.check(result, ran=2, failures=1)
        self.assertEqual(error_line(result.failures[0][1]), "itest.errors.IsolationError: the lease")

    def test_by_debug(self) -> None:
        inner = self.make(fail="test_1")
        with self.assertRaisesRegex(IsolationError, "of the lease"):
            inner("test_1").debug()
        inner.doClassCleanups()


if __name__ == "__main__":
    unittest.main()
