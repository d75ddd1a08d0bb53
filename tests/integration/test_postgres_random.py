# SPDX-License-Identifier: Apache-2.0
"""Random test bodies: whatever they do, and however they end, the next test starts from the baseline.

ITEST_RANDOM_BODIES is how many are run, ITEST_RANDOM_SEED repeats a run that failed.
"""

from __future__ import annotations

import collections
import os
import random
import unittest
from unittest import mock

from itest import testing, trace
from itest.services.postgres import Postgres
from tests.integration import sqlbodies
from tests.integration.sqldump import difference, dump

BODIES = int(os.environ.get("ITEST_RANDOM_BODIES", "100"))
SEED = int(os.environ.get("ITEST_RANDOM_SEED") or random.randrange(10**9))


def schema(view: object) -> None:
    with view.connect() as connection, connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(sqlbodies.SCHEMA)


class RandomTest(unittest.TestCase):
    def test_every_reset_leads_back_to_the_baseline(self) -> None:
        said = self.enterContext(mock.patch.object(trace, "say"))
        session = self.enterContext(testing.session())
        declaration = Postgres(migrations=schema)
        lease = session.lend(declaration).lease(declaration, "tests.RandomTest")
        self.addCleanup(lease.close)
        with lease.view.connection as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO parent (name) VALUES ('from setUpTestData'); SELECT nextval('lonely')")
        lease.seal()
        view = lease.reset("tests.RandomTest.first")
        baseline = dump(view.url)
        self.assertGreater(len(baseline), 90)
        rng = random.Random(SEED)
        runner = sqlbodies.Runner(view.url)
        self.addCleanup(runner.close)
        ways: collections.Counter[str] = collections.Counter()
        for number in range(BODIES):
            body = sqlbodies.body(rng)
            runner.run(view, body)
            view.close()
            view = lease.reset(f"tests.RandomTest.body_{number}")
            ways[lease.way] += 1
            found = difference(baseline, dump(view.url)) + self.connection_difference(view)
            if found:
                self.fail(f"seed {SEED}, body {number}, {lease.way} ({lease.reason}):\n{body}\n" + "\n".join(found))
        view.close()
        print(f"{BODIES} random bodies, seed {SEED}: {dict(ways)}, {said.call_count} leaks reported", flush=True)
        if BODIES >= 50:
            self.assertGreater(min(ways["undone"], ways["cloned"]), 0)

    def connection_difference(self, view: object) -> list[str]:
        """What is not as new about the kept connection."""
        connection = view.connection  # type: ignore[attr-defined]
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_user, session_user, current_setting('search_path'), current_setting('work_mem'), "
                "current_setting('client_encoding'), current_setting('timezone') = current_setting('log_timezone'), "
                "current_setting('default_transaction_read_only'), coalesce(current_setting('my.setting', true), ''), "
                "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors), "
                "(SELECT count(*) FROM pg_listening_channels()), 'Größe', to_regclass('pg_temp.parent')::text"
            )
            found = cursor.fetchone()
        connection.rollback()
        new = ("postgres", "postgres", '"$user", public', "4MB", "UTF8", True, "off", "", 0, 0, 0, "Größe", None)
        return [] if found == new else [f"kept connection: {new} -> {found}"]


if __name__ == "__main__":
    unittest.main()
