# SPDX-License-Identifier: Apache-2.0
"""isolation="database": whatever a test does to its database, the next one finds the baseline, and without a new clone
where only rows and sequences changed. What sessions leave is in test_postgres_leaks.py."""

from __future__ import annotations

import contextlib
import re
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import psycopg2
from sqlalchemy import orm, text

from itest import ContainerTestCase, PostgresMixin
from itest.clock import Deadline
from itest.errors import NotStarted
from itest.services.postgres import Postgres, recycle
from tests.integration.at_once import meeting_in
from tests.integration.baseline import DECLARATION, BaselineTest, schema
from tests.integration.capture import said
from tests.integration.sqlbodies import TABLE


class RowsTest(BaselineTest):
    def test_nothing_at_all(self) -> None:
        self.reset()

    def test_rows_inserted_updated_deleted(self) -> None:
        self.undone(
            "INSERT INTO parent (name) VALUES ('new')",
            "UPDATE parent SET name = name || '!' WHERE id = 3",
            "DELETE FROM child WHERE id = 7",
            "DELETE FROM child; DELETE FROM parent",
            "INSERT INTO numbers VALUES (1) ON CONFLICT (n) DO UPDATE SET square = 0",
            "MERGE INTO numbers USING (VALUES (1)) v (n) ON numbers.n = v.n WHEN MATCHED THEN DELETE",
        )

    def test_foreign_keys_cycles_and_restrict(self) -> None:
        self.undone(
            "INSERT INTO a VALUES (2, 2); INSERT INTO b VALUES (2, 2)",
            "INSERT INTO child (parent_id) VALUES (1); INSERT INTO grandchild (child_id) SELECT max(id) FROM child",
        )

    def test_sequences_and_identity(self) -> None:
        self.undone(
            "SELECT nextval('lonely')",
            "SELECT nextval('lonely') FROM generate_series(1, 200)",
            "SELECT setval('lonely', 7)",
            "SELECT setval('child_id_seq', 99, false)",
            "SELECT nextval('app.\"Seq\"')",
            "SELECT nextval('unlogged_seq')",
            "INSERT INTO child (id, parent_id) OVERRIDING SYSTEM VALUE VALUES (10000, 3)",
            "INSERT INTO grandchild DEFAULT VALUES",
        )

    def test_a_sequence_that_no_rolled_back_transaction_gives_back(self) -> None:
        with self.view.connection.cursor() as cursor:
            cursor.execute("SELECT nextval('lonely')")
        self.view.connection.rollback()
        self.reset("undone")
        self.assertEqual(self.view.execute("SELECT nextval('lonely')"), [(2,)])

    def test_triggers_that_write_or_forbid(self) -> None:
        self.undone(
            "INSERT INTO app.audited (v) VALUES (3)",
            "DELETE FROM app.audited",
            "INSERT INTO app.undeletable VALUES (9)",
            "INSERT INTO app.ruled VALUES (9)",
        )
        self.cloned("INSERT INTO app.guarded VALUES (1)")  # Its trigger fires whatever we do.
        self.assertIn("always fire", self.lease.reason)

    def test_partitions_and_inheritance(self) -> None:
        self.undone(
            "UPDATE parts SET kind = CASE kind WHEN 'a' THEN 'b' ELSE 'a' END",
            "INSERT INTO parts VALUES (5000, 'b')",
            "DELETE FROM parts",
            "UPDATE elder SET name = 'both'",
            "DELETE FROM ONLY elder",
            "DELETE FROM heir",
        )

    def test_tables_of_every_other_kind(self) -> None:
        self.undone(
            "INSERT INTO unlogged_empty (v) VALUES ('x')",
            "UPDATE unlogged_rows SET v = 'x'",
            "DELETE FROM unlogged_rows",
            "UPDATE generated SET n = 7",
            "DELETE FROM nothing",
            "DELETE FROM secured",
            "UPDATE toasted SET big = repeat(big, 2)",
            "DELETE FROM odd",
            f"DELETE FROM {TABLE}",
            f'UPDATE {TABLE} SET "Größe" = 7',
        )

    def test_reading_and_locking_rows_changes_nothing(self) -> None:
        for statement in ("SELECT * FROM parts", "SELECT * FROM numbers FOR UPDATE", "LOCK TABLE parent", "NOTIFY x"):
            with self.subTest(statement), self.view.connection.cursor() as cursor:
                cursor.execute(statement)
                self.view.connection.commit()
                self.reset()

    def test_a_failure_tells_of_tables_that_the_test_made_or_truncated(self) -> None:
        self.view.execute('CREATE TABLE q (n int); CREATE TABLE app."Q" (n int PRIMARY KEY)')
        self.view.execute('INSERT INTO q VALUES (1); INSERT INTO app."Q" VALUES (1), (2)')
        self.view.execute("TRUNCATE numbers; INSERT INTO numbers VALUES (1)")
        lines = self.lease.evidence(0).lines
        for line in (
            "wrote to q (inserted), which has 1 committed row",
            'wrote to app."Q" (inserted), which has 2 committed rows',
            "wrote to numbers (inserted), which has 1 committed row",
        ):
            self.assertIn(line, lines)

    def test_looking_at_a_failure_leaves_nothing_in_the_log(self) -> None:
        with self.view.connection.cursor() as cursor:
            cursor.execute("INSERT INTO numbers VALUES (10000); ALTER TABLE numbers ADD more int")
            self.assertIn(
                "wrote to numbers (inserted), whose rows are not counted, since it is locked",
                self.lease.evidence(0).lines,
            )
            cursor.execute("DO $$ BEGIN RAISE LOG 'looked at'; END $$")
        self.view.connection.rollback()
        deadline = Deadline.after(10)  # Docker may be some milliseconds behind.
        while "looked at" not in (log := self.server.instance.logs(tail=200)) and not deadline.passed:
            deadline.pause(0.01)
        self.assertIn("looked at", log)
        self.assertNotIn("lock timeout", log)

    def test_of_one_that_hangs_who_waits_for_whose_lock(self) -> None:
        with self.view.connection.cursor() as cursor, self.waiting("LOCK TABLE parent") as waiting:
            cursor.execute("SELECT count(*) FROM numbers; INSERT INTO parent (id, name) VALUES (7000, 'x')")
            waiting.start()
            self.eventually(lambda: len(self.lease.waits()) == 2)
            waits, holds = self.lease.waits()
            pid = re.escape(str(self.view.connection.info.backend_pid))
            self.assertRegex(
                waits,
                r"^session \d+, active for \d+\.\d s; last statement: LOCK TABLE parent; waits for a lock on parent held by "
                rf"session {pid}$",
            )
            self.assertRegex(
                holds,
                rf"^session {pid}, idle in transaction for \d+\.\d s; last statement: SELECT count\(\*\) .*'x'\); has locked "
                r".*parent \(ROW EXCLUSIVE\)",
            )
            self.view.connection.rollback()
            waiting.join(10)
        self.reset()

    def test_of_one_that_hangs_behind_no_lock_the_statements_that_run(self) -> None:
        self.assertEqual(self.lease.waits(), [])
        with self.waiting("SELECT pg_sleep(60)") as waiting:
            waiting.start()
            self.eventually(lambda: len(self.lease.waits()) == 1)
            [line] = self.lease.waits()
        self.assertRegex(line, r"^session \d+, active for \d+\.\d s; last statement: SELECT pg_sleep\(60\)$")
        self.reset()

    @contextlib.contextmanager
    def waiting(self, statement: str) -> Iterator[threading.Thread]:
        """A thread that runs this on a connection of its own; it is ended after the `with`."""
        connection = psycopg2.connect(self.view.url)

        def run() -> None:
            with contextlib.suppress(psycopg2.Error):
                connection.cursor().execute(statement)

        thread = threading.Thread(target=run, daemon=True)
        try:
            yield thread
        finally:
            connection.cancel()
            thread.join(10)
            connection.close()

    def eventually(self, happened: Callable[[], bool]) -> None:
        deadline = Deadline.after(20)
        while not happened():
            self.assertFalse(deadline.passed)
            deadline.pause(0.01)

    def test_what_was_rolled_back_leaves_no_trace(self) -> None:
        self.undone(
            "BEGIN; CREATE TABLE x (id serial); INSERT INTO x DEFAULT VALUES; ROLLBACK",
            "BEGIN; DROP TABLE numbers; ROLLBACK",
            "CREATE TABLE x (id int); DROP TABLE x",
            "BEGIN; TRUNCATE numbers; ROLLBACK",
        )

    def test_temporary_tables(self) -> None:
        self.undone("CREATE TEMP TABLE t (id serial PRIMARY KEY); DROP TABLE t")
        with self.view.connection.cursor() as cursor:
            cursor.execute(
                "CREATE TEMP TABLE parent (id serial PRIMARY KEY, v text); INSERT INTO parent VALUES (1, 'x')"
            )
        self.view.connection.commit()
        self.reset("undone")

    def test_truncate_and_what_else_moves_a_table(self) -> None:
        self.undone(
            "TRUNCATE numbers",
            "TRUNCATE parent RESTART IDENTITY CASCADE",
            "TRUNCATE parts",
            "REINDEX TABLE numbers",
            "TRUNCATE unlogged_rows",
        )
        self.view.execute("INSERT INTO numbers VALUES (10000)")  # It is found in its new file, too.
        self.reset("undone")

    def test_maintenance(self) -> None:
        for statement in ("ANALYZE", "VACUUM", "VACUUM FREEZE parent", "VACUUM FULL toasted", "VACUUM FULL pg_class",
                          "VACUUM FULL", "CHECKPOINT"):  # fmt: skip
            with self.subTest(statement):
                self.view.execute(statement)
                self.reset()
                self.view.execute("UPDATE numbers SET square = 0; CREATE TABLE seen (id int)")
                self.reset("cloned")

    def test_much_was_written(self) -> None:
        self.cloned(
            "INSERT INTO app.audit (what) SELECT repeat('x', 1000) FROM generate_series(1, 40000)",
        )
        self.assertEqual(self.lease.reason, "more than 4 MB were written")


class LargeTest(BaselineTest):
    """A table whose rows take longer to be put back than a new clone takes."""

    CHANGE = "UPDATE large SET text = 'changed' WHERE id = 1"

    @classmethod
    def prepare(cls, view: Any) -> None:
        view.execute("CREATE TABLE large AS SELECT id, repeat('x', 60) AS text FROM generate_series(1, 60000) AS id")
        view.execute(
            "CREATE TABLE wide AS SELECT id, repeat(md5(id::text), 200) AS text FROM generate_series(1, 60) AS id"
        )
        view.execute("CREATE TABLE bloated AS SELECT * FROM large; DELETE FROM bloated WHERE id > 9")

    def test_a_new_clone(self) -> None:
        self.cloned(self.CHANGE)
        self.assertRegex(self.lease.reason, r"^\d+ baseline rows would have to be put back$")
        self.undone("INSERT INTO numbers VALUES (10000)")

    def test_few_rows_are_put_back_however_much_they_take_on_disk(self) -> None:
        self.undone("UPDATE wide SET text = 'changed' WHERE id = 1", "DELETE FROM bloated")

    def test_an_engine_that_was_handed_out_before_lives_on(self) -> None:
        engine = self.view.engine
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(text(self.CHANGE))
                connection.commit()
            self.reset("cloned")

    def test_the_rows_where_a_clone_would_cut_the_connections_of_others(self) -> None:
        with contextlib.closing(psycopg2.connect(self.view.url)) as pool, pool.cursor() as cursor:
            pool.autocommit = True
            self.undone(self.CHANGE)
            cursor.execute("SELECT count(*) FROM large WHERE text = 'changed'")
            self.assertEqual(cursor.fetchall(), [(0,)])


class LimitTest(unittest.TestCase):
    def test_more_for_a_database_whose_clone_costs_more(self) -> None:
        limit = recycle.Limit(100, 1000)
        sizes = (0, recycle.DEARER, 10 * recycle.DEARER)
        self.assertEqual([limit.of(size, True) for size in sizes], [100, 200, 1000])
        self.assertEqual(limit.of(0, False), 1000)


class DefinitionsTest(BaselineTest):
    def test_a_change_of_the_schema_needs_a_new_clone(self) -> None:
        self.cloned(
            "CREATE TABLE x (id int)",
            "CREATE TABLE x AS SELECT * FROM numbers",
            "ALTER TABLE numbers ADD COLUMN x int",
            "DROP TABLE heir",
            "CREATE INDEX ON numbers (square)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION app.forbid() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
            "COMMENT ON TABLE parent IS 'other'",
            "GRANT INSERT ON parent TO base_role",
            "ALTER SEQUENCE lonely INCREMENT BY 2",
            "CREATE EXTENSION pg_trgm",
            "DROP EXTENSION plpgsql CASCADE",
            "REFRESH MATERIALIZED VIEW totals",
            "SELECT lo_create(0)",
            "SELECT lo_put(4711, 0, 'other')",
            "ALTER TABLE app.undeletable DISABLE TRIGGER ALL",
            "DROP SCHEMA app CASCADE",
        )

    def test_the_reason_is_told(self) -> None:
        self.cloned("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        self.assertIn("the schema changed (", self.lease.reason)
        self.assertIn("pg_proc", self.lease.reason)

    def test_roles(self) -> None:
        self.cloned(
            "CREATE ROLE x LOGIN; GRANT SELECT ON parent TO x",
            "CREATE ROLE x; CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO x",
            "ALTER ROLE base_role SUPERUSER PASSWORD 'x' CONNECTION LIMIT 3 VALID UNTIL '2030-01-01'",
            "ALTER ROLE base_role CONNECTION LIMIT 3",
            "ALTER ROLE base_role VALID UNTIL 'infinity'",
            "ALTER ROLE base_role RENAME TO renamed",
            "DROP OWNED BY base_role; DROP ROLE base_group",
            "REVOKE base_group FROM base_role",
            "GRANT base_group TO base_role WITH ADMIN OPTION",
            "GRANT pg_read_all_data TO base_role",
            "ALTER ROLE base_role SET work_mem = '7MB'",
            "ALTER ROLE base_role RESET search_path",
            'ALTER ROLE ALL SET search_path = app, "Mixed Case"',
            "GRANT SET ON PARAMETER log_min_messages TO base_role",
        )

    def test_settings(self) -> None:
        name = self.view.name
        self.cloned(
            f"ALTER DATABASE {name} SET search_path = app",
            f"ALTER ROLE base_role IN DATABASE {name} SET work_mem = '7MB'",
            f"ALTER DATABASE {name} CONNECTION LIMIT 7",
            f"ALTER DATABASE {name} IS_TEMPLATE true",
            f"GRANT CREATE ON DATABASE {name} TO base_role",
            f"ALTER DATABASE {name} OWNER TO base_role",
            "ALTER DATABASE postgres SET work_mem = '7MB'",
            "ALTER ROLE base_role IN DATABASE postgres SET work_mem = '7MB'",
            "ALTER SYSTEM SET work_mem = '7MB'",
            "ALTER SYSTEM SET search_path = 'app', 'Mixed Case'",
        )
        self.view.execute("ALTER SYSTEM SET work_mem = '7MB'")
        self.view.execute("SELECT pg_reload_conf()")
        self.reset("cloned")

    def test_a_database_that_lets_nobody_in(self) -> None:
        self.each("cloned", (f"ALTER DATABASE {self.view.name} ALLOW_CONNECTIONS false",), self.server.admin)

    def test_a_template_after_a_change_of_the_schema(self) -> None:
        self.cloned(f"CREATE TABLE x (id int); ALTER DATABASE {self.view.name} IS_TEMPLATE true")

    def test_settings_that_the_reset_itself_would_be_subject_to(self) -> None:
        for setting in (
            "default_transaction_read_only = on", "statement_timeout = '1ms'", "lock_timeout = '1ms'",
            "datestyle = 'German, DMY'", "quote_all_identifiers = on",
        ):  # fmt: skip
            with self.subTest(setting):
                with self.view.connection.cursor() as cursor:
                    cursor.execute("INSERT INTO parent (name) VALUES ('x')")
                    self.view.connection.commit()
                self.view.execute(f"ALTER SYSTEM SET {setting}")
                self.view.execute("SELECT pg_reload_conf()")
                self.reset("cloned")

    def test_a_setting_after_tests_that_changed_nothing(self) -> None:
        self.rest(seen=True)
        self.cloned("ALTER SYSTEM SET work_mem = '7MB'")

    def test_other_databases_that_a_test_made(self) -> None:
        self.cloned("CREATE DATABASE made_by_a_test")
        self.view.execute("CREATE DATABASE made_by_a_test")
        self.cloned("ALTER DATABASE made_by_a_test SET work_mem = '7MB'")

    def test_a_replication_slot_after_tests_that_changed_nothing(self) -> None:
        self.rest(seen=True)
        with said() as lines:
            self.view.execute("SELECT pg_create_physical_replication_slot('left')")
            self.reset()
        self.assertEqual(lines, ["tests.Baseline.test_next left a replication slot behind, and it was dropped: 'left'"])

    def test_a_database_that_was_dropped_under_us(self) -> None:
        self.server.drop(self.view.name)
        self.reset("cloned")


class SettingsOfTheBaselineTest(BaselineTest):
    """What cloning does not copy."""

    @classmethod
    def prepare(cls, view: Any) -> None:
        view.execute(f'ALTER DATABASE {view.name} SET search_path = app, "Mixed Case", public')
        view.execute(f"ALTER DATABASE {view.name} SET datestyle = 'German'")
        view.execute(f"ALTER ROLE base_role IN DATABASE {view.name} SET work_mem = '9MB'")
        view.execute(f"REVOKE CONNECT ON DATABASE {view.name} FROM PUBLIC")
        view.execute(f"GRANT CONNECT ON DATABASE {view.name} TO base_role")
        view.execute("ALTER SYSTEM SET log_min_messages = 'error'")
        view.execute("SELECT pg_reload_conf()")
        view.execute("CREATE ROLE of_the_class")
        view.execute(f"ALTER DATABASE {view.name} SET extra_float_digits = 0")
        view.execute("CREATE TABLE public.exact AS SELECT 0.1::float8 + 0.2::float8 AS n")

    def test_numbers_are_not_rounded(self) -> None:
        self.undone("UPDATE public.exact SET n = n + 1")
        self.assertEqual(self.view.execute("SELECT n = 0.1::float8 + 0.2::float8 FROM public.exact"), [(True,)])

    def test_they_are_there_after_a_reset(self) -> None:
        self.undone("INSERT INTO public.odd (d) VALUES ('01.02.2024')", "DELETE FROM public.odd")

    def test_they_are_there_in_a_new_clone(self) -> None:
        self.cloned("CREATE TABLE x (id int)", "DROP ROLE of_the_class", "ALTER SYSTEM RESET ALL")


class LeasesTest(BaselineTest):
    """More than one lease on one server."""

    def test_a_role_made_by_a_class_is_gone_with_it_and_one_of_another_lease_stays(self) -> None:
        first = self.server.lease(DECLARATION, "tests.First")
        self.addCleanup(first.close)
        second = self.server.lease(DECLARATION, "tests.Second")
        self.addCleanup(second.close)
        first.view.execute("CREATE ROLE of_first")
        first.seal()
        second.seal()
        views = [first.reset("tests.Both.test"), second.reset("tests.Both.test")]
        views[0].execute("CREATE ROLE guest; CREATE TABLE t (id int); ALTER TABLE t OWNER TO guest")
        views[1].execute("CREATE TABLE t (id int); ALTER TABLE t OWNER TO guest")
        for view in views:
            view.close()
        for lease in (first, second):
            view = lease.reset("tests.test_next")
            self.assertEqual(view.execute("SELECT rolname FROM pg_roles WHERE rolname = 'guest'"), [])
            self.assertEqual(view.execute("SELECT rolname FROM pg_roles WHERE rolname = 'of_first'"), [("of_first",)])
            view.close()
        view = second.reset("tests.Second.test_last")
        self.assertEqual(view.execute("SELECT to_regclass('t')"), [(None,)])
        view.close()

    def test_threads_lease_and_reset_at_once(self) -> None:
        def use(number: int) -> list[int]:
            lease = self.server.lease(DECLARATION, f"tests.Thread{number}")
            try:
                lease.view.execute("INSERT INTO a VALUES (%s)", (100 + number,))
                lease.seal()
                counts = []
                for _ in range(8):
                    view = lease.reset("tests.Thread.test")
                    counts += [
                        view.execute("SELECT count(*) FROM a")[0][0],
                        view.execute("SELECT max(id) FROM a")[0][0],
                    ]
                    view.execute("DELETE FROM child; INSERT INTO a VALUES (2)")
                    if number == 1:
                        view.execute("CREATE TABLE t (id int)")
                    view.close()
                return counts
            finally:
                lease.close()

        with ThreadPoolExecutor(4) as pool:
            for number, counts in enumerate(pool.map(use, range(4))):
                self.assertEqual(counts, [2, 100 + number] * 8)


class ThreadsTest(BaselineTest):
    """What is there once for a test is the same for all of its threads, also when they are the first to ask."""

    def test_the_connection(self) -> None:
        self.lease._kept.close()
        first, second = meeting_in(self.lease._kept, "_connect", lambda: self.view.connection)
        self.assertIs(first, second)

    def test_the_session(self) -> None:
        first, second = meeting_in(self.view, "session", lambda: self.view.own_session)
        self.assertIs(first, second)


class NoneTest(PostgresMixin, ContainerTestCase):
    """With isolation="none" the data stays as a test left it, its connections do not."""

    postgres = Postgres(migrations=schema, isolation="none")

    def test_1(self) -> None:
        self.postgres.execute("SET search_path = app")
        with self.assertRaises(psycopg2.Error), self.db.cursor() as cursor:
            cursor.execute("SET search_path = app; SELECT 1/0")

    def test_2(self) -> None:
        with self.db.cursor() as cursor:
            cursor.execute("SHOW search_path")
            self.assertEqual(cursor.fetchall(), self.postgres.execute("SHOW search_path"))
        self.assertEqual(self.postgres.execute("SHOW search_path"), [('"$user", public',)])


class EndedViewTest(PostgresMixin, ContainerTestCase):
    """Of a test that has ended."""

    postgres = Postgres(migrations=schema)
    old: ClassVar[Any] = None

    def test_1(self) -> None:
        type(self).old = self.postgres
        self.postgres.execute("INSERT INTO numbers VALUES (0)")

    def test_2(self) -> None:
        before = self.postgres.execute("SELECT count(*) FROM numbers")
        uses: list[Callable[[], object]] = [
            lambda: self.old.execute("INSERT INTO numbers VALUES (0)"),
            lambda: self.old.connect(),
            lambda: self.old.connection,
            lambda: self.old.engine,
            lambda: self.old.session(),
            lambda: self.old.own_session,
            lambda: self.old.aconnect(),
            lambda: self.old.aengine,
        ]
        for use in uses:
            with self.assertRaisesRegex(NotStarted, r"^this view was of \S+EndedViewTest\.test_1, which has ended"):
                use()
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM numbers"), before)
        self.assertEqual(type(self).postgres.execute("SELECT count(*) FROM numbers"), before)


class ClassConnectionTest(PostgresMixin, ContainerTestCase):
    """One that was handed out in the set-up of the class."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = cls.postgres.connect()
        with cls.shared.cursor() as cursor:
            cursor.execute("SELECT 1")

    shared: ClassVar[Any]

    def test_it_says_why_it_is_closed(self) -> None:
        with self.assertRaises(psycopg2.InterfaceError) as caught:
            self.shared.cursor()
        self.assertEqual(
            caught.exception.__notes__,
            [
                "the class's own view has handed it out, and what that hands out is closed before the first test: use "
                "self.db in tests, or connect in setUp"
            ],
        )


def migrate(view: Any) -> None:
    view.execute("CREATE TABLE t (id serial PRIMARY KEY)")


class Base(orm.DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "t"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


class UncommittedTest(unittest.TestCase):
    """What a class writes for its tests and does not commit."""

    def told(self, write: Callable[[Any], object], isolation: str = "database") -> list[str]:
        """What is said where this is the set-up of a class, whose test does not find what it wrote."""

        class Inner(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation=isolation)

            @classmethod
            def setUpTestData(cls) -> None:
                write(cls)

            def test(self) -> None:
                self.assertRowCount("t", 0)

        result = unittest.TestResult()
        with said() as lines:
            unittest.defaultTestLoader.loadTestsFromTestCase(Inner).run(result)
        if result.skipped:
            raise unittest.SkipTest(result.skipped[0][1])
        self.assertEqual([*result.errors, *result.failures], [])
        return [line for line in lines if "Inner" in line]

    def test_it_is_told(self) -> None:
        def write(cls: Any) -> None:
            cls.db.cursor().execute("INSERT INTO t DEFAULT VALUES")

        def flush(cls: Any) -> None:
            cls.session.execute(text("INSERT INTO t DEFAULT VALUES"))

        def connect(cls: Any) -> None:
            cls.kept = cls.postgres.connect()
            cls.kept.cursor().execute("INSERT INTO t DEFAULT VALUES")

        ways = [(write, "database"), (write, "rollback"), (write, "schema"), (flush, "database"), (connect, "database")]
        for way, isolation in ways:
            with self.subTest(way.__name__, isolation=isolation):
                [line] = self.told(way, isolation)
                self.assertRegex(
                    line, r"Inner did not commit all that it wrote before its first test, .*commit\(\) on cls\.db"
                )

    def test_objects_that_were_not_even_flushed(self) -> None:
        def add(cls: Any) -> None:
            cls.session.add(Row())

        [line] = self.told(add)
        self.assertIn("Inner did not commit", line)

    def test_what_was_only_read(self) -> None:
        def read(cls: Any) -> None:
            cls.db.cursor().execute("SELECT * FROM t")
            cls.session.execute(text("SELECT * FROM t"))

        self.assertEqual(self.told(read), [])


class InsideTest(PostgresMixin, ContainerTestCase):
    """The same as users see it."""

    postgres = Postgres(migrations=schema)

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute("INSERT INTO parent (name) VALUES ('of the class')")

    def test_1(self) -> None:
        self.check()

    def test_2(self) -> None:
        self.check()

    def check(self) -> None:
        with self.db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM parent WHERE name LIKE 'of the%'")
            self.assertEqual(cursor.fetchone(), (1,))
            cursor.execute("DELETE FROM child; UPDATE parent SET name = name || '!'; DROP TABLE heir")
        self.db.commit()
