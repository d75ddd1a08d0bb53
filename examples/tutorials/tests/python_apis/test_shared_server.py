# SPDX-License-Identifier: Apache-2.0
"""One server for all tests, and for all workers of a parallel run; the data is clean for each."""

from itest import ContainerTestCase, Postgres, PostgresMixin


class FirstTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")

    def test_a_commit_is_nobody_elses(self):
        self.postgres.execute(
            "INSERT INTO users (email, name) VALUES ('same@example.com', 'Same')"
        )
        self.assertRowCount("users", 1)

    test_whichever_comes_first = test_a_commit_is_nobody_elses


class SecondTest(FirstTest):
    pass
