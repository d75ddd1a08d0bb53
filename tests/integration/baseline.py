# SPDX-License-Identifier: Apache-2.0
"""Base of the PostgreSQL isolation tests: one leased database that each test changes and has reset."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from typing import Any

from itest import testing
from itest.clock import Deadline
from itest.errors import Unavailable
from itest.services.postgres import Postgres, PostgresServer
from itest.services.postgres.lease import PostgresLease
from itest.services.postgres.outside import Outside
from tests.integration import sqlbodies
from tests.integration.sqldump import difference, dump


def schema(view: Any) -> None:
    view.execute(sqlbodies.SCHEMA)


DECLARATION = Postgres(migrations=schema)


class BaselineTest(unittest.TestCase):
    """`self.view` is the view of a test on the database of `sqlbodies.SCHEMA`."""

    server: PostgresServer
    lease: PostgresLease
    baseline: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        try:
            session = cls.enterClassContext(testing.session())
            cls.server = session.lend(DECLARATION)  # type: ignore[assignment]  # a PostgresServer
        except Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None
        cls.lease = cls.server.lease(DECLARATION, "tests.Baseline")  # type: ignore[assignment]  # for "database"
        cls.addClassCleanup(cls.lease.close)
        cls.prepare(cls.lease.view)
        cls.lease.seal()
        cls.baseline = dump(cls.lease.reset("tests.Baseline.first").url)

    @classmethod
    def prepare(cls, view: Any) -> None:
        """Override to add to the baseline."""

    def setUp(self) -> None:
        self.view: Any = self.lease.reset("tests.Baseline.test_before")

    def tearDown(self) -> None:
        self.view.close()

    def reset(self, way: str = "") -> None:
        """End the test that is `self.view`'s and begin the next; its data must be the baseline, brought back that way."""
        self.view.close()
        self.view = self.lease.reset("tests.Baseline.test_next")
        self.assertEqual(difference(self.baseline, dump(self.view.url)), [])
        if way:
            self.assertEqual((self.lease.way, self.lease.reason if way == "undone" else ""), (way, ""))

    def rest(self, *, seen: bool = False) -> None:
        """Some tests that change nothing. `seen`: after them it can be seen from outside that nothing happens, on Linux."""
        self.view.close()
        tests, deadline = 0, Deadline.after(20)
        # The session of a connection that was closed before may take a while to end.
        while tests < 3 or (seen and not self.is_seen() and not deadline.passed):
            tests += 1
            self.view = self.lease.reset("tests.Baseline.test_next")
            with self.view.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        self.assertTrue(not seen or self.is_seen())

    def is_seen(self) -> bool:
        """Whether the last reset has looked from outside, where that can be."""
        recycler = self.lease._recycler
        return sys.platform != "linux" or recycler._seen is not None or self.server.part(Outside).look() is None

    def undone(self, *statements: str) -> None:
        """Each of the statements, and all of them together, are undone without a new clone."""
        self.each("undone", statements)

    def cloned(self, *statements: str) -> None:
        """Each of the statements needs a new clone."""
        self.each("cloned", statements)

    def each(self, way: str, statements: tuple[str, ...], run: Callable[[str], object] | None = None) -> None:
        for statement in statements:
            with self.subTest(statement):
                (run or self.view.execute)(statement)
                self.reset(way)
