# SPDX-License-Identifier: Apache-2.0
"""Transactions that a test has left open. Until one ends, `transaction.timeout.ms` later (a minute), whoever reads what is
committed gets nothing of what was written to its partitions since."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from itest.clock import Deadline
from itest.services.kafka import clients
from itest.services.kafka.round_trip import ask

if TYPE_CHECKING:
    from itest.services.kafka.server import KafkaServer

GRACE = 0.05
"""Seconds that one has to end by itself: its app may just be about to."""

ABORT_WAIT = 5.0
"""Seconds in which one must be aborted. It takes milliseconds."""

PAUSE = 0.005
"""Seconds between two questions whether one has ended."""

TIMEOUT = 60_000
"""Milliseconds that a producer's transaction may take; ours begins none, but must say so."""


def abort_open(server: KafkaServer, is_mine: Callable[[str], bool]) -> list[str]:
    """Abort those that are open and wrote to topics of mine. Returns their transactional ids.

    Their producers cannot go on after that, as after the start of another one with the same id
    (https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).
    """
    deadline = Deadline.after(GRACE)
    with server.doing("ending the transactions that were left open"):
        while found := _open(server.admin, is_mine):
            if deadline.passed:
                break
            deadline.pause(PAUSE)
        for id, coordinator in found.items():
            _abort(server.admin, id, coordinator)
    return sorted(found)


def _open(admin: Any, is_mine: Callable[[str], bool]) -> dict[str, int]:
    """Their transactional ids, with the ids of the brokers that coordinate them."""
    told = admin.describe_transactions(ask(admin, transactions=True).transactions)
    return {
        id: each.coordinator_id
        for id, each in told.items()
        if each.state == "Ongoing" and any(is_mine(partition.topic) for partition in each.topic_partitions)
    }


def _abort(admin: Any, id: str, coordinator: int) -> None:
    """By the request with which another producer of that id would begin."""
    make = clients.package("kafka.protocol.producer.transaction").InitProducerIdRequest
    request = make(transactional_id=id, transaction_timeout_ms=TIMEOUT, producer_id=-1, producer_epoch=-1)
    deadline = Deadline.after(ABORT_WAIT)
    while code := admin._manager.run(admin._manager.send, request, coordinator).error_code:
        error = clients.errors().for_code(code)
        if error is not clients.errors().ConcurrentTransactionsError or deadline.passed:
            raise error(f"transactional id {id}")
        deadline.pause(PAUSE)
