# SPDX-License-Identifier: Apache-2.0
"""What is waited for when a declaration says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from itest import wait
from itest.engines import Instance, State, container_of
from itest.wait import Check, NotReady, Steady
from itest.wait_checks import run


class Default(Check):
    """The image's health check passes; where it has none, the TCP ports answer; where there are none, it runs."""

    def __init__(self, ports: Sequence[str]) -> None:
        self._ports = [wait.port(name) for name in ports]
        self._command: tuple[str, ...] | None = None
        self._steady = Steady()
        self._text = " and ".join(map(str, self._ports)) or "it to run"

    def __call__(self, instance: Instance) -> None:
        state = instance.state()
        if not state.running:
            # It has ended just now; the next poll tells that as it tells every other death.
            raise NotReady(f"it is {state}")
        if state.health:
            self._ask(instance, state)
        elif self._ports:
            for check in self._ports if instance.owned else self._ports[:1]:  # A URL says where one port is.
                check(instance)
        else:
            self._steady.look(state)

    def _ask(self, instance: Instance, state: State) -> None:
        """Run the health check ourselves: Docker does it for the first time after a pause, of 30 s by default."""
        self._text = "its health check to pass"
        if state.health == "healthy":
            return
        if self._command is None:
            self._command = container_of(instance, "look at the health check of").health_command()
        result = run(instance, self._command)
        if result.exit_code != 0:
            said = (result.stdout + result.stderr).strip()
            raise NotReady(f"its health check exited with {result.exit_code}{': ' if said else ''}{said}")

    def __str__(self) -> str:
        return self._text
