# SPDX-License-Identifier: Apache-2.0
"""The topics of a broker: which there are, how far each goes, and what the last reset left in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itest.clock import Deadline
from itest.errors import ItestError
from itest.services.kafka import clients, configs
from itest.services.kafka.round_trip import ANSWER_WAIT, Answers, Partition, Topic, ask

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer

NONE: Mapping[str, str] = {}

LEADER_WAIT = 10.0
"""Seconds in which a new topic must have a leader for each partition. It takes milliseconds, seconds on a busy machine
(https://github.com/twmb/franz-go/issues/1430)."""

VANISH_WAIT = 5.0
"""Seconds in which a topic that was deleted must be gone from the listing too, and a setting in effect. It takes
milliseconds: the broker that is asked hears of it from the controller after the change was answered."""


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
        self.transactions: set[str] = set()
        """The transactional ids of those that were open when the topics were listed last, on a broker of ours."""
        self._server = server
        self._known: dict[str, Topic] = {}
        self._created: dict[str, int] = {}
        self._compacted: set[str] = set()
        self._transactional = False
        self._lock = threading.Lock()

    def all(self, seconds: float = ANSWER_WAIT) -> dict[str, Topic]:
        """All topics there are, without those of Kafka itself. Raises ItestError after that many seconds."""
        with self._server.doing("listing the topics"):
            answers = self._listed(seconds=seconds)
        return answers.topics

    def survey(
        self, is_mine: Callable[[str], bool], may_empty: Callable[[Partition], bool] = lambda partition: False
    ) -> tuple[dict[str, Topic], dict[Partition, Mark]]:
        """The topics that are mine by their names, and each of their partitions as it is now. Where one begins is asked
        only if it may not be emptied, and else taken to be what the last reset left.

        It is one round trip where the topics are those of the last time. What a reset has emptied before is emptied at
        once, if it may be: that tells its end as well, and takes no longer than to ask for it.
        """
        before = {name: topic for name, topic in self._there().items() if is_mine(name)}
        leaders = leaders_of(before)
        full = {at: leader for at, leader in leaders.items() if may_empty(at) and self._was_emptied(at, before)}
        kept = {at: leader for at, leader in leaders.items() if not may_empty(at)}
        with self._server.doing("looking for what is in the topics"):
            answers = self._listed(ends=_without(leaders, full), starts=kept, delete=full)
        topics = {name: topic for name, topic in answers.topics.items() if is_mine(name)}
        # A topic of another id was made meanwhile: nothing that was answered holds for it. What could not be answered is
        # asked again, for it may be a topic that is gone, or led by another broker.
        same = {name for name, topic in topics.items() if name in before and before[name].id == topic.id}
        emptied = {at: start for at, start in answers.starts.items() if at in full and at.topic in same}
        self.marks.update({at: Mark(topics[at.topic].id, end, end) for at, end in emptied.items()})
        ends = {at: end for at, end in answers.ends.items() if at.topic in same} | emptied
        starts = {at: start for at, start in answers.starts.items() if at in ends}
        if missing := _without(leaders_of(topics), ends):
            more = self._asked(missing, {at: leader for at, leader in missing.items() if not may_empty(at)})
            ends, starts = ends | more.ends, starts | more.starts
        return topics, {at: self._as_it_is(at, topics, starts.get(at), end) for at, end in ends.items()}

    def ensure(self, names: Iterable[str], partitions: int, settings: Mapping[str, str] = NONE) -> set[str]:
        """Have topics of these names, with a leader for each partition. Returns those that did not exist before; they have
        these settings."""
        missing = [name for name in names if name not in self._known]
        if not missing:
            return set()
        with self._server.doing(f"creating {_listed(missing)}"):
            wanted = {name: {"num_partitions": partitions, "configs": settings} for name in missing}
            answer = self._server.admin.create_topics(wanted, raise_errors=False)
            created = {}
            for topic in answer["topics"]:
                error = clients.errors().for_code(topic["error_code"])
                if error is clients.errors().NoError:
                    created[topic["name"]] = topic.get("topic_id")
                elif error is not clients.errors().TopicAlreadyExistsError:
                    raise error(topic.get("error_message") or topic["name"])
            with self._lock:
                self._created |= dict.fromkeys(created, partitions)
            self._await(missing, created)
        return set(created)

    def renew(self, name: str, partitions: int, settings: Mapping[str, str] = NONE) -> None:
        """Have a topic of this name that is new, with just so many partitions and these settings.

        A consumer that lives on asks for the topic that is gone, and by its own defaults a broker creates what it is asked
        for (auto.create.topics.enable). So ours is created before it can hear of the deletion, and if need be again.
        """
        deadline = Deadline.after(VANISH_WAIT)
        while True:
            self.delete([name], wait=False)
            if self.ensure([name], partitions, settings):
                return
            if deadline.passed:
                raise ItestError(
                    f"topic {name} on {self._server} could not be made anew within {VANISH_WAIT:g} s: a client that is still "
                    f"connected has the broker create it with other settings (auto.create.topics.enable)"
                )
            deadline.pause(0.002)

    def colliding(self, name: str) -> set[str]:
        """Those that we created, for anybody, and that keep one of this name from being created: in its metrics Kafka has '_'
        for '.', and would not tell them apart."""
        if name in self._known:
            return set()
        with self._lock:
            return {other for other in self._created if _in_metrics(other) == _in_metrics(name) and other != name}

    def exists(self, name: str) -> bool:
        """Whether there is such a topic, asking the broker unless it is known."""
        return name in self._known or name in self.all()

    def created(self, name: str) -> int:
        """With how many partitions we created it, for anybody; 0 if we did not."""
        return self._created.get(name, 0)

    def altered(self, is_mine: Callable[[str], bool]) -> set[str]:
        """Those of mine that are not what we created: others did, or their settings or number of partitions changed."""
        with self._server.doing("looking for altered topics"):
            answers = self._listed(configs=[*filter(is_mine, self._there())])
        counts = {name: len(topic.leaders) for name, topic in answers.topics.items() if is_mine(name)}
        return {name for name, count in counts.items() if name in answers.settings or count != self.created(name)}

    def settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings that these have of their own, in place of the broker's; of each that has some."""
        with self._server.doing("asking for the settings of topics"):
            return ask(self._server.admin, configs=[*names]).settings

    def id(self, name: str) -> str:
        """The id of a topic, another one each time that it is made; empty where it is not known."""
        return self._known[name].id if name in self._known else ""

    def changed(self, name: str, seconds: float) -> bool:
        """Whether the broker has another topic of that name than was known, or one with other partitions; known from now on."""
        before = self._there().get(name)
        return self.all(seconds).get(name, before) != before

    def partitions(self, name: str) -> list[Partition]:
        """The partitions of a topic; none where it is not known."""
        topic = self._known.get(name)
        return [Partition(name, number) for number in topic.leaders] if topic else []

    def delete(self, names: Iterable[str], *, wait: bool = True) -> None:
        """Delete topics in one call, and return when they are listed no more, but for others of the same names. Those that
        are gone already do not matter.

        Raises ItestError for one that may not be deleted.
        """
        names = [*names]
        if names:
            with self._server.doing(f"deleting {_listed(names)}"):
                answer = self._server.admin.delete_topics(names, raise_errors=False)
                with self._lock:
                    for name in names:
                        self._known.pop(name, None)
                        self._created.pop(name, None)
                self._server.forget({*names})
                ids = {}
                for topic in answer["topics"]:
                    error = clients.errors().for_code(topic["error_code"])
                    if error is clients.errors().NoError:
                        ids[topic["name"]] = topic.get("topic_id")
                    elif error is not clients.errors().UnknownTopicOrPartitionError:
                        raise error(topic.get("error_message") or topic["name"])
                if wait:
                    self._await_end(names, ids)

    def end_offsets(
        self, partitions: Iterable[Partition], seconds: float = ANSWER_WAIT, committed: bool = False
    ) -> dict[Partition, int]:
        """The offset that the next record of each partition will get; with `committed`, where the first open transaction in it
        begins. Raises ItestError after that many seconds."""
        known = leaders_of(self._there())
        leaders = {partition: known.get(partition, -1) for partition in partitions}
        return self._asked(leaders, {}, seconds, committed).ends

    def start_offsets(self, partitions: Iterable[Partition], seconds: float = ANSWER_WAIT) -> dict[Partition, int]:
        """The offset of the first record that each partition still has, or gets. Raises ItestError after that many seconds."""
        known = leaders_of(self._there())
        return self._asked({}, {partition: known.get(partition, -1) for partition in partitions}, seconds).starts

    def delete_records(self, leaders: Mapping[Partition, int]) -> dict[Partition, int]:
        """Delete all records of these partitions; `leaders` are the ids of the brokers that lead them.

        Returns the new first offsets. Offsets go on from there: they never start again. Compacted topics take 20 ms.
        """
        what = f"deleting the records of {_listed({partition.topic for partition in leaders})}"
        with self._server.doing(what):
            answers = ask(self._server.admin, delete=leaders)
            starts = answers.starts
            if refused := _refused(answers, leaders):
                answers = self._delete_compacted(answers, refused)
                starts = starts | answers.starts
            answers.check("records of")
        return starts

    def _delete_compacted(self, answers: Answers, leaders: Mapping[Partition, int]) -> Answers:
        """The last answers about these partitions, which were refused as those of compacted topics."""
        names = {partition.topic for partition in leaders}
        self._compacted |= {self._known[name].id for name in names if name in self._known}
        deadline = Deadline.after(VANISH_WAIT)
        with configs.deletable(self._server, names) as allowed:
            while allowed and _refused(answers, leaders) and not deadline.passed:
                answers = ask(self._server.admin, delete=leaders)
        return answers

    def _asked(
        self,
        ends: Mapping[Partition, int],
        starts: Mapping[Partition, int],
        seconds: float = ANSWER_WAIT,
        committed: bool = False,
    ) -> Answers:
        with self._server.doing("asking for end offsets"):
            answers = ask(self._server.admin, ends=ends, starts=starts, seconds=seconds, committed=committed)
            answers.check("the end of")
        return answers

    def _as_it_is(self, partition: Partition, topics: Mapping[str, Topic], start: int | None, end: int) -> Mark:
        id, mark = topics[partition.topic].id, self.marks.get(partition)
        if start is None:
            start = mark.start if mark and mark.id == id else 0
        return Mark(id, start, end)

    def _there(self) -> dict[str, Topic]:
        with self._lock:
            return {**self._known}

    def _listed(self, **asked: Any) -> Answers:
        """All topics there are, and what else is asked in the same round trip. The broker is asked for open transactions
        where there ever was one: Kafka has a topic for them then."""
        known, before = self._transactional, self._there()
        answers = ask(self._server.admin, topics=True, transactions=known, **asked)
        self._transactional = self._server.owned and "__transaction_state" in answers.internal
        more = answers if known == self._transactional else ask(self._server.admin, transactions=self._transactional)
        self.transactions = more.transactions
        with self._lock:
            self._known = {**answers.topics}
            self._created = {name: count for name, count in self._created.items() if name in answers.topics}
        if gone := before.keys() - answers.topics.keys():
            self._server.forget(gone)
        return answers

    def _was_emptied(self, partition: Partition, topics: Mapping[str, Topic]) -> bool:
        """Whether a reset has deleted records of it, as is not allowed of every topic. Of this very one, by its id."""
        mark = self.marks.get(partition)
        id = topics[partition.topic].id
        return mark is not None and mark.start > 0 and mark.id == id and id not in self._compacted

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
                    self._known[name] = Topic(
                        str(found[name].get("topic_id")),
                        {part["partition_index"]: part["leader_id"] for part in found[name]["partitions"]},
                    )
            if not waiting:
                return
            if deadline.passed:
                raise ItestError(
                    f"{_listed(waiting)} on {self._server} got no leader within {LEADER_WAIT:g} s after being created; "
                    f"the broker's log says why"
                )
            deadline.pause(pause)
            pause = min(pause * 2, 0.1)

    def _await_end(self, names: list[str], ids: Mapping[str, object]) -> None:
        """`ids` are those of the topics that were deleted: a client may have others of the same names made meanwhile."""
        deadline = Deadline.after(VANISH_WAIT)
        while left := [
            entry["name"]
            for entry in self._server.admin.describe_topics(names)
            if not entry["error_code"] and _has_id(entry, ids.get(entry["name"]))
        ]:
            if deadline.passed:
                raise ItestError(
                    f"{_listed(left)} on {self._server} is listed still {VANISH_WAIT:g} s after being deleted; a client "
                    f"that is still connected may have made it anew"
                )
            deadline.pause(0.002)


def leaders_of(topics: Mapping[str, Topic]) -> dict[Partition, int]:
    """All partitions of topics, with the ids of the brokers that lead them."""
    return {
        Partition(name, number): leader for name, topic in topics.items() for number, leader in topic.leaders.items()
    }


def _in_metrics(name: str) -> str:
    return name.replace(".", "_")


def _refused(answers: Answers, leaders: Mapping[Partition, int]) -> dict[Partition, int]:
    """The partitions whose records were not deleted because of the policy of their topics."""
    policy = clients.errors().PolicyViolationError
    return {partition: leaders[partition] for partition, error in answers.errors.items() if error is policy}


def _without(leaders: Mapping[Partition, int], others: Container[Partition]) -> dict[Partition, int]:
    return {partition: leader for partition, leader in leaders.items() if partition not in others}


def _has_leaders(entry: Mapping[str, Any] | None, id: object) -> bool:
    return bool(
        entry
        and not entry["error_code"]
        and _has_id(entry, id)
        and entry["partitions"]
        and all(part["leader_id"] >= 0 and not part["error_code"] for part in entry["partitions"])
    )


def _has_id(entry: Mapping[str, Any], id: object) -> bool:
    return id is None or entry.get("topic_id", id) == id


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"topic{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"
