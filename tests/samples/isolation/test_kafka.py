# SPDX-License-Identifier: Apache-2.0
"""Everything a test can leave in Kafka. `setUp` asks for all of it before each test."""

from twice import LEAKED, twice

from itest import ContainerTestCase, KafkaMixin


@twice
class KafkaTest(KafkaMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.kafka.queue.send("orders", b"baseline")

    def setUp(self):
        [message] = self.queue.receive("orders")
        self.assertEqual(message.value, b"baseline")
        self.assertNothing("orders")

    def assertNothing(self, topic):
        with self.assertRaises(AssertionError):
            self.queue.receive(topic, timeout=0.05)

    def leak_message(self):
        self.queue.send("orders", b"leaked")
        self.assertEqual(self.queue.receive("orders")[0].value, b"leaked")

    def leak_message_on_new_topic(self):
        self.assertNothing("payments")
        self.queue.send("payments", b"leaked")

    def leak_own_producer(self):
        producer = self.kafka.producer()
        producer.send(self.kafka.topic("orders"), b"leaked").get(timeout=10)

    def leak_committed_offset(self):
        """A group that has read everything would not see the next test's messages."""
        self.queue.send("orders", b"leaked")
        consumer = self.kafka.consumer("orders", group_id="shop", enable_auto_commit=False)
        values = []
        while len(values) < 2:
            records = consumer.poll(timeout_ms=5000)
            self.assertTrue(records, f"only {values} arrived")
            values += [record.value for batch in records.values() for record in batch]
        self.assertEqual(values, [b"baseline", b"leaked"])
        consumer.commit()

    def leak_member_of_a_group(self):
        """A consumer that nobody closes would keep its partitions until its session times out."""
        from kafka import KafkaConsumer

        consumer = KafkaConsumer(
            self.kafka.topic("orders"),
            bootstrap_servers=self.kafka.bootstrap_servers,
            group_id=self.kafka.group("shop"),
            auto_offset_reset="earliest",
        )
        LEAKED.append(consumer)
        [batch] = consumer.poll(timeout_ms=5000).values()
        self.assertEqual([record.value for record in batch], [b"baseline"])
