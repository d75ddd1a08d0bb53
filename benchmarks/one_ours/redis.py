# SPDX-License-Identifier: Apache-2.0
"""One test with Redis."""

from __future__ import annotations

from benchmarks.one_bodies import OneTest, ask_redis
from itest import ContainerTestCase, RedisMixin


class RedisTest(RedisMixin, ContainerTestCase, OneTest):
    def test_one(self) -> None:
        self.note(lambda: ask_redis(self.cache))
