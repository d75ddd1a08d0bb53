# SPDX-License-Identifier: Apache-2.0
"""isolation="truncate": in the database of an external server, where nothing that was there is touched."""

from __future__ import annotations

import contextlib
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import psycopg2

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.services.postgres import probe_session
from tests.integration.capture import said
from tests.integration.foreign import VARIABLE, ForeignTest

SCHEMA = """
CREATE SCHEMA "Other";
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION now_and_then() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed := clock_timestamp(); RETURN NEW; END $$;
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TABLE users (
  id int GENERATED ALWAYS AS IDENTITY (START WITH 100) PRIMARY KEY, name text UNIQUE, feels mood, changed timestamptz,
  upper text GENERATED ALWAYS AS (upper(name)) STORED, boss int REFERENCES users);
CREATE TABLE "Other"."Mixed Case" (id serial PRIMARY KEY, "User" int REFERENCES users ON DELETE CASCADE);
CREATE TABLE a (id int PRIMARY KEY, b int);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE RESTRICT);
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE events (at date, what text, id int GENERATED ALWAYS AS IDENTITY, number bigserial) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE events_new PARTITION OF events DEFAULT;
CREATE TABLE parent (n int);
CREATE TABLE child (m int) INHERITS (parent);
CREATE UNLOGGED TABLE counters (n int);
CREATE TABLE audit (what text);
CREATE SEQUENCE numbers START WITH 7;
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER changed BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION now_and_then();
CREATE TRIGGER log AFTER INSERT OR DELETE ON users FOR EACH STATEMENT EXECUTE FUNCTION log_it();
CREATE TRIGGER never BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION log_it();
ALTER TABLE users DISABLE TRIGGER never;
CREATE TABLE guarded (n int);
CREATE TABLE nothing ();
CREATE TABLE computed (n int GENERATED ALWAYS AS (7) STORED);
CREATE TRIGGER guard AFTER INSERT OR DELETE ON guarded FOR EACH STATEMENT EXECUTE FUNCTION log_it();
ALTER TABLE guarded ENABLE ALWAYS TRIGGER guard;
CREATE TABLE ruled (n int);
CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO audit VALUES ('rule');
CREATE RULE never AS ON DELETE TO ruled DO INSTEAD NOTHING;
ALTER TABLE ruled ENABLE ALWAYS RULE never;
INSERT INTO counters VALUES (1);
"""

BASELINE = """
INSERT INTO users (name, feels) VALUES ('ann', 'good'), ('bob', NULL);
UPDATE users SET boss = (SELECT min(id) FROM users);
INSERT INTO "Other"."Mixed Case" ("User") SELECT id FROM users;
WITH new AS (INSERT INTO a VALUES (1, 1)) INSERT INTO b VALUES (1, 1);
INSERT INTO events VALUES ('2019-05-05', 'old'), ('2021-01-01', 'new');
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 2);
INSERT INTO guarded VALUES (1); INSERT INTO ruled VALUES (1);
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES; INSERT INTO computed DEFAULT VALUES;
TRUNCATE audit;
"""

STATE = """
SELECT 'users', jsonb_agg(t ORDER BY t)::text FROM users t UNION ALL
SELECT 'mixed', jsonb_agg(t ORDER BY t)::text FROM "Other"."Mixed Case" t UNION ALL
SELECT 'a', jsonb_agg(t ORDER BY t)::text FROM a t UNION ALL
SELECT 'b', jsonb_agg(t ORDER BY t)::text FROM b t UNION ALL
SELECT 'events', jsonb_agg(to_jsonb(t) || to_jsonb(tableoid::regclass::text) ORDER BY t)::text FROM events t UNION ALL
SELECT 'parent', jsonb_agg(to_jsonb(t) || to_jsonb(tableoid::regclass::text) ORDER BY t)::text FROM parent t UNION ALL
SELECT 'counters', jsonb_agg(t)::text FROM counters t UNION ALL
SELECT 'nothing', count(*)::text FROM nothing UNION ALL SELECT 'computed', count(*)::text FROM computed UNION ALL
SELECT 'guarded', jsonb_agg(t)::text FROM guarded t UNION ALL
SELECT 'ruled', jsonb_agg(t)::text FROM ruled t UNION ALL
SELECT 'rules', jsonb_agg(rulename::text || ev_enabled::text ORDER BY rulename)::text FROM pg_rewrite
  WHERE ev_class = 'ruled'::regclass UNION ALL
SELECT 'audit', jsonb_agg(t)::text FROM audit t UNION ALL
SELECT 'sequences', jsonb_agg(t ORDER BY t)::text FROM pg_sequences t WHERE schemaname <> 'itest_ledger' UNION ALL
SELECT 'triggers', jsonb_agg(tgname::text || tgenabled::text ORDER BY tgname)::text FROM pg_trigger WHERE NOT tgisinternal
"""

CHANGES = {
    "insert": "INSERT INTO users (name) VALUES ('cid'); INSERT INTO a VALUES (2, NULL)",
    "insert_and_refer_to_the_baseline": 'INSERT INTO "Other"."Mixed Case" ("User") SELECT id FROM users',
    "update_of_the_baseline": "UPDATE users SET name = name || '!', feels = 'bad'",
    "delete_of_the_baseline": 'DELETE FROM "Other"."Mixed Case"; UPDATE users SET boss = NULL; DELETE FROM users',
    "delete_of_a_parent_with_its_children": "UPDATE users SET boss = NULL; DELETE FROM users WHERE name = 'ann'",
    "delete_of_a_circle": "WITH gone AS (DELETE FROM b) DELETE FROM a",
    "truncate": "TRUNCATE users, a, events RESTART IDENTITY CASCADE",
    "partitions": "UPDATE events SET at = at + 1000; INSERT INTO events VALUES ('2025-01-01', 'x')",
    "inheritance": "UPDATE parent SET n = n + 1; INSERT INTO child VALUES (3, 3)",
    "unlogged": "DELETE FROM counters",
    "sequences": "SELECT nextval('numbers'); SELECT setval('users_id_seq', 5000, false)",
    "no_columns": "DELETE FROM nothing; INSERT INTO computed DEFAULT VALUES; UPDATE users SET boss = NULL",
    "a_trigger_that_always_fires": "UPDATE guarded SET n = 2",
    "rules": "INSERT INTO ruled VALUES (2), (3); INSERT INTO guarded VALUES (2)",
    "audit": "INSERT INTO audit VALUES ('mine')",
}


def migrate(view: Any) -> None:
    view.execute(SCHEMA)


class Inner(PostgresMixin):
    """The tests that are run inside: each changes something, and each finds the baseline."""

    postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)
    first: ClassVar[Any] = None
    db: Any
    assertEqual: Any

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute(BASELINE)
        cls.first = None

    def state(self) -> dict[str, str]:
        with self.db, self.db.cursor() as cursor:
            cursor.execute(STATE)
            return dict(cursor.fetchall())

    def setUp(self) -> None:
        found = self.state()
        type(self).first = self.first or found
        self.assertEqual(found, self.first)

    def change(self, sql: str) -> None:
        self.postgres.execute(sql)


for _name, _sql in CHANGES.items():
    for _again in ("", "_again"):
        setattr(Inner, f"test_{_name}{_again}", lambda self, sql=_sql: self.change(sql))


def inner(**fields: Any) -> type[unittest.TestCase]:
    """The inner tests as a class."""
    declaration = Inner.__dict__["postgres"].replace(**fields)
    return type("InnerTest", (Inner, ContainerTestCase), {"postgres": declaration})


class MigratedTest(ForeignTest):
    """A database without tables: it is migrated, and in the end as empty as it was."""

    def test_as_a_superuser(self) -> None:
        self.database("fresh")
        before = self.foreign.dump()
        self.passes(self.foreign.url_for("fresh"), inner(), inner())
        self.untouched(before)

    def test_as_the_owner_of_the_database(self) -> None:
        self.foreign.user("owner")
        self.database("owned", owner="owner")
        before = self.foreign.dump()
        self.passes(self.foreign.url_for("owned", "owner"), inner(), inner())
        self.untouched(before)

    def test_other_migrations_of_another_class(self) -> None:
        class Other(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute("CREATE TABLE users (other int)"),
                isolation="truncate",
                external=VARIABLE,
            )

            def test(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT other FROM users"), [])

        self.database("twice")
        before = self.foreign.dump()
        self.passes(self.foreign.url_for("twice"), inner(), Other, inner())
        self.untouched(before)

    def test_transactions_that_a_test_leaves(self) -> None:
        class Leaving(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test_1(self) -> None:
                self.leave()

            def test_2(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM a"), [(0,)])
                self.leave()

            def leave(self) -> None:
                for end in ("", "; PREPARE TRANSACTION 'foo'"):
                    connection = psycopg2.connect(self.postgres.url, application_name="shop")
                    connection.cursor().execute(f"INSERT INTO a VALUES ({len(end)}){end}")
                    pool.callback(connection.close)

        pool = self.enterContext(contextlib.ExitStack())
        self.database("leaving")
        before = self.foreign.dump()
        with said() as lines:
            self.passes(self.foreign.url_for("leaving"), Leaving)
        self.assertEqual(len(lines), 4, lines)
        for number in (1, 2):
            session, prepared = (line for line in lines if f"Leaving.test_{number} left a " in line)
            self.assertIn("of 'shop', idle in transaction, in a transaction for ", session)
            self.assertIn("left a prepared transaction behind, and it was rolled back: 'foo'", prepared)
        self.untouched(before)

    def test_locks_that_a_test_leaves_are_not_waited_for(self) -> None:
        class Locking(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test_1(self) -> None:
                connection = pool.enter_context(contextlib.closing(psycopg2.connect(self.postgres.url)))
                connection.cursor().execute("LOCK TABLE a")

            def test_2(self) -> None:
                self.postgres.execute("BEGIN; LOCK TABLE a; PREPARE TRANSACTION 'foo'")

            def test_3(self) -> None:
                self.assertRowCount("a", 0)

        pool = self.enterContext(contextlib.ExitStack())
        self.database("locking")
        with said() as lines, mock.patch.object(probe_session, "LOCK_TIMEOUT", "1h"):
            self.passes(self.foreign.url_for("locking"), Locking)
        self.assertEqual(len(lines), 2, lines)

    def test_what_a_class_does_not_commit(self) -> None:
        class Uncommitted(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            @classmethod
            def setUpTestData(cls) -> None:
                cls.db.cursor().execute("INSERT INTO a VALUES (1)")

            def test(self) -> None:
                self.assertRowCount("a", 0)

        self.database("uncommitted")
        with said() as lines:
            self.passes(self.foreign.url_for("uncommitted"), Uncommitted)
        [line] = lines
        self.assertIn("Uncommitted did not commit all that it wrote before its first test", line)

    def test_a_transaction_of_another_user_is_left_alone(self) -> None:
        class Beside(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test_1(self) -> None:
                colleague.append(pool.enter_context(contextlib.closing(psycopg2.connect(theirs))))
                colleague[0].cursor().execute("SELECT FROM a")

            def test_2(self) -> None:
                colleague[0].cursor().execute("SELECT FROM a")
                colleague[0].close()

        pool, colleague = self.enterContext(contextlib.ExitStack()), list[Any]()
        self.database("beside")
        self.foreign.user("colleague", "SUPERUSER")
        theirs = self.foreign.url_for("beside", "colleague")
        before = self.foreign.dump()
        with said() as lines:
            self.passes(self.foreign.url_for("beside"), Beside)
        self.assertEqual(lines, [])
        self.untouched(before)

    def test_a_lock_that_somebody_else_holds_to_the_end(self) -> None:
        class Held(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test(self) -> None:
                other.cursor().execute("SELECT 'hold' FROM names")

        self.database("held")
        before = self.foreign.dump()
        url = self.foreign.url_for("held")
        with contextlib.closing(psycopg2.connect(url)) as other, said() as lines:
            self.passes(url, Held)
        self.assertRegex(
            lines[0].replace("\n", " "),
            r"^the database held is not as it was: the view public\.names could not be dropped: canceling statement due to "
            r"lock timeout.* In a transaction: session [0-9]+ \(\), idle in transaction, last statement: SELECT 'hold' FROM "
            r"names\. A later run on it sees to that$",
        )
        self.passes(url, inner())
        self.untouched(before)

    def test_a_database_that_rounds_what_it_shows(self) -> None:
        class Rounded(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute("CREATE TABLE f (n float8)"),
                isolation="truncate",
                external=VARIABLE,
            )

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute("INSERT INTO f VALUES (0.1::float8 + 0.2::float8)")

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT n = 0.1::float8 + 0.2::float8 FROM f"), [(True,)])
                self.postgres.execute("UPDATE f SET n = n + 1")

            test_2 = test_1

        self.database("rounding", sql="ALTER DATABASE rounding SET extra_float_digits = 0")
        self.passes(self.foreign.url_for("rounding"), Rounded)

    def test_what_somebody_else_made_to_depend_on_it_is_left(self) -> None:
        class Other(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute("CREATE TABLE one (n int); CREATE TABLE two (n int)"),
                isolation="truncate",
                external=VARIABLE,
            )

            def test(self) -> None:
                foreign.ask("CREATE VIEW theirs AS SELECT * FROM one", "depended")

        foreign = self.foreign
        self.database("depended")
        with said() as lines:
            self.passes(foreign.url_for("depended"), Other)
        self.assertEqual(lines, ["left in depended, because something else depends on it: table public.one"])
        self.assertEqual(
            foreign.ask("SELECT to_regclass('theirs')::text, to_regclass('two')", "depended"), [("theirs", None)]
        )

    def test_a_test_that_drops_a_table(self) -> None:
        class Dropping(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test_1(self) -> None:
                self.postgres.execute("INSERT INTO a VALUES (1)")
                self.postgres.execute('DROP SCHEMA "Other" CASCADE; DROP TABLE counters; DROP SEQUENCE numbers')

            def test_2(self) -> None:
                """Not reached."""

        class Unmigrated(PostgresMixin, ContainerTestCase):
            postgres = Postgres(isolation="truncate", external=VARIABLE)

            def test(self) -> None: ...

        self.database("dropping")
        before = self.foreign.dump()
        url = self.foreign.url_for("dropping")
        for after in (inner(), Unmigrated):
            with said() as lines:
                dropped, missing = self.errors(url, Dropping, after)
            message = (
                r'\S+Dropping\.test_1 dropped "Other"\."Mixed Case", "Other"\."Mixed Case_id_seq", counters, numbers, which with '
                r"isolation='truncate' is not undone, so that the tests after it in its class cannot run\. Declare "
                r"isolation='schema' or 'database' for tests that change the schema$"
            )
            self.assertRegex(dropped, rf"^IsolationError: {message}")
            self.assertRegex(
                missing, rf"^ResetError: the database dropping could not be reset for \S+Dropping\.test_2: {message}"
            )
            self.assertEqual(lines, [])
            self.untouched(before)

    def test_rows_that_a_later_constraint_forbids(self) -> None:
        class Forbidden(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute(
                    "CREATE TABLE c (v int); INSERT INTO c VALUES (-1); ALTER TABLE c ADD CHECK (v > 0) NOT VALID; "
                    "CREATE TABLE d (v int)"
                ),
                isolation="truncate",
                external=VARIABLE,
            )

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT v, (SELECT count(*) FROM d) FROM c"), [(-1, 0)])
                self.postgres.execute("DELETE FROM c; INSERT INTO d VALUES (1)")

            def test_2(self) -> None:
                """Not reached."""

        class Again(Forbidden): ...

        self.database("forbidding")
        before = self.foreign.dump()
        first, second = self.errors(self.foreign.url_for("forbidding"), Forbidden, Again)
        for error in (first, second):
            self.assertRegex(
                error.replace("\n", " "),
                r"^ResetError: the database forbidding could not be reset for \S+test_2: the tables could not be brought back to "
                r'the baseline: new row for relation "c" violates check constraint "c_v_check".*\. Where a constraint was made NOT '
                r"VALID over rows that it forbids: declare isolation='database', or 'schema' with such rows made by migrations or "
                r"fixtures, and none in that table by setUpTestData$",
            )
        self.untouched(before)

    def test_rows_that_a_policy_hides(self) -> None:
        class Hidden(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute(
                    "CREATE TABLE a (n int); CREATE TABLE s (n int); ALTER TABLE s ENABLE ROW LEVEL SECURITY; "
                    "ALTER TABLE s FORCE ROW LEVEL SECURITY"
                ),
                isolation="truncate",
                external=VARIABLE,
            )

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM a"), [(0,)])
                self.postgres.execute("INSERT INTO a VALUES (1)")

            test_2 = test_1

        self.foreign.user("secured", "CREATEDB")
        self.database("securing", owner="secured")
        before = self.foreign.dump()
        url = self.foreign.url_for("securing", "secured")
        for isolation in ("truncate", "schema", "database", "rollback"):
            declaration = Hidden.__dict__["postgres"].replace(isolation=isolation)
            errors = self.errors(url, type("HiddenTest", (Hidden,), {"postgres": declaration}))
            self.assertEqual(len(set(errors)), 1, errors)
            self.assertRegex(
                errors[0],
                r"^ResetError: row-level security hides rows of \w+\.s from the user 'secured', so that it cannot be seen what a "
                r"test does there: ALTER ROLE secured BYPASSRLS, and SET ROLE to another one in tests of policies; or, for the "
                r"owner of the tables, leave out FORCE ROW LEVEL SECURITY$",
            )
        self.untouched(before)
        self.foreign.ask("ALTER ROLE secured BYPASSRLS")
        self.passes(url, Hidden)

    def test_a_failing_migration_leaves_nothing(self) -> None:
        def broken(view: Any) -> None:
            view.execute("CREATE TABLE half ()")
            view.execute("SELECT nonsense")

        class Broken(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=broken, isolation="truncate", external=VARIABLE)

            def test(self) -> None:
                """Never reached."""

        self.database("failing")
        before = self.foreign.dump()
        result = self.run_classes(self.foreign.url_for("failing"), Broken)
        self.assertIn('column "nonsense" does not exist', result.errors[0][1])
        self.untouched(before)


class ForeignRowsTest(ForeignTest):
    """A database with a schema and rows."""

    ROWS = "CREATE TABLE customers (name text); INSERT INTO customers VALUES ('real'); CREATE TABLE baskets (id serial, n int);"

    def used(self, body: Any) -> type[unittest.TestCase]:
        class Used(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="truncate", external=VARIABLE)

            def test_1(self) -> None:
                body(self)

            def test_2(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT * FROM baskets"), [])
                self.assertEqual(self.postgres.execute("INSERT INTO baskets (n) VALUES (1) RETURNING id"), [(1,)])

        return Used

    def setUp(self) -> None:
        self.name = self.id().rpartition(".")[2][:40]
        self.database(self.name, sql=self.ROWS)
        self.url = self.foreign.url_for(self.name)

    def test_a_test_that_drops_a_table(self) -> None:
        def drop(test: Any) -> None:
            test.postgres.execute("INSERT INTO baskets (n) VALUES (1)")
            test.postgres.execute("DROP TABLE customers")

        with said():
            dropped, missing, *others = self.errors(self.url, self.used(drop), self.used(lambda test: None))
        self.assertRegex(
            dropped, r"^IsolationError: \S+Used\.test_1 dropped customers, which with isolation='truncate' is not "
        )
        self.assertRegex(
            missing, r"^ResetError: the database \S+ could not be reset for \S+Used\.test_2: \S+test_1 dropped "
        )
        self.assertEqual(others, [])

    def test_tables_of_extensions_are_left_alone(self) -> None:
        self.foreign.ask("CREATE TABLE jobs (n int); ALTER EXTENSION plpgsql ADD TABLE jobs", self.name)
        self.foreign.ask("CREATE TABLE parts (n int); ALTER EXTENSION plpgsql ADD TABLE parts", self.name)
        self.foreign.ask("INSERT INTO parts VALUES (1)", self.name)
        uses = self.used(lambda test: test.postgres.execute("INSERT INTO jobs VALUES (1); UPDATE parts SET n = 2"))
        with said():
            self.passes(self.url, uses)
        self.assertEqual(self.foreign.ask("SELECT * FROM jobs, parts", self.name), [(1, 2)])

    def test_the_schema_is_taken_as_it_is_and_empty_tables_are_used(self) -> None:
        before = self.foreign.dump()
        uses = self.used(lambda test: test.postgres.execute("INSERT INTO baskets (n) VALUES (1)"))
        with said() as lines:
            self.passes(self.url, uses, uses)
        message = (
            f"the database {self.name} has tables already (baskets, customers), so its schema is taken as it is and no"
        )
        self.assertEqual(lines, [f"{message} migration is applied"])
        self.untouched(before)

    def test_a_test_that_writes_to_foreign_rows_fails_and_no_other_does(self) -> None:
        for sql in ("INSERT INTO customers VALUES ('made up')", "UPDATE customers SET name = name"):
            with self.subTest(sql), said():
                [error] = self.errors(self.url, self.used(lambda test, sql=sql: test.postgres.execute(sql)))
                self.assertRegex(
                    error,
                    r"^IsolationError: .*test_1 wrote to customers, which had rows before itest came: such tables are "
                    r"never emptied, and what was written stays\. Use a database whose tables are empty, or "
                    r"isolation='schema' or 'database'$",
                )
        self.assertEqual(
            self.foreign.ask("SELECT name FROM customers ORDER BY 1", self.name), [("made up",), ("real",)]
        )

    def test_a_baseline_in_foreign_rows_fails_too(self) -> None:
        class Base(PostgresMixin, ContainerTestCase):
            postgres = Postgres(isolation="truncate", external=VARIABLE)

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute("INSERT INTO customers VALUES ('made up')")

            def test(self) -> None:
                """Not reached."""

        [error] = self.errors(self.url, Base)
        self.assertRegex(
            error, r"^IsolationError: .*Base, when it wrote its baseline, wrote to customers, which had rows"
        )

    def test_a_second_run_at_the_same_time(self) -> None:
        def body(test: Any) -> None:
            found.extend(self.errors(self.url, self.used(lambda test: None)))

        found: list[str] = []
        with said():
            self.passes(self.url, self.used(body))
        [error] = found
        self.assertRegex(
            error,
            rf"^ExternalError: another run of itest is using the database '{self.name}' with isolation='truncate' "
            rf"\(session "
            r"[0-9]+, since [0-9:]+ \S+, from [0-9.]+\), and both would empty the same tables: wait for it, or give "
            r"each "
            r"run, and each worker, a database of its own$",
        )

    def test_a_lock_that_somebody_holds(self) -> None:
        with contextlib.closing(psycopg2.connect(self.url)) as other, said():

            def body(test: Any) -> None:
                test.postgres.execute("INSERT INTO baskets (n) VALUES (1)")
                other.cursor().execute("SELECT 'hold'; LOCK TABLE baskets IN SHARE MODE")

            [error] = self.errors(self.url, self.used(body))
        self.assertRegex(
            error.replace("\n", " "),
            rf"^ResetError: the database {self.name} could not be reset for \S+test_2: the tables could not be "
            rf"emptied: "
            r"canceling statement due to lock timeout.*\. In a transaction: session [0-9]+ \(\), idle in transaction, "
            r"last statement: SELECT 'hold'; LOCK TABLE baskets IN SHARE MODE$",
        )

    def test_a_trigger_that_always_adds_rows(self) -> None:
        self.foreign.user("tester")
        self.foreign.ask(
            "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO baskets (n) VALUES (0); RETURN NULL; END $$;"
            "CREATE TRIGGER again AFTER DELETE ON baskets FOR EACH STATEMENT EXECUTE FUNCTION again();"
            "GRANT ALL ON baskets, customers, baskets_id_seq TO tester; "
            f"GRANT CREATE ON DATABASE {self.name} TO tester",
            self.name,
        )
        uses = self.used(lambda test: test.postgres.execute("INSERT INTO baskets (n) VALUES (1)"))
        with said():
            [error] = self.errors(self.foreign.url_for(self.name, "tester"), uses)
        self.assertRegex(
            error,
            r"emptying baskets 3 times did not empty it: a trigger on a table that 'tester' does not own, or a rule, "
            r"fills "
            r"it again$",
        )

    def test_a_rule_of_a_table_of_others(self) -> None:
        self.foreign.user("ruled")
        self.foreign.ask(
            "CREATE RULE also AS ON DELETE TO baskets DO ALSO DELETE FROM customers; "
            "GRANT ALL ON baskets, customers, baskets_id_seq TO ruled; "
            f"GRANT CREATE ON DATABASE {self.name} TO ruled",
            self.name,
        )
        uses = self.used(lambda test: test.postgres.execute("INSERT INTO baskets (n) VALUES (1)"))
        with said():
            [error] = self.errors(self.foreign.url_for(self.name, "ruled"), uses)
        self.assertRegex(
            error,
            r"DO ALSO rules are not supported for data-modifying statements in WITH\. A rule of a table is off during a reset only "
            r"where 'ruled' owns the table or may set session_replication_role: GRANT SET ON PARAMETER session_replication_role TO "
            r"ruled \(PostgreSQL 15 and later\), or declare isolation='database'$",
        )

    def test_rows_that_a_policy_hides(self) -> None:
        self.foreign.user("hidden")
        self.foreign.ask(
            "ALTER TABLE baskets ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON baskets USING (n > 5) WITH CHECK "
            "(true);"
            "GRANT ALL ON baskets, customers, baskets_id_seq TO hidden; "
            f"GRANT CREATE ON DATABASE {self.name} TO hidden",
            self.name,
        )
        with said():
            [error] = self.errors(self.foreign.url_for(self.name, "hidden"), self.used(lambda test: None))
        self.assertTrue(
            error.startswith("ResetError: row-level security hides rows of public.baskets from the user 'hidden'")
        )

    def test_a_user_who_may_not_keep_a_ledger(self) -> None:
        self.foreign.user("guest")
        [error] = self.errors(self.foreign.url_for(self.name, "guest"), self.used(lambda test: None))
        self.assertEqual(
            error,
            f"ExternalError: the user 'guest' may not create a schema in the database '{self.name}', and "
            f"isolation='truncate' keeps its ledger in one, so that a killed run's leftovers can be told from your "
            f"data: "
            f"GRANT CREATE ON DATABASE {self.name} TO guest",
        )

    def test_a_schema_of_that_name_that_is_not_ours(self) -> None:
        self.foreign.ask("CREATE SCHEMA itest_ledger CREATE TABLE claims (n int)", self.name)
        before = self.foreign.dump()
        [error] = self.errors(self.url, self.used(lambda test: None))
        self.assertEqual(
            error,
            f"ExternalError: the database '{self.name}' has a schema itest_ledger that itest did not make; rename "
            f"it, or "
            f"declare isolation='schema'",
        )
        self.untouched(before)


class KilledTest(ForeignTest):
    """The run after one that was killed."""

    DECLARATION = 'isolation="truncate", migrations=SqlFiles("schema.sql")'

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_during_a_test_in_a_migrated_database(self) -> None:
        (self.directory / "schema.sql").write_text(SCHEMA)
        self.database("killed")
        url = self.foreign.url_for("killed")
        before = self.foreign.dump()
        body = "self.postgres.execute(\"INSERT INTO users (name) VALUES ('left')\")\nready()"
        self.kill_during(url, self.directory, self.DECLARATION, body)
        self.assertEqual(self.foreign.ask("SELECT name FROM users", "killed"), [("left",)])
        self.passes(url, inner())
        self.untouched(before)

    def test_during_a_test_among_foreign_rows(self) -> None:
        (self.directory / "schema.sql").write_text(SCHEMA)
        self.database("among", sql=ForeignRowsTest.ROWS)
        url = self.foreign.url_for("among")
        before = self.foreign.dump()
        self.kill_during(
            url,
            self.directory,
            self.DECLARATION,
            'self.postgres.execute("INSERT INTO baskets (n) VALUES (1)")\nready()',
        )
        self.assertEqual(self.foreign.ask("SELECT n FROM baskets", "among"), [(1,)])

        class Empty(PostgresMixin, ContainerTestCase):
            postgres = Postgres(isolation="truncate", external=VARIABLE)

            def test(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT * FROM baskets"), [])
                self.assertEqual(self.postgres.execute("SELECT * FROM customers"), [("real",)])

        with said() as lines:
            self.passes(url, Empty)
        self.assertEqual(lines, ["emptied what a killed run had left in among: baskets"])
        self.untouched(before)

    def test_during_a_migration(self) -> None:
        (self.directory / "test_killed.py").touch()
        self.database("half", sql="CREATE TYPE theirs AS ENUM ()")
        url = self.foreign.url_for("half")
        declaration = (
            'isolation="truncate", migrations=lambda view: (view.execute("CREATE TABLE left_over ()"), ready())'
        )
        self.kill_during(url, self.directory, declaration, "pass")
        for _ in range(2):
            [error] = self.errors(url, inner())
            self.assertEqual(
                error,
                "ExternalError: a run of itest was killed while it migrated the database 'half', so it cannot be "
                "told for "
                "sure what it made; it looks like public.left_over. Drop that, then DROP SCHEMA itest_ledger CASCADE",
            )
        self.foreign.ask("DROP TABLE left_over; DROP SCHEMA itest_ledger CASCADE", "half")
        self.passes(url, inner())


if __name__ == "__main__":
    unittest.main()
