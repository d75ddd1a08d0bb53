# SPDX-License-Identifier: Apache-2.0
"""isolation="rollback": what works inside the sandbox as it does outside, and what gets out of it and is reported."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import psycopg2
import psycopg2.extras
import sqlalchemy
from psycopg2 import extensions
from sqlalchemy import orm, text

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.errors import IsolationError, ItestError
from itest.services.postgres import PostgresServer
from tests.integration.capture import said

SCHEMA = """
CREATE TABLE users (id serial PRIMARY KEY, name text UNIQUE, data jsonb, key uuid);
CREATE TABLE orders (
  id serial PRIMARY KEY, user_id int REFERENCES users DEFERRABLE INITIALLY DEFERRED, item text,
  first_id int REFERENCES orders DEFERRABLE INITIALLY IMMEDIATE);
CREATE TABLE numbers (n int);
"""


def migrate(view: Any) -> None:
    view.execute(SCHEMA)


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class _Sandboxed(PostgresMixin, ContainerTestCase):
    """Each test finds the baseline, whatever the one before it did."""

    postgres = Postgres(migrations=migrate, isolation="rollback")

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute("INSERT INTO users (id, name) VALUES (1000, 'ann')")

    def setUp(self) -> None:
        self.assertEqual(self.names(), ["ann"])
        self.assertEqual(self.ask("SELECT count(*) FROM orders"), [(0,)])
        self.db.rollback()

    def ask(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        with self.db.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def names(self) -> list[str]:
        return [name for (name,) in self.ask("SELECT name FROM users ORDER BY name")]

    def add(self, name: str) -> None:
        self.ask("INSERT INTO users (name) VALUES (%s)", (name,))


class NoteTest(unittest.TestCase):
    def test_it_names_what_the_failing_test_has_written_to_and_not_those_before_it(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="rollback")

            def test_1(self) -> None:
                self.postgres.execute("INSERT INTO users (name) VALUES ('ann')")

            def test_2(self) -> None:
                self.fail("it has written nothing")

            def test_3(self) -> None:
                self.postgres.execute("INSERT INTO numbers VALUES (1)")
                self.fail("it has written to numbers")

        result = unittest.TestResult()
        unittest.TestLoader().loadTestsFromTestCase(Inner).run(result)
        self.assertEqual((result.testsRun, result.errors), (3, []))
        (_, nothing), (_, numbers) = result.failures
        self.assertNotIn("wrote to", nothing)
        self.assertIn("wrote to numbers (inserted)", numbers)
        self.assertNotIn("wrote to users", numbers)

    def test_that_a_session_was_ended_names_the_test_that_had_left_it_in_a_transaction(self) -> None:
        class Base(PostgresMixin, ContainerTestCase):
            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.engine = sqlalchemy.create_engine(cls.postgres.sqlalchemy_url, pool_pre_ping=True)
                cls.addClassCleanup(cls.engine.dispose)
                cls.session = orm.Session(cls.engine)

            def test_1(self) -> None:
                self.session.execute(text("SELECT name FROM users"))

            test_2 = test_1

            def test_3(self) -> None:
                self.session.rollback()
                self.fail("this has nothing to do with it")

            def test_4(self) -> None:
                self.fail("nor has this")

        for isolation, in_log in (("rollback", True), ("database", True), ("database", False)):
            with (
                self.subTest(isolation, in_log=in_log),
                mock.patch.object(PostgresServer, "can_recycle", return_value=in_log),
            ):
                result = unittest.TestResult()
                attributes = {"postgres": Postgres(migrations=migrate, isolation=isolation)}
                with said():
                    unittest.TestLoader().loadTestsFromTestCase(type("Inner", (Base,), attributes)).run(result)
                [(_, second)], [(_, third), (_, fourth)] = result.errors, result.failures
                self.assertIn(
                    "\n  test_1 left a session in a transaction, and itest ended it: at its end (tearDown) call rollback()",
                    second,
                )
                self.assertNotIn("pool_pre_ping", second)
                self.assertNotIn("itest ended", third + fourth)


class AfterTheCleanupsTest(unittest.TestCase):
    def test_what_a_test_does_after_its_own_cleanups_is_undone_too(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="rollback")

            def tearDown(self) -> None:
                self.doCleanups()
                self.postgres.execute("INSERT INTO users (name) VALUES ('dan')")

            def test_1_in_the_body(self) -> None:
                self.assertFound([])
                self.doCleanups()
                self.postgres.execute("INSERT INTO users (name) VALUES ('ann')")

            def test_2_not_committed(self) -> None:
                self.assertFound([])
                self.doCleanups()
                with self.db.cursor() as cursor:
                    cursor.execute("INSERT INTO users (name) VALUES ('bob')")

            def test_3_once_more(self) -> None:
                for _ in range(2):
                    self.assertFound([])
                    self.postgres.execute("INSERT INTO users (name) VALUES ('cid')")
                    self.doCleanups()

            def test_4(self) -> None:
                self.assertFound([])

            def assertFound(self, names: list[str]) -> None:
                self.assertEqual(self.postgres.execute("SELECT name FROM users"), names)

        result = unittest.TestResult()
        unittest.TestLoader().loadTestsFromTestCase(Inner).run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (4, [], []))


class Psycopg2Test(_Sandboxed):
    def test_a_commit_stays_and_a_rollback_takes_back_what_came_after_it(self) -> None:
        self.add("bob")
        self.db.commit()
        self.add("cid")
        self.db.rollback()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_a_transaction_as_a_context(self) -> None:
        with self.db:
            self.add("bob")
        with contextlib.suppress(ZeroDivisionError), self.db:
            self.add("cid")
            raise ZeroDivisionError
        with self.db, self.assertRaisesRegex(psycopg2.ProgrammingError, "re-entered"):
            self.db.__enter__()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_a_commit_after_an_error_rolls_back(self) -> None:
        self.add("bob")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            self.add("ann")
        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            self.names()
        self.db.commit()
        self.assertEqual(self.names(), ["ann"])

    def test_savepoints_of_ones_own(self) -> None:
        self.ask("SAVEPOINT mine")
        self.add("bob")
        self.ask("ROLLBACK TO SAVEPOINT mine")
        self.add("cid")
        self.ask("SAVEPOINT mine; SAVEPOINT other; RELEASE mine")
        self.db.commit()
        self.db.rollback()
        self.assertEqual(self.names(), ["ann", "cid"])
        with self.assertRaises(psycopg2.errors.InvalidSavepointSpecification):
            self.ask("ROLLBACK TO SAVEPOINT mine")

    def test_autocommit(self) -> None:
        self.db.autocommit = True
        self.add("bob")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            self.add("ann")
        self.add("cid")  # The error left no transaction behind.
        with contextlib.suppress(ZeroDivisionError), self.db:  # A block is a transaction even then.
            self.add("dan")
            raise ZeroDivisionError
        self.db.rollback()
        self.assertEqual((self.names(), self.db.autocommit), (["ann", "bob", "cid"], True))
        self.db.autocommit = False

    def test_what_psycopg2_refuses_in_a_transaction(self) -> None:
        self.add("bob")
        for what in ("autocommit", "readonly"):
            with self.assertRaisesRegex(psycopg2.ProgrammingError, f"^{what} cannot be used inside a transaction"):
                setattr(self.db, what, True)
        with self.assertRaisesRegex(psycopg2.ProgrammingError, "^set_session cannot be used inside a transaction"):
            self.db.set_session(autocommit=True)

    def test_read_only_transactions(self) -> None:
        self.db.set_session(readonly=True, deferrable=True, isolation_level="READ COMMITTED")
        for _ in range(2):
            with self.assertRaises(psycopg2.errors.ReadOnlySqlTransaction):
                self.add("bob")
            self.db.rollback()
        self.assertEqual((self.db.readonly, self.db.deferrable, self.names()), (True, True, ["ann"]))
        self.db.commit()
        self.db.readonly = False
        self.add("bob")

    def test_other_isolation_levels_and_two_phase_commits_are_refused_with_advice(self) -> None:
        cure = "isolation='database', where commits are real"
        one = "isolation='rollback' runs all of a test in one transaction, which is read committed and cannot become"
        refused: list[tuple[Callable[[], object], str]] = [
            (
                lambda: self.db.set_isolation_level(extensions.ISOLATION_LEVEL_SERIALIZABLE),
                f"{one} serializable: use {cure}",
            ),
            (lambda: self.db.set_session("REPEATABLE READ"), f"{one} repeatable read: use {cure}"),
            (lambda: setattr(self.db, "isolation_level", 2), f"{one} repeatable read: use {cure}"),
            (
                lambda: self.db.tpc_begin(self.db.xid(1, "a", "b")),
                f"two-phase commits are real commits, and a sandbox has none; use {cure}",
            ),
            (
                lambda: self.db.set_client_encoding("LATIN1"),
                f"the encoding of a connection cannot be changed inside a sandbox; use {cure}",
            ),
        ]
        for call, message in refused:
            with self.assertRaises(IsolationError) as caught:
                call()
            self.assertEqual(str(caught.exception), message)
        self.db.set_isolation_level(extensions.ISOLATION_LEVEL_READ_COMMITTED)
        self.db.set_client_encoding("utf-8")

    def test_what_no_transaction_allows_is_refused_with_advice(self) -> None:
        self.ask("CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")
        self.db.commit()
        for statement, sqlstate in (
            ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "25001"),
            ("VACUUM numbers", "25001"),
            ("CALL commits()", "2D000"),
            ("DO $$ BEGIN ROLLBACK; END $$", "2D000"),
        ):
            with self.subTest(statement), self.assertRaises(psycopg2.Error) as caught:
                self.ask(statement)
            self.db.rollback()
            self.assertEqual(
                (caught.exception.pgcode, caught.exception.__notes__),
                (
                    sqlstate,
                    [
                        "with isolation='rollback' all of a test is one transaction, and a savepoint in it, where this "
                        "cannot be done: use isolation='database', where commits are real"
                    ],
                ),
            )
        with self.assertRaises(psycopg2.errors.UndefinedTable) as other:
            self.ask("SELECT * FROM nowhere")
        self.assertFalse(hasattr(other.exception, "__notes__"))

    def test_closing_takes_back_what_was_not_committed(self) -> None:
        other = self.postgres.connect()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO users (name) VALUES ('bob')")
            other.commit()
            cursor.execute("INSERT INTO users (name) VALUES ('cid')")
        other.close()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_reset(self) -> None:
        self.add("bob")
        self.ask("SET work_mem = '3MB'")
        self.db.commit()
        self.db.autocommit = True
        self.db.reset()
        self.assertEqual((self.ask("SHOW work_mem"), self.db.autocommit), ([("4MB",)], False))

    def test_cursors_of_all_kinds(self) -> None:
        self.ask("INSERT INTO numbers SELECT generate_series(1, 5000)")
        with self.db.cursor("named") as cursor:
            cursor.itersize = 1000
            cursor.execute("SELECT n FROM numbers ORDER BY n")
            self.assertEqual(sum(n for (n,) in cursor), 12502500)
        with self.db.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute("SELECT n FROM numbers WHERE n = %(n)s", vars={"n": 1})
            self.assertEqual(cursor.fetchall(), [{"n": 1}])
        self.db.cursor_factory = psycopg2.extras.NamedTupleCursor
        with self.db.cursor() as cursor:
            cursor.execute(query="SELECT 1 AS one")
            self.assertEqual(cursor.fetchone().one, 1)
            cursor.executemany("INSERT INTO numbers VALUES (%s)", [(-1,), (-2,)])
            psycopg2.extras.execute_values(cursor, "INSERT INTO numbers VALUES %s", [(-3,), (-4,)])
            cursor.callproc("abs", (-5,))
            self.assertEqual(cursor.fetchone()[0], 5)
            with tempfile.TemporaryFile("w+") as file:
                cursor.copy_expert("COPY (SELECT n FROM numbers WHERE n < 0 ORDER BY n) TO STDOUT", file)
                file.seek(0)
                cursor.copy_from(file, "numbers")
            cursor.execute("SELECT count(*) FROM numbers WHERE n < 0")
            self.assertEqual(cursor.fetchone()[0], 8)

    def test_large_objects(self) -> None:
        large = self.db.lobject(mode="w")
        large.write("hello")
        large.close()
        self.db.commit()
        self.assertEqual(self.db.lobject(large.oid).read(), "hello")

    def test_what_a_session_holds_is_gone_for_the_next_test(self) -> None:
        found = [
            self.ask(
                "SELECT current_setting('work_mem'), (SELECT count(*) FROM pg_prepared_statements WHERE name !~ '^itest')"
            ),
            self.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
            self.ask("SELECT count(*) FROM pg_class WHERE relname = 'temporary'"),
            self.ask("SELECT * FROM pg_listening_channels()"),
            self.ask("SELECT '{}'::jsonb, '00000000-0000-0000-0000-000000000000'::uuid"),
        ]
        expected = [[("4MB", 0)], [(0,)], [(0,)], [], [({}, "00000000-0000-0000-0000-000000000000")]]
        self.assertEqual((found, self.db.notices, self.db.cursor_factory), (expected, [], None))
        self.ask("SET work_mem = '8MB'; PREPARE one AS SELECT 1; SELECT pg_advisory_lock(1); LISTEN channel")
        self.ask("CREATE TEMPORARY TABLE temporary (); DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        psycopg2.extras.register_uuid(conn_or_curs=self.db)
        self.db.cursor_factory = psycopg2.extras.DictCursor
        self.db.commit()

    test_what_a_session_holds_is_gone_for_the_next_test_again = test_what_a_session_holds_is_gone_for_the_next_test

    def test_prepared_statements_may_be_deallocated(self) -> None:
        self.add("bob")
        self.ask("DEALLOCATE ALL")

    def test_schema_changes_are_undone(self) -> None:
        self.assertEqual(self.ask("SELECT to_regclass('made'), to_regclass('numbers') IS NULL"), [(None, False)])
        self.ask("CREATE TABLE made (); ALTER TABLE users ADD COLUMN made int; DROP TABLE numbers")
        self.db.commit()

    test_schema_changes_are_undone_again = test_schema_changes_are_undone

    def test_execute_commits(self) -> None:
        self.postgres.execute("INSERT INTO users (name) VALUES ('bob')")
        self.db.rollback()
        self.add("cid")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            self.postgres.execute("INSERT INTO users (name) VALUES ('bob')")
        self.db.commit()  # What was there before the failing statement is still there.
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM users WHERE name > %s", ("b",)), [(2,)])

    def test_fixtures(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "users.sql"
            file.write_text("INSERT INTO users (name) VALUES ('bob'); INSERT INTO users (name) VALUES ('cid');")
            self.postgres.load(file)
        self.db.rollback()
        self.assertEqual(self.names(), ["ann", "bob", "cid"])

    def test_a_lost_connection_is_replaced(self) -> None:
        self.add("bob")
        lost = self.db
        with self.assertRaises(psycopg2.OperationalError):
            self.ask("SELECT pg_terminate_backend(pg_backend_pid())")
        self.assertEqual((lost.closed, self.names()), (2, ["ann"]))

    def test_a_lost_connection_is_replaced_for_the_next_test(self) -> None:
        with self.assertRaises(psycopg2.OperationalError):
            self.ask("SELECT pg_terminate_backend(pg_backend_pid())")

    def test_options_are_refused_with_advice(self) -> None:
        with self.assertRaises(ItestError) as caught:
            self.postgres.connect(cursor_factory=psycopg2.extras.DictCursor)
        self.assertEqual(
            str(caught.exception),
            "connect(cursor_factory=...): with isolation='rollback' all connections of a test are one, which cannot be "
            "opened with options of its own; use isolation='database', where commits are real",
        )


class DeferredConstraintTest(_Sandboxed):
    def test_a_commit_checks_them(self) -> None:
        self.ask("INSERT INTO orders (user_id) VALUES (99)")
        with self.assertRaises(psycopg2.errors.ForeignKeyViolation):
            self.db.commit()
        self.assertEqual(self.ask("SELECT count(*) FROM orders"), [(0,)])

    def test_they_are_deferred_again_in_the_next_transaction(self) -> None:
        for number in (1, 2):
            self.ask("INSERT INTO orders (user_id) VALUES (%s)", (number,))
            self.ask("INSERT INTO users (id, name) VALUES (%s, %s)", (number, f"user {number}"))
            self.db.commit()
        with self.assertRaises(psycopg2.errors.ForeignKeyViolation):  # This one is deferrable, but not at first.
            self.ask("INSERT INTO orders (first_id) VALUES (99)")

    def test_they_are_deferred_again_after_a_rollback(self) -> None:
        self.db.commit()
        self.add("bob")
        self.db.commit()
        self.db.rollback()
        self.ask("INSERT INTO orders (user_id) VALUES (1001)")
        self.ask("INSERT INTO users (id, name) VALUES (1001, 'cid')")
        self.db.commit()

    def test_a_test_may_drop_them(self) -> None:
        for change in (
            "ALTER TABLE numbers ADD CONSTRAINT orders_user_id_fkey CHECK (n > 0)",  # A namesake that is not deferrable.
            "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey",
            "ALTER TABLE orders DROP CONSTRAINT orders_first_id_fkey",
            "DROP TABLE orders",
        ):
            with self.subTest(change):
                self.ask(change)
                self.db.commit()
                self.db.rollback()
                self.ask("INSERT INTO numbers VALUES (1)")
                self.db.commit()
        self.assertEqual(self.ask("SELECT count(*) FROM numbers"), [(4,)])
        self.assertEqual(self.ask("SELECT to_regclass('orders')"), [(None,)])

    def test_and_the_next_test_has_them_as_ever(self) -> None:
        self.test_they_are_deferred_again_in_the_next_transaction()


class SqlAlchemyTest(_Sandboxed):
    def test_a_session(self) -> None:
        self.session.add(User(name="bob"))
        self.session.commit()
        self.session.add(User(name="cid"))
        self.session.flush()
        self.session.rollback()  # As code under test does on an error.
        with self.session.begin_nested():
            self.session.add(User(name="dan"))
        with contextlib.suppress(ZeroDivisionError), self.session.begin_nested():
            self.session.add(User(name="eve"))
            raise ZeroDivisionError
        self.session.commit()
        self.assertEqual(self.names(), ["ann", "bob", "dan"])
        self.assertEqual(self.session.scalars(sqlalchemy.select(User.name).order_by(User.name)).all(), self.names())

    def test_the_engine(self) -> None:
        with self.postgres.engine.begin() as connection:
            connection.execute(text("INSERT INTO users (name) VALUES ('bob')"))
        with contextlib.suppress(ZeroDivisionError), self.postgres.engine.begin() as connection:
            connection.execute(text("INSERT INTO users (name) VALUES ('cid')"))
            raise ZeroDivisionError
        with self.postgres.engine.connect() as connection:
            connection.execute(text("INSERT INTO users (name) VALUES ('never committed')"))
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_autocommit_as_an_option(self) -> None:
        engine = self.postgres.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO users (name) VALUES ('bob')"))
            connection.rollback()
        with self.postgres.engine.connect() as connection:
            connection.execute(text("INSERT INTO users (name) VALUES ('cid')"))
        self.assertEqual((self.names(), self.db.autocommit), (["ann", "bob"], False))

    def test_an_isolation_level_as_an_option_is_refused(self) -> None:
        engine = self.postgres.engine.execution_options(isolation_level="SERIALIZABLE")
        with self.assertRaisesRegex(IsolationError, "cannot become serializable: use isolation='database'"):
            engine.connect()

    def test_a_session_of_code_under_test(self) -> None:
        maker = orm.sessionmaker(self.postgres.engine)
        with maker() as session, session.begin():
            session.add(User(name="bob"))
        with maker(bind=self.postgres.engine.connect(), join_transaction_mode="create_savepoint") as session:
            session.add(User(name="cid"))
            session.commit()
        self.assertEqual(self.session.scalar(sqlalchemy.select(sqlalchemy.func.count(User.id))), 3)

    def test_types(self) -> None:
        """The engine makes its connection's uuids into objects; the connection is the next test's too."""
        uuid = "00000000-0000-0000-0000-000000000001"
        self.assertEqual(self.ask(f"SELECT '{uuid}'::uuid"), [(uuid,)])
        with self.postgres.engine.connect() as connection:
            [(found, data)] = connection.execute(text(f"SELECT '{uuid}'::uuid, '[1]'::jsonb"))
        self.assertEqual((str(found), type(found).__name__, data), (uuid, "UUID", [1]))

    test_types_again = test_types

    heard: ClassVar[list[str]] = []

    def test_listeners_of_a_test_are_gone(self) -> None:
        self.assertEqual(self.heard, [])
        for name in ("checkout", "do_execute", "before_cursor_execute"):
            sqlalchemy.event.listen(self.postgres.engine, name, lambda *args: self.heard.append(self.id()))
        self.session.scalar(text("SELECT 1"))
        self.assertEqual(self.heard, [self.id()] * 3)
        self.heard.clear()

    def test_listeners_of_a_test_are_gone_again(self) -> None:
        self.session.scalar(text("SELECT 1"))
        self.session.close()
        self.test_listeners_of_a_test_are_gone()

    def test_a_pool_that_is_disposed_of(self) -> None:
        self.add("bob")
        self.db.commit()
        self.postgres.engine.dispose()
        self.session.add(User(name="cid"))
        self.session.commit()
        self.assertEqual(self.names(), ["ann", "bob", "cid"])


class SeveralHoldersTest(_Sandboxed):
    """A rollback and a close take back what was done by the same connection, as in the world outside."""

    INSERT = text("INSERT INTO users (name) VALUES (:name)")

    def test_closing_a_connection_that_only_read(self) -> None:
        first, second = self.postgres.connect(), self.postgres.connect()
        with first.cursor() as cursor:
            cursor.execute("INSERT INTO users (name) VALUES ('bob')")
        with second.cursor() as cursor:
            cursor.execute("SELECT 1")
        second.close()
        first.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_closing_one_that_was_opened_when_another_had_written(self) -> None:
        self.add("bob")
        other = self.postgres.connect()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO users (name) VALUES ('cid')")
        other.close()
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_a_rollback_of_that_one(self) -> None:
        self.add("bob")
        other = self.postgres.connect()
        with other.cursor() as cursor, self.assertRaises(psycopg2.errors.UniqueViolation):
            cursor.execute("INSERT INTO users (name) VALUES ('ann')")
        other.rollback()
        self.assertEqual(self.names(), ["ann", "bob"])
        other.close()
        self.db.rollback()
        self.assertEqual(self.names(), ["ann"])

    def test_a_failing_one_of_several(self) -> None:
        first, second = self.postgres.connect(), self.postgres.connect()
        with second.cursor() as cursor, self.assertRaises(psycopg2.errors.UniqueViolation):
            cursor.execute("INSERT INTO users (name) VALUES ('ann')")
        second.close()
        first.close()
        self.assertEqual(self.names(), ["ann"])

    def test_connections_of_the_engine(self) -> None:
        engine = self.postgres.engine
        with engine.connect() as first, engine.connect() as second:
            second.execute(text("SELECT 1"))
            first.execute(self.INSERT, {"name": "bob"})
            second.close()
            first.commit()
        with engine.begin() as outer:
            outer.execute(self.INSERT, {"name": "cid"})
            with engine.connect() as inner:
                inner.execute(self.INSERT, {"name": "never committed"})
            with contextlib.suppress(ZeroDivisionError), engine.begin() as inner:
                inner.execute(self.INSERT, {"name": "rolled back"})
                raise ZeroDivisionError
            with engine.connect():
                pass
        self.assertEqual(self.names(), ["ann", "bob", "cid"])

    def test_sessions(self) -> None:
        """As where each request has one, and the test another."""
        self.session.add(User(name="bob"))
        self.session.flush()
        for name in ("cid", "ann", "dan"):
            with self.postgres.session() as other:
                self.assertIn("bob", other.scalars(sqlalchemy.select(User.name)).all())
                other.add(User(name=name))
                with contextlib.suppress(sqlalchemy.exc.IntegrityError):
                    other.flush()
                other.rollback()
        with self.postgres.session() as other, self.assertRaises(sqlalchemy.exc.IntegrityError):
            other.add(User(name="ann"))
            other.commit()
        self.session.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_a_session_that_the_test_has_read_by(self) -> None:
        self.session.scalars(sqlalchemy.select(User)).all()
        with contextlib.suppress(ZeroDivisionError), self.postgres.session() as other, other.begin():
            other.add(User(name="bob"))
            other.flush()
            raise ZeroDivisionError
        self.session.commit()
        self.assertEqual(self.names(), ["ann"])

    def test_one_that_read_first_takes_nothing_of_another_ones_back(self) -> None:
        self.session.scalars(sqlalchemy.select(User)).all()
        with self.postgres.engine.connect() as other:
            other.execute(self.INSERT, {"name": "bob"})
            self.session.rollback()
            other.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_what_is_not_closed_is_taken_back_when_it_is_gone(self) -> None:
        self.add("bob")
        connection = self.postgres.engine.connect()
        connection.execute(self.INSERT, {"name": "cid"})
        del connection
        gc.collect()
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_the_drivers_connection_of_the_engine(self) -> None:
        connection = self.postgres.engine.raw_connection()
        with contextlib.closing(connection), contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("INSERT INTO users (name) VALUES ('never committed')")
        self.assertEqual(self.names(), ["ann"])

    def test_a_pool_that_is_disposed_of(self) -> None:
        """As an app's lifespan does."""
        with self.postgres.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        self.add("bob")
        self.postgres.engine.dispose()
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_the_drivers_connection_takes_nothing_of_another_ones_back(self) -> None:
        self.add("bob")
        raw = self.postgres.engine.raw_connection()
        cursor = raw.cursor()
        cursor.execute("INSERT INTO users (name) VALUES ('cid')")
        raw.rollback()
        cursor.execute("INSERT INTO users (name) VALUES ('dan')")
        raw.close()
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_the_first_connection_of_the_engine_takes_nothing_of_another_ones_back(self) -> None:
        self.postgres.engine.dispose()
        self.add("bob")
        with self.postgres.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_cursors_of_the_driver(self) -> None:
        cursor = self.session.connection().connection.cursor()
        psycopg2.extras.execute_values(cursor, "INSERT INTO users (name) VALUES %s", [("bob",), ("cid",)])
        self.session.rollback()
        self.assertEqual(self.names(), ["ann"])

    def test_reading_by_turns_piles_up_no_savepoints(self) -> None:
        for number in range(20):
            self.session.execute(self.INSERT, {"name": f"user {number}"})
            self.names()
        sandbox: Any = self.db
        self.assertLess(len(sandbox._uses.holders), 4)
        self.session.commit()
        self.assertEqual(len(self.names()), 21)

    def test_a_status_that_does_not_tell_of_what_was_written(self) -> None:
        for statement in (
            "WITH made AS (INSERT INTO users (name) VALUES ('bob') RETURNING id) SELECT id FROM made",
            "INSERT INTO users (name) VALUES ('bob'); SELECT 1",
        ):
            with self.subTest(statement):
                self.ask(statement)
                self.session.execute(text("SELECT 1"))
                self.db.rollback()
                self.assertEqual(self.names(), ["ann"])

    def test_a_function_that_writes(self) -> None:
        self.ask(
            "CREATE FUNCTION add() RETURNS int LANGUAGE sql AS $$INSERT INTO users (name) VALUES ('bob') RETURNING id$$"
        )
        self.db.commit()
        self.ask("SELECT add()")
        self.db.rollback()
        self.assertEqual(self.names(), ["ann"])
        self.ask("SELECT add()")
        self.session.execute(text("SELECT 1"))
        self.session.rollback()
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_an_expected_error_of_one_that_has_read_before(self) -> None:
        self.names()
        self.session.execute(self.INSERT, {"name": "bob"})
        with self.assertRaises(psycopg2.errors.DivisionByZero):
            self.ask("SELECT 1/0")
        self.db.rollback()
        self.session.commit()
        self.assertEqual(self.names(), ["ann", "bob"])

    def test_a_commit_that_a_deferred_constraint_refuses_after_another_one_read(self) -> None:
        self.session.execute(text("SELECT 1"))
        self.session.rollback()
        self.names()
        self.session.execute(text("INSERT INTO orders (user_id) VALUES (99)"))
        with self.assertRaises(sqlalchemy.exc.IntegrityError):
            self.session.commit()
        self.session.rollback()
        self.assertEqual(self.ask("SELECT count(*) FROM orders"), [(0,)])

    def test_a_failed_statement_is_taken_back_by_whoever_rolls_back(self) -> None:
        with self.assertRaises(sqlalchemy.exc.DataError):
            self.session.execute(text("SELECT 1/0"))
        self.db.rollback()
        self.assertEqual(self.names(), ["ann"])

    def test_settings_and_locks_are_no_loss(self) -> None:
        self.add("bob")
        for statement in ("SET LOCAL statement_timeout = '5s'", "RESET work_mem", "LOCK TABLE numbers"):
            self.session.execute(text(statement))
        self.db.rollback()
        self.assertEqual(self.names(), ["ann"])

    def test_an_empty_transaction_of_the_engine_after_a_close(self) -> None:
        other = self.postgres.connect()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO users (name) VALUES ('bob')")
        other.close()
        with self.postgres.engine.begin():
            pass
        self.assertEqual(self.names(), ["ann"])

    def test_an_isolation_level_of_the_driver_rolls_back(self) -> None:
        for level in (extensions.ISOLATION_LEVEL_READ_COMMITTED, extensions.ISOLATION_LEVEL_AUTOCOMMIT):
            with self.subTest(level):
                self.add("bob")
                self.db.set_isolation_level(level)
                self.assertEqual(self.names(), ["ann"])

    def test_autocommit_of_another_one(self) -> None:
        self.add("bob")
        with self.postgres.engine.execution_options(isolation_level="AUTOCOMMIT").connect():
            pass
        self.db.commit()
        self.assertEqual(self.names(), ["ann", "bob"])


def run(body: Callable[[Any], object], isolation: str = "rollback") -> tuple[list[str], list[str]]:
    """Run a test with this body, and one after it that finds the baseline. The last lines of what failed in the first
    and in the second."""

    class Inner(PostgresMixin, ContainerTestCase):
        postgres = Postgres(migrations=migrate, isolation=isolation)
        ran: ClassVar[list[str]] = []

        @classmethod
        def setUpTestData(cls) -> None:
            cls.postgres.execute("INSERT INTO users (id, name) VALUES (1000, 'ann')")

        def test_1(self) -> None:
            body(self)

        def test_2(self) -> None:
            self.assertEqual(self.postgres.execute("SELECT name FROM users"), [("ann",)])
            self.assertEqual(self.postgres.execute("SELECT to_regclass('made')"), [(None,)])

    result = unittest.TestResult()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Inner)
    suite.run(result)
    if result.skipped:
        raise unittest.SkipTest(result.skipped[0][1])
    failed: tuple[list[str], list[str]] = ([], [])
    for test, trace in [*result.failures, *result.errors]:
        failed["test_2" in test.id()].append(trace.strip().rpartition("\nitest.errors.")[2] or trace)
    return failed


CURE = "isolation='database', where commits are real"


class EscapeTest(unittest.TestCase):
    """What gets out fails the test that did it, and no other."""

    def check(self, body: Callable[[Any], object], *messages: str) -> None:
        first, second = run(body)
        self.assertEqual(second, [])
        self.assertEqual(len(first), len(messages), first)
        for found, message in zip(first, messages, strict=True):
            self.assertIn(message, found)

    def test_nothing(self) -> None:
        def body(test: Any) -> None:
            test.postgres.execute("INSERT INTO users (name) VALUES ('bob')")
            other = psycopg2.connect(test.postgres.url)  # Reading is all right, though it sees nothing of the test's.
            with contextlib.closing(other), other.cursor() as cursor:
                cursor.execute("SELECT name FROM users")
                test.assertEqual(cursor.fetchall(), [("ann",)])

        self.check(body)

    def test_a_statement_that_ends_the_transaction(self) -> None:
        for statement in ("COMMIT", "rollback work", "END; SELECT 1", "ABORT"):
            with self.subTest(statement):

                def body(test: Any, statement: str = statement) -> None:
                    test.postgres.execute("INSERT INTO users (name) VALUES ('bob')")
                    with test.db.cursor() as cursor, contextlib.suppress(IsolationError):
                        cursor.execute("SELECT 1")
                        cursor.execute(statement)

                self.check(
                    body,
                    f"test_1: `{statement}` ended the transaction of the sandbox: use the connection's commit() and "
                    f"rollback(), which stay inside it, or {CURE}",
                )

    def test_it_is_raised_where_it_happens_and_from_then_on(self) -> None:
        def body(test: Any) -> None:
            cursor = test.db.cursor()
            for call in (lambda: cursor.execute("COMMIT"), lambda: cursor.execute("SELECT 1"), test.db.commit):
                with test.assertRaisesRegex(IsolationError, "`COMMIT` ended the transaction"):
                    call()

        self.check(body, "`COMMIT` ended the transaction of the sandbox")

    def test_a_test_that_fails_by_it_is_reported_once(self) -> None:
        self.check(
            lambda test: test.postgres.execute("COMMIT"), "IsolationError: `COMMIT` ended the transaction of the"
        )

    def test_a_transaction_of_its_own(self) -> None:
        def body(test: Any) -> None:
            test.db.cursor().execute("INSERT INTO users (name) VALUES ('bob'); COMMIT; BEGIN")

        self.check(body, "test_1: a statement ended the transaction of the sandbox")

    def test_a_commit_after_it(self) -> None:
        def body(test: Any) -> None:
            test.db.cursor().execute("INSERT INTO users (name) VALUES ('bob'); COMMIT AND CHAIN")
            with contextlib.suppress(IsolationError):
                test.db.commit()

        self.check(body, "test_1: `COMMIT` ended the transaction of the sandbox")

    def test_another_connection_that_writes(self) -> None:
        def body(test: Any) -> None:
            other = psycopg2.connect(test.postgres.url)
            with contextlib.closing(other), other, other.cursor() as cursor:
                cursor.execute("INSERT INTO users (name) VALUES ('bob')")
                cursor.execute("CREATE TABLE made ()")

        [message], second = run(body)
        self.assertEqual(second, [])
        self.assertRegex(
            message,
            r"test_1: it wrote to .*users.* through another connection than its sandbox's, so there was nothing to "
            r"roll "
            r"back and the database was reset in full: give code under test self\.db, self\.session or "
            r"self\.postgres\.engine, or use isolation='database', where commits are real",
        )

    def test_the_class_level_view(self) -> None:
        def body(test: Any) -> None:
            type(test).postgres.execute("UPDATE users SET name = 'bob'")

        self.check(body, "it wrote to users through another connection")

    def test_another_connection_that_is_left_in_a_transaction(self) -> None:
        leaked = []

        def body(test: Any) -> None:
            leaked.append(psycopg2.connect(test.postgres.url))
            leaked[0].cursor().execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")

        with said() as lines:
            self.check(body)
        self.assertRegex(lines[0], "test_1 left a database session behind, and it was ended: .*LOCK TABLE users")
        with self.assertRaises(psycopg2.OperationalError):
            leaked[0].cursor().execute("SELECT 1")
        leaked[0].close()

    def test_another_connection_that_is_left_with_an_advisory_lock(self) -> None:
        def body(test: Any) -> None:
            leaked = psycopg2.connect(test.postgres.url)
            self.addCleanup(leaked.close)
            leaked.autocommit = True
            leaked.cursor().execute("SELECT pg_advisory_lock(77)")

        for isolation in ("rollback", "database"):  # The latter where the log cannot be read, as on external servers.
            with (
                self.subTest(isolation),
                mock.patch.object(PostgresServer, "can_recycle", return_value=isolation == "rollback"),
                said() as lines,
            ):
                self.assertEqual(run(body, isolation), ([], []))
                self.assertRegex(
                    "\n".join(lines),
                    "test_1 or the set-up of its class left a database session behind, and it was ended: .*, idle, holding an "
                    "advisory lock, last "
                    r"statement: SELECT pg_advisory_lock\(77\)",
                )

    def test_a_prepared_transaction(self) -> None:
        def of_the_sandbox(test: Any) -> None:
            with contextlib.suppress(IsolationError):
                test.db.cursor().execute("INSERT INTO users (name) VALUES ('bob'); PREPARE TRANSACTION 'two phases'")

        def of_another_connection(test: Any) -> None:
            with contextlib.closing(psycopg2.connect(test.postgres.url)) as other:
                other.cursor().execute("INSERT INTO users (name) VALUES ('bob'); PREPARE TRANSACTION 'two phases'")

        for body, messages in ((of_the_sandbox, ["ended the transaction of the sandbox"]), (of_another_connection, [])):
            with self.subTest(body.__name__), said() as lines:
                self.check(body, *messages)
                self.assertIn(
                    "test_1 left a prepared transaction behind, and it was rolled back: 'two phases'", "\n".join(lines)
                )

    def test_another_database_is_no_business_of_ours(self) -> None:
        def body(test: Any) -> None:
            url = test.postgres.url.rpartition("/")[0] + "/postgres"
            other = psycopg2.connect(url)
            with contextlib.closing(other), other, other.cursor() as cursor:
                cursor.execute("CREATE TABLE elsewhere (); DROP TABLE elsewhere")

        self.check(body)

    def test_another_thread(self) -> None:
        def body(test: Any) -> None:
            db = test.db

            def work() -> None:
                with contextlib.suppress(IsolationError):
                    db.cursor()

            thread = threading.Thread(target=work, name="worker")
            thread.start()
            thread.join()

        self.check(
            body,
            "test_1: the sandbox is one connection, for the thread that runs the test, and the thread 'worker' used "
            "it: "
            f"use {CURE}, and each thread has a connection of its own",
        )

    def test_a_deferred_constraint_that_no_commit_has_checked(self) -> None:
        def body(test: Any) -> None:
            test.db.cursor().execute("INSERT INTO orders (user_id) VALUES (99)")

        self.check(
            body,
            "test_1: a deferred constraint is violated, which a real commit would have reported: insert or update on "
            'table "orders" violates foreign key constraint "orders_user_id_fkey"',
        )

    LOST = (
        "test_1: what one connection had written and not committed was taken back with what another one did, for they "
        f"are all one sandbox: commit what is to stay first, or use {CURE}"
    )

    def test_what_is_lost_by_the_rollback_of_another_connection(self) -> None:
        insert = "INSERT INTO numbers VALUES (1)"

        def of_the_outer_one(test: Any) -> None:
            with test.postgres.engine.connect() as outer, test.postgres.engine.connect() as inner:
                for connection in (outer, inner):
                    connection.execute(text(insert))
                outer.rollback()

        def of_one_between(test: Any) -> None:
            with test.postgres.engine.connect() as outer, test.postgres.engine.connect() as inner:
                for connection in (outer, inner, outer):
                    connection.execute(text(insert))
                inner.rollback()

        def of_one_that_another_went_back_behind(test: Any) -> None:
            with test.postgres.engine.connect() as outer, test.postgres.engine.connect() as inner:
                savepoint = outer.begin_nested()
                inner.execute(text(insert))
                savepoint.rollback()
                inner.rollback()

        def of_a_commit_that_fails(test: Any) -> None:
            with test.postgres.engine.connect() as connection, test.db.cursor() as cursor:
                connection.execute(text(insert))
                cursor.execute("INSERT INTO orders (user_id) VALUES (99)")
                with contextlib.suppress(psycopg2.errors.ForeignKeyViolation):
                    test.db.commit()

        for body in (of_the_outer_one, of_one_between, of_one_that_another_went_back_behind, of_a_commit_that_fails):
            with self.subTest(body.__name__):
                self.check(body, self.LOST)

    def test_a_commit_of_what_was_lost_by_a_close(self) -> None:
        def body(test: Any) -> None:
            db, other = test.db, test.postgres.connect()
            db.cursor().execute("INSERT INTO numbers VALUES (1)")
            other.close()
            with contextlib.suppress(IsolationError):
                db.commit()

        self.check(body, self.LOST)

    def test_a_failing_statement_is_no_escape(self) -> None:
        def body(test: Any) -> None:
            with test.assertRaises(psycopg2.errors.UndefinedTable):
                test.db.cursor().execute("SELECT * FROM nowhere")

        self.check(body)

    def test_asyncpg_is_refused_with_advice(self) -> None:
        def body(test: Any) -> None:
            test.postgres.aconnect()

        self.check(body, "aconnect() opens a connection of its own, which would not see what this test has done")


if __name__ == "__main__":
    unittest.main()
