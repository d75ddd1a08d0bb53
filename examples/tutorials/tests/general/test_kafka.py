# SPDX-License-Identifier: Apache-2.0
"""Kafka: an event is produced and consumed."""

from itest import ContainerTestCase, Kafka, KafkaMixin


class EventTest(KafkaMixin, ContainerTestCase):
    kafka = Kafka(codec="json")

    def test_an_event_arrives(self):
        event = {"type": "user.created", "user_id": "123", "name": "Alice"}
        self.queue.send("events", event)
        self.assertProduced("events", event)
