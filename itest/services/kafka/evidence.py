# SPDX-License-Identifier: Apache-2.0
"""The state of a test's topics and groups when the test has failed: offsets, lag, members."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

from itest.errors import ItestError
from itest.evidence import Evidence
from itest.services.kafka.groups import assigned, described, ids, subscribed
from itest.services.kafka.round_trip import Partition
from itest.services.kafka.topics import Mark

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer

SECONDS = 1.5
"""How long the broker may take for an answer."""

MOST = 20
"""Groups of apps that are looked at."""


STRAY = "without this class's prefix"


def evidence(server: KafkaServer, names: Mapping[str, str], groups: Mapping[str, str], prefix: str) -> Evidence:
    """Of these topics and groups; each physical name leads to the one that the test knows it by. `prefix` is the class's."""
    found = Evidence(f"{len(names)} topic{'s'[: len(names) != 1]}" if names else "no topics")
    partitions = [partition for name in names for partition in server.topics.partitions(name)]
    ends = server.topics.end_offsets(partitions, SECONDS)
    # A program that was not told the prefix writes, and reads, beside the topic that the test looks at.
    strays = {name for name in names if not name.startswith(prefix)}
    for physical, name in sorted(names.items(), key=lambda item: item[1]):
        found.lines.append(f"topic {name}{_aside(physical, strays)}: {_records(server, physical, ends)}")
    found.more = [f"the topic {name} is called {physical}" for physical, name in names.items()]
    try:
        found.lines += _groups(server, names, groups, ends, strays)
    except ItestError as error:  # Of the topics there is something to tell all the same.
        found.lines.append(str(error))
    return found


def _records(server: KafkaServer, name: str, ends: dict[Partition, int]) -> str:
    mine = {partition: end for partition, end in ends.items() if partition.topic == name}
    starts = {partition: server.topics.marks.get(partition, Mark("", 0, 0)).start for partition in mine}
    count = sum(end - starts[partition] for partition, end in mine.items())
    text = f"{count} record{'s'[: count != 1]}"
    if not count:
        return "empty"
    where = [
        f"{partition.partition}: {starts[partition]} to {end - 1}"
        for partition, end in sorted(mine.items())
        if end > starts[partition]
    ]
    return (
        f"{text}, offsets {where[0].partition(': ')[2]}"
        if len(mine) == 1
        else f"{text}, by partition {'; '.join(where)}"
    )


def _groups(
    server: KafkaServer,
    names: Mapping[str, str],
    groups: Mapping[str, str],
    ends: Mapping[Partition, int],
    strays: Set[str],
) -> list[str]:
    """How far each group is that was ever used, an app's own that reads these topics among them."""
    # An external broker may have thousands, of anybody.
    there = ids(server, SECONDS)[:MOST] if server.owned else []
    found = {id: entry for id, entry in described(server, {*groups, *there}).items() if entry["group_state"] != "Dead"}
    with server.doing("asking for the groups"):
        offsets: Any = {id: server.admin.list_group_offsets({id: None})[id] for id in found}
    # One that is being joined, or that its members have left, is told by what it has read.
    mine = [
        id
        for id, entry in found.items()
        if id in groups or not names.keys().isdisjoint({*subscribed(entry), *(each.topic for each in offsets[id])})
    ]
    return sorted(_group(groups.get(id, id), found[id], offsets[id], names, ends, strays) for id in mine)


def _group(
    name: str, entry: Any, offsets: Any, names: Mapping[str, str], ends: Mapping[Partition, int], strays: Set[str]
) -> str:
    lags = []
    for partition, answer in sorted(offsets.items()):
        end = ends.get(Partition(*partition), answer.offset)
        topic = names.get(partition.topic, partition.topic)
        place = f"{topic}-{partition.partition}{_aside(partition.topic, strays)}"
        lag = f"lag {end - max(0, answer.offset)}"
        if answer.offset > end:  # Offsets of a topic never go back.
            lag = f"which is beyond the topic's end at {end} (it was made anew)"
        lags.append(f"{place} at {answer.offset}, {lag}")
    members = len(entry["members"])
    text = f"group {name}: {entry['group_state'].lower()}, {members} member{'s'[: members != 1]}"
    # It may have joined before it knew that the topic exists.
    if entry["group_state"] == "Stable" and (idle := (subscribed(entry) & names.keys()) - assigned(entry)):
        text += f", none of which was given a partition of {', '.join(sorted(names[topic] for topic in idle))}"
    text += f"; {'; '.join(lags) or 'nothing committed'}"
    read = {*subscribed(entry), *(each.topic for each in offsets)}
    if read and read <= strays:
        wanted = ", ".join(f"{{kafka.prefix}}{topic}" for topic in sorted(read))
        text += f"; it reads {', '.join(sorted(read))} {STRAY}: tell it {wanted}, or declare Kafka(prefix='')"
    return text


def _aside(topic: str, strays: Set[str]) -> str:
    return f" ({STRAY})" if topic in strays else ""
