# SPDX-License-Identifier: Apache-2.0
"""How a session starts one server, finds it running or stops it: with others or alone, and never without somebody who would
remove it if this process were killed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import joining, naming, sharing, starting, trace, warm
from itest.choosing import Engines
from itest.clock import Clock
from itest.config import Config
from itest.errors import PortTaken, StartError, StopError
from itest.service import Server, Service
from itest.sharing import Share
from itest.spec import ExternalSpec, ProcessSpec, Spec, ThreadSpec
from itest.starting import Job
from itest.sweep import Sweeps
from itest.telling import Telling

if TYPE_CHECKING:
    from itest.reaper import Reaper

START_ATTEMPTS = 5
"""How often a start is tried when somebody else takes the chosen host port in between."""

OF_OURS = ("init", "settings", "env", "volumes", "tls")
"""Fields of declarations by which only a server that itest starts can be changed."""


class Starter:
    """Of one session. `alone`: its engines were given to it, and their giver sees to what they start."""

    def __init__(
        self,
        session: str,
        secret: str,
        config: Config,
        engines: Engines,
        recorder: trace.Recorder,
        clock: Clock,
        *,
        alone: bool,
    ) -> None:
        self.telling = Telling(session, config, recorder, clock)
        self._session = session
        self._secret = secret
        self._config = config
        self._engines = engines
        self._trace = recorder
        self._clock = clock
        self._alone = alone
        self._group = None if alone else sharing.group(config)
        self._sweeps = Sweeps(config.quiet)
        self._reaper: Reaper | None = None
        self._failed = False
        """Whether a start has: that nothing is left of it, the reaper is to see by the label, in 0.2 s of processor time."""
        self._watched: dict[Path, Share] = {}
        """What a reaper has been told of, by its directory."""
        self._lock = threading.Lock()

    def labels(self, kind: str) -> dict[str, str]:
        return {naming.SESSION: self._session, naming.SERVICE: kind, naming.OWNER: naming.owner()}

    def needs_its_own(self, service: Service[Any]) -> bool:
        """Whether no other process may use its server, in a run whose servers are shared."""
        return not service.sharable and (self._group is not None or self._reused(service))

    def timeout(self, service: Service[Any]) -> float:
        """Seconds in which it must be ready."""
        return self._config.startup_timeout if service.startup_timeout is None else service.startup_timeout

    def start(self, service: Service[Any], spec: Spec, scope_key: str) -> Server[Any]:
        """Start it, or find it running. Raises ItestError."""
        engine = self._engines.that_runs(spec)
        service.check_client()
        if not self._alone:
            self._sweeps.begin(engine)
        job = Job(
            service,
            spec,
            engine,
            self._config,
            self.timeout(service),
            self._secret,
            {**self.labels(service.kind), naming.FINGERPRINT: service.identity(spec)},
            self._trace,
            self._clock,
            warm=not self._alone and service.keepable,
            failing=self._fail,
        )
        share = self._share(job, scope_key)
        for attempt in range(1, max(START_ATTEMPTS, service.start_attempts) + 1):
            try:
                with self._trace.span("start", service.kind, engine=engine.name) as span:
                    try:
                        server = self._run(job, share)
                    except StartError as error:
                        error.service = error.service or service.kind
                        limit = START_ATTEMPTS if isinstance(error, PortTaken) else service.start_attempts
                        span.again = attempt < limit
                        raise
                self.telling.started(server, span)
                break
            except StartError as error:
                if not span.again:
                    if attempt > 1 and not isinstance(error, PortTaken):
                        error.add_note(f"this was the last of {attempt} attempts to start it")
                    raise
        self._announce(server, job, span.seconds)
        return server

    def stop(self, server: Server[Any], *, over: bool) -> bool:
        """Stop it, or leave it to others. `over`: the run has ended, and the reaper can do what takes long. False when that
        failed and the reaper must see to it. Raises StopError, where somebody is there to be told."""
        with self._trace.span("stop", server.kind) as span:
            try:
                self.telling.stopping(server, span)
                reaper = self._reaper if over else None
                if server.share is not None:
                    joining.leave(server, server.share, reaper=reaper)
                else:
                    starting.stop(server, self._session, reaper=reaper)
            except Exception as error:
                span.failed = True
                if isinstance(error, StopError) and not over:
                    raise
                trace.say(f"could not stop {server.title}: {naming.shorten(str(error))}")
                return False
        return True

    def watch(self, share: Share | None = None) -> None:
        """Have a reaper, another one where it has been killed, and have it know the share."""
        if self._alone:
            return
        with self._lock:
            news = [] if share is None else [share]
            self._watched.update((each.directory, each) for each in news)
            if self._reaper is None or not self._reaper.lives():
                from itest.reaper import Reaper  # A run that finds its servers needs none.

                if self._reaper is not None:
                    self._reaper.close(done=False)
                try:
                    self._reaper = Reaper(self._session, self._config.child_environment())
                except OSError as error:
                    from itest import causes  # Only errors need it.

                    known = causes.of_error(error, "/")
                    raise StartError(
                        f"the process that would clean up if this one were killed could not be started, so nothing is: {error}"
                        f"{f'. {known.sentence}' if known else ''}",
                        cause=known.name if known else "",
                    ) from error
                news = [*self._watched.values()]
            for each in news:
                self._reaper.watch(each)

    def tell_reaper(self, share: Share) -> None:
        """Have the reaper, if there is one, know what has changed of a share."""
        if self._reaper is not None:
            self.watch(share)

    def prepare_end(self, servers: Iterable[Server[Any]]) -> None:
        """The run is about to end, for which its reaper must live. Servers that go on need one too, if those of the earlier
        runs which saw to their end have been killed."""
        self._sweeps.hasten()
        with contextlib.suppress(OSError, RuntimeError, StartError):  # The second where Python is ending already.
            if self._reaper is not None:
                self.watch()
                return
            for server in servers:
                share = server.share
                if share is not None and share.lifetime and not sharing.is_time_kept(share.directory):
                    self.watch(share)

    def close(self, *, clean: bool) -> None:
        """The end. `clean`: everything was stopped, and nothing is left for the reaper to do."""
        self._sweeps.close()
        self._engines.close()
        if self._reaper is not None:
            clean = clean and not self._failed
            if not self._reaper.lives():
                clean = False  # Nobody knows what it has done of what it was told.
                with contextlib.suppress(OSError, StartError):
                    self.watch()
            self._reaper.close(done=clean)
            self._reaper = None
        self.telling.over()

    def _fail(self) -> None:
        self._failed = True

    def _reused(self, service: Service[Any]) -> bool:
        return (service.reuse or self._config.reuse) and sharing.can_be_reused()

    def _run(self, job: Job, share: Share | None) -> Server[Any]:
        """Start it, or find it running. There is a reaper before the first thing exists that would need one."""
        if share is None:
            if not isinstance(job.spec, ExternalSpec | ThreadSpec):
                self.watch()
            return starting.start(job)
        if not share.lifetime:
            self.watch(share)
        server = joining.join(job, share, lambda: self.watch(share))
        if self._reaper is not None or not (share.lifetime and sharing.is_time_kept(share.directory)):
            self.watch(share)  # Else the reaper of an earlier run sees to its end, however we end.
        return server

    def _share(self, job: Job, scope_key: str) -> Share | None:
        """Where this server is shared with other processes, or may outlive this one; None: it is this one's own."""
        reused = self._reused(job.service)
        if self._alone or isinstance(job.spec, ExternalSpec):
            return None
        if scope_key or not job.service.sharable or (not reused and self._group is None):
            if not self._config.keep or not sharing.can_be_reused():
                return None
            return Share(
                sharing.place(self._config, "keep", self._session, naming.unique()), naming.owner(), private=True
            )
        name, owner = ("reuse", "") if reused or self._group is None else self._group
        # Each virtual environment may have its own programs; two of them in turn would else replace one another's server.
        program = job.spec.argv[0] if isinstance(job.spec, ProcessSpec) else ""
        key = (name, warm.address(job.engine), job.service.kind, job.labels[naming.FINGERPRINT], program)
        lifetime = self._config.reuse_time if reused else 0.0
        return Share(sharing.place(self._config, *key), owner, lifetime, run=sharing.run(self._config))

    def _announce(self, server: Server[Any], job: Job, seconds: float) -> None:
        """Say what runs where, unless nobody wants to know."""
        if self._config.quiet:
            return
        service, spec = job.service, job.spec
        if service.announced and (server.fresh or self._reused(service)):
            how = "ready" if server.fresh else "in use again"
            trace.say(naming.mask(f"{_place(server, spec)}, {how} in {seconds:.2f} s"))
            if isinstance(spec, ProcessSpec) and spec.replaces and (reason := self._engines.passed_over()):
                trace.say(f"local processes take the place of containers, as {reason}")
        vain = [name for name in OF_OURS if getattr(service, name, None)]
        if vain and isinstance(spec, ExternalSpec):
            trace.say(f"{server.title} at {server.instance} is external: {', '.join(vain)} change nothing there")


def _place(server: Server[Any], spec: Spec) -> str:
    if isinstance(spec, ProcessSpec):
        instead = f", in place of image {spec.replaces}" if spec.replaces else ""
        return f"{spec.version} as a local process{instead}"
    if isinstance(spec, ExternalSpec):
        return f"{server.version} at {server.instance} (from {spec.source})"
    return f"{server.version} in {server.instance}"
