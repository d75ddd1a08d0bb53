# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a server without asking it: whether its sessions, its replication slots and the file of ALTER SYSTEM
are the same.

Each session is a child of the server's first process, and the kernel lists children. To ask the server for both takes a
fifth of a read-only test's reset: to count its sessions it copies what all of its places for them hold.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from itest.engines import place_of
from itest.services.postgres.customs import PLACE
from itest.services.postgres.shared import SYSTEM_FILE

if TYPE_CHECKING:
    from itest.engines import Instance
    from itest.services.postgres.server import PostgresServer

SLOTS = "pg_replslot"
"""The directory in which each replication slot has one of its own."""

SURE = 4000
"""Bytes of a list of children below which the kernel gives it at once."""


class Outside:
    """One server, where this process may look into it: a local process or container of this machine, on Linux."""

    def __init__(self, server: PostgresServer) -> None:
        self._children = self._data = self._slots = -1
        try:
            if (found := _find(server.instance)) is not None:
                pid, data = found
                self._data = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._slots = os.open(data / SLOTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._children = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError):
            pass  # It will be asked.

    def look(self) -> object:
        """Equal as long as no session has begun or ended, ALTER SYSTEM has not written, and no replication slot was made or
        dropped; None where that cannot be seen."""
        if self._children < 0:
            return None
        try:
            children = os.pread(self._children, SURE, 0)
            # A child that ends meanwhile may hide another one (proc(5), /proc/pid/task/tid/children), but hardly twice.
            if len(children) == SURE or children != os.pread(self._children, SURE, 0):
                return None
            # A whole path, into a container's files, takes twice as long.
            system = os.stat(SYSTEM_FILE, dir_fd=self._data)
            slots = os.fstat(self._slots)
        except OSError:
            return None
        return children, system.st_ino, system.st_mtime_ns, slots.st_mtime_ns

    def close(self) -> None:
        for opened in (self._children, self._data, self._slots):
            if opened >= 0:
                os.close(opened)
        self._children = self._data = self._slots = -1


def _find(instance: Instance) -> tuple[int, Path] | None:
    """The server's first process, and where its data is."""
    if place := place_of(instance):
        return _first_process(place / "data"), place / "data"
    if not instance.owned or (root := instance.root()) is None:
        return None
    data = root / PLACE.lstrip("/") / "data"
    # Its number as its container sees it: the server is what was started there, and nobody's child.
    return (int(root.parent.name), data) if _first_process(data) == 1 else None


def _first_process(data: Path) -> int:
    with (data / "postmaster.pid").open(encoding="utf-8") as file:
        return int(file.readline())
