# SPDX-License-Identifier: Apache-2.0
"""Three ways to keep tests apart: tables that are emptied, a transaction, and unique data."""

from itest import Postgres

from tests.rust_patterns.base import DatabaseTest

INSERT = "INSERT INTO users (name, email) VALUES ('Test User', %s)"


class TruncateTest(DatabaseTest):
    def test_the_tables_are_empty(self):
        self.assertRowCount("users", 0)
        self.postgres.execute(INSERT, ["test@example.com"])

    test_again = test_the_tables_are_empty


class RollbackTest(TruncateTest):
    postgres = Postgres(migrations="../../migrations", isolation="rollback")


class UniqueTest(DatabaseTest):
    def test_data_that_nobody_else_has(self):
        email = f"{self.unique('test')}@example.com"
        self.postgres.execute(INSERT, [email])
        self.assertRowCount("users", 1, where="email = %s", params=[email])
