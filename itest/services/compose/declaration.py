# SPDX-License-Identifier: Apache-2.0
"""The declaration of a Compose project."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from itest import naming
from itest.arguments import Text, variables_of
from itest.config import Config
from itest.engines import Instance, ProjectInstance
from itest.errors import ConfigError, DeclarationError, Unavailable
from itest.service import Service
from itest.services.compose.readiness import Ready
from itest.services.compose.view import ComposeServer, ComposeView
from itest.spec import ComposeSpec, ContainerSpec, ExternalSpec, ProcessSpec, Spec
from itest.wait import Check
from itest.wait_function import has_function

if TYPE_CHECKING:
    from itest.service import Scope

_VARIABLE = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, eq=False, repr=False)
class Compose(Service[ComposeView]):
    """The services of a compose.yaml: `Compose("compose.yaml", ready={"web": http("/health")})`.

    Needs Docker and Docker Compose 2. The file is run as it is, but beside everything else on the machine: under a
    project name, container names, volumes and host ports of this run's own. Its data cannot be reset, so by default each
    class has a project of its own (`scope="class"`). Paths start at the directory of the test's module.
    """

    kind: ClassVar[str] = "compose"
    title: ClassVar[str] = "Compose project"
    isolations: ClassVar[tuple[str, ...]] = ("none",)
    texts: ClassVar[tuple[str, ...]] = ("env",)
    in_container: ClassVar[bool] = True

    file: str | Path | Sequence[str | Path] = "compose.yaml"
    """The file, or several, which are merged in this order: `["compose.yaml", "compose.test.yaml"]`."""
    _: KW_ONLY
    services: Sequence[str] = ()
    """The services to run, with all that they depend on; empty for all."""
    without: Sequence[str] = ()
    """Services that are not run although others depend on them: something else of the class takes their place."""
    ready: Mapping[str, Check] | None = None
    """When a service can be used. By default its health check passes, else its published ports answer, else it runs."""
    profiles: Sequence[str] = ()
    env: Mapping[str, Text] = field(default_factory=dict)
    """Variables of the file, `${NAME}`; they win over the environment and over the file `.env` beside it."""
    ports: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    """Container ports that tests reach besides those that the file publishes: `{"db": [5432]}`."""
    scope: Scope = "class"

    def _check(self) -> None:
        super()._check()
        if self.reuse:
            raise DeclarationError("reuse=True: itest cannot bring a project's data back to what it was")
        if self.external:
            raise DeclarationError("external: a project has no URL; declare its services that run already instead")
        files = self._given()
        if not all(isinstance(each, str | Path) for each in files):
            raise DeclarationError(
                f"file: {self.file!r} is no path of a file, nor a list of them: Compose('compose.yaml')"
            )
        if not all(map(str, files)) or not files:
            raise DeclarationError("file: there is none")
        for both in self.without:
            if both in self.services:
                raise DeclarationError(f"{both!r} is in services= and in without=")
        for service, check in (self.ready or {}).items():
            if not isinstance(check, Check) or has_function(check):
                raise DeclarationError(
                    f"ready: {check!r} of {service!r} is no check, like http('/health') of itest.wait"
                )
        for variable in variables_of("env", self.env):
            if not _VARIABLE.fullmatch(variable):
                raise DeclarationError(f"env: {variable!r} is no name of a variable of a Compose file")
        for service, numbers in self._ports().items():
            for number in numbers:
                if type(number) is not int or not 0 < number < 65536:
                    raise DeclarationError(
                        f"ports: {number!r} of {service!r} is no port: ports={{{service!r}: [8000]}}"
                    )

    def own_spec(self, secret: str, config: Config) -> Spec:
        env = variables_of("env", self.env)
        naming.remember_named(env)
        return ComposeSpec(
            files=tuple(Path(os.path.abspath(self.directory / file)) for file in self._files()),
            services=tuple(self.services),
            without=tuple(self.without),
            profiles=tuple(self.profiles),
            env=env,
            ports=self._ports(),
            ready={service: tuple(check.ports()) for service, check in (self.ready or {}).items()},
            jobs=tuple(service for service, check in (self.ready or {}).items() if check.may_end),
        )

    def container(self, secret: str) -> ContainerSpec:
        raise NotImplementedError("a project is several containers: see own_spec")

    def process(self, secret: str, config: Config) -> ProcessSpec:
        raise Unavailable("a Compose project runs in containers only, so it needs Docker")

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        raise ConfigError(f"{source}: a Compose project has no URL")

    def identity(self, spec: Spec) -> str:
        return spec.fingerprint()

    def address(self, instance: Instance, secret: str) -> str:
        return ""

    def readiness(self, address: str) -> Check:
        return Ready(self.ready or {})

    def connect(self, instance: Instance, address: str) -> ComposeServer:
        return ComposeServer(self, cast(ProjectInstance, instance))

    def file_names(self) -> str:
        return " and ".join(file.name for file in self._files())

    def _given(self) -> Sequence[str | Path]:
        return (self.file,) if isinstance(self.file, str | Path) else self.file

    def _files(self) -> Iterator[Path]:
        yield from map(Path, self._given())

    def _ports(self) -> dict[str, tuple[int, ...]]:
        given: Mapping[str, Any] = self.ports  # Whatever it is: this is asked by who checks it, too.
        return {
            service: tuple(ports) if isinstance(ports, Sequence) and not isinstance(ports, str) else (ports,)
            for service, ports in given.items()
        }
