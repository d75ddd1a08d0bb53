# SPDX-License-Identifier: Apache-2.0
"""What the declarations of all kinds of app share."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from itest import naming
from itest.arguments import Text, variables_of
from itest.config import Config
from itest.engines import Instance
from itest.errors import ConfigError, DeclarationError, Unavailable
from itest.packages import client_package
from itest.service import Service
from itest.services.app.server import AppLease, AppServer, AppView
from itest.spec import BRACE, ContainerSpec, ExternalSpec, ProcessSpec, Spec
from itest.wait import Check, port
from itest.wait_function import check_of

if TYPE_CHECKING:
    from itest.service import Scope

A = TypeVar("A", bound=AppView)

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AppService(Service[A]):
    """An app under test. Made by one of the verbs of `App`."""

    kind: ClassVar[str] = "app"
    title: ClassVar[str] = "App"
    isolations: ClassVar[tuple[str, ...]] = ("none",)
    texts: ClassVar[tuple[str, ...]] = ("env",)
    announced: ClassVar[bool] = False

    env: Mapping[str, Text] = field(default_factory=dict)
    ready: Check | Callable[[A], object] | None = None
    scope: Scope = "class"

    @property
    @abstractmethod
    def what(self) -> str:
        """What is run, for sentences."""

    @property
    def listens(self) -> bool:
        """Whether it has a port."""
        return True

    @property
    def environment(self) -> dict[str, str]:
        """`env` as texts."""
        return variables_of("env", self.env)

    def _check(self) -> None:
        super()._check()
        for mentioned in self.readiness("").ports():
            if mentioned not in ("", "http"):
                raise DeclarationError(
                    f"ready mentions port {mentioned!r}, but an app has only one, which needs no name"
                )
        variables_of("env", self.env)

    def import_ahead(self) -> None:
        super().import_ahead()
        client_package("httpx", "app", "an app's client")

    def container(self, secret: str) -> ContainerSpec:
        raise Unavailable(f"{self.what} is run in no container")

    def process(self, secret: str, config: Config) -> ProcessSpec:
        raise Unavailable(f"{self.what} is no local process")

    def identity(self, spec: Spec) -> str:
        return spec.fingerprint()

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        try:
            parts = urlsplit(url)
            number = parts.port or DEFAULT_PORTS[parts.scheme]
        except (ValueError, KeyError):
            number = 0
        if not number or not parts.hostname:
            raise ConfigError(f"{source} is no URL of an app: it must look like http://host:8000")
        return ExternalSpec(url, {"http": (parts.hostname, number)}, source)

    def address(self, instance: Instance, secret: str) -> str:
        return f"http://{instance.endpoint()}" if self.listens else ""

    def readiness(self, address: str) -> Check:
        if self.ready is None:
            return port()
        return check_of(self.ready).bound(lambda instance: self.lease_of(self.connect(instance, address), "").view)

    def connect(self, instance: Instance, address: str) -> AppServer[A]:
        return AppServer(self, instance, address)

    @abstractmethod
    def lease_of(self, server: AppServer[A], owner: str) -> AppLease[A]:
        """A lease of a server that runs this app."""


def text_of(app: Any) -> str:
    """A command or an image in the length that fits a sentence."""
    return naming.shorten(str(app), 200)


def with_port(text: str) -> str:
    """`{port}`, as users write it, is the one port of an app."""
    return re.sub(BRACE + r"port\}", "{port:http}", text)
