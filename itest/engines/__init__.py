# SPDX-License-Identifier: Apache-2.0
"""The protocols of an engine: `Engine` starts things, `Instance` is one thing it started; some can do more."""

# Annotations are evaluated here: NamedTuple would compile each that is a text (typing.ForwardRef), at every start.

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from itest.clock import Deadline
from itest.errors import ItestError
from itest.spec import Spec
from itest.trace import Recorder
from itest.tuples import NamedTuple

T = TypeVar("T")


class Endpoint(NamedTuple):
    """Where a port of an instance is reached from this process."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


HOST_INSIDE = "host.docker.internal"
"""What containers call the machine that Docker runs on: Docker Desktop's name for it, which itest gives them elsewhere."""


def from_inside(endpoint: Endpoint) -> Endpoint:
    """The endpoint as containers reach it: what is the loopback here is the container itself there."""
    local = endpoint.host == "localhost" or endpoint.host.startswith("127.") or endpoint.host == "::1"
    return Endpoint(HOST_INSIDE, endpoint.port) if local else endpoint


def is_ending(pid: int) -> bool:
    """Whether a process has ended, reaped or not, or is about to. Linux marks its threads before it closes its sockets
    (PF_EXITING in include/linux/sched.h); elsewhere it is not to be seen."""
    threads = f"/proc/{pid}/task"
    try:
        return all(map(_is_exiting, (f"{threads}/{thread}/stat" for thread in os.listdir(threads))))
    except FileNotFoundError:
        return sys.platform == "linux"


def _is_exiting(stat: str) -> bool:
    try:
        with open(stat, "rb") as file:
            return bool(int(file.read().rpartition(b")")[2].split()[6]) & 0x4)
    except (FileNotFoundError, ProcessLookupError):
        return True


class ExecResult(NamedTuple):
    """The result of a command run inside an instance; output decoded as UTF-8 with replacement."""

    exit_code: int
    stdout: str
    stderr: str


RESTARTING = "restarting"
"""The status of a container that has ended and that Docker will start again, by its restart policy."""


REMOVED = "removed"
"""The status of an instance that is gone."""

OUT_OF_REACH = "out of reach, because Docker does not answer"
"""The status of an instance that cannot be asked about. One unanswered request is nobody's death: it counts as running."""


class State(NamedTuple):
    """What an instance is doing. `health` is Docker's own word (starting, healthy, unhealthy), empty without one.

    `health_said` is what its last health check printed. `restarts`: how often Docker has started it again by its restart
    policy; between its lives it is running, `restarting`, and `exit_code` is that of the last one. `restarted`: it runs,
    in another life than the one in which it was first seen to, and itest has not begun that one.
    """

    running: bool
    status: str = "running"
    exit_code: int | None = None
    oom_killed: bool = False
    health: str = ""
    health_said: str = ""
    restarts: int = 0
    restarted: bool = False

    @property
    def lives_on(self) -> bool:
        """Whether it runs as it did: what it had in memory is there, and its ports are published where they were."""
        return self.running and not self.restarted

    def __str__(self) -> str:
        # A negative one is a process's signal, which the status names.
        code = "" if self.exit_code is None or self.exit_code < 0 else f" with exit code {self.exit_code}"
        if self.status == RESTARTING:
            return f"ended{code}, and Docker starts it again"
        if self.running:
            return self.status
        return f"{self.status}{code}{', killed for lack of memory' if self.oom_killed else ''}"


class Thing(NamedTuple):
    """Something that itest has made on an engine, in whatever run, and that is still there.

    `kind` is `container`, `network`, `volume`, `process`, `thread`, or `directory` for that of a process which has ended, or
    cannot be seen here. `id` is the engine's, a process's its process id; `title` an image, a name or a version. `created`:
    seconds since 1970.
    """

    kind: str
    id: str
    title: str
    labels: Mapping[str, str]
    created: float
    running: bool | None
    """None where that cannot be known here: a process of another container, say."""
    remove: Callable[[], object]
    """End it and remove it; it may be gone already. Raises ItestError."""
    owner_ended: bool = False
    """Whether the container that its owner ran in has ended, which the owner's label alone does not tell."""
    paused: bool = False
    """Whether it runs and stands still."""

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.title})"


class Instance(Protocol):
    """A container or process that an engine started. `str()` of it fits into a sentence."""

    owned: bool
    """Whether it was started by us, and everything on it is ours; False for an external server."""

    @property
    def id(self) -> str: ...

    def endpoint(self, name: str = "") -> Endpoint:
        """Where the port of that name (the first port without one) is reached.

        Waits for Docker to publish it; raises KeyError, naming the ports there are, where there is no such port.
        """

    def direct_endpoint(self, name: str = "") -> Endpoint | None:
        """Where this process may reach that port without the proxy in front of a published one; None for nowhere.

        A guess that costs no round trip to the server: whoever connects there must make sure that it is the same one.
        Only for itest's own connections; what a user is given is the `endpoint`.
        """

    def root(self) -> Path | None:
        """A container's root directory, if this process may look into it; `container_root.socket_in` finds sockets there."""

    def inside_endpoint(self, name: str = "", alias: str = "") -> Endpoint:
        """Where containers reach that port: if it is one too, those on a network with it, where it is called `alias`."""

    def silence(self, name: str = "") -> str:
        """Why nobody answers at that port, which may accept connections nevertheless: Docker's proxy does so before the
        server listens. Empty when somebody answers, or where there is nothing to be seen."""

    def state(self) -> State:
        """What it is doing now. Never raises for an instance that is gone: that is a state too."""

    def ending(self) -> bool:
        """Whether its process is ending, or has ended, while the last `state` said that it runs: its sockets close before
        it is reaped, and Docker tells its end later still. False where that cannot be seen. Costs microseconds."""

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        """Its standard output and error: the last `tail` lines, those since a moment (seconds since 1970), or all."""

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        """Run a command beside the server: inside its container, or in its directory for a process."""

    def stop(self) -> None:
        """End it and remove everything that was made for it. May be called twice."""

    def removal(self) -> tuple[str, str] | None:
        """The request that removes it, and the Unix socket to send that to; None: only `stop` can."""

    def disown(self) -> None:
        """Other processes use it as well, and will stop it: let it go on when this process has ended."""


@runtime_checkable
class Restartable(Protocol):
    """An instance that can be started again, on the same ports."""

    def restart(self) -> None:
        """End it in an orderly way and start it again; readiness is not waited for. Raises ItestError."""


class ThreadedApp(Instance, Protocol):
    """An app on a thread of this process."""

    interface: str
    """`asgi` or `wsgi`."""

    app: Any
    """The app itself, as its module or its factory made it."""

    @property
    def served(self) -> Any:
        """The app as its server calls it: with the state that its lifespan made, and with its log captured."""

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Run it in the event loop that an ASGI app is served by. Raises TimeoutError."""

    def rest(self, seconds: float) -> str:
        """Wait until it is at work on no request, no longer than that: for one that is answered it may do more. Those that it
        still is at work on, each of which is waited for and told this once only; empty: there are none."""


class ContainerInstance(Instance, Protocol):
    """What can be done with a container beyond that; see `container_of`. All raise ItestError."""

    def exec(
        self,
        argv: Sequence[str],
        timeout: float = 30.0,
        user: str = "",
        env: Mapping[str, str | None] | None = None,
        directory: str = "",
        stdin: bytes = b"",
    ) -> ExecResult:
        """As `Instance.exec`, with what else Docker knows of a command."""

    def health_command(self) -> tuple[str, ...]:
        """The command of its health check; empty without one."""

    def pause(self) -> None:
        """Freeze its processes."""

    def unpause(self) -> None:
        """Let them go on."""

    def halt(self, grace: int | None) -> None:
        """End its process, by a kill after that many seconds; None: after those that it was made with. The container stays."""

    def go_on(self) -> float:
        """Start it again; the moment since which what it logs is of its new life (seconds since 1970, by Docker's clock)."""

    def copy_from(self, path: str, target: Path | None = None) -> bytes:
        """The content of a file; with a `target`, the file or directory is written there instead."""

    def copy_to(self, path: str, what: bytes | Path) -> None:
        """Put a file or directory there."""


class ProjectInstance(Instance, Protocol):
    """A project of several containers. As an instance it is `main`, with what all of them say and do."""

    @property
    def services(self) -> Mapping[str, Instance]:
        """The container of each service, the first one where there are several. Its ports have their numbers as names,
        `8000`, or `53/udp`."""

    @property
    def containers(self) -> Mapping[str, Sequence[Instance]]:
        """All containers of each service, in the order of their numbers."""

    @property
    def main(self) -> str:
        """The service that stands for the project. Raises ItestError where that could be several."""

    @property
    def published(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the ports that each service publishes."""

    @property
    def lasting(self) -> Collection[str]:
        """The services that are no jobs: if one has ended, it has failed, with exit code 0 too."""

    def logs_of(self, services: Sequence[str], tail: int | None = None, since: float | None = None) -> str:
        """What these services have logged, each line with its service in front."""


def on_network(instance: Instance) -> list[Instance]:
    """What has an instance's place on a network: itself, and of a project its main container, if there is one."""
    if not hasattr(instance, "published"):
        return [instance]
    project = cast(ProjectInstance, instance)
    with contextlib.suppress(ItestError):
        return [project.services[project.main]]
    return []


def port_of(ports: Iterable[str], name: str, whose: object) -> str:
    """The port of that name, or the first one without a name. Raises KeyError that says which there are."""
    known = [*ports]
    if (name or known) and (name or known[0]) in known:
        return name or known[0]
    others = f"; it has {', '.join(map(repr, known))}" if known else ""
    raise KeyError(f"{whose} has no port{f' {name!r}' if name else ''}{others}")


def place_of(instance: Instance) -> Path | None:
    """The directory of a local process; None for what is none."""
    return getattr(instance, "place", None)


def container_of(instance: Instance, purpose: str) -> ContainerInstance:
    """The same instance, known to be a container. Raises ItestError for what is none."""
    if not hasattr(instance, "go_on"):
        raise ItestError(f"could not {purpose} {instance}: it is no container that itest has started")
    return instance  # type: ignore[return-value]  # just seen


def remove_all(things: Iterable[Thing], labels: Mapping[str, str]) -> int:
    """Remove what has all these labels, and return how many: containers first, at the same time, for what they use cannot go
    before them. Raises ValueError without a label, and the first error once all were tried."""
    from itest.side_by_side import side_by_side

    if not labels:
        raise ValueError("at least one label is needed: without one, all that itest has made here would be meant")
    found = [each for each in things if labels.items() <= each.labels.items()]
    done = side_by_side([each.remove for each in found if each.kind == "container"], "itest-remove")
    done += [side_by_side([each.remove], "itest-remove")[0] for each in found if each.kind != "container"]
    if failed := [each for each in done if isinstance(each, BaseException)]:
        raise failed[0]
    return len(found)


class Engine(Protocol):
    """What can run a spec. `find`, `remove` and `things` work by labels alone, from any process."""

    name: str

    def unavailable(self) -> str | None:
        """Why this engine cannot be used here, in one sentence; None when it can."""

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> Instance:
        """Start it; readiness is not waited for, but what is left of the deadline is for that. It begins anew where the image
        is there. Raises StartError, with nothing left behind."""

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        """What runs, or is left over, under these labels."""

    def remove(self, labels: Mapping[str, str]) -> int:
        """End and remove what `find` finds. Returns how many. At least one label must be given."""

    def things(self) -> list[Thing]:
        """All that itest has made here and that is still there, of whatever run."""

    def close(self) -> None:
        """Give back the engine's own resources (sockets, threads), not what it started."""
