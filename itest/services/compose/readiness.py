# SPDX-License-Identifier: Apache-2.0
"""When a project can be used: when each of its services can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import cast

from itest import naming, wait
from itest.engines import OUT_OF_REACH, RESTARTING, Instance, ProjectInstance, State
from itest.errors import StartError
from itest.wait import Check, NotReady, Steady
from itest.wait_errors import with_log


class Ready(Check):
    """Each container does what the check of its service asks for. Without a check: its health check passes; where it has
    none, its published ports answer; where there are none, it runs, or has ended with exit code 0.

    A container that has ended otherwise, or that is no job, ends the wait; so does one that Docker calls unhealthy, as in
    `docker compose up --wait`.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._done: set[str] = set()
        self._steady: dict[str, Steady] = defaultdict(Steady)

    def __call__(self, instance: Instance) -> None:
        project = cast(ProjectInstance, instance)
        waiting: dict[str, NotReady] = {}
        for name, containers in project.containers.items():
            for number, container in enumerate(containers, 1):
                which = f"{name}-{number}" if len(containers) > 1 else name
                if which in self._done:
                    continue
                try:
                    self._look(name, which, container, project)
                except NotReady as error:
                    waiting[which] = error
                else:
                    self._done.add(which)
        if waiting:
            raise NotReady("; ".join(f"{name}: {error}" for name, error in waiting.items()))

    def _look(self, name: str, which: str, container: Instance, project: ProjectInstance) -> None:
        """Raises NotReady, or StartError for one that will not be ready any more."""
        state = container.state()
        check = self._checks.get(name)
        if state.status == "created":
            raise NotReady("it has not been started yet")
        if state.status == OUT_OF_REACH:
            raise NotReady(f"it is {state}")
        if not state.running and (state.exit_code != 0 or name in project.lasting):
            raise _given_up(name, container, state, f"ended before it was ready: {state}")
        if state.status == RESTARTING:
            self._steady[which].look(state)  # Raises NotReady.
        if state.health == "unhealthy":
            said = f", which said: {state.health_said}" if state.health_said else ""
            raise _given_up(name, container, state, f"is unhealthy by its own health check{said}")
        if check is not None:
            check(container)
        elif state.running and state.health == "starting":
            raise NotReady(f"its health check has not passed{f': {state.health_said}' if state.health_said else ''}")
        elif state.running and not state.health:
            ports = project.published.get(name, ())
            for port in ports:
                if "/" not in port:  # Nobody can see whether anything listens on a port that is not TCP.
                    wait.port(port)(container)
            if not ports:
                self._steady[which].look(state)

    def __str__(self) -> str:
        told = "; ".join(f"{name}: {check}" for name, check in self._checks.items())
        return f"its services to be ready ({told})" if told else "its services to be ready"


def _given_up(name: str, container: Instance, state: State, what: str) -> StartError:
    return with_log(container, StartError(f"service {name!r} {naming.shorten(what, 400)}", service=name))
