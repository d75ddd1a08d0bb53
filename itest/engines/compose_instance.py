# SPDX-License-Identifier: Apache-2.0
"""One Compose project that runs: the containers of its services, together and each by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itest.engines import Endpoint, ExecResult, Instance, State
from itest.errors import ItestError

if TYPE_CHECKING:
    from itest.engines.docker_instance import DockerInstance


class ComposeInstance:
    """A project. As one instance it is its `main` service, with the logs and the state of all."""

    owned = True

    def __init__(
        self,
        project: str,
        containers: Mapping[str, Sequence[DockerInstance]],
        published: Mapping[str, Mapping[str, str]],
        main: str,
        remove: Callable[[], object],
        lasting: Collection[str] = (),
    ) -> None:
        self._project = project
        self._containers = containers
        self._published = {name: tuple(ports) for name, ports in published.items()}
        self._main = main
        self._remove = remove
        self._lasting = lasting

    @property
    def id(self) -> str:
        return self._project

    @property
    def services(self) -> Mapping[str, Instance]:
        return {name: containers[0] for name, containers in self._containers.items()}

    @property
    def containers(self) -> Mapping[str, Sequence[Instance]]:
        return self._containers

    @property
    def published(self) -> Mapping[str, tuple[str, ...]]:
        return self._published

    @property
    def lasting(self) -> Collection[str]:
        return self._lasting

    @property
    def main(self) -> str:
        if self._main in self._containers:
            return self._main
        if self._main:
            raise ItestError(
                f"{self} runs no container of service {self._main!r}, which stands for it: the file says `scale: 0` or "
                f"`replicas: 0`; give it one, or say which other service you mean"
            )
        if several := [name for name, ports in self._published.items() if ports]:
            raise ItestError(
                f"{self} has several services that publish ports ({', '.join(several)}): say which one you mean, "
                f"as in service({several[0]!r})"
            )
        raise ItestError(f"{self} publishes no port: add `ports` to a service of the file, or ports={{...}} here")

    def endpoint(self, name: str = "") -> Endpoint:
        return self.services[self.main].endpoint(name)

    def direct_endpoint(self, name: str = "") -> Endpoint | None:
        return None

    def root(self) -> Path | None:
        return None

    def inside_endpoint(self, name: str = "", alias: str = "") -> Endpoint:
        return self.services[self.main].inside_endpoint(name, alias or self.main)

    def silence(self, name: str = "") -> str:
        return self.services[self.main].silence(name)

    def state(self) -> State:
        """It runs as long as no service has failed; a job that has ended with exit code 0 has done its work."""
        for name, containers in self._containers.items():
            for container in containers:
                if self._has_failed(name, state := container.state()):
                    return State(False, f"service {name!r} {state.status}", state.exit_code, state.oom_killed)
        return State(True)

    def ending(self) -> bool:
        return any(container.ending() for containers in self._containers.values() for container in containers)

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        """Of all services; once some have failed, of those alone."""
        ended = [
            name for name, each in self._containers.items() if any(self._has_failed(name, one.state()) for one in each)
        ]
        return self.logs_of(ended or list(self._containers), tail, since)

    def logs_of(self, services: Sequence[str], tail: int | None = None, since: float | None = None) -> str:
        width = max(map(len, services), default=0)
        lines = []
        for name in services:
            for container in self._containers[name]:
                lines += [f"{name:{width}} | {line}" for line in log_of(container, tail, since).splitlines()]
        return "".join(f"{line}\n" for line in lines)

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        return self.services[self.main].exec(argv, timeout=timeout)

    def removal(self) -> tuple[str, str] | None:
        """None: it takes more than one request."""
        return None

    def disown(self) -> None:
        """Nothing: it is no child of this process."""

    def stop(self) -> None:
        self._remove()

    def _has_failed(self, name: str, state: State) -> bool:
        return failed(state) or (name in self._lasting and not state.running and state.status != "created")

    def __str__(self) -> str:
        return f"project {self._project} ({', '.join(self._containers)})"


def failed(state: State) -> bool:
    """Whether a container has ended in another way than a job that is done."""
    return not state.running and state.exit_code != 0


def log_of(container: Instance, tail: int | None = None, since: float | None = None) -> str:
    """Its log, or why there is none to be read, as with `logging: {driver: none}`: the others' are no worse for that."""
    try:
        return container.logs(tail, since)
    except ItestError as error:
        return f"(its log cannot be read: {error})"
