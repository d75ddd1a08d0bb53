# SPDX-License-Identifier: Apache-2.0
"""A cache: hit, miss, expiry and invalidation."""

from app.cache import Cache
from itest import ContainerTestCase, RedisMixin


class UserCacheTest(RedisMixin, ContainerTestCase):
    user = {"id": 1, "email": "cached@example.com"}

    def test_a_hit(self):
        Cache(self.cache).set("user:1", self.user)
        self.assertEqual(Cache(self.cache).get("user:1"), self.user)

    def test_a_miss(self):
        self.assertIsNone(Cache(self.cache).get("user:1"))

    def test_a_value_expires(self):
        cache = Cache(self.cache, ttl=1)
        cache.set("user:1", self.user)
        self.assertIsNotNone(cache.get("user:1"))
        self.assertEventually(lambda: cache.get("user:1") is None)

    def test_a_value_is_invalidated(self):
        cache = Cache(self.cache)
        cache.set("user:1", self.user)
        cache.invalidate("user:1")
        self.assertIsNone(cache.get("user:1"))
