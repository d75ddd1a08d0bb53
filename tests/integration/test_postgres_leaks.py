# SPDX-License-Identifier: Apache-2.0
"""isolation="database": connections that a test changed, broke, or left behind in whatever state."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import tempfile
import threading
import unittest
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from itest import ContainerTestCase, Postgres, PostgresMixin, testing
from itest.clock import Deadline
from itest.services.postgres import leaks, libpq, view
from tests.integration.at_once import meeting_in
from tests.integration.baseline import DECLARATION, BaselineTest, schema
from tests.integration.capture import said

TEST = "tests.Baseline.test_before"


class ForeignTest(BaselineTest):
    """Sessions that an app, or another process, has in the test's database."""

    def foreign(self) -> Any:
        connection = psycopg2.connect(self.view.url, application_name="shop")
        self.addCleanup(connection.close)
        return connection

    def left(self, *statements: str, autocommit: bool = False) -> tuple[Any, list[str]]:
        """A foreign session that ran these and is still there at the reset; and what was said about it."""
        connection = self.foreign()
        connection.autocommit = autocommit
        for statement in statements:
            connection.cursor().execute(statement)
        with said() as lines:
            self.reset()
        return connection, lines

    def test_an_idle_one_is_left_alone_and_goes_on_working(self) -> None:
        connection = self.foreign()
        connection.autocommit = True
        cursor = connection.cursor()
        pid = connection.info.backend_pid
        for _ in range(3):
            cursor.execute("INSERT INTO parent (name) VALUES ('of the app')")
            with said() as lines:
                self.reset("undone")
            self.assertEqual(lines, [])
        cursor.execute("SELECT pg_backend_pid()")
        self.assertEqual(cursor.fetchone(), (pid,))

    def test_that_a_copy_of_the_database_has_ended_it_is_told_of_failing_tests(self) -> None:
        lease = self.server.lease(DECLARATION, "tests.Other")
        self.addCleanup(lease.close)

        def change(sql: str) -> None:
            connection = psycopg2.connect(lease.view.url)
            self.addCleanup(connection.close)
            with connection, connection.cursor() as cursor:
                cursor.execute(sql)

        change("INSERT INTO parent (name) VALUES ('of the baseline')")
        lease.seal()
        lease.reset("tests.Other.test_1")
        told = "itest ended 1 session of others at the end of the baseline: an engine of your own, at module level too, needs "
        told += "pool_pre_ping=True"
        for _ in range(2):  # Two failures of one test.
            self.assertEqual(lease.evidence(0).lines[:1], [told])
        lease.reset("tests.Other.test_2")
        self.assertNotIn(told, lease.evidence(0).lines)
        change("INSERT INTO parent (name) VALUES ('of a test')")
        change("DROP VIEW IF EXISTS no_view; CREATE VIEW one AS SELECT 1")
        lease.reset("tests.Other.test_3")
        [line] = lease.evidence(0).lines
        self.assertRegex(
            line,
            r"^itest ended 2 sessions of others after test_2, as the schema changed(?: \(pg_.*)?: an engine of your own, at module "
            r"level too, needs pool_pre_ping=True$",
        )

    def test_that_one_in_a_transaction_was_ended_is_told_of_the_next_test_that_fails(self) -> None:
        cure = "at its end (tearDown) call rollback() or Session.remove(), in Django connections.close_all()"
        told = f"test_before left a session in a transaction, and itest ended it: {cure}"
        for change in ("SELECT 1", "CREATE TABLE made ()"):  # For that the database is made again, too.
            with self.subTest(change):
                self.view.execute("INSERT INTO parent (name) VALUES ('x')" if change == "SELECT 1" else change)
                _, [line] = self.left("SELECT 1")
                self.assertTrue(line.endswith(f"last statement: SELECT 1; {cure}"), line)
                self.view = self.lease.reset("tests.Baseline.test_that_passes")
                self.view = self.lease.reset("tests.Baseline.test_that_fails")
                self.assertEqual(self.lease.evidence(0).lines[:1], [told])
                self.view = self.lease.reset("tests.Baseline.test_before")
                self.assertNotIn(told, self.lease.evidence(0).lines)

    def test_sessions_of_several_kinds_are_told_each_with_its_cure(self) -> None:
        for autocommit in (False, True):
            connection = self.foreign()
            connection.autocommit = autocommit
            connection.cursor().execute("SELECT pg_advisory_lock(4)" if autocommit else "SELECT 1")
        with said():
            self.view = self.lease.reset("tests.Baseline.test_that_fails")
        second, first = sorted(self.lease.evidence(0).lines[:2])
        self.assertRegex(
            first,
            r"^test_before or the set-up of its class left a session holding an advisory lock, .*: at its end \(tearDown\) "
            "unlock it",
        )
        self.assertRegex(
            second, r"^test_before left a session in a transaction, .*: at its end \(tearDown\) call rollback"
        )

    def test_that_the_baseline_has_left_one_in_a_transaction_is_told_of_failing_tests(self) -> None:
        lease = self.server.lease(DECLARATION, "tests.Other")
        self.addCleanup(lease.close)
        connection = psycopg2.connect(lease.view.url)
        self.addCleanup(connection.close)
        connection.cursor().execute("SELECT 1")
        lease.view.execute("INSERT INTO parent (name) VALUES ('of the baseline')")
        lease.seal()
        lease.reset("tests.Other.test_1")
        self.assertRegex(lease.evidence(0).lines[0], "^Other left a session in a transaction, and itest ended it: ")

    def test_one_in_a_transaction_is_ended_and_reported(self) -> None:
        for statement in ("SELECT 1", "INSERT INTO parent (name) VALUES ('x')", "LOCK TABLE parent", "LOCK TABLE pg_class",
                          "SELECT * FROM parent FOR UPDATE", "SELECT pg_advisory_xact_lock(5)"):  # fmt: skip
            with self.subTest(statement):
                connection, [line] = self.left(statement)
                self.assertIn(f"{TEST.removesuffix('before')}", line)
                self.assertIn("of 'shop', idle in transaction, in a transaction for ", line)
                self.assertIn(f"last statement: {statement}", line)
                with self.assertRaises(psycopg2.OperationalError):
                    connection.cursor().execute("SELECT 1")

    def test_one_that_was_idle_for_some_resets(self) -> None:
        """Nobody has come or gone when it begins a transaction."""
        connection = self.foreign()
        connection.autocommit = True
        connection.cursor().execute("SELECT 1")
        self.rest()
        connection.cursor().execute("BEGIN; SELECT 1 FROM parent")
        with said() as lines:
            self.reset()
        self.assertIn("of 'shop', idle in transaction, in a transaction for ", lines[0])

    def test_one_that_comes_after_tests_without_any(self) -> None:
        self.rest(seen=True)
        connection = self.foreign()
        connection.cursor().execute("SELECT 1 FROM parent")
        with said() as lines:
            self.reset()
        self.assertIn("of 'shop', idle in transaction, in a transaction for ", lines[0])

    def test_an_advisory_lock_of_an_idle_one(self) -> None:
        _, [line] = self.left("SELECT pg_advisory_lock(7)", autocommit=True)
        self.assertIn("of 'shop', idle, holding an advisory lock, last statement: SELECT pg_advisory_lock(7)", line)
        self.assertEqual(self.view.execute("SELECT pg_try_advisory_lock(7)"), [(True,)])

    def test_a_statement_that_runs_for_long(self) -> None:
        connection = self.foreign()
        running = threading.Thread(target=self.quietly, args=(connection, "SELECT pg_sleep(60)"))
        running.start()
        self.wait_for("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
        with said() as lines:
            self.reset()
        running.join(10)
        self.assertFalse(running.is_alive())
        self.assertIn("active, in a transaction for ", lines[0])
        self.assertIn("last statement: SELECT pg_sleep(60)", lines[0])

    def test_a_thread_that_uses_a_connection_of_the_view(self) -> None:
        running = threading.Thread(target=self.quietly, args=(self.view.connect(), "SELECT pg_sleep(60)"))
        running.start()
        self.wait_for("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
        self.reset()
        running.join(10)
        self.assertFalse(running.is_alive())

    def test_a_transaction_that_ends_by_itself_is_waited_for(self) -> None:
        connection = self.foreign()
        connection.cursor().execute("INSERT INTO parent (name) VALUES ('late')")
        commit = threading.Timer(0.02, connection.commit)
        commit.start()
        with said() as lines, mock.patch.object(leaks, "GRACE", 60.0):  # seconds: a busy machine is late with a commit
            self.reset("undone")
        commit.join()
        self.assertEqual((lines, connection.closed), ([], 0))

    def test_a_prepared_transaction(self) -> None:
        connection = self.foreign()
        connection.cursor().execute("INSERT INTO parent (name) VALUES ('prepared'); PREPARE TRANSACTION 'two phases'")
        with said() as lines:
            self.reset("undone")
        self.assertIn("left a prepared transaction behind, and it was rolled back: 'two phases'", lines[-1])

    def test_every_session_was_ended(self) -> None:
        everybody = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        for where in (" AND datname = current_database()", ""):
            for _ in range(2):
                connection = self.foreign()
                connection.autocommit = True
                connection.cursor().execute("DELETE FROM child")
                with connection.cursor() as cursor:
                    cursor.execute(f"{everybody}{where} AND pid <> pg_backend_pid()")
                connection.close()
                self.reset()

    def test_what_the_log_says_of_it_is_routine_where_itest_has_ended_it(self) -> None:
        """Where the test has, it is why a connection is closed."""
        _, lines = self.left("SELECT 1")
        [pid] = re.findall(r"session ([0-9]+)", lines[0])
        line = "2026-01-01 10:00:00.000 UTC [{}] FATAL:  terminating connection due to administrator command"
        self.assertRegex(line.format(pid), self.server.routine)
        self.assertNotRegex(line.format(self.view.connect().info.backend_pid), self.server.routine)

    def test_the_sentence(self) -> None:
        self.assertEqual(
            leaks.report("tests.T.test_x", 17, "shop", "idle in transaction", "SELECT 1", 0.25),
            "tests.T.test_x left a database session behind, and it was ended: session 17 of 'shop', idle in "
            "transaction, in a transaction for 0.2 s, last statement: SELECT 1; at its end (tearDown) call rollback() or "
            "Session.remove(), in Django connections.close_all()",
        )
        self.assertTrue(
            leaks.report("tests.T.test_x", 17, "", "active", "SELECT 1", 0.25, ["api", "worker"]).endswith(
                "; if it is of api or worker, wait in the test until that is done (assertEventually); else at its end (tearDown) "
                "call rollback() or Session.remove(), in Django connections.close_all()"
            )
        )
        self.assertEqual(
            leaks.report("tests.T.test_x", 17, "itest:tests.T.test_x", None, "", None),
            "tests.T.test_x or the set-up of its class left a database session behind, and it was ended: session 17, state "
            "unknown, holding an advisory lock, last statement: none; at its end (tearDown) unlock it, or close the connection",
        )

    def quietly(self, connection: Any, sql: str) -> None:
        with contextlib.suppress(psycopg2.Error):
            connection.cursor().execute(sql)

    def wait_for(self, sql: str) -> None:
        deadline = Deadline.after(10)
        while not self.view.execute(sql):
            self.assertFalse(deadline.passed, sql)
            deadline.pause(0.01)


class KeptTest(BaselineTest):
    """`self.db`: the same connection from test to test, as new as at first."""

    STATE = (
        "SELECT current_user, session_user, current_setting('search_path'), current_setting('client_encoding'), "
        "current_setting('default_transaction_read_only'), current_setting('transaction_isolation'), "
        "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors), "
        "(SELECT count(*) FROM pg_listening_channels()), 'Größe', to_regclass('pg_temp.t')::text, "
        "pg_try_advisory_lock(9)"
    )
    NEW = ("postgres", "postgres", '"$user", public', "UTF8", "off", "read committed", 0, 0, 0, "Größe", None, True)

    def setUp(self) -> None:
        super().setUp()
        self.pid = self.view.connection.info.backend_pid

    def check(self, kept: bool = True) -> None:
        """Reset; the connection must be as new, and the same if `kept`."""
        self.reset()
        connection = self.view.connection
        with connection.cursor() as cursor:
            cursor.execute(self.STATE)
            self.assertEqual(cursor.fetchone(), self.NEW)
        self.assertEqual(connection.info.transaction_status, psycopg2.extensions.TRANSACTION_STATUS_INTRANS)
        self.assertIs(type(cursor), psycopg2.extensions.cursor)
        connection.rollback()
        self.assertEqual(connection.info.backend_pid == self.pid, kept)
        self.pid = connection.info.backend_pid

    def test_what_sql_changed(self) -> None:
        for statement in (
            "SET search_path = app", "SET ROLE base_role", "SET SESSION AUTHORIZATION base_role",
            "SET client_encoding = 'LATIN1'", "SET default_transaction_read_only = on", "PREPARE p AS SELECT 1",
            "SET default_transaction_isolation = 'serializable'", "LISTEN x", "CREATE TEMP TABLE t (id int)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT pg_advisory_lock(9)", "SET statement_timeout = '1s'",
        ):  # fmt: skip
            with self.subTest(statement):
                self.view.connection.cursor().execute(statement)
                self.view.connection.commit()
                self.check()

    def test_what_psycopg2_changed(self) -> None:
        for change in (
            lambda c: c.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True, autocommit=True),
            lambda c: setattr(c, "autocommit", True),
            lambda c: c.set_client_encoding("LATIN1"),
            lambda c: setattr(c, "cursor_factory", psycopg2.extras.DictCursor),
            lambda c: psycopg2.extensions.register_type(psycopg2.extensions.UNICODEARRAY, c),
            lambda c: c.cursor("named").execute("SELECT * FROM parent"),
        ):
            change(self.view.connection)
            self.check()
            self.assertEqual(self.view.connection.string_types, {})

    def test_a_transaction_left_open_or_aborted(self) -> None:
        self.view.connection.cursor().execute("DELETE FROM child")
        self.check()
        with self.assertRaises(psycopg2.Error):
            self.view.connection.cursor().execute("SELECT 1/0")
        self.check()

    def test_a_broken_one_is_replaced(self) -> None:
        connection = self.view.connection
        self.view.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        self.check(kept=False)
        self.view.connection.close()
        self.check(kept=False)
        self.view.connection.tpc_begin("x")
        self.view.connection.cursor().execute("DELETE FROM child")
        self.view.connection.tpc_prepare()
        with said():
            self.check(kept=False)

    def test_one_that_was_ended_while_nobody_used_it(self) -> None:
        connection = self.view.connection
        self.reset()
        self.view.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        select.select([connection], [], [], 10)  # Until its end has come through Docker's proxy.
        self.check(kept=False)

    def test_one_that_was_ended_when_the_reset_had_looked(self) -> None:
        connection = self.view.connection
        self.reset()
        self.view.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        select.select([connection], [], [], 10)
        self.assertNotEqual(self.view.connection.info.backend_pid, self.pid)

    def test_what_such_a_thread_commits_last_is_undone_too(self) -> None:
        """After a test that wrote, the log is asked before the thread's session is ended."""
        self.view.execute("INSERT INTO parent (name) VALUES ('so that the log is asked at once')")
        self.reset("undone")
        connection = self.view.connection
        running = threading.Thread(target=ForeignTest.quietly, args=(self, connection, "SELECT pg_sleep(60)"))
        running.start()
        ForeignTest.wait_for(self, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")  # type: ignore[arg-type]
        other = psycopg2.connect(self.view.url)  # Stands for the thread, which has no such moment to be waited for.
        self.addCleanup(other.close)
        other.autocommit = True
        writes = mock.Mock(
            side_effect=lambda _: other.cursor().execute("INSERT INTO parent (name) VALUES ('the last')")
        )
        with mock.patch.object(leaks.leaks, "report", writes):
            self.reset("undone")
        running.join(10)
        self.assertFalse(running.is_alive())
        writes.assert_called_once()

    def test_one_that_a_thread_still_uses(self) -> None:
        connection = self.view.connection
        running = threading.Thread(target=ForeignTest.quietly, args=(self, connection, "SELECT pg_sleep(60)"))
        running.start()
        ForeignTest.wait_for(self, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")  # type: ignore[arg-type]
        with said() as lines:
            self.reset()
        running.join(10)
        self.assertFalse(running.is_alive())
        self.assertEqual(
            lines, [f"{TEST} left a thread behind that is using its database connection; the session was ended"]
        )


class ReplicationTest(PostgresMixin, ContainerTestCase):
    """Slots, streams and subscriptions, each left behind by a test; every one finds none."""

    postgres = Postgres(migrations=schema, settings={"wal_level": "logical"})
    streams: ClassVar[list[Any]] = []

    def setUp(self) -> None:
        self.assertEqual(self.postgres.execute("SELECT slot_name FROM pg_replication_slots"), [])
        self.assertEqual(self.postgres.execute("SELECT subname FROM pg_subscription"), [])
        self.assertEqual(self.postgres.execute("SELECT to_regclass('made')"), [(None,)])

    @classmethod
    def tearDownClass(cls) -> None:
        for stream in cls.streams:
            stream.close()
        super().tearDownClass()

    def stream(self) -> None:
        connection = psycopg2.connect(
            self.postgres.url, connection_factory=psycopg2.extras.LogicalReplicationConnection
        )
        self.streams.append(connection)
        cursor = connection.cursor()
        cursor.create_replication_slot("changes", output_plugin="pgoutput")
        cursor.start_replication(slot_name="changes", options={"proto_version": "1", "publication_names": "all"})

    def subscribe(self) -> None:
        self.postgres.execute(
            "CREATE SUBSCRIPTION \"To Others\" CONNECTION 'dbname=x' PUBLICATION y WITH (connect = false)"
        )

    def test_a_stream(self) -> None:
        self.stream()

    test_a_stream_again = test_a_stream

    def test_a_stream_of_a_publication(self) -> None:
        """Which makes a new clone necessary, and the database is to be dropped."""
        self.postgres.execute("CREATE PUBLICATION everything FOR ALL TABLES; CREATE TABLE made ()")
        self.stream()

    def test_a_slot(self) -> None:
        self.postgres.execute("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')")

    def test_a_slot_of_no_database(self) -> None:
        self.postgres.execute("SELECT pg_create_physical_replication_slot('physical')")

    test_a_slot_of_no_database_again = test_a_slot_of_no_database

    def test_a_subscription(self) -> None:
        self.subscribe()

    def test_a_subscription_and_a_table(self) -> None:
        self.subscribe()
        self.postgres.execute("CREATE TABLE made ()")

    def test_z(self) -> None:
        """Finds none either."""


class CachedSequenceTest(ForeignTest):
    @classmethod
    def prepare(cls, view: Any) -> None:
        view.execute("CREATE TABLE cached (id int PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY (CACHE 20))")
        view.execute("CREATE SEQUENCE used CACHE 5; SELECT nextval('used')")

    def test_values_that_a_session_has_taken_ahead(self) -> None:
        connection = self.foreign()
        connection.autocommit = True
        cursor = connection.cursor()
        insert = "INSERT INTO cached DEFAULT VALUES RETURNING id, nextval('used')"
        for _ in range(3):
            self.assertEqual(self.view.execute(insert), [(1, 6)])
            cursor.execute(insert)
            self.assertEqual(cursor.fetchall(), [(21, 11)])
            self.reset("undone")
            cursor.execute(insert)
            self.assertEqual(cursor.fetchall(), [(1, 6)])
            self.reset("undone")


class SandboxedReplicationTest(unittest.TestCase):
    def test_slots_that_a_sandbox_cannot_undo(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=schema, isolation="rollback", settings={"wal_level": "logical"})

            def setUp(self) -> None:
                self.assertEqual(self.postgres.execute("SELECT slot_name FROM pg_replication_slots"), [])

            def test_1(self) -> None:
                self.postgres.execute("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')")

            def test_2(self) -> None:
                self.postgres.execute("SELECT pg_create_logical_replication_slot('session', 'pgoutput', true)")

            def test_3(self) -> None:
                self.postgres.execute("SELECT pg_create_physical_replication_slot('physical')")

            def test_4(self) -> None:
                """Finds none either."""

        result = unittest.TestResult()
        with said() as lines:
            unittest.defaultTestLoader.loadTestsFromTestCase(Inner).run(result)
        if result.skipped:
            raise unittest.SkipTest(result.skipped[0][1])
        self.assertEqual([*result.errors, *result.failures], [])
        told = [
            re.findall(r"(test_\d) left a replication slot behind, and it was dropped: '(.*)'", line) for line in lines
        ]
        self.assertEqual(
            [each for found in told for each in found],
            [("test_1", "logical"), ("test_2", "session"), ("test_3", "physical")],
        )


class CrowdedTest(unittest.TestCase):
    def test_how_many_idle_sessions_there_are_is_told(self) -> None:
        class Inner(PostgresMixin, ContainerTestCase):
            postgres = Postgres(settings={"max_connections": 20})

            def test_1(self) -> None:
                with self.assertRaises(psycopg2.OperationalError):
                    while True:
                        left.append(psycopg2.connect(self.postgres.url))

            def test_2(self) -> None:
                psycopg2.connect(self.postgres.url)

        left: list[Any] = []
        result = unittest.TestResult()
        with said():
            unittest.defaultTestLoader.loadTestsFromTestCase(Inner).run(result)
        for connection in left:
            connection.close()
        if result.skipped:
            raise unittest.SkipTest(result.skipped[0][1])
        [(_, error)] = result.errors
        self.assertRegex(
            error,
            rf"\n  being asked for its state failed: too many clients, {len(left)} of them idle; ITEST_STRICT=1 fails the test that "
            r"leaves its connections open\n",
        )


class SilentTest(BaselineTest):
    def test_a_server_that_accepts_and_says_nothing(self) -> None:
        with (
            contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent,
            mock.patch.object(type(self.view), "url", f"postgresql://127.0.0.1:{silent.getsockname()[1]}/shop"),
            mock.patch.object(libpq, "CONNECT_TIMEOUT", 2),  # Less is 2 s too, to libpq.
            self.assertRaisesRegex(psycopg2.OperationalError, "timeout expired"),
        ):
            self.view.connect(sslmode="disable")

    def test_what_the_url_says_counts(self) -> None:
        url = f"{self.view.url}?connect_timeout=30"
        kept = self.view._kept
        with mock.patch.object(kept, "nearest_url", return_value=url), self.view.connect() as connection:
            self.assertEqual(connection.info.dsn_parameters["connect_timeout"], "30")
        with self.view.connect() as connection:
            self.assertEqual(connection.info.dsn_parameters["connect_timeout"], "10")
        with self.view.connect(connect_timeout=20) as connection:
            self.assertEqual(connection.info.dsn_parameters["connect_timeout"], "20")


class BegunTest(PostgresMixin, ContainerTestCase):
    """Transactions that a statement began, which psycopg2 does not know of, in a test after which there is nothing to undo."""

    postgres = Postgres(migrations=lambda view: view.execute("CREATE TABLE held (n int)"))

    def test_1(self) -> None:
        self.assertEqual(self.locks(), [(0,)])
        self.db.autocommit = True
        for run in (self.db.cursor().execute, self.postgres.execute):
            run("BEGIN")
            run("LOCK TABLE held IN SHARE MODE")
        self.assertEqual(self.locks(), [(2,)])

    test_2 = test_1

    def locks(self) -> list[tuple[int]]:
        return self.postgres.execute("SELECT count(*) FROM pg_locks WHERE relation = 'held'::regclass")


class StatementTest(BaselineTest):
    """`execute` has a connection of its own, kept from test to test, which can wait for another one of the same test."""

    STATE = f"{KeptTest.STATE}, current_setting('lock_timeout'), pg_advisory_unlock(9)"
    NEW = (*KeptTest.NEW, "10s", True)

    def setUp(self) -> None:
        super().setUp()
        self.pid = self.pid_now()

    def pid_now(self) -> int:
        [(pid,)] = self.view.execute("SELECT pg_backend_pid()")
        return int(pid)

    def check(self, kept: bool = True) -> None:
        """Reset; the connection must be as new, and the same if `kept`."""
        self.reset()
        pid, self.pid = self.pid, self.pid_now()
        self.assertEqual(self.view.execute(self.STATE), [self.NEW])
        self.assertEqual(self.pid == pid, kept)

    def test_it_is_the_same_in_each_test_and_not_that_of_self_db(self) -> None:
        for _ in range(3):
            with self.view.connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
                pid, timeout = cursor.fetchone()
            self.assertNotEqual(pid, self.pid)
            self.assertEqual(timeout, "0")
            self.check()

    def test_the_reset_takes_it_for_no_session_of_others(self) -> None:
        self.rest(seen=True)
        self.assertEqual(self.pid_now(), self.pid)
        self.view.execute("INSERT INTO parent (name) VALUES ('new')")
        with said() as lines:
            self.reset("undone")
            self.lease.settle(TEST, 0, alone=True)
        self.assertEqual(lines, [])
        self.assertEqual(self.pid_now(), self.pid)

    def test_what_a_statement_changed(self) -> None:
        for statement in (
            "SET search_path = app", "SET ROLE base_role", "SET SESSION AUTHORIZATION base_role", "SET lock_timeout = 0",
            "SET client_encoding = 'LATIN1'", "SET default_transaction_read_only = on", "PREPARE p AS SELECT 1",
            "SET default_transaction_isolation = 'serializable'", "LISTEN x", "CREATE TEMP TABLE t (id int)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT pg_advisory_lock(9)", "SET statement_timeout = '1s'",
            "RESET ALL",
        ):  # fmt: skip
            with self.subTest(statement):
                self.view.execute(statement)
                self.check()

    def test_a_transaction_that_a_statement_began(self) -> None:
        for statement in ("DELETE FROM child", "SELECT 1/0"):
            with self.subTest(statement):
                self.view.execute("BEGIN")
                with contextlib.suppress(psycopg2.errors.DivisionByZero):
                    self.view.execute(statement)
                self.check()

    def test_what_a_script_may_have_changed_is_over_with_it(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory, "dump.sql")
            script.write_text("SET search_path = app; SET lock_timeout = 0; SET work_mem = '5MB'")
            self.view.load(script)
        state = "SELECT current_setting('search_path'), current_setting('lock_timeout'), current_setting('work_mem')"
        self.assertEqual(self.view.execute(state), [('"$user", public', "10s", "4MB")])
        self.check(kept=False)
        self.check()

    def test_one_that_was_ended_while_nobody_used_it(self) -> None:
        self.reset()
        self.end()
        self.check(kept=False)

    def test_one_that_was_ended_when_the_reset_had_looked(self) -> None:
        self.reset()
        self.end()
        self.assertNotEqual(self.pid_now(), self.pid)

    def test_one_that_was_ended_in_use(self) -> None:
        self.end()
        with self.assertRaises(psycopg2.OperationalError):
            self.view.execute("SELECT 1")
        self.assertNotEqual(self.pid_now(), self.pid)

    def end(self) -> None:
        connection = self.lease._kept._own[f"SET lock_timeout = '{view.LOCK_SECONDS}s'"].connection
        with self.view.connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (self.pid,))
        select.select([connection], [], [], 10)  # Until its end has come through Docker's proxy.

    def test_one_that_a_thread_still_uses(self) -> None:
        def sleep() -> None:
            with contextlib.suppress(psycopg2.Error):
                self.view.execute("SELECT pg_sleep(60)")

        running = threading.Thread(target=sleep)
        running.start()
        query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        with self.view.connection.cursor() as cursor:
            deadline = Deadline.after(10)
            while cursor.execute(query) or not cursor.fetchall():
                self.assertFalse(deadline.passed)
                self.view.connection.rollback()  # Within a transaction the view of the sessions stays the same.
                deadline.pause(0.01)
        with said() as lines:
            self.check(kept=False)
        running.join(10)
        self.assertFalse(running.is_alive())
        self.assertEqual(
            lines, [f"{TEST} left a thread behind that is using its database connection; the session was ended"]
        )

    def test_those_of_threads_run_side_by_side(self) -> None:
        """Where one waits for a lock, the test can look on and give it up."""
        with self.view.connection.cursor() as cursor:
            cursor.execute("LOCK TABLE parent")
        state = "SELECT pg_backend_pid(), current_setting('lock_timeout') FROM (SELECT count(*) FROM parent) AS waited"
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(self.view.execute, state) for _ in range(3)]
            deadline = Deadline.after(10)
            while (
                self.view.execute("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(3,)] and not deadline.passed
            ):
                deadline.pause(0.01)
            self.view.connection.commit()
        pids, timeouts = zip(*[row for each in waiting for row in each.result()], strict=True)
        self.assertEqual((len({*pids}), {*timeouts}), (3, {"10s"}))
        self.assertFalse(deadline.passed)
        self.check()
        left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s) AND pid <> pg_backend_pid()"
        while self.view.execute(left, [[*pids]]) != [(0,)]:  # The server ends them when it comes to it.
            self.assertFalse(deadline.passed)
            deadline.pause(0.01)

    def test_threads_that_come_at_once_have_each_a_connection_of_its_own(self) -> None:
        self.lease._kept.close()
        first, second = meeting_in(self.view.server, "open", self.pid_now)
        self.assertNotEqual(first, second)
        self.pid = self.pid_now()
        self.check()

    def test_a_forked_child_has_another(self) -> None:
        """Both may send statements at the same time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # since 3.12, because there are threads
            child = os.fork()
        if child == 0:
            try:
                os._exit(0 if self.pid_now() != self.pid else 1)
            finally:
                os._exit(2)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.check()

    def test_a_lock_that_the_test_itself_holds(self) -> None:
        held = (
            ("INSERT INTO parent (id, name) VALUES (7000, 'x')", "INSERT INTO parent (id, name) VALUES (7000, 'y')"),
            ("LOCK TABLE parent", "SELECT count(*) FROM parent"),
        )
        for first, second in held:
            self.reset()
            with (
                self.subTest(first),
                mock.patch.object(view, "LOCK_SECONDS", 0.2),
                self.view.connection.cursor() as cursor,
            ):
                cursor.execute(first)
                with self.assertRaises(psycopg2.errors.LockNotAvailable) as caught:
                    self.view.execute(second)
                waited = "SELECT count(*) FROM pg_stat_activity WHERE query = %s"
                self.assertEqual(self.server.admin(waited, second), [(1,)])  # Nothing was asked by that session since.
                self.assertEqual(self.view.execute("SELECT 1"), [(1,)])
                [note] = caught.exception.__notes__
                self.assertRegex(
                    note,
                    r"^postgres\.execute\(\) and the assertions run on a connection of their own, which waits for a lock for "
                    r"0\.2 s at most\. In a transaction: session [0-9]+ \(itest:\S+\), idle in transaction, last statement: "
                    rf"{re.escape(first)}\. If that is the test's own connection",
                )


class EngineTest(BaselineTest):
    """`self.postgres.engine` and `self.session`."""

    def test_a_session_left_open_or_in_error(self) -> None:
        from sqlalchemy import text

        pids = set()
        for statement in ("DELETE FROM child", "SELECT 1/0", "SELECT 1"):
            try:
                pids.add(self.view.own_session.scalar(text("SELECT pg_backend_pid()")))
                self.view.own_session.execute(text(statement))
            except Exception as error:
                self.assertIn("division by zero", str(error))
            with said() as lines:
                self.reset()
            self.assertEqual(lines, [])
        self.assertEqual(len(pids), 1)

    def test_a_connection_that_was_never_returned(self) -> None:
        for options in ({}, {"isolation_level": "AUTOCOMMIT"}):
            leaked = self.view.engine.connect().execution_options(**options)
            leaked.exec_driver_sql("DELETE FROM child")
            with said() as lines:
                self.reset("undone" if options else "")
            self.assertEqual(len(lines), 1)
            self.assertRegex(
                lines[0], r"did not return a connection to `postgres\.engine`; it was closed: at its end .*remove\(\)"
            )
            with self.assertRaises(Exception):  # noqa: B017  # SQLAlchemy has several names for it
                leaked.exec_driver_sql("SELECT 1")
            leaked.close()

    def test_a_session_of_the_module_that_is_not_removed_is_told_of_the_next_test_that_fails(self) -> None:
        from sqlalchemy import orm, text

        registry = orm.scoped_session(orm.sessionmaker())

        class Inner(PostgresMixin, ContainerTestCase):
            def setUp(self) -> None:
                registry.configure(bind=self.postgres.engine)

            def test_1(self) -> None:
                registry.execute(text("SELECT 1"))

            test_2 = test_1

            def test_3(self) -> None:
                registry.remove()
                self.fail("this has nothing to do with it")

        result = unittest.TestResult()
        with testing.session(), said(), warnings.catch_warnings(action="ignore"):  # SQLAlchemy binds a session once.
            unittest.defaultTestLoader.loadTestsFromTestCase(Inner).run(result)
        [(_, second)], [(_, third)] = result.errors, result.failures
        self.assertIn(
            "\n  test_1 did not return a connection to `postgres.engine`; it was closed: at its end (tearDown) call "
            "Session.remove(), or close() what has it",
            second,
        )
        self.assertNotIn("did not return", third)

    def test_it_is_told_where_nothing_is_undone_between_tests_too(self) -> None:
        """With isolation="none", and where django.test.TestCase holds a transaction for the class."""
        for isolation, begin in (("none", "reset"), ("database", "lend")):
            with self.subTest(begin), said():
                lease: Any = self.server.lease(Postgres(migrations=schema, isolation=isolation), "tests.Other")
                self.addCleanup(lease.close)
                leaked = getattr(lease, begin)("tests.Other.test_1").engine.connect()
                getattr(lease, begin)("tests.Other.test_2")
                self.assertRegex(lease.evidence(0).lines[0], "^test_1 did not return a connection to `postgres.engine`")
                leaked.close()

    def test_one_whose_session_was_ended_is_not_handed_out_again(self) -> None:
        with self.view.engine.connect() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        self.reset()
        self.view.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        self.reset()
        with self.view.engine.connect() as connection:
            self.assertNotEqual(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar(), pid)

    def test_an_engine_in_autocommit_is_not_so_for_the_next_test(self) -> None:
        with self.view.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("DELETE FROM child")
        self.reset("undone")
        with self.view.engine.connect() as connection:
            connection.exec_driver_sql("DELETE FROM child")
        with self.view.engine.connect() as connection:
            self.assertEqual(connection.exec_driver_sql("SELECT count(*) FROM child").scalar(), 30)

    def test_listeners_of_a_test_are_gone(self) -> None:
        from sqlalchemy import event

        for name in ("before_cursor_execute", "checkout", "do_execute"):
            with self.subTest(name):
                self.use_engine()
                self.reset()
                listener = mock.Mock(return_value=None)
                event.listen(self.view.engine, name, listener)
                self.use_engine()
                self.assertEqual(listener.call_count, 1)
                self.reset()
                self.use_engine()
                self.assertEqual(listener.call_count, 1)

    def test_its_connections_are_kept_where_there_were_none(self) -> None:
        pids = set()
        for _ in range(3):
            pids.add(self.use_engine())
            self.reset()
        self.assertEqual(len(pids), 1)

    def use_engine(self) -> object:
        with self.view.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
