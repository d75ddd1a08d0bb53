# SPDX-License-Identifier: Apache-2.0
"""Crash safety: a small detached process that ends a session's instances when the session's owner dies.

It blocks on a pipe whose other end only the owner holds. The kernel closes that end however the owner dies; then the
reaper removes everything labelled with the session, through the same `Engine.remove` that a sweep uses. No container,
no mounted socket, no port. In the orderly case it is told "done" and only leaves.

Its source runs twice: imported by the owner (class Reaper), and as a program (function main).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itest import detached, naming, sharing
from itest.clock import SYSTEM, Deadline
from itest.engines import Engine
from itest.sharing import Share

if TYPE_CHECKING:
    from itest.config import Config

BOOTSTRAP = detached.READ + (
    "first, *rest = data.decode().rstrip('\\n').split('\\n')\n"
    "def ended():\n"
    "    import socket\n"
    "    waiting = []\n"
    "    for _, address, request in (line.split(' ', 2) for line in rest if line.startswith('send ')):\n"
    "        waiting.append(socket.socket(socket.AF_UNIX))\n"
    "        waiting[-1].settimeout(30)\n"
    "        waiting[-1].connect(bytes.fromhex(address))\n"
    "        waiting[-1].sendall(f'{request} HTTP/1.0\\r\\nHost: docker\\r\\n\\r\\n'.encode())\n"
    "    return all(each.recv(12)[9:] in (b'200', b'204', b'404') for each in waiting)\n"
    "try:\n"
    "    done = rest[-1:] == ['done'] and ended()\n"
    "except OSError:\n"
    "    done = False\n"
    "if not done or 'lasting' in (line.split(' ')[0] for line in rest):\n"
    "    import json\n"
    "    orders = json.loads(first)\n"
    "    rest = [line for line in rest if done or line != 'done']\n"
    "    sys.path += orders['path']\n"  # See detached.calling.
    "    from itest.reaper import main\n"
    "    main(orders, rest)\n"
)

LOOK_PAUSE = 1.0
"""Seconds between two looks at the servers that stay for later runs."""

GIVE_UP = 3600.0
"""Seconds of nothing but failures after which it leaves: another version of itest may be where its own was. The next run
sweeps what is left."""

EXIT_WAIT = 5.0
"""Seconds the owner waits for its reaper to leave before it ends it."""

REMOVAL_WAIT = 10.0
"""Seconds the owner waits for what its reaper has to remove where that would end together with it."""


class Reaper:
    """The owner's end. Made before the first instance; told which engines are used; closed at the end."""

    def __init__(self, session: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment` says where the session's things are: that of this process may be another one by now."""
        self._process = detached.start(BOOTSTRAP, environment=environment)
        assert self._process.stdin is not None
        self._pipe = self._process.stdin
        self._tell(json.dumps({"path": naming.import_path(), "session": session}))
        self._lasting = self._sending = False
        # A forked child would hold the pipe open beyond the owner's death.
        _live.add(self)

    @property
    def pipe(self) -> int:
        """The descriptor of the pipe's end: another process that is given it is an owner too, and says "done" there."""
        return self._pipe.fileno()

    def lives(self) -> bool:
        """Whether it has not been killed."""
        return self._process.poll() is None

    @property
    def outlives_us(self) -> bool:
        """Whether it goes on when its owner has ended; see `detached.goes_on`."""
        return detached.goes_on()

    def watch(self, share: Share) -> None:
        """Have it see to a server that other processes use as well, when its owner dies; and to the end of its time,
        however its owner ends, if it has a lifetime. Called again when more is known of it."""
        lasting = bool(share.lifetime) or share.kept
        self._lasting |= lasting
        # In digits: a path may hold any bytes, and ends of lines.
        self._tell(f"{'lasting' if lasting else 'shared'} {share.session or '-'} {os.fsencode(share.directory).hex()}")

    def send(self, address: str, request: str) -> None:
        """Have it send a request to Docker at this socket when its owner has closed it: `DELETE /containers/...`. If
        that fails it goes by the label, as if its owner had died. Raises OSError where there is no reaper any more."""
        self._sending = True
        self._tell(f"send {os.fsencode(address).hex()} {request}")

    def close(self, *, done: bool) -> None:
        """Let the reaper go. `done`: everything was stopped in order and nothing is left for it to do."""
        with contextlib.suppress(OSError):
            if done:
                self._tell("done")
        with contextlib.suppress(OSError):
            self._pipe.close()
        if not done and not self.outlives_us:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(REMOVAL_WAIT)
        if not done or self._lasting or self._sending:
            self._process.returncode = 0  # It works on after us; its destructor must not warn about that.
            return
        try:
            self._process.wait(EXIT_WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        self._pipe.write(line.encode() + b"\n")
        self._pipe.flush()

    def forget(self) -> None:
        """In a forked child: let go of the pipe without a word, and of the process, which is not our child."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.returncode = 0  # else its destructor warns about a process that still runs


_live: weakref.WeakSet[Reaper] = weakref.WeakSet()


def _after_fork() -> None:
    for reaper in list(_live):
        reaper.forget()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)


def main(orders: Mapping[str, object], lines: Sequence[str]) -> None:
    """The reaper's work: remove until nothing is found, since the daemon may still be creating what was asked for."""
    lasting = _shares("lasting", lines)
    shared = {share: session for share, session in _shares("shared", lines).items() if share not in lasting}
    if "done" not in lines:
        deadline = Deadline.after(30.0)
        quiet_rounds = 0
        while quiet_rounds < 3 and not deadline.passed:
            removed = _remove_all({naming.SESSION: str(orders["session"])})
            removed += sum(not _reaped(*share) for share in shared.items())
            quiet_rounds = 0 if removed else quiet_rounds + 1
            SYSTEM.sleep(0.2)
    _keep_time(lasting)


def _shares(kind: str, lines: Sequence[str]) -> dict[Path, str]:
    """The directories of shared servers of this kind, and the label of each as far as it is known."""
    found = {}
    for line in lines:
        if line.startswith(f"{kind} "):
            _, session, directory = line.split(" ", 2)
            found[Path(os.fsdecode(bytes.fromhex(directory)))] = session.strip("-")
    return found


def _keep_time(shares: Mapping[Path, str]) -> None:
    """Wait until the time of servers that stay for later runs is over, and remove them. One reaper does that for each
    server, the others leave."""
    held = {share: contextlib.ExitStack() for share in shares}
    mine = {share for share, stack in held.items() if sharing.keeps_time(share, stack)}
    last = Deadline.after(GIVE_UP)
    while mine and not last.passed:
        failed = False
        for share in list(mine):
            done = _reaped(share, shares[share])
            failed |= done is None
            if done:
                mine.remove(share)
                # Whoever starts one there from now on has a reaper, which must find the place free.
                held[share].close()
        if not failed:
            last = Deadline.after(GIVE_UP)
        if mine:
            SYSTEM.sleep(LOOK_PAUSE)


def _reaped(share: Path, session: str) -> bool | None:
    """Whether there is nothing left to do for a shared server; None where that could not be found out."""
    try:
        return sharing.reap(share, lambda label: _remove_all({naming.SESSION: label}), session)
    except Exception:
        return None


def _remove_all(labels: Mapping[str, str]) -> int:
    from itest.config import load

    return sum(_remove(engine, labels) for engine in engines(load(files=False)))


def _remove(make: Callable[[], Engine], labels: Mapping[str, str]) -> int:
    try:
        engine = make()
        if engine.unavailable():
            return 0
        try:
            return _remove_but_kept(engine, labels)
        finally:
            engine.close()
    except Exception:
        return 1  # Not known to be clean: try again until the deadline.


def _remove_but_kept(engine: Engine, labels: Mapping[str, str]) -> int:
    """Remove all with these labels but the server whose state another process is just keeping, which ends within seconds and
    removes it; how many there were."""
    from itest.sweep import keepers  # Nearly always there is nothing left to be removed.

    found = keepers()
    if labels[naming.SESSION] not in found:
        return engine.remove(labels)
    instances = engine.find(labels)
    for instance in instances:
        if instance.id not in found and instance.state().running:  # Not what that process makes an image of.
            instance.stop()
    return len(instances)


def engines(config: Config) -> list[Callable[[], Engine]]:
    """What makes each engine that something of a run may be left on."""
    from itest.engines.docker import DockerEngine
    from itest.engines.process import ProcessEngine

    return [lambda: ProcessEngine(config), lambda: DockerEngine(config)]
