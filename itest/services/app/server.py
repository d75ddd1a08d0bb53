# SPDX-License-Identifier: Apache-2.0
"""The live server of an app, the lease that a class has of it, and the view that a test gets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from itest import alive, naming
from itest.clock import Deadline
from itest.engines import Endpoint, Instance, Restartable, State
from itest.errors import IsolationError, NotStarted, ResetError
from itest.lease import Lease
from itest.service import Server, Service
from itest.services.app.clients import HttpView
from itest.wait import until_ready
from itest.wait_errors import with_log

if TYPE_CHECKING:
    from itest.services.app.declaration import AppService

CONNECT_TIMEOUT = 0.1
"""Seconds after which an app has not refused a connection: it is only busy."""

RESTART_WAIT = 60.0
"""Seconds in which an app that was ready once must be ready again."""

A = TypeVar("A", bound="AppView")


class AppServer(Server[A]):
    """A running app."""

    tells_its_end = True

    def __init__(self, service: AppService[A], instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.address = address.rstrip("/")
        self._service = service
        self._version = service.what

    @property
    def version(self) -> str:
        return self._version

    def lease(self, service: Service[A], owner: str) -> AppLease[A]:
        return cast("AppService[A]", service).lease_of(self, owner)

    def reconnect(self) -> bool:
        """As if its connections had never been: many pools notice that one is dead when a request has failed."""
        if not isinstance(self.instance, Restartable):
            return False
        self.instance.restart()
        deadline = Deadline.after(self._service.startup_timeout or RESTART_WAIT)
        until_ready(
            self._service.readiness(self.address), self.instance, deadline, subject=f"{self.title} ({self.version})"
        )
        return not hasattr(self.instance, "app")  # In this process an engine of a module lives on.


class AppLease(Lease[A]):
    """An app is reset by what it talks to. What is watched here is that it still runs, and who has ended it."""

    def __init__(self, server: AppServer[A], make: Callable[[AppServer[A]], A], scope: str, owner: str) -> None:
        self._server = server
        self._make = make
        self._scope = scope
        self._last_test = owner
        self.view = make(server)

    def seal(self) -> None:
        self.view.close()

    def reset(self, test: str) -> A:
        if (state := alive.ended(self._server)) is not None:
            raise self._with_log(
                ResetError(
                    f"{self._server.version} does not run any more: {self._end(state)}. The next class gets a new one"
                )
            )
        self._last_test = test
        return self._make(self._server)

    def finish(self, test: str) -> None:
        """An app that has ended under a test fails it, whatever the test saw of that: those after it have none."""
        if self._scope == "test":
            return
        if (state := alive.ended(self._server, alive.GRACE if self.refuses() else 0.0)) is not None:
            raise self._with_log(
                IsolationError(
                    f"{self._server.version} does not run any more: {self._end(state)}. A test that ends it on purpose needs "
                    f"an app of its own: scope='test'"
                )
            )

    def close(self) -> None:
        self.view.close()

    def refuses(self) -> bool:
        """Whether nobody listens at its port any more: what was started may outlive, for a moment, the program that it has
        started itself, as `npm start` or `uv run` do."""
        instance = self._server.instance
        if not (instance.owned and self._server.address):
            return False
        try:
            socket.create_connection(instance.endpoint(), timeout=CONNECT_TIMEOUT).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    def _end(self, state: State) -> str:
        return f"{state} during or after {self._last_test}"

    def _with_log(self, error: Any) -> Exception:
        return with_log(self._server.instance, error)  # type: ignore[no-any-return]  # an exception of ours


class AppView(HttpView):
    """What a test gets of an app."""

    server: AppServer[Any]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, without a slash at its end."""
        self._need_port()
        return self._reached(self.server.address)

    @property
    def env(self) -> dict[str, str]:
        return {"APP_URL": self.url}

    def _endpoint(self) -> Endpoint:
        self._need_port()
        return super()._endpoint()

    def _need_port(self) -> None:
        if not self.server.address:
            raise NotStarted(
                f"{self.server.version} has no URL: nothing in its command or env says {{port}}, so it has no port"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {naming.mask(self.server.address or self.server.version)}>"
