# SPDX-License-Identifier: Apache-2.0
"""The topics of a class. Between tests records are deleted and names stay, because fresh names cost a client time.

What is dirty: a partition whose end offset is not the one that the last reset left. One request tells it for all.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from itest import leaks, trace
from itest.errors import DeclarationError, ItestError
from itest.evidence import Aside, Evidence
from itest.lease import Lease
from itest.services.kafka import baseline, clients, configs, groups, transactions
from itest.services.kafka.baseline import Record
from itest.services.kafka.evidence import evidence
from itest.services.kafka.names import NAME_LIMIT, is_name
from itest.services.kafka.resetting import resetting, steadily
from itest.services.kafka.round_trip import Partition, Topic
from itest.services.kafka.server import KafkaServer, is_lent
from itest.services.kafka.topics import NONE, Mark
from itest.services.kafka.view import KafkaView

if TYPE_CHECKING:
    from itest.services.kafka import Kafka


class KafkaLease(Lease["KafkaView"]):
    """A prefix for a class and what lies under it."""

    def __init__(self, server: KafkaServer, service: Kafka, owner: str) -> None:
        self._server = server
        self._service = service
        self._isolation = service.isolation_or_default
        self._fixed = service.prefix is not None or self._isolation == "none"
        self._owner = owner
        self._last_test = "an earlier class"
        self._created: set[str] = set()
        self._mentioned: set[str] = set()
        """The topics that this test or the class's set-up has named; those that the set-up has are in `_set_up`."""
        self._set_up: frozenset[str] = frozenset()
        self._groups: set[str] = set()
        self._test_groups: set[str] = set()
        self._group_names: dict[str, str] = {}
        self._topics: dict[str, int] = {}
        self._settings: dict[str, dict[str, str]] = {}
        """Those that the set-up gave its topics; they are lost with a topic."""
        self._baseline: dict[Partition, list[Record]] = {}
        if self._isolation == "none":
            self.prefix = service.prefix or ""
        else:
            self.prefix = server.take_prefix(service.prefix, self._kind, owner)
        try:
            if self._isolation == "records":
                with resetting("emptying the topics that earlier classes left"):
                    steadily(self._empty)  # What is in them is not this one's baseline.
            if service.topics:
                self._make_ahead()
        except BaseException:
            if self._isolation != "none":
                server.give_prefix(self.prefix)
            raise
        server.open.add(self)
        self._test_prefix = self.prefix
        self._last_test = owner
        self.view = KafkaView(server, self, service.codec, self.prefix, 0)

    @property
    def _kind(self) -> object:
        """Classes whose topics are alike can have one another's."""
        return (self._isolation, self._service.partitions, *sorted(self._service.topics.items()))

    # Names.

    def topic(self, prefix: str, name: str) -> str:
        """The physical name of a topic, which exists from now on; a name that is physical already stays as it is."""
        if not isinstance(name, str):
            raise TypeError(
                f"a topic is named by a str, not {type(name).__name__} ({name!r:.80}); several, for a consumer, are arguments "
                f"of their own: consumer('orders', 'mail')"
            )
        is_physical = bool(self.prefix) and name.startswith(self.prefix)
        physical = name if is_physical else prefix + name
        if not name or not is_name(physical):
            raise ValueError(
                f"{name!r} cannot be a topic: letters, digits, '.', '_' and '-' only, at most "
                f"{NAME_LIMIT - len(prefix)} characters here"
            )
        self._mentioned.add(physical)
        # Whoever may only read must not be asked to create what is there.
        if not (self._isolation == "none" and self._server.topics.exists(physical)):
            partitions = self._service.topics.get(physical.removeprefix(prefix), self._service.partitions)
            self._ensure(physical, partitions)
        return physical

    def _ensure(self, name: str, partitions: int) -> None:
        """Have a topic of this name."""
        topics = self._server.topics
        self._delete_colliding(name)
        self._created |= topics.ensure([name], partitions, self._settings.get(name, NONE))
        foreign = self._fixed and not self._server.owned and name not in self._created
        if foreign and self._isolation != "none" and name not in self._server.told:
            self._server.told.add(name)
            trace.say(
                f"the topic {name!r} was on {self._server} before: tests use it as it is, and its records are not emptied"
            )

    def _renew(self, name: str, partitions: int) -> None:
        """Have a new topic of this name."""
        self._delete_colliding(name)
        self._server.topics.renew(name, partitions, self._settings.get(name, NONE))
        self._created.add(name)

    def _delete_colliding(self, name: str) -> None:
        """Delete what an earlier test or class has left that keeps a topic of this name from being created."""
        if self._isolation == "records":
            for other in self._server.topics.colliding(name) - self._mentioned:
                if self._is_mine(other):
                    self._server.topics.delete([other])
                    self._created.discard(other)
                    self._topics.pop(other, None)

    def _make_ahead(self) -> None:
        """The topics of the declaration, with as many partitions as it says. Raises DeclarationError where one with
        another number is there that is not ours to replace."""
        topics = self._server.topics
        there = topics.all()
        for name, partitions in self._service.topics.items():
            found = there.get(physical := self.prefix + name)
            if found is not None and len(found.leaders) != partitions:
                if not self._server.owned or self._isolation == "none":
                    raise DeclarationError(
                        f"the topic {physical!r} is there already on {self._server}, with {len(found.leaders)} partitions "
                        f"where topics= says {partitions}; correct that number, or use another prefix"
                    )
                self._renew(physical, partitions)
            self.topic(self.prefix, name)

    def group(self, prefix: str, number: int, name: str) -> str:
        """The physical id of a group: another one for each test, so that no test goes on where one before it was. One that
        was given here stays as it is."""
        if not isinstance(name, str):
            raise TypeError(f"a group is named by a str, not {type(name).__name__} ({name!r:.80})")
        if not name:
            raise ValueError("'' cannot be a group: give it a name, group('billing')")
        if name in self._group_names:
            return name
        if self._isolation == "none":
            physical = prefix + name
        else:
            physical = f"{prefix}{name}-{number}" if self._fixed else f"{prefix}{number}-{name}"
            # An app's group lives as long as its class.
            (self._test_groups if number else self._groups).add(physical)
        self._group_names[physical] = name
        return physical

    # The life of the data.

    def seal(self) -> None:
        self.view.close()
        if self._isolation == "none":
            return
        with resetting("reading the class's baseline"):
            topics, marks = steadily(self._survey)
            self._topics = {name: len(topic.leaders) for name, topic in topics.items() if name.startswith(self.prefix)}
            full = {partition: mark for partition, mark in marks.items() if mark.end > mark.start}
            self._set_up = frozenset(self._mentioned | {partition.topic for partition in full})
            self._baseline = baseline.read(self._server, full)
            self._server.topics.marks.update(marks)
            touched = [
                name for name in self._topics if name in self._mentioned or not self._server.topics.created(name)
            ]
            self._settings = self._server.topics.settings(touched)

    def reset(self, test: str) -> KafkaView:
        number = next(self._server.numbers)
        prefix = self._test_prefix = self.prefix
        self._mentioned = {*self._set_up}
        with resetting(f"bringing Kafka back to the class's baseline before {test}"):
            self._delete_groups(self._test_groups)
            if self._isolation == "records":
                steadily(self._empty)
            elif self._isolation == "prefix":
                prefix = self._test_prefix = f"{self.prefix}{number}-"
                self._make_prefixed(prefix)
        self._last_test = test
        return KafkaView(self._server, self, self._service.codec, prefix, number)

    def settle(self, test: str, since: float, alone: bool) -> None:
        self._delete_groups(self._test_groups)
        if self._isolation != "none":
            self._server.topics.all()
            self._end_transactions()

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        if self._fixed:
            return None
        left = [name for name in self._mine() if name.startswith(self._test_prefix)]
        # The topics stay as they are, with their prefix; the class goes on under another one.
        prefix = self._server.take_prefix(None, object(), f"{self._owner}, after {test}")
        self._topics = {self._renamed(name, prefix): count for name, count in self._topics.items()}
        self._settings = {self._renamed(name, prefix): each for name, each in self._settings.items()}
        self._set_up = frozenset(self._renamed(name, prefix) for name in self._set_up)
        moved, self._baseline = self._moved(prefix), {}
        for record in moved:
            self._baseline.setdefault(record.partition, []).append(record)
        self.prefix = self._test_prefix = prefix
        servers, program = self._server.bootstrap_servers, ["kafka-console-consumer.sh"]
        if hasattr(self._server.instance, "go_on"):  # A container has the programs too.
            inside = [
                "docker",
                "exec",
                "-it",
                self._server.instance.id[:12],
                "/opt/kafka/bin/kafka-console-consumer.sh",
            ]
            servers, program = self._server.internal_bootstrap_servers, inside
        words = [*program, "--bootstrap-server", servers, "--from-beginning", "--topic"]
        return Aside(tuple(shlex.join([*words, name]) for name in left) or ("no topics",))

    def evidence(self, since: float) -> Evidence:
        if self._isolation == "none" and not self.prefix:
            return Evidence()  # All topics there are, which may be anybody's.
        names = {name: name.removeprefix(self._test_prefix) for name in steadily(self._mine)}
        known = {physical: self._group_names[physical] for physical in self._groups | self._test_groups}
        return evidence(self._server, names, known, self.prefix)

    def close(self) -> None:
        self._server.open.discard(self)
        self.view.close()
        kind = None
        try:
            self._delete_groups(self._groups | self._test_groups)
            if self._server.owned and self._isolation != "none":
                groups.end(self._server, lambda name: name.startswith(self.prefix))
                if self._server.alone:
                    configs.restore_broker(self._server)
            if not self._server.owned:
                self.leave_nothing()
            elif self._isolation == "records":
                self._server.topics.delete(self._server.topics.altered(self._is_mine))
                self._topics, self._baseline = {}, {}
                steadily(self._empty)  # A consumer of whatever name matches would read what is left.
                kind = None if self._fixed else self._kind
            elif self._isolation == "prefix":
                self._server.topics.delete(name for name in self._server.topics.all() if name.startswith(self.prefix))
        except ItestError as error:
            if self._server.lives():  # Else it was told already why not.
                trace.say(f"could not tidy up after a class: {error}")
        finally:
            if self._isolation != "none":
                self._server.give_prefix(self.prefix, kind)

    def leave_nothing(self) -> None:
        """Delete what this class brought to an external server, and nothing else."""
        ours = None if self._fixed else self.prefix
        names = set(self._created)
        if ours:  # Nobody else's have this prefix. An app that was stopped without leaving counts as a member for 45 s.
            groups.end(self._server, lambda name: name.startswith(ours))
            names.update(name for name in self._server.topics.all() if name.startswith(ours))
        self._server.topics.delete(names)
        if ours:
            self._server.delete_groups(lambda name: name.startswith(ours))

    def _delete_groups(self, ids: set[str]) -> None:
        groups.delete(self._server, {id: self._group_names[id] for id in ids}, self._last_test)
        self._test_groups.clear()

    def _mine(self) -> dict[str, Topic]:
        """The topics that this class may empty."""
        return {name: topic for name, topic in self._server.topics.all().items() if self._is_mine(name)}

    def _is_mine(self, name: str) -> bool:
        if not self._server.owned:
            return name in self._created if self._fixed else name.startswith(self.prefix)
        under = name.startswith(self.prefix)
        if self._fixed:
            return under and not is_lent(name)
        # On our own server an app's topics, which have the names that the app gave them, are emptied as well.
        return under or (self._isolation == "records" and self._server.alone and not is_lent(name))

    def _empty(self) -> None:
        """Delete the records of dirty partitions, and put back those of the baseline. May be begun again."""
        server = self._server
        topics, found = self._survey(lambda partition: partition not in self._baseline)
        # Partitions can be added and not be taken away.
        grown = {name for name, topic in topics.items() if len(topic.leaders) != self._count(name, topic)}
        if gone := self._topics.keys() - (topics.keys() - grown) | grown:
            server.topics.delete(grown - self._topics.keys())
            for name in gone & self._topics.keys():
                self._renew(name, self._topics[name])
            topics, found = self._survey()
        dirty = {}
        for partition, mark in found.items():
            # By the topic's id too: one that was deleted and created again starts at 0 and may have come as far. And
            # what is there must be this class's baseline, not that of one that had the topic before.
            is_as_left = mark == server.topics.marks.get(partition, Mark(mark.id, 0, 0))
            if not is_as_left or (mark.end > mark.start) != (partition in self._baseline):
                dirty[partition] = topics[partition.topic].leaders[partition.partition]
        if dirty:
            for partition, start in server.topics.delete_records(dirty).items():
                server.topics.marks[partition] = Mark(topics[partition.topic].id, start, start)
            try:
                baseline.write(server, [record for partition in dirty for record in self._baseline.get(partition, ())])
            except ItestError as error:
                refused = isinstance(error.__cause__, clients.errors().BrokerResponseError)
                if not refused or not self._undo_settings({partition.topic for partition in dirty}):
                    raise
                self._empty()

    def _undo_settings(self, names: set[str]) -> bool:
        """Undo those by which the last test may have these topics, or the broker, refuse the baseline; whether there were
        any."""
        now = self._server.topics.settings(names)
        altered = {
            name for name in names & self._topics.keys() if now.get(name, NONE) != self._settings.get(name, NONE)
        }
        for name in altered:
            self._renew(name, self._topics[name])
        of_broker = self._server.owned and self._server.alone and configs.restore_broker(self._server)
        return bool(altered) or of_broker

    def _survey(
        self, may_empty: Callable[[Partition], bool] = lambda partition: False
    ) -> tuple[dict[str, Topic], dict[Partition, Mark]]:
        """The topics and partitions of this class, without open transactions in them."""
        found = self._server.topics.survey(self._is_mine, may_empty)
        # The end of a transaction is written to its partitions.
        return self._server.topics.survey(self._is_mine, may_empty) if self._end_transactions() else found

    def _end_transactions(self) -> bool:
        """End those that are open in this class's topics; whether any was."""
        if not self._server.topics.transactions:
            return False
        ended = transactions.abort_open(self._server, self._is_mine)
        for id in ended:
            leaks.report(f"{self._last_test} left the transaction {id!r} open, and it was aborted")
        return bool(ended)

    def _count(self, name: str, topic: Topic) -> int:
        """How many partitions a topic of ours has in the baseline; of an app's, how many there are."""
        return self._topics.get(name) or self._server.topics.created(name) or len(topic.leaders)

    def _make_prefixed(self, prefix: str) -> None:
        """The baseline under a new prefix."""
        alike: dict[tuple[int, tuple[tuple[str, str], ...]], list[str]] = {}
        for name, count in self._topics.items():
            kind = count, tuple(self._settings.get(name, NONE).items())
            alike.setdefault(kind, []).append(self._renamed(name, prefix))
        for (count, settings), names in alike.items():
            self._created |= self._server.topics.ensure(names, count, dict(settings))
        baseline.write(self._server, self._moved(prefix))

    def _moved(self, prefix: str) -> list[Record]:
        """The baseline's records under a new prefix."""
        records = [record for records in self._baseline.values() for record in records]
        return [record.moved(self._renamed(record.partition.topic, prefix)) for record in records]

    def _renamed(self, name: str, prefix: str) -> str:
        return prefix + name.removeprefix(self.prefix)
