# SPDX-License-Identifier: Apache-2.0
"""Several requests in one round trip: which topics there are, how far each partition goes, and its records deleted.

kafka-python's own methods ask one thing at a time, and each answer costs a millisecond, most of it until threads of the
broker and of the client have woken up. What they are made of takes more at once: a connection on which the next request
waits already when the broker has answered the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from itest.clock import Deadline
from itest.services.kafka import clients
from itest.tuples import NamedTuple

ANSWER_WAIT = 10.0
"""Seconds in which a broker must answer."""


class Partition(NamedTuple):
    """A partition of a topic; equal to kafka-python's TopicPartition, which is the same tuple."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it. `leaders` are the ids of the brokers that lead its partitions, -1 for none."""

    id: str
    leaders: Mapping[int, int]


Errors: TypeAlias = dict[Partition, type[Exception]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the broker said. A partition that it did not do as it was told is in `errors`, by kafka-python's exceptions."""

    topics: dict[str, Topic] = field(default_factory=dict)
    """All there are, without those of Kafka itself and those that begin like them; empty if it was not asked."""
    ends: dict[Partition, int] = field(default_factory=dict)
    """The offset that the next record gets."""
    starts: dict[Partition, int] = field(default_factory=dict)
    """The first offset; where records were deleted it is the end too, as far as nobody has written since."""
    errors: Errors = field(default_factory=dict)
    internal: set[str] = field(default_factory=set)
    """The topics of Kafka itself."""
    transactions: set[str] = field(default_factory=set)
    """The transactional ids of those that are open."""
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    """Those that topics have of their own, in place of the broker's; of each that has some."""

    def check(self, what: str) -> None:
        """Raise what is wrong with one of the partitions."""
        for partition, error in self.errors.items():
            raise error(f"{what} {partition.topic} (partition {partition.partition})")

    def take_topics(self, response: Any) -> None:
        for topic in response.topics:
            if not (topic.is_internal or topic.name.startswith("__") or topic.error_code):
                leaders = {part.partition_index: part.leader_id for part in topic.partitions}
                self.topics[topic.name] = Topic(str(topic.topic_id), leaders)
            else:
                self.internal.add(topic.name)

    def take_transactions(self, response: Any) -> None:
        self.transactions.update(each.transactional_id for each in response.transaction_states)

    def take_ends(self, response: Any) -> None:
        self._take(response, self.ends, "offset")

    def take_starts(self, response: Any) -> None:
        self._take(response, self.starts, "offset")

    def take_deletion(self, response: Any) -> None:
        self._take(response, self.starts, "low_watermark")

    def take_configs(self, response: Any) -> None:
        source = int(clients.package("kafka.admin").ConfigSourceType.DYNAMIC_TOPIC_CONFIG)
        for topic in response.results:
            if own := {each.name: each.value for each in topic.configs or () if each.config_source == source}:
                self.settings[topic.resource_name] = own

    def _take(self, response: Any, offsets: dict[Partition, int], field: str) -> None:
        for topic in response.topics:
            for part in topic.partitions:
                partition = Partition(topic.name, part.partition_index)
                if part.error_code:
                    self.errors[partition] = clients.errors().for_code(part.error_code)
                else:
                    offsets[partition] = getattr(part, field)


def ask(
    admin: Any,
    *,
    topics: bool = False,
    transactions: bool = False,
    ends: Mapping[Partition, int] | None = None,
    starts: Mapping[Partition, int] | None = None,
    delete: Mapping[Partition, int] | None = None,
    configs: Iterable[str] = (),
    committed: bool = False,
    seconds: float = ANSWER_WAIT,
) -> Answers:
    """Have it all answered: the topics, the open transactions of a single broker, the ends and starts of partitions, the
    records of others deleted, and the settings that some topics have of their own. With `committed`, a partition ends
    where the first open transaction in it begins.

    Partitions are given with the ids of the brokers that lead them. Raises kafka-python's errors where a broker does not
    answer, also after that many seconds.
    """
    answers = Answers()
    requests: list[tuple[int | None, Any, Callable[[Any], None]]] = []
    if topics:
        requests.append((None, _all_topics(), answers.take_topics))
    if transactions:
        requests.append((None, _open_transactions(), answers.take_transactions))
    for leader, some in _by_leader(ends or {}, answers.errors):
        requests.append((leader, _offsets(some, "LATEST", committed), answers.take_ends))
    for leader, some in _by_leader(starts or {}, answers.errors):
        requests.append((leader, _offsets(some, "EARLIEST"), answers.take_starts))
    for leader, some in _by_leader(delete or {}, answers.errors):
        requests.append((leader, _deletion(some, seconds), answers.take_deletion))
    if configs:
        requests.append((None, _configs(configs), answers.take_configs))
    manager, deadline = admin._manager, Deadline.after(seconds)

    async def together() -> None:
        sent = [(manager.send(request, node_id=leader), take) for leader, request, take in requests]
        for future, take in sent:
            take(await manager.wait_for(future, deadline.remaining * 1000))

    if requests:
        manager.run(together)
    return answers


def _by_leader(leaders: Mapping[Partition, int], errors: Errors) -> Iterable[tuple[int, dict[str, list[int]]]]:
    """The partitions of each broker, by their topics. Those that nobody leads just now are errors."""
    found: dict[int, dict[str, list[int]]] = {}
    for partition, leader in leaders.items():
        if leader < 0:
            errors[partition] = clients.errors().LeaderNotAvailableError
        else:
            found.setdefault(leader, {}).setdefault(partition.topic, []).append(partition.partition)
    return found.items()


def _all_topics() -> Any:
    return clients.package("kafka.protocol.metadata").MetadataRequest(topics=None, allow_auto_topic_creation=False)


def _open_transactions() -> Any:
    request = clients.package("kafka.protocol.admin.transactions").ListTransactionsRequest
    return request(state_filters=["Ongoing"], producer_id_filters=[])


def _configs(topics: Iterable[str]) -> Any:
    package = clients.package("kafka.admin")
    request = clients.package("kafka.protocol.admin.configs").DescribeConfigsRequest
    resource, kind = request.DescribeConfigsResource, int(package.ConfigResourceType.TOPIC)
    return request(
        resources=[resource(resource_type=kind, resource_name=name, configuration_keys=None) for name in topics],
        include_synonyms=False,
        include_documentation=False,
    )


def _offsets(partitions: Mapping[str, Iterable[int]], which: str, committed: bool = False) -> Any:
    offsets = clients.package("kafka.protocol.consumer")
    topic = offsets.ListOffsetsRequest.ListOffsetsTopic
    return offsets.ListOffsetsRequest(
        isolation_level=int(committed),
        topics=[
            topic(
                name=name,
                partitions=[
                    topic.ListOffsetsPartition(partition_index=number, timestamp=offsets.OffsetSpec[which])
                    for number in numbers
                ],
            )
            for name, numbers in partitions.items()
        ],
    )


def _deletion(partitions: Mapping[str, Iterable[int]], seconds: float) -> Any:
    request = clients.package("kafka.protocol.admin").DeleteRecordsRequest
    topic = request.DeleteRecordsTopic
    return request(
        topics=[  # -1 is the end.
            topic(
                name=name,
                partitions=[topic.DeleteRecordsPartition(partition_index=number, offset=-1) for number in numbers],
            )
            for name, numbers in partitions.items()
        ],
        timeout_ms=int(seconds * 1000),
    )
