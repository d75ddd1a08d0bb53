# SPDX-License-Identifier: Apache-2.0
"""One test with Kafka."""

from __future__ import annotations

from benchmarks.one_bodies import OneTest
from itest import ContainerTestCase, KafkaMixin


class KafkaTest(KafkaMixin, ContainerTestCase, OneTest):
    def test_one(self) -> None:
        self.note(lambda: self.queue.send("orders", b"book"))
