# SPDX-License-Identifier: Apache-2.0
"""A running container, and what a class holds of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from itest import alive
from itest.clock import Deadline
from itest.config import load
from itest.engines import REMOVED, Instance, State, container_of
from itest.errors import IsolationError, ResetError
from itest.evidence import Aside
from itest.lease import Lease
from itest.service import Server, Service
from itest.services.container.image import built_from
from itest.services.container.view import ContainerView
from itest.wait import until_ready

if TYPE_CHECKING:
    from itest.services.container.declaration import Container

RECONNECT_GRACE = 2
"""Seconds for the end of one whose neighbours have ended its connections. Many shells wait for the kill."""


class ContainerServer(Server[ContainerView]):
    """Knows what a test has done to the container as a whole, to undo it, and what it did not do."""

    tells_its_end = True

    def __init__(self, service: Container, instance: Instance, address: str) -> None:
        super().__init__(service.title, service.kind, instance)
        self.service = service
        self.address = address
        self.paused = False
        self._end_known = False
        """Whether it was ended on purpose, or its end was told."""

    @property
    def version(self) -> str:
        return self.service.image or str(built_from(self.service))

    @property
    def after_its_end(self) -> str:
        return self._after(self.instance.state())

    def lives(self) -> bool:
        return self._lives(self.instance.state())

    def _lives(self, state: State) -> bool:
        return state.running or (self.service.job and state.exit_code == 0)

    def _after(self, state: State) -> str:
        gone = state.status == REMOVED
        return super().after_its_end if gone else "it is started again before the next test"

    def lease(self, service: Service[ContainerView], owner: str) -> ContainerLease:
        return ContainerLease(self, owner)

    def reconnect(self) -> bool:
        self.restart(RECONNECT_GRACE)
        return True

    def view(self) -> ContainerView:
        return ContainerView(self)

    def pause(self) -> None:
        container_of(self.instance, "pause").pause()
        self.paused = True

    def unpause(self) -> None:
        if self.paused and self.instance.state().status == "paused":  # And not ended meanwhile.
            container_of(self.instance, "unpause").unpause()
        self.paused = False

    def halt(self, grace: int | None) -> None:
        if grace is not None and (type(grace) is not int or grace < 0):  # Docker takes -1 for no end.
            raise TypeError(
                f"grace={grace!r}: it takes a whole number of seconds, 0 for a kill at once, None for Docker's default"
            )
        self.unpause()
        container_of(self.instance, "stop").halt(grace)
        self._end_known = True

    def restart(self, grace: int | None) -> None:
        """Raises StartError where it does not become ready again."""
        container = container_of(self.instance, "restart")
        self.halt(grace)
        # By Docker's clock: what it logged in its earlier life must not be taken for a sign of this one.
        again = cast(Instance, _Again(self.instance, container.go_on()))
        service = self.service
        seconds = load().startup_timeout if service.startup_timeout is None else service.startup_timeout
        until_ready(
            service.readiness(self.address), again, Deadline.after(seconds), subject=f"{service.title} ({self.version})"
        )
        self._end_known = False

    def restore(self, last_test: str) -> str:
        """Have it run as it did, whatever a test did to it; returns what was done.

        Raises ResetError for one that is gone, and for one whose end nobody has been told of: the next test has it again.
        """
        if self.paused:
            self.unpause()
            return "unpaused"
        if (state := alive.ended(self)) is None:
            return ""
        if state.status == REMOVED or not self._end_known:
            self._end_known = True
            raise ResetError(f"{self._ended(state)}, during or after {last_test}; {self._after(state)}")
        self.restart(0)
        return "restarted"

    def report_end(self) -> None:
        """Raise IsolationError if it has ended, and not by `stop`."""
        if self._end_known or (state := alive.ended(self)) is None:
            return
        self._end_known = True
        raise IsolationError(  # The test's note has its log.
            f"{self._ended(state)} under this test; {self._after(state)}. A test that ends it on purpose does so by stop(), "
            f"or needs one of its own: scope='test'. One that does its work and ends is a job: job=True"
        )

    def _ended(self, state: State) -> str:
        return f"{self.title} ({self.instance}) {alive.told(state)}"


class _Again:
    """An instance of which only the log since a moment is seen."""

    def __init__(self, instance: Instance, since: float) -> None:
        self._instance = instance
        self._since = since

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        return self._instance.logs(tail=tail, since=max(since or 0.0, self._since))

    def __str__(self) -> str:
        return str(self._instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)


class ContainerLease(Lease[ContainerView]):
    """The whole container: nothing in it can be reset, but it runs before each test."""

    def __init__(self, server: ContainerServer, owner: str) -> None:
        self._server = server
        self._last_test = owner
        self.view = server.view()

    def seal(self) -> None:
        """Nothing: there is no baseline that could be gone back to."""

    def reset(self, test: str) -> ContainerView:
        if self._server.instance.owned:
            self.way = self._server.restore(self._last_test)
        self._last_test = test
        return self._server.view()

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        container = self._server.instance.id[:12]
        return Aside((f"docker logs {container}", f"docker exec -it {container} sh"))

    def finish(self, test: str) -> None:
        """One that has ended under a test fails it, whatever the test saw of that."""
        self._server.unpause()
        if self._server.instance.owned and self._server.service.scope != "test":
            self._server.report_end()

    def close(self) -> None:
        self.view.close()
