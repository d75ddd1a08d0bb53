# SPDX-License-Identifier: Apache-2.0
"""Redis by hand: a value is stored, and one expires."""

import json

from itest import ContainerTestCase, Redis, RedisMixin


class CacheTest(RedisMixin, ContainerTestCase):
    redis = Redis(decode_responses=True)

    def test_a_value_is_stored(self):
        user = {"id": "1", "name": "Alice", "email": "alice@example.com"}
        self.cache.set("user:1", json.dumps(user), ex=60)
        self.assertEqual(json.loads(self.cache.get("user:1")), user)

    def test_a_value_expires(self):
        self.cache.set("temporary", "value", ex=1)
        self.assertCached("temporary", "value")
        self.assertEventually(lambda: not self.cache.exists("temporary"))
