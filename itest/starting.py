# SPDX-License-Identifier: Apache-2.0
"""Starting one server and waiting until it answers, and its end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from itest import naming, trace, warm
from itest.clock import Clock, Deadline
from itest.config import Config
from itest.engines import Engine, Instance
from itest.errors import BuildError, DeclarationError, ExternalError, ImageError, ItestError, PortTaken, StartError
from itest.service import Server, Service
from itest.side_by_side import within
from itest.spec import ExternalSpec, Spec
from itest.tuples import NamedTuple
from itest.wait import NotReady, until, until_ready

if TYPE_CHECKING:
    from itest.reaper import Reaper

EXTERNAL_TIMEOUT = 10.0
"""Seconds an external server has for its first answer."""

LONGEST_ANSWER = 15.0
"""Seconds that all of an answer may take: clients count their own timeout, of 12 at most, anew with each byte."""

_importing = threading.Lock()
"""Held while clients are imported: two imports at once wait for one another at the interpreter's lock, and both are late."""


def _forget() -> None:
    """In a forked child, where nobody would open it any more."""
    global _importing
    _importing = threading.Lock()


os.register_at_fork(after_in_child=_forget)


class Job(NamedTuple):
    """One server to be started: what, by which engine, within how many seconds, with which password and labels.

    `warm`: it may begin with a kept state, and its own may be kept. `failing` is called when an attempt to start it fails:
    what that has made should be removed by then, which Docker may have been out of reach for.
    """

    service: Service[Any]
    spec: Spec
    engine: Engine
    config: Config
    timeout: float
    secret: str
    labels: Mapping[str, str]
    trace: trace.Recorder
    clock: Clock
    warm: bool
    failing: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return naming.show("Job", {**self._asdict(), "secret": naming.MASK})

    @property
    def longest(self) -> float:
        """Seconds that it may take until it is ready or has failed, what its image takes to be got or built included."""
        attempts: int = self.service.start_attempts
        return self.config.pull_timeout + self.config.build_timeout + self.timeout * attempts

    @property
    def subject(self) -> str:
        """What it is called in errors."""
        return f"{self.service.title} ({self.spec})"


def start(job: Job) -> Server[Any]:
    """Start it, with a kept state where there is one that can be begun with. Raises StartError, with nothing left."""
    state = warm.look(job.config, job.engine, job.spec, job.service.kind, job.trace) if job.warm else None
    broken: ItestError | None = None
    if state is not None and state.usable:
        try:
            server = _run(job, state)
        except PortTaken:
            raise
        except ItestError as error:
            broken = error
        else:
            state.used()
            server.origin = state
            return server
    server = _run(job, None)
    if state is not None and broken is not None:  # Where nothing starts at all, the state is not to blame.
        state.discard(broken)
    server.origin = state
    return server


def stop(server: Server[Any], session: str, *, reaper: Reaper | None = None) -> None:
    """Stop it. `session` is its label. Raises ItestError.

    With a reaper, at the end of the run, nobody waits for that: it is handed over to have its state kept for later runs,
    or the reaper has Docker remove it, which takes 0.2 s. Where no other process outlives this one, both are waited for.
    """
    if reaper is not None and _hand_over(server, session):
        return
    try:
        server.close()
    finally:
        sent = False
        if reaper is not None and reaper.outlives_us and (removal := server.instance.removal()) is not None:
            with contextlib.suppress(OSError):  # It was killed a moment ago.
                reaper.send(removal[1], removal[0])
                sent = True
        if not sent:
            server.instance.stop()


def _run(job: Job, state: warm.State | None) -> Server[Any]:
    """Start it, wait until it is ready and connect; with a kept state if one is given."""
    service, spec = job.service, job.spec
    timeout = job.timeout if state is None else min(job.timeout, warm.START_TIMEOUT)
    begun = spec if state is None else state.warm_spec
    imported = import_aside(service)
    instance: Instance | None = None
    try:
        deadline = Deadline.after(timeout, job.clock)
        instance = job.engine.start(begun, job.labels, deadline, job.trace)
        with job.trace.span("ready", service.kind):
            if isinstance(spec, ExternalSpec):
                return _reach(job, spec, instance)
            address = service.address(instance, job.secret)
            imported()  # Else it would be imported here, at the same time as what others need.
            check = service.readiness(address)
            if state is not None:
                check = service.ready_again(service.address(instance, state.secret), job.secret)
            until_ready(check, instance, deadline, subject=job.subject)
        with until(deadline):  # There may be more to be done on a new server than to wait for it.
            server: Server[Any] = service.connect(instance, address)
        return server
    except BaseException as error:
        job.failing()
        try:
            if instance is not None:
                instance.stop()
        except Exception as failure:
            error.add_note(f"and it could not be removed: {naming.mask(str(failure))}")
        if isinstance(error, StartError) and not isinstance(error, ImageError | BuildError):
            from itest import by_hand  # Only errors need it.

            by_hand.add(error, spec, instance)
        raise


def _reach(job: Job, spec: ExternalSpec, instance: Instance) -> Server[Any]:
    """Connect to an external server. It should be up already, so its wait is short and its errors are final."""
    service = job.service
    deadline = Deadline.after(min(job.timeout, EXTERNAL_TIMEOUT), job.clock)
    try:
        check = service.readiness(spec.url)
        within(
            deadline.seconds + LONGEST_ANSWER,
            lambda: until_ready(check, instance, deadline, subject=job.subject),
            "itest-reach",
        )
        server: Server[Any] = service.connect(instance, spec.url)
        return server
    except (ImportError, DeclarationError):  # Not the server's fault.
        raise
    except Exception as error:
        # An ExternalError says itself what is wrong: it was had of a server that runs.
        ask = "" if isinstance(error, ExternalError) else f"; is it running, and are {service.url_parts} right?"
        raise ExternalError(
            f"the external {service.title} at {instance}, named by {spec.source}, cannot be used: "
            f"{naming.shorten(getattr(error, 'reason', str(error)), 400)} (tried for {deadline.elapsed:.1f} s{ask})"
        ) from None


def ask_again(service: Service[Any], spec: ExternalSpec, instance: Instance) -> None:
    """Have an external server answer that has been used. Raises ExternalError where it is gone."""
    try:
        service.readiness(spec.url)(instance)
    except NotReady as error:
        raise ExternalError(
            f"the external {service.title} at {instance}, named by {spec.source}, does not answer any more: "
            f"{naming.shorten(str(error), 300)}; see whether it still runs"
        ) from None


def _hand_over(server: Server[Any], session: str) -> bool:
    if not isinstance(server.origin, warm.State) or (server.hung_up() and not server.lives()):
        return False
    try:
        return warm.hand_over(server.origin, server, session)
    except Exception as error:
        trace.say(f"the state of {server.title} could not be kept: {naming.shorten(str(error))}")
        return False


def import_aside(service: Service[Any]) -> Callable[[], object]:
    """Import what its running server will need, beside what the caller has to do first; what waits until that is done."""
    thread = threading.Thread(target=_import, args=(service,), name="itest-import", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # No thread can be had: a limit of memory or threads is reached, or the interpreter ends.
        return partial(_import, service)
    return thread.join


def _import(service: Service[Any]) -> None:
    with _importing, contextlib.suppress(Exception):  # What fails here fails again, and is told, where it is needed.
        service.import_ahead()
