# SPDX-License-Identifier: Apache-2.0
"""An app on a thread of this process: served at a port like any other, and at hand as an object too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from itest import leaks, naming
from itest.config import Config
from itest.engines import ThreadedApp
from itest.errors import DeclarationError, NotStarted
from itest.packages import client_package, need_client
from itest.services.app.declaration import AppService, with_port
from itest.services.app.server import AppLease, AppServer, AppView
from itest.services.app.transport import LoopTransport, wsgi_transport
from itest.spec import ThreadSpec

if TYPE_CHECKING:
    from httpx import Client

    from itest.evidence import Evidence

SERVERS = {"asgi": "uvicorn", "wsgi": "waitress"}

REST_WAIT = 1.0
"""Seconds that an app may go on with the requests of a test after its end."""

PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ThreadApp(AppService["ThreadAppView"]):
    """An app in this process. See `App.asgi` and `App.wsgi`."""

    app: Any
    interface: str
    factory: bool | None = None

    @property
    def what(self) -> str:
        return str(self._spec)

    @property
    def _spec(self) -> ThreadSpec:
        env = {name: with_port(value) for name, value in self.environment.items()}
        return ThreadSpec(self.app, self.interface, self.factory, env)

    def _check(self) -> None:
        super()._check()
        if isinstance(self.app, str) and not PLACE.fullmatch(self.app):
            raise DeclarationError(f"{self.app!r} names no app; write 'module:app' or 'module:create_app'")
        if not isinstance(self.app, str) and not callable(self.app):
            raise DeclarationError(f"{self.app!r} is no app: it cannot be called")

    def check_client(self) -> None:
        need_client(SERVERS[self.interface], "app", f"App.{self.interface}()")

    def own_spec(self, secret: str, config: Config) -> ThreadSpec:
        naming.remember_named(self.environment)
        return self._spec

    def lease_of(self, server: AppServer[ThreadAppView], owner: str) -> AppLease[ThreadAppView]:
        return ThreadAppLease(server, ThreadAppView, self.scope, owner)


class ThreadAppLease(AppLease["ThreadAppView"]):
    """Waits until the app is done with a test's requests, and undoes the test's `dependency_overrides` of a FastAPI app. What
    the class has overridden stays."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._before = self._baseline = dict(self._overrides)
        self._given = self.view

    def seal(self) -> None:
        super().seal()
        self._baseline = dict(self._overrides)

    def rest(self, test: str) -> None:
        if self.view.app is None or not (left := cast(ThreadedApp, self._server.instance).rest(REST_WAIT)):
            return
        leaks.report(
            f"{test} left {left} running in {self._server.version}, and {REST_WAIT:g} s later it still was: what it "
            f"writes now is found by later tests; wait there until it is done (assertEventually)"
        )

    def reset(self, test: str) -> ThreadAppView:
        self._restore(self._baseline)
        self._given = super().reset(test)
        return self._given

    def finish(self, test: str) -> None:
        self._given.close()  # A response that is still read through it is no work of the app's own.
        self.rest(test)
        self._restore(self._baseline)
        super().finish(test)

    def evidence(self, since: float) -> Evidence:
        from itest.evidence import Evidence  # Only failing tests need it.

        early = getattr(self._server.instance, "early", "")  # An external one has none.
        return Evidence(lines=[early] if early else [])

    def refuses(self) -> bool:
        """False: its thread is its own, and tells its end."""
        return False

    def close(self) -> None:
        super().close()
        self._restore(self._before)

    @property
    def _overrides(self) -> dict[Any, Any]:
        found = getattr(self.view.app, "dependency_overrides", None)
        return found if isinstance(found, dict) else {}

    def _restore(self, overrides: dict[Any, Any]) -> None:
        found = self._overrides
        if found != overrides:
            found.clear()
            found.update(overrides)


class ThreadAppView(AppView):
    """What a test gets of an app in this process."""

    _test_client: Client | None = None

    @property
    def app(self) -> Any:
        """The app itself; None for an external one. What a test sets in a FastAPI app's `dependency_overrides` is undone
        after it."""
        return getattr(self.server.instance, "app", None)

    @property
    def test_client(self) -> Client:
        """As `client`, but without a socket: what the app raises, the test raises. Closed after the test."""
        if self._test_client is None:
            if self.app is None:
                place = naming.mask(self.url)
                raise NotStarted(f"{self.server.version} does not run in this process but at {place}: use `client`")
            instance = cast(ThreadedApp, self.server.instance)
            transport = LoopTransport(instance) if instance.interface == "asgi" else wsgi_transport(instance)
            httpx = client_package("httpx", "app", f"{type(self).__name__}.test_client")
            self._test_client = self._closing(httpx.Client(**self._settings(), transport=transport))
        return self._test_client

    def close(self) -> None:
        super().close()
        self._test_client = None  # As for `client`.
