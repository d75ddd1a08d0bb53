# SPDX-License-Identifier: Apache-2.0
"""An external server on which itest's own sessions are cut, or kept waiting, while a run uses it."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar

import psycopg2

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.clock import Deadline
from tests.integration.capture import said
from tests.integration.foreign import VARIABLE, ForeignTest

ISOLATIONS = ("database", "truncate", "schema")

OURS = "backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name LIKE 'itest%'"


def migrate(view: Any) -> None:
    view.execute("CREATE TABLE people (name text)")


class Cutting(PostgresMixin):
    """Its first test ends all sessions of itest's, whichever database they are in."""

    postgres: ClassVar[Any]
    assertRowCount: Any

    def test_1(self) -> None:
        self.postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")

    def test_2(self) -> None:
        self.assertRowCount("people", 0)
        self.postgres.execute("INSERT INTO people VALUES ('ann')")

    def test_3(self) -> None:
        self.assertRowCount("people", 0)
        self.postgres.execute("ALTER TABLE people ADD COLUMN age int") if self.changes_schema else None

    def test_4(self) -> None:
        self.assertRowCount("people", 0)

    changes_schema: ClassVar[bool]


class CutTest(ForeignTest):
    def setUp(self) -> None:
        self.database("cut")
        self.before = self.foreign.dump()

    def classes(self, isolation: str, *bases: type) -> list[type[unittest.TestCase]]:
        """Two, so that the second begins with what the first has come to."""
        attributes = {
            "postgres": Postgres(migrations=migrate, isolation=isolation, external=VARIABLE),
            "changes_schema": isolation != "truncate",  # Which that does not undo.
        }
        return [type(f"{name}Test", (*bases, ContainerTestCase), attributes) for name in ("First", "Second")]

    def test_sessions_that_a_test_ends_are_opened_anew(self) -> None:
        for isolation in ISOLATIONS:
            with self.subTest(isolation):
                self.passes(self.foreign.url_for("cut"), *self.classes(isolation, Cutting))
                self.untouched(self.before)

    def test_a_limit_for_idle_sessions_leaves_the_one_that_says_that_the_run_lives(self) -> None:
        foreign = self.foreign
        if not foreign.ask("SELECT 1 FROM pg_settings WHERE name = 'idle_session_timeout'"):
            self.skipTest("PostgreSQL before 14")
        foreign.user("hasty", "CREATEDB")
        self.addCleanup(foreign.ask, "DROP ROLE hasty")
        foreign.ask("GRANT CREATE ON DATABASE cut TO hasty; GRANT CREATE ON SCHEMA public TO hasty", "cut")
        self.addCleanup(foreign.ask, "DROP OWNED BY hasty", "cut")
        foreign.ask("ALTER ROLE hasty SET idle_session_timeout = 100")

        class Slow(PostgresMixin):
            assertRowCount: Any

            def test_1(self) -> None:
                deadline = Deadline.after(20.0)
                while len(left := foreign.ask(f"SELECT application_name FROM pg_stat_activity WHERE {OURS}")) > 1:
                    assert not deadline.passed, left
                    deadline.pause(0.02)
                [(name,)] = left
                assert name.startswith(("itest run", "itest ledger", "itest schemas")), name

            def test_2(self) -> None:
                self.assertRowCount("people", 0)

        for isolation in ISOLATIONS:
            with self.subTest(isolation):
                self.passes(foreign.url_for("cut", "hasty"), *self.classes(isolation, Slow))

    def test_a_lock_on_a_whole_table_that_a_test_leaves(self) -> None:
        left: list[Any] = []

        class Locking(PostgresMixin):
            postgres: ClassVar[Any]
            assertRowCount: Any

            def test_1(self) -> None:
                left.append(psycopg2.connect(self.postgres.url))
                left[-1].cursor().execute("TRUNCATE people")

            def test_2(self) -> None:
                self.assertRowCount("people", 0)

            test_3 = test_2

        for isolation in ISOLATIONS:
            with self.subTest(isolation), said() as lines:
                self.passes(self.foreign.url_for("cut"), *self.classes(isolation, Locking))
                found = [line for line in lines if "left a database session behind" in line]
                self.assertEqual(len(found), 2, lines)
                for line, name in zip(found, ("First", "Second"), strict=True):
                    self.assertIn(f"{name}Test.test_1 left", line)
                    self.assertIn("TRUNCATE people", line)
        for connection in left:
            connection.close()
        self.untouched(self.before)

    def test_what_a_killed_run_left_in_a_schema_is_none_of_another_isolations_tables(self) -> None:
        url = self.foreign.url_for("cut")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "schema.sql").write_text("CREATE TABLE people (name text)")
            self.kill_during(url, Path(directory), "migrations=SqlFiles('schema.sql'), isolation='schema'", "ready()")
        left = "SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'itest%' AND tablename = 'people'"
        self.assertEqual(self.foreign.ask(left, "cut"), [(1,)])

        class Other(PostgresMixin):
            assertRowCount: Any

            def test(self) -> None:
                self.assertRowCount("people", 0)

        self.passes(url, *self.classes("truncate", Other))
        self.assertEqual(self.foreign.ask(left, "cut"), [(1,)])
        with said() as lines:
            self.passes(url, *self.classes("schema", Other))
        self.assertRegex(lines[0], "^dropped the schema itest_.*, which a killed run had left in cut$")
        self.untouched(self.before)
