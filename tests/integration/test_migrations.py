# SPDX-License-Identifier: Apache-2.0
"""Migrations by every migrator into a real PostgreSQL, and what a failing one is reported as."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import textwrap
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import alembic
import psycopg2
import sqlalchemy

from itest import ContainerTestCase, Postgres, PostgresMixin, early_reads, script
from itest.clock import Deadline
from itest.errors import MigrationError
from itest.migrations import Alembic, Command, Function, MetaData, SqlFiles, migrate
from itest.services.postgres import PostgresView
from itest.services.postgres.template import fingerprint
from tests.documents import check_document, check_project
from tests.unit.test_external import closed_port

ALEMBIC = tuple(map(int, alembic.__version__.split(".")[:2]))

ENV = """
    from logging.config import fileConfig
    from alembic import context
    from sqlalchemy import engine_from_config, pool

    config = context.config
    fileConfig(config.config_file_name)


    def run(connection):
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


    given = config.attributes.get("connection") if SHARING else None
    if given is not None:
        run(given)
    else:
        engine = engine_from_config(config.get_section(config.config_ini_section), poolclass=pool.NullPool)
        with engine.connect() as connection:
            run(connection)
"""
INI = """
    [alembic]
    script_location = scripts
    path_separator = os
    sqlalchemy.url = postgresql://nobody@nowhere/nothing
    [loggers]
    keys = root
    [handlers]
    keys =
    [formatters]
    keys =
    [logger_root]
    level = ERROR
    handlers =
"""
VERSION = """
    from alembic import op
    import sqlalchemy as sa
    revision, down_revision, branch_labels, depends_on = {revision!r}, {down!r}, None, None
    def upgrade():
        {body}
"""


class MigrationTest(PostgresMixin, ContainerTestCase):
    """Each test migrates its own, empty database."""

    def setUp(self) -> None:
        self.base = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()

    def write(self, name: str, text: str) -> Path:
        file = self.base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def apply(self, migrator: Any) -> None:
        migrator.apply(self.postgres, self.base)

    def assertFails(self, migrator: Any, text: str) -> MigrationError:
        with self.assertRaises(MigrationError) as caught:
            self.apply(migrator)
        self.assertEqual(str(caught.exception).replace(f"{self.base}/", ""), text)
        return caught.exception

    def tables(self, schema: str = "public") -> list[str]:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1"
        return [name for (name,) in self.postgres.execute(sql, [schema])]


class SqlFilesTest(MigrationTest):
    def test_files_in_order(self) -> None:
        self.write("m/10.sql", "-- nothing but a comment")
        self.write("m/1.sql", "CREATE TABLE a (id int); CREATE TABLE b (id int);")
        self.write("m/2.sql", "\ufeffALTER TABLE a ADD name text DEFAULT '100%'; SET search_path = '';")
        self.write("m/3.sql", "INSERT INTO a VALUES (1);")
        self.apply(SqlFiles("m"))
        self.assertEqual(self.postgres.execute("SELECT * FROM a"), [(1, "100%")])

    def test_a_syntax_error(self) -> None:
        self.write("m/1.sql", "CREATE TABLE a (id int);\n\nCREATE TABLE b (\n  id imt\n);\n")
        error = self.assertFails(
            SqlFiles("m"),
            'migration m/1.sql, line 4: type "imt" does not exist; in the statement: CREATE TABLE b ( id imt );',
        )
        self.assertEqual((error.file, error.line), (self.base / "m/1.sql", 4))
        self.assertEqual(error.statement, "CREATE TABLE b (\n  id imt\n);")
        self.assertIsInstance(error.__cause__, psycopg2.Error)
        self.assertIsNone(error.__cause__.__context__)
        self.assertEqual(self.tables(), [])

    def test_an_error_without_a_position(self) -> None:
        self.write(
            "m/1.sql",
            "CREATE TABLE a (id int UNIQUE);\n-- two\nINSERT INTO a VALUES (1);\n\nINSERT INTO a\nVALUES (1);\n",
        )
        self.assertFails(
            SqlFiles("m"),
            'migration m/1.sql, line 5: duplicate key value violates unique constraint "a_id_key" (Key (id)=(1) already '
            "exists.); in the statement: INSERT INTO a VALUES (1);",
        )

    def test_an_error_in_a_function(self) -> None:
        self.write("1.sql", "SELECT 1;\nDO $$\nBEGIN\n  PERFORM nothing();\nEND $$;\n")
        said = r"1\.sql, line 2: function nothing\(\) does not exist.*; in the statement: DO"
        with self.assertRaisesRegex(MigrationError, said):
            self.apply(SqlFiles("1.sql"))

    def test_a_role_that_is_there(self) -> None:
        self.write("m/1.sql", f"CREATE TABLE a (id int);\nCREATE ROLE {self.postgres.user};\n")
        failed = (
            f'role "{self.postgres.user}" already exists; hint: roles belong to the whole server, where other migrations may have '
            "made this one; make it in a script of init=, or in a DO block that looks into pg_roles first; in the statement: "
            f"CREATE ROLE {self.postgres.user}"
        )
        self.assertFails(SqlFiles("m"), f"migration m/1.sql, line 2: {failed};")
        with self.assertRaises(MigrationError) as caught:
            self.apply(Function(lambda view: view.execute(f"CREATE ROLE {view.user}")))
        self.assertEqual(str(caught.exception).partition(": ")[2], failed)
        self.write("2.sql", "CREATE TYPE a AS ENUM ();\nCREATE TYPE a AS ENUM ();\n")
        self.assertFails(
            SqlFiles("2.sql"),
            'migration 2.sql, line 2: type "a" already exists; in the statement: CREATE TYPE a AS ENUM ();',
        )

    def test_a_deferred_constraint(self) -> None:
        self.write(
            "1.sql",
            "CREATE TABLE a (id int PRIMARY KEY, b int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO a VALUES (1, 2);",
        )
        with self.assertRaisesRegex(MigrationError, r'1\.sql: insert or update on table "a" violates foreign key'):
            self.apply(SqlFiles("1.sql"))

    def test_statements_outside_of_a_transaction(self) -> None:
        self.write("1.sql", "CREATE TABLE a (id int);\nCREATE INDEX CONCURRENTLY i ON a (id);\nVACUUM a;\n")
        self.apply(SqlFiles("1.sql"))
        self.assertEqual(self.tables(), ["a"])

    def test_a_script_with_transactions_of_its_own(self) -> None:
        self.write("1.sql", "BEGIN;\nCREATE TABLE a (id int);\nCOMMIT;\nBEGIN;\nCREATE TABLE b (id int);\nROLLBACK;\n")
        self.apply(SqlFiles("1.sql"))
        self.assertEqual(self.tables(), ["a"])

    def test_transactions_anywhere_in_a_line(self) -> None:
        self.write(
            "1.sql",
            "CREATE TABLE a (id int); /* now */ BEGIN; CREATE TABLE b (id int); COMMIT;\nINSERT INTO nope VALUES (1)",
        )
        error = self.assertFails(
            SqlFiles("1.sql"),
            'migration 1.sql, line 2: relation "nope" does not exist; in the statement: INSERT INTO nope VALUES (1)',
        )
        self.assertEqual((error.line, self.tables()), (2, ["a", "b"]))

    def test_a_savepoint_is_no_transaction_of_its_own(self) -> None:
        self.write("1.sql", "CREATE TABLE a (id int); SAVEPOINT s; CREATE TABLE b (id int); ROLLBACK TO SAVEPOINT s;")
        self.apply(SqlFiles("1.sql"))
        self.assertEqual(self.tables(), ["a"])

    def test_a_procedure_that_commits(self) -> None:
        self.write("1.sql", "CREATE TABLE a (id int);\nDO $$ BEGIN INSERT INTO a VALUES (1); COMMIT; END $$;\n")
        self.write(
            "2.sql",
            "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO a VALUES (2); COMMIT; END $$; CALL p();",
        )
        self.apply(SqlFiles("1.sql"))
        self.apply(SqlFiles("2.sql"))
        self.assertEqual(self.postgres.execute("SELECT id FROM a ORDER BY 1"), [(1,), (2,)])

    def test_a_dump(self) -> None:
        self.write(
            "1.sql",
            """\
            \\restrict abc
            SELECT pg_catalog.set_config('search_path', '', false);
            CREATE TABLE public.a (id int, name text);
            COPY public.a (id, name) FROM stdin;
            1\tann; it's
            2\t\\N
            \\.

            CREATE INDEX i ON public.a (id);
            \\unrestrict abc
            """,
        )
        self.apply(SqlFiles("1.sql"))
        self.assertEqual(self.postgres.execute("SELECT * FROM a ORDER BY 1"), [(1, "ann; it's"), (2, None)])

    def test_ctrl_c_ends_a_statement_that_waits_and_runs_nothing_again(self) -> None:
        self.postgres.execute("CREATE SEQUENCE runs")  # What nextval() gives is not rolled back.
        self.write("1.sql", "CREATE TABLE a (id int);\nSELECT nextval('runs');\nSELECT pg_sleep(600);\n")
        ended: list[bool] = []
        interrupting = threading.Thread(target=self.interrupt, args=(ended,))
        interrupting.start()
        with self.assertRaises(KeyboardInterrupt):
            self.apply(SqlFiles("1.sql"))
            interrupting.join()
        interrupting.join()
        self.assertEqual((ended, self.tables()), ([True], []))
        self.assertEqual(self.postgres.execute("SELECT last_value FROM runs"), [(1,)])

    def test_ctrl_c_ends_one_that_swallows_its_cancellation(self) -> None:
        self.write(
            "1.sql",
            "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$",
        )
        ended: list[bool] = []
        interrupting = threading.Thread(target=self.interrupt, args=(ended,))
        interrupting.start()
        with mock.patch.object(script, "CANCEL_WAIT", 0.5), self.assertRaises(KeyboardInterrupt):
            self.apply(SqlFiles("1.sql"))
            interrupting.join()
        interrupting.join()
        self.assertEqual(ended, [True])

    def interrupt(self, ended: list[bool]) -> None:
        """Interrupt this process once the statement runs, and say whether that has ended it."""
        running = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND state = 'active'"
        with contextlib.closing(psycopg2.connect(self.postgres.url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True

            def runs() -> bool:
                cursor.execute(f"SELECT 1 {running} AND pid <> pg_backend_pid()")
                return bool(cursor.fetchall())

            def until(wanted: bool) -> bool:
                deadline = Deadline.after(20)
                while runs() != wanted and not deadline.passed:
                    deadline.pause(0.01)
                return runs() == wanted

            until(True)
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(until(False))
            cursor.execute(f"SELECT pg_terminate_backend(pid) {running} AND pid <> pg_backend_pid()")

    def test_a_bad_row_of_a_dump(self) -> None:
        self.write("1.sql", "CREATE TABLE a (id int);\nCOPY a FROM stdin;\nx\n\\.\n")
        self.assertFails(
            SqlFiles("1.sql"),
            'migration 1.sql, line 2: invalid input syntax for type integer: "x"; in the statement: COPY a FROM stdin;',
        )


class MetaDataTest(MigrationTest):
    def test_tables_schemas_enums_and_sequences(self) -> None:
        metadata = sqlalchemy.MetaData()
        numbers = sqlalchemy.Sequence("numbers", start=7, schema="counting")
        kind = sqlalchemy.Enum("x", "y", name="kind", schema="types")
        columns = [
            sqlalchemy.Column("id", sqlalchemy.Integer, numbers, server_default=numbers.next_value()),
            sqlalchemy.Column("kind", kind),
        ]
        sqlalchemy.Table("t", metadata, *columns, schema="inner")
        self.apply(MetaData(metadata))
        self.assertEqual(self.postgres.execute("INSERT INTO \"inner\".t (kind) VALUES ('x') RETURNING id"), [(7,)])

    def test_a_failure(self) -> None:
        metadata = sqlalchemy.MetaData()
        sqlalchemy.Table(
            "t", metadata, sqlalchemy.Column("a", sqlalchemy.Text, sqlalchemy.CheckConstraint("nonsense > 1"))
        )
        self.assertFails(
            MetaData(metadata),
            'MetaData.create_all failed: column "nonsense" does not exist; in the statement: CREATE TABLE t ( a TEXT CHECK '
            "(nonsense > 1) )",
        )

    def test_schemas_of_its_own_where_the_class_has_one(self) -> None:
        metadata = sqlalchemy.MetaData()
        sqlalchemy.Table("t", metadata, sqlalchemy.Column("id", sqlalchemy.Integer), schema="inner")
        with self.assertRaises(MigrationError) as caught:
            MetaData(metadata).apply(self.in_schema, self.base)
        self.assertEqual(
            str(caught.exception),
            "MetaData: its tables, enums or sequences name schemas of their own (inner), which with isolation='schema' would be "
            "made in the database itself, for all and for good; leave the schema out there, or declare isolation='database'",
        )
        self.assertEqual(self.in_schema.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'inner'"), [])

    in_schema = Postgres(isolation="schema")


class FunctionTest(MigrationTest):
    def test_a_failure_names_line_and_statement(self) -> None:
        def broken(view: Any) -> None:
            view.execute("SELECT 1")
            view.execute("CREATE TABLE a (id imt)")

        with self.assertRaises(MigrationError) as caught:
            self.apply(Function(broken))
        self.assertRegex(
            str(caught.exception),
            r"^the migration FunctionTest\..*\.broken failed at .*test_migrations\.py, line \d+: "
            r'type "imt" does not exist; in the statement: CREATE TABLE a \(id imt\)$',
        )


class Surrounding:
    """A migrator of a user's own, with all three methods."""

    def __init__(self, gives: object) -> None:
        self.gives = gives

    def fingerprint(self) -> str:
        return "Surrounding"

    def apply(self, view: PostgresView) -> None:
        view.execute("CREATE TABLE orders (item text)")

    @contextlib.contextmanager
    def during(self, view: PostgresView) -> Iterator[object]:
        view.execute("INSERT INTO orders VALUES (%s)", [view.name])
        yield self.gives


class SurroundingTest(PostgresMixin, ContainerTestCase):
    """What `during` gives is not taken for anything: neither called nor a reason to reset nothing."""

    postgres = Postgres(migrations=Surrounding("a text"))

    def test_1(self) -> None:
        self.assertEqual(self.postgres.execute("SELECT item FROM orders"), [(self.postgres.name,)])
        self.postgres.execute("INSERT INTO orders VALUES ('book')")

    test_2 = test_1


class SurroundingAndCalledTest(SurroundingTest):
    postgres = Postgres(migrations=Surrounding(lambda: True))


class CommandTest(MigrationTest):
    def test_a_program_with_the_variables_of_libpq(self) -> None:
        code = "import psycopg2; c = psycopg2.connect(''); c.cursor().execute('CREATE TABLE a (id int)'); c.commit(); c.close()"
        self.apply(Command([sys.executable, "-c", code]))
        self.assertEqual(self.tables(), ["a"])


class AlembicTest(MigrationTest):
    SHARING = True

    def setUp(self) -> None:
        super().setUp()
        self.write("db/alembic.ini", INI)
        self.write("db/scripts/env.py", f"SHARING = {self.SHARING}\n" + textwrap.dedent(ENV))
        self.version("1", None, "op.create_table('a', sa.Column('id', sa.Integer))")

    def version(self, revision: str, down: str | None, body: str) -> None:
        self.write(f"db/scripts/versions/{revision}_it.py", VERSION.format(revision=revision, down=down, body=body))

    def test_upgrade(self) -> None:
        self.version("2", "1", "op.get_context().autocommit_block().__enter__(); op.execute('VACUUM a')")
        path, logger = list(sys.path), logging.getLogger("tests.of.mine")
        handlers, level = list(logging.root.handlers), logging.root.level
        self.apply(Alembic("db/alembic.ini", "1"))
        self.assertEqual(self.tables(), ["a", "alembic_version"])
        self.assertFalse(logger.disabled)
        self.assertEqual((sys.path, logging.root.handlers, logging.root.level), (path, handlers, level))

    def test_what_a_module_reads_that_env_imports_is_noted_and_not_what_env_reads(self) -> None:
        file = self.base / "db/scripts/env.py"
        name = f"models_{os.getpid()}_{self.SHARING}"
        self.write(f"db/{name}.py", "import os\nos.environ.get('TEST_A')\n")
        self.write("db/alembic.ini", textwrap.dedent(INI).replace("[loggers]", "prepend_sys_path = .\n[loggers]"))
        begin = f"import os, {name}\nos.environ.get('TEST_B')\n"
        file.write_text(begin + file.read_text(encoding="utf-8"), encoding="utf-8")
        self.addCleanup(sys.modules.pop, name, None)
        migrate(Alembic("db/alembic.ini"), self.postgres, self.base)
        with mock.patch.dict(os.environ, {"TEST_A": "1", "TEST_B": "1"}):
            self.assertEqual(early_reads.kept(["TEST_A", "TEST_B"]), {name: ["TEST_A"]})

    def test_all_heads(self) -> None:
        self.version("2", "1", "op.create_table('b', sa.Column('id', sa.Integer))")
        self.version("3", "1", "op.create_table('c', sa.Column('id', sa.Integer))")
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version", "b", "c"])

    @unittest.skipIf(ALEMBIC < (1, 16), "path_separator is of Alembic 1.16")
    def test_paths_from_the_directory_of_the_ini(self) -> None:
        more = "version_locations = scripts/versions:more\nprepend_sys_path = .:helping\n"
        self.write("db/helping/the_helper_of_these_migrations.py", "TABLE = 'b'")
        body = "import the_helper_of_these_migrations as helper; op.create_table(helper.TABLE)"
        self.write("db/more/2.py", VERSION.format(revision="2", down="1", body=body))
        self.write("db/alembic.ini", INI.replace("path_separator", f"{more}path_separator".replace("\n", "\n    ")))
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version", "b"])

    @unittest.skipIf(ALEMBIC < (1, 16), "[tool.alembic] is of Alembic 1.16")
    def test_paths_in_pyproject(self) -> None:
        self.write("db/alembic.ini", INI.replace("script_location = scripts", ""))
        self.write("db/more/2.py", VERSION.format(revision="2", down="1", body="op.create_table('b')"))
        toml = (
            '[tool.alembic]\nscript_location = "scripts"\nversion_locations = ["scripts/versions", "%(here)s/more"]\n'
        )
        self.write("db/pyproject.toml", toml)
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version", "b"])

    def test_a_failure_names_file_line_and_statement(self) -> None:
        self.version("2", "1", "op.execute('ALTER TABLE nothing ADD a int')")
        error = self.assertFails(
            Alembic("db/alembic.ini"),
            "Alembic('db/alembic.ini'), upgrade to heads failed at db/scripts/versions/2_it.py, line 6: "
            'relation "nothing" does not exist; in the statement: ALTER TABLE nothing ADD a int',
        )
        self.assertEqual((error.file, error.line), (self.base / "db/scripts/versions/2_it.py", 6))


class AlembicByUrlTest(AlembicTest):
    """An env.py as `alembic init` makes it, which knows the URL only."""

    SHARING = False

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.dict(os.environ, {"DEVELOPERS_URL": self.other.url_for("psycopg2")}))

    other = Postgres(fixtures=[], migrations=lambda view: None)
    """What a developer works with, which no test may touch."""

    in_schema = Postgres(isolation="schema")
    """A schema in a database that others use too."""

    def env(self, line: str) -> None:
        """An env.py that begins like this."""
        begin = "import os\nfrom alembic import context\nconfig = context.config\n"
        text = f"{begin}{line}\nSHARING = False\n" + textwrap.dedent(ENV)
        self.write("db/scripts/env.py", text)

    def assertUntouched(self) -> None:
        self.assertEqual(self.other.execute("SELECT relname FROM pg_stat_user_tables"), [])

    def test_an_url_that_env_sets(self) -> None:
        self.env("config.set_main_option('sqlalchemy.url', os.environ['DEVELOPERS_URL'])")
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version"])
        self.assertUntouched()

    def test_a_database_that_env_finds_elsewhere(self) -> None:
        find = 'config.file_config.set("alembic", "sqlalchemy.url", os.environ["DEVELOPERS_URL"].replace("%", "%%"))'
        self.env(find)
        with self.assertRaisesRegex(MigrationError, r"env\.py connects to .* and not to the test database") as caught:
            self.apply(Alembic("db/alembic.ini"))
        self.assertNotIn(self.other.password, str(caught.exception))
        self.assertUntouched()
        self.assertEqual(self.tables(), [])

    def test_a_database_of_its_own_that_does_not_answer(self) -> None:
        nobody = f"postgresql+psycopg2://nobody:x@127.0.0.1:{closed_port()}/nothing"
        nothing = self.other.url_for("psycopg2").rpartition("/")[0] + "/nothing"
        for url, reason in ((nobody, "Connection refused"), (nothing, 'database "nothing" does not exist')):
            self.env(f"config.file_config.set('alembic', 'sqlalchemy.url', {url!r})")
            with self.assertRaises(MigrationError) as caught:
                self.apply(Alembic("db/alembic.ini"))
            self.assertIn(reason, str(caught.exception))
            self.assertTrue(
                str(caught.exception).endswith(
                    "in the line: with engine.connect() as connection:; if env.py connects by a URL of its own, let it use "
                    'config.attributes["connection"] where there is one, or connect by the URL that '
                    'config.get_main_option("sqlalchemy.url") returns'
                ),
                caught.exception,
            )

    def test_a_migration_that_finds_nobody(self) -> None:
        self.version("2", "1", f"import socket; socket.create_connection(('127.0.0.1', {closed_port()}))")
        with self.assertRaisesRegex(MigrationError, r"Connection refused; in the line: import socket; .*\)\)$"):
            self.apply(Alembic("db/alembic.ini"))

    def test_another_schema_of_the_same_database(self) -> None:
        view: Any = self.in_schema
        beside = view.server.url_of(view.name).replace("postgresql://", "postgresql+psycopg2://")
        self.env(f'config.file_config.set("alembic", "sqlalchemy.url", {beside!r})')
        with self.assertRaisesRegex(
            MigrationError, r"env\.py connects to .* and not to the test's schema, so no migration"
        ):
            Alembic("db/alembic.ini").apply(view, self.base)
        tables = "SELECT schemaname FROM pg_tables WHERE tablename = 'alembic_version'"
        self.assertEqual(view.execute(tables), [])
        self.env("")
        Alembic("db/alembic.ini").apply(view, self.base)
        self.assertEqual(view.execute(tables), [(view.schema,)])

    def test_a_schema_that_env_chooses_in_a_database_of_the_test(self) -> None:
        self.postgres.execute("CREATE SCHEMA tenant")
        self.env("")
        file = self.base / "db/scripts/env.py"
        choosing = "def run(connection):\n    connection.exec_driver_sql('SET search_path TO tenant; COMMIT')"
        file.write_text(file.read_text(encoding="utf-8").replace("def run(connection):", choosing), encoding="utf-8")
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual((self.tables("tenant"), self.tables()), (["a", "alembic_version"], []))

    def test_a_database_of_another_kind(self) -> None:
        self.env("config.file_config.set('alembic', 'sqlalchemy.url', 'sqlite://')")
        with self.assertRaisesRegex(MigrationError, "env.py connects to sqlite:// and not to the test database"):
            self.apply(Alembic("db/alembic.ini"))

    def test_an_url_of_parts_that_env_sets(self) -> None:
        self.write("db/alembic.ini", INI.replace("nobody@nowhere", "%(NAME)s@nowhere"))
        self.env("config.set_section_option('alembic', 'NAME', 'anybody')")
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version"])

    def test_a_driver_for_asyncio_that_env_sets(self) -> None:
        self.write(
            "db/scripts/env.py",
            """
            import asyncio
            from alembic import context
            from sqlalchemy import pool
            from sqlalchemy.ext.asyncio import async_engine_from_config

            config = context.config
            config.set_main_option("sqlalchemy.url", "postgresql+asyncpg://nobody@nowhere/nothing")


            def run(connection):
                context.configure(connection=connection)
                with context.begin_transaction():
                    context.run_migrations()


            async def connect():
                engine = async_engine_from_config(config.get_section("alembic"), poolclass=pool.NullPool)
                async with engine.connect() as connection:
                    await connection.run_sync(run)
                await engine.dispose()


            asyncio.run(connect())
            """,
        )
        self.apply(Alembic("db/alembic.ini"))
        self.assertEqual(self.tables(), ["a", "alembic_version"])
        Alembic("db/alembic.ini").apply(self.in_schema, self.base)
        self.assertEqual(self.in_schema.execute("SELECT count(*) FROM a"), [(0,)])


class DjangoTest(unittest.TestCase):
    """In a process of its own, because a process has one Django configuration for good."""

    FILES = {  # noqa: RUF012  # nobody changes it
        "project/__init__.py": "",
        "project/settings.py": """
            SECRET_KEY = "x"
            USE_TZ = True
            INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop", "plain"]
            DATABASES = {
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
                "other": {
                    "ENGINE": "django.db.backends.postgresql",
                    "OPTIONS": {"options": "-csearch_path=public -cdefault_tablespace=pg_default"},
                },
            }
            DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
        "shop/__init__.py": "",
        "shop/models.py": """
            from django.db import models
            class Item(models.Model):
                name = models.CharField(max_length=20)
        """,
        "shop/migrations/__init__.py": "",
        "shop/migrations/0001_initial.py": """
            from django.db import migrations, models
            def fill(apps, schema_editor):
                apps.get_model("shop", "Item").objects.create(name="from the migration")
            class Migration(migrations.Migration):
                initial = True
                dependencies = []
                operations = [
                    migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20))]),
                    migrations.RunPython(fill),
                ]
        """,
        "plain/__init__.py": "",
        "plain/models.py": """
            from django.db import models
            class Thing(models.Model):
                name = models.CharField(max_length=20)
        """,
        "tests/test_items.py": """
            from pathlib import Path
            from itest import ContainerTestCase, Postgres, PostgresMixin
            from itest.errors import ConfigError, MigrationError
            from itest.migrations import Django, Function

            class ItemTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=Django("project.settings"))

                def test_items(self):
                    self.assertEqual(self.postgres.execute("SELECT name FROM shop_item"), [("from the migration",)])
                    self.assertEqual(self.postgres.execute("SELECT count(*) FROM plain_thing"), [(0,)])
                    [(permissions,)] = self.postgres.execute("SELECT count(*) FROM auth_permission")
                    self.assertGreater(permissions, 0)
                    from django.db import connection
                    self.assertEqual(connection.vendor, "postgresql")

                def test_its_fingerprint(self):
                    Path("data.csv").touch()
                    django = Django("project.settings", depends_on=["data.csv"])
                    before = django.fingerprint(Path())
                    self.assertEqual(django.fingerprint(Path()), before)
                    for name in ("shop/migrations/0001_initial.py", "plain/models.py", "project/settings.py", "data.csv"):
                        with Path(name).open("a") as file:
                            file.write("# changed")
                        self.assertNotEqual(django.fingerprint(Path()), before)
                        before = django.fingerprint(Path())

                def test_other_settings(self):
                    with self.assertRaisesRegex(ConfigError, "runs with the settings 'project.settings' already"):
                        Django("other.settings").fingerprint(Path())

            class SomeAppsTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=Django("project.settings", apps=["contenttypes"]))

                def test_only_these(self):
                    tables = self.postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
                    self.assertEqual(tables, [("django_content_type",), ("django_migrations",)])

            class PlainAppTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=Django("project.settings", apps=["plain", "contenttypes"]))

                def test_its_tables_are_made(self):
                    self.assertEqual(self.postgres.execute("SELECT count(*) FROM plain_thing"), [(0,)])

            class SchemaTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=Django("project.settings"), isolation="schema")

                def test_nothing_is_made_elsewhere(self):
                    places = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename ~ '^(django|shop|plain)_'"
                    self.assertEqual(self.postgres.execute(places), [(self.postgres.schema,)])

            class OptionsTest(SchemaTest):
                postgres = Postgres(migrations=Django("project.settings", "contenttypes", "other"), isolation="schema")

            class WithoutTest(ContainerTestCase):
                def test_the_projects_own_connection_is_back(self):
                    from django.db import connection
                    self.assertEqual((connection.vendor, connection.settings_dict["NAME"]), ("sqlite", ":memory:"))

            class FailingTest(PostgresMixin, ContainerTestCase):
                def test_file_line_and_statement(self):
                    self.postgres.execute("CREATE TABLE shop_item ()")
                    with self.assertRaisesRegex(
                        MigrationError,
                        r"^Django\\('project.settings'\\), migrate failed at shop/migrations/0001_initial.py: relation \\"shop_item\\" already exists; "
                        r"in the statement: CREATE TABLE \\"shop_item\\"",
                    ):
                        Django("project.settings", apps="shop").apply(self.postgres, Path())
        """,
    }

    def test_migrate(self) -> None:
        check_project(self, self.FILES)


built: list[str] = []


def count_builds(view: Any) -> None:
    view.execute("CREATE TABLE a (id int)")
    built.append(view.name)


class OnceTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=count_builds)

    def test_migrated(self) -> None:
        self.assertEqual(self.postgres.execute("SELECT * FROM a"), [])
        self.assertEqual(len(built), 1)


class OnceAgainTest(OnceTest):
    postgres = Postgres(migrations=Function(count_builds))


class OtherFixturesTest(unittest.TestCase):
    FILES: ClassVar[dict[str, str]] = {
        "tests/one/book.csv": "id\n1\n",
        "tests/two/book.csv": "id\n1\n2\n",
        "tests/test_books.py": """
            from itest import ContainerTestCase, Postgres, PostgresMixin

            applied = []

            def migrate(view):
                # What belongs to the whole server cannot be made twice.
                view.execute("CREATE TABLE book (id int); CREATE ROLE librarian")
                applied.append(view.name)

            class OneTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=migrate, fixtures=["one/book.csv"])

                def test_one(self):
                    self.assertRowCount("book", 1)

            class TwoTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=migrate, fixtures=["two/book.csv"])

                def test_two(self):
                    self.assertRowCount("book", 2)

            class WithoutTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(migrations=migrate)

                def test_none(self):
                    self.assertRowCount("book", 0)
                    self.assertEqual(len(applied), 1)
        """,
    }

    def test_migrations_are_applied_once_for_all_of_them(self) -> None:
        check_project(self, self.FILES)


class KeyTest(unittest.TestCase):
    def test_what_a_template_is_keyed_by(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            base = Path(directory)
            base.joinpath("users.csv").write_text("id\n1\n")
            base.joinpath("orders.csv").write_text("id\n1\n")
            users = Postgres(migrations=count_builds, fixtures=["users.csv"])
            keys = [
                fingerprint(users, base, 17),
                fingerprint(users, base, 18),
                fingerprint(users.replace(fixtures=["orders.csv"]), base, 17),
                fingerprint(users.replace(fixtures=["users.csv", "orders.csv"]), base, 17),
                fingerprint(users.replace(migrations=print), base, 17),
            ]
            base.joinpath("users.csv").write_text("id\n2\n")
            keys.append(fingerprint(users, base, 17))
        self.assertEqual(len(set(keys)), len(keys))


class DocumentTest(unittest.TestCase):
    def test_the_examples_in_the_documentation(self) -> None:
        check_document(self, "docs/migrations.md")
