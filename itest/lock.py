# SPDX-License-Identifier: Apache-2.0
"""A lock between processes of one machine, as a file. The kernel frees it however its holder ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from itest.clock import SYSTEM, Clock, Deadline
from itest.errors import ItestError

try:
    import fcntl
except ImportError:  # Windows, where no local process is started and so nobody has anything to lock.
    fcntl = None  # type: ignore[assignment]  # how a module that may be missing is spelled

PAUSE = 0.02
"""Seconds between two tries."""


@contextlib.contextmanager
def locked(path: Path, seconds: float, purpose: str, clock: Clock = SYSTEM) -> Iterator[int]:
    """Within the `with`, no other process is in a `with` on the same path.

    Waits up to that many seconds for another holder, then raises ItestError; `purpose` says in it what the lock is
    for: "resolving Apache Kafka". The file is made if need be and stays: removing it would let two holders in, one on
    the removed file and one on a new one. Raises OSError where the file cannot be made.

    Gives the file's descriptor: a child process that is handed it holds the lock too, should its parent be killed.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = Deadline.after(seconds, clock)
        while not _take(handle):
            if deadline.passed:
                raise ItestError(
                    f"{purpose}: another process has held the lock {path} for {seconds:g} s; "
                    f"wait until it is done, or end it"
                )
            deadline.pause(PAUSE)
        yield handle
    finally:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_UN)  # Also for a child that still has it.
        os.close(handle)


def _take(handle: int) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
