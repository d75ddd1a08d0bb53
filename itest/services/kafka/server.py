# SPDX-License-Identifier: Apache-2.0
"""A running broker: its long-lived clients, the prefixes it lends, and what is known of its topics."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from itest import naming
from itest.clock import Deadline
from itest.engines import Instance
from itest.errors import ItestError
from itest.service import Server, Service
from itest.services.kafka import clients
from itest.services.kafka.recipes import INTERNAL_PORT

if TYPE_CHECKING:
    from itest.services.kafka.lease import KafkaLease
    from itest.services.kafka.view import KafkaView

OURS = "itest-"
"""What each prefix that we choose begins with."""

TOPIC_WAIT = 10.0
"""Seconds in which a new topic must have a leader for each partition. It takes milliseconds, seconds on a busy machine
(https://github.com/twmb/franz-go/issues/1430)."""

ACK_WAIT = 10.0
"""Seconds in which a record that was sent must be acknowledged."""

CLOSE_WAIT = 1.0
"""Seconds to close the producer: what it sent was waited for, so there is nothing left in it."""


class Partition(NamedTuple):
    """A partition of a topic; equal to kafka-python's TopicPartition, which is the same tuple."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it. `leaders` are the ids of the brokers that lead its partitions."""

    id: str
    leaders: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """A partition as a reset left it: its topic's id, its first offset, and the offset that the next record gets."""

    id: str
    start: int
    end: int


class KafkaServer(Server["KafkaView"]):
    """A running Kafka broker, or an external cluster."""

    def __init__(self, title: str, kind: str, instance: Instance, address: str) -> None:
        super().__init__(title, kind, instance)
        self.bootstrap_servers = address
        self.owned = instance.owned
        self.marks: dict[Partition, Mark] = {}
        self.consuming = threading.Lock()
        """Held while the consumer is used: unlike the other clients it is for one thread at a time."""
        self.numbers = itertools.count(1)
        self._run = naming.session_id()[:8]
        self._known: dict[str, tuple[int, ...]] = {}
        self._created: set[str] = set()
        self._leased: list[str] = []
        self._idle: dict[object, list[str]] = {}
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._meter_knows: frozenset[Any] = frozenset()
        self._version = ""
        self._internal = ""

    @property
    def version(self) -> str:
        """By the broker's own log; by the protocol it speaks where there is none (external servers)."""
        if not self._version:
            found = re.findall(r"Kafka version: (\S+)", self.instance.logs()) if self.owned else []
            self._version = f"Apache Kafka {found[-1]}" if found else self._spoken()
        return self._version

    @property
    def internal_bootstrap_servers(self) -> str:
        """The address for other containers on a network of the broker's container."""
        if not self._internal:
            self._internal = self.bootstrap_servers
            if self.owned and not _is_process(self.instance):
                host = self.instance.exec(["cat", "/etc/hostname"]).stdout.strip()
                self._internal = f"{host}:{INTERNAL_PORT}"
        return self._internal

    def lease(self, service: Service[KafkaView], owner: str) -> KafkaLease:
        from itest.services.kafka import Kafka
        from itest.services.kafka.lease import KafkaLease

        assert isinstance(service, Kafka)
        return KafkaLease(self, service)

    def close(self) -> None:
        with self._lock:
            made, self._clients = self._clients, {}
        for name, client in made.items():
            with contextlib.suppress(Exception):
                client.close(**({"timeout": CLOSE_WAIT} if name == "producer" else {}))

    # Clients. Long-lived, because a new one costs 5 to 100 ms.

    @property
    def admin(self) -> Any:
        return self._client("admin", clients.admin)

    @property
    def producer(self) -> Any:
        return self._client("producer", clients.producer)

    @property
    def consumer(self) -> Any:
        return self._client("consumer", clients.consumer)

    @property
    def _meter(self) -> Any:
        # Only asks for offsets. Not the other consumer, whose connection may have a fetch waiting in front.
        return self._client("meter", clients.consumer)

    def _client(self, name: str, make: Callable[[str], Any]) -> Any:
        with self._lock:
            if name not in self._clients:
                self._clients[name] = make(self.bootstrap_servers)
            return self._clients[name]

    # Prefixes.

    def take_prefix(self, wanted: str | None, kind: object) -> str:
        """A prefix that no other class has: `wanted`, or one of our own.

        One that was given back under the same `kind` comes first, since its topics exist already.
        """
        with self._lock:
            idle = self._idle.get(kind)
            if wanted is not None and wanted in self._leased:
                raise ItestError(f"two declarations with prefix={wanted!r} use {self} at once; give one another")
            prefix = wanted
            if prefix is None:
                prefix = idle.pop() if idle else f"{OURS}{self._run}-{next(self.numbers)}-"
            self._leased.append(prefix)
            return prefix

    def give_prefix(self, prefix: str, kind: object = None) -> None:
        """Give it back. With a `kind`, others who ask for that may have it, with its topics."""
        with self._lock:
            self._leased.remove(prefix)
            if kind is not None:
                self._idle.setdefault(kind, []).append(prefix)

    @property
    def alone(self) -> bool:
        """Whether one class only uses the server now."""
        return len(self._leased) == 1

    # Topics.

    def topics(self) -> dict[str, Topic]:
        """All topics there are, without those of Kafka itself."""
        with self.doing("listing the topics"):
            found = {
                entry["name"]: Topic(
                    str(entry.get("topic_id")),
                    {part["partition_index"]: part["leader_id"] for part in entry["partitions"]},
                )
                for entry in self.admin.describe_topics()
                if not (entry["is_internal"] or entry["name"].startswith("__") or entry["error_code"])
            }
        with self._lock:
            self._known = {name: tuple(topic.leaders) for name, topic in found.items()}
            self._created &= found.keys()
        return found

    def ensure(self, names: Iterable[str], partitions: int) -> set[str]:
        """Have topics of these names, with a leader for each partition. Returns those that did not exist before."""
        missing = [name for name in names if name not in self._known]
        if not missing:
            return set()
        with self.doing(f"creating {_listed(missing)}"):
            wanted = {name: {"num_partitions": partitions} for name in missing}
            answer = self.admin.create_topics(wanted, raise_errors=False)
            created = set()
            for topic in answer["topics"]:
                error = clients.errors().for_code(topic["error_code"])
                if error is clients.errors().NoError:
                    created.add(topic["name"])
                elif error is not clients.errors().TopicAlreadyExistsError:
                    raise error(topic.get("error_message") or topic["name"])
            with self._lock:
                self._created |= created
            self._await(missing)
        return created

    def exists(self, name: str) -> bool:
        """Whether there is such a topic, asking the broker unless it is known."""
        return name in self._known or name in self.topics()

    def created(self, name: str) -> bool:
        """Whether we created it, for anybody."""
        return name in self._created

    def partitions(self, name: str) -> list[Partition]:
        """The partitions of a topic that exists."""
        return [Partition(name, number) for number in self._known[name]]

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics in one call; those that are gone already do not matter."""
        names = list(names)
        if names:
            with self.doing(f"deleting {_listed(names)}"):
                self.admin.delete_topics(names, raise_errors=False)
                with self._lock:
                    for name in names:
                        self._known.pop(name, None)

    def delete_groups(self, mine: Callable[[str], bool]) -> None:
        """Delete groups in one call. Those that still have members stay; the broker forgets them after a while."""
        with self.doing("deleting groups"):
            found = [name for group in self.admin.list_groups() if mine(name := group["group_id"])]
            if found:
                self.admin.delete_groups(found)

    # Records.

    def assigned(self, starts: Mapping[Partition, int]) -> Any:
        """The consumer, to poll records of these partitions alone, from these offsets. Hold `consuming` meanwhile."""
        make = clients.package().TopicPartition
        consumer = self.consumer
        consumer.assign([make(*partition) for partition in starts])
        for partition, offset in starts.items():
            consumer.seek(make(*partition), offset)
        return consumer

    def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record of each partition will get."""
        make = clients.package().TopicPartition
        wanted = frozenset(make(*partition) for partition in partitions)
        if not wanted:
            return {}
        with self.doing("asking for end offsets"):
            found = self._metered(wanted)
            if found is None:
                latest = clients.package("kafka.admin").OffsetSpec.LATEST
                offsets = self.admin.list_partition_offsets(dict.fromkeys(wanted, latest))
                found = {partition: answer.offset for partition, answer in offsets.items()}
        return {Partition(*partition): offset for partition, offset in found.items()}

    def _metered(self, wanted: frozenset[Any]) -> dict[Any, int] | None:
        """The end offsets by one request instead of two, by a client that remembers who leads which partition.

        None for partitions that it did not know before: it learns of them meanwhile. (Asked for those it does not
        know, kafka-python 3.0 leaves them out and fails with a KeyError.)
        """
        known, self._meter_knows = self._meter_knows, wanted
        if known != wanted:
            self._meter.assign(list(wanted))
            return None
        with contextlib.suppress(KeyError):
            return self._meter.end_offsets(list(wanted))  # type: ignore[no-any-return]  # kafka-python is imported at the last moment
        return None

    def delete_records(self, leaders: Mapping[Partition, int]) -> dict[Partition, int]:
        """Delete all records of these partitions; `leaders` are the ids of the brokers that lead them.

        Returns the new first offsets. Offsets go on from there: they never start again.
        """
        make = clients.package().TopicPartition
        leader = set(leaders.values())
        with self.doing(f"deleting the records of {_listed({partition.topic for partition in leaders})}"):
            found = self.admin.delete_records(
                {make(*partition): -1 for partition in leaders},
                # Without it the client asks for the leaders first, which takes as long as the deletion itself.
                partition_leader_id=leader.pop() if len(leader) == 1 else None,
            )
        return {Partition(*partition): result["low_watermark"] for partition, result in found.items()}

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Have an error of the client say what was being done, and where."""
        try:
            yield
        except (clients.errors().KafkaError, OSError) as error:
            reason = naming.shorten(naming.mask(f"{type(error).__name__}: {error}"), 300)
            raise ItestError(f"{what} on {self} failed: {reason}") from error

    def __str__(self) -> str:
        return f"Kafka at {self.bootstrap_servers}"

    def _await(self, names: list[str]) -> None:
        """Wait until each partition of new topics has a leader: the answer to the creation comes before that."""
        deadline = Deadline.after(TOPIC_WAIT)
        pause = 0.001
        while True:
            found = {entry["name"]: entry for entry in self.admin.describe_topics(names)}
            waiting = [name for name in names if not _has_leaders(found.get(name))]
            with self._lock:
                for name in set(names).difference(waiting):
                    self._known[name] = tuple(part["partition_index"] for part in found[name]["partitions"])
            if not waiting:
                return
            if deadline.passed:
                raise ItestError(
                    f"{_listed(waiting)} on {self} got no leader within {TOPIC_WAIT:g} s after being created; "
                    f"the broker's log says why"
                )
            deadline.pause(pause)
            pause = min(pause * 2, 0.1)

    def _spoken(self) -> str:
        with contextlib.suppress(Exception):
            broker = self.admin.describe_cluster()["brokers"][0]["broker_id"]
            numbers = self.admin.get_broker_version_data(broker).broker_version
            return f"Kafka (speaks the protocol of {'.'.join(map(str, numbers))})"
        return "Kafka"


def _has_leaders(entry: Mapping[str, Any] | None) -> bool:
    return bool(
        entry
        and not entry["error_code"]
        and entry["partitions"]
        and all(part["leader_id"] >= 0 and not part["error_code"] for part in entry["partitions"])
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"topic{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def _is_process(instance: Instance) -> bool:
    """Only there the controller has a port of the machine, see recipes.py."""
    try:
        instance.endpoint("controller")
    except KeyError:
        return False
    return True
