# SPDX-License-Identifier: Apache-2.0
"""What is waited for when a declaration says nothing, or gives a function of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from itest import wait
from itest.clock import Deadline
from itest.engines import Instance, State, container_of
from itest.errors import ItestError
from itest.wait import STEADY, Check, NotReady

if TYPE_CHECKING:
    from itest.services.container.server import ContainerServer
    from itest.services.container.view import ContainerView

HEALTH_TIMEOUT = 30.0
"""Seconds that one run of a health check may take: Docker's own default."""


class Default(Check):
    """The image's health check passes; where it has none, the TCP ports answer; where there are none, it runs."""

    def __init__(self, ports: Sequence[str]) -> None:
        self._ports = [wait.port(name) for name in ports]
        self._command: tuple[str, ...] | None = None
        self._steady: Deadline | None = None
        self._text = " and ".join(map(str, self._ports)) or "it to run"

    def __call__(self, instance: Instance) -> None:
        state = instance.state()
        if not state.running:
            raise NotReady(
                f"it is {state}"
            )  # It has ended just now; the next poll tells that as it tells every other death.
        if state.health:
            self._ask(instance, state)
        elif self._ports:
            for check in self._ports if instance.owned else self._ports[:1]:  # A URL says where one port is.
                check(instance)
        else:
            self._steady = self._steady or Deadline.after(STEADY)
            if not self._steady.passed:
                raise NotReady("it has just started")

    def _ask(self, instance: Instance, state: State) -> None:
        """Run the health check ourselves: Docker does it for the first time after a pause, of 30 s by default."""
        self._text = "its health check to pass"
        if state.health == "healthy":
            return
        if self._command is None:
            self._command = container_of(instance, "look at the health check of").health_command()
        try:
            result = instance.exec(self._command, timeout=HEALTH_TIMEOUT)
        except TimeoutError as error:
            raise NotReady(str(error)) from error
        if result.exit_code != 0:
            said = (result.stdout + result.stderr).strip()
            raise NotReady(f"its health check exited with {result.exit_code}{': ' if said else ''}{said}")

    def __str__(self) -> str:
        return self._text


class Called(Check):
    """A user's function returns something true. What it raises means "not yet", but for mistakes in the function."""

    def __init__(
        self, function: Callable[[ContainerView], object], connect: Callable[[Instance], ContainerServer]
    ) -> None:
        self._function = function
        self._connect = connect

    def __call__(self, instance: Instance) -> None:
        with contextlib.closing(self._connect(instance).view()) as view:
            try:
                value = self._function(view)
            except (NotReady, NameError, AttributeError, ImportError, ItestError):
                raise
            except Exception as error:
                raise NotReady(f"it raised {type(error).__name__}: {error}") from error
        if not value:
            more = "; it must return something true" if value is None else ""
            raise NotReady(f"it returned {value!r}{more}")

    def __str__(self) -> str:
        name = getattr(self._function, "__name__", "")
        return f"the function {name} to return something true" if name.isidentifier() else "its function to be true"
