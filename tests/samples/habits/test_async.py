# SPDX-License-Identifier: Apache-2.0
"""Coroutines as tests, with clients of their own event loop."""

import asyncio

from itest import AsyncContainerTestCase, PostgresMixin, RedisMixin


class AsyncTest(PostgresMixin, RedisMixin, AsyncContainerTestCase):
    async def asyncSetUp(self):
        self.client = self.redis.aclient()
        self.addAsyncCleanup(self.client.aclose)

    async def test_visit(self):
        self.assertEqual(await self.client.keys(), [])
        await asyncio.gather(*(self.client.set(f"visit-{number}", "yes") for number in range(10)))
        self.assertEqual(await self.client.dbsize(), 10)
        rows = await asyncio.to_thread(self.postgres.execute, "SELECT 1 FROM pg_tables WHERE tablename = 'visits'")
        self.assertEqual(rows, [])
        await asyncio.to_thread(self.postgres.execute, "CREATE TABLE visits ()")

    async def test_visit_again(self):
        await self.test_visit()

    def test_plain_method(self):
        self.assertEqual(self.cache.keys(), [])
        self.cache.set("visit", "yes")
