# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with a configuration of one's own, and with an extension."""

from itest import ContainerTestCase, Postgres, PostgresMixin


class ConfigurationTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(
        user="testuser",
        password="testpass",
        database="testdb",
        settings={"work_mem": "8MB"},
    )

    def test_the_configuration_holds(self):
        self.assertEqual(
            self.postgres.execute("SELECT current_user, current_setting('work_mem')"),
            [("testuser", "8MB")],
        )


class ExtensionTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(extensions=["pg_trgm"])

    def test_the_extension_is_there(self):
        self.assertRowCount("pg_extension", 1, where="extname = 'pg_trgm'")
