# SPDX-License-Identifier: Apache-2.0
"""Tests that may run side by side: each class has a schema, or a transaction, of its own."""

from itest import ContainerTestCase, Postgres, PostgresMixin


class SchemaTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations", isolation="schema")

    def test_one(self):
        self.postgres.execute(
            "INSERT INTO users (email, name) VALUES ('parallel@example.com', 'parallel')"
        )
        self.assertRowCount("users", 1)

    test_two = test_one


class TransactionTest(SchemaTest):
    postgres = Postgres(migrations="../../migrations", isolation="rollback")
