# SPDX-License-Identifier: Apache-2.0
"""System V shared memory of servers that were killed: it outlives its maker, and PostgreSQL makes a piece at each start."""

from __future__ import annotations

from pathlib import Path

TABLE = Path("/proc/sysvipc/shm")
"""Linux's list: key, id, permissions, size, the maker's process id, the last user's, how many are attached, ..."""


def remove_of(maker: int) -> None:
    """Remove what a process that has ended has made and nobody is attached to. Nothing where there is no such list."""
    try:
        _, *lines = TABLE.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    rows = [[int(field) for field in line.split()] for line in lines]
    left = [row[1] for row in rows if row[4] == maker and row[6] == 0]
    if left:
        import ctypes

        for segment in left:  # IPC_RMID is 0. What is somebody else's by now is refused, which is right.
            ctypes.CDLL(None).shmctl(segment, 0, None)
