# SPDX-License-Identifier: Apache-2.0
"""An external PostgreSQL server: databases of our own beside those of others, which stay as they are."""

from __future__ import annotations

import re
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.services.postgres.server import PostgresServer
from tests.integration.capture import said
from tests.integration.foreign import VARIABLE, Foreign, ForeignTest
from tests.integration.sqldump import difference, dump
from tests.integration.test_postgres_truncate import BASELINE, CHANGES, SCHEMA, STATE
from tests.unit.test_external import closed_port

MORE = {
    "table": "CREATE TABLE made (n int); DROP TABLE counters",
    "column": "ALTER TABLE users ADD COLUMN made int",
    "trigger": "ALTER TABLE users ENABLE TRIGGER never",
    "collation": "CREATE COLLATION made (locale = 'C')",
    "privilege": "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
    "template": "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database()); END $$",
    "setting": "SELECT set_config('work_mem', '8MB', false)",
    "large_object": "SELECT lo_from_bytea(0, 'left')",
    "prepared_transaction": "BEGIN; INSERT INTO counters VALUES (5); PREPARE TRANSACTION 'left'",
}


def migrate(view: Any) -> None:
    view.execute(SCHEMA)


class Inner(PostgresMixin):
    """Each test changes something, and each finds the baseline."""

    postgres = Postgres(migrations=migrate, external=VARIABLE)
    first: ClassVar[Any] = None
    assertEqual: Any

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute(BASELINE)
        cls.first = None

    def setUp(self) -> None:
        found = self.postgres.execute(STATE)
        found += self.postgres.execute(
            "SELECT relname::text, 'there' FROM pg_class WHERE relname IN ('made', 'counters')"
        )
        found += self.postgres.execute("SELECT 'objects', count(*)::text FROM pg_largeobject_metadata")
        found += self.postgres.execute("SELECT collname::text, 'there' FROM pg_collation WHERE collname = 'made'")
        found += self.postgres.execute(
            "SELECT 'datacl', datacl::text FROM pg_database WHERE datname = current_database()"
        )
        found += self.postgres.execute("SELECT 'work_mem', current_setting('work_mem')")
        type(self).first = self.first or found
        self.assertEqual(found, self.first)

    def change(self, sql: str) -> None:
        self.postgres.execute(sql)


for _name, _sql in {**CHANGES, **MORE}.items():
    for _again in ("", "_again"):
        setattr(Inner, f"test_{_name}{_again}", lambda self, sql=_sql: self.change(sql))


def inner(**fields: Any) -> type[unittest.TestCase]:
    return type("InnerTest", (Inner, ContainerTestCase), {"postgres": Inner.__dict__["postgres"].replace(**fields)})


STRUCTURE = """
CREATE TABLE a (n int); CREATE SCHEMA other; CREATE PUBLICATION published;
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
"""

OF_SUPERUSERS = """
SELECT lo_from_bytea(4711, 'baseline');
CREATE OPERATOR FAMILY family USING btree;
CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER far FOREIGN DATA WRAPPER wrapper;
CREATE USER MAPPING FOR PUBLIC SERVER far; CREATE FOREIGN TABLE distant (n int) SERVER far;
"""

ALTERED = {
    "publication": "ALTER PUBLICATION published ADD TABLE a",
    "mapping": "ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING FOR asciiword WITH english_stem",
    "conversion": "CREATE CONVERSION made FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
}

ALTERED_BY_SUPERUSERS = {
    "publication_of_a_schema": "ALTER PUBLICATION published ADD TABLES IN SCHEMA other",
    "large_object": "SELECT lo_put(4711, 0, 'BASE')",
    "language": "CREATE LANGUAGE made HANDLER plpgsql_call_handler",
    "operator_family": "CREATE OPERATOR FAMILY made USING btree",
    "operator": "ALTER OPERATOR FAMILY family USING btree ADD OPERATOR 1 < (int4, int4)",
    "support_function": "ALTER OPERATOR FAMILY family USING btree ADD FUNCTION 1 btint4cmp(int4, int4)",
    "user_mapping": "ALTER USER MAPPING FOR PUBLIC SERVER far OPTIONS (ADD made '1')",
    "foreign_table": "ALTER FOREIGN TABLE distant OPTIONS (ADD made '1')",
    "transform": "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal))",
}


def altering(foreign: Foreign, structure: str, altered: dict[str, str]) -> type[unittest.TestCase]:
    """A class whose tests change each another catalog, and each find all catalogs as they were."""

    class Altering(PostgresMixin, ContainerTestCase):
        postgres = Postgres(migrations=lambda view: view.execute(structure), external=VARIABLE)
        first: ClassVar[dict[str, Any]] = {}

        def setUp(self) -> None:
            everything = dump(foreign.url_for(self.postgres.name))
            found = {what: state for what, state in everything.items() if what.startswith("catalog")}
            type(self).first = self.first or found
            self.assertEqual(difference(self.first, found), [])

        def change(self, sql: str) -> None:
            self.postgres.execute(sql)

    for name, sql in altered.items():
        for again in ("", "_again"):
            setattr(Altering, f"test_{name}{again}", lambda self, sql=sql: self.change(sql))
    return Altering


class DatabaseTest(ForeignTest):
    """With the right to create databases."""

    def setUp(self) -> None:
        self.name = self.id().rpartition(".")[2][:40]
        self.database(self.name, sql="CREATE TABLE theirs (n int); INSERT INTO theirs VALUES (1)")

    def databases(self) -> list[str]:
        return [name for (name,) in self.foreign.ask("SELECT datname FROM pg_database WHERE datname ~ '^itest_'")]

    def test_as_a_superuser(self) -> None:
        before = self.foreign.dump()
        with said() as lines:
            self.passes(self.foreign.url_for(self.name), inner(), inner())
        self.assertEqual(len([line for line in lines if "left a prepared transaction behind" in line]), 4, lines)
        self.untouched(before)

    def test_as_a_user_who_may_create_databases(self) -> None:
        self.foreign.user("maker", "CREATEDB")
        before = self.foreign.dump()
        with said():
            self.passes(self.foreign.url_for(self.name, "maker"), inner(), inner())
        self.untouched(before)

    def test_what_few_change(self) -> None:
        self.foreign.user("changer", "CREATEDB")
        before = self.foreign.dump()
        all_altered = altering(self.foreign, STRUCTURE + OF_SUPERUSERS, ALTERED | ALTERED_BY_SUPERUSERS)
        self.passes(self.foreign.url_for(self.name), all_altered)
        self.passes(self.foreign.url_for(self.name, "changer"), altering(self.foreign, STRUCTURE, ALTERED))
        self.untouched(before)

    def test_rollback(self) -> None:
        class Rolled(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, isolation="rollback", external=VARIABLE)

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM a"), [(0,)])
                self.postgres.execute("INSERT INTO a (id) VALUES (1)")

            test_2 = test_1

        before = self.foreign.dump()
        self.passes(self.foreign.url_for(self.name), Rolled)
        self.untouched(before)

    def test_settings_that_migrations_give_to_the_database(self) -> None:
        set_here = "DO $$ BEGIN EXECUTE format('ALTER {} %I SET {}', current_database()); END $$"

        def migrate(view: Any) -> None:
            view.execute("CREATE SCHEMA app; CREATE TABLE app.users (n int)")
            view.execute(set_here.format("DATABASE", "search_path TO app, public"))
            view.execute(set_here.format("ROLE CURRENT_USER IN DATABASE", "work_mem TO 9000"))
            self.foreign.ask(set_here.format("DATABASE", "log_min_messages TO error"), view.name)  # The user may not.

        class Set(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, external=VARIABLE)

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SHOW search_path"), [("app, public",)])
                self.assertEqual(self.postgres.execute("SHOW work_mem"), [("9000kB",)])
                self.assertRowCount("users", 0)
                self.postgres.execute("CREATE TABLE made (n int)")

            test_2 = test_1

        self.foreign.user("setter", "CREATEDB")
        before = self.foreign.dump()
        self.passes(self.foreign.url_for(self.name, "setter"), Set)
        self.untouched(before)

    def test_settings_of_other_databases_are_no_change_of_a_tests(self) -> None:
        oids = []

        class Beside(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, external=VARIABLE)

            def test_1(self) -> None:
                oids.extend(self.postgres.execute("SELECT oid FROM pg_database WHERE datname = current_database()"))
                foreign.ask(f"ALTER DATABASE {name} SET work_mem TO {8000 + len(oids)}")  # As another run may do.

            test_2 = test_1

        foreign, name = self.foreign, self.name
        self.passes(foreign.url_for(name), Beside)
        self.assertEqual(oids[0], oids[1], "it was cloned anew")

    def test_tables_of_extensions_are_reset_too(self) -> None:
        class Extended(PostgresMixin, ContainerTestCase):
            postgres = Postgres(
                migrations=lambda view: view.execute(
                    "CREATE TABLE jobs (id serial, what text); CREATE TABLE parts (n int); INSERT INTO parts VALUES (1), (2); "
                    "CREATE EXTENSION pg_trgm; ALTER EXTENSION pg_trgm ADD TABLE jobs; ALTER EXTENSION pg_trgm ADD TABLE parts"
                ),
                external=VARIABLE,
            )

            def test_1(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT n FROM parts ORDER BY n"), [(1,), (2,)])
                self.assertEqual(self.postgres.execute("INSERT INTO jobs (what) VALUES ('x') RETURNING id"), [(1,)])
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM jobs"), [(1,)])
                self.postgres.execute("UPDATE parts SET n = n + 1")

            test_2 = test_1

        class ExtendedSchema(Extended):
            postgres = Extended.__dict__["postgres"].replace(isolation="schema")

        before = self.foreign.dump()
        self.passes(self.foreign.url_for(self.name), Extended, ExtendedSchema)
        self.untouched(before)

    def test_tables_of_extensions_that_the_user_may_not_read_are_nobodys_business(self) -> None:
        self.foreign.user("trusted", "CREATEDB")
        self.foreign.ask(
            "CREATE TABLE secret (n serial); ALTER EXTENSION plpgsql ADD TABLE secret; "
            "CREATE SCHEMA hidden; CREATE TABLE hidden.secret (n int); ALTER EXTENSION plpgsql ADD TABLE hidden.secret",
            "template1",
        )
        self.addCleanup(
            self.foreign.ask,
            "ALTER EXTENSION plpgsql DROP TABLE secret; ALTER EXTENSION plpgsql DROP TABLE hidden.secret; "
            "DROP SCHEMA hidden CASCADE; DROP TABLE secret",
            "template1",
        )
        with said():
            self.passes(self.foreign.url_for(self.name, "trusted"), inner())

    def test_none_takes_the_database_as_it_is_and_says_so(self) -> None:
        class Read(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=lambda view: None, isolation="none", external=VARIABLE)

            def test(self) -> None:
                self.assertEqual(self.postgres.name, "postgres")

        with said() as lines:
            self.passes(self.foreign.url, Read)
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(
            lines[0],
            r"Read: isolation='none' takes the external database postgres as it is, so neither migrations nor fixtures are "
            r"applied$",
        )

    def test_the_connection_of_execute_is_kept_with_the_options_of_the_url(self) -> None:
        class Each(PostgresMixin):
            postgres: ClassVar[Any]
            pids: ClassVar[list[int]] = []

            def test_1(self) -> None:
                [(pid, *settings)] = self.postgres.execute(
                    "SELECT pg_backend_pid(), current_setting('lock_timeout'), current_setting('work_mem')"
                )
                assert settings == ["10s", "5MB"], settings
                self.pids.append(pid)

            test_2 = test_3 = test_1

        url = f"{self.foreign.url_for(self.name)}?options=-c%20work_mem%3D5MB"
        for isolation in ("database", "truncate", "schema", "none"):
            with self.subTest(isolation), said():
                pids: list[int] = []
                postgres = Postgres(isolation=isolation, external=VARIABLE)
                self.passes(url, type("EachTest", (Each, ContainerTestCase), {"postgres": postgres, "pids": pids}))
                self.assertEqual((len(pids), len(set(pids))), (3, 1))

    def test_extensions_are_made_in_databases_of_ours_alone(self) -> None:
        class Extended(PostgresMixin, ContainerTestCase):
            postgres = Postgres(extensions=["pg_trgm"], external=VARIABLE)

            def test(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT similarity('a', 'a')"), [(1.0,)])

        class Missing(PostgresMixin, ContainerTestCase):
            postgres = Postgres(extensions=["postgis"], external=VARIABLE)

            def test(self) -> None: ...

        class Shared(PostgresMixin, ContainerTestCase):
            postgres = Postgres(extensions=["pg_trgm"], isolation="truncate", external=VARIABLE)

            def test(self) -> None: ...

        before = self.foreign.dump()
        url = self.foreign.url_for(self.name)
        self.passes(url, Extended)
        [error] = self.errors(url, Missing)
        self.assertRegex(error, r"the extension 'postgis' is not installed on the external server at \S+:\d+")
        [error] = self.errors(url, Shared)
        self.assertIn("has no extension pg_trgm, and with isolation='truncate' nothing is made there", error)
        self.assertIn("CREATE EXTENSION pg_trgm", error)
        self.untouched(before)

    def test_what_a_killed_run_left(self) -> None:
        before = self.foreign.dump()
        url = self.foreign.url_for(self.name)
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        body = 'self.postgres.execute(f"ALTER DATABASE {self.postgres.name} IS_TEMPLATE true"); ready()'
        self.kill_during(url, directory, "", body)
        left = self.databases()
        self.assertTrue(left)
        self.foreign.ask("CREATE DATABASE itest_0badcafe_1")  # It only looks like ours: it has no comment.
        self.addCleanup(self.foreign.ask, "DROP DATABASE IF EXISTS itest_0badcafe_1")
        with said() as lines:
            self.passes(url, inner())
        place = f"which a killed run had left on {url.rpartition('@')[2].partition('/')[0]}"
        self.assertEqual(
            sorted(line for line in lines if "dropped" in line),
            sorted(f"dropped the database {name}, {place}" for name in left),
        )
        self.assertEqual(self.databases(), ["itest_0badcafe_1"])
        self.foreign.ask("DROP DATABASE itest_0badcafe_1")
        self.untouched(before)

    def test_what_a_killed_run_left_and_another_one_drops_meanwhile(self) -> None:
        def end_sessions(server: PostgresServer, name: str) -> None:
            if name in left:
                self.foreign.ask(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            else:
                plain(server, name)

        url, plain = self.foreign.url_for(self.name), PostgresServer.end_sessions
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.kill_during(url, directory, "", "self.postgres.url; ready()")
        left = self.databases()
        self.assertTrue(left)
        with said() as lines, mock.patch.object(PostgresServer, "end_sessions", end_sessions):
            self.passes(url, inner())
        self.assertEqual(len([line for line in lines if "dropped" in line]), len(left), lines)
        self.assertEqual(self.databases(), [])

    def test_what_a_living_run_has_is_not_taken_for_left(self) -> None:
        class Outer(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=migrate, external=VARIABLE)

            def test(self) -> None:
                outer.passes(url, inner())
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM users"), [(0,)])

        outer = self
        url = self.foreign.url_for(self.name)
        before = self.foreign.dump()
        with said():
            self.passes(url, Outer)
        self.untouched(before)


class RefusalTest(ForeignTest):
    """What is said when it cannot be used."""

    def setUp(self) -> None:
        self.port = self.foreign.url.rpartition(":")[2].partition("/")[0]

    def error(self, url: str, **fields: Any) -> str:
        [error] = self.errors(url, inner(**fields))
        return error

    def test_no_right_to_create_databases(self) -> None:
        self.foreign.user("plain")
        before = self.foreign.dump()
        for isolation in ("database", "rollback"):
            error = self.error(self.foreign.url_for("postgres", "plain"), isolation=isolation)
            self.assertRegex(
                error,
                rf"^ExternalError: the user 'plain' of the external PostgreSQL [0-9.]+ at 127\.0\.0\.1:{self.port} "
                rf"may not "
                rf"create databases, and with isolation='{isolation}' each class gets one of its own: ALTER ROLE plain "
                r"CREATEDB, or declare isolation='schema' \(a schema of its own in 'postgres'\) or "
                r"isolation='truncate' "
                r"\(the tables of 'postgres' that are empty\)$",
            )
        self.untouched(before)

    def test_a_user_who_may_only_read(self) -> None:
        self.foreign.user("reader", "CREATEDB")
        self.foreign.ask("GRANT CREATE ON DATABASE postgres TO reader")
        self.addCleanup(self.foreign.ask, "REVOKE CREATE ON DATABASE postgres FROM reader; DROP ROLE reader")
        self.foreign.ask("ALTER ROLE reader SET default_transaction_read_only = on")
        for isolation in ("database", "rollback", "truncate", "schema"):
            self.assertRegex(
                self.error(self.foreign.url_for("postgres", "reader"), isolation=isolation),
                r"^ExternalError: the external PostgreSQL [0-9.]+ at \S+ lets the user 'reader' read only: turn "
                r"default_transaction_read_only off for that user, or declare isolation='none'$",
            )

    def test_a_wrong_password(self) -> None:
        for isolation in ("database", "rollback", "truncate", "schema"):
            url = f"postgresql://postgres:falsches-wort@127.0.0.1:{self.port}/postgres"
            error = self.error(url, isolation=isolation)
            self.assertIn(
                f"the external PostgreSQL at 127.0.0.1:{self.port}, named by {VARIABLE}, cannot be used", error
            )
            self.assertIn("password authentication failed", error)
            self.assertNotIn("falsches-wort", error)

    def test_nobody_listens(self) -> None:
        port = closed_port()
        error = self.error(f"postgresql://postgres:x@127.0.0.1:{port}/postgres", startup_timeout=0.5)
        self.assertIn(f"the external PostgreSQL at 127.0.0.1:{port}, named by {VARIABLE}, cannot be used", error)
        self.assertIn("Connection refused", error)


class ReplicaTest(ForeignTest):
    def test_a_read_only_replica(self) -> None:
        self.foreign.ask("COPY (SELECT) TO PROGRAM 'touch standby.signal'")
        self.foreign.restart()
        self.assertEqual(self.foreign.ask("SELECT pg_is_in_recovery()"), [(True,)])
        for isolation in ("database", "rollback", "truncate", "schema"):
            [error] = self.errors(self.foreign.url, inner(isolation=isolation))
            self.assertRegex(
                error,
                r"^ExternalError: the external PostgreSQL [0-9.]+ at \S+ is a read-only replica: name the primary, or declare "
                r"isolation='none'$",
            )


class GoneTest(ForeignTest):
    def test_one_that_ends_during_the_run_is_told_to_every_test_after_that(self) -> None:
        class First(PostgresMixin, ContainerTestCase):
            postgres = Postgres(external=VARIABLE)

            def test_1(self) -> None:
                outer.foreign.stop()

            def test_2(self) -> None: ...

            def test_3(self) -> None: ...

        class Next(First):
            def test_1(self) -> None: ...

        outer = self
        errors = self.errors(self.foreign.url, First, Next)
        place = re.escape(self.foreign.url.rpartition("@")[2].partition("/")[0])
        for error in errors:
            self.assertRegex(
                error,
                rf"^ExternalError: the external PostgreSQL at {place}, named by {VARIABLE}, does not answer any more: .*"
                r"Connection refused.*; see whether it still runs$",
            )
        self.assertEqual(len(errors), 3, errors)  # Two tests, and the next class.


if __name__ == "__main__":
    unittest.main()
