# SPDX-License-Identifier: Apache-2.0
"""A cache: hit, miss, expiry and invalidation."""

from itest import ContainerTestCase, RedisMixin

from app.cache import Cache

USER = {"id": 1, "email": "cached@example.com"}


class UserCacheTest(RedisMixin, ContainerTestCase):
    def test_a_hit(self):
        Cache(self.cache).set("user:1", USER)
        self.assertEqual(Cache(self.cache).get("user:1"), USER)

    def test_a_miss(self):
        self.assertIsNone(Cache(self.cache).get("user:1"))

    def test_a_value_expires(self):
        cache = Cache(self.cache, ttl=1)
        cache.set("user:1", USER)
        self.assertIsNotNone(cache.get("user:1"))
        self.assertEventually(lambda: cache.get("user:1") is None)

    def test_a_value_is_invalidated(self):
        cache = Cache(self.cache)
        cache.set("user:1", USER)
        cache.invalidate("user:1")
        self.assertIsNone(cache.get("user:1"))
