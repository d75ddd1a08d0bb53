# SPDX-License-Identifier: Apache-2.0
"""An external PostgreSQL behind a pooler: what itest cannot count on there is found before anything is made or changed."""

from __future__ import annotations

import unittest
from typing import Any

from itest import ContainerTestCase, Postgres, PostgresMixin
from tests.integration.foreign import VARIABLE, ForeignTest
from tests.integration.pooler import pooling

THEIRS = "CREATE TABLE users (n int); INSERT INTO users VALUES (1)"


def migrate(view: Any) -> None:
    view.execute("CREATE TABLE IF NOT EXISTS users (n int)")


def inner(isolation: str) -> type[unittest.TestCase]:
    class InnerTest(PostgresMixin, ContainerTestCase):
        postgres = Postgres(migrations=migrate, isolation=isolation, external=VARIABLE)

        def test_1(self) -> None:
            self.assertRowCount("users", 0)
            self.postgres.execute("INSERT INTO users VALUES (2)")

        test_2 = test_1

    return InnerTest


class PoolerTest(ForeignTest):
    def test_a_schema_is_not_reached_where_the_options_are_dropped_or_refused(self) -> None:
        self.foreign.ask(THEIRS)
        self.addCleanup(self.foreign.ask, "DROP TABLE users")
        before = self.foreign.dump()
        for refuses, reason in (
            (False, "drops these, so that connections would work in the schema 'public'"),
            (True, r"refuses these \(.*unsupported startup parameter: options\)"),
        ):
            with self.subTest(refuses=refuses), pooling(self.foreign, refuses=refuses) as url:
                [error] = self.errors(url, inner("schema"))
                self.assertRegex(
                    error,
                    r"(?s)^ExternalError: isolation='schema' leads connections into the schema itest_\w+ by their `options`, and a "
                    rf"pooler at 127\.0\.0\.1:\d+ {reason}: name the server itself, or declare isolation='database' or "
                    r"'truncate'$",
                )
                self.untouched(before)


if __name__ == "__main__":
    unittest.main()
