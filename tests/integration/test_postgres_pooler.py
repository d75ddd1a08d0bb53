# SPDX-License-Identifier: Apache-2.0
"""An external PostgreSQL behind a pooler: what itest cannot count on there is found before anything is made or changed."""

from __future__ import annotations

import unittest
from typing import Any

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.services.postgres.standing import key
from itest.services.postgres.strays import LOCK, Strays
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

    def test_a_database_that_no_connection_leads_into_is_found_before_anything_is_made_in_it(self) -> None:
        self.foreign.ask(THEIRS)
        self.addCleanup(self.foreign.ask, "DROP TABLE users")
        before = self.foreign.dump()
        for isolation in ("database", "rollback"):
            with self.subTest(isolation), pooling(self.foreign, only="postgres") as url:
                [error] = self.errors(url, inner(isolation))
                self.assertRegex(
                    error,
                    r"^ExternalError: a connection to the database itest_\w+, which was just made at 127\.0\.0\.1:\d+, leads into "
                    r"'postgres': if that is a pooler, name the server itself, or have the pooler pass on names",
                )
                self.untouched(before)

    def test_sessions_that_are_lent_for_a_transaction_are_refused_before_anything_is_made(self) -> None:
        before = self.foreign.dump()
        with pooling(self.foreign, transaction=True) as url:
            for isolation in ("database", "rollback", "schema", "truncate"):
                with self.subTest(isolation):
                    [error] = self.errors(url, inner(isolation))
                    self.assertRegex(
                        error,
                        r"^ExternalError: at 127\.0\.0\.1:\d+ a pooler lends one session to several connections \(PgBouncer does "
                        r"with pool_mode=transaction or statement\), and by what a session holds runs of itest know of one "
                        r"another: name the server itself, or a pool with pool_mode=session$",
                    )
                    self.untouched(before)

    def test_sessions_that_are_lent_until_the_client_goes_are_as_good_as_the_servers(self) -> None:
        before = self.foreign.dump()
        with pooling(self.foreign) as url:
            for isolation in ("database", "rollback", "truncate"):
                with self.subTest(isolation):
                    self.passes(url, inner(isolation))
                    self.untouched(before)

    def test_what_this_very_session_holds_already_is_no_dead_runs(self) -> None:
        class Holding(PostgresMixin, ContainerTestCase):
            postgres = Postgres(external=VARIABLE)

            def test(self) -> None:
                own = self.postgres.server.part(Strays)._own
                rows = [("itest_0badcafe_1", "of 0badcafe")]
                self.assertEqual(list(own.left_by_dead(rows, "of {token}", LOCK)), ["itest_0badcafe_1"])
                own.ask("SELECT pg_advisory_lock(%s, %s)", LOCK, key("0badcafe"))
                self.assertEqual(list(own.left_by_dead(rows, "of {token}", LOCK)), [])

        self.passes(self.foreign.url, Holding)


if __name__ == "__main__":
    unittest.main()
