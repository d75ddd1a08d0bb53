# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with a user, an extension, an init script and a mounted directory of one's own."""

from pathlib import Path

from itest import ContainerTestCase, Postgres, PostgresMixin


class CustomPostgresTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(
        user="test",
        database="testdb",
        init=["../../migrations/schema.sql"],
        extensions=["pg_trgm"],
        volumes={"/seed": Path("../../migrations")},
    )

    def test_the_script_has_run(self):
        self.assertRowCount("users", 0)

    def test_the_directory_is_mounted(self):
        files = self.postgres.execute("SELECT pg_ls_dir('/seed')")
        self.assertEqual(files, [("schema.sql",)])
