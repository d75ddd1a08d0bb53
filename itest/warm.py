# SPDX-License-Identifier: Apache-2.0
"""Warm start: what a server was like after its first start is kept, and later runs begin with that.

Kept are a server's initialised files and what its service adds to them (PostgreSQL: the migrated template databases),
under a fingerprint of all that they depend on: as an image with Docker, as an archive in the cache directory for local
processes. It is done at the end of the run by a process of its own (warm_keeper.py), so that nobody waits for it but
a run whose end is that of its container.

A state that cannot be begun with is discarded, and the server starts as if there had been none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from itest import naming, trace, warm_store
from itest.clock import wall
from itest.config import Config
from itest.engines import Engine
from itest.errors import ItestError
from itest.service import Server
from itest.spec import ComposeSpec, ContainerSpec, ExternalSpec, Keep, ProcessSpec, Spec, ThreadSpec
from itest.warm_store import Record

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine
    from itest.engines.process_instance import ProcessInstance

START_TIMEOUT = 30.0
"""Seconds that a server has to become ready when it begins with a kept state; it takes tenths of one."""

KEEP_TIMEOUT = 30.0
"""Seconds that keeping it may take where the run has to wait for that (`detached.complete`); it takes about one."""


class State:
    """The state of one server: what there is to begin with, and what has to be known to keep it."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        spec: ContainerSpec | ProcessSpec,
        service: str,
        fingerprint: str,
        base: str,
        record: Record | None,
    ) -> None:
        self.config = config
        self.engine = engine
        self.spec = spec
        self.service = service
        self.fingerprint = fingerprint
        self.base = base
        """The id of the image that the state was or will be made on; empty for a process."""
        self.record = record
        self.since = wall()
        self.steps: dict[str, float] = {}
        """Seconds that steps took in this run which later runs can do without; see `Record.steps`."""
        self.remade = False
        """Whether one was discarded, and the next is made in its place."""

    @property
    def usable(self) -> bool:
        """Whether there is one to begin with."""
        return self.record is not None and not self.record.failed

    @property
    def secret(self) -> str:
        """The password in it."""
        assert self.record is not None
        return self.record.secret

    @property
    def warm_spec(self) -> Spec:
        """The spec that begins with it."""
        assert self.record is not None
        if isinstance(self.spec, ContainerSpec):
            return self.spec._replace(warm=self.record.image)
        return self.spec._replace(warm=str(warm_store.archive(self.config.cache_dir, self.record)))

    def used(self) -> None:
        """A server has begun with it."""
        cache = self.config.cache_dir
        # Another run may have kept a newer one meanwhile.
        if self.record is not None and self.record.remade and warm_store.read(cache, self.fingerprint) == self.record:
            self.record = self.record._replace(remade=False)  # What broke the one before has passed.
            with contextlib.suppress(OSError):
                warm_store.write(cache, self.record)
        warm_store.touch(cache, self.fingerprint)

    def discard(self, error: BaseException) -> None:
        """It cannot be begun with: remove it, and say so, but where somebody has removed its image. Where that was said of the
        one before, too, none is made for a day."""
        record, self.record = self.record, None
        if record is None:
            return
        self.remade = not self._is_gone(record)
        barred = self.remade and record.remade
        reason = naming.shorten(str(error), 200)
        if self.remade and not self.config.quiet:
            what = "cannot be used either, and none is kept for a day" if barred else "cannot be used and is made anew"
            trace.say(f"the kept state of {self.service} {what}: {reason}")
        warm_store.remove(self.config.cache_dir, record)
        if barred:
            failed = f"it was made anew, and could not be begun with either: {naming.mask(reason)}"
            self.record = Record(self.fingerprint, self.service, wall(), failed=failed)
            with contextlib.suppress(OSError):
                warm_store.write(self.config.cache_dir, self.record)
        if record.image:
            from itest.engines import docker_warm

            with contextlib.suppress(ItestError):
                docker_warm.discard(cast("DockerEngine", self.engine), record.image)

    def _is_gone(self, record: Record) -> bool:
        """Whether Docker has its image no more: `docker image prune -a`, and nothing is wrong."""
        if not record.image:
            return False
        from itest.engines import docker_warm

        try:
            return all(image["Id"] != record.image for image in docker_warm.images(cast("DockerEngine", self.engine)))
        except ItestError:
            return False


def look(config: Config, engine: Engine, spec: Spec, service: str, recorder: trace.Recorder) -> State | None:
    """The state for this spec on this engine. None where states are not kept: switched off, or nothing to be kept."""
    if not config.warm or isinstance(spec, ExternalSpec | ComposeSpec | ThreadSpec):
        return None
    if isinstance(spec, ProcessSpec) and spec.inherits:
        return None  # What it is does not follow from its spec.
    base = identity(engine, spec, recorder, service)
    if not base:
        return None
    # Images of several cache directories may lie on one Docker, under a name each.
    cache = warm_store.identity(config.cache_dir) if isinstance(spec, ContainerSpec) else ""
    fingerprint = naming.fingerprint("warm", warm_store.FORMAT, address(engine), base, cache, spec.fingerprint())
    record = warm_store.read(config.cache_dir, fingerprint)
    if record is not None and not record.failed and bool(record.image) != isinstance(spec, ContainerSpec):
        record = None  # Somebody has changed it: it is another engine's.
    return State(config, engine, spec, service, fingerprint, base, record)


def address(engine: Engine) -> str:
    """Which engine it is: Docker by where it answers."""
    return str(cast("DockerEngine", engine).address.url) if engine.name == "docker" else engine.name


def identity(engine: Engine, spec: Spec, recorder: trace.Recorder, service: str) -> str:
    """What a server depends on besides its spec: the very image, or the very program. Empty where that is not known.

    Raises StartError for an image that must be got first, and cannot be.
    """
    if isinstance(spec, ProcessSpec):
        from itest.engines import process_warm

        return process_warm.identity(spec)
    if isinstance(spec, ContainerSpec) and engine.name == "docker":
        return cast("DockerEngine", engine).identity(spec, recorder, service)
    return ""


def hand_over(state: State, server: Server[Any], session: str) -> bool:
    """At the end of the run: have the server's state kept by a process of its own, if it is worth it.

    True when that process has taken over; then the server's clients are closed, and everything on it is removed once
    the state is kept, or could not be. False: nothing has happened, the server is to be closed and stopped as usual.
    """
    if type(server).keep is Server.keep:
        return False  # It never has anything to keep. No lock either: its fingerprint may hold a port, new in each run.
    if state.record is not None and state.record.failed:
        return False
    lock = None
    try:
        try:
            lock = _take(warm_store.lock_file(state.config.cache_dir, state.fingerprint))
        except OSError as error:
            say_unwritable(state.config, error, "nothing is kept for faster starts", "or ITEST_WARM=0")
        if lock is None:
            return False  # Somebody else is keeping one right now, or there is no place for it.
        newest = warm_store.read(state.config.cache_dir, state.fingerprint)
        if newest is not None and newest.created > state.since:
            return False  # Somebody else has kept one meanwhile.
        keep = server.keep(cold=state.record is None)
        if keep is None:
            return False
        if keep.failed:
            warm_store.write(
                state.config.cache_dir, Record(state.fingerprint, state.service, wall(), failed=keep.failed)
            )
            return False
        _start(state, server, keep._replace(service=state.service), session, lock)
        return True
    finally:
        if lock is not None:
            os.close(lock)


_unwritable: set[Path] = set()
"""Cache directories that were told to be of no use."""


def say_unwritable(config: Config, error: OSError, what: str, cure: str = "") -> None:
    """Say once of a cache directory what it is of no use for."""
    if not config.quiet and config.cache_dir not in _unwritable:
        _unwritable.add(config.cache_dir)
        trace.say(
            f"{what}, since {error.filename or config.cache_dir} cannot be written to ({error.strerror}): set "
            f"{', '.join(filter(None, ['ITEST_CACHE_DIR to another directory', cure]))}"
        )


def _start(state: State, server: Server[Any], keep: Keep, session: str, lock: int) -> None:
    """Start the process that keeps the state, and a reaper that waits for its end, however it ends: ours will be gone."""
    from itest import detached  # Only the end of a run that has started something.
    from itest.reaper import Reaper

    config, instance = state.config, server.instance
    place = ""
    if isinstance(state.spec, ProcessSpec):
        # Its end cannot be the other process's work: our death is the server's signal to end at once.
        place = str(cast("ProcessInstance", instance).end(keep.stop_signal))
    environment = config.child_environment()
    reaper = Reaper(session, environment)
    orders = {
        "path": naming.import_path(),
        "cache": str(config.cache_dir.absolute()),
        "limit": config.warm_size * 1024 * 1024,
        "session": session,
        "fingerprint": state.fingerprint,
        "keep": keep._asdict(),
        "place": place,
        "container": "" if place else instance.id,
        "base": state.base,
        "steps": {**(state.record.steps if state.record is not None else {}), **state.steps},
        "remade": state.remade,
        "entrypoint": getattr(state.spec, "entrypoint", None),
        "reaper": reaper.pipe,
    }
    try:
        process = detached.start(
            detached.calling("itest.warm_keeper"),
            session,
            instance.id,
            environment=environment,
            held=[lock, reaper.pipe],
        )
        if detached.goes_on():
            detached.leave(process, json.dumps(orders).encode())
            return
        with trace.step("keep", server.kind, title=f"the state of {server.title}") as span:
            span.again = True  # Whoever has called says why it is not kept.
            detached.complete(process, json.dumps(orders).encode(), KEEP_TIMEOUT)
    except TimeoutError as error:
        with contextlib.suppress(OSError):  # The next run must not wait for as long again.
            warm_store.write(config.cache_dir, Record(state.fingerprint, keep.service, wall(), failed=str(error)))
        raise
    finally:
        reaper.close(done=False)  # The other process holds its pipe from now on.


def _take(path: os.PathLike[str]) -> int | None:
    """A lock that ends with its last holder, child processes that were given it included. None: it is held."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
