# SPDX-License-Identifier: Apache-2.0
"""A database that a class gives back clean serves the next one with the same template, and between runs rests on a server
that is reused. What cannot be brought back is dropped."""

from __future__ import annotations

import contextlib
import tempfile
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2

from itest import Redis, sharing, testing
from itest.errors import Unavailable
from itest.migrations import Function
from itest.naming import SESSION
from itest.services.postgres import Postgres, PostgresServer, template, warm
from itest.services.postgres.lease import PostgresLease
from itest.services.postgres.spares import MOST, RESTING, Spares
from itest.session import Session
from tests.integration import sqlbodies
from tests.integration.sqldump import difference, dump


def schema(view: Any) -> None:
    view.execute("CREATE TABLE t (id serial, v text DEFAULT 'x'); INSERT INTO t (v) VALUES ('seed'); CREATE SEQUENCE s")


def large(view: Any) -> None:
    view.execute(sqlbodies.SCHEMA)


def unlogged(view: Any) -> None:
    view.execute("CREATE UNLOGGED TABLE t (id int)")


READ_BY_MIGRATIONS = {"statement": ""}


def by_what_is_read(view: Any) -> None:
    view.execute(READ_BY_MIGRATIONS["statement"])


BUILT: list[int] = []


def numbered(number: int, view: Any) -> None:
    BUILT.append(number)
    view.execute(f"CREATE TABLE t{number} (id int)")


DECLARATION = Postgres(migrations=Function(schema, depends_on=[__file__]))


def leased(session: Session, service: Postgres = DECLARATION, owner: str = "tests.Some") -> PostgresLease:
    try:
        server: Any = session.lend(service)
    except Unavailable as reason:
        raise unittest.SkipTest(str(reason)) from None
    if not server.can_recycle():
        raise unittest.SkipTest("this server's log cannot be read")
    lease: PostgresLease = server.lease(service, owner)
    return lease


def use(lease: PostgresLease, *bodies: Callable[[Any], object]) -> tuple[int, str]:
    """One test for each body; then the lease is closed. The id and the name of its database."""
    lease.seal()
    view = lease.reset("tests.Some.test_first")
    [(oid,)] = view.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
    for body in bodies:
        body(view)
        view.close()
        view = lease.reset("tests.Some.test_next")
    view.close()
    lease.close()
    return oid, view.name


def content(lease: PostgresLease) -> dict[str, Any]:
    """All there is in its database."""
    return {what: rows for what, rows in dump(lease.view.url).items() if what != "databases"}


def write(view: Any) -> None:
    view.execute("INSERT INTO t DEFAULT VALUES; SELECT nextval('s'); UPDATE t SET v = 'changed' WHERE id = 1")


class ClassesTest(unittest.TestCase):
    session: Session

    @classmethod
    def setUpClass(cls) -> None:
        cls.session = cls.enterClassContext(testing.session())
        leased(cls.session).close()

    def served(self, *bodies: Callable[[Any], object], service: Postgres = DECLARATION) -> bool:
        """Whether the database of a class with these tests serves the next class, which must find the baseline anyway."""
        session = self.enterContext(testing.session())
        untouched = leased(session, service)
        baseline = content(untouched)
        untouched.close()
        oid, name = use(leased(session, service), *bodies)
        second = leased(session, service, "tests.Other")
        self.addCleanup(second.close)
        second.seal()
        view = second.reset("tests.Other.test_one")
        [(now,)] = view.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
        self.assertEqual(difference(baseline, content(second)), [])
        if service is DECLARATION:
            write(view)
        view.close()
        self.assertNotEqual(view.name, name)
        again = second.reset("tests.Other.test_two")
        self.assertEqual(difference(baseline, content(second)), [])
        again.close()
        return bool(now == oid)

    def test_nothing_was_written(self) -> None:
        self.assertTrue(self.served())

    def test_what_the_last_test_wrote_is_undone(self) -> None:
        self.assertTrue(self.served(write))
        self.assertTrue(self.served(write, lambda view: view.execute("DELETE FROM t")))

    def test_a_large_schema(self) -> None:
        """It has unlogged tables, of which the log says nothing."""
        self.assertFalse(self.served(service=Postgres(migrations=large)))

    def test_unlogged_tables(self) -> None:
        self.assertFalse(
            self.served(lambda view: view.execute("INSERT INTO t VALUES (1)"), service=Postgres(migrations=unlogged))
        )

    def test_tables_that_were_made_or_moved(self) -> None:
        self.assertFalse(self.served(lambda view: view.execute("TRUNCATE t")))
        session = self.enterContext(testing.session())
        first = leased(session)
        first.seal()
        view = first.reset("tests.Some.test_one")
        view.execute("CREATE TABLE more (id int)")
        view.close()
        first.close()
        second = leased(session)
        self.addCleanup(second.close)
        self.assertEqual(second.view.execute("SELECT to_regclass('more')"), [(None,)])

    def test_a_first_value_of_a_sequence_that_is_taken_within_a_savepoint(self) -> None:
        """Its record is of transaction 0, and of further values there is none for a while."""

        def take(statements: str, end: str, view: Any) -> None:
            with view.connection.cursor() as cursor:
                cursor.execute(statements)
            getattr(view.connection, end)()

        def look(view: Any) -> None:
            with view.connection.cursor() as cursor:
                cursor.execute("SELECT nextval('s'), nextval('t_id_seq')")
                self.assertEqual(cursor.fetchall(), [(1, 2)])

        for statements in (
            "SAVEPOINT p; SELECT nextval('s'); RELEASE p",
            "SAVEPOINT p; INSERT INTO t DEFAULT VALUES; ROLLBACK TO p",
            "DO $$ BEGIN PERFORM nextval('s'); INSERT INTO t DEFAULT VALUES; EXCEPTION WHEN others THEN NULL; END $$",
        ):
            for end in ("commit", "rollback"):
                with self.subTest(statements, end=end):
                    self.served(partial(take, statements, end), look)
                    self.served(partial(take, statements, end))

    def test_one_that_a_test_drops(self) -> None:
        use(leased(self.session), write)
        lease = leased(self.session)
        self.addCleanup(lease.close)
        lease.seal()
        view = lease.reset("tests.Some.test_one")
        with contextlib.closing(psycopg2.connect(lease._server.url_of("postgres"))) as other:
            other.autocommit = True
            other.cursor().execute(f"DROP DATABASE {view.name} WITH (FORCE)")
        view.close()
        view = lease.reset("tests.Some.test_two")
        self.assertEqual((lease.way, lease.reason), ("cloned", f"the database {view.name} is gone"))
        self.assertEqual(view.execute("SELECT id, v FROM t"), [(1, "seed")])

    def test_a_baseline_of_the_classs_own(self) -> None:
        session = self.enterContext(testing.session())
        first = leased(session)
        write(first.view)
        use(first)
        second = leased(session)
        self.addCleanup(second.close)
        self.assertEqual(second.view.execute("SELECT id, v FROM t"), [(1, "seed")])

    def test_a_class_that_has_only_read_has_no_baseline_of_its_own(self) -> None:
        session = self.enterContext(testing.session())
        first, other = leased(session), leased(session)
        self.addCleanup(other.close)
        self.assertEqual(first.view.execute("SELECT id, v FROM t"), [(1, "seed")])
        write(other.view)  # Another class does at the same time.
        name = use(first, write)[1]
        self.assertIn(name, {spare.name for _, spare in first._server.part(Spares)._spares})

    def test_a_class_that_wrote_to_an_unlogged_table_has_one(self) -> None:
        session = self.enterContext(testing.session())
        first = leased(session, Postgres(migrations=unlogged))
        self.addCleanup(first.close)
        first.view.execute("INSERT INTO t VALUES (7)")
        first.seal()
        view = first.reset("tests.Some.test_one")
        view.execute("DELETE FROM t")
        view.close()
        again = first.reset("tests.Some.test_two")
        self.assertEqual(again.execute("SELECT id FROM t"), [(7,)])
        again.close()

    def test_who_kept_the_address_of_the_class_before_reaches_nobodys_data(self) -> None:
        session = self.enterContext(testing.session())
        first = leased(session)
        url = first.view.url
        with contextlib.closing(psycopg2.connect(url)) as left:
            with left.cursor() as cursor:
                cursor.execute("INSERT INTO t DEFAULT VALUES")  # And no commit.
            use(first)
            second = leased(session)
            self.addCleanup(second.close)
            with self.assertRaises(psycopg2.Error), left.cursor() as cursor:
                cursor.execute("SELECT 1")
        with self.assertRaisesRegex(psycopg2.OperationalError, "does not exist"):
            psycopg2.connect(url)
        self.assertEqual(second.view.execute("SELECT count(*) FROM t"), [(1,)])

    def test_classes_one_after_the_other_need_one(self) -> None:
        for _ in range(3):
            lease = leased(self.session)
            server: PostgresServer = lease._server
            use(lease, write)
        names = [name for (name,) in server.admin("SELECT datname FROM pg_database") if server.made(name)]
        self.assertEqual(len(names), 1, names)

    def test_they_do_not_grow_with_the_number_of_migrations(self) -> None:
        session = self.enterContext(testing.session())
        first = leased(session, owner="tests.First")
        server: PostgresServer = first._server
        _, oldest = use(first)
        for number in range(MOST):
            _, last = use(leased(session, Postgres(migrations=partial(numbered, number))))
        found = {name for (name,) in server.admin("SELECT datname FROM pg_database") if server.made(name)}
        self.assertEqual(len(found), MOST, found)
        self.assertIn(last, found)
        self.assertNotIn(oldest, found)
        again = leased(session, owner="tests.Again")
        self.addCleanup(again.close)
        self.assertEqual(again.view.execute("SELECT id, v FROM t"), [(1, "seed")])


class TemplatesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.session = self.enterContext(testing.session())
        BUILT.clear()
        self.declarations = [Postgres(migrations=partial(numbered, number)) for number in range(warm.MOST + 2)]
        for service in self.declarations:
            lease = leased(self.session, service)
            lease.close()
        self.server: PostgresServer = lease._server

    def missing(self) -> list[int]:
        """The numbers of the declarations whose templates are not there."""
        keys = [template.fingerprint(each, each.directory, self.server.number // 10000) for each in self.declarations]
        return [number for number, key in enumerate(keys) if not self.server.exists(f"itest_t_{key}")]

    def test_those_that_no_class_needs_any_more_do_not_grow_with_the_number_of_migrations(self) -> None:
        self.assertEqual(self.missing(), [])
        self.server.prune([Redis(), self.declarations[0]])
        self.assertEqual(self.missing(), [1])
        self.server.prune([])
        self.assertEqual(self.missing(), [0, 1])

    def test_one_that_is_needed_again_after_all_is_built_anew(self) -> None:
        self.server.prune([])
        lease = leased(self.session, self.declarations[0])
        self.addCleanup(lease.close)
        self.assertEqual(lease.view.execute("SELECT * FROM t0"), [])
        self.assertEqual(BUILT.count(0), 2)

    def test_what_a_class_is_using_stays(self) -> None:
        lease = leased(self.session, self.declarations[0])
        self.addCleanup(lease.close)
        self.server.prune([])
        self.assertEqual(self.missing(), [])

    def test_others_with_the_same_migrations_need_what_they_begin_with(self) -> None:
        fixtures = self.enterContext(tempfile.NamedTemporaryFile(suffix=".sql")).name
        self.server.prune([self.declarations[0].replace(fixtures=(fixtures,))])
        self.assertEqual(self.missing(), [1])


class RunsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.addCleanup(self.end)

    def end(self) -> None:
        """As if the time of the servers were over."""
        for place in (self.cache / "servers").glob("*"):
            with testing.session() as session:
                for engine in session._engines.usable():
                    sharing.end(place, lambda label, engine=engine: engine.remove({SESSION: label}))  # type: ignore[misc]  # bound early

    @contextlib.contextmanager
    def run_of_its_own(self) -> Iterator[Session]:
        with testing.session(reuse=True, reuse_time=60.0, warm=False, cache_dir=self.cache) as session:
            yield session

    def one_run(self, *bodies: Callable[[Any], object]) -> int:
        with self.run_of_its_own() as session:
            return use(leased(session), *bodies)[0]

    def test_it_rests_until_the_next_run(self) -> None:
        first = self.one_run(write)
        self.assertEqual(self.one_run(), first)
        self.assertEqual(self.one_run(write), first)
        with self.run_of_its_own() as session:
            lease = leased(session)
            self.addCleanup(lease.close)
            self.assertEqual(lease.view.execute("SELECT id, v FROM t"), [(1, "seed")])
            self.assertEqual(lease.view.execute("SELECT nextval('s')"), [(1,)])

    def test_what_a_function_reads_may_be_another_by_the_next_run(self) -> None:
        for statement in ("CREATE TABLE t AS SELECT 1 AS v", "CREATE TABLE t AS SELECT 2 AS v"):
            with self.run_of_its_own() as session, mock.patch.dict(READ_BY_MIGRATIONS, statement=statement):
                lease = leased(session, Postgres(migrations=by_what_is_read))
                rows = lease.view.execute("SELECT v FROM t")
                use(lease)
            self.assertIn(f"SELECT {rows[0][0]} AS", statement)

    def test_what_a_function_reads_may_be_another_in_a_run_at_the_same_moment(self) -> None:
        service = Postgres(migrations=by_what_is_read)
        with self.run_of_its_own() as one:
            with mock.patch.dict(READ_BY_MIGRATIONS, statement="CREATE TABLE t AS SELECT 1 AS v"):
                first = leased(one, service)
            with (
                mock.patch.object(sharing, "run", return_value="another"),
                mock.patch.dict(READ_BY_MIGRATIONS, statement="CREATE TABLE t AS SELECT 2 AS v"),
                self.run_of_its_own() as other,
            ):
                second = leased(other, service)
                self.assertEqual(second._server.instance.id, first._server.instance.id)
                self.assertEqual(second.view.execute("SELECT v FROM t"), [(2,)])
                built = self.templates(second._server)
                use(second)
            use(first)
            self.assertEqual(self.templates(one.lend(service)), built, "workers of the other run may still clone one")
            with self.run_of_its_own() as third:  # The first ends, its template with it, while another one goes on.
                server: Any = third.lend(service)
                one.close()
                self.assertEqual(len(self.templates(server)), 1)
        with self.run_of_its_own() as session:
            self.assertEqual(self.templates(session.lend(service)), set())

    def templates(self, server: Any) -> set[str]:
        names = {name for (name,) in server.admin("SELECT datname FROM pg_database")}
        return {name for name in names if name.startswith((warm.TEMPLATE, RESTING))}

    def test_one_that_somebody_has_written_to_meanwhile_is_not_used(self) -> None:
        first = self.one_run()
        with self.run_of_its_own() as session:
            server: Any = session.lend(DECLARATION)
            [name] = [
                name for (name,) in server.admin("SELECT datname FROM pg_database") if name.startswith("itest_r_")
            ]
            with contextlib.closing(psycopg2.connect(server.url_of(name))) as connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO t DEFAULT VALUES")
                connection.commit()
        self.assertNotEqual(self.one_run(), first)
        with self.run_of_its_own() as session:
            lease = leased(session)
            self.addCleanup(lease.close)
            self.assertEqual(lease.view.execute("SELECT count(*) FROM t"), [(1,)])

    def test_two_runs_at_once_have_one_each(self) -> None:
        first = self.one_run()
        with self.run_of_its_own() as one, self.run_of_its_own() as other:
            leases = [leased(session) for session in (one, other)]
            found = {
                lease.view.execute("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]
                for lease in leases
            }
            for lease in leases:
                lease.close()
        self.assertEqual(len(found), 2)
        self.assertIn(first, found)

    def test_one_of_a_run_that_was_cut_short_is_removed(self) -> None:
        self.one_run()
        with self.run_of_its_own() as session:
            lease = leased(session)
            name = lease.view.name
            lease.view.close()
            lease._kept.close()  # And nothing more: as if it had been killed.
            lease._server._databases.discard(name)
        with self.run_of_its_own() as session:
            server: Any = session.lend(DECLARATION)
            self.assertFalse(server.exists(name))


if __name__ == "__main__":
    unittest.main()
