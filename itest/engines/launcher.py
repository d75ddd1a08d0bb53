# SPDX-License-Identifier: Apache-2.0
"""Starting child processes so that none can outlive its owner unseen, and knowing them again later.

The kernel's parent-death signal is sent when the *thread* that forked the child ends, not the process. So all children
of an engine are started from one thread, which lives as long as the engine does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from itest import owners
from itest.clock import ready

if TYPE_CHECKING:
    import queue
    import subprocess

PID_FILE = "itest.pid"
"""Written into the working directory by the child itself, before it becomes the program that it is to run."""

MARK = "ITEST_PROCESS"
"""The variable that names its instance's directory to a process that works elsewhere, and to its children."""

LAUNCH_WAIT = 30.0
"""Seconds that fork and exec may take. They take milliseconds; nothing may hang."""

_WRAPPER = (
    # An owner that died before the parent-death signal was set would never be noticed: then do not start at all.
    '[ "$PPID" = "$0" ] || exit 1\n'
    # With its start time a process is known for certain, while a process id alone is used again.
    '{ read -r line < "/proc/$$/stat"; } 2>/dev/null || line=$$\n'
    f"printf '%s\\n' \"$line\" > {PID_FILE} || exit 1\n"
    '[ -z "$1" ] || cd -- "$1" || exit 1\n'
    "shift\n"
    'exec "$@"\n'
)


class Launcher:
    """One thread that starts processes. It is a daemon: executor and other threads are joined before atexit callbacks
    run, so the parent-death signal would come before the orderly stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None]
        self._thread: threading.Thread | None = None
        self._pid = 0

    def start(
        self,
        argv: Sequence[str],
        *,
        prefix: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        user: int | None,
        output: IO[bytes],
        workplace: str = "",
        umask: int = 0o077,
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, with its output in a file. Raises OSError if that fails.

        `prefix` are commands that exec their arguments (unshare, setpriv); `user` is the user and group id to run as.
        It works in the `workplace`, an absolute path, if that is not its instance's `directory`. A `umask` of -1 is ours.
        """

        import subprocess  # A run that finds its server starts none.

        def launch() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*prefix, "/bin/sh", "-c", _WRAPPER, str(os.getpid()), workplace, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the foreground group: only Python may decide what ends.
                umask=umask,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
            _children.add(process)
            return process

        job = _Job(launch)
        self._submit(job)
        try:
            return job.result(LAUNCH_WAIT)
        except BaseException:
            # A Ctrl-C between fork and answer: the child exists although nobody was told.
            with contextlib.suppress(BaseException):
                process = job.result(LAUNCH_WAIT)
                process.kill()
                process.wait(LAUNCH_WAIT)
            raise

    def close(self) -> None:
        """End the thread; what it started and still runs gets its parent-death signal. It starts anew when needed."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None and self._pid == os.getpid():
                self._jobs.put(None)
                thread.join(LAUNCH_WAIT)

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if self._thread is None or self._pid != os.getpid():  # Threads do not survive a fork.
                import queue

                self._jobs = queue.SimpleQueue()
                thread = threading.Thread(target=_work, args=(self._jobs,), name="itest-launcher", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise OSError(str(error)) from None
                self._thread, self._pid = thread, os.getpid()
            self._jobs.put(job.run)


class _Job:
    """One start, to be waited for. (A Future would do, whose module imports logging; runs that reuse a server start
    nothing here.)"""

    def __init__(self, function: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._function = function
        self._done = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._process = self._function()
        except BaseException as error:
            self._error = error
        self._done.set()

    def result(self, seconds: float) -> subprocess.Popen[bytes]:
        """What it started. Raises what that raised, TimeoutError after that many seconds. May be asked again."""
        if not self._done.wait(seconds):
            raise TimeoutError(f"a process could not be started within {seconds:g} s")
        if self._process is None:
            assert self._error is not None
            raise self._error
        return self._process


def wait_exit(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the child ended within that time. Returns at the moment it does, without reaping it where possible."""
    if process.returncode is not None:
        return True
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # Linux 5.3 and later only.
        import subprocess

        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is not None
    try:
        return ready(handle, seconds)
    finally:
        os.close(handle)


def recorded(directory: Path) -> int | None:
    """The id of the process that wrote the pid file there, whether it still runs or not."""
    try:
        return int(_line(directory).split(" ", 1)[0])
    except (OSError, ValueError):
        return None


def running(directory: Path) -> int | None:
    """The id of the process that wrote the pid file there, if that very process still runs."""
    try:
        line = _line(directory)
        pid = int(line.split(" ", 1)[0])
    except (OSError, ValueError):
        return None
    if ")" not in line:  # No /proc where it was written.
        if owners.sees_processes():
            return None  # So that was another sandbox, whose ids mean other processes here.
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return pid
    now = _stat(pid)
    return pid if now is not None and now[0] not in "ZX" and now[_START] == _fields(line)[_START] else None


def _line(directory: Path) -> str:
    return (directory / PID_FILE).read_text(encoding="utf-8", errors="replace").strip()


def inhabitants(directory: Path, *, marked: bool = False) -> list[int]:
    """Ids of the processes that work in the directory or below it (Linux; empty elsewhere), and of those that carry its
    MARK if they do so (`marked`).

    Children that made a session of their own, as those of PostgreSQL do, are found by nothing else. A process with a
    terminal is somebody's shell that has a look around: it is left alone, and so are we.
    """
    here = str(directory)
    mark = f"{MARK}={here}".encode()
    own = str(os.getpid())
    found = []
    try:
        entries = os.listdir("/proc")
    except OSError:
        return []
    for entry in entries:
        if not entry.isdecimal() or entry == own:
            continue
        try:
            place = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if place == here or place.startswith((f"{here}/", f"{here} (deleted)")) or (marked and _carries(entry, mark)):
            now = _stat(int(entry))
            if now is not None and now[_TERMINAL] == "0":
                found.append(int(entry))
    return found


def _carries(pid: str, mark: bytes) -> bool:
    """Whether the process was started with that variable."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # It has ended, or is another user's.
        return False


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process that leads its group, and to the group. Nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(pid, number)


_TERMINAL = 4
_START = 19


def _fields(line: str) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second is the program's name and may hold anything."""
    return line.rsplit(")", 1)[1].split()


def _stat(pid: int) -> list[str] | None:
    try:
        return _fields(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except (OSError, IndexError):
        return None


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()


_children: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child they are not our children: their destructors must not warn about processes that run on."""
    for process in list(_children):
        process.returncode = process.returncode or 0
    _children.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
