# SPDX-License-Identifier: Apache-2.0
"""A cache layer: what it keeps, for how long, and how it forgets."""

from itest import ContainerTestCase, RedisMixin

from app.cache import Cache


class CacheTest(RedisMixin, ContainerTestCase):
    def setUp(self):
        self.values = Cache(self.cache)

    def test_a_value_is_kept(self):
        self.values.set("key", {"data": "value"}, ttl=300)
        self.assertEqual(self.values.get("key"), {"data": "value"})

    def test_a_value_expires(self):
        self.values.set("expiring", "data", ttl=1)
        self.assertEqual(self.values.get("expiring"), "data")
        self.assertEventually(lambda: self.values.get("expiring") is None)

    def test_values_are_invalidated_by_a_pattern(self):
        self.values.set("user:1:profile", {"name": "Alice"})
        self.values.set("user:1:settings", {"theme": "dark"})
        self.values.invalidate("user:1:*")
        self.assertEqual(self.cache.keys(), [])
