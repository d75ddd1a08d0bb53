# SPDX-License-Identifier: Apache-2.0
"""What a run of itest can leave behind on a machine, and the check that it did not.

Others may run tests on this machine at the same time. So a thing counts as left behind only when its owner has ended:
what belongs to a living process is in use. It looks at the machine itself and not through itest's engines, because a
thing that an engine does not find is what this is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from itest import naming
from itest.clock import Deadline
from itest.engines.docker_address import locate, problem
from itest.errors import Unavailable

PATIENCE = 20.0
"""Seconds that the reaper of a killed run has for its work; it takes 2 on a quiet machine, which this one is not while
tests run side by side, and what those kill at the same moment is seen here too. `benchmarks crash` is stricter."""

ROOTS = tuple(dict.fromkeys([Path("/dev/shm"), Path(tempfile.gettempdir()).resolve()]))
"""Where the process engine makes its directories."""

_NAME = r"itest-[0-9a-f]{20}-[^/\s=,:]+"
_DIRECTORY = re.compile(rf"(?:{'|'.join(re.escape(str(root)) for root in ROOTS)})/{_NAME}")


class Leftovers:
    """Taken before a run, it tells after it what the run left: `Leftovers.snapshot()`, then `check()`."""

    def __init__(self, before: frozenset[str]) -> None:
        self._before = before

    @classmethod
    def snapshot(cls) -> Leftovers:
        """What is there now, whether its owner lives or not, is not held against the run."""
        with _docker() as docker:
            return cls(frozenset(_survey(docker, lambda _: False)))

    def check(self, timeout: float = PATIENCE) -> None:
        """Raise AssertionError that lists what is still there `timeout` seconds from now; return when nothing is."""
        deadline = Deadline.after(timeout)
        with _docker() as docker:
            left = set(_survey(docker, _lives)) - self._before
            while left and not deadline.passed:
                deadline.pause(0.1)
                left &= set(_survey(docker, _lives))  # What others leave for a moment comes and goes.
        if left:
            raise AssertionError(f"left behind, and still there after {timeout:g} s:\n  " + "\n  ".join(sorted(left)))


def _survey(docker: Any, lives: Callable[[str], bool]) -> Iterator[str]:
    """One sentence on each thing whose owner does not live. A thing's sentence is the same each time."""
    if docker is not None:
        yield from _docker_objects(docker, lives)
    yield from _directories(lives)
    if Path("/proc/self/stat").exists():
        yield from _processes(lives)
        yield from _shared_memory()


@contextlib.contextmanager
def _docker() -> Iterator[Any]:
    """A client of the Docker that itest would use; None where there is none."""
    try:
        address = locate(os.environ)
        reason = problem(address)
    except Unavailable as error:
        reason = str(error)
    if reason:
        yield None
        return
    from docker import DockerClient, from_env

    # Only from_env knows about certificates, and only `locate` about contexts and the usual sockets.
    certified = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    client = from_env(timeout=60) if certified else DockerClient(address.url, version="auto", timeout=60)
    try:
        yield client.api
    finally:
        client.close()


def _docker_objects(api: Any, lives: Callable[[str], bool]) -> Iterator[str]:
    for container in api.containers(all=True, filters={"label": naming.SESSION}):
        owner = container["Labels"].get(naming.OWNER, "")
        if not lives(owner):
            yield f"container {container['Names'][0].lstrip('/')} ({container['Image']}) of process {owner}"
    for network in api.networks(filters={"label": naming.SESSION}):
        if not lives(network["Labels"].get(naming.OWNER, "")):
            yield f"network {network['Name']}"
    for volume in api.volumes(filters={"label": naming.SESSION})["Volumes"] or []:
        if not lives(volume["Labels"].get(naming.OWNER, "")):
            yield f"volume {volume['Name']}"
    for volume in api.volumes(filters={"dangling": True})["Volumes"] or []:
        if re.fullmatch("[0-9a-f]{64}", volume["Name"]):
            yield f"anonymous volume {volume['Name']}"


def _directories(lives: Callable[[str], bool]) -> Iterator[str]:
    for root in ROOTS:
        for entry in root.glob("itest-*"):
            with contextlib.suppress(OSError):
                if not re.fullmatch(_NAME, entry.name):
                    continue  # what other programs with that name have there
                if entry.is_dir() and entry.lstat().st_uid == os.geteuid() and not lives(_owner(entry)):
                    yield f"directory {entry} of process {_owner(entry)}"


def _processes(lives: Callable[[str], bool]) -> Iterator[str]:
    """Servers that work in an instance's directory or name it, and reapers that nobody owns any more."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            command = entry.joinpath("cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            if "from itest.reaper import main" in command:
                if _is_orphan(int(entry.name)):
                    yield f"reaper {entry.name}"
                continue
            if found := _DIRECTORY.search(f"{_link(entry / 'cwd')} {command}"):
                owner = _owner(Path(found[0]))
                if not lives(owner):
                    yield f"process {entry.name} ({command[:60]}) in {found[0]} of process {owner}"


def _shared_memory() -> Iterator[str]:
    """System V segments that nobody has attached, and PostgreSQL's POSIX segments that nobody has mapped."""
    with contextlib.suppress(OSError):
        head, *lines = Path("/proc/sysvipc/shm").read_text().splitlines()
        for line in lines:
            segment = dict(zip(head.split(), line.split(), strict=False))
            if segment["nattch"] == "0":
                yield f"System V shared memory {segment['shmid']} (key {segment['key']})"
    if segments := list(Path("/dev/shm").glob("PostgreSQL.*")):
        mapped = _mapped()
        for path in segments:
            if str(path) not in mapped:
                yield f"shared memory {path}"


def _mapped() -> str:
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            found += [line for line in maps.read_text(errors="replace").splitlines() if "/PostgreSQL." in line]
    return "\n".join(found)


def _owner(directory: Path) -> str:
    """The owner from the state file of an instance; empty where that is gone or was never written."""
    try:
        labels: dict[str, str] = json.loads((directory / "itest.json").read_text(encoding="utf-8"))["labels"]
        return labels.get(naming.OWNER, "")
    except (OSError, ValueError, KeyError):
        return ""


def _lives(owner: str) -> bool:
    """Whether `pid@host start=... pidns=...` is a process that still runs. What another host owns is not ours to judge,
    and neither is what belongs to another container; of an owner without these facts, its process id counts."""
    pid, _, rest = owner.partition("@")
    host, *facts = rest.split() or [""]
    known = dict(fact.partition("=")[::2] for fact in facts)
    if host and host != platform.node():
        return True
    here = _link(Path("/proc/self/ns/pid")).strip("pid:[]")
    if here and known.get("pidns", here) != here:
        return True
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    fields = _status(int(pid))
    return fields[:1] != ["Z"] and (len(fields) < 20 or known.get("start", fields[19]) == fields[19])


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything, spaces too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _parent(pid: int) -> int:
    fields = _status(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def _is_orphan(pid: int) -> bool:
    """Whether the process that made it has ended: its parent then is init or a service manager, and not Python."""
    parent = _parent(pid)
    return (parent == 1 and os.getpid() != 1) or "python" not in _link(Path(f"/proc/{parent}/exe")).rsplit("/", 1)[-1]


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
