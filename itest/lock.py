# SPDX-License-Identifier: Apache-2.0
"""Files that processes of one machine have in common: locks, which the kernel frees however their holder ends, and what is
replaced as a whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
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
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_UN)  # Also for a child that still has it.
        finally:
            os.close(handle)


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Give a file this text: whoever reads it sees the old or the new one, and a text that could not be written leaves nothing.

    Half of a character, as JSON writes it too, becomes an escape. Raises OSError.
    """
    new = path.with_name(f"{path.name}.{os.urandom(4).hex()}.new")
    try:
        with open(new, "x", encoding="utf-8", errors="backslashreplace", opener=partial(os.open, mode=mode)) as file:
            file.write(text)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _take(handle: int) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
