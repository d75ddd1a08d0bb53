# SPDX-License-Identifier: Apache-2.0
"""Sweeping: what runs have left that were killed together with their reapers is removed, by the next run or by hand.

Only what is certainly nobody's any more is touched. What belongs to a living process stays, and so does what belongs to
another machine or container, whose processes cannot be seen from here, unless Docker says that the container has ended.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from itest import naming, owners, sharing, trace
from itest.clock import Deadline
from itest.engines import Engine, Thing
from itest.tuples import NamedTuple

DELAY = 0.5
"""Seconds after which a sweep begins, or at the end of the run if that is sooner: a run that finds its server has come to
its first test by then, and would else share its time with the sweep."""

CLOSE_WAIT = 1.0
"""Seconds that the end of a run waits for a sweep that is still going on."""

KEEPER = "from itest.warm_keeper import main"
"""What the command line of a process contains that keeps a server's state after its run (warm.py)."""


class Swept(NamedTuple):
    """What a sweep did: the things it removed, and those it could not remove with the reason, a sentence."""

    removed: list[Thing]
    failed: list[tuple[Thing, str]]


def left_behind(things: Iterable[Thing]) -> list[Thing]:
    """Those that are over. What a process is just keeping the state of is none of them: that removes it itself."""
    over = [thing for thing in things if is_over(thing)]
    kept = keepers() if over else ""
    return [thing for thing in over if not _is_of(thing, kept)]


def is_over(thing: Thing) -> bool:
    """Whether nobody can need it any more, for certain."""
    dead = _is_dead(thing)
    if naming.SHARED not in thing.labels:
        return dead
    if thing.labels.get(naming.OWNER) and not dead:
        return False
    share = share_of(thing)
    return sharing.is_over(share) if share is not None else dead


def _is_dead(thing: Thing) -> bool:
    """Whether its owner has ended, for certain."""
    return thing.owner_ended or owners.is_dead(thing.labels.get(naming.OWNER, ""))


def is_kept(thing: Thing) -> bool:
    """Whether it is there only for people to look at (ITEST_KEEP), and its run has ended: who sweeps by hand has seen it."""
    share = share_of(thing)
    return share is not None and sharing.Share(share).kept and _is_dead(thing)


def share_of(thing: Thing) -> Path | None:
    """The directory by which processes share this very server.

    None: it is not shared, or nothing is known of it there. Another machine's or container's directory may have the
    same path, and tells of another server.
    """
    directory = _directory(thing.labels.get(naming.SHARED, ""))
    record = None if directory is None else sharing.Share(directory).read()
    return directory if record is not None and record.session == thing.labels.get(naming.SESSION) else None


def _directory(label: str) -> Path | None:
    """What a label names. In another locale than ours the same bytes are other letters, or none."""
    try:
        return Path(os.fsdecode(label.encode(errors="surrogateescape"))) if label else None
    except UnicodeEncodeError:
        return None


def remove(things: Iterable[Thing], stop: Callable[[], bool] = lambda: False, *, in_use: bool = False) -> Swept:
    """Remove them one after the other, until `stop` says so. What a process is just keeping the state of stays.

    A shared server that somebody has begun to use meanwhile stays as well, unless `in_use` says otherwise.
    """
    swept = Swept([], [])
    kept: str | None = None
    for thing in things:
        if stop():
            break
        # It outlives its run by seconds, and removes the server itself.
        kept = keepers() if kept is None else kept
        if _is_of(thing, kept):
            continue
        try:
            removed = _remove(thing, in_use)
        except Exception as error:
            swept.failed.append((thing, naming.mask(str(error))))
        else:
            swept.removed.extend([thing] if removed else [])
    return swept


def _remove(thing: Thing, in_use: bool) -> bool:
    """Remove one; False where somebody uses it."""
    share = share_of(thing)
    if share is not None and is_kept(thing):
        thing.remove()
        sharing.Share(share).forget()  # Passwords that were written there, too.
        return True
    if share is None or in_use:
        thing.remove()
        return True
    removed = False

    def end(session: str) -> None:
        nonlocal removed
        thing.remove()
        removed = True

    sharing.reap(share, end)
    return removed


def after_workers(maker: int) -> None:
    """At the end of the process `maker`: remove what its workers have left, if their reapers end with it. Never raises.

    A pool of multiprocessing kills its workers, and their maker may end at once.
    """
    if os.getpid() != maker or not any(name.startswith("multiprocessing.popen_") for name in sys.modules):
        return  # A forked child, or one that has started no process by multiprocessing.
    from itest import detached

    if not detached.goes_on():
        with contextlib.suppress(Exception):
            _remove_left_by_workers()


def _remove_left_by_workers() -> None:
    """Their reapers, as long as they live, do the same."""
    from itest.config import load
    from itest.reaper import REMOVAL_WAIT, engines

    deadline = Deadline.after(REMOVAL_WAIT)
    for make in engines(load()):
        # What one raises is not about the others.
        with contextlib.suppress(Exception), contextlib.closing(make()) as engine:
            if engine.unavailable():
                continue
            while left := [thing for thing in engine.things() if is_over(thing) or _is_left_by_workers(thing)]:
                if remove(left, lambda: deadline.passed).failed or deadline.passed:
                    break
                deadline.pause(0.05)  # Somebody may be keeping the state of one, who removes it.


def _is_left_by_workers(thing: Thing) -> bool:
    """Whether it was a server that the workers of this process shared, and nobody needs it any more."""
    owner = owners.parse(thing.labels.get(naming.OWNER, ""))
    if naming.SHARED not in thing.labels or owner is None or owner._replace(container="") != owners.current():
        return False
    share = share_of(thing)
    return share is None or sharing.is_over(share)


class Sweeps:
    """The sweeps that a session has begun: one of each engine, on a thread of its own, so that no test waits for it."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._closed = False

    def begin(self, engine: Engine) -> None:
        """Sweep this engine in a moment, unless that was done. Returns at once."""
        with self._lock:
            if self._closed or engine.name in self._threads:
                return
            # A daemon: a run that ends does not wait for a Docker that does not answer.
            thread = threading.Thread(target=self._sweep, args=(engine,), name="itest-sweep", daemon=True)
            with contextlib.suppress(RuntimeError):  # The interpreter is shutting down.
                thread.start()
                self._threads[engine.name] = thread

    def hasten(self) -> None:
        """The run is about to end: have those begin that have not yet."""
        self._over.set()

    def close(self) -> None:
        """Wait a moment for them; the rest is left to a later run."""
        self.hasten()
        deadline = Deadline.after(CLOSE_WAIT)
        for thread in list(self._threads.values()):
            thread.join(deadline.remaining)
        self._closed = True

    def _sweep(self, engine: Engine) -> None:
        self._over.wait(DELAY)
        try:
            swept = remove(filter(is_over, engine.things()), lambda: self._closed)
        except Exception:
            return  # An engine that cannot be asked says so where it is needed.
        if not self._quiet:
            if swept.removed:
                trace.say(f"removed what a killed run had left: {_listed(map(str, swept.removed))}")
            for thing, reason in swept.failed:
                trace.say(f"could not remove {thing}, which a killed run has left: {naming.shorten(reason)}")


def _listed(texts: Iterable[str]) -> str:
    return naming.shorten("; ".join(texts), 400)


def _is_of(thing: Thing, kept: str) -> bool:
    session = thing.labels.get(naming.SESSION, "")
    return bool(session) and session in kept


def keepers() -> str:
    """The command lines of the processes that are keeping a state; the session and the server are arguments of each."""
    lines: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            lines.append(entry.read_bytes().decode(errors="replace"))
    if not lines:  # macOS
        import subprocess

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run(["ps", "-Awwo", "args="], capture_output=True, text=True, timeout=10)
            lines.append(listed.stdout)
    return "\n".join(line for line in lines if KEEPER in line)
