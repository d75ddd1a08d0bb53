# SPDX-License-Identifier: Apache-2.0
"""One run: turns declarations into running servers through an engine, each once, and lends them to classes.

Servers outlive classes, because unittest re-enters classes and most classes want the same ones. They are stopped when
the run ends, by whichever comes first: the end of its outermost suite or the result's `stopTestRun` (whole_run.py),
`multiprocessing.util.Finalize` (worker processes), `atexit`, and the reaper where none of these was reached. After a close
the next test opens a new session.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import unittest
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from itest import joining, naming, quick_end, starting, trace
from itest.choosing import Engines
from itest.clock import SYSTEM, Clock
from itest.config import Config, load
from itest.engines import Engine
from itest.errors import ItestError, NotStarted, StartError, StartTimeout, StopError
from itest.network import ClassNetwork
from itest.service import Server, Service
from itest.side_by_side import side_by_side
from itest.spec import ComposeSpec, ContainerSpec, ExternalSpec, Spec, ThreadSpec
from itest.starter import Starter
from itest.sweep import after_workers

OF_CLASS = "it is the service"
"""What the note of an error begins with that says which one of a class could not be had."""

NOR = "nor could"
"""What those begin with that say which others could not be had either."""

_current: Session | None = None
_current_lock = threading.Lock()


def current() -> Session:
    """The session of this process; opened at the first call, and anew after a close or in a forked child."""
    global _current
    with _current_lock:
        if _current is None or _current.closed:
            _current = Session(load())
        return _current


def install(session: Session | None) -> Session | None:
    """Make this the session of the process, and return the one before. For `itest.testing`."""
    global _current
    with _current_lock:
        before, _current = _current, session
        return before


def opened() -> Session | None:
    """The session if this process has opened one and not closed it yet."""
    return None if _current is None or _current.closed else _current


def watch(result: unittest.TestResult) -> None:
    """A test is about to report to this result. Nothing where no session is open."""
    if (session := opened()) is not None:
        session.telling.watch(result)


def _forget() -> None:
    """In a forked child: the parent's servers are not its own, and whoever held the lock does not exist there."""
    global _current, _current_lock
    _current, _current_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)

# First to come, last to be called: after the close of a session of its own.
atexit.register(after_workers, os.getpid())


class _Slot:
    """The place of one server: whoever comes first starts it, the others wait for the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: Server[Any] | None = None
        self.error: BaseException | None = None
        self.allowed = 0.0
        """Seconds that it had to be ready, where it was not."""
        self.told = ""
        """The class that was told the error with all that is known of it."""


class Session:
    """The running servers of one process's part of a run."""

    def __init__(self, config: Config, engines: Sequence[Engine] | None = None, clock: Clock = SYSTEM) -> None:
        _occupy_standard_descriptors()
        self.id = naming.session_id()
        self.pid = os.getpid()
        self.config = config
        self.closed = False
        self.kept = 0
        """How many failed tests' data was to be kept (keeping.py)."""
        self.trace = trace.Recorder(clock)
        self.secret = naming.secret()
        """The password of the servers that it starts."""
        self._engines = Engines(config, engines)
        self._starter = Starter(
            self.id, self.secret, config, self._engines, self.trace, clock, alone=engines is not None
        )
        self.telling = self._starter.telling
        self._slots: dict[tuple[str, ...], _Slot] = {}
        self._lock = threading.Lock()
        self._networks: list[ClassNetwork] = []
        self._to_come: list[Service[Any]] | None = None
        """The declarations of the classes that have not ended yet, one for each class; None where nobody has told."""
        self._broken = False
        """Whether there may be things that only the reaper can end: a server could not be stopped, or something else than a
        failure has broken into a start, Ctrl-C first of all."""
        # At the end of this process, be it a script (atexit) or a worker of multiprocessing (Finalize): workers made
        # by fork never run atexit on Python 3.11 (docs/design.md, "The closing chain").
        self._finalize: Any = None
        if "multiprocessing.process" in sys.modules:  # Else it is nobody's worker, and importing it takes 7 ms.
            from multiprocessing.util import Finalize

            self._finalize = Finalize(None, self._close_at_exit, exitpriority=100)
        quick_end.prepare()
        atexit.register(self._close_at_exit)

    def lend(
        self, service: Service[Any], scope_key: str = "", network: ClassNetwork | None = None, name: str = ""
    ) -> Server[Any]:
        """The running server for a declaration, started if need be.

        Declarations with equal specs share one server; a `scope_key` (a class, a test) makes it one of its own. On the
        `network` it is known by that `name`, and if it is a container of its own from its beginning on.
        Raises Unavailable when nothing here can run it, StartError when it fails to start. A failure is remembered:
        the next class gets the same error at once instead of waiting for it again.
        """
        spec = self._spec(service)
        key = self._key(service, spec, scope_key)
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if self.closed:  # Under the lock: whoever closes looks at the locks after that, and leaves the rest to us.
                raise NotStarted(f"the run has ended; {service.title} is not started any more")
            allowed = self._starter.timeout(service)
            if slot.error is not None and not (isinstance(slot.error, StartTimeout) and allowed > slot.allowed):
                raise slot.error.with_traceback(None)
            if slot.server is not None and not slot.server.lives():
                self._stop(slot)  # It died under an earlier class; this one gets a new one.
            if slot.server is None:
                slot.error = None
                try:
                    joined = _joined(service, spec, network, name)
                    if network is not None and isinstance(joined, ComposeSpec) and joined.network:
                        joined = joined._replace(taken=self._names_beside(network, name))
                    slot.server = self._starter.start(service, joined, key[-1])
                except ItestError as error:
                    if service.scope != "test" or isinstance(error, StartTimeout):  # A new one is its point.
                        slot.error, slot.allowed, slot.told = error, allowed, ""
                    raise
                except BaseException:
                    self._broken = True
                    raise
                if self._was_closed():
                    self._stop(slot)
                    raise NotStarted(f"the run ended while {service.title} was starting")
            if network is not None and not _begins_there(service) and isinstance(spec, ContainerSpec | ComposeSpec):
                network.join(slot.server.instance, name)
            return slot.server

    def lend_all(
        self,
        wanted: Sequence[tuple[Service[Any], str, ClassNetwork | None, str]],
        lent: Callable[[int, Server[Any]], None] = lambda number, server: None,
        owner: str = "",
    ) -> list[Server[Any]]:
        """`lend` for several at once: they start side by side. The first failure, in order, is raised; notes tell the others.

        `lent` is called here with each server and its number, in order, while later ones may still be starting; not after
        a failure. What it raises is raised once all have started. `owner` is the class that wants them, for those that are
        given the same failure after it.
        """
        failures: list[BaseException] = []
        given: set[int] = set()

        def take(number: int, found: Server[Any] | BaseException) -> None:
            if isinstance(found, BaseException):
                failures.append(found)
            elif not failures:
                given.add(number)
                try:
                    lent(number, found)
                except Exception as error:
                    failures.append(error)

        found = side_by_side([partial(self.lend, *each) for each in wanted], "itest-start", take)
        if failures:
            _tell_names(failures[0], wanted, found)
            failure = self._as_told_to(owner, failures[0])
            for number, (server, (_, key, *_)) in enumerate(zip(found, wanted, strict=True)):
                # Nobody else would ever stop a server of the class's own that was not given to anybody.
                if key and number not in given and isinstance(server, Server):
                    try:
                        self.take_back(server)
                    except StopError as error:
                        failure.add_note(str(error))
            raise failure
        return [each for each in found if isinstance(each, Server)]

    def _as_told_to(self, owner: str, error: BaseException) -> BaseException:
        """A failure as this class is told it. One that an earlier class was told is a sentence, without its log and command."""
        # Only what is remembered can be told again, and no other is kept, with all that its frames hold.
        slot = next((slot for slot in list(self._slots.values()) if slot.error is error), None)
        if not isinstance(error, StartError) or not owner or slot is None:
            return error
        names = [note for note in error.__notes__ if note.startswith((OF_CLASS, NOR))]
        if not slot.told or names == error.__notes__:
            slot.told = owner
            return error
        # Not by `copy`, which calls `__init__`: a subclass of the user's may have another one.
        short = type(error).__new__(type(error))
        short.args, short.__cause__ = error.args, error.__cause__
        vars(short).update(vars(error))
        short.__notes__ = [f"as told above at {slot.told}", *names]
        return short

    def network(
        self,
        name: str,
        aliases: Mapping[str, Sequence[str]] | None = None,
        services: Mapping[str, Service[Any]] | None = None,
    ) -> ClassNetwork | None:
        """A network for the containers of a class, made when the first one joins it; None without Docker. `aliases` are
        further names of services on it, `services` all that the class has, by their attributes."""
        if (engine := self._engines.docker()) is None:
            return None
        found = ClassNetwork(
            engine, name, self._starter.labels("network"), aliases or {}, self._starter.watch, services or {}
        )
        self._networks.append(found)
        return found

    def start_ahead(self, services: Sequence[Service[Any]]) -> None:
        """Start the servers of these declarations, one for each class that is to run, side by side, and return at once.
        `lend` waits for its own.

        What fails here is raised by the `lend` of the class that wants it.
        """
        self._to_come = list(services)
        if self.config.parallel_start and len(dict.fromkeys(services)) > 1:  # Else the first class starts it right now.
            self._aside(self._start_each, services)

    def _start_each(self, services: Sequence[Service[Any]]) -> None:
        begun = set()
        # What takes longest to start may have to be fetched before it can be told what it is: the others do not wait for that.
        for service in sorted(services, key=lambda service: service.start_seconds):
            with contextlib.suppress(Exception):
                key = self._key(service, self._spec(service))
                if key not in begun:
                    begun.add(key)
                    self._aside(self.lend, service)

    @staticmethod
    def _aside(function: Callable[..., object], *arguments: object) -> None:
        def call() -> None:
            with contextlib.suppress(Exception):  # Whoever needs it is told.
                function(*arguments)

        # Daemons: a run that ends early does not wait for them, and the reaper ends what they were starting.
        with contextlib.suppress(RuntimeError):  # No thread can be had: then each class starts its own.
            threading.Thread(target=call, name="itest-start-ahead", daemon=True).start()

    def _was_closed(self) -> bool:
        """Whether somebody else has closed the session by now."""
        return self.closed

    def take_back(self, server: Server[Any]) -> None:
        """Stop a server whose scope has ended. Raises StopError."""
        with self._lock:
            keys = [key for key, slot in self._slots.items() if slot.server is server]
            slots = [self._slots.pop(key) for key in keys]
        for slot in slots:
            self._stop(slot)

    def has_ended(self, service: Service[Any], server: Server[Any]) -> None:
        """A class has given back what it had of a server of the run, by that declaration."""
        if self._to_come is not None:
            with contextlib.suppress(ValueError):
                self._to_come.remove(service)
            server.prune(self._to_come)

    def place_to_keep(self, server: Server[Any]) -> Path | None:
        """The directory of a server that can outlive the run, in which passwords may be written; None: it cannot."""
        return None if server.share is None else server.share.directory

    def ask(self, service: Service[Any], server: Server[Any]) -> None:
        """Raise ExternalError if a server is external, and does not answer any more."""
        spec = self._spec(service)
        if isinstance(spec, ExternalSpec) and not server.silent:
            starting.ask_again(service, spec, server.instance)

    def keep(self, server: Server[Any]) -> None:
        """Have such a server stay after the run, for people to look at. Raises ItestError, OSError."""
        assert server.share is not None, "asked before"
        joining.stay(server.share, self.config.keep_time)
        self._starter.tell_reaper(server.share)

    def close(self) -> None:
        """Stop every server and leave nothing behind. Never raises; what could not be stopped is left to the reaper."""
        if self.closed or self.pid != os.getpid():
            return
        self.closed = True
        if self._finalize is not None:
            self._finalize.cancel()
        atexit.unregister(self._close_at_exit)
        try:
            with contextlib.suppress(KeyboardInterrupt):  # The tests have run: their result is still to be printed.
                self._stop_all()
        finally:
            clean = not self._broken
            if any(network.open for network in self._networks):
                clean = False  # Docker removes a network after all that is on it, for which nobody waits here.
            if any(slot.lock.locked() for slot in list(self._slots.values())):
                clean = False  # What such a start has made so far is known to labels only.
            self._starter.close(clean=clean)

    def _stop_all(self) -> None:
        """Stop every server, or leave the rest to the reaper where something breaks into that, as Ctrl-C does."""
        slots = [slot for slot in list(self._slots.values()) if slot.server is not None]
        try:
            self._starter.prepare_end([slot.server for slot in slots if slot.server is not None])
            # Docker takes a tenth of a second for each.
            side_by_side([partial(self._stop, slot) for slot in slots], "itest-stop")
        except BaseException:
            from itest import detached  # Mostly nothing does.

            self._broken = True
            detached.kill_awaited()
            raise

    def _close_at_exit(self) -> None:
        logging: Any = sys.modules.get("logging")
        if logging is not None:
            # pytest has closed its streams, and a traceback would be written for each line that our clients log now.
            logging.raiseExceptions = False
        self.close()

    def _spec(self, service: Service[Any]) -> Spec:
        with trace.kept_by(self.trace):  # What is run may have to be fetched first.
            return self._engines.spec(service, self.secret)

    def _names_beside(self, network: ClassNetwork, name: str) -> tuple[str, ...]:
        """The names that others of the class have on its network, whether they run by now or not."""
        found: list[str] = []
        for other, service in network.services.items():
            with contextlib.suppress(ItestError):  # Who starts it is told.
                if other != name and isinstance(self._spec(service), ContainerSpec | ComposeSpec):
                    found += network.names(other)
        return tuple(found)

    def _key(self, service: Service[Any], spec: Spec, scope_key: str = "") -> tuple[str, ...]:
        alone = "alone" if self._starter.needs_its_own(service) else ""
        return (service.kind, service.identity(spec), scope_key or alone)

    def _stop(self, slot: _Slot) -> None:
        """Stop the slot's server. Where that fails, or is interrupted, the reaper must see to it."""
        server, slot.server = slot.server, None
        stopped = False
        try:
            stopped = server is None or self._starter.stop(server, over=self.closed)
        finally:
            if not stopped:
                self._broken = True


def note_name(error: BaseException, service: Service[Any], name: str) -> None:
    """Have the error say which service of the class it is about, where several of a kind may be alike."""
    _drop_notes(error, OF_CLASS)
    if name not in ("", service.kind):
        error.add_note(f"{OF_CLASS} {name!r} of the class")


def _tell_names(
    error: BaseException,
    wanted: Sequence[tuple[Service[Any], str, ClassNetwork | None, str]],
    found: Sequence[Server[Any] | BaseException],
) -> None:
    """Have its notes say which service of a class it is about, and which others could not be started."""
    _drop_notes(error, NOR)
    for (service, *_, name), each in zip(wanted, found, strict=True):
        if each is error:
            note_name(error, service, name)
        elif isinstance(each, BaseException):
            # With its end: a long command may stand before that.
            said = naming.shorten(getattr(each, "reason", "") or str(each), 300, tail=150)
            why = f"{type(each).__name__}: {said}"
            error.add_note(f"{NOR} {name or service.kind!r} of the class be started: {why}{_last_line(each)}")


def _last_line(error: BaseException) -> str:
    """The end of the log that an error has as a note, where there is one; it may be that of a command before the start."""
    heads = ("last log lines of", "output of `")
    logs = [note for note in getattr(error, "__notes__", ()) if any(head in note.partition("\n")[0] for head in heads)]
    line = logs[0].rpartition("\n  | ")[2] if logs else ""
    return "" if line in ("", "(the log is empty)", "(none)") else f" (the end of its log: {naming.shorten(line, 200)})"


def _drop_notes(error: BaseException, beginning: str) -> None:
    """One that is remembered is raised to several classes, each with names of its own."""
    error.__notes__ = [note for note in getattr(error, "__notes__", ()) if not note.startswith(beginning)]


def _joined(service: Service[Any], spec: Spec, network: ClassNetwork | None, name: str) -> Spec:
    """The spec on the class's network, where it is a container, or several, that begin there, or an app of this process
    that they may call."""
    if isinstance(spec, ThreadSpec) and network is not None and service.scope != "session":
        with contextlib.suppress(ItestError):  # Docker is on another machine, whose containers do not reach this one.
            return spec._replace(host=network.host)
    if network is None or not _begins_there(service) or not isinstance(spec, ContainerSpec | ComposeSpec):
        return spec
    return spec._replace(network=network.id, aliases=(*network.names(name), *spec.aliases))


def _begins_there(service: Service[Any]) -> bool:
    """Whether it starts on the network of its class. What outlives the class joins it later, because a container that
    leaves its first network loses its published ports."""
    return service.in_container and service.scope != "session"


def _occupy_standard_descriptors() -> None:
    """Open those that are closed (`0<&-`, a daemon's child): locks and pipes of ours would get their numbers, which a
    child's standard streams then take from them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free (POSIX): this one.
