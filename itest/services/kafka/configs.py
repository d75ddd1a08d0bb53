# SPDX-License-Identifier: Apache-2.0
"""Settings that tests alter: those of topics that are in the way of a reset, and those of the broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from itest.clock import Deadline
from itest.errors import ItestError
from itest.services.kafka import clients

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer

BY_ITSELF = "min.insync.replicas"
"""What a broker sets for its cluster while it starts
(https://cwiki.apache.org/confluence/display/KAFKA/KIP-966%3A+Eligible+Leader+Replicas)."""

RESTORE_WAIT = 5.0
"""Seconds in which settings of the broker must be what they were. It takes milliseconds, as for `VANISH_WAIT`."""


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


def of_broker(server: KafkaServer) -> dict[str, dict[str, str]]:
    """The settings that our broker was given since it runs, by whose they are: its own by its id, those of all by ""."""
    sources = clients.package("kafka.admin").ConfigSourceType
    broker = server.admin._manager.cluster.brokers()[0].node_id
    scopes = {sources.DYNAMIC_BROKER_CONFIG: str(broker), sources.DYNAMIC_DEFAULT_BROKER_CONFIG: ""}
    found: dict[str, dict[str, str]] = {}
    with server.doing("asking for the settings of the broker"):
        for each in _described(server.admin, broker):
            if (scope := scopes.get(each.config_source)) is not None and each.name != BY_ITSELF:
                found.setdefault(scope, {})[each.name] = each.value
    return found


def restore_broker(server: KafkaServer) -> bool:
    """Take away the settings that our broker was given since it runs; whether there were any. Raises ItestError."""
    deadline, altered = Deadline.after(RESTORE_WAIT), False
    # One of its own hides that of all. And as for topics, it is in effect a moment after it was answered.
    while found := of_broker(server):
        if deadline.passed:
            raise ItestError(
                f"{', '.join(name for names in found.values() for name in names)}, which a test set of the broker, could not "
                f"be taken away within {RESTORE_WAIT:g} s; a test that sets them wants a broker of its own: Kafka(scope='class')"
            )
        altered = True
        with server.doing("taking away the settings that tests gave the broker"):
            _delete(server.admin, found)
        deadline.pause(0.005)
    return altered


def _described(admin: Any, broker: int) -> list[Any]:
    """kafka-python's own method takes four times as long."""
    request = clients.package("kafka.protocol.admin.configs").DescribeConfigsRequest
    kind = int(clients.package("kafka.admin").ConfigResourceType.BROKER)
    asked = request.DescribeConfigsResource(resource_type=kind, resource_name=str(broker), configuration_keys=None)
    answer = admin._manager.run(admin._manager.send, request(resources=[asked]), broker)
    return [each for result in answer.results for each in result.configs or ()]


def _delete(admin: Any, settings: Mapping[str, Iterable[str]]) -> None:
    """kafka-python's own method takes no settings of all brokers."""
    request = clients.package("kafka.protocol.admin.configs").IncrementalAlterConfigsRequest
    package = clients.package("kafka.admin")
    resource, kind = request.AlterConfigsResource, int(package.ConfigResourceType.BROKER)
    delete = int(package.AlterConfigOp.DELETE)
    resources = [
        resource(
            resource_type=kind,
            resource_name=scope,
            configs=[resource.AlterableConfig(name=name, config_operation=delete, value=None) for name in names],
        )
        for scope, names in settings.items()
    ]
    admin._manager.run(admin._manager.send, request(resources=resources, validate_only=False))


def _alter(server: KafkaServer, topics: Iterable[str], operation: str) -> set[str]:
    """Returns the topics whose policy was altered."""
    package = clients.package("kafka.admin")
    policy = {"cleanup.policy": (operation, "delete")}
    wanted = [package.ConfigResource(package.ConfigResourceType.TOPIC, name, configs=policy) for name in topics]
    told = server.admin.alter_configs(wanted, raise_on_unknown=False)
    return {name for name, answer in told["topic"].items() if answer == "OK"}
