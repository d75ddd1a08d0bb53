# SPDX-License-Identifier: Apache-2.0
"""What only a real database tells: what was stored, constraints, and queries over fixtures."""

from itest import fixtures
from psycopg2.errors import UniqueViolation

from app.users import UserRepository
from tests.rust_patterns.base import DatabaseTest

INSERT = "INSERT INTO users (name, email) VALUES (%s, 'alice@example.com')"


class UserTest(DatabaseTest):
    def test_a_user_is_stored(self):
        created = UserRepository(self.session).create("alice@example.com", "Alice")
        found = UserRepository(self.postgres.session()).find(created.id)
        self.assertEqual((found.name, found.email), ("Alice", "alice@example.com"))

    def test_an_email_is_used_once(self):
        self.postgres.execute(INSERT, ["Alice"])
        self.assertRaises(UniqueViolation, self.postgres.execute, INSERT, ["Bob"])

    @fixtures("users", "orders")
    def test_the_orders_of_a_user(self):
        totals = self.postgres.execute(
            "SELECT total::float FROM orders WHERE user_id = 1 ORDER BY id"
        )
        self.assertEqual(totals, [(29.99,), (5,), (12.5,)])
