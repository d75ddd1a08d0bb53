# SPDX-License-Identifier: Apache-2.0
"""A service over a database and a cache."""

from itest import ContainerTestCase, Postgres, PostgresMixin, RedisMixin

from app.cache import Cache
from app.users import UserService


class WorkflowTest(PostgresMixin, RedisMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")

    def test_what_was_read_once_is_in_the_cache(self):
        users = UserService(self.session, Cache(self.cache))
        user = users.create("integration@example.com", "integrationuser")
        self.assertEqual(users.get(user["id"]), user)
        self.assertEqual(users.get(user["id"]), user)
        self.assertCached(f"user:{user['id']}")
