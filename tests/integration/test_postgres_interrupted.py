# SPDX-License-Identifier: Apache-2.0
"""A reset that is interrupted, as by a signal handler that raises when a test takes too long, at any of its
lines: what it did not come to undo, the next one does."""

from __future__ import annotations

import contextlib
import os
import sys
import unittest
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import psycopg2

import itest
from itest import Postgres, testing
from itest import session as sessions
from itest.errors import IsolationError, MigrationError, Unavailable
from itest.lease import Lease
from tests.integration.foreign import VARIABLE, ForeignTest

PLACE = os.path.join(os.path.dirname(itest.__file__), "services", "postgres", "")
MODULES = {
    f"{PLACE}{name}.py" for name in ("lease", "recycle", "kept", "rollback", "sandbox", "schema", "truncate", "probe")
}
"""Those that know what was undone and what was not."""

EVERY = 10
"""Of their lines one in ten is interrupted: after most of them the next reset takes a new clone. All of them take some minutes."""

SCHEMA = """
CREATE TABLE users (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id serial PRIMARY KEY, item text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch();
"""

STATE = (
    "SELECT (SELECT array_agg(name ORDER BY name) FROM users), (SELECT count(*) FROM orders), "
    "(SELECT count(*) FROM pg_trigger WHERE tgname = 'touch' AND tgrelid IN ('users'::regclass, 'orders'::regclass) "
    "AND tgenabled = 'O'), to_regclass('made') IS NULL, current_setting('statement_timeout')"
)
BASELINE = (["ann"], 0, 2, True, "0")


class Interrupted(Exception):
    """What the signal handler raises."""


def migrate(view: Any) -> None:
    view.execute(SCHEMA)


def write(view: Any) -> None:
    with view.connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (name) VALUES ('bob'); INSERT INTO orders (item) VALUES ('book')")
        cursor.execute("SET statement_timeout = '7s'")
    view.connection.commit()


def write_elsewhere(view: Any) -> None:
    with contextlib.closing(psycopg2.connect(view.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (name) VALUES ('bob')")


def make(view: Any) -> None:
    write(view)
    view.execute("CREATE TABLE made ()")


@contextlib.contextmanager
def interrupted(seen: set[tuple[str, int]]) -> Iterator[list[str]]:
    """Raise Interrupted at the first line that is not among those seen. Gives where that was; nothing, if all were."""
    places: list[str] = []
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in MODULES:
            return None
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line[1] % EVERY == 0 and line not in seen:
            seen.add(line)
            places.append(f"{os.path.basename(line[0])}:{line[1]}")
            sys.settrace(before)
            raise Interrupted
        return trace

    sys.settrace(trace)
    try:
        with contextlib.suppress(Interrupted, MigrationError):  # Of the latter it is the cause.
            yield places
    finally:
        sys.settrace(before)


class OwnServerTest(unittest.TestCase):
    """Each line of a reset is interrupted once; the test after it finds the baseline."""

    def check(self, isolation: str, use: Callable[[Any], object]) -> None:
        service = Postgres(migrations=migrate, isolation=isolation)
        try:
            server = self.enterContext(testing.session(quiet=True)).lend(service)
        except Unavailable as reason:
            self.skipTest(str(reason))
        lease = server.lease(service, "tests.Interrupted")
        self.addCleanup(lease.close)
        self.interrupt(lease, use)

    def interrupt(self, lease: Lease[Any], use: Callable[[Any], object]) -> None:
        lease.view.execute("INSERT INTO users (name) VALUES ('ann')")
        lease.seal()
        seen: set[tuple[str, int]] = set()
        places = ["before the first"]
        while places:
            test = f"tests.T.test_{len(seen)}"
            view = lease.reset(test)
            self.assertEqual(view.execute(STATE), [BASELINE], places)
            with view.connection.cursor() as cursor:
                cursor.execute(STATE)
                self.assertEqual(cursor.fetchall(), [BASELINE], places)
            use(view)
            view.close()
            with interrupted(seen) as places:
                with contextlib.suppress(IsolationError):
                    lease.finish(test)
                lease.reset(f"{test}_next").close()
        self.assertGreater(len(seen), 2)

    def test_rows(self) -> None:
        self.check("database", write)

    def test_a_new_clone(self) -> None:
        self.check("database", make)

    def test_a_sandbox(self) -> None:
        self.check("rollback", write)

    def test_what_was_written_outside_of_a_sandbox(self) -> None:
        self.check("rollback", write_elsewhere)

    def test_a_schema(self) -> None:
        self.check("schema", write)

    def test_a_schema_that_is_made_again(self) -> None:
        self.check("schema", make)


class ForeignServerTest(ForeignTest):
    """The same on a server that is not ours, where the log cannot be read."""

    interrupt = OwnServerTest.interrupt

    def check(self, isolation: str, use: Callable[[Any], object]) -> None:
        self.database("shop")
        service = Postgres(migrations=migrate, isolation=isolation, external=VARIABLE)
        with self.session(self.foreign.url_for("shop")):
            lease = sessions.current().lend(service).lease(service, "tests.Interrupted")
            try:
                self.interrupt(lease, use)
            finally:
                lease.close()

    def test_rows(self) -> None:
        self.check("database", write)

    def test_a_sandbox(self) -> None:
        self.check("rollback", write_elsewhere)

    def test_tables_that_were_there(self) -> None:
        self.check("truncate", write)


if __name__ == "__main__":
    unittest.main()
