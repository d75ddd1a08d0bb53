# SPDX-License-Identifier: Apache-2.0
"""The records that every test of a class finds: read once, and written again where a test's own have been deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from itest.clock import Deadline
from itest.errors import ItestError
from itest.services.kafka import clients
from itest.services.kafka.round_trip import Partition
from itest.services.kafka.server import ACK_WAIT, KafkaServer
from itest.services.kafka.topics import Mark

READ_WAIT = 30.0
"""Seconds that reading them may take."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the baseline. `timestamp` is in milliseconds since 1970."""

    partition: Partition
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int

    def moved(self, topic: str) -> Record:
        """The same in another topic."""
        return replace(self, partition=Partition(topic, self.partition.partition))


def read(server: KafkaServer, marks: Mapping[Partition, Mark]) -> dict[Partition, list[Record]]:
    """The records of partitions, from each mark's start to its end."""
    found: dict[Partition, list[Record]] = {}
    if not marks:
        return found
    make = clients.package().TopicPartition
    deadline = Deadline.after(READ_WAIT)
    starts = {partition: mark.start for partition, mark in marks.items()}
    with server.doing("reading the baseline"), server.consuming(starts) as consumer:
        while any(consumer.position(make(*partition)) < mark.end for partition, mark in marks.items()):
            if deadline.passed:
                raise ItestError(
                    f"the baseline's records on {server} could not be read within {READ_WAIT:g} s; is a transaction open?"
                )
            for where, batch in consumer.poll(timeout_ms=100).items():
                partition = Partition(*where)
                found.setdefault(partition, []).extend(
                    Record(partition, item.key, item.value, tuple(item.headers), item.timestamp) for item in batch
                )
    return found


def write(server: KafkaServer, records: Iterable[Record]) -> None:
    """Send them, and wait until the broker has them: where each partition ends then is its mark."""
    sent: list[tuple[Record, Any]] = []
    with server.doing("writing the baseline"):
        records = [*records]
        producer = server.producer_for(*{record.partition.topic for record in records})
        for record in records:
            future = producer.send(
                record.partition.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition.partition,
                timestamp_ms=record.timestamp,
            )
            sent.append((record, future))
        try:
            for record, future in sent:
                end = future.get(timeout=ACK_WAIT).offset + 1
                if mark := server.topics.marks.get(record.partition):
                    server.topics.marks[record.partition] = Mark(mark.id, mark.start, end)
        except clients.errors().BrokerResponseError:
            producer.flush(timeout=ACK_WAIT)  # What comes late would be there twice once all is written again.
            raise
