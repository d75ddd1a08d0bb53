# SPDX-License-Identifier: Apache-2.0
"""A repository over asyncpg, with operations side by side."""

import asyncio

import asyncpg
from itest import AsyncContainerTestCase, PostgresMixin

from app.users import AsyncUserRepository


class AsyncUserRepositoryTest(PostgresMixin, AsyncContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("""
            CREATE TABLE users (
                id serial PRIMARY KEY,
                email varchar(255) UNIQUE NOT NULL,
                name varchar(255) NOT NULL
            )
        """)

    async def asyncSetUp(self):
        self.users = AsyncUserRepository(
            await self.enterAsyncContext(asyncpg.create_pool(self.postgres.url))
        )

    async def test_a_user_is_created(self):
        user = await self.users.create(email="async@example.com", name="Async User")
        self.assertEqual(
            dict(user), {"id": 1, "email": "async@example.com", "name": "Async User"}
        )

    async def test_users_are_created_side_by_side(self):
        users = await asyncio.gather(
            *[self.users.create(f"user{i}@example.com", f"User {i}") for i in range(10)]
        )
        self.assertEqual(len({user["id"] for user in users}), 10)
