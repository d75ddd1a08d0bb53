# SPDX-License-Identifier: Apache-2.0
"""The settings of topics that are in the way of a reset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from itest.services.kafka import clients

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer


@contextlib.contextmanager
def deletable(server: KafkaServer, topics: Iterable[str]) -> Iterator[bool]:
    """Have compacted topics let their records be deleted meanwhile. Gives whether the broker allows that.

    Only those with the policy `delete` do, which may stand beside `compact`
    (https://kafka.apache.org/documentation/#topicconfigs_cleanup.policy). The broker knows of it a moment after it said so.
    """
    allowed = _alter(server, topics, "APPEND")
    try:
        yield bool(allowed)
    finally:
        if allowed:
            _alter(server, allowed, "SUBTRACT")


def _alter(server: KafkaServer, topics: Iterable[str], operation: str) -> set[str]:
    """Returns the topics whose policy was altered."""
    package = clients.package("kafka.admin")
    policy = {"cleanup.policy": (operation, "delete")}
    wanted = [package.ConfigResource(package.ConfigResourceType.TOPIC, name, configs=policy) for name in topics]
    told = server.admin.alter_configs(wanted, raise_on_unknown=False)
    return {name for name, answer in told["topic"].items() if answer == "OK"}
