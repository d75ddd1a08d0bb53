# SPDX-License-Identifier: Apache-2.0
"""The topics of a broker: which there are, how far each goes, and what the last reset left in them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from itest.clock import Deadline
from itest.errors import ItestError
from itest.services.kafka import clients

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer

LEADER_WAIT = 10.0
"""Seconds in which a new topic must have a leader for each partition. It takes milliseconds, seconds on a busy machine
(https://github.com/twmb/franz-go/issues/1430)."""

VANISH_WAIT = 5.0
"""Seconds in which a topic that was deleted must be gone from the listing too. It takes milliseconds: the broker that is
asked hears of it from the controller after the deletion was answered."""


NAMES = "letters, digits, '.', '_' and '-' are what the name of a topic is made of"

NAME_LIMIT = 249
"""Characters that Kafka allows in the name of a topic."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def is_name(name: str) -> bool:
    """Whether Kafka allows a topic of that name."""
    return _NAME.fullmatch(name) is not None and len(name) <= NAME_LIMIT


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


class Topics:
    """What is known of the topics of one server. Everything but `marks` may be used by several threads."""

    def __init__(self, server: KafkaServer) -> None:
        self.marks: dict[Partition, Mark] = {}
        self._server = server
        self._known: dict[str, tuple[int, ...]] = {}
        self._created: set[str] = set()
        self._metered_before: frozenset[Any] = frozenset()
        self._lock = threading.Lock()

    def all(self) -> dict[str, Topic]:
        """All topics there are, without those of Kafka itself."""
        with self._server.doing("listing the topics"):
            found = {
                entry["name"]: Topic(
                    str(entry.get("topic_id")),
                    {part["partition_index"]: part["leader_id"] for part in entry["partitions"]},
                )
                for entry in self._server.admin.describe_topics()
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
        with self._server.doing(f"creating {_listed(missing)}"):
            wanted = {name: {"num_partitions": partitions} for name in missing}
            answer = self._server.admin.create_topics(wanted, raise_errors=False)
            created = {}
            for topic in answer["topics"]:
                error = clients.errors().for_code(topic["error_code"])
                if error is clients.errors().NoError:
                    created[topic["name"]] = topic.get("topic_id")
                elif error is not clients.errors().TopicAlreadyExistsError:
                    raise error(topic.get("error_message") or topic["name"])
            with self._lock:
                self._created |= created.keys()
            self._await(missing, created)
        return set(created)

    def exists(self, name: str) -> bool:
        """Whether there is such a topic, asking the broker unless it is known."""
        return name in self._known or name in self.all()

    def created(self, name: str) -> bool:
        """Whether we created it, for anybody."""
        return name in self._created

    def partitions(self, name: str) -> list[Partition]:
        """The partitions of a topic that exists."""
        return [Partition(name, number) for number in self._known[name]]

    def delete(self, names: Iterable[str]) -> None:
        """Delete topics in one call, and return when they are listed no more. Those that are gone already do not matter.

        Raises ItestError for one that may not be deleted.
        """
        names = [*names]
        if names:
            with self._server.doing(f"deleting {_listed(names)}"):
                answer = self._server.admin.delete_topics(names, raise_errors=False)
                with self._lock:
                    for name in names:
                        self._known.pop(name, None)
                for topic in answer["topics"]:
                    error = clients.errors().for_code(topic["error_code"])
                    if error not in (clients.errors().NoError, clients.errors().UnknownTopicOrPartitionError):
                        raise error(topic.get("error_message") or topic["name"])
                self._await_end(names)

    def end_offsets(self, partitions: Iterable[Partition], seconds: float = 10.0) -> dict[Partition, int]:
        """The offset that the next record of each partition will get. Raises ItestError after that many seconds."""
        make = clients.package().TopicPartition
        wanted = frozenset(make(*partition) for partition in partitions)
        if not wanted:
            return {}
        with self._server.doing("asking for end offsets"):
            milliseconds = int(seconds * 1000)
            found = self._metered(wanted, milliseconds)
            if found is None:
                latest = clients.package("kafka.admin").OffsetSpec.LATEST
                offsets = self._server.admin.list_partition_offsets(
                    dict.fromkeys(wanted, latest), timeout_ms=milliseconds
                )
                found = {partition: answer.offset for partition, answer in offsets.items()}
        return {Partition(*partition): offset for partition, offset in found.items()}

    def _metered(self, wanted: frozenset[Any], milliseconds: int) -> dict[Any, int] | None:
        """The end offsets by one request instead of two, by a client that remembers who leads which partition.

        None for partitions that it did not know before: it learns of them meanwhile. (Asked for those it does not
        know, kafka-python 3.0 leaves them out and fails with a KeyError.)
        """
        known, self._metered_before = self._metered_before, wanted
        if known != wanted:
            self._server.meter.assign([*wanted])
            return None
        with contextlib.suppress(KeyError):
            found: dict[Any, int] = self._server.meter.end_offsets([*wanted], timeout_ms=milliseconds)
            return found
        return None

    def delete_records(self, leaders: Mapping[Partition, int]) -> dict[Partition, int]:
        """Delete all records of these partitions; `leaders` are the ids of the brokers that lead them.

        Returns the new first offsets. Offsets go on from there: they never start again.
        """
        make = clients.package().TopicPartition
        leader = set(leaders.values())
        with self._server.doing(f"deleting the records of {_listed({partition.topic for partition in leaders})}"):
            found = self._server.admin.delete_records(
                {make(*partition): -1 for partition in leaders},
                # Without it the client asks for the leaders first, which takes as long as the deletion itself.
                partition_leader_id=leader.pop() if len(leader) == 1 else None,
            )
        return {Partition(*partition): result["low_watermark"] for partition, result in found.items()}

    def _await(self, names: list[str], ids: Mapping[str, object]) -> None:
        """Wait until each partition of new topics has a leader: the answer to the creation comes before that.

        `ids` are those of the topics that were created, for there may have been others of the same names just before.
        """
        deadline = Deadline.after(LEADER_WAIT)
        pause = 0.001
        while True:
            found = {entry["name"]: entry for entry in self._server.admin.describe_topics(names)}
            waiting = [name for name in names if not _has_leaders(found.get(name), ids.get(name))]
            with self._lock:
                for name in set(names).difference(waiting):
                    self._known[name] = tuple(part["partition_index"] for part in found[name]["partitions"])
            if not waiting:
                return
            if deadline.passed:
                raise ItestError(
                    f"{_listed(waiting)} on {self._server} got no leader within {LEADER_WAIT:g} s after being created; "
                    f"the broker's log says why"
                )
            deadline.pause(pause)
            pause = min(pause * 2, 0.1)

    def _await_end(self, names: list[str]) -> None:
        deadline = Deadline.after(VANISH_WAIT)
        while left := [entry["name"] for entry in self._server.admin.describe_topics(names) if not entry["error_code"]]:
            if deadline.passed:
                raise ItestError(
                    f"{_listed(left)} on {self._server} is listed still {VANISH_WAIT:g} s after being deleted; a client "
                    f"that is still connected may have made it anew"
                )
            deadline.pause(0.002)


def _has_leaders(entry: Mapping[str, Any] | None, id: object) -> bool:
    return bool(
        entry
        and not entry["error_code"]
        and (id is None or entry.get("topic_id", id) == id)
        and entry["partitions"]
        and all(part["leader_id"] >= 0 and not part["error_code"] for part in entry["partitions"])
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"topic{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"
