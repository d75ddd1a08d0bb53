# SPDX-License-Identifier: Apache-2.0
"""What the tests of this directory share."""

from itest import ContainerTestCase, Postgres, PostgresMixin


class DatabaseTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations", external="TEST_DATABASE_URL")
