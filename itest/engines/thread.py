# SPDX-License-Identifier: Apache-2.0
"""The thread engine: apps that live in this process, each on a thread, with a port of their own."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from itest import naming
from itest.clock import SYSTEM, Deadline, wall
from itest.config import Config
from itest.engines import Endpoint, ExecResult, Instance, State, Thing, port_of, remove_all, thread_env
from itest.engines.local import LocalInstance
from itest.engines.ports import listeners
from itest.engines.thread_calls import Calls
from itest.engines.thread_load import failed, load, text_of
from itest.engines.thread_log import CAPTURE, AppLog
from itest.errors import ItestError, StartTimeout, StopError
from itest.spec import Spec, ThreadSpec, fill
from itest.trace import Recorder, say
from itest.wait_errors import not_ended, with_log

STOP_WAIT = 8.0
"""Seconds that an app has to answer its last requests and to leave its lifespan."""

CANCEL_WAIT = 1.0
"""Seconds that it has once it was cancelled. A thread that does not end by itself cannot be ended."""

CATCH_UP = 0.5
"""Seconds that whoever reads its log waits for what it is just logging."""

RESTART_WAIT = 60.0
"""Seconds in which an app that has started before must have started again."""

T = TypeVar("T")


class Serving(Protocol):
    """A server for one app: uvicorn or waitress."""

    failure: BaseException | None
    """What the app's start or its end has raised."""

    calls: Calls
    """What it is at work on."""

    @property
    def served(self) -> Any: ...

    def serve(self, ready: threading.Event) -> None: ...

    def stop(self) -> None: ...

    def cancel(self) -> None: ...

    def catch_up(self, seconds: float) -> None:
        """Wait, no longer than that, for what it is doing at this moment: an answer is sent before its error is logged."""

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T: ...


class ThreadEngine:
    """Runs `ThreadSpec`s."""

    name = "thread"

    def __init__(self, config: Config | None = None) -> None:
        """As the other engines. Without a configuration it says nothing."""
        self._quiet = config is None or config.quiet
        self._instances: dict[str, ThreadInstance] = {}
        self._numbers = itertools.count(1)
        self._told: set[str] = set()

    def unavailable(self) -> str | None:
        return None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> ThreadInstance:
        """Start it and wait for the end of its lifespan's start, whose exception is the cause of the StartError."""
        if not isinstance(spec, ThreadSpec):
            raise TypeError(f"the thread engine cannot run {spec}")
        number = f"{os.getpid()}-{next(self._numbers)}"
        instance = ThreadInstance(spec, labels, number, lambda: self._instances.pop(number, None))
        self._instances[number] = instance
        try:
            instance.start(deadline)
        except BaseException as error:
            try:
                instance.stop()
            except ItestError as failure:
                error.add_note(str(failure))
            raise
        if instance.early and instance.early not in self._told and not self._quiet:
            say(instance.early)
            self._told.add(instance.early)
        return instance

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        """What this process runs: nobody else can."""
        return [each for each in list(self._instances.values()) if labels.items() <= each.labels.items()]

    def remove(self, labels: Mapping[str, str]) -> int:
        return remove_all(self.things(), labels)

    def things(self) -> list[Thing]:
        return [
            Thing("thread", each.id, str(each.spec), each.labels, each.created, each.state().running, each.stop)
            for each in list(self._instances.values())
        ]

    def close(self) -> None:
        """Nothing: it has nothing but its instances."""


class ThreadInstance(LocalInstance):
    """An app on a thread."""

    owned = True

    def __init__(self, spec: ThreadSpec, labels: Mapping[str, str], id: str, forget: Any) -> None:
        self.id = id
        self.spec = spec
        self.interface = spec.interface
        self.labels = dict(labels)
        self.created = wall()
        self.app: Any = None
        self.early = ""
        """What it may have read before its environment was set, as a sentence."""
        self._forget = forget
        self._log = AppLog()
        self._listeners = {name: listeners(0, spec.host) for name in spec.ports}
        self._endpoints = {name: Endpoint(*found[0].getsockname()[:2]) for name, found in self._listeners.items()}
        self._env: dict[str, str] | None = None
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._stopped = False
        CAPTURE.begin()

    def start(self, deadline: Deadline) -> None:
        """Raises StartError; `stop` is to be called then too."""
        subject = self.labels.get(naming.SERVICE, "") or str(self.spec)
        env = {name: fill(value, self._endpoints) for name, value in self.spec.env.items()}
        thread_env.apply(env, str(self.spec))
        self._env = env
        self._begin(deadline, subject)

    def restart(self) -> None:
        with self._lock:
            self._end()
            for name, found in self._listeners.items():
                for listener in found:
                    listener.close()
                self._listeners[name] = listeners(self._endpoints[name].port, self.spec.host)
            self._settled.clear()
            self._failure = None
            self._begin(Deadline.after(RESTART_WAIT), self.labels.get(naming.SERVICE, "") or str(self.spec))

    def _begin(self, deadline: Deadline, subject: str) -> None:
        context = copy_context()
        context.run(self._log.enter)
        began = SYSTEM.monotonic()
        self.app, self.early = context.run(load, self.spec, subject)
        loaded = SYSTEM.monotonic() - began
        self._serving = context.run(_serving, self.spec, self.app, next(iter(self._listeners.values())), self._log)
        # A daemon: a thread that does not end must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, args=(self._serving,), name="itest-app", daemon=True)
        self._thread.start()
        if not self._settled.wait(deadline.remaining):
            self._serving.cancel()
            raise with_log(
                self,
                StartTimeout(
                    f"{self.spec} did not start within {deadline.seconds:g} s: {_late(loaded, deadline.seconds)}. If it only "
                    f"needs longer, raise startup_timeout",
                    service=subject,
                    seconds=deadline.elapsed,
                ),
            )
        if self._failure is not None or self._serving.failure is not None or not self._thread.is_alive():
            cause = self._serving.failure
            if cause is None and not isinstance(self._failure, SystemExit):  # With which uvicorn ends.
                cause = self._failure
            story = "its lifespan reports that it failed, see its log below"
            error = failed(self.spec, f"it raised {text_of(cause)}" if cause else story, subject, deadline.elapsed)
            raise (error if cause else with_log(self, error)) from cause

    def _serve(self, serving: Serving) -> None:
        self._log.enter()
        try:
            serving.serve(self._settled)
        except BaseException as error:
            self._failure = error
        finally:
            self._settled.set()

    @property
    def served(self) -> Any:
        return self._running.served

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        return self._running.run(coroutine, timeout)

    def rest(self, seconds: float) -> str:
        return self._running.calls.rest(seconds)

    @property
    def _running(self) -> Serving:
        assert self._serving is not None, "only an app that was started is handed out"
        return self._serving

    def endpoint(self, name: str = "") -> Endpoint:
        return self._endpoints[port_of(self._endpoints, name, self)]

    def state(self) -> State:
        if self._thread is not None and self._thread.is_alive() and not self._stopped:
            return State(True)
        return State(False, "ended" if self._failure is None else f"ended by {text_of(self._failure)}")

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        """What it has given to `logging`, as its server has; what it prints is the process's own output."""
        if self._serving is not None and self._thread is not None and self._thread.is_alive():
            self._serving.catch_up(CATCH_UP)
        return self._log.text(tail, since)

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        """Run a command in this process's directory and environment."""
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
        except FileNotFoundError as error:
            return ExecResult(127, "", str(error))
        except subprocess.TimeoutExpired:
            raise not_ended(argv, f"beside {self}", timeout) from None
        return ExecResult(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def stop(self) -> None:
        """End it in an orderly way, then by force. May be called twice. Raises StopError if its end failed, and
        ItestError if its thread still runs."""
        with self._lock:
            if self._stopped:
                return
            try:
                self._end()
            finally:
                self._stopped = True
                for listener in itertools.chain.from_iterable(self._listeners.values()):
                    listener.close()
                if self._env is not None:
                    thread_env.undo(self._env)
                CAPTURE.end()
                self._forget()

    def _end(self) -> None:
        serving, thread = self._serving, self._thread
        if serving is None or thread is None:
            return
        was_running = thread.is_alive() and self._settled.is_set() and self._failure is None
        serving.stop()
        thread.join(STOP_WAIT if was_running else 0.0)
        if late := thread.is_alive():
            serving.cancel()
            thread.join(CANCEL_WAIT)
        if thread.is_alive():
            busy = f"busy with {requests}" if (requests := str(serving.calls)) else "busy"
            raise ItestError(f"{self} has not ended: its thread is {busy}, and ends with this process")
        if was_running and (failure := serving.failure) is not None:
            story = f"raised {text_of(failure)}"
            if late:  # What it has raised is our cancellation, mostly.
                story = (
                    f"had not come {STOP_WAIT:g} s after the app was stopped, and its lifespan was cancelled: after its `yield`, "
                    f"let it cancel what does not end by itself"
                )
            raise StopError(f"the end of the lifespan of {self} {story}") from failure

    def __str__(self) -> str:
        return f"thread {self.id} ({self.spec})"


def _serving(spec: ThreadSpec, app: Any, found: Sequence[socket.socket], log: AppLog) -> Serving:
    if spec.interface == "asgi":
        from itest.engines.thread_asgi import AsgiServing

        return AsgiServing(app, found, log)
    from itest.engines.thread_wsgi import WsgiServing

    return WsgiServing(app, found, log)


def _late(loaded: float, seconds: float) -> str:
    """Why it was not ready in time: `loaded` is how long its import and its factory took."""
    if loaded >= seconds:
        return f"importing it, or its factory, took {loaded:.1f} s"
    return "its lifespan has not come to an end of its start"
