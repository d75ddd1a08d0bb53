# SPDX-License-Identifier: Apache-2.0
"""SQL by hand: a row is written and read back, and a constraint holds."""

from itest import ContainerTestCase, PostgresMixin
from psycopg2.errors import UniqueViolation


class UserTest(PostgresMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("""
            CREATE TABLE users (
                id serial PRIMARY KEY,
                name varchar(255) NOT NULL,
                email varchar(255) UNIQUE NOT NULL,
                created_at timestamp DEFAULT now()
            )
        """)

    def test_a_user_is_stored(self):
        [(id,)] = self.postgres.execute(
            "INSERT INTO users (name, email) VALUES ('Alice', 'alice@example.com') RETURNING id"
        )
        row = self.postgres.execute("SELECT name, email FROM users WHERE id = %s", [id])
        self.assertEqual(row, [("Alice", "alice@example.com")])

    def test_an_email_is_used_once(self):
        with self.db.cursor() as cursor:
            cursor.execute(
                "INSERT INTO users (name, email) VALUES ('Alice', 'alice@example.com')"
            )
            self.db.commit()
            with self.assertRaises(UniqueViolation):
                cursor.execute(
                    "INSERT INTO users (name, email) VALUES ('Bob', 'alice@example.com')"
                )
