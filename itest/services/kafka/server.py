# SPDX-License-Identifier: Apache-2.0
"""A running broker: its long-lived clients and the prefixes it lends."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.clock import Deadline
from itest.engines import Instance, place_of
from itest.errors import ItestError, NotStarted
from itest.service import Server, Service
from itest.services.kafka import clients, configs
from itest.services.kafka.recipes import INTERNAL_PORT
from itest.services.kafka.round_trip import Partition
from itest.services.kafka.topics import Topics
from itest.silence import sentence

if TYPE_CHECKING:
    from itest.services.kafka.lease import KafkaLease
    from itest.services.kafka.view import KafkaView

_LENT = re.compile(r"itest-[0-9a-f]{8}-\d+-")
"""What each prefix looks like that we choose."""

ACK_WAIT = 10.0
"""Seconds in which a record that was sent must be acknowledged."""

GROUPS_WAIT = 5.0
"""Seconds in which the broker must be done loading its groups. It does so when the first one is used, in milliseconds."""

CLOSE_WAIT = 1.0
"""Seconds to close the producer: what it sent was waited for, so there is nothing left in it."""


VERSION_LINES = 50
"""Lines at the end of the log of a new broker that have its version in them: it logs that last of all, after a thousand."""


class KafkaServer(Server["KafkaView"]):
    """A running Kafka broker, or an external cluster."""

    routine = r"\b(INFO|DEBUG|TRACE)\b"

    def __init__(self, title: str, kind: str, instance: Instance, address: str) -> None:
        super().__init__(title, kind, instance)
        self.bootstrap_servers = address
        self.owned = instance.owned
        self.topics = Topics(self)
        self.numbers = itertools.count(1)
        self._run = naming.session_id()[:8]
        self.told: set[str] = set()
        """The topics of others of which was told that tests use them as they are."""
        self.open: set[KafkaLease] = set()
        """What classes have of it right now."""
        self._leased: dict[str, str] = {}
        """The prefixes that were taken, and the classes that have them."""
        self._idle: dict[object, list[str]] = {}
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._asked: dict[str, set[str]] = {}
        """The topics that each of them has been used for, and asks the broker about ever since."""
        self._consumers = (f"consumer {number}" for number in itertools.count(1))
        """Their names in `_clients`. Unlike the other clients each is for one thread at a time."""
        self._unused: list[str] = []
        """Those that no thread uses now."""
        self._closed = False
        self._version = ""
        self._internal = ""

    @property
    def version(self) -> str:
        """By the broker's own log; by the protocol it speaks where there is none (external servers)."""
        if not self._version:
            found = self._logged(VERSION_LINES) or self._logged(None) if self.owned else []
            self._version = f"Apache Kafka {found[-1]}" if found else self._spoken()
        return self._version

    @property
    def internal_bootstrap_servers(self) -> str:
        """The address for other containers on a network of the broker's container."""
        if not self._internal:
            self._internal = self.bootstrap_servers
            if self.owned and place_of(self.instance) is None:
                # What it advertises: the host name that Docker gives a container, which its networks know too.
                self._internal = f"{self.instance.id[:12]}:{INTERNAL_PORT}"
        return self._internal

    def lease(self, service: Service[KafkaView], owner: str) -> KafkaLease:
        from itest.services.kafka import Kafka
        from itest.services.kafka.lease import KafkaLease

        assert isinstance(service, Kafka)
        return KafkaLease(self, service, owner)

    def footprint(self) -> str:
        return naming.fingerprint(configs.of_broker(self))

    def clear(self) -> None:
        self.topics.delete(self.topics.all())
        self.delete_groups(lambda name: True)

    def close(self) -> None:
        if not self.owned:
            for lease in list(self.open):  # After Ctrl-C.
                with contextlib.suppress(ItestError):
                    lease.leave_nothing()
        with self._lock:
            self._closed = True
            made, self._clients = self._clients, {}
        for name, client in made.items():
            _close(name, client)

    # Clients. Long-lived, because a new one costs 5 to 100 ms.

    @property
    def admin(self) -> Any:
        return self._client("admin", clients.admin)

    @property
    def producer(self) -> Any:
        return self._client("producer", clients.producer)

    def producer_for(self, *topics: str) -> Any:
        """The producer; another one where it knows a topic as it was before it was made anew, with other partitions. By
        itself it would ask for them every five minutes, and what it sends to one that is gone waits in vain."""
        clients.check_time()
        producer = self._client("producer", clients.producer, topics)
        for topic in topics:
            partitions = self.topics.partitions(topic)
            if partitions and len(producer.partitions_for(topic)) != len(partitions):
                self.give_up(producer)
                return self.producer
        return producer

    def give_up(self, producer: Any) -> None:
        """Have another producer from now on. What this one has not sent yet is not sent any more."""
        with self._lock:
            if self._clients.get("producer") is producer:
                del self._clients["producer"]
                self._asked.pop("producer", None)
        _close("producer", producer)

    def forget(self, topics: Set[str]) -> None:
        """Close the clients that know one of these topics, which are gone: they would go on asking for it, without an end
        and as fast as they can. A consumer that a thread is just using stays."""
        with self._lock:
            idle = {"producer", *self._unused}
            names = [name for name, asked in self._asked.items() if name in idle and asked & topics]
            for name in names:
                del self._asked[name]
            stale = [(name, self._clients.pop(name)) for name in names if name in self._clients]
        for name, client in stale:
            _close(name, client)

    @contextlib.contextmanager
    def consuming(self, starts: Mapping[Partition, int]) -> Iterator[Any]:
        """A consumer that no other thread has meanwhile, to poll records of these partitions alone, from these offsets."""
        clients.check_time()
        make = clients.package().TopicPartition
        with self._lock:
            name = self._unused.pop() if self._unused else next(self._consumers)
        try:
            consumer = self._client(name, clients.consumer, {partition.topic for partition in starts})
            consumer.assign([make(*partition) for partition in starts])
            for partition, offset in starts.items():
                consumer.seek(make(*partition), offset)
            yield consumer
        finally:
            self._unused.append(name)

    def _client(self, name: str, make: Callable[[str], Any], topics: Iterable[str] = ()) -> Any:
        with self._lock:
            if self._closed:
                raise NotStarted(f"{self} was given back; a test that outlives its class cannot use it")
            if name not in self._clients:
                self._clients[name] = make(self.bootstrap_servers)
            self._asked.setdefault(name, set()).update(topics)
            return self._clients[name]

    # Prefixes.

    def take_prefix(self, wanted: str | None, kind: object, owner: str) -> str:
        """A prefix for the class named `owner` that no other declaration has: `wanted`, or one of our own.

        One that was given back under the same `kind` comes first, since its topics exist already.
        """
        with self._lock:
            idle = self._idle.get(kind)
            if wanted is not None and wanted in self._leased:
                raise ItestError(f"two declarations with prefix={wanted!r} use {self} at once; give one another")
            prefix = wanted
            if prefix is None:
                prefix = idle.pop() if idle else f"itest-{self._run}-{next(self.numbers)}-"
            self._leased[prefix] = owner
            return prefix

    def give_prefix(self, prefix: str, kind: object = None) -> None:
        """Give it back. With a `kind`, others who ask for that may have it, with its topics."""
        with self._lock:
            del self._leased[prefix]
            if kind is not None:
                self._idle.setdefault(kind, []).append(prefix)

    @property
    def alone(self) -> bool:
        """Whether one class only uses the server now, by one declaration or several."""
        return len(set(self._leased.values())) == 1 and not self.shared

    # Groups and records.

    def groups(self, seconds: float = GROUPS_WAIT) -> list[Any]:
        """The groups there are, as the broker lists them: not before it has loaded them."""
        deadline = Deadline.after(seconds)
        while True:
            try:
                with self.doing("listing the groups"):
                    return list(self.admin.list_groups())
            except ItestError as error:
                if deadline.passed or not isinstance(error.__cause__, clients.errors().CoordinatorLoadInProgressError):
                    raise
            deadline.pause(0.005)

    def delete_groups(self, mine: Callable[[str], bool]) -> list[str]:
        """Delete groups in one call. Returns those that stay, because they still have members."""
        found = [name for group in self.groups() if mine(name := group["group_id"])]
        with self.doing("deleting groups"):
            told = dict(self.admin.delete_groups(found)) if found else {}
        return [name for name, error in told.items() if error == "NonEmptyGroupError"]

    def end_members(self, group: str) -> int:
        """Put all members out of a group; how many there were."""
        with self.doing(f"ending the members of the group {group}"):
            members = self.admin.describe_groups([group])[group]["members"]
            make = clients.package("kafka.admin").MemberToRemove
            if members:
                self.admin.remove_group_members(group, [make(member_id=each["member_id"]) for each in members])
        return len(members)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Have an error of the client say what was being done, and where. Nothing more is asked of a broker that has
        stopped answering."""
        if self.silent:
            raise ItestError(self.silent)
        try:
            yield
        except (clients.errors().KafkaError, OSError) as error:
            reason = naming.shorten(f"{type(error).__name__}: {error}", 300)
            state = self.instance.state()
            if state.running and self._answers_nobody(error):
                self.silent = sentence(
                    f"{self.version} ({self.instance})",
                    f"does not answer within {clients.REQUEST_TIMEOUT // 1000} s",
                    ours=self.owned and not self.shared,
                )
                raise ItestError(f"{what} failed: {self.silent}") from error
            ended = "" if state.running else f"; the broker has ended ({state}), its log says why"
            raise ItestError(f"{what} on {self} failed: {reason}{ended}") from error

    def __str__(self) -> str:
        return f"Kafka at {self.bootstrap_servers}"

    def _answers_nobody(self, error: Exception) -> bool:
        """Whether a request was not answered in its time, by this error, nor is a bare one on a new connection."""
        errors = clients.errors()
        if isinstance(error, (errors.KafkaTimeoutError, errors.RequestTimedOutError)):
            try:
                clients.greet(self.bootstrap_servers)
            except OSError:
                return True
        return False

    def _logged(self, lines: int | None) -> list[str]:
        """The version, each time that it stands in these last lines of the log."""
        return re.findall(r"Kafka version: (\S+)", self.instance.logs(tail=lines))

    def _spoken(self) -> str:
        with contextlib.suppress(Exception):
            broker = self.admin.describe_cluster()["brokers"][0]["broker_id"]
            numbers = self.admin.get_broker_version_data(broker).broker_version
            return f"Kafka (speaks the protocol of {'.'.join(map(str, numbers))})"
        return "Kafka"


def _close(name: str, client: Any) -> None:
    with contextlib.suppress(Exception):
        if name == "producer":
            clients.close_producer(client, CLOSE_WAIT)
        else:
            client.close()


def is_lent(name: str) -> bool:
    """Whether a topic of this name lies under a prefix that we chose, for a class of this run or of another."""
    return _LENT.match(name) is not None
