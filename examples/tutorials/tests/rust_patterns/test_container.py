# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL, migrated."""

from tests.rust_patterns.base import DatabaseTest


class PostgresTest(DatabaseTest):
    def test_a_query(self):
        self.assertEqual(self.postgres.execute("SELECT 1 + 1 AS sum"), [(2,)])
