# SPDX-License-Identifier: Apache-2.0
"""Around what a reset asks of the broker: which errors pass by themselves, and what the others say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from itest import naming
from itest.clock import Deadline
from itest.errors import ItestError, ResetError
from itest.services.kafka import clients
from itest.services.kafka.topics import VANISH_WAIT

T = TypeVar("T")


def steadily(function: Callable[[], T]) -> T:
    """Call it, and again while a topic vanishes under it (one that was deleted is listed for a moment longer) or has no
    broker that leads it yet."""
    names = ("UnknownTopicOrPartition", "LeaderNotAvailable", "NotLeaderForPartition", "OffsetNotAvailable")
    passing = tuple(getattr(clients.errors(), f"{name}Error") for name in names)
    deadline = Deadline.after(VANISH_WAIT)
    while True:
        try:
            return function()
        except ItestError as error:
            if deadline.passed or not isinstance(error.__cause__, passing):
                raise
        deadline.pause(0.005)


@contextlib.contextmanager
def resetting(what: str) -> Iterator[None]:
    """Have errors say what was being done, and what to try. Raises ResetError."""
    try:
        yield
    except ResetError:
        raise
    except ItestError as error:
        hint = ""
        if "PolicyViolation" in str(error):
            hint = (
                "; records of a compacted topic cannot be deleted, and its cleanup.policy may not be altered here: "
                "use isolation='prefix'"
            )
        raise ResetError(f"{what}: {naming.mask(str(error))}{hint}") from error
