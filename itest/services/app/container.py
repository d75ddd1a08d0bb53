# SPDX-License-Identifier: Apache-2.0
"""An app in a container of its own: the image as it is shipped, between its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from itest.config import Config
from itest.errors import DeclarationError, Unavailable
from itest.services.app.declaration import AppService, text_of
from itest.services.app.server import AppLease, AppServer, AppView
from itest.spec import ContainerSpec, Port, ProcessSpec
from itest.wait import Check, http

ANY_STATUS = range(100, 600)


@dataclass(frozen=True, eq=False, kw_only=True)
class ContainerApp(AppService[AppView]):
    """A container. See `App.container`."""

    in_container: ClassVar[bool] = True
    texts: ClassVar[tuple[str, ...]] = ("command", "env")

    image: str
    ports: Mapping[str, int] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return f"image {text_of(self.image)}"

    def check(self, owner: str, name: str) -> None:
        super().check(owner, name)
        if not self.ports:
            raise DeclarationError(f"{owner}.{name}: an app needs a port to be reached at: ports={{'http': 8000}}")
        for port, number in self.ports.items():
            if type(number) is not int or not 0 < number < 65536:
                raise DeclarationError(
                    f"{owner}.{name}: ports[{port!r}] is {number!r}, but a container port is a number"
                )

    def container(self, secret: str) -> ContainerSpec:
        ports = {name: Port(number) for name, number in self.ports.items()}
        return ContainerSpec(self.image, env=self.environment, command=self.command, ports=ports)

    def process(self, secret: str, config: Config) -> ProcessSpec:
        raise Unavailable("an image runs on Docker only; App.command, App.asgi and App.wsgi need none")

    def ready(self, address: str) -> Check:
        # A port says nothing here: Docker's proxy accepts before the app listens.
        return self.readiness or http("/", status=ANY_STATUS)

    def lease_of(self, server: AppServer[AppView], owner: str) -> AppLease[AppView]:
        return AppLease(server, AppView, self.scope, owner)
