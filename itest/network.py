# SPDX-License-Identifier: Apache-2.0
"""The network of a class: its containers reach one another there by the names that the class gives them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from itest.engines import Instance, on_network
from itest.errors import DeclarationError, NotStarted
from itest.service import Service, attributes

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine


class Network:
    """A declaration that gives services more names on the network of their class: `Network({"postgres": ["db"]})`.

    Without one a class with a container of its own and something beside it has a network, with the names of its
    attributes. As a descriptor it gives the network itself, whose `id` is for containers that a test starts by other
    means, and its `host` for servers in the test that containers call. There is none on local processes: NotStarted is
    raised.
    """

    # No NamedTuple as other values here: of one, mypy does not know `__get__`.

    def __init__(self, aliases: Mapping[str, Sequence[str]] = MappingProxyType({})) -> None:
        self._aliases = aliases

    @property
    def aliases(self) -> Mapping[str, Sequence[str]]:
        """By the attribute of a service, its further names."""
        return self._aliases

    def __eq__(self, other: object) -> bool:
        return self.aliases == other.aliases if isinstance(other, Network) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}(aliases={self.aliases!r})"

    def check(self, owner: str, name: str, services: Sequence[str]) -> None:
        """Raise DeclarationError for a name of no service of the class."""
        if not isinstance(self.aliases, Mapping):
            raise DeclarationError(
                f"{owner}.{name}: the aliases must be a dict, {{'postgres': ['db']}}, not {self.aliases!r}"
            )
        for service, names in self.aliases.items():
            if service not in services:
                raise DeclarationError(f"{owner}.{name} names {service!r}, which is no service of {owner}")
            if isinstance(names, str):
                raise DeclarationError(f"{owner}.{name}: the aliases of {service!r} must be a list: [{names!r}]")

    def __get__(self, instance: object | None, owner: type) -> ClassNetwork:
        found: ClassNetwork | None = owner.__dict__.get("_itest_network")
        if found is not None:
            return found
        reason = f"the network of {owner.__qualname__} exists only while its tests run, and with Docker"
        from itest.shorthand import Later, reads_all  # Only errors need it.

        if reads_all(sys._getframe(1)):
            return Later(reason)  # type: ignore[return-value]  # whatever is asked of it raises
        raise NotStarted(reason)


def declared(cls: type) -> tuple[str, Network | None]:
    """What the class declares of its network, and under which name."""
    found = attributes(cls)
    return next(((name, value) for name, value in found.items() if isinstance(value, Network)), ("", None))


class ClassNetwork:
    """One such network. It is made when the first container joins it."""

    def __init__(
        self,
        engine: DockerEngine,
        name: str,
        labels: Mapping[str, str],
        aliases: Mapping[str, Sequence[str]],
        before: Callable[[], object] = lambda: None,
        services: Mapping[str, Service[Any]] = MappingProxyType({}),
    ) -> None:
        self._engine = engine
        self._name = name
        self._labels = labels
        self._aliases = aliases
        self._before = before
        """Called before it is made."""
        self.services = services
        """Those of the class, by their attributes."""
        self._lock = threading.Lock()
        self._id = ""

    @property
    def open(self) -> bool:
        """Whether there is something to remove."""
        return bool(self._id)

    @property
    def id(self) -> str:
        """Docker's id of it, made at the first call. Raises ItestError."""
        with self._lock:
            if not self._id:
                self._before()
                self._id = self._engine.network(self._name, self._labels)
            return self._id

    @property
    def host(self) -> str:
        """The address to bind in this process, for the containers on it to reach what listens there: they call this
        machine `host.docker.internal`. Nobody else's network leads to it. Raises ItestError where Docker is on another
        machine."""
        return self._engine.host_on(self.id)

    def names(self, service: str) -> list[str]:
        """What the service that a class calls `service` is called here: so, and with hyphens, since an underscore is no
        part of a host name to many clients."""
        return list(dict.fromkeys([service, service.replace("_", "-"), *self._aliases.get(service, ())]))

    def join(self, instance: Instance, service: str) -> None:
        """Have a container that runs already on it. Raises ItestError."""
        for each in on_network(instance):
            self._engine.connect(each, self.id, self.names(service))

    def close(self) -> None:
        """Remove it; servers that go on running just leave it. Raises ItestError."""
        with self._lock:
            network, self._id = self._id, ""
        if network:
            self._engine.remove_network(network)
