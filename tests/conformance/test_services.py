# SPDX-License-Identifier: Apache-2.0
"""Every service does what the protocol says, on whatever engine the settings choose."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

from itest import ContainerTestCase, Kafka, Postgres, Redis, testing
from itest.clock import Deadline
from itest.services.kafka import clients

_Base = unittest.TestCase if TYPE_CHECKING else object


class Programs(_Base):
    """What those do besides that run programs."""

    service: Any

    def test_a_command_is_words_or_a_text_for_a_shell(self) -> None:
        self.assertEqual(self.service.exec(["echo", "a  b"]).stdout, "a  b\n")
        self.assertEqual(self.service.exec("echo a  b; exit 3"), (3, "a b\n", ""))


class RedisTest(Programs, testing.ServiceConformance, ContainerTestCase):
    service = Redis()

    def write(self, view: Any, name: str) -> None:
        view.client().set(name, "x")

    def read(self, view: Any) -> set[str]:
        return {key.decode() for key in view.client().scan_iter()}


class PostgresTest(Programs, testing.ServiceConformance, ContainerTestCase):
    service = Postgres(migrations=lambda view: view.execute("CREATE TABLE item (name text PRIMARY KEY)"))

    def write(self, view: Any, name: str) -> None:
        view.execute("INSERT INTO item VALUES (%s)", [name])

    def read(self, view: Any) -> set[str]:
        return {name for (name,) in view.execute("SELECT name FROM item")}


class KafkaTest(Programs, testing.ServiceConformance, ContainerTestCase):
    service = Kafka()

    def write(self, view: Any, name: str) -> None:
        producer = view.producer()
        producer.send(view.topic("items"), name.encode())
        producer.flush(timeout=60)

    def read(self, view: Any) -> set[str]:
        consumer = view.consumer()
        topic = view.topic("items")
        partitions = [
            clients.package().TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)
        ]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: set[str] = set()
        deadline = Deadline.after(60)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            self.assertFalse(deadline.passed, f"not all of {ends} could be read; found {found}")
            found.update(record.value.decode() for batch in consumer.poll(100).values() for record in batch)
        return found


class MemoryTest(testing.ServiceConformance, ContainerTestCase):
    """The service in memory, on its own engine."""

    service = testing.MemoryService()

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(testing.session(testing.MemoryEngine()))
        super().setUpClass()

    def write(self, view: Any, name: str) -> None:
        view.data[name] = "x"

    def read(self, view: Any) -> set[str]:
        return set(view.data)
