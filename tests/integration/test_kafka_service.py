# SPDX-License-Identifier: Apache-2.0
"""Kafka on a real broker, whichever engine the settings choose. One broker for all tests here, one more that dies."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import threading
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Kafka, KafkaMixin, testing
from itest.clock import Deadline
from itest.config import Config
from itest.engines.external import ExternalEngine, ExternalInstance
from itest.errors import (
    DeclarationError,
    ExternalError,
    ItestError,
    NotStarted,
    ReceiveTimeout,
    ResetError,
    Unavailable,
)
from itest.services.kafka import KafkaServer, KafkaView, clients, recipes
from itest.services.kafka.lease import KafkaLease
from itest.session import Session
from itest.trace import Recorder
from tests.integration.capture import said

session: Session
_closing = contextlib.ExitStack()


def setUpModule() -> None:
    global session
    session = _closing.enter_context(testing.session())
    try:
        session.lend(Kafka())
    except Unavailable as error:
        _closing.close()
        if session.config.required:
            raise
        raise unittest.SkipTest(str(error)) from error


def tearDownModule() -> None:
    _closing.close()


def everything(view: KafkaView, name: str) -> list[Any]:
    """All records of a topic, as kafka-python has them, by a client that the queue has nothing to do with."""
    consumer = view.consumer()
    part = clients.package().TopicPartition
    physical = view.topic(name)
    parts = [part(physical, number) for number in consumer.partitions_for_topic(physical)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    found: list[Any] = []
    deadline = Deadline.after(10)
    while any(consumer.position(one) < ends[one] for one in parts) and not deadline.passed:
        for batch in consumer.poll(100).values():
            found += batch
    return found


def values(view: KafkaView, name: str) -> list[Any]:
    return [record.value for record in everything(view, name)]


def open_sockets() -> list[socket.socket]:
    return [thing for thing in gc.get_objects() if type(thing) is socket.socket and thing.fileno() >= 0]


def close_sockets(before: list[socket.socket]) -> None:
    """kafka-python 3.0 drops each socket that could not connect without closing it."""
    for dropped in open_sockets():
        if dropped not in before:
            dropped.close()


class KafkaTest(unittest.TestCase):
    def setUp(self) -> None:
        server = session.lend(Kafka())
        assert isinstance(server, KafkaServer)
        self.server = server

    def lease(
        self, server: KafkaServer | None = None, *, owner: str = "tests.OrderTest", **settings: Any
    ) -> KafkaLease:
        lease = (server or self.server).lease(Kafka(**settings), owner)
        self.addCleanup(self.give_back, lease)
        return lease

    def give_back(self, lease: KafkaLease) -> None:
        with contextlib.suppress(KeyError):  # Some tests do it themselves.
            lease.close()

    def next_test(self, lease: KafkaLease) -> KafkaView:
        view = lease.reset("tests.OrderTest.test_order")
        self.addCleanup(view.close)
        return view

    def trips(self) -> Any:
        """Counts the round trips by which the topics are looked after."""
        manager = self.server.admin._manager
        return mock.patch.object(manager, "run", wraps=manager.run)

    def alter(self, view: KafkaView, name: str, setting: str, value: str) -> None:
        config = clients.package("kafka.admin")
        resource = config.ConfigResource(config.ConfigResourceType.TOPIC, view.topic(name))
        asked = config.ConfigResource(config.ConfigResourceType.TOPIC, view.topic(name))
        resource.configs = {setting: value}
        view.admin.alter_configs([resource])
        deadline = Deadline.after(10)
        while setting not in str(view.admin.describe_configs([asked])) and not deadline.passed:
            deadline.pause(0.01)

    def sealed(self, server: KafkaServer | None = None, **settings: Any) -> tuple[KafkaLease, KafkaView]:
        lease = self.lease(server, **settings)
        lease.seal()
        return lease, self.next_test(lease)


class Conformance(testing.ServiceConformance, ContainerTestCase):
    service = Kafka(codec="text")

    def write(self, view: Any, name: str) -> None:
        view.queue.send("names", name)

    def read(self, view: Any) -> set[str]:
        return {value.decode() for value in values(view, "names")}


class MixinTest(KafkaMixin, ContainerTestCase):
    def test_the_example_of_the_readme(self) -> None:
        self.queue.send("orders", b"book")
        [message] = self.queue.receive("orders", count=1, timeout=5)
        self.assertEqual(message.value, b"book")

    def test_again_with_nothing_left_of_the_other_test(self) -> None:
        self.test_the_example_of_the_readme()

    def test_an_app_is_told_where_it_is(self) -> None:
        self.assertEqual(self.kafka.env, {"KAFKA_BOOTSTRAP_SERVERS": f"{self.kafka.host}:{self.kafka.port}"})
        self.assertEqual(self.kafka.url_for("confluentkafka"), f"confluentkafka://{self.kafka.url}")
        self.assertRegex(self.kafka.server.version, r"^Apache Kafka \d+\.\d+")

    def test_its_log_has_times_levels_and_loggers(self) -> None:
        if isinstance(self.kafka.server.instance, ExternalInstance):
            self.skipTest("not a broker of ours")
        [started] = [line for line in self.kafka.logs().splitlines() if "Kafka Server started" in line]
        self.assertRegex(started, r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] .*INFO kafka\.server\.KafkaRaftServer ")
        for talkative in recipes.TALKATIVE:
            self.assertNotIn(f"INFO {talkative}", self.kafka.logs())


class QueueTest(KafkaTest):
    def test_receive_goes_on_where_it_ended(self) -> None:
        _, view = self.sealed()
        sent = [view.queue.send("orders", b"%d" % number).offset for number in range(5)]
        self.assertEqual(sent, list(range(sent[0], sent[0] + 5)))
        first = view.queue.receive("orders", count=2)
        rest = view.queue.receive("orders", count=3)
        self.assertEqual([message.value for message in first + rest], [b"0", b"1", b"2", b"3", b"4"])

    def test_a_message_has_key_headers_and_time(self) -> None:
        _, view = self.sealed(codec="json")
        sent = view.queue.send("orders", {"item": "book"}, key="customer-1", headers={"trace": "abc", "raw": b"\xff"})
        [message] = view.queue.receive("orders")
        self.assertEqual((message.value, message.key), ({"item": "book"}, "customer-1"))
        self.assertEqual(message.headers, {"trace": b"abc", "raw": b"\xff"})
        self.assertEqual((message.topic, message.partition, message.offset), ("orders", 0, sent.offset))
        self.assertGreater(message.timestamp, 1.7e9)

    def test_headers_of_the_same_name_are_all_there(self) -> None:
        _, view = self.sealed()
        view.queue.send("orders", b"book", headers=[("hop", "a"), ("trace", "abc"), ("hop", "b")])
        [message] = view.queue.receive("orders")
        self.assertEqual(message.headers, {"hop": b"b", "trace": b"abc"})
        self.assertEqual(message.header_pairs, (("hop", b"a"), ("trace", b"abc"), ("hop", b"b")))

    def test_it_waits_for_what_comes_later(self) -> None:
        _, view = self.sealed()
        view.queue.topic("orders")
        thread = threading.Timer(0.2, view.queue.send, ("orders", b"late"))
        thread.start()
        self.addCleanup(thread.join, 10)
        self.assertEqual(view.queue.receive("orders")[0].value, b"late")

    def test_a_topic_that_is_new_is_sent_to_while_threads_send_to_another(self) -> None:
        _, view = self.sealed()
        view.queue.send("orders", b"first")
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                view.queue.send("orders", b"x" * 200)

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
            self.addCleanup(thread.join, 30)
        self.addCleanup(stop.set)
        for number in range(10):
            self.assertEqual(view.queue.send(f"new-{number}", b"book").offset, 0)

    def test_a_thread_of_the_test_receives_meanwhile(self) -> None:
        _, view = self.sealed()

        def respond() -> None:
            [request] = view.queue.receive("requests")
            view.queue.send("replies", b"re: " + request.value)

        view.queue.send("requests", b"book")
        thread = threading.Timer(0.2, respond)  # While the test waits.
        thread.start()
        self.addCleanup(thread.join, 30)
        self.assertEqual(view.queue.receive("replies")[0].value, b"re: book")

    def test_too_few_can_be_received_again(self) -> None:
        _, view = self.sealed()
        view.queue.send("orders", b"book")
        with self.assertRaisesRegex(ReceiveTimeout, r"^1 of 2 messages .* read from offset \d+ and ends at \d+\."):
            view.queue.receive("orders", count=2, timeout=0.2)
        self.assertEqual(view.queue.receive("orders")[0].value, b"book")

    def test_records_that_were_sent_by_the_name_without_the_prefix_are_told(self) -> None:
        _, view = self.sealed()
        self.addCleanup(self.server.topics.delete, ["orders"])
        view.producer().send("orders", b"book").get(10)
        with self.assertRaisesRegex(
            ReceiveTimeout,
            r"ends at \d+\. But 'orders' without this class's prefix has 1: a producer of your own sends to "
            r"self\.kafka\.topic\('orders'\), an app to \{kafka\.prefix\}orders\.$",
        ):
            view.queue.receive("orders", timeout=0.1)

    def test_records_that_were_deleted_meanwhile_are_told(self) -> None:
        _, view = self.sealed()
        view.queue.send("orders", b"old")
        view.queue.receive("orders")
        view.queue.send("orders", b"new")
        physical = view.topic("orders")
        self.server.topics.delete_records(dict.fromkeys(self.server.topics.partitions(physical), 1))
        with self.assertRaisesRegex(
            ReceiveTimeout, r"read from offset (\d+) and ends at (\d+), but records before \2 were deleted"
        ):
            view.queue.receive("orders", timeout=0.1)

    def test_records_are_kept_however_old_they_are(self) -> None:
        """By default the broker deletes them 30 s after its start."""
        _, view = self.sealed()
        config = clients.package("kafka.admin")
        asked = config.ConfigResource(config.ConfigResourceType.TOPIC, view.topic("orders"), {"retention.ms": None})
        self.assertIn("'-1'", str(view.admin.describe_configs([asked], config_filter="all")))

    def test_all_partitions_are_read(self) -> None:
        _, view = self.sealed(partitions=3)
        for number in range(12):
            view.queue.send("orders", b"x", key=str(number))
        messages = view.queue.receive("orders", count=12)
        self.assertEqual({message.partition for message in messages}, {0, 1, 2})

    def test_topics_are_read_in_any_order(self) -> None:
        _, view = self.sealed()
        for round in range(3):
            for topic in ("a", "b", "c"):
                view.queue.send(topic, b"%d" % round)
            for topic in ("c", "a", "b"):
                self.assertEqual(view.queue.receive(topic)[0].value, b"%d" % round)

    def test_what_is_there_is_received_without_time(self) -> None:
        lease, view = self.sealed(partitions=2)
        for _ in range(2):
            for key in "abcd":
                view.queue.send("orders", b"x", key=key)
            self.assertEqual(len(view.queue.receive("orders", count=4, timeout=0)), 4)
            with self.assertRaises(ReceiveTimeout):
                view.queue.receive("orders", timeout=0)
            view = self.next_test(lease)

    def again(self, view: KafkaView, name: str, partitions: int = 1) -> None:
        """Delete a topic and create it again, as a test would."""
        physical = view.topic(name)
        view.admin.delete_topics([physical])
        deadline = Deadline.after(10)
        while physical in view.admin.list_topics() and not deadline.passed:
            deadline.pause(0.01)
        view.admin.create_topics({physical: {"num_partitions": partitions}}, wait_for_metadata=True)

    def test_a_topic_that_the_test_made_anew_is_read_from_its_start(self) -> None:
        lease, view = self.sealed()
        view.queue.send("orders", b"before")
        for by_queue in (True, False):
            view = self.next_test(lease)  # It begins at an offset above 0.
            self.again(view, "orders")
            producer, physical = view.producer(), view.topic("orders")
            for value in (b"x", b"y", b"z"):
                view.queue.send("orders", value) if by_queue else producer.send(physical, value).get(10)
            messages = view.queue.receive("orders", count=3, timeout=0.5)
            self.assertEqual([message.value for message in messages], [b"x", b"y", b"z"])

    def test_a_topic_that_was_read_before_too(self) -> None:
        _, view = self.sealed()
        view.queue.send("orders", b"before")
        view.queue.receive("orders")
        self.again(view, "orders", partitions=2)
        for number in range(2):
            view.producer().send(view.topic("orders"), b"after", partition=number).get(10)
        messages = view.queue.receive("orders", count=2, timeout=0.5)
        self.assertEqual([message.value for message in messages], [b"after", b"after"])

    def test_a_topic_that_is_gone_is_asked_for_no_more(self) -> None:
        """The shared clients asked for it, as fast as they can, until the end of the run."""
        lease, view = self.sealed()
        view.queue.send("gone", b"x")
        view.queue.receive("gone")
        view.admin.delete_topics([view.topic("gone")])
        view = self.next_test(lease)
        with self.assertNoLogs("kafka.cluster", "ERROR"):
            view.queue.send("new", b"x")
            view.queue.receive("new")

    def test_nor_one_that_itest_itself_has_deleted(self) -> None:
        _, view = self.sealed()
        view.queue.send("gone", b"x")
        view.queue.receive("gone")
        self.server.topics.delete([view.topic("gone")])
        with self.assertNoLogs("kafka.cluster", "ERROR"):
            view.queue.send("new", b"x")
            view.queue.receive("new")

    def test_while_the_test_that_deleted_it_runs_it_is_asked_for_ever_more_seldom(self) -> None:
        _, view = self.sealed()
        view.queue.send("gone", b"x")
        view.admin.delete_topics([view.topic("gone")])
        with self.assertLogs("kafka.cluster", "ERROR") as logs:
            view.queue.send("newest", b"x")
            start, deadline = len(logs.records), Deadline.after(10)
            while len(logs.records) < start + 8 and not deadline.passed:
                deadline.pause(0.01)
        self.assertGreater(deadline.elapsed, 0.3)

    def test_how_large_a_record_may_be_is_for_the_broker_to_say(self) -> None:
        lease = self.lease()
        large = b"x" * 1_500_000
        with self.assertRaisesRegex(ItestError, r"MessageSizeTooLarge.*\. Let the broker take more: env="):
            lease.view.queue.send("large", large)
        self.alter(lease.view, "large", "max.message.bytes", "1200000")
        with self.assertRaisesRegex(ItestError, r"\. The topic's own max\.message\.bytes is 1200000$"):
            lease.view.queue.send("large", large)
        self.alter(lease.view, "large", "max.message.bytes", "3000000")
        lease.view.queue.send("large", large)
        lease.seal()
        self.next_test(lease).queue.send("large", b"mine")
        self.assertEqual(self.next_test(lease).queue.receive("large")[0].value, large)

    def test_a_topic_that_the_test_deleted_is_said_to_be_gone(self) -> None:
        _, view = self.sealed()
        physical = view.topic("orders")
        view.admin.delete_topics([physical])
        self.enterContext(
            mock.patch.object(self.server.producer, "send", side_effect=clients.errors().KafkaTimeoutError)
        )
        with self.assertRaisesRegex(
            ItestError, rf"^sending to topic 'orders' .*\. There is no topic {physical} any more: it was deleted after"
        ):
            view.queue.send("orders", b"x")

    def test_a_name_that_kafka_does_not_allow(self) -> None:
        _, view = self.sealed()
        for wrong in ("", "a b", "x" * 250):
            with self.assertRaisesRegex(ValueError, "cannot be a topic: letters, digits"):
                view.queue.send(wrong, b"")


class RecordsTest(KafkaTest):
    def test_what_a_test_sent_is_gone_and_the_name_stays(self) -> None:
        lease, view = self.sealed()
        for topic in ("a", "b", "c"):
            view.queue.send(topic, b"mine")
        before = view.topic("a")
        view = self.next_test(lease)
        self.assertEqual(view.topic("a"), before)
        self.assertEqual([values(view, topic) for topic in ("a", "b", "c")], [[], [], []])
        view.queue.send("a", b"new")
        self.assertEqual(view.queue.receive("a")[0].value, b"new")

    def test_the_baseline_comes_back_as_it_was(self) -> None:
        lease = self.lease(partitions=2)
        lease.view.queue.send("orders", b"one", key="k", headers=[("a", "b")])
        lease.view.queue.send("orders", None, key="k")
        untouched = lease.view.queue.send("untouched", b"two").offset
        lease.seal()
        before = self.facts(self.next_test(lease))
        self.next_test(lease).queue.send("orders", b"mine", key="k")
        view = self.next_test(lease)
        self.assertEqual(self.facts(view), before)
        self.assertEqual([message.value for message in view.queue.receive("orders", count=2)], [b"one", None])
        self.assertEqual(everything(view, "untouched")[0].offset, untouched)

    def facts(self, view: KafkaView) -> list[Any]:
        return [
            (record.partition, record.key, record.value, list(record.headers), record.timestamp)
            for record in everything(view, "orders")
        ]

    def test_records_of_the_baseline_that_a_test_deleted_come_back(self) -> None:
        lease = self.lease()
        part = clients.package().TopicPartition
        _, one, _ = [lease.view.queue.send("orders", value).offset for value in (b"zero", b"one", b"two")]
        where = part(lease.view.topic("orders"), 0)
        lease.view.admin.delete_records({where: one})
        lease.seal()
        for deleted in (1, 2):
            view = self.next_test(lease)
            with self.trips() as trips:
                view = self.next_test(lease)
            self.assertEqual((values(view, "orders"), trips.call_count), ([b"one", b"two"], 1))
            view.admin.delete_records({where: everything(view, "orders")[0].offset + deleted})
        self.assertEqual(values(self.next_test(lease), "orders"), [b"one", b"two"])

    def test_a_topic_that_a_test_deleted_comes_back(self) -> None:
        lease = self.lease()
        lease.view.queue.send("orders", b"one")
        lease.seal()
        view = self.next_test(lease)
        view.admin.delete_topics([view.topic("orders")])
        self.assertEqual(values(self.next_test(lease), "orders"), [b"one"])

    def test_a_topic_that_a_test_made_again_is_emptied(self) -> None:
        lease, view = self.sealed()
        view.queue.send("orders", b"1")
        view = self.next_test(lease)  # Its end offset is 1 now, and it is empty.
        physical = view.topic("orders")
        view.admin.delete_topics([physical])
        view.admin.create_topics({physical: {"num_partitions": 1}}, wait_for_metadata=True)
        view.producer().send(physical, b"2").get(10)
        self.assertEqual(values(self.next_test(lease), "orders"), [])

    def test_a_topic_that_a_test_made_again_beside_others_is_emptied(self) -> None:
        lease, view = self.sealed()
        for value in (b"1", b"2"):  # From the second time on they are emptied without a look at them first.
            for topic in ("orders", "mail", "gone"):
                view.queue.send(topic, value)
            view = self.next_test(lease)
        physical, gone = view.topic("orders"), view.topic("gone")
        view.admin.delete_topics([physical, gone])
        view.admin.create_topics({physical: {"num_partitions": 2}}, wait_for_metadata=True)
        view.producer().send(physical, b"3", partition=1).get(10)
        view.queue.send("mail", b"3")
        view = self.next_test(lease)
        self.assertEqual([values(view, topic) for topic in ("orders", "mail", "gone")], [[], [], []])
        view.queue.send("mail", b"4")
        self.assertEqual([message.value for message in view.queue.receive("mail")], [b"4"])

    def test_partitions_that_a_test_added_are_taken_away(self) -> None:
        lease = self.lease(topics={"orders": 2})
        lease.view.queue.send("orders", b"one", key="k")
        lease.seal()
        view = self.next_test(lease)
        for name, count in (("orders", 5), ("undeclared", 3)):
            physical = view.topic(name)
            view.admin.create_partitions({physical: count})
            deadline = Deadline.after(10)
            while len(view.consumer().partitions_for_topic(physical)) < count and not deadline.passed:
                deadline.pause(0.01)
            for number in range(count):
                view.producer().send(physical, b"2", partition=number).get(10)
        view = self.next_test(lease)
        self.assertEqual([values(view, name) for name in ("orders", "undeclared")], [[b"one"], []])
        topics = self.server.topics.all()
        self.assertEqual([len(topics[view.topic(name)].leaders) for name in ("orders", "undeclared")], [2, 1])

    def test_a_topic_that_a_consumer_has_the_broker_make_meanwhile_is_made_anew(self) -> None:
        lease, view = self.sealed(topics={"orders": 3})
        physical, create = view.topic("orders"), self.server.admin.create_topics
        asked: list[str] = []

        def late(wanted: Any, **options: Any) -> Any:
            """The first time the broker has created it for a consumer that lives on."""
            asked.extend(wanted)
            if len(asked) == 1:
                create({physical: {"num_partitions": 1}}, wait_for_metadata=True)
            return create(wanted, **options)

        view.admin.delete_topics([physical])
        with mock.patch.object(self.server.admin, "create_topics", late):
            view = self.next_test(lease)
        self.assertEqual(asked, [physical] * 2)
        self.assertEqual(len(self.server.topics.all()[physical].leaders), 3)

    def test_one_that_is_created_anew_by_others_has_been_deleted(self) -> None:
        _, view = self.sealed()
        physical, delete = view.topic("orders"), self.server.admin.delete_topics

        def undone(names: Any, **options: Any) -> Any:
            answer = delete(names, **options)
            self.server.admin.create_topics({physical: {"num_partitions": 1}}, wait_for_metadata=True)
            return answer

        with mock.patch.object(self.server.admin, "delete_topics", undone):
            self.server.topics.delete([physical])
        self.assertIn(physical, self.server.topics.all())

    def test_one_that_others_create_again_and_again_is_an_error(self) -> None:
        _, view = self.sealed()
        physical, create = view.topic("orders"), self.server.admin.create_topics

        def late(wanted: Any, **options: Any) -> Any:
            create(wanted, **options)
            return create(wanted, **options)

        with (
            mock.patch.object(self.server.admin, "create_topics", late),
            mock.patch("itest.services.kafka.topics.VANISH_WAIT", 0.05),
            self.assertRaisesRegex(
                ItestError, f"^topic {physical} on .* could not be made anew within 0.05 s: a client"
            ),
        ):
            self.server.topics.renew(physical, 1)

    def test_partitions_that_an_app_added_to_its_own_topic_are_emptied(self) -> None:
        lease, view = self.sealed()
        self.addCleanup(self.server.topics.delete, ["by-app"])
        view.admin.create_topics({"by-app": {"num_partitions": 1}}, wait_for_metadata=True)
        view = self.next_test(lease)
        view.admin.create_partitions({"by-app": 2})
        deadline = Deadline.after(10)
        while len(self.server.topics.all()["by-app"].leaders) < 2 and not deadline.passed:
            deadline.pause(0.01)
        view.producer().send("by-app", b"2", partition=1).get(10)
        view = self.next_test(lease)
        part = clients.package().TopicPartition("by-app", 1)
        self.assertEqual(view.consumer().beginning_offsets([part]), {part: 1})

    def test_what_was_emptied_before_is_emptied_in_one_round_trip(self) -> None:
        lease = self.lease()
        lease.view.queue.send("baseline", b"one")
        lease.seal()
        view = self.next_test(lease)
        for _ in range(2):
            view.queue.send("orders", b"mine")
            view = self.next_test(lease)
        with self.trips() as trips:
            view.queue.send("orders", b"mine")
            view = self.next_test(lease)
            self.next_test(lease)
        self.assertEqual(trips.call_count, 2)
        self.assertEqual([values(view, topic) for topic in ("orders", "baseline")], [[], [b"one"]])

    def test_a_topic_that_has_no_leader_yet_is_waited_for(self) -> None:
        lease, view = self.sealed()
        view.queue.send("orders", b"mine")
        reason = clients.errors().LeaderNotAvailableError()
        survey, fails = self.server.topics.survey, [True, True, False]

        def moody(*args: Any) -> Any:
            with self.server.doing("asking for end offsets"):
                if fails.pop(0):
                    raise reason
            return survey(*args)

        with mock.patch.object(self.server.topics, "survey", moody):
            view = self.next_test(lease)
        self.assertEqual((fails, values(view, "orders")), ([], []))

    def test_topics_that_the_app_made_are_emptied(self) -> None:
        lease, view = self.sealed()
        names = [f"{view.prefix}by-app", "orders-by-app"]
        self.addCleanup(self.server.topics.delete, names)
        for name in names:
            view.producer().send(name, b"x").get(10)
        view = self.next_test(lease)
        ends = self.server.topics.end_offsets(part for name in names for part in self.server.topics.partitions(name))
        self.assertEqual(list(ends.values()), [1, 1])
        starts = view.consumer().beginning_offsets([clients.package().TopicPartition(*part) for part in ends])
        self.assertEqual(list(starts.values()), [1, 1])

    def test_and_by_one_of_two_declarations_of_a_class_too(self) -> None:
        (lease, view), (other, _) = self.sealed(), self.sealed(prefix="audit-")
        self.addCleanup(self.server.topics.delete, ["orders-by-app", "audit-log"])
        view.producer().send("orders-by-app", b"x").get(10)
        other.view.queue.send("log", b"x")
        for each in (lease, other):
            self.next_test(each)
        parts = [part for name in ("orders-by-app", "audit-log") for part in self.server.topics.partitions(name)]
        self.assertEqual([*self.server.topics.start_offsets(parts).values()], [1, 1])

    def test_the_next_class_has_the_same_topics_and_none_of_the_records(self) -> None:
        partitions = {"partitions": 5}  # No other test here has that many, so nobody else can have taken the prefix.
        lease, view = self.sealed(**partitions)
        view.queue.send("orders", b"x")
        view.admin.create_topics({f"{view.prefix}own": {"num_partitions": 7}}, wait_for_metadata=True)
        first = view.topic("orders")
        view.close()
        lease.close()
        lease, view = self.sealed(**partitions)
        self.assertEqual(view.topic("orders"), first)
        self.assertEqual(values(view, "orders"), [])
        self.assertNotIn(f"{view.prefix}own", view.admin.list_topics())

    def test_names_that_kafka_takes_for_one_are_different_in_different_tests(self) -> None:
        lease, view = self.sealed(codec="text")
        for name in ("user.created", "user_created", "user.created"):
            view.queue.send(name, name)
            self.assertEqual(view.queue.receive(name)[0].value, name)
            view = self.next_test(lease)

    def test_what_this_test_or_the_baseline_has_is_not_deleted_for_such_a_name(self) -> None:
        lease = self.lease()
        lease.view.queue.send("user.created", b"ann")
        lease.seal()
        for _ in range(2):
            view = self.next_test(lease)
            view.queue.send("order.paid", b"1")
            for name in ("user_created", "order_paid"):
                with self.assertRaisesRegex(ItestError, f"creating topic {view.prefix}{name} .* collides with"):
                    view.queue.send(name, b"x")
            self.assertEqual((values(view, "user.created"), values(view, "order.paid")), ([b"ann"], [b"1"]))
            lease.put_aside("tests.OrderTest.test_order", mock.Mock())  # From now on it has another prefix.
            self.server.give_prefix(view.prefix)

    def test_the_baselines_topic_comes_back_where_a_test_has_made_one_of_such_a_name(self) -> None:
        lease = self.lease()
        lease.view.queue.send("user.created", b"ann")
        lease.seal()
        view = self.next_test(lease)
        self.server.topics.delete([view.topic("user.created")])
        view.queue.send("user_created", b"bob")
        view = self.next_test(lease)
        self.assertEqual(values(view, "user.created"), [b"ann"])

    def test_the_next_class_may_have_such_a_name(self) -> None:
        partitions = {"partitions": 8}  # No other test here has that many.
        lease, view = self.sealed(**partitions)
        view.queue.send("user.created", b"ann")
        view.close()
        lease.close()
        lease, view = self.sealed(**partitions)
        view.queue.send("user_created", b"bob")
        view = self.next_test(lease)
        self.assertEqual(values(view, "user_created"), [])
        self.assertNotIn(f"{view.prefix}user.created", self.server.topics.all())

    def check_settings(self, view: KafkaView, expected: dict[tuple[str, str], str]) -> None:
        """Of topics and settings; the broker knows of a change a moment after it said so."""
        config = clients.package("kafka.admin")
        asked = [config.ConfigResource(config.ConfigResourceType.TOPIC, view.prefix + name) for name, _ in expected]
        deadline = Deadline.after(10)
        while True:
            told = view.admin.describe_configs(asked, config_filter="all")["topic"]
            found = {at: told[view.prefix + at[0]].get(at[1], {}).get("value") for at in expected}
            if found == expected or deadline.passed:
                break
            deadline.pause(0.01)
        self.assertEqual(found, expected)

    def test_topics_that_are_made_anew_have_the_settings_of_the_set_up(self) -> None:
        for isolation in ("records", "prefix"):
            with self.subTest(isolation):
                lease = self.lease(isolation=isolation)
                names = [f"{lease.prefix}{name}" for name in ("grown", "deleted")]
                new = {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}}
                lease.view.admin.create_topics(dict.fromkeys(names, new), wait_for_metadata=True)
                self.alter(lease.view, "large", "max.message.bytes", "3000000")
                expected = {
                    ("grown", "cleanup.policy"): "compact",
                    ("deleted", "cleanup.policy"): "compact",
                    ("large", "max.message.bytes"): "3000000",
                }
                self.check_settings(lease.view, expected)
                lease.seal()
                view = self.next_test(lease)
                self.check_settings(view, expected)
                view.admin.create_partitions({view.topic("grown"): 3})
                self.server.topics.delete([view.topic("deleted"), view.topic("large")])
                self.check_settings(self.next_test(lease), expected)
                lease.close()

    def test_the_next_class_does_not_get_what_was_altered(self) -> None:
        for settings in ({"partitions": 6}, {"prefix": "altered-", "partitions": 6}):
            with self.subTest(**settings):
                lease, view = self.sealed(topics={"small": 1, "more": 1, "same": 1}, **settings)
                names = [view.topic(name) for name in ("small", "more", "same")]
                self.addCleanup(self.server.topics.delete, names)
                ids = {name: topic.id for name, topic in self.server.topics.all().items()}
                view.queue.send("small", b"x" * 500)
                self.alter(view, "small", "max.message.bytes", "100")
                view.admin.create_partitions({names[1]: 3})
                view.close()
                lease.close()
                lease, view = self.sealed(topics={"small": 1, "more": 1, "same": 1}, **settings)
                topics = self.server.topics.all()
                self.assertEqual([view.topic(name) for name in ("small", "more", "same")], names)
                self.assertEqual([topics[name].id == ids[name] for name in names], [False, False, True])
                self.assertEqual([len(topics[name].leaders) for name in names], [1, 1, 1])
                view.queue.send("small", b"x" * 500)
                lease.close()

    def test_settings_that_refuse_the_baseline_are_undone(self) -> None:
        config = clients.package("kafka.admin")
        lease = self.lease(topics={"orders": 2})
        self.alter(lease.view, "orders", "max.message.bytes", "1000000")
        lease.view.queue.send("orders", b"x" * 1000, key="k")
        lease.view.queue.send("mail", b"one")
        lease.seal()
        view = self.next_test(lease)
        view.queue.send("orders", b"mine", key="k")
        view.queue.send("mail", b"mine")
        self.alter(view, "orders", "max.message.bytes", "100")
        view = self.next_test(lease)
        self.assertEqual((values(view, "orders"), values(view, "mail")), ([b"x" * 1000], [b"one"]))
        self.check_settings(view, {("orders", "max.message.bytes"): "1000000"})
        view.queue.send("mail", b"mine")
        broker = str(view.admin.describe_cluster()["brokers"][0]["broker_id"])
        resource = config.ConfigResource(config.ConfigResourceType.BROKER, broker, configs={"message.max.bytes": "10"})
        view.admin.alter_configs([resource])
        view = self.next_test(lease)
        self.assertEqual((values(view, "orders"), values(view, "mail")), ([b"x" * 1000], [b"one"]))

    def test_what_is_left_at_the_end_of_a_class_has_no_records(self) -> None:
        lease = self.lease()
        lease.view.queue.send("baseline", b"one")
        lease.seal()
        view = self.next_test(lease)
        view.queue.send("orders", b"mine")
        parts = [part for name in ("baseline", "orders") for part in self.server.topics.partitions(view.topic(name))]
        lease.close()
        topics = self.server.topics
        self.assertEqual(topics.start_offsets(parts), topics.end_offsets(parts))

    def test_nor_an_apps_own_topics(self) -> None:
        for settings in ({}, {"prefix": ""}):
            with self.subTest(**settings):
                lease, view = self.sealed(**settings)
                new = {"num_partitions": 2, "configs": {"max.message.bytes": "100"}}
                view.admin.create_topics({"by-app": new}, wait_for_metadata=True)
                view = self.next_test(lease)
                self.assertIn("by-app", self.server.topics.all())
                lease.close()
                self.assertNotIn("by-app", self.server.topics.all())

    def test_two_classes_at_a_time_do_not_meet(self) -> None:
        (one, first), (_, second) = self.sealed(), self.sealed(owner="tests.OtherTest")
        first.queue.send("orders", b"1")
        second.queue.send("orders", b"2")
        self.next_test(one)
        self.assertEqual(values(second, "orders"), [b"2"])

    def test_a_group_is_another_one_in_each_test(self) -> None:
        lease = self.lease()
        lease.view.queue.send("orders", b"one")
        lease.seal()
        groups = set()
        for _ in range(2):
            view = self.next_test(lease)
            groups.add(view.group("billing"))
            consumer = view.consumer("orders", group_id="billing")
            self.assertEqual([record.value for batch in consumer.poll(10_000).values() for record in batch], [b"one"])
            consumer.commit()
            view.close()
        self.assertEqual(len(groups), 2)
        lease.close()
        self.assertFalse(groups.intersection(group["group_id"] for group in view.admin.list_groups()))

    def test_what_a_view_handed_out_is_closed_with_it(self) -> None:
        _, view = self.sealed()
        before = {thread for thread in threading.enumerate() if "kafka" in thread.name}
        producer, consumer = view.producer(), view.consumer("orders", group_id="billing")
        producer.send(view.topic("orders"), b"x").get(10)
        consumer.poll(100)
        view.close()
        deadline = Deadline.after(20)
        while {thread for thread in threading.enumerate() if "kafka" in thread.name} - before and not deadline.passed:
            deadline.pause(0.01)
        self.assertEqual({thread for thread in threading.enumerate() if "kafka" in thread.name} - before, set())

    def test_a_compacted_topic_is_emptied_and_stays_one(self) -> None:
        lease = self.lease()
        names = [f"{lease.prefix}compacted", "app-compacted"]
        self.addCleanup(self.server.topics.delete, names)
        new = {"num_partitions": 2, "configs": {"cleanup.policy": "compact"}}
        lease.view.admin.create_topics(dict.fromkeys(names, new), wait_for_metadata=True)
        lease.view.queue.send("compacted", b"one", key="k")
        lease.seal()
        for _ in range(2):
            view = self.next_test(lease)
            self.assertEqual(values(view, "compacted"), [b"one"])
            for name in names:
                view.producer().send(name, b"mine", key=b"k").get(10)
        view = self.next_test(lease)
        part = clients.package().TopicPartition
        parts = [part("app-compacted", number) for number in range(2)]
        self.assertEqual(view.consumer().beginning_offsets(parts), view.consumer().end_offsets(parts))
        config = clients.package("kafka.admin")
        asked = [config.ConfigResource(config.ConfigResourceType.TOPIC, name) for name in names]
        told = view.admin.describe_configs(asked)["topic"]
        self.assertEqual({told[name]["cleanup.policy"]["value"] for name in names}, {"compact"})
        trips = self.enterContext(self.trips())
        self.next_test(lease)
        self.assertEqual(trips.call_count, 1)
        lease.close()
        self.sealed()  # The next class.

    def test_a_compacted_topic_whose_policy_may_not_be_altered_is_an_error_that_says_what_to_do(self) -> None:
        lease, view = self.sealed()
        name = f"{view.prefix}compacted"
        view.admin.create_topics({name: {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}}})
        self.addCleanup(self.server.topics.delete, [name])
        view.queue.send("compacted", b"x", key="k")
        refused = {"topic": {name: "TopicAuthorizationFailedError"}}
        with (
            mock.patch.object(self.server.admin, "alter_configs", return_value=refused),
            self.assertRaisesRegex(
                ResetError, "PolicyViolation.*; records of a compacted topic cannot be deleted, and"
            ),
        ):
            self.next_test(lease)

    def test_a_topic_that_a_test_has_compacted_is_emptied(self) -> None:
        lease, view = self.sealed()
        view.queue.send("later", b"1")
        view = self.next_test(lease)
        self.alter(view, "later", "cleanup.policy", "compact")
        self.addCleanup(self.server.topics.delete, [view.topic("later")])
        for _ in range(2):
            view.queue.send("later", b"2", key="k")
            view = self.next_test(lease)
            self.assertEqual(values(view, "later"), [])

    def test_transactions_work(self) -> None:
        _, view = self.sealed()
        topic = view.topic("orders")
        producer = view.producer(transactional_id=f"{view.prefix}transaction")
        producer.init_transactions()
        for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
            producer.begin_transaction()
            producer.send(topic, value)
            end()
        found: list[Any] = []
        deadline = Deadline.after(20)
        while not found and not deadline.passed:
            # A new consumer each time: the commit is answered before its marker is written, and one of kafka-python 3.0
            # that fetches in between has been seen (1 in 30 on a busy machine) never to get the record.
            consumer = view.consumer("orders", isolation_level="read_committed")
            found = [record.value for batch in consumer.poll(2000).values() for record in batch]
        self.assertEqual(found, [b"yes"])


class TransactionsTest(KafkaTest):
    def begun(self, view: KafkaView, name: str, value: bytes, producer: Any = None) -> Any:
        """A producer in a transaction in which it has sent this."""
        producer = producer or view.producer(transactional_id=f"{view.prefix}{value.decode()}")
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(view.topic(name), value).get(10)
        return producer

    def committed(self, view: KafkaView, name: str) -> list[Any]:
        """What somebody gets who reads what is committed. A new consumer each time: on a busy machine one of kafka-python 3.0
        may never hear of its topic."""
        found: list[Any] = []
        deadline = Deadline.after(20)
        while not found and not deadline.passed:
            consumer = view.consumer(name, isolation_level="read_committed")
            found = [record.value for batch in consumer.poll(2000).values() for record in batch]
        return found

    def test_one_that_a_producer_of_the_test_left_open_is_aborted(self) -> None:
        lease, view = self.sealed()
        self.begun(view, "orders", b"open")
        with mock.patch("itest.leaks.report") as report:
            view.close()
            view = self.next_test(lease)
        view.queue.send("orders", b"new")
        self.assertEqual(self.committed(view, "orders"), [b"new"])
        report.assert_not_called()

    def test_one_that_an_app_left_open_is_aborted_and_reported(self) -> None:
        lease, view = self.sealed()
        theirs = clients.make("KafkaProducer", self.server.bootstrap_servers, transactional_id="theirs")
        self.addCleanup(theirs.close, 1)
        self.begun(view, "orders", b"open", theirs)
        others = self.lease()
        with mock.patch("itest.leaks.report") as report:
            self.next_test(others)
            report.assert_not_called()  # It is none of that class's.
            view = self.next_test(lease)
        report.assert_called_once_with(
            "tests.OrderTest.test_order left the transaction 'theirs' open, and it was aborted"
        )
        view.queue.send("orders", b"new")
        self.assertEqual(self.committed(view, "orders"), [b"new"])
        with self.assertRaises(clients.errors().KafkaError):
            theirs.commit_transaction()

    def test_one_that_is_about_to_end_is_waited_for(self) -> None:
        lease, view = self.sealed()
        producer = self.begun(view, "orders", b"ending")
        with mock.patch("itest.services.kafka.transactions.GRACE", 10), mock.patch("itest.leaks.report") as report:
            ending = threading.Timer(0.02, producer.commit_transaction)
            ending.start()
            self.addCleanup(ending.join, 10)
            view = self.next_test(lease)
        report.assert_not_called()
        self.assertEqual(values(view, "orders"), [])

    def test_what_was_aborted_was_never_produced(self) -> None:
        lease = self.lease()
        producer = self.begun(lease.view, "orders", b"aborted")
        producer.abort_transaction()
        producer.begin_transaction()
        producer.send(lease.view.topic("orders"), b"committed").get(10)
        producer.commit_transaction()
        self.assertEqual(lease.view.queue.receive("orders", timeout=10)[0].value, b"committed")
        self.begun(lease.view, "orders", b"open")
        lease.seal()
        for _ in range(2):
            view = self.next_test(lease)
            self.assertEqual(self.committed(view, "orders"), [b"committed"])
            view.queue.send("orders", b"mine")

    def test_an_open_one_is_named_by_who_waits_for_what_it_holds_back(self) -> None:
        _, view = self.sealed()
        sent = view.queue.send("orders", b"before").offset
        self.begun(view, "orders", b"open")
        with self.assertRaisesRegex(
            ReceiveTimeout, rf"^1 of 2 .* ends at {sent + 2}, held back from {sent + 1} on by an open transaction\. "
        ):
            view.queue.receive("orders", count=2, timeout=0)


class PrefixTest(KafkaTest):
    def test_each_test_has_topics_of_its_own_with_offsets_from_0(self) -> None:
        lease = self.lease(isolation="prefix", partitions=2)
        lease.view.queue.send("orders", b"one", key="k")
        lease.view.topic("empty")
        lease.seal()
        names = set()
        for _ in range(2):
            view = self.next_test(lease)
            self.assertIn(f"{view.prefix}empty", view.admin.list_topics())
            self.assertEqual(view.queue.send("new", b"x").offset, 0)
            self.assertEqual([(record.offset, record.value) for record in everything(view, "orders")], [(0, b"one")])
            view.queue.send("orders", b"mine", key="k")
            names.add(view.topic("orders"))
        self.assertEqual(len(names), 2)
        lease.close()
        self.assertEqual([name for name in self.server.topics.all() if name.startswith(lease.prefix)], [])

    def test_an_apps_topics_are_left_alone(self) -> None:
        lease = self.lease(isolation="prefix")
        self.addCleanup(self.server.topics.delete, ["events"])
        lease.view.queue.send("orders", b"one")
        lease.view.producer().send("events", b"by the app").get(10)
        lease.seal()
        for _ in range(2):
            view = self.next_test(lease)
            self.assertEqual(values(view, "orders"), [b"one"])
            part = clients.package().TopicPartition("events", 0)
            self.assertEqual(view.consumer().end_offsets([part]), {part: 1})


class TopicsTest(KafkaTest):
    """Topics that a declaration has made ahead."""

    def partitions(self, view: KafkaView, name: str) -> int:
        return len(self.server.topics.all()[view.prefix + name].leaders)

    def test_they_are_there_with_their_numbers_of_partitions_in_each_test(self) -> None:
        for isolation in ("records", "prefix"):
            with self.subTest(isolation):
                lease, view = self.sealed(isolation=isolation, topics={"orders": 3, "mail": 1}, partitions=2)
                for _ in range(2):
                    self.assertEqual([self.partitions(view, name) for name in ("orders", "mail")], [3, 1])
                    self.assertEqual(values(view, "orders"), [])
                    for number in range(3):
                        view.producer().send(view.topic("orders"), b"x", partition=number).get(10)
                    view.topic("other")
                    self.assertEqual(self.partitions(view, "other"), 2)
                    view = self.next_test(lease)
                lease.close()

    def test_a_class_that_wants_other_numbers_does_not_get_the_topics_of_another(self) -> None:
        for number in (3, 2, 3):
            lease, view = self.sealed(topics={"orders": number})
            self.assertEqual(self.partitions(view, "orders"), number)
            lease.close()

    def test_under_fixed_names_they_are_made_anew(self) -> None:
        self.addCleanup(self.server.topics.delete, ["plain"])
        for number in (3, 2, 4):
            lease, view = self.sealed(prefix="", topics={"plain": number})
            self.assertEqual(self.partitions(view, "plain"), number)
            for key in range(30):  # To each of its partitions, as they are now.
                view.queue.send("plain", b"x", key=b"%d" % key)
            messages = view.queue.receive("plain", 30)
            self.assertEqual({message.partition for message in messages}, {*range(number)})
            self.assertEqual(values(self.next_test(lease), "plain"), [])
            lease.close()

    def test_one_that_the_test_makes_anew_with_other_numbers_of_partitions(self) -> None:
        new = clients.package("kafka.admin").NewTopic
        _, view = self.sealed(topics={"mine": 3})
        name = view.topic("mine")
        for number in (1, 2):
            view.queue.send("mine", b"x")
            view.admin.delete_topics([name])
            self.eventually(lambda: name not in view.admin.list_topics())
            view.admin.create_topics([new(name, number, 1)])
            self.eventually(lambda: all(not each["error_code"] for each in view.admin.describe_topics([name])))
            for key in range(10):
                view.queue.send("mine", b"x", key=b"%d" % key)

    def eventually(self, condition: Callable[[], bool]) -> None:
        deadline = Deadline.after(10)
        while not condition():
            self.assertFalse(deadline.passed)
            deadline.pause(0.01)

    def test_topics_with_two_underscores_are_left_alone(self) -> None:
        lease, view = self.sealed()
        new = clients.package("kafka.admin").NewTopic("__schemas", 1, 1, topic_configs={"cleanup.policy": "compact"})
        view.admin.create_topics([new])
        self.addCleanup(self.server.admin.delete_topics, ["__schemas"])
        view.producer().send("__schemas", key=b"k", value=b"schema").get(10)
        view = self.next_test(lease)
        consumer = view.consumer()
        part = clients.package().TopicPartition("__schemas", 0)
        self.assertEqual(consumer.end_offsets([part]), {part: 1})

    def test_what_is_not_ours_is_not_replaced(self) -> None:
        self.server.topics.ensure(["theirs"], 1)
        self.addCleanup(self.server.topics.delete, ["theirs"])
        self.lease(isolation="none", topics={"theirs": 1})
        with self.assertRaises(DeclarationError) as caught:
            self.lease(isolation="none", topics={"theirs": 3})
        self.assertEqual(
            str(caught.exception),
            f"the topic 'theirs' is there already on {self.server}, with 1 partitions where topics= says 3; correct that "
            f"number, or use another prefix",
        )


class AdminTest(KafkaTest):
    def test_one_that_a_test_or_its_app_closes_is_there_for_the_next_test(self) -> None:
        lease, view = self.sealed()
        for _ in range(2):
            with view.admin as admin:
                self.assertIn(view.topic("orders"), admin.list_topics())
            admin.close()
            self.assertIs(view.admin, admin)
            view = self.next_test(lease)
        lease.close()


class BrokersSettingsTest(KafkaTest):
    def test_what_a_test_altered_is_undone_when_its_class_ends(self) -> None:
        first = self.server.footprint()
        config = clients.package("kafka.admin")
        broker = str(self.server.admin.describe_cluster()["brokers"][0]["broker_id"])
        lease, view = self.sealed()
        view.admin.alter_configs(
            [config.ConfigResource(config.ConfigResourceType.BROKER, broker, configs={"message.max.bytes": "100"})]
        )
        request = clients.package("kafka.protocol.admin.configs").IncrementalAlterConfigsRequest
        of_all = request.AlterConfigsResource(
            resource_type=4,
            resource_name="",
            configs=[request.AlterConfigsResource.AlterableConfig("message.max.bytes", 0, "200")],
        )
        manager = self.server.admin._manager
        manager.run(manager.send, request(resources=[of_all], validate_only=False))
        deadline = Deadline.after(10)
        while self.server.footprint() == first and not deadline.passed:
            deadline.pause(0.01)
        self.assertNotEqual(self.server.footprint(), first)
        lease.close()
        self.assertEqual(self.server.footprint(), first)
        _, view = self.sealed()
        view.queue.send("orders", b"x" * 1000)

    def test_a_record_that_is_too_large_by_one_of_them(self) -> None:
        config = clients.package("kafka.admin")
        broker = str(self.server.admin.describe_cluster()["brokers"][0]["broker_id"])
        lease, view = self.sealed()
        view.queue.send("orders", b"x")
        altered = config.ConfigResource(config.ConfigResourceType.BROKER, broker, configs={"message.max.bytes": "1000"})
        view.admin.alter_configs([altered])
        deadline = Deadline.after(10)
        with self.assertRaisesRegex(ItestError, r"\. The broker's message\.max\.bytes, which a test has set, is 1000$"):
            while not deadline.passed:  # It is in effect a moment after it was answered.
                view.queue.send("orders", b"x" * 2000)
        lease.close()


class NamesTest(KafkaTest):
    def test_an_empty_prefix_leaves_the_names_as_an_app_has_them(self) -> None:
        lease, view = self.sealed(prefix="")
        self.addCleanup(self.server.topics.delete, ["plain"])
        self.assertEqual(view.topic("plain"), "plain")
        view.producer().send("plain", b"by the app").get(10)
        self.assertEqual(view.queue.receive("plain")[0].value, b"by the app")
        view = self.next_test(lease)
        self.assertEqual(values(view, "plain"), [])
        self.assertRegex(view.group("billing"), r"^billing-\d+$")

    def test_a_prefix_or_name_of_its_own_may_begin_as_ours_do(self) -> None:
        other, names = self.lease(), ["itest-shop-orders", "itest-orders"]
        other.view.queue.send("orders", b"theirs")
        self.addCleanup(self.server.topics.delete, names)
        for prefix, name in (("itest-shop-", "orders"), ("", "itest-orders")):
            lease, view = self.sealed(prefix=prefix)
            view.queue.send(name, b"mine")
            self.assertEqual(values(self.next_test(lease), name), [])
            lease.close()
        self.assertEqual(values(other.view, "orders"), [b"theirs"])

    def test_physical_names_are_taken_wherever_others_are(self) -> None:
        self.addCleanup(self.server.topics.delete, ["shop-orders"])
        for settings in ({}, {"isolation": "prefix"}, {"prefix": "shop-"}, {"prefix": "shop-", "isolation": "none"}):
            with self.subTest(**settings):
                lease, view = self.sealed(topics={"orders": 2}, **settings)
                physical, group = view.topic("orders"), view.group("billing")
                self.assertEqual((view.topic(physical), view.group(group)), (physical, group))
                for name in ("orders", physical):
                    view.queue.send(name, b"x")
                self.assertEqual([each.topic for each in view.queue.receive(physical, count=2)], [physical] * 2)
                batches = view.consumer(physical, group_id=group).poll(10_000)
                self.assertEqual({where.topic for where in batches}, {physical})
                self.assertEqual(len(self.server.topics.all()[physical].leaders), 2)
                lease.close()

    def test_a_name_that_is_no_text(self) -> None:
        _, view = self.sealed()
        wrong: Any = ["orders", "mail"]
        with self.assertRaises(TypeError) as caught:
            view.consumer(wrong)
        self.assertEqual(
            str(caught.exception),
            "a topic is named by a str, not list (['orders', 'mail']); several, for a consumer, are arguments of their own: "
            "consumer('orders', 'mail')",
        )
        with self.assertRaisesRegex(TypeError, r"^headers must be a dict, .* or pairs of name and value, not "):
            view.queue.send("orders", b"x", headers=wrong)
        wrong = b"orders"
        for call in (
            lambda: view.queue.send(wrong, b"x"),
            lambda: view.queue.receive(wrong),
            lambda: view.topic(wrong),
        ):
            with self.assertRaisesRegex(TypeError, r"^a topic is named by a str, not bytes \(b'orders'\)"):
                call()

    def test_a_group_without_a_name(self) -> None:
        _, view = self.sealed()
        wrong: Any = 5
        with self.assertRaisesRegex(TypeError, r"^a group is named by a str, not int \(5\)$"):
            view.group(wrong)
        with self.assertRaisesRegex(ValueError, "^'' cannot be a group: give it a name"):
            view.group("")

    def test_none_undoes_nothing(self) -> None:
        lease, view = self.sealed(isolation="none")
        self.addCleanup(self.server.topics.delete, ["kept"])
        view.queue.send("kept", b"x")
        view = self.next_test(lease)
        self.assertEqual(view.queue.receive("kept")[0].value, b"x")
        self.assertEqual((view.topic("kept"), view.group("billing")), ("kept", "billing"))


class AppsGroupsTest(KafkaTest):
    """The groups that apps make for themselves end with the class: their apps have ended, mostly without leaving them."""

    def joined(self, lease: KafkaLease, group: str) -> Any:
        consumer = clients.package().KafkaConsumer(
            lease.topic(lease.prefix, "orders"), bootstrap_servers=self.server.bootstrap_servers, group_id=group
        )
        self.addCleanup(consumer.close, autocommit=False, timeout_ms=1000)
        deadline = Deadline.after(10)
        while not consumer.assignment() and not deadline.passed:
            consumer.poll(1000)
        return consumer

    def groups(self) -> set[str]:
        return {each["group_id"] for each in self.server.groups()}

    def test_those_that_read_its_topics_or_have_its_prefix(self) -> None:
        lease, other = self.lease(), self.lease(owner="tests.OtherTest")
        self.joined(lease, "warehouse")
        self.joined(lease, f"{lease.prefix}mail")
        theirs = self.joined(other, "theirs")
        lease.close()
        self.assertEqual(self.groups() & {"warehouse", f"{lease.prefix}mail", "theirs"}, {"theirs"})
        self.assertTrue(theirs.assignment())

    def test_all_where_nobody_else_uses_the_server(self) -> None:
        lease = self.lease()
        make = clients.package().TopicPartition
        consumer = clients.package().KafkaConsumer(bootstrap_servers=self.server.bootstrap_servers, group_id="by hand")
        self.addCleanup(consumer.close, autocommit=False, timeout_ms=1000)
        consumer.assign([make(lease.topic(lease.prefix, "orders"), 0)])
        consumer.seek_to_beginning()
        consumer.position(make(lease.topic(lease.prefix, "orders"), 0))
        consumer.commit()
        self.assertIn("by hand", self.groups())
        lease.close()
        self.assertNotIn("by hand", self.groups())


class EvidenceTest(KafkaTest):
    """The groups that a failing test is told of."""

    def setUp(self) -> None:
        super().setUp()
        self.by_range: Any = clients.package("kafka.coordinator.assignors.range").RangePartitionAssignor

    def assertTold(self, line: str, assignor: Any) -> None:
        """Of an app's consumer that gets its partitions by this assignor."""
        lease, view = self.sealed(topics={"orders": 1})
        view.queue.send("orders", b"book")
        view.group("never used")
        consumer = clients.package().KafkaConsumer(
            view.topic("orders"),
            bootstrap_servers=view.bootstrap_servers,
            group_id="warehouse",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=[assignor],
        )
        self.addCleanup(self.server.admin.delete_groups, ["warehouse"])
        with contextlib.closing(consumer):
            deadline = Deadline.after(10)
            while not re.fullmatch(line, lease.evidence(0).lines[-1]) and not deadline.passed:
                consumer.poll(1000)
                consumer.commit()
            topic, group = lease.evidence(0).lines
            self.assertRegex(topic, "^topic orders: 1 record, ")
            self.assertRegex(group, f"^{line}$")

    def test_an_apps_own_that_reads_the_tests_topics(self) -> None:
        self.assertTold(r"group warehouse: stable, 1 member; orders-0 at \d+, lag 0", self.by_range)

    def test_a_topic_without_the_prefix_is_told_from_that_with_it(self) -> None:
        lease, view = self.sealed(topics={"orders": 1})
        producer = view.producer()
        self.addCleanup(self.server.topics.delete, ["orders"])
        producer.send("orders", b"book").get(10)  # In place of view.topic("orders").
        told = [line.partition(", ")[0] for line in lease.evidence(0).lines]
        self.assertLess({"topic orders: empty", "topic orders (without this class's prefix): 1 record"}, {*told, ""})

    def test_a_group_that_reads_a_topic_without_the_prefix(self) -> None:
        lease, view = self.sealed(topics={"orders": 1})
        self.addCleanup(self.server.topics.delete, ["orders"])
        view.producer().send("orders", b"book").get(10)
        make = clients.package().TopicPartition
        with contextlib.closing(view.consumer(group_id="worker")) as consumer:
            consumer.assign([make("orders", 0)])
            consumer.position(make("orders", 0))
            consumer.commit()
            told = [line for line in lease.evidence(0).lines if line.startswith("group ")]
        self.assertEqual(
            told,
            [
                "group worker: empty, 0 members; orders-0 (without this class's prefix) at 0, lag 1; it reads orders without "
                "this class's prefix: tell it {kafka.prefix}orders, or declare Kafka(prefix='')"
            ],
        )

    def test_one_that_is_beyond_the_end_of_a_topic_that_was_made_anew(self) -> None:
        lease, view = self.sealed(topics={"orders": 1})
        package = clients.package()
        part = package.TopicPartition(view.topic("orders"), 0)
        consumer = view.consumer(group_id="worker")
        consumer.assign([part])
        consumer.commit({part: package.OffsetAndMetadata(28, "", -1)})
        self.server.topics.delete([part.topic])
        view.topic("orders")
        view.queue.send("orders", b"x")
        consumer.commit({part: package.OffsetAndMetadata(28, "", -1)})
        self.assertEqual(
            lease.evidence(0).lines[-1],
            "group worker: empty, 0 members; orders-0 at 28, which is beyond the topic's end at 1 (it was made anew)",
        )

    def test_the_broker_may_be_loading_them(self) -> None:
        loading = clients.errors().CoordinatorLoadInProgressError()
        lease, view = self.sealed(topics={"orders": 1})
        view.queue.send("orders", b"book")
        with mock.patch.object(self.server.admin, "list_groups", side_effect=[loading, []]):
            self.assertEqual(self.server.groups(), [])
        refused = clients.errors().GroupAuthorizationFailedError()
        with mock.patch.object(self.server.admin, "list_groups", side_effect=refused):
            topic, groups = lease.evidence(0).lines
        self.assertRegex(topic, "^topic orders: 1 record, ")
        self.assertRegex(groups, "^listing the groups on Kafka at .* failed: GroupAuthorizationFailedError")

    def test_one_that_was_given_nothing(self) -> None:
        make = clients.package("kafka.protocol.consumer.metadata").ConsumerProtocolAssignment

        class Nothing(self.by_range):  # type: ignore[misc, name-defined]
            def assign(self, cluster: Any, members: Any) -> Any:
                return {each.member_id: make(0, [], b"") for each in members}

        self.assertTold(
            "group warehouse: stable, 1 member, none of which was given a partition of orders; nothing committed",
            Nothing,
        )


class ExternalTest(KafkaTest):
    """The same broker, taken for somebody else's."""

    def external(self) -> KafkaServer:
        service = Kafka()
        spec = service.external_spec(self.server.bootstrap_servers, "TEST_KAFKA")
        instance = ExternalEngine().start(spec, {}, Deadline.after(30), Recorder())
        server = service.connect(instance, spec.url)
        self.addCleanup(server.close)
        return server

    def test_only_what_we_made_is_emptied_and_deleted(self) -> None:
        _, other = self.sealed(isolation="none")
        self.addCleanup(self.server.topics.delete, ["theirs"])
        other.queue.send("theirs", b"theirs")
        other.consumer("theirs", group_id="their-group").poll(10_000)
        other.close()
        before = set(self.server.topics.all())
        for settings in ({}, {"isolation": "prefix"}, {"prefix": ""}, {"prefix": "shop-"}):
            with self.subTest(**settings):
                lease = self.lease(self.external(), **settings)
                lease.view.queue.send("orders", b"one")
                lease.seal()
                for _ in range(2):
                    view = self.next_test(lease)
                    self.assertEqual(values(view, "orders"), [b"one"])
                    view.queue.send("orders", b"mine")
                    view.producer().send(f"{view.prefix}extra", b"x").get(10) if view.prefix == lease.prefix else None
                    view.consumer("orders", group_id="billing").poll(10_000)
                    view.close()
                lease.close()
                left = set(self.server.topics.all()) - before
                self.server.topics.delete(left)
                # What an app made under a prefix that is not ours alone may be anybody's.
                self.assertEqual(left, {f"{settings['prefix']}extra"} if "prefix" in settings else set())
                self.assertEqual(values(other, "theirs"), [b"theirs"])
                other.close()
                groups = [group["group_id"] for group in self.server.admin.list_groups()]
                self.assertIn("their-group", groups)
                self.assertEqual([name for name in groups if "billing" in name], [])

    def test_a_topic_that_was_there_before_is_said_to_be_used_as_it_is(self) -> None:
        server = self.external()
        self.server.topics.ensure(["shop-theirs", "shop-ahead"], 1)
        self.addCleanup(self.server.topics.delete, ["shop-theirs", "shop-ahead"])
        with said() as lines:
            for settings in ({"prefix": "shop-", "topics": {"ahead": 1}}, {"prefix": ""}, {}):
                lease, view = self.sealed(server, **settings)
                view.producer().send(f"{view.prefix}app", b"x").get(10) if not settings else None
                for name in ("shop-theirs", "mine", "app"):
                    view.queue.send(name, b"x")
                    view.queue.receive(name)
                lease.close()
        before = f"was on {server} before: tests use it as it is, and its records are not emptied"
        self.assertEqual(lines, [f"the topic {name!r} {before}" for name in ("shop-ahead", "shop-theirs")])

    def test_a_topic_that_may_not_be_deleted_is_an_error(self) -> None:
        server = self.external()
        refused = {"topics": [{"name": "orders", "error_code": 73, "error_message": None}]}
        with (
            mock.patch.object(server.admin, "delete_topics", return_value=refused),
            self.assertRaisesRegex(ItestError, r"^deleting topic orders on Kafka at \S+ failed: TopicDeletionDisabled"),
        ):
            server.topics.delete(["orders"])

    def test_a_topic_that_comes_back_is_an_error(self) -> None:
        server = self.external()
        server.topics.ensure(["undying"], 1)
        self.addCleanup(server.topics.delete, ["undying"])
        with (
            mock.patch.object(server.admin, "delete_topics", return_value={"topics": []}),
            mock.patch("itest.services.kafka.topics.VANISH_WAIT", 0.05),
            self.assertRaisesRegex(
                ItestError, r"^topic undying on Kafka at \S+ is listed still 0.05 s after being deleted; a client"
            ),
        ):
            server.topics.delete(["undying"])

    def test_its_version_is_what_it_speaks(self) -> None:
        self.assertRegex(self.external().version, r"^Kafka \(speaks the protocol of \d+\.\d+")

    def test_one_that_cannot_be_reached_is_named_soon(self) -> None:
        config = Config(quiet=True, kafka_bootstrap_servers="127.0.0.1:9")
        elsewhere = Session(config, [])
        self.addCleanup(elsewhere.close)
        self.enterContext(mock.patch("itest.starting.EXTERNAL_TIMEOUT", 2.0))
        deadline = Deadline.after(60)
        with self.assertRaises(ExternalError) as caught:
            elsewhere.lend(Kafka())
        self.assertIn("127.0.0.1:9", str(caught.exception))
        self.assertIn("ITEST_KAFKA_", str(caught.exception))
        self.assertLess(deadline.elapsed, 10)


class EndTest(KafkaTest):
    def test_a_broker_that_dies_delays_nothing(self) -> None:
        server = session.lend(Kafka(), "dying")
        assert isinstance(server, KafkaServer)
        lease = self.lease(server)
        lease.view.queue.send("orders", b"x")
        lease.seal()
        view = self.next_test(lease)
        producer, _ = view.producer(), view.consumer("orders", group_id="billing").poll(1000)
        producer.send(view.topic("orders"), b"x").get(10)
        self.enterContext(warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)
        self.addCleanup(close_sockets, open_sockets())
        self.enterContext(mock.patch("itest.services.kafka.queue.ACK_WAIT", 1.0))
        server.instance.stop()
        with (
            self.within(6),
            self.assertRaisesRegex(
                ItestError, r"^sending to topic 'orders' .* on Kafka at \S+ failed: .*; the broker has ended \(removed"
            ),
        ):
            view.queue.send("orders", b"x")
        with self.within(6), self.assertRaisesRegex(ItestError, "the broker has ended"):
            view.queue.receive("orders", timeout=0.5)
        producer.send(view.topic("orders"), b"never")
        with self.within(6):
            view.close()
        with (
            self.within(6),
            self.assertRaisesRegex(
                ResetError, "back to the class's baseline before tests.OrderTest.test_order: .*the broker has ended"
            ),
        ):
            self.next_test(lease)
        with self.within(6):
            lease.close()
            session.take_back(server)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        deadline = Deadline.after(seconds)
        yield
        self.assertFalse(deadline.passed, f"it took {deadline.elapsed:.1f} s")

    def test_at_the_end_of_the_process_what_its_clients_log_into_a_closed_stream_is_no_error(self) -> None:
        code = (
            "import io, logging\n"
            "from itest import ContainerTestCase, KafkaMixin\n"
            "class T(KafkaMixin, ContainerTestCase):\n"
            "    def test(self): self.queue.send('orders', b'x')\n"
            "logging.basicConfig(stream=io.StringIO(), level=logging.INFO)\n"
            "T('test').debug()\n"
            "logging.root.handlers[0].stream.close()\n"  # As pytest does it; the session is closed after that.
        )
        servers = self.server.bootstrap_servers
        with mock.patch.dict(os.environ, ITEST_KAFKA_BOOTSTRAP_SERVERS=servers, ITEST_QUIET="1"):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_there_is_no_view_outside_of_a_test_case(self) -> None:
        class Plain:
            kafka = Kafka()

        with self.assertRaises(NotStarted):
            Plain().kafka  # noqa: B018
