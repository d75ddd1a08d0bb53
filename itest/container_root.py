# SPDX-License-Identifier: Apache-2.0
"""A container's files, as processes outside of it see them."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def root_of(container: str, pid: int) -> Path | None:
    """The root directory of a container with this id, whose first process has the number `pid` where Docker is.

    Linux shows it to whoever may trace that process: to root, and to the owner of a rootless Docker (proc(5), /proc/pid/root).
    None for others, and where the process is none of this container's.
    """
    root = Path("/proc", str(pid), "root")
    try:
        if not is_of(container, pid):
            return None
        root.stat()
    except OSError:
        return None
    return root


def is_of(container: str, pid: int) -> bool:
    """Whether the process of that number is one of the container's: Docker may be on another machine, and the number
    another's by now. Docker, podman and containerd name the control group of a container after its id."""
    try:
        return container in Path("/proc", str(pid), "cgroup").read_text()
    except OSError:
        return False


def socket_in(root: Path, *path: str) -> Path | None:
    """A Unix socket there, by the names of its directories and its own; None if it is none.

    No symbolic link is followed: an absolute one would lead out of the container, to files of this machine.
    """
    place = root
    try:
        for name in path:
            place /= name
            mode = os.lstat(place).st_mode
            if not stat.S_ISDIR(mode):
                return place if stat.S_ISSOCK(mode) and name == path[-1] else None
    except OSError:
        pass
    return None
