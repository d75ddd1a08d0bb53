# SPDX-License-Identifier: Apache-2.0
"""The external engine: something that runs already. It starts nothing, stops nothing, removes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from itest.clock import Deadline
from itest.config import Config
from itest.engines import Endpoint, ExecResult, Instance, State, Thing, port_of
from itest.engines.local import LocalInstance
from itest.errors import ExternalError
from itest.spec import ExternalSpec, Spec
from itest.trace import Recorder


class ExternalEngine:
    """Attaches to servers that others started."""

    name = "external"

    def __init__(self, config: Config | None = None) -> None:
        """As the other engines; there is nothing to configure."""

    def unavailable(self) -> str | None:
        return None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> Instance:
        assert isinstance(spec, ExternalSpec)
        return ExternalInstance(spec)

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        return []

    def remove(self, labels: Mapping[str, str]) -> int:
        return 0

    def things(self) -> list[Thing]:
        return []

    def close(self) -> None:
        pass


class ExternalInstance(LocalInstance):
    """A server that somebody else runs; all that is known of it is its address."""

    owned = False

    def __init__(self, spec: ExternalSpec) -> None:
        self._spec = spec

    @property
    def id(self) -> str:
        return str(self.endpoint())

    def endpoint(self, name: str = "") -> Endpoint:
        ports = self._spec.ports
        return Endpoint(*ports[port_of(ports, name, self._spec)])

    def state(self) -> State:
        return State(running=True, status="external")

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        return ""

    def exec(self, argv: Sequence[str], timeout: float = 30.0) -> ExecResult:
        raise ExternalError(f"no command can be run beside {self}: it is an external server")

    def stop(self) -> None:
        pass

    def __str__(self) -> str:
        return str(self.endpoint())
