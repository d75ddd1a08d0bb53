# SPDX-License-Identifier: Apache-2.0
"""The directory of a process instance: where it lies, what it says about itself, how it is found and removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from itest import lock, naming
from itest.clock import Deadline
from itest.engines import launcher
from itest.errors import ItestError
from itest.tuples import NamedTuple

SHARED_MEMORY = Path("/dev/shm")

SHARED_MEMORY_FREE = 256 * 1024 * 1024
"""Bytes that must be free there for an instance to use it. Containers have 64 MB by default."""

STATE_FILE = "itest.json"

REMOVE_WAIT = 5.0
"""Seconds in which what still runs in a directory must be gone, and the directory too."""

STRAGGLER_WAIT = 1.0
"""Seconds that processes which outlive the one that started them have for an orderly end."""

_NAME = re.compile(r"itest-([0-9a-z]+)-([0-9a-z_]+)-[0-9A-Za-z_]{8}")


class Record(NamedTuple):
    """What the state file says, so that any process can find the instance and end it properly.

    `preparing`: it is not the server that runs, but a command that has to run before it. `workplace`: where it works, if
    that is not its own directory. `env`: its variables, which what runs beside it has too; passwords may be among them, and the
    file is for its owner alone.
    """

    labels: Mapping[str, str]
    version: str = "unknown program"
    stop_signal: int = signal.SIGTERM
    argv: tuple[str, ...] = ()
    ports: Mapping[str, int] = MappingProxyType({})
    prefix: tuple[str, ...] = ()
    user: int | None = None
    preparing: bool = False
    workplace: str = ""
    env: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        hidden = {"argv": naming.hide_options(self.argv), "env": naming.hide_named(self.env)}
        return naming.show("Record", {**self._asdict(), **hidden})


def create(labels: Mapping[str, str]) -> Path:
    """A new directory, mode 0700, in memory where that can be had.

    The path is short, because the path of a Unix socket may have 104 bytes only.
    """
    session = re.sub(r"[^0-9a-z]+", "", labels.get(naming.SESSION, "").lower()) or "none"
    service = re.sub(r"[^0-9a-z]+", "_", labels.get(naming.SERVICE, "").lower()) or "process"
    import tempfile  # With `random`, 2 ms.

    root = SHARED_MEMORY if _in_memory() else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix=f"itest-{session[:20]}-{service[:20]}-", dir=root)).resolve()


def write(directory: Path, record: Record) -> None:
    """Write the state file, so that a reader sees the old or the new one."""
    argv = tuple(naming.mask(word) for word in record.argv)
    shown = record._replace(argv=argv, ports=dict(record.ports), env=dict(record.env))
    text = json.dumps(shown._asdict(), indent=1)
    lock.replace(directory / STATE_FILE, text)


def read(directory: Path) -> Record:
    """What is known of the instance. Only its session where the state file was not written to the end."""
    try:
        values = json.loads((directory / STATE_FILE).read_text(encoding="utf-8"))
        values.update(argv=tuple(values["argv"]), prefix=tuple(values["prefix"]))
        return Record(**values)
    except (OSError, ValueError, TypeError, KeyError):
        match = _NAME.fullmatch(directory.name)
        return Record({naming.SESSION: match[1], naming.SERVICE: match[2]} if match else {})


def created(directory: Path) -> float:
    """When the instance was made, in seconds since 1970; 0 when it is gone."""
    for path in (directory / STATE_FILE, directory):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def scan() -> Iterator[Path]:
    """The directories of all instances of this user."""
    for root in _roots():
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(root)):
                with contextlib.suppress(OSError):
                    if (
                        _NAME.fullmatch(entry.name)
                        and entry.is_dir(follow_symlinks=False)
                        and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                    ):
                        yield Path(entry.path).resolve()


def _roots() -> Iterator[Path]:
    yield SHARED_MEMORY
    import tempfile  # As above; who has found what it looks for does without.

    if (other := Path(tempfile.gettempdir())) != SHARED_MEMORY:
        yield other


def remove(directory: Path) -> None:
    """End what still runs in it and delete it. Raises ItestError if it is still there after that."""
    deadline = Deadline.after(REMOVE_WAIT)
    marked = bool(read(directory).workplace)
    while directory.exists():
        end_inhabitants(directory, marked)
        _delete(directory)
        if not directory.exists():
            return
        if deadline.passed:
            raise ItestError(
                f"the directory {directory} of a stopped process could not be deleted within {REMOVE_WAIT:g} s; "
                f"look at who owns what is in it, and delete it"
            )
        deadline.pause(0.02)


def share_with(directory: Path, user: int) -> None:
    """Let another user's process work in it. It stays ours, so that only we take it for one of ours later."""
    os.chown(directory, -1, user)
    directory.chmod(0o1770)


def _delete(directory: Path) -> None:
    """Delete what can be: a process that is just ending may still write into it. The state file is last, so that whoever
    finds the rest knows whose it was, should we be killed meanwhile."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(directory)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != STATE_FILE:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    shutil.rmtree(directory, ignore_errors=True)


def end_inhabitants(directory: Path, marked: bool) -> None:
    """End the processes that work in it, or carry its mark."""
    deadline = Deadline.after(REMOVE_WAIT)
    asked: set[int] = set()
    while (stragglers := launcher.inhabitants(directory, marked=marked)) and not deadline.passed:
        for pid in stragglers:
            late = deadline.elapsed >= STRAGGLER_WAIT
            if late or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        deadline.pause(0.005)


def _in_memory() -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        space = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return False
    is_memory = any(line.split()[1:3] == [str(SHARED_MEMORY), "tmpfs"] for line in mounts.splitlines())
    return is_memory and space.f_bavail * space.f_frsize >= SHARED_MEMORY_FREE and os.access(SHARED_MEMORY, os.W_OK)
