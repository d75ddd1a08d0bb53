# SPDX-License-Identifier: Apache-2.0
"""An app in a container of its own: the image as it is shipped, between its neighbours."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from itest.engines import Instance
from itest.errors import DeclarationError
from itest.services.app.clients import HttpView
from itest.services.container import Container, ContainerView
from itest.services.container.server import ContainerServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from itest.wait import Check


@dataclass(frozen=True, eq=False, repr=False)
class ContainerApp(Container):
    """A Container with a port, whose view has clients for it."""

    def _check(self) -> None:
        super()._check()
        if not any(True for _ in self.tcp_ports()):
            raise DeclarationError("an app needs a port to be reached at: ports={'http': 8000}")

    def connect(self, instance: Instance, address: str) -> ContainerAppServer:
        return ContainerAppServer(self, instance, address)

    if TYPE_CHECKING:
        _: KW_ONLY
        ready: Check | Callable[[ContainerAppView], object] | None = None  # type: ignore[assignment]  # of its own view

        def __get__(self, instance: object | None, owner: type | None = None) -> ContainerAppView: ...


class ContainerAppServer(ContainerServer):
    """A running container of an app."""

    def view(self) -> ContainerAppView:
        return ContainerAppView(self)


class ContainerAppView(HttpView, ContainerView):
    """What a test gets of an app in a container: all that it gets of any container, and clients."""
