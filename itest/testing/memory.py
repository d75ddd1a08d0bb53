# SPDX-License-Identifier: Apache-2.0
"""An engine whose instances are objects of this process, and a service with no server behind it: for tests of the life cycle."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from itest import trace, wait
from itest.clock import Deadline, wall
from itest.config import Config
from itest.engines import Endpoint, ExecResult, Instance, State, Thing, port_of, remove_all
from itest.engines.local import LocalInstance
from itest.errors import StartError
from itest.evidence import Evidence
from itest.lease import Lease
from itest.service import Server, Service, View
from itest.spec import ContainerSpec, ExternalSpec, Port, ProcessSpec, Spec, fill


class MemoryEngine:
    """An engine whose instances are objects in this process. `events` lists what was asked of it, in order.

    `prepare` is called with each new instance before it is handed out: give it a log, end it, make its start fail.
    """

    name = "memory"

    def __init__(self, prepare: Callable[[MemoryInstance], object] | None = None, unavailable: str = "") -> None:
        self.events: list[str] = []
        self.instances: list[MemoryInstance] = []
        self._prepare = prepare
        self._unavailable = unavailable
        self._numbers = itertools.count(1)

    def unavailable(self) -> str | None:
        return self._unavailable or None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, recorder: trace.Recorder) -> Instance:
        if not isinstance(spec, ContainerSpec):
            raise StartError(f"the memory engine runs container specs, not {type(spec).__name__}")
        number = next(self._numbers)
        ports = {name: Endpoint("127.0.0.1", 40000 + 100 * number + i) for i, name in enumerate(spec.ports)}
        instance = MemoryInstance(self, f"memory-{number}", spec, dict(labels), ports)
        self.events.append(f"start {spec.image}")
        self.instances.append(instance)
        if self._prepare:
            try:
                self._prepare(instance)
            except BaseException:
                self.instances.remove(instance)
                raise
        return instance

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        return [instance for instance in self.instances if labels.items() <= instance.labels.items()]

    def remove(self, labels: Mapping[str, str]) -> int:
        return remove_all(self.things(), labels)

    def things(self) -> list[Thing]:
        return [
            Thing("container", each.id, each.spec.image, each.labels, each.created, each.current.running, each.stop)
            for each in self.instances
        ]

    def close(self) -> None:
        self.events.append("close")


class MemoryInstance(LocalInstance):
    """One thing the memory engine "runs". Tests change it freely: `end()`, `log`, `answers`."""

    owned = True

    def __init__(
        self, engine: MemoryEngine, id: str, spec: ContainerSpec, labels: dict[str, str], ports: dict[str, Endpoint]
    ) -> None:
        self.id = id
        self.spec = spec
        self.labels = labels
        self.created = wall()
        self.log = ""
        self.answers: dict[tuple[str, ...], ExecResult] = {}
        self.current = State(running=True)
        self.command = tuple(fill(word, ports) for word in spec.command)
        self._engine = engine
        self._ports = ports

    def endpoint(self, name: str = "") -> Endpoint:
        return self._ports[port_of(self._ports, name, self.id)]

    def state(self) -> State:
        return self.current

    def end(self, exit_code: int = 1, **facts: Any) -> None:
        """Let it die."""
        self.current = State(running=False, status="exited", exit_code=exit_code, **facts)

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        lines = self.log.splitlines(keepends=True)
        return "".join(lines if tail is None else lines[-tail:])

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        return self.answers.get(tuple(argv), ExecResult(127, "", f"{argv[0]}: not found"))

    def stop(self) -> None:
        if self in self._engine.instances:
            self._engine.instances.remove(self)
            self._engine.events.append(f"stop {self.spec.image}")
        self.current = State(running=False, status="removed")

    def __str__(self) -> str:
        return f"container {self.id} ({self.spec.image})"


@dataclass(frozen=True, eq=False, repr=False)
class MemoryService(Service["MemoryView"]):
    """A service whose data is a dict of this process. What happens to it is added to `events`, if given."""

    kind: ClassVar[str] = "memory"
    title: ClassVar[str] = "Memory"
    isolations: ClassVar[tuple[str, ...]] = ("database", "none")
    texts: ClassVar[tuple[str, ...]] = ("env",)

    image: str = "memory:1"
    env: Mapping[str, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    check_ready: wait.Check | None = None

    def __post_init__(self) -> None:
        """`events` must stay the caller's own list."""

    def container(self, secret: str) -> ContainerSpec:
        return ContainerSpec(
            self.image,
            env={**self.env, "PASSWORD": secret},
            ports={"memory": Port(1)},
            secrets=frozenset({"PASSWORD"}),
        )

    def process(self, secret: str, config: Config) -> ProcessSpec:
        raise NotImplementedError

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        return ExternalSpec(url, {"memory": ("127.0.0.1", 1)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        return f"memory://:{secret}@{instance.endpoint()}"

    def readiness(self, address: str) -> wait.Check:
        return self.check_ready or wait.answer("nothing", lambda instance: None, ())

    def connect(self, instance: Instance, address: str) -> MemoryServer:
        return MemoryServer(self, instance, address)


class MemoryServer(Server["MemoryView"]):
    def __init__(self, service: MemoryService, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self._events = service.events
        self.address = address

    @property
    def version(self) -> str:
        return "Memory 1"

    def lease(self, service: Service[MemoryView], owner: str) -> MemoryLease:
        assert isinstance(service, MemoryService)
        service.events.append(f"lease {owner.rpartition('.')[2]}")
        return MemoryLease(self, service)

    def close(self) -> None:
        self._events.append("close server")


class MemoryLease(Lease["MemoryView"]):
    def __init__(self, server: MemoryServer, service: MemoryService) -> None:
        self._server = server
        self._service = service
        self._last = self.view = MemoryView(server, service, "class", {})
        self._baseline: dict[str, object] = {}

    def seal(self) -> None:
        self._service.events.append("seal")
        self._baseline = dict(self.view.data)

    def reset(self, test: str) -> MemoryView:
        name = test.rpartition(".")[2]
        self._service.events.append(f"reset {name}")
        self._last = MemoryView(self._server, self._service, name, dict(self._baseline))
        return self._last

    def evidence(self, since: float) -> Evidence:
        data = self._last.data
        return Evidence(f"{len(data)} items" if data else "no data", [f"{name}: {data[name]}" for name in sorted(data)])

    def close(self) -> None:
        self._service.events.append("give back")


class MemoryView(View):
    """What a test gets: `data`, a dict of its own that starts with the baseline's items."""

    def __init__(self, server: MemoryServer, service: MemoryService, name: str, data: dict[str, object]) -> None:
        super().__init__(server)
        self.data = data
        self.name = name
        self._cleanups.callback(service.events.append, f"close {name}")

    @property
    def url(self) -> str:
        server: MemoryServer = self.server  # type: ignore[assignment]  # made by a MemoryServer only
        return f"{server.address}/{self.name}"

    @property
    def env(self) -> dict[str, str]:
        return {"MEMORY_URL": self.url}
