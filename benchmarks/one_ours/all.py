# SPDX-License-Identifier: Apache-2.0
"""One test with all three services."""

from __future__ import annotations

from benchmarks.one_bodies import OneTest, ask_postgres, ask_redis
from itest import ContainerTestCase, KafkaMixin, PostgresMixin, RedisMixin


class AllTest(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase, OneTest):
    def test_one(self) -> None:
        self.note(
            lambda: ask_postgres(self.db),
            lambda: ask_redis(self.cache),
            lambda: self.queue.send("orders", b"book"),
        )
