# SPDX-License-Identifier: Apache-2.0
"""Requests in one round trip, without a broker: who is asked what, and what is made of the answers."""

from __future__ import annotations

import asyncio
import contextlib
import unittest
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from unittest import mock

from itest.services.kafka import clients
from itest.services.kafka.round_trip import Answers, Partition, Topic, ask
from itest.services.kafka.topics import Mark, Topics

ORDERS = Partition("orders", 0)


class Brokers:
    """Stands for kafka-python's connections. Answers when everything was sent, as if each answer took a while."""

    def __init__(self, answer: Callable[[int | None, Any], Any]) -> None:
        self._manager = self
        self.sent: list[tuple[int | None, Any]] = []
        self.trips = 0
        self._answer = answer

    def run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self.trips += 1
        return asyncio.run(function())

    def send(self, request: Any, node_id: int | None) -> int:
        self.sent.append((node_id, request))
        return len(self.sent) - 1

    async def wait_for(self, future: int, milliseconds: float) -> Any:
        assert 0 < milliseconds <= 10_000
        return self._answer(*self.sent[future])


def partitions(*answers: Any) -> Any:
    """An answer about partitions of topics, each by topic, partition and its further fields."""
    topics = [
        SimpleNamespace(name=topic, partitions=[SimpleNamespace(partition_index=number, error_code=code, **offset)])
        for topic, number, code, offset in answers
    ]
    return SimpleNamespace(topics=topics)


class AskTest(unittest.TestCase):
    def test_everything_is_sent_before_the_first_answer_is_awaited(self) -> None:
        def answer(broker: int | None, request: Any) -> Any:
            self.assertEqual(len(brokers.sent), 3)
            if broker is None:
                leaders = [SimpleNamespace(partition_index=0, leader_id=2)]
                ours = {"is_internal": False, "error_code": 0, "partitions": leaders, "topic_id": "id"}
                theirs = {"__theirs": {}, "internal": {"is_internal": True}, "going": {"error_code": 3}}
                topics = {"orders": ours, **{name: {**ours, **facts} for name, facts in theirs.items()}}
                return SimpleNamespace(topics=[SimpleNamespace(name=name, **facts) for name, facts in topics.items()])
            if request.name == "ListOffsetsRequest":
                return partitions(("orders", 0, 0, {"offset": 7}))
            return partitions(("mail", 3, 0, {"low_watermark": 9}))

        brokers = Brokers(answer)
        found = ask(brokers, topics=True, ends={Partition("orders", 0): 2}, delete={Partition("mail", 3): 2})
        self.assertEqual(found.topics, {"orders": Topic("id", {0: 2})})
        self.assertEqual(found.ends, {Partition("orders", 0): 7})
        self.assertEqual(found.starts, {Partition("mail", 3): 9})
        self.assertEqual((found.errors, brokers.trips), ({}, 1))

    def test_each_broker_is_asked_for_what_it_leads(self) -> None:
        leaders = {Partition("a", 0): 1, Partition("a", 1): 2, Partition("b", 0): 1, Partition("b", 5): 1}
        brokers = Brokers(lambda broker, request: partitions())
        ask(brokers, delete=leaders)
        self.assertEqual(
            [
                (
                    broker,
                    [(topic.name, [each.partition_index for each in topic.partitions]) for topic in request.topics],
                )
                for broker, request in brokers.sent
            ],
            [(1, [("a", [0]), ("b", [0, 5])]), (2, [("a", [1])])],
        )
        self.assertEqual({each.offset for _, it in brokers.sent for each in it.topics[0].partitions}, {-1})

    def test_errors_are_those_of_partitions(self) -> None:
        brokers = Brokers(lambda broker, request: partitions(("a", 0, 44, {"offset": -1}), ("b", 0, 0, {"offset": 5})))
        found = ask(brokers, ends={Partition("a", 0): 1, Partition("b", 0): 1, Partition("c", 0): -1})
        errors = clients.errors()
        self.assertEqual(found.ends, {Partition("b", 0): 5})
        self.assertEqual(
            found.errors,
            {Partition("a", 0): errors.PolicyViolationError, Partition("c", 0): errors.LeaderNotAvailableError},
        )
        with self.assertRaisesRegex(errors.KafkaError, r"the end of c \(partition 0\)"):
            found.check("the end of")

    def test_nothing_is_asked_for_nothing(self) -> None:
        brokers = Brokers(lambda broker, request: None)
        ask(brokers, ends={}, delete={})
        self.assertEqual(brokers.trips, 0)


class SurveyTest(unittest.TestCase):
    """One broker that tells what it is made to tell, and notes what it was asked."""

    def setUp(self) -> None:
        self.asked: list[tuple[list[Partition], list[Partition]]] = []
        self.answers: list[Answers] = []
        self.topics = Topics(mock.Mock(doing=lambda what: contextlib.nullcontext(), owned=True))
        self.enterContext(mock.patch("itest.services.kafka.topics.ask", self.ask))

    def ask(self, admin: Any, *, ends: Any = (), delete: Any = (), **other: Any) -> Answers:
        if not (ends or delete or other.get("topics")):
            return Answers()
        self.asked.append(([*ends], [*delete]))
        return self.answers.pop(0)

    def known(self, id: str = "1") -> None:
        self.answers.append(Answers(topics={"orders": Topic(id, {0: 1})}))
        self.topics.all()
        self.asked.clear()

    def survey(self, *answers: Answers, may_empty: bool = True) -> Any:
        self.answers += answers
        _, marks = self.topics.survey(lambda name: name == "orders", lambda partition: may_empty)
        return {partition: mark.end for partition, mark in marks.items()}

    def test_what_was_never_emptied_is_looked_at(self) -> None:
        """Not every topic may be: a compacted one, or one on somebody else's broker."""
        self.known()
        here = {"orders": Topic("1", {0: 1})}
        for mark in (None, Mark("1", 0, 0), Mark("another", 5, 5)):
            if mark:
                self.topics.marks[ORDERS] = mark
            self.assertEqual(self.survey(Answers(here, ends={ORDERS: 3})), {ORDERS: 3})
            self.assertEqual((self.asked.pop(), self.topics.marks.get(ORDERS)), (([ORDERS], []), mark))

    def test_where_a_partition_begins_is_asked_if_it_may_not_be_emptied(self) -> None:
        self.known()
        self.topics.marks[ORDERS] = Mark("1", 5, 8)
        self.answers.append(Answers({"orders": Topic("1", {0: 1})}, ends={ORDERS: 8}, starts={ORDERS: 7}))
        _, marks = self.topics.survey(lambda name: name == "orders")
        self.assertEqual((marks, self.topics.marks), ({ORDERS: Mark("1", 7, 8)}, {ORDERS: Mark("1", 5, 8)}))

    def test_what_was_emptied_is_emptied_again_unless_it_may_not_be(self) -> None:
        self.known()
        here = {"orders": Topic("1", {0: 1})}
        self.topics.marks[ORDERS] = Mark("1", 5, 5)
        self.assertEqual(self.survey(Answers(here, ends={ORDERS: 6}), may_empty=False), {ORDERS: 6})
        self.assertEqual(self.survey(Answers(here, starts={ORDERS: 7})), {ORDERS: 7})
        self.assertEqual(self.asked, [([ORDERS], []), ([], [ORDERS])])
        self.assertEqual(self.topics.marks[ORDERS], Mark("1", 7, 7))

    def test_answers_about_a_topic_that_was_made_anew_do_not_count(self) -> None:
        self.known()
        self.topics.marks[ORDERS] = Mark("1", 5, 5)
        anew = Answers({"orders": Topic("2", {0: 1}), "theirs": Topic("3", {0: 1})}, starts={ORDERS: 7})
        self.assertEqual(self.survey(anew, Answers(ends={ORDERS: 2})), {ORDERS: 2})
        self.assertEqual(self.asked, [([], [ORDERS]), ([ORDERS], [])])
        self.assertEqual(self.topics.marks[ORDERS], Mark("1", 5, 5))

    def test_what_had_no_answer_is_asked_again(self) -> None:
        self.known()
        error: dict[Partition, type[Exception]] = {ORDERS: clients.errors().NotLeaderForPartitionError}
        moved = Answers({"orders": Topic("1", {0: 2})}, errors=error)
        self.assertEqual(self.survey(moved, Answers(ends={ORDERS: 2})), {ORDERS: 2})
        with self.assertRaises(clients.errors().NotLeaderForPartitionError):
            self.survey(moved, Answers(errors=error))

    def test_transactions_are_asked_for_where_there_ever_was_one(self) -> None:
        with mock.patch("itest.services.kafka.topics.ask") as ask:
            for internal, asked in (
                (set(), [False]),
                ({"__transaction_state"}, [False, True]),
                ({"__transaction_state"}, [True]),
            ):
                ask.return_value = Answers(internal=internal, transactions={"shop"} if internal else set())
                ask.reset_mock()
                self.topics.all()
                self.assertEqual([call.kwargs["transactions"] for call in ask.call_args_list], asked)
                self.assertEqual(self.topics.transactions, {"shop"} if internal else set())

    def test_a_topic_that_is_gone_is_none(self) -> None:
        self.known()
        error: dict[Partition, type[Exception]] = {ORDERS: clients.errors().UnknownTopicOrPartitionError}
        self.assertEqual(self.survey(Answers(errors=error)), {})


if __name__ == "__main__":
    unittest.main()
