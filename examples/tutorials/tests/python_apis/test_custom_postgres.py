# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with a user, an extension and an init script of one's own."""

from itest import ContainerTestCase, Postgres, PostgresMixin


class CustomPostgresTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(user="test", database="testdb", init=["../../migrations"], extensions=["pg_trgm"])

    def test_the_script_has_run(self):
        self.assertRowCount("users", 0)
        self.assertEqual(self.postgres.execute("SELECT current_user, similarity('ab', 'ab')"), [("test", 1.0)])
