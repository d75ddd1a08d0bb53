# SPDX-License-Identifier: Apache-2.0
"""Who made a thing, written so that any later process can tell whether that one has ended, and never takes a living
process for a dead one.

A process id alone says little: it is used again, it means another process in another container, and machines that share
a Docker may have the same name. So an owner is also told by its start time, the namespace that its id belongs to, and
the boot of its kernel:

    4711@build-3 start=2264817 pidns=4026531836 boot=cbb10be4 machine=90c1f3aa

In a container of the Docker on which the thing is, the id of that container follows (`container=`), which Docker can be
asked about from anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from functools import cache
from pathlib import Path

from itest.tuples import NamedTuple

UNKNOWN = "0"
"""What stands for a fact that this platform does not have."""

FACTS = ("start", "pidns", "boot", "machine", "container")

_TEXT = r"([1-9][0-9]{0,9})@(\S+)((?: [a-z]+=\S+)*)"
_STATE, _START = 0, 19
"""Places in /proc/PID/stat, counted from behind the program's name, which may hold anything."""


class Owner(NamedTuple):
    """A process that makes things. What a text does not say is empty, and then nothing is certain."""

    pid: int
    host: str
    start: str = ""
    """Ticks of the kernel's clock from its boot to the start of the process."""
    pidns: str = ""
    """The namespace that `pid` belongs to: a container has one of its own."""
    boot: str = ""
    """Which kernel, and since which start of it: the same in all containers of a machine until it restarts."""
    machine: str = ""
    """The machine, also after a restart."""
    container: str = ""
    """The container with which what it has made ends: one of the same Docker, in which it runs."""

    def __str__(self) -> str:
        facts = zip(FACTS, self[2:], strict=True)
        return " ".join([f"{self.pid}@{self.host}", *(f"{name}={fact}" for name, fact in facts if fact)])


def current(pid: int | None = None) -> Owner:
    """This process, or another one of its namespace."""
    pid = os.getpid() if pid is None else pid
    return Owner(
        pid, re.sub(r"\s+", "-", host()) or UNKNOWN, start_time(pid) or UNKNOWN, _namespace(), _boot(), _machine()
    )


def host() -> str:
    """This machine's name in its network."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # Slower to import than all that is done with it.

    return socket.gethostname()


@cache
def container() -> str:
    """The id of the container that this process runs in; empty for none, or where it cannot be seen. Docker and Podman mount
    files of the container's own directory over some in /etc."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) ", mounts)
    return found[1] if found else ""


def parse(text: str) -> Owner | None:
    """The owner that a label names; None where it names none. `pid@host` alone is enough."""
    if (found := re.fullmatch(_TEXT, text)) is None:
        return None
    facts = dict(fact.split("=", 1) for fact in found[3].split())
    return Owner(int(found[1]), found[2], *(facts.get(name, "") for name in FACTS))


def is_dead(text: str) -> bool:
    """Whether the process that a label names has ended. True only when that is certain."""
    owner, here = parse(text), current()
    if owner is None or owner.host != here.host or owner.host == UNKNOWN:
        return False
    if not _is_same(owner.pidns, here.pidns):
        return False  # Its process id means nothing here.
    if not _is_same(owner.boot, here.boot):
        # Nothing outlives a restart; but another machine of the same name has not restarted.
        return owner.boot not in ("", UNKNOWN) and here.boot != UNKNOWN and owner.machine == here.machine != UNKNOWN
    return _has_ended(owner)


def lives(text: str) -> bool | None:
    """Whether the process that a label names is running; None where that cannot be known here."""
    owner, here = parse(text), current()
    if is_dead(text):
        return False
    if owner is None or not _is_beside(owner, here):
        return None
    return True if os.name == "posix" else None


def is_beside(text: str) -> bool:
    """Whether process ids where the process that a label names is, or was, mean the same processes here."""
    owner = parse(text)
    return owner is not None and _is_beside(owner, current())


def is_own(text: str) -> bool:
    """Whether a label names a running process of this user; root's may be anybody's."""
    owner = parse(text)
    if owner is None or not lives(text):
        return False
    try:
        os.kill(owner.pid, 0)
    except OSError:
        return False
    return True


def start_time(pid: int) -> str:
    """When a process started, in ticks of its kernel since that booted; empty where that cannot be known."""
    fields = _stat(pid)
    return fields[_START] if len(fields) > _START else ""


def sees_processes() -> bool:
    """Whether there is a /proc of this namespace's processes. One of another may be mounted there, whose numbers mean others."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _has_ended(owner: Owner) -> bool:
    """Whether a process of this machine and namespace has ended."""
    if os.name != "posix":
        return False  # There os.kill() would end it.
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # It is another user's.
    fields = _stat(owner.pid)
    if len(fields) <= _START:
        return False
    return fields[_STATE] in "ZX" or (owner.start not in ("", UNKNOWN) and owner.start != fields[_START])


def _is_beside(owner: Owner, here: Owner) -> bool:
    return owner.host == here.host and _is_same(owner.pidns, here.pidns) and _is_same(owner.boot, here.boot)


def _is_same(fact: str, here: str) -> bool:
    """Whether two namespaces or boots are one. On Linux there are several where no /proc tells them apart, too."""
    return fact == here and (fact != UNKNOWN or sys.platform != "linux")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty without it."""
    try:
        if pid != os.getpid() and not sees_processes():
            return []
        name = "self" if pid == os.getpid() else str(pid)
        return Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _namespace() -> str:
    try:
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")) or UNKNOWN
    except OSError:
        return UNKNOWN


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
    except (OSError, ValueError):
        return UNKNOWN


@cache
def _machine() -> str:
    """A digest, because the id itself is not to be shown to others (machine-id(5))."""
    try:
        text = Path("/etc/machine-id").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return UNKNOWN
    return hashlib.sha256(f"itest {text}".encode()).hexdigest()[:8] if len(text) == 32 else UNKNOWN
