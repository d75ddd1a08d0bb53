# SPDX-License-Identifier: Apache-2.0
"""A process that was started as a server, with its directory: ours, or one that another process started."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming, owners
from itest.clock import Deadline, wall
from itest.engines import REMOVED, Endpoint, ExecResult, State, directory, is_ending, launcher, port_of, shared_memory
from itest.engines.directory import Record
from itest.engines.local import LocalInstance
from itest.engines.ports import HOST
from itest.errors import ItestError

if TYPE_CHECKING:
    import subprocess

LOG_FILE = "itest.log"
"""Standard output and error of the server, in its directory."""

STOP_WAIT = 5.0
"""Seconds a server has for an orderly end before it is killed."""

KILL_WAIT = 5.0
"""Seconds the kernel has to end a killed process."""

_LOG_LIMIT = 4 * 1024 * 1024
"""Bytes of a log that are read at most, counted from its end."""

_PIECE = 65536
"""Bytes of a log that are read at once while it is followed."""

_FOLLOW_PAUSE = 0.1
"""Seconds between two looks at a log that is followed."""

_CLOCK_TICK = 0.02
"""Seconds by which a file's time may lag behind the clock: the kernel stamps files with the last timer tick."""


class ProcessInstance(LocalInstance):
    """A process with its directory: one we started, or one that another process started and we found."""

    owned = True

    def __init__(self, place: Path, record: Record, environment: Mapping[str, str]) -> None:
        self._place = place
        self._log = str(place / LOG_FILE)
        self._record = record
        self._environment = {**environment, **record.env}
        self._program = record.argv[0] if record.argv else ""
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._again: Callable[[], object] | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=1000)
        self._lock = threading.Lock()

    @property
    def place(self) -> Path:
        """Its directory, on this machine."""
        return self._place

    def own(self, process: subprocess.Popen[bytes], program: str, environment: Mapping[str, str]) -> None:
        """The process was started, by this process, as its child."""
        self._process, self._owner = process, os.getpid()
        self._program, self._environment = program, dict(environment)

    def run(self, start: Callable[[], subprocess.Popen[bytes]], program: str, environment: Mapping[str, str]) -> None:
        """Start the process, as a child of this one, now and whenever it is restarted."""
        self._again = lambda: self.own(start(), program, environment)
        self._again()

    def restart(self) -> None:
        """End it and its children and start it again, with the same ports and directory; its log goes on. Raises
        ItestError."""
        with self._lock:
            process = self._child
            if process is None or self._again is None:
                raise ItestError(f"{self} cannot be restarted here: another process has started it")
            end_child(process, self._record.stop_signal)
            directory.end_inhabitants(self._place, bool(self._record.workplace))
            self._again()

    def disown(self) -> None:
        """It is nobody's child any more: it may go on when this process has ended."""
        if (process := self._child) is not None and process.returncode is None:
            process.returncode = 0  # Its destructor must not warn about a process that still runs.
        self._process = None

    @property
    def id(self) -> str:
        """The name of its directory, unique on this machine."""
        return self._place.name

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels it was started with."""
        return self._record.labels

    def endpoint(self, name: str = "") -> Endpoint:
        """Where the port of that name (the first one without a name) is reached. Raises KeyError."""
        ports = self._record.ports
        return Endpoint(HOST, ports[port_of(ports, name, self)])

    def state(self) -> State:
        """What it is doing now. The exit code is known to its owner only."""
        self.mark()
        process = self._child
        if process is None:
            # One that cannot be seen from here ends with its directory.
            over = process_of(self._place, self._record)[1] is False or not self._place.exists()
            return self._ended(None) if over else State(True)
        code = process.poll()
        return State(True) if code is None else self._ended(code)

    def ending(self) -> bool:
        process = self._child
        return process is not None and process.returncode is None and is_ending(process.pid)

    def usage(self) -> list[str]:
        """The memory of the process itself, without its children; nothing where this platform does not say it."""
        pid = self._process.pid if self._process is not None else launcher.running(self._place)
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            return [f"{pages * os.sysconf('SC_PAGE_SIZE') >> 20} MB in use"]
        return []

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        """Its output: the last `tail` lines, those since a moment (seconds since 1970), or all; at most the whole lines in its
        last 4 MiB.

        Lines carry no time of arrival. `since` begins at the length the log had when this instance was last looked
        at (`state()`, `logs()`) before that moment, so lines from just before it may be among them; a log that was
        not written to since then is empty.
        """
        self.mark()
        try:
            with (self._place / LOG_FILE).open("rb") as log:
                status = os.fstat(log.fileno())
                start = self._start(status, since)
                left_out = max(0, status.st_size - _LOG_LIMIT - start)
                log.seek(start + left_out)
                said = log.read(_LOG_LIMIT)
        except OSError:
            return ""
        if left_out:
            said = said.partition(b"\n")[2] or said  # Unless it is one line.
        text = said.decode(errors="replace")
        return text if tail is None else "".join(text.splitlines(keepends=True)[-tail:] if tail else [])

    def logs_more(self, since: float) -> bool:
        """Whether it has logged more since that moment than `logs` gives."""
        with contextlib.suppress(OSError):
            status = os.stat(self._log)
            return status.st_size - self._start(status, since) > _LOG_LIMIT
        return False

    def _start(self, status: os.stat_result, since: float | None) -> int:
        """Where in its log begins what it has logged since that moment."""
        if since is None:
            return 0
        if status.st_mtime + _CLOCK_TICK < since:
            return status.st_size
        return max((size for moment, size in self._marks if moment <= since), default=0)

    def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
        """Its output as it comes, until `stop` is set or it ends; from its beginning if it is `new`, else from now on."""
        with (self._place / LOG_FILE).open("rb") as log:
            log.seek(0, os.SEEK_SET if new else os.SEEK_END)
            last = False
            while True:
                while piece := log.read(_PIECE):
                    yield piece
                if last:
                    return
                last = stop.wait(_FOLLOW_PAUSE)

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        """Run a command where it works, as its user; programs that lie beside its own are found by name.

        Exit code 127 means that there is no such program. Raises ExecTimeout when the command has not ended after
        `timeout` seconds; it is killed then.
        """
        import subprocess  # A run that finds its server starts none.
        import tempfile

        path = f"{os.path.dirname(self._program)}{os.pathsep}{self._environment['PATH']}"
        user = self._record.user
        # Files, because a pipe would be read until all that the command left in the background have ended too.
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                [*self._record.prefix, "/bin/sh", "-c", 'exec "$@"', "sh", *argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self._record.workplace or self._place,
                env={**self._environment, "PATH": path},
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
            with process:
                ended = False
                try:
                    if not (ended := launcher.wait_exit(process, timeout)):
                        from itest.wait_errors import not_ended

                        raise not_ended(argv, f"beside {self}", timeout)
                finally:
                    if not ended:
                        launcher.signal_group(process.pid, signal.SIGKILL)
            said = [file.read().decode(errors="replace") for file in (stdout, stderr) if file.seek(0) == 0]
        return ExecResult(process.returncode, *said)

    def stop(self) -> None:
        """End it by its stop signal, kill what remains after 5 s, and delete its directory. May be called twice.

        Raises ItestError if the directory cannot be deleted.
        """
        with self._lock:
            process = self._child
            if process is not None:
                end_child(process, self._record.stop_signal)
            elif pid := launcher.running(self._place):
                self._end_foreign(pid)
            maker = launcher.recorded(self._place) or 0
            shared_memory.remove_of(maker)
            directory.remove(self._place)
            shared_memory.remove_of(maker)  # Children of one that was killed may have been attached until just now.

    def end(self, number: int) -> Path:
        """End it by this signal and give its directory, which is the caller's to remove from now on.

        Raises ItestError when it has not ended in an orderly way.
        """
        with self._lock:
            process = self._child
            if process is None or process.poll() is not None:
                raise ItestError(f"{self} does not run any more")
            _send(process.pid, number, group=False)
            launcher.wait_exit(process, STOP_WAIT)
            if process.poll() != 0:
                raise ItestError(f"{self} did not end in an orderly way: {self.state()}")
            return self._place

    def __str__(self) -> str:
        pid = self._process.pid if self._process is not None else launcher.running(self._place)
        return f"process {pid or self.id} ({self._record.version})"

    @property
    def _child(self) -> subprocess.Popen[bytes] | None:
        """The process, if it is a child of this very process; after a fork it is not."""
        return self._process if self._owner == os.getpid() else None

    def _end_foreign(self, pid: int) -> None:
        preparing = directory.read(self._place).preparing
        first = signal.SIGTERM if preparing else self._record.stop_signal
        for number, seconds in ((first, STOP_WAIT), (signal.SIGKILL, KILL_WAIT)):
            deadline = Deadline.after(seconds)
            _send(pid, number, group=not preparing or number == signal.SIGKILL)
            while launcher.running(self._place) == pid:
                if deadline.passed:
                    break
                deadline.pause(0.005)
            else:
                return

    def _ended(self, code: int | None) -> State:
        if not self._place.exists():
            return State(False, REMOVED, code)
        status = f"killed by {naming.signal_name(-code)}" if code is not None and code < 0 else "exited"
        return State(False, status, code)

    def mark(self) -> None:
        """Remember how long the log is now, for `logs(since=...)`."""
        with contextlib.suppress(OSError):  # For each test, so by a text: a Path takes as long again.
            size = os.stat(self._log).st_size
            if not self._marks or self._marks[-1][1] != size:  # Whoever asks again and again does not push others out.
                self._marks.append((wall(), size))


def process_of(place: Path, record: Record) -> tuple[int | None, bool | None]:
    """The id here of what runs there, and whether something does; None where that cannot be known."""
    owner = record.labels.get(naming.OWNER, "")
    if not owner or owners.is_beside(owner):
        pid = launcher.running(place)
        return pid, pid is not None
    if owners.is_dead(owner):  # By a restart of the machine, which nothing outlives.
        return None, False
    # The id that is written there means another process here. A namespace around that one sees its processes, no other does.
    pid = min(launcher.inhabitants(place, marked=bool(record.workplace)), default=None)
    return pid, None if pid is None else True


def end_child(process: subprocess.Popen[bytes], number: int, *, group: bool = True) -> None:
    """End a child and its group, and reap it. `group` is False where only the child itself may get the signal."""
    if process.poll() is not None:
        return  # Reaped: its id may belong to somebody else by now. What it left is found by its directory.
    import subprocess

    _send(process.pid, number, group)
    launcher.wait_exit(process, STOP_WAIT)
    if process.returncode is None:  # Not reaped yet, so that the group is still this one.
        _send(process.pid, signal.SIGKILL, group=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_WAIT)


def _send(pid: int, number: int, group: bool) -> None:
    if group:
        launcher.signal_group(pid, number)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
