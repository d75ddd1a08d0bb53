# SPDX-License-Identifier: Apache-2.0
"""What a test gets of a project, and the running project behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from itest import alive, naming
from itest.arguments import Text, shell_words_of
from itest.engines import Endpoint, ExecResult, ProjectInstance, State
from itest.errors import IsolationError, ItestError, ResetError
from itest.lease import Lease
from itest.service import Server, Service, View
from itest.view import checked

if TYPE_CHECKING:
    from itest.services.compose.declaration import Compose


class ComposeServer(Server["ComposeView"]):
    """A running project."""

    instance: ProjectInstance

    def __init__(self, service: Compose, instance: ProjectInstance) -> None:
        super().__init__(service.title, service.kind, instance)
        self._files = service.file_names()

    @property
    def version(self) -> str:
        return self._files

    def lease(self, service: Service[ComposeView], owner: str) -> ComposeLease:
        return ComposeLease(self, service.scope, owner)


class ComposeLease(Lease["ComposeView"]):
    """The whole project: nothing in it can be reset. What is watched is that no service of it has failed, and under whom."""

    def __init__(self, server: ComposeServer, scope: str, owner: str) -> None:
        self._server = server
        self._scope = scope
        self._last_test = owner
        self.view = ComposeView(server)

    def seal(self) -> None:
        """Nothing: there is no baseline that could be gone back to."""

    def reset(self, test: str) -> ComposeView:
        if ended := self._ended():
            raise ResetError(f"{ended} during or after {self._last_test}. The next class gets a new project")
        self._last_test = test
        return ComposeView(self._server)

    def finish(self, test: str) -> None:
        """A service that has failed under a test fails it, whatever the test saw of that: those after it have none."""
        if self._scope != "test" and (ended := self._ended()):
            raise IsolationError(
                f"{ended} under this test; the next class gets a new project. A test that ends a service on purpose needs a "
                f"project of its own: scope='test'"
            )

    def _ended(self) -> str:
        """Which service of it has failed, and how; empty: none."""
        state = alive.ended(self._server)
        return "" if state is None else f"{self._server.version}: {alive.told(state)}"

    def close(self) -> None:
        self.view.close()


class ComposeView(View):
    """A project, which the tests of a class share: `self.stack["web"].url`.

    Asked for an address itself, it answers for its main service: the first that publishes a port, of those that the
    declaration names (services=, ready=, ports=), or else the only one that does.
    """

    server: ComposeServer

    def service(self, name: str) -> ComposeService:
        """One service. Raises ItestError, naming those that run."""
        if name not in self.server.instance.services:
            running = ", ".join(self.services)
            raise ItestError(f"{self.server.instance} runs no service {name!r}; it runs {running}")
        return ComposeService(self.server.instance, name)

    def __getitem__(self, name: str) -> ComposeService:
        return self.service(name)

    @property
    def services(self) -> list[str]:
        """The names of the services that were started."""
        return list(self.server.instance.services)

    @property
    def url(self) -> str:
        """`http://host:port` of the main service."""
        return f"http://{self._endpoint()}"

    def url_for(self, driver: str) -> NoReturn:
        """There is none: raises ItestError that says how addresses of services are written."""
        name = driver if driver in self.services else (*self.services, driver)[0]
        service = f"self.{self.attribute or 'stack'}[{name!r}]"
        raise ItestError(
            f"url_for({driver!r}): a project has no URLs for drivers. The address of a service is {service}.url, or for "
            f"another scheme than http {service}.endpoint()"
        )

    @property
    def env(self) -> dict[str, str]:
        """`WEB_URL`, `WEB_HOST` and `WEB_PORT` for the first port of each service that publishes one."""
        found = {}
        for name in self.services:
            if self.server.instance.published.get(name):
                prefix, endpoint = re.sub(r"\W", "_", name).upper(), self.service(name).endpoint()
                values = {"URL": f"http://{endpoint}", "HOST": endpoint.host, "PORT": str(endpoint.port)}
                found.update({f"{prefix}_{what}": value for what, value in values.items()})
        return found

    def logs(self, tail: int | None = None) -> str:
        """What all services have logged, or the last `tail` lines of each, with the service in front of each line."""
        return naming.clean_log(self.server.instance.logs_of(self.services, checked(tail)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.server.instance}>"


class ComposeService:
    """One service of a running project: its container, the first one if it has several."""

    def __init__(self, project: ProjectInstance, name: str) -> None:
        self.name = name
        self._project = project
        self._container = project.services[name]

    @property
    def url(self) -> str:
        """`http://host:port` of its first published port."""
        return f"http://{self.endpoint()}"

    @property
    def host(self) -> str:
        """The address at which its first published port is reached, `127.0.0.1` unless Docker is on another machine."""
        return self.endpoint().host

    @property
    def port(self) -> int:
        """The host port at which its first published port is reached."""
        return self.endpoint().port

    def endpoint(self, container_port: int | str = "") -> Endpoint:
        """Where that port is reached, `8000` or `"53/udp"`; without one, its first. Raises ItestError for one that is
        not published."""
        published = self._project.published.get(self.name, ())
        port = str(container_port).removesuffix("/tcp")
        if not published or (port and port not in published):
            what = f"port {container_port}" if port else "a port"
            has = f"published are {', '.join(published)}" if published else "it publishes none"
            number = port if port.isdigit() else "8000"
            raise ItestError(
                f"service {self.name!r} does not publish {what}; {has}. Have it published by "
                f"Compose(..., ports={{{self.name!r}: [{number}]}}), or by `ports` in the file"
            )
        return self._container.endpoint(port)

    @property
    def state(self) -> State:
        """What its container is doing: `running`, `status`, `health`, `exit_code`."""
        return self._container.state()

    def logs(self, tail: int | None = None) -> str:
        """Its log, or the last `tail` lines of it, without passwords."""
        return naming.clean_log(self._container.logs(tail=checked(tail)))

    def exec(self, argv: Sequence[Text] | str, timeout: float = 30.0) -> ExecResult:
        """Run a command in its container: program and arguments, or a text for its shell. Raises ExecTimeout when it
        has not ended after `timeout` seconds."""
        return self._container.exec(shell_words_of("exec", argv), timeout=timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self._project}>"
