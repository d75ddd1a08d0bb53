# SPDX-License-Identifier: Apache-2.0
"""Servers that several processes use: the workers of one run, and with `reuse` one run after the other.

Each has a directory in the cache directory, with a record of what runs and two locks, which the kernel frees however
their holder ends:

    gate    held while the server is looked for, started, checked or stopped
    use     held by all processes that use it, together; who can have it alone is the only one left

What lies on the server can be claimed for one of them, by a lock on a file for each name. The last one out stops the
server. Where that one is killed, its reaper does the same (`reap`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from itest import lock, naming
from itest.clock import wall
from itest.config import Config
from itest.errors import ItestError
from itest.tuples import NamedTuple

try:
    import fcntl
except ImportError:  # Windows, where nothing is shared.
    fcntl = None  # type: ignore[assignment]  # how a module that may be missing is spelled

FORMAT = 2
"""Part of each key; raised when records or servers change so that another version of itest cannot use them."""

GATE_WAIT = 300.0
"""Seconds that others may take to check or stop the server; who wants to use it gives them the time of a start besides."""


class Record(NamedTuple):
    """What runs: the label `session` that it has, its password, and what it was like when it was new.

    `base` is the very image or program that it runs. `ready` is False from before the start until it can be used.
    `expires` (seconds since 1970) is 0 for a server that ends with its last user.
    """

    session: str
    secret: str
    service: str = ""
    base: str = ""
    ready: bool = False
    footprint: str = ""
    expires: float = 0.0

    def __repr__(self) -> str:
        return naming.show("Record", {**self._asdict(), "secret": naming.MASK})


class Share:
    """One such server, for one process that uses it or wants to."""

    def __init__(
        self, directory: Path, owner: str = "", lifetime: float = 0.0, *, private: bool = False, run: str = ""
    ) -> None:
        self.directory = directory
        self.private = private
        """No other process uses it; it may only stay after its run."""
        self.owner = owner
        """The process (`naming.owner`) whose end is the end of all its users; empty for a server that is to be reused."""
        self.lifetime = lifetime
        """Seconds that it stays after its last use; 0: it does not."""
        self.run = run
        """The run that this process belongs to (`run`): others may use the server at the same moment."""
        self.session = ""
        """The label of what runs, once that is known."""
        self._use: int | None = None
        self._claims: dict[str, int] = {}

    @contextlib.contextmanager
    def gate(self, start: float = 0.0) -> Iterator[None]:
        """Within the `with` nobody else looks for the server, starts or stops it. Raises ItestError, OSError.

        `start`: the seconds that others may take to start it, all it needs included.
        """
        gate = self.directory / "gate"
        while True:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with lock.locked(gate, GATE_WAIT + start, "a server that is shared with other processes") as handle:
                if _is(gate, handle):  # Else it was removed while we waited, and others find another one.
                    yield
                    return

    def join(self) -> bool:
        """Use it from now on; whether nobody else does. Call it, as all below, within `gate`."""
        if self._use is not None:
            return False
        self._use = os.open(self.directory / "use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _joined.add(self)
        alone = _try(self._use, fcntl.LOCK_EX)
        fcntl.flock(self._use, fcntl.LOCK_SH)
        return alone

    def leave(self) -> bool:
        """Use it no more; whether nobody else does."""
        handle, self._use = self._use, None
        if handle is None:
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)  # First: an attempt to convert a lock may lose it (flock(2)).
        alone = _try(handle, fcntl.LOCK_EX)
        os.close(handle)
        return alone

    def claim(self, name: str) -> bool:
        """Have what this name stands for until `give_back` or the end of this process; False: another one has it.

        Needs no gate. Not by a key or row on the server: code under test empties servers. Raises ItestError.
        """
        try:
            # It may have been deleted, with the whole cache directory; the server runs on, and nobody else will find it.
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.directory / f"{name}.claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ItestError(
                f"nothing of a server that other processes may use can be claimed, since {self.directory} cannot be written "
                f"to ({error.strerror}): see what has become of it, or set ITEST_CACHE_DIR to another directory"
            ) from error
        if not _try(handle, fcntl.LOCK_EX):
            os.close(handle)
            return False
        self._claims[name] = handle
        return True

    def give_back(self, name: str) -> None:
        """Let others claim it."""
        if (handle := self._claims.pop(name, None)) is not None:
            os.close(handle)

    def read(self) -> Record | None:
        """What is known of the server; None: there is none."""
        try:
            record = Record(**json.loads((self.directory / "server.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        if any(not isinstance(value, type(default)) for value, default in zip(record, Record("", ""), strict=True)):
            return None  # Somebody has changed it, and what reads it must not end over that: it would for everybody's servers.
        naming.remember_secret(record.secret)
        return record

    def write(self, record: Record) -> None:
        """Replace what is known of it. Raises OSError."""
        lock.replace(self.directory / "server.json", json.dumps(record._asdict()))

    @property
    def runs_alone(self) -> bool:
        """Whether the run is this process, and has no workers that come and go."""
        return self.run == _itself()

    @property
    def kept(self) -> bool:
        """Whether it stays so that people can look at what failed tests have left. By a file of its own, since other
        versions of itest could not read a record with one field more."""
        return (self.directory / "kept").exists()

    def keep(self) -> None:
        (self.directory / "kept").touch(mode=0o600)

    def forget(self) -> None:
        """There is no server any more. Whoever waits at the gate finds that it was removed, and makes a new one."""
        import shutil  # Its import of all compressions takes longer.

        (self.directory / "server.json").unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def let_go(self) -> None:
        """In a forked child: the locks are the parent's."""
        handle, self._use = self._use, None
        if handle is not None:
            os.close(handle)
        for name in [*self._claims]:
            self.give_back(name)


def place(config: Config, *key: object) -> Path:
    """The directory for a server with this key."""
    return root(config) / naming.fingerprint("server", FORMAT, *key)


def root(config: Config) -> Path:
    """Where these directories are."""
    return config.cache_dir / "servers"


def group(config: Config) -> tuple[str, str] | None:
    """The group of worker processes that this one belongs to, and the owner that the process is which made them; None
    for a process that is nobody's worker.

    A worker of multiprocessing (unittest-parallel, Django) knows its parent. pytest-xdist's are plain processes, which
    it gives the same PYTEST_XDIST_TESTRUNUID (its documentation, "Identifying the worker process").
    """
    if not can_be_reused():
        return None
    if run := config.variable("PYTEST_XDIST_TESTRUNUID"):
        return run, naming.owner(os.getppid())
    pid = worker_of()
    return (f"{pid} {naming.start_time(pid)}", naming.owner(pid)) if pid else None


def run(config: Config) -> str:
    """Equal in all processes of one parallel run, and in no other run."""
    found = group(config)
    return _itself() if found is None else found[0]


def _itself() -> str:
    return f"{os.getpid()} {naming.start_time(os.getpid())}"


def worker_of() -> int:
    """The id of the process whose worker this one is, made by multiprocessing; 0 if it is nobody's."""
    if "multiprocessing.process" not in sys.modules:
        return 0  # A worker has it. Importing it takes 7 ms.
    from multiprocessing.process import parent_process

    parent = parent_process()
    return 0 if parent is None else parent.pid or 0


def can_be_reused() -> bool:
    """Whether this platform has the locks that it takes."""
    return fcntl is not None


def reap(directory: Path, remove: Callable[[str], object], session: str = "") -> bool:
    """If nobody uses the server any more, and it may not stay for later runs, remove what runs there by its label
    `itest.session`. Whether nothing is left to do: it is gone, or others will see to it.

    `session` is that label as far as it is known: should somebody delete the directory, nothing else tells it.
    """
    share = Share(directory)
    if (record := share.read()) is None:
        if session:
            remove(session)
        return True
    if record.ready and record.expires > wall():
        return False
    with share.gate():
        alone = share.join()
        try:
            record = share.read()
            if record is None:
                if alone:
                    share.forget()  # Another reaper was faster, and this gate is new.
                return True
            if not alone and not record.expires:
                return True
            if not alone or (record.ready and record.expires > wall()):
                return False
            remove(record.session)
            share.forget()
            return True
        finally:
            share.leave()


def end(directory: Path, remove: Callable[[str], object]) -> bool:
    """If nobody uses the server, remove what runs there by its label `itest.session`, whatever time it has left. Whether
    it is gone."""
    share = Share(directory)
    with share.gate():
        alone = share.join()
        try:
            record = share.read()
            if alone and record is not None:
                remove(record.session)
                share.forget()
            return alone
        finally:
            share.leave()


def is_over(directory: Path) -> bool:
    """Whether nobody uses the server of that directory any more and its time is over, or nothing is known of it."""
    share = Share(directory)
    record = share.read()
    if record is None:
        return True
    if record.ready and record.expires > wall():
        return False  # Without the gate, which whoever wants to use it would have to wait for.
    with share.gate():
        alone = share.join()
        share.leave()
    return alone and (not record.ready or record.expires <= wall())


def keeps_time(directory: Path, stack: contextlib.ExitStack) -> bool:
    """Whether this process is the one that sees to the end of that server's time, until the stack is closed."""
    try:
        handle = os.open(directory / "time", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    stack.callback(os.close, handle)
    return _try(handle, fcntl.LOCK_EX)


def is_time_kept(directory: Path) -> bool:
    """Whether some process is seeing to the end of that server's time."""
    try:
        handle = os.open(directory / "time", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: whoever else asks at this moment must not take us for that one.
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    """Whether the path still leads to that open file."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_joined: weakref.WeakSet[Share] = weakref.WeakSet()


def _after_fork() -> None:
    for share in list(_joined):
        share.let_go()
    _joined.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
