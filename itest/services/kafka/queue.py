# SPDX-License-Identifier: Apache-2.0
"""Send and receive, as a test wants it: `send` waits until the record is there, `receive` until it has enough."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from itest import naming
from itest.arguments import bytes_of, text_of
from itest.clock import Deadline
from itest.errors import ItestError, ReceiveTimeout
from itest.services.kafka import clients, configs
from itest.services.kafka.round_trip import Partition
from itest.services.kafka.server import ACK_WAIT, KafkaServer

EVIDENCE_WAIT = 2.0
"""Seconds that finding out more for an error's text may take, and reading what is there when the time is over."""

LAST_POLL = 0.02
"""Seconds of each attempt to read what is there when the time is over."""

CHANGE_WAIT = 0.5
"""Seconds after which a record that is not acknowledged may be one for a partition that is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record that was received. `topic` is named as in the test, `timestamp` is in seconds since 1970.

    `value` is what the codec makes of the record: bytes, str or an object; `key` is bytes, or str with the codecs text
    and json. A record without a value (a tombstone) or key has None. `headers` have the last of those with the same name,
    `header_pairs` all of them in their order.
    """

    value: Any
    key: Any = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp: float = 0.0
    header_pairs: tuple[tuple[str, bytes], ...] = ()


class Queue:
    """The topics of one test. Topics are named as in the test and created at their first mention."""

    def __init__(self, server: KafkaServer, codec: str, topic: Callable[[str], str]) -> None:
        self._server = server
        self._codec = codec
        self._topic = topic
        self._positions: dict[tuple[str, Partition], int] = {}
        """Where the next `receive` goes on, by the topic's id too: a test may make one anew."""
        self._passed_over: dict[tuple[str, str], list[Message]] = {}
        """By a topic's id and its name."""

    def topic(self, name: str) -> str:
        """The physical name of a topic, which is created if need be."""
        return self._topic(name)

    def send(
        self,
        topic: str,
        value: Any,
        key: str | bytes | None = None,
        headers: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None = None,
    ) -> Any:
        """Send a record and wait, for at most 10 s, until the broker has it. `headers` are a dict, or pairs, among which a name
        may come again.

        Returns kafka-python's RecordMetadata with `partition` and `offset`. Raises TypeError for a value that the
        codec does not take, and for a key or headers of another type.
        """
        record = {
            "value": encode(self._codec, value),
            "key": None if key is None else bytes_of("key", key),
            "headers": _pairs(headers or ()),
        }
        physical = self.topic(topic)
        try:
            with self._server.doing(f"sending to topic {topic!r} (waited up to {ACK_WAIT:g} s)"):
                sent = self._sent(physical, record)
        except ItestError as error:
            if isinstance(error.__cause__, clients.errors().MessageSizeTooLargeError):
                raise ItestError(f"{error}. {self._larger(physical)}") from error
            if self._is_gone(physical):
                raise ItestError(
                    f"{error}. There is no topic {physical} any more: it was deleted after its first mention; "
                    f"create it again, or name another"
                ) from error
            raise
        if sent.offset < self._start(Partition(physical, sent.partition)):
            self._server.topics.all()  # It was made anew: offsets never go back. From now on it has another id.
        return sent

    def _larger(self, topic: str) -> str:
        """What has the broker take larger records."""
        own = self._server.topics.settings([topic]).get(topic, {}).get("max.message.bytes")
        if own is not None:
            return f"The topic's own max.message.bytes is {own}"
        for settings in configs.of_broker(self._server).values() if self._server.owned else ():
            if "message.max.bytes" in settings:
                return f"The broker's message.max.bytes, which a test has set, is {settings['message.max.bytes']}"
        return "Let the broker take more: env={'KAFKA_MESSAGE_MAX_BYTES': ...}"

    def _sent(self, topic: str, record: Mapping[str, Any]) -> Any:
        deadline = Deadline.after(ACK_WAIT)
        topics, producer = self._server.topics, self._server.producer_for(topic)
        partitions = topics.partitions(topic)
        future = producer.send(topic, **record)
        try:
            return future.get(timeout=CHANGE_WAIT)
        except clients.errors().KafkaTimeoutError:
            with contextlib.suppress(ItestError):  # The broker itself may not answer; then the record tells.
                topics.all(EVIDENCE_WAIT)
            if topics.partitions(topic) != partitions:  # The test itself has made the topic anew.
                self._server.give_up(producer)
                producer = self._server.producer
                future = producer.send(topic, **record)
        try:
            return future.get(timeout=deadline.remaining)
        except clients.errors().KafkaTimeoutError:
            self._server.give_up(producer)  # It would hold on to this record, and to all that come after it.
            raise

    def receive(self, topic: str, count: int = 1, timeout: float = 5.0) -> list[Message]:
        """The next `count` messages of a topic, from where the last `receive` of this test ended.

        The first one starts at the beginning: the records of the class's baseline, then those of this test. No
        consumer group is involved, and of transactions what they have committed is received. Raises ReceiveTimeout, which is
        a failed assertion, when fewer arrive within `timeout` seconds; those that did arrive can then be received again.
        What is there when the time is over is received in any case: with `timeout=0`, what is there now.
        """
        if type(count) is not int or count < 1:
            raise ValueError(f"count={count!r}: a whole number of messages can be waited for, at least 1")
        deadline = Deadline.after(timeout)
        physical = self.topic(topic)
        deadline.begin_anew()
        starts, ends, messages = self._read(topic, physical, count, deadline)
        if len(messages) < count and self._is_changed(physical):  # By the test, since it was listed last.
            starts, ends, messages = self._read(topic, physical, count, deadline)
        if len(messages) < count:
            raise self._too_few(topic, physical, count, timeout, messages, starts)
        id = self._server.topics.id(physical)
        self._positions.update({(id, partition): end for partition, end in ends.items()})
        return messages

    def passed_over(self, topic: str) -> list[Message]:
        """What `assertProduced` has received from a topic and has not given to anybody, the oldest first. The list is kept: what
        is put into it is there the next time."""
        physical = self.topic(topic)
        return self._passed_over.setdefault((self._server.topics.id(physical), physical), [])

    def _read(
        self, topic: str, physical: str, count: int, deadline: Deadline
    ) -> tuple[dict[Partition, int], dict[Partition, int], list[Message]]:
        """Where the partitions were read from, up to where, and at most `count` messages."""
        starts = {partition: self._start(partition) for partition in self._server.topics.partitions(physical)}
        ends = dict(starts)
        messages: list[Message] = []
        with self._server.doing(f"receiving from topic {topic!r}"), self._server.consuming(starts) as consumer:

            def poll(seconds: float) -> None:
                batches = consumer.poll(int(seconds * 1000), max_records=count - len(messages))
                for batch in batches.values():
                    messages.extend(decode(self._codec, topic, record) for record in batch)
                    ends[Partition(physical, batch[-1].partition)] = batch[-1].offset + 1

            while len(messages) < count and not deadline.passed:
                poll(deadline.remaining)
            if len(messages) < count:
                there, rest = self._ends(starts), Deadline.after(EVIDENCE_WAIT)
                while len(messages) < count and not rest.passed and _is_behind(consumer, there):
                    poll(LAST_POLL)
        return starts, ends, messages

    def _ends(self, partitions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Up to where there is something to read; nothing where that cannot be told."""
        try:
            return self._server.topics.end_offsets(partitions, EVIDENCE_WAIT, committed=True)
        except ItestError:
            return {}

    def _start(self, partition: Partition) -> int:
        id, mark = self._server.topics.id(partition.topic), self._server.topics.marks.get(partition)
        return self._positions.get((id, partition), mark.start if mark and mark.id == id else 0)

    def _is_changed(self, physical: str) -> bool:
        try:
            return self._server.topics.changed(physical, EVIDENCE_WAIT)
        except ItestError:
            return False

    def _is_gone(self, physical: str) -> bool:
        try:
            return physical not in self._server.topics.all(EVIDENCE_WAIT)
        except ItestError:
            return False

    def _too_few(
        self,
        topic: str,
        physical: str,
        count: int,
        timeout: float,
        messages: list[Message],
        starts: Mapping[Partition, int],
    ) -> ReceiveTimeout:
        hint = "Was the rest sent to another topic, or not flushed by its producer? If it only takes longer, raise timeout."
        try:
            ends = self._server.topics.end_offsets(starts, EVIDENCE_WAIT)
            firsts = self._server.topics.start_offsets(starts, EVIDENCE_WAIT)
            readable = self._ends(starts)
            places = ", ".join(
                _place(at, start, firsts[at], ends[at], readable.get(at, ends[at])) for at, start in starts.items()
            )
            hint = self._beside(topic, physical) or hint
        except ItestError as error:
            places = str(error)
        arrived = "; ".join(naming.shorten(repr(message.value), 80) for message in messages[:5])
        name = f"topic {topic!r}" if topic == physical else f"topic {topic!r} ({physical} on the broker)"
        looked = f"{places[:1].upper()}{places[1:]}. {hint}"
        return ReceiveTimeout(
            f"{len(messages)} of {count} message{'s' if count > 1 else ''} arrived on {name} within {round(timeout, 2):g} s"
            f"{': ' + arrived if arrived else ''}. {looked}",
            list(messages),
            looked,
        )

    def _beside(self, topic: str, physical: str) -> str:
        """The sentence for records that were sent by the test's name alone; on a server of others those may be anybody's."""
        partitions = self._server.topics.partitions(topic) if self._server.owned and topic != physical else []
        if not partitions:
            return ""
        ends = self._server.topics.end_offsets(partitions, EVIDENCE_WAIT)
        starts = self._server.topics.start_offsets(partitions, EVIDENCE_WAIT)
        if not (count := sum(ends.values()) - sum(starts.values())):
            return ""
        return (
            f"But {topic!r} without this class's prefix has {count}: a producer of your own sends to "
            f"self.kafka.topic({topic!r}), an app to {{kafka.prefix}}{topic}."
        )


def _place(partition: Partition, start: int, first: int, end: int, readable: int) -> str:
    gone = (
        f", but records before {first} were deleted, by the topic's retention or by somebody" if first > start else ""
    )
    held = f", held back from {readable} on by an open transaction" if readable < end else ""
    return f"partition {partition.partition} was read from offset {start} and ends at {end}{gone}{held}"


def _is_behind(consumer: Any, ends: Mapping[Partition, int]) -> bool:
    """Whether a consumer has not come to these ends of what it reads."""
    make = clients.package().TopicPartition
    return any(consumer.position(make(*partition)) < end for partition, end in ends.items())


def encode(codec: str, value: Any) -> bytes | None:
    """A value as a record's bytes; None stays None, a tombstone. Raises TypeError for what the codec does not take."""
    if value is None:
        return None
    if codec == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    if codec == "text" and isinstance(value, str):
        return value.encode()
    if codec == "bytes" and isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    wanted = {"bytes": "bytes", "text": "str"}[codec]
    raise TypeError(
        f"the codec {codec!r} takes {wanted}, not {type(value).__name__} ({value!r:.80}); "
        f"declare Kafka(codec='text') to send str, Kafka(codec='json') to send objects"
    )


def decode(codec: str, topic: str, record: Any) -> Message:
    """A record of kafka-python as a message. Raises ItestError for one that the codec cannot read."""
    value, key = record.value, record.key
    try:
        if codec != "bytes":
            key = None if key is None else key.decode()
            value = None if value is None else value.decode()
        if codec == "json" and value is not None:
            value = json.loads(value)
    except ValueError as error:
        raise ItestError(
            f"the record at offset {record.offset} of topic {topic!r} (partition {record.partition}) is no {codec}: "
            f"{error}; {naming.shorten(repr(record.value), 120)}"
        ) from error
    pairs = tuple(record.headers)
    return Message(
        value, key, dict(pairs), topic, record.partition, record.offset, record.timestamp / 1000, header_pairs=pairs
    )


def _pairs(headers: Any) -> list[tuple[str, bytes]]:
    """Headers as kafka-python takes them. Raises TypeError."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    pairs = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"headers must be a dict, {{'name': 'value'}}, or pairs of name and value, not {headers!r:.80}")
    return [(text_of("a header's name", name), bytes_of(f"the header {name!r}", text)) for name, text in pairs]
