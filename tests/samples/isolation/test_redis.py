# SPDX-License-Identifier: Apache-2.0
"""Everything a test can leave in Redis. `setUp` asks for all of it before each test."""

import contextlib
import threading
import time

import redis
from twice import LEAKED, twice

from itest import ContainerTestCase, RedisMixin


class _Leaks(RedisMixin, ContainerTestCase):
    def setUp(self):
        self.assertEqual(self.cache.keys(), [])
        self.assertEqual(self.cache.dbsize(), 0)

    def leaked(self):
        LEAKED.append(redis.Redis.from_url(self.redis.url))
        return LEAKED[-1]


@twice
class RedisTest(_Leaks):
    def leak_key(self):
        self.cache.set("key", "leaked")

    def leak_key_with_expiry(self):
        self.cache.set("key", "leaked", px=60_000)
        self.cache.set("short", "leaked", px=1)

    def leak_every_type(self):
        self.cache.rpush("list", 1)
        self.cache.sadd("set", 1)
        self.cache.hset("hash", "field", 1)
        self.cache.zadd("sorted", {"member": 1})
        self.cache.xadd("stream", {"field": 1})
        self.cache.xgroup_create("stream", "group")

    def leak_other_client(self):
        self.leaked().set("key", "leaked")

    def leak_flush(self):
        self.cache.flushall()

    def leak_many(self):
        self.cache.mset({f"key:{number}": "leaked" for number in range(5000)})

    def leak_blocked_client(self):
        """It waits for a list that only the next test would fill."""
        threading.Thread(target=self.wait, args=(self.leaked(),), daemon=True).start()

    def wait(self, client):
        with contextlib.suppress(redis.RedisError):
            client.brpop(["list"], timeout=2)

    def leak_watch(self):
        pipeline = self.leaked().pipeline()
        pipeline.watch("key")
        pipeline.multi()
        pipeline.set("key", "leaked")
        LEAKED.append(pipeline)


@twice
class BaselineTest(RedisMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.redis.cache.set("baseline", "here", px=60_000)
        cls.redis.cache.rpush("list", 1, 2)

    def setUp(self):
        self.assertEqual(sorted(self.cache.keys()), [b"baseline", b"list"])
        self.assertEqual(self.cache.get("baseline"), b"here")
        self.assertGreater(self.cache.pttl("baseline"), 0)
        self.assertEqual(self.cache.lrange("list", 0, -1), [b"1", b"2"])

    def leak_change(self):
        self.cache.set("baseline", "changed")
        self.cache.rpush("list", 3)

    def leak_delete(self):
        self.cache.delete("baseline", "list")

    def leak_expiry(self):
        self.cache.pexpire("list", 1)
        time.sleep(0.01)

    def leak_flush(self):
        self.cache.flushdb()
