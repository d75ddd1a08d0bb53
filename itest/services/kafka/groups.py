# SPDX-License-Identifier: Apache-2.0
"""The consumer groups that an app has made for itself: which of them read a class's topics, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from itest import leaks

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer


def described(server: KafkaServer, ids: Iterable[str]) -> dict[str, Any]:
    """What the broker says of these groups, by their ids."""
    with server.doing("asking for the groups"):
        return dict(server.admin.describe_groups([*ids])) if ids else {}


def ids(server: KafkaServer, seconds: float | None = None) -> list[str]:
    """Those of consumers, which have no type where they only commit: Kafka Connect has groups of its own."""
    listed = server.groups() if seconds is None else server.groups(seconds)
    return [each["group_id"] for each in listed if each["protocol_type"] in ("", "consumer")]


def subscribed(entry: Any) -> set[str]:
    """The topics that members of a group ask for; none while it is being joined."""
    return {topic for member in entry["members"] for topic in (member["member_metadata"] or {}).get("topics", ())}


def assigned(entry: Any) -> set[str]:
    """The topics that members of a group were given partitions of."""
    return {
        given["topic"]
        for member in entry["members"]
        for given in (member["member_assignment"] or {}).get("assigned_partitions", ())
    }


def delete(server: KafkaServer, names: Mapping[str, str], test: str) -> None:
    """Delete groups, given by their ids with the names that the test knows them by. Members that this test has left in
    them are put out of them and reported."""
    for group in server.delete_groups(names.__contains__) if names else ():
        members = server.end_members(group)
        leaks.report(
            f"{test} left {members} consumer{'s'[: members != 1]} behind in the group {names[group]!r}, put out of it"
        )
        server.delete_groups({group}.__contains__)


def end(server: KafkaServer, is_mine: Callable[[str], bool]) -> None:
    """End the groups whose id, or a topic that they read, is mine; all of them where nobody else uses a server of ours.

    An app that was ended without leaving its group counts as a member for `session.timeout.ms`, 45 s, and whoever joins
    the group next waits for it (https://kafka.apache.org/documentation/#consumerconfigs_session.timeout.ms).
    """
    found = described(server, ids(server))
    gone = {
        id
        for id, entry in found.items()
        if (server.owned and server.alone) or any(map(is_mine, (id, *subscribed(entry))))
    }
    for id in gone:
        if found[id]["members"]:
            server.end_members(id)
    if gone:
        server.delete_groups(gone.__contains__)
