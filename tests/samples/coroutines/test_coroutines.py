# SPDX-License-Identifier: Apache-2.0
"""Clients of asyncio in loops of both scopes. Nothing of one test reaches another."""

import asyncio

from itest import AsyncContainerTestCase, Postgres, PostgresMixin, RedisMixin


def migrate(view):
    view.execute("CREATE TABLE visits (number integer)")


class Visits(PostgresMixin, RedisMixin):
    postgres = Postgres(migrations=migrate)

    async def visit(self, number):
        connection = await self.postgres.aconnect()
        await connection.execute("INSERT INTO visits VALUES ($1)", number)
        await self.redis.aclient().incr("visits")

    async def test_visits_side_by_side(self):
        await asyncio.gather(*map(self.visit, range(5)))
        self.assertRowCount("visits", 6)
        self.assertCached("visits", 6)

    async def test_visits_again(self):
        await self.test_visits_side_by_side()


class LoopOfTheTest(Visits, AsyncContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.runAsync(cls.first())

    @classmethod
    async def first(cls):
        connection = await cls.postgres.aconnect()
        await connection.execute("INSERT INTO visits VALUES (0)")
        await cls.redis.aclient().incr("visits")


class LoopOfTheClassTest(Visits, AsyncContainerTestCase):
    loop_scope = "class"

    @classmethod
    async def asyncSetUpClass(cls):
        cls.loop = asyncio.get_running_loop()
        cls.inbox = asyncio.Queue()
        cls.task = asyncio.create_task(cls.inbox.get())
        connection = await cls.postgres.aconnect()
        await connection.execute("INSERT INTO visits VALUES (0)")
        await cls.redis.aclient().incr("visits")

    @classmethod
    async def asyncTearDownClass(cls):
        await cls.inbox.put("the last")
        assert await cls.task == "the last"

    async def test_the_loop_is_the_classes(self):
        self.assertIs(asyncio.get_running_loop(), self.loop)
        self.assertFalse(self.task.done())
