# SPDX-License-Identifier: Apache-2.0
"""Everything a test can leave in PostgreSQL. `setUp` asks for all of it before each test."""

import contextlib
import subprocess
import sys
import threading
import time

import psycopg2
from twice import LEAKED, twice

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import SqlFiles

CLEAN = [
    ("rows", "SELECT id, item FROM orders", [(1, "baseline")]),
    ("unlogged rows", "SELECT * FROM counters", [("orders", 0)]),
    ("serial", "SELECT last_value, is_called FROM orders_id_seq", [(1, True)]),
    ("sequence", "SELECT last_value, is_called FROM numbers", [(1, False)]),
    ("tables", "SELECT relname FROM pg_class WHERE relname LIKE 'leaked%'", []),
    ("columns", "SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders'", [(2,)]),
    ("schemas", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'leaked%'", []),
    ("types", "SELECT typname FROM pg_type WHERE typname LIKE 'leaked%'", []),
    ("functions", "SELECT proname FROM pg_proc WHERE proname LIKE 'leaked%'", []),
    ("triggers", "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal", []),
    ("comments", "SELECT obj_description('orders'::regclass)", [(None,)]),
    ("grants", "SELECT has_table_privilege('pg_monitor', 'orders', 'SELECT')", [(False,)]),
    ("large objects", "SELECT count(*) FROM pg_largeobject_metadata", [(0,)]),
    ("extensions", "SELECT extname FROM pg_extension", [("plpgsql",)]),
    ("publications", "SELECT count(*) FROM pg_publication", [(0,)]),
    ("database settings", "SELECT current_setting('work_mem')", [("4MB",)]),
    ("session settings", "SELECT current_setting('search_path'), current_setting('timezone')", None),
    ("channels", "SELECT * FROM pg_listening_channels()", []),
    ("advisory locks", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", [(0,)]),
    (  # An idle session may stay: the pool of an app under test is kept, while the data is reset underneath.
        "open transactions",
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend' AND (xact_start IS NOT NULL OR state <> 'idle')",
        [],
    ),
    ("prepared transactions", "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", []),
    ("temporary tables", "SELECT count(*) FROM pg_class WHERE relpersistence = 't'", [(0,)]),
]


class _Leaks(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=SqlFiles("schema.sql"))

    settings = None

    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("INSERT INTO orders (item) VALUES ('baseline')")

    def setUp(self):
        for what, sql, expected in CLEAN:
            with self.db.cursor() as cursor:
                cursor.execute(sql)
                rows = cursor.fetchall()
            if what == "session settings":
                expected = type(self).settings = type(self).settings or rows
            self.db.rollback()
            self.assertEqual(rows, expected, what)
            self.assertEqual(self.postgres.execute(sql), expected, f"{what}, by execute()")
        self.assertEqual((self.db.autocommit, self.db.notifies, self.db.isolation_level), (False, [], None))
        self.postgres.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK")

    def leaked(self):
        """A connection that nobody closes."""
        LEAKED.append(psycopg2.connect(self.postgres.url))
        return LEAKED[-1].cursor()


@twice
class DataTest(_Leaks):
    def leak_commit(self):
        with self.db.cursor() as cursor:
            cursor.execute("INSERT INTO orders (item) VALUES ('book')")
        self.db.commit()

    def leak_update_and_delete_of_the_baseline(self):
        self.postgres.execute("UPDATE orders SET item = 'changed'")
        self.postgres.execute("DELETE FROM orders")

    def leak_truncate(self):
        self.postgres.execute("TRUNCATE orders, counters RESTART IDENTITY")

    def leak_unlogged(self):
        self.postgres.execute("UPDATE counters SET value = value + 1")

    def leak_nextval(self):
        self.postgres.execute("SELECT nextval('numbers')")

    def leak_nextval_rolled_back(self):
        with self.db.cursor() as cursor:
            cursor.execute("SELECT nextval('numbers')")
        self.db.rollback()

    def leak_nextval_after_a_checkpoint(self):
        self.postgres.execute("CHECKPOINT")
        self.postgres.execute("SELECT nextval('numbers')")

    def leak_insert_rolled_back(self):
        with self.db.cursor() as cursor:
            cursor.execute("INSERT INTO orders (item) VALUES ('never')")
        self.db.rollback()

    def leak_setval(self):
        self.postgres.execute("SELECT setval('numbers', 1000)")

    def leak_copy(self):
        self.postgres.execute("INSERT INTO orders (item) SELECT n::text FROM generate_series(1, 10000) n")

    def leak_large_object(self):
        self.postgres.execute("SELECT lo_from_bytea(0, 'leaked')")

    def leak_other_thread(self):
        def work():
            connection = psycopg2.connect(self.postgres.url)
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders (item) VALUES ('thread')")
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM orders"), [(5,)])

    def leak_other_process(self):
        code = (
            "import psycopg2, sys; c = psycopg2.connect(sys.argv[1]); "
            "c.cursor().execute(\"INSERT INTO orders (item) VALUES ('process')\"); c.commit(); c.close()"
        )
        subprocess.run([sys.executable, "-c", code, self.postgres.url], check=True, timeout=30)

    def leak_sqlalchemy(self):
        try:
            from sqlalchemy import text
        except ImportError:
            self.skipTest("SQLAlchemy is not installed")
        self.session.execute(text("INSERT INTO orders (item) VALUES ('book')"))
        self.session.commit()
        self.session.execute(text("INSERT INTO orders (item) VALUES ('not committed')"))


@twice
class SchemaTest(_Leaks):
    def leak_table(self):
        self.postgres.execute("CREATE TABLE leaked (id serial)")

    def leak_dropped_table(self):
        self.postgres.execute("DROP TABLE orders")

    def leak_column(self):
        self.postgres.execute("ALTER TABLE orders ADD leaked text")

    def leak_schema(self):
        self.postgres.execute("CREATE SCHEMA leaked CREATE TABLE leaked ()")

    def leak_type(self):
        self.postgres.execute("CREATE TYPE leaked AS ENUM ('one')")

    def leak_function_and_trigger(self):
        self.postgres.execute("CREATE FUNCTION leaked() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        self.postgres.execute("CREATE TRIGGER leaked BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION leaked()")

    def leak_comment_and_grant(self):
        self.postgres.execute("COMMENT ON TABLE orders IS 'leaked'")
        self.postgres.execute("GRANT SELECT ON orders TO pg_monitor")

    def leak_publication(self):
        self.postgres.execute("CREATE PUBLICATION leaked FOR TABLE orders")

    def leak_database_setting(self):
        self.postgres.execute(f"ALTER DATABASE \"{self.postgres.name}\" SET work_mem = '8MB'")

    def leak_default(self):
        self.postgres.execute("ALTER TABLE orders ALTER item SET DEFAULT 'leaked'")
        self.postgres.execute("ALTER SEQUENCE numbers INCREMENT 10")


@twice
class SessionTest(_Leaks):
    def leak_open_transaction(self):
        self.leaked().execute("INSERT INTO orders (item) VALUES ('never committed')")

    def leak_open_transaction_on_db(self):
        with self.db.cursor() as cursor:
            cursor.execute("UPDATE orders SET item = 'never committed'")

    def leak_exclusive_lock(self):
        self.leaked().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

    def leak_advisory_lock(self):
        self.leaked().execute("SELECT pg_advisory_lock(1)")
        self.postgres.execute("SELECT pg_advisory_lock(2)")

    def leak_listen(self):
        self.leaked().execute("LISTEN leaked; COMMIT")
        self.postgres.execute("LISTEN leaked")
        self.postgres.execute("NOTIFY leaked")

    def leak_session_settings(self):
        self.postgres.execute("SET search_path = pg_catalog")
        self.postgres.execute("SET timezone = 'Asia/Tokyo'")

    def leak_temporary_table(self):
        self.leaked().execute("CREATE TEMPORARY TABLE leaked_temporary (); COMMIT")

    def leak_cursor(self):
        cursor = self.leaked()
        cursor.execute("DECLARE leaked CURSOR FOR SELECT * FROM orders")
        cursor.execute("FETCH leaked")

    def leak_running_statement(self):
        threading.Thread(target=self.sleep, args=(self.leaked(),), daemon=True).start()
        while not self.postgres.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            time.sleep(0.01)

    def sleep(self, cursor):
        with contextlib.suppress(psycopg2.Error):
            cursor.execute("SELECT pg_sleep(60)")


@twice
class PreparedTransactionTest(_Leaks):
    postgres = Postgres(migrations=SqlFiles("schema.sql"), settings={"max_prepared_transactions": "4"})

    def leak_prepared_transaction(self):
        if self.postgres.execute("SHOW max_prepared_transactions") == [("0",)]:
            self.skipTest("max_prepared_transactions is 0")
        cursor = self.leaked()
        cursor.execute("INSERT INTO orders (item) VALUES ('prepared'); PREPARE TRANSACTION 'leaked'")
