# SPDX-License-Identifier: Apache-2.0
"""isolation="schema": a schema for each class in a database that is not ours, and nothing outside it is touched."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import psycopg2

from itest import ContainerTestCase, Postgres, PostgresMixin, testing
from itest.services.postgres.schema import Schemas, with_search_path
from tests.integration.capture import said
from tests.integration.foreign import VARIABLE, ForeignTest

SCHEMA = """
CREATE TABLE users (id serial PRIMARY KEY, name text UNIQUE);
CREATE FUNCTION low(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION good(item text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN low(item) <> ''; END $$;
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users, item text CHECK (good(item)));
CREATE TYPE mood AS ENUM ('good');
CREATE MATERIALIZED VIEW counted AS SELECT 1 AS one, (SELECT count(*) FROM orders) AS orders;
CREATE UNIQUE INDEX ON counted (one);
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION shout();
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
INSERT INTO users (name) VALUES ('root');
"""

STATE = """
SELECT (SELECT array_agg(u::text ORDER BY u) FROM users u), (SELECT array_agg(o::text ORDER BY o) FROM orders o),
       (SELECT array_agg(last_value::text) FROM users_id_seq),
       (SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace),
       (SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace),
       enum_range(NULL::mood)::text, (SELECT orders FROM counted), (SELECT seqincrement FROM pg_sequence
       WHERE seqrelid = 'users_id_seq'::regclass), (SELECT nspacl::text FROM pg_namespace WHERE nspname = current_schema()),
       to_tsvector('words', 'cars')::text, (SELECT count(*) FROM pg_conversion WHERE connamespace = current_schema()::regnamespace),
       (SELECT count(*) FROM pg_ts_config WHERE cfgnamespace = current_schema()::regnamespace),
       (SELECT count(*) FROM pg_ts_dict WHERE dictnamespace = current_schema()::regnamespace)
"""

CHANGES = {
    "insert": "INSERT INTO users (name) VALUES ('cid')",
    "baseline": "UPDATE users SET name = name || '!'; DELETE FROM orders",
    "truncate": "TRUNCATE users, orders RESTART IDENTITY",
    "table": "CREATE TABLE made (n int); ALTER TABLE users ADD COLUMN made int; UPDATE users SET made = 1",
    "function": "DROP TRIGGER shout ON users; DROP FUNCTION shout",
    "dropped": "DROP TABLE orders CASCADE",
    "trigger": "ALTER TABLE users DISABLE TRIGGER shout",
    "enum": "ALTER TYPE mood ADD VALUE 'bad'",
    "sequence": "ALTER SEQUENCE users_id_seq INCREMENT BY 10",
    "refreshed": "REFRESH MATERIALIZED VIEW counted",
    "refreshed_concurrently": "REFRESH MATERIALIZED VIEW CONCURRENTLY counted",
    "privileges": "DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || current_schema() || ' TO PUBLIC'; END $$",
    "collation": "CREATE COLLATION made (locale = 'C')",
    "conversion": "CREATE CONVERSION made FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "text_search": "CREATE TEXT SEARCH CONFIGURATION made (COPY = simple)",
    "dictionary": "CREATE TEXT SEARCH DICTIONARY made (TEMPLATE = simple)",
    "mapping": "ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING FOR asciiword WITH english_stem",
    "cleaned": "VACUUM FULL users",
}


def migrate(view: Any) -> None:
    view.execute(SCHEMA)


class Inner(PostgresMixin):
    """Each test changes something, and each finds the baseline."""

    postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)
    first: ClassVar[Any] = None
    assertEqual: Any

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute("INSERT INTO users (name) VALUES ('ann')")
        cls.postgres.execute("INSERT INTO orders VALUES (1, 1, 'book'), (2, 2, NULL)")
        cls.first = None

    def setUp(self) -> None:
        found = self.postgres.execute(STATE)
        type(self).first = self.first or found
        self.assertEqual(found, self.first)
        self.assertEqual(found[0][0][0], "(1,root)")

    def change(self, sql: str) -> None:
        self.postgres.execute(sql)


for _name, _sql in CHANGES.items():
    for _again in ("", "_again"):
        setattr(Inner, f"test_{_name}{_again}", lambda self, sql=_sql: self.change(sql))


def inner(**fields: Any) -> type[unittest.TestCase]:
    return type("InnerTest", (Inner, ContainerTestCase), {"postgres": Inner.__dict__["postgres"].replace(**fields)})


class OwnServerTest(Inner, ContainerTestCase):
    """On a server of itest's own."""

    postgres = Postgres(migrations=migrate, isolation="schema")


class CatalogTest(unittest.TestCase):
    def test_they_do_not_grow_with_each_class(self) -> None:
        """Resets go through them, and on a server of ours nothing else cleans them up."""
        tables = "FOR n IN 1..200 LOOP EXECUTE format('CREATE TABLE {}.t%s (number int, name text)', n); END LOOP"
        sizes = []
        with testing.session() as session:
            server: Any = session.lend(Postgres())
            for _ in range(4):
                name = server.part(Schemas).create()
                server.admin(f"DO $$ BEGIN {tables.format(name)}; END $$")
                server.part(Schemas).drop(name, "a test")
                sizes += server.admin("SELECT pg_relation_size('pg_attribute'), pg_relation_size('pg_class')")
        self.assertEqual(len(set(sizes[1:])), 1, sizes)


class AddressTest(PostgresMixin, ContainerTestCase):
    """Every address leads into the schema."""

    postgres = Postgres(migrations=migrate, isolation="schema")

    ASK = "SELECT current_schema()"

    def test_all_of_them(self) -> None:
        from sqlalchemy import text

        view: Any = self.postgres
        self.assertRegex(view.schema, r"^itest_[0-9a-f]{8}_[0-9]+$")
        self.assertEqual(parse_qs(urlsplit(view.url).query), {"options": [f"-csearch_path={view.schema}"]})
        answers = [view.execute(self.ASK), self.session.execute(text(self.ASK)).all()]
        for address in (view.url, view.dsn):
            connection = psycopg2.connect(address)
            with connection.cursor() as cursor:
                cursor.execute(self.ASK)
                answers.append(cursor.fetchall())
            connection.close()
        with view.connect() as connection, connection.cursor() as cursor:
            cursor.execute("RESET ALL; " + self.ASK)
            answers.append(cursor.fetchall())
        code = "import psycopg2; c = psycopg2.connect(''); k = c.cursor(); k.execute('SELECT current_schema()'); "
        code += "print(k.fetchone()[0]); c.close()"
        process = subprocess.run([sys.executable, "-c", code], env=view.env, capture_output=True, text=True, timeout=30)
        answers.append([(process.stdout.strip(),)])
        self.assertEqual(answers, [[(view.schema,)]] * len(answers), process.stderr)

    def test_asyncpg(self) -> None:
        try:
            import asyncpg  # noqa: F401  # whether it is there is the question
        except ImportError:
            self.skipTest("asyncpg is not installed")
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine

        view: Any = self.postgres

        async def ask() -> list[object]:
            connection = await view.aconnect()
            answers = [await connection.fetchval(self.ASK), await view.asession().scalar(text(self.ASK))]
            engine = create_async_engine(view.asyncpg_url)
            async with engine.connect() as connected:
                answers.append(await connected.scalar(text(self.ASK)))
            await engine.dispose()
            await connection.close()
            return answers

        self.assertEqual(asyncio.run(ask()), [view.schema] * 3)


class UrlTest(unittest.TestCase):
    def test_what_the_url_has_stays(self) -> None:
        self.assertEqual(
            with_search_path("postgresql://ann:p%40ss@db/x?sslmode=require&options=-c%20work_mem%3D8MB", "itest_1"),
            "postgresql://ann:p%40ss@db/x?sslmode=require&options=-c%20work_mem%3D8MB%20-csearch_path%3Ditest_1",
        )


class SchemaTest(ForeignTest):
    """In a foreign database with tables of the same names."""

    THEIRS = "CREATE TABLE users (name text); INSERT INTO users VALUES ('real'); CREATE SCHEMA itest_0badcafe_1"

    def setUp(self) -> None:
        self.name = self.id().rpartition(".")[2][:40]
        self.database(self.name, sql=self.THEIRS)
        self.url = self.foreign.url_for(self.name)

    def schemas(self) -> list[str]:
        return [
            name for (name,) in self.foreign.ask("SELECT nspname FROM pg_namespace WHERE nspname ~ '^itest'", self.name)
        ]

    def test_as_a_superuser(self) -> None:
        before = self.foreign.dump()
        self.passes(self.url, inner(), inner())
        self.untouched(before)

    def test_as_a_user_who_may_only_make_schemas(self) -> None:
        self.foreign.user("modest")
        self.foreign.ask(f"GRANT CREATE ON DATABASE {self.name} TO modest")
        before = self.foreign.dump()
        self.passes(self.foreign.url_for(self.name, "modest"), inner(), inner())
        self.untouched(before)

    def test_a_user_who_may_not(self) -> None:
        self.foreign.user("stranger")
        [error] = self.errors(self.foreign.url_for(self.name, "stranger"), inner())
        self.assertEqual(
            error,
            f"ExternalError: the user 'stranger' may not create a schema in the database '{self.name}', and with "
            f"isolation='schema' each class gets one: GRANT CREATE ON DATABASE {self.name} TO stranger",
        )

    def test_two_runs_at_once(self) -> None:
        class Outer(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)

            def test(self) -> None:
                outer.passes(outer.url, inner())
                self.assertEqual(self.postgres.execute("SELECT name FROM users"), [("root",)])

        outer = self
        before = self.foreign.dump()
        self.passes(self.url, Outer)
        self.untouched(before)

    def test_after_a_run_that_was_killed(self) -> None:
        before = self.foreign.dump()
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "schema.sql").write_text(SCHEMA)
        self.kill_during(self.url, directory, 'isolation="schema", migrations=SqlFiles("schema.sql")', "ready()")
        left = self.schemas()
        self.assertEqual(len(left), 2, left)
        with said() as lines:
            self.passes(self.url, inner())
        [dead] = set(left) - {"itest_0badcafe_1"}  # This one only looks like ours: it has no comment.
        self.assertEqual(lines, [f"dropped the schema {dead}, which a killed run had left in {self.name}"])
        self.untouched(before)

    def test_transactions_that_a_test_leaves(self) -> None:
        """Neither a pool that was left in a transaction nor a prepared one is in the way of the next test, or of the end."""

        class Leaving(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)

            def test_1(self) -> None:
                self.leave()

            def test_2(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT name FROM users"), [("root",)])
                self.postgres.execute("ALTER TABLE users ADD COLUMN more int")
                self.leave()

            def test_3(self) -> None:
                self.leave()

            def leave(self) -> None:
                for end in ("", "; PREPARE TRANSACTION 'foo'"):
                    connection = psycopg2.connect(self.postgres.url, application_name="shop")
                    connection.cursor().execute(f"INSERT INTO users (name) VALUES ('x{end[:1]}'){end}")
                    pool.callback(connection.close)

        pool = self.enterContext(contextlib.ExitStack())
        before = self.foreign.dump()
        with said() as lines:
            self.passes(self.url, Leaving)
        self.assertEqual(len(lines), 6, lines)
        for number in (1, 2, 3):
            session, prepared = (line for line in lines if f"Leaving.test_{number} left a " in line)
            self.assertIn("of 'shop', idle in transaction, in a transaction for ", session)
            self.assertIn("left a prepared transaction behind, and it was rolled back: 'foo'", prepared)
        self.untouched(before)

    def test_a_lock_that_somebody_else_holds(self) -> None:
        class Held(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)

            def test(self) -> None:
                other.cursor().execute(f"SELECT 'hold' FROM {self.postgres.schema}.users")  # type: ignore[attr-defined]

        before = self.foreign.dump()
        with contextlib.closing(psycopg2.connect(self.url)) as other, said() as lines:
            self.passes(self.url, Held)
        self.assertRegex(
            lines[0].replace("\n", " "),
            r"^the schema itest_\w+ could not be dropped: canceling statement due to lock timeout.* In a transaction: "
            rf"session [0-9]+ \(\), idle in transaction, last statement: SELECT 'hold' .*; a later run on {self.name} drops",
        )
        with said():
            self.passes(self.url, inner())
        self.untouched(before)

    def test_what_the_class_itself_made_survives_all_but_a_change_of_the_schema(self) -> None:
        class Made(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute(
                    "CREATE TABLE mine (n int); CREATE VIEW one AS SELECT 1 AS n; INSERT INTO mine VALUES (7)"
                )
                cls.postgres.execute("INSERT INTO users (name) VALUES ('ann'); REFRESH MATERIALIZED VIEW counted")

            def setUp(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT * FROM mine, one"), [(7, 1)])
                self.assertEqual(self.postgres.execute("SELECT name FROM users"), [("root",), ("ann",)])

            def test_1(self) -> None:
                self.postgres.execute("TRUNCATE users, mine RESTART IDENTITY CASCADE")

            def test_2(self) -> None:
                self.postgres.execute("CREATE TABLE other ()")

            def test_3(self) -> None:
                """Not reached."""

            test_4 = test_3

        errors = self.errors(self.url, Made)
        self.assertEqual(len(errors), 2, errors)
        for number, error in enumerate(errors, 3):
            self.assertRegex(
                error,
                rf"^ResetError: the schema itest_\w+ could not be reset for \S+test_{number}: \S+Made\.test_2 changed the "
                r"schema, and so had the set-up of its class, which cannot be done again: make in migrations or fixtures what "
                r"is made there, and refresh materialized views there, too$",
            )

    def test_a_materialized_view_that_the_class_itself_refreshed(self) -> None:
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        fill = "INSERT INTO orders VALUES (1, 1, 'book'); REFRESH MATERIALIZED VIEW counted"
        (directory / "fill.sql").write_text(fill)

        class ByFixtures(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=migrate, fixtures=[directory / "fill.sql"], isolation="schema", external=VARIABLE
            )

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT orders FROM counted"), [(1,)])
                self.postgres.execute("ALTER TABLE users ADD COLUMN more int")

            test_2 = test_1

        class BySetUp(ByFixtures):
            postgres = Postgres(migrations=migrate, isolation="schema", external=VARIABLE)

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute(fill)

        self.passes(self.url, ByFixtures)
        [error] = self.errors(self.url, BySetUp)
        self.assertRegex(error, r"test_1 changed the schema, and so had .* refresh materialized views there, too$")

    def test_rows_that_a_later_constraint_forbids(self) -> None:
        class Forbidden(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute(
                    "CREATE TABLE c (v int); INSERT INTO c VALUES (-1); ALTER TABLE c ADD CHECK (v > 0) NOT VALID; "
                    "CREATE TABLE d (v int)"
                ),
                isolation="schema",
                external=VARIABLE,
            )

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute("INSERT INTO d VALUES (7)")

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT * FROM c, d"), [(-1, 7)])
                self.postgres.execute("DELETE FROM c; DELETE FROM d")

            test_2 = test_1

            def test_3(self) -> None:
                self.test_1()
                self.postgres.execute("CREATE TABLE made ()")

            test_4 = test_1

        class Unrepeatable(Forbidden):
            @classmethod
            def setUpTestData(cls) -> None:
                super().setUpTestData()
                cls.postgres.execute("CREATE TABLE mine (v int)")

            test_3 = test_4 = None  # type: ignore[assignment]

        before = self.foreign.dump()
        self.passes(self.url, Forbidden)
        [error] = self.errors(self.url, Unrepeatable)
        self.assertIn('violates check constraint "c_v_check"', error)
        self.assertIn("Where a constraint was made NOT VALID over rows that it forbids: declare ", error)
        self.untouched(before)

    def test_what_fixtures_made_comes_again(self) -> None:
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "more.sql").write_text(
            "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 42'; INSERT INTO users (name) VALUES ('fixed')"
        )

        class Fixed(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=migrate, fixtures=[directory / "more.sql"], isolation="schema", external=VARIABLE
            )

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute("DELETE FROM users WHERE name = 'root'")

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT id, name, more() FROM users"), [(2, "fixed", 42)])
                self.postgres.execute("ALTER TABLE users DROP COLUMN name")

            def test_2(self) -> None:
                self.test_1()

        self.passes(self.url, Fixed)


if __name__ == "__main__":
    unittest.main()
