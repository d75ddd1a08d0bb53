# SPDX-License-Identifier: Apache-2.0
"""What Docker Compose is called for: reading a project's files, building its images, starting it; and what it says of
its failures, in sentences that help."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from itest import naming
from itest.clock import Deadline
from itest.engines import Instance, State, compose_model
from itest.engines.compose_instance import failed, log_of
from itest.engines.compose_program import Program, Result
from itest.engines.docker_errors import port_taken
from itest.errors import InstanceDied, PortTaken, StartError, StartTimeout
from itest.spec import ComposeSpec

READ_TIMEOUT = 60.0
"""Seconds in which Compose must have read its files. It takes 50 ms; files may be included from elsewhere."""

LOG_TAIL = 50
"""Log lines that an error carries."""

Containers = Mapping[str, Sequence[Instance]]

_NOTHING: Mapping[str, str] = MappingProxyType({})


class ComposeJob:
    """Compose, called for one project. `is_podman` tells what it asks for containers."""

    def __init__(
        self,
        program: Program,
        spec: ComposeSpec,
        project: str,
        environment: Mapping[str, str],
        is_podman: Callable[[], bool],
    ) -> None:
        self._program = program
        self._spec = spec
        self._project = project
        self._environment = environment
        self._is_podman = is_podman
        self._doing = f"start {spec}"
        self._jobs: set[str] = set()

    def read(self) -> dict[str, Any]:
        """The resolved model. Raises StartError for files that Compose does not take, and for what is not in them."""
        spec = self._spec
        for file in spec.files:
            if not file.is_file():
                raise StartError(f"could not {self._doing}: {_missing(file)}")
        self._check_profiles()
        asked = [name for name in spec.services if name not in spec.without]
        result = self._config([f"--profile={name}" for name in spec.profiles], ["--format=json", *asked])
        if unset := list(dict.fromkeys(re.findall(r'The \\?"(\w+)\\?" variable is not set', result.stderr))):
            values = ", ".join(f"{name!r}: ..." for name in unset)
            raise StartError(
                f"could not {self._doing}: it uses {' and '.join(f'${{{name}}}' for name in unset)}, which is not set; "
                f"give it by env={{{values}}}, or a default in the file: ${{{unset[0]}:-default}}"
            )
        if result.code != 0 and "no such service" in result.stderr:
            self._check_services(spec.services)
        if result.code != 0:
            raise StartError(f"could not {self._doing}: Docker Compose says: {_said(result)}")
        model = naming.Masked(json.loads(result.stdout))
        model["name"] = self._project
        model["services"] = compose_model.followed(model.get("services") or {})
        known = compose_model.chosen(model["services"], spec)
        self._jobs = compose_model.jobs(known)
        if missing := [name for name in (*spec.ready, *spec.ports) if name not in known]:
            self._check_services(missing)
            raise StartError(
                f"could not {self._doing}: the declaration names service {missing[0]!r}, which is left out of it; "
                f"run are {', '.join(known) or 'none'}"
            )
        if unknown := [name for name in spec.without if name not in model["services"]]:
            self._check_services(unknown, left_out=True)
        for name, service in known.items():
            for tie, other in compose_model.ties(service):
                if other in spec.without:
                    raise StartError(
                        f"could not {self._doing}: its service {name!r} has `{tie}` and cannot run without {other!r}; leave "
                        f"it out too: without=[{other!r}, {name!r}], or have a further file take that back: `!reset`"
                    )
        if not known:
            raise StartError(f"could not {self._doing}: no service is left to run")
        return model

    def check_ready(self, published: Mapping[str, Mapping[str, str]]) -> None:
        """Raise StartError for ports that `ready` looks at and that nobody can reach."""
        for service, names in self._spec.ready.items():
            for name in names:
                ports = published[service]
                if name not in ports and (name or not ports):
                    has = f"published are {', '.join(ports)}" if ports else "it publishes none"
                    number = name if name.isdigit() else 8000
                    raise StartError(
                        f"could not {self._doing}: ready looks at {f'port {name}' if name else 'a port'} of service "
                        f"{service!r}, which does not publish it; {has}. Have it published by ports={{{service!r}: "
                        f"[{number}]}}, or by `ports` in the file"
                    )

    def build(self, data: bytes, services: Sequence[str], timeout: float) -> None:
        """Build images. Raises StartError with the output of the step that failed."""
        deadline = Deadline.after(timeout)
        # Podman's API has no BuildKit, and Compose would run one in a privileged container.
        builder = {"DOCKER_BUILDKIT": "0"} if self._is_podman() else {}
        try:
            result = self._run(["--progress=plain", "-f", "-", "build", *services], deadline, data, builder)
        except TimeoutError:
            raise StartError(
                f"could not {self._doing}: building {', '.join(services)} took longer than {deadline.seconds:g} s; "
                f"if it only needs longer, raise the setting build_timeout"
            ) from None
        if result.code != 0:
            error = StartError(f"could not {self._doing}: building {', '.join(services)} failed: {_said(result)}")
            raise _noted(error, "what the build said", result.stdout + result.stderr)

    def up(self, data: bytes, deadline: Deadline, containers: Callable[[], Containers]) -> None:
        """Start it, which may take as long as services wait for others. Raises StartError.

        `containers` gives those that there are by then, by service.
        """
        try:
            result = self._run(["-f", "-", "up", "--detach", "--no-build"], deadline, data)
        except TimeoutError:
            raise self._late(deadline, containers()) from None
        if result.code == 0:
            return
        refused = ""
        for name, container in ((name, container) for name, each in containers().items() for container in each):
            state = container.state()
            if state.status == "created":  # With an exit code, if Docker has tried to start it.
                refused = refused or (name if state.exit_code else "")
            elif failed(state) or state.health == "unhealthy":
                raise self._failed(name, container, state, deadline)
        from itest import causes  # Only errors need it.

        said = _said(result)
        known = causes.find(said, causes.DOCKER)
        kind = PortTaken if port_taken(result.stderr) else StartError
        raise kind(
            f"could not {self._doing}{f' (service {refused!r})' if refused else ''}, Docker Compose says after "
            f"{deadline.elapsed:.1f} s: {said}{f'; {known.cure}' if known else ''}",
            service=refused,
            seconds=deadline.elapsed,
            cause=known.name if known else "",
        )

    def _failed(self, name: str, container: Instance, state: State, deadline: Deadline) -> StartError:
        """The error for a service that others wait for in vain."""
        kind: Callable[..., StartError] = StartError
        if failed(state):
            story, kind = str(state), partial(InstanceDied, exit_code=state.exit_code)
        else:
            said = naming.shorten(state.health_said, 300)
            story = f"is unhealthy by its own health check{f', which said: {said}' if said else ''}"
        error = kind(
            f"could not {self._doing}: its service {name!r} {story}, {deadline.elapsed:.1f} s after the start, while others "
            f"waited for it",
            service=name,
            seconds=deadline.elapsed,
        )
        return _noted(error, f"last log lines of {name}", log_of(container, LOG_TAIL))

    def _late(self, deadline: Deadline, found: Containers) -> StartError:
        """The error for services that still wait for others; nothing in the project becomes ready any more."""
        waiting, logs = [], ""
        for name, containers in found.items():
            for container in containers:
                if why := self._hinders(name, container.state()):
                    waiting.append(f"{name} {why}")
                    logs += "".join(f"{name} | {line}\n" for line in log_of(container, LOG_TAIL).splitlines())
                    break
        reason = naming.shorten("; ".join(waiting), 300) or "Docker Compose itself has not ended"
        error = StartTimeout(
            f"{self._spec} did not start within {deadline.seconds:g} s: {reason}. If it only needs longer, raise "
            f"startup_timeout.",
            service=str(self._spec),
            seconds=deadline.elapsed,
            reason=reason,
        )
        return _noted(error, "last log lines", logs)

    def _hinders(self, name: str, state: State) -> str:
        """Why others may still be waiting for a service, as the rest of a sentence; empty for one that they have."""
        if state.running and name in self._jobs:
            return "has not ended, which others wait for"
        if state.status == "created" and not state.exit_code:  # With one, Docker has tried to start it.
            return "waits for others"
        if state.running and state.health in ("", "healthy"):
            return ""
        said = f": {state.health_said}" if state.health_said else ""
        if state.health == "starting" and not said and self._is_podman():
            said = ", and no health check has said anything: Podman runs them by timers of systemd's, and never without"
        return f"is {f'{state.health}{said}' if state.health else state}"

    def _check_profiles(self) -> None:
        if not self._spec.profiles:
            return
        result = self._config(["--profile=*"], ["--profiles"])
        known = result.stdout.split()
        if result.code == 0 and (unknown := [name for name in self._spec.profiles if name not in known]):
            raise StartError(
                f"could not {self._doing}: no service has the profile {unknown[0]!r}; "
                f"there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"
            )

    def _check_services(self, names: Sequence[str], left_out: bool = False) -> None:
        """Raise StartError for those that are not in the files at all, or in a profile that was not asked for, unless
        they are to be left out."""
        result = self._config(["--profile=*"], ["--format=json"])
        services = (json.loads(result.stdout).get("services") or {}) if result.code == 0 else {}
        for name in names:
            if name not in services:
                known = ", ".join(services) or "none"
                raise StartError(f"could not {self._doing}: it has no service {name!r}; it has {known}")
            if (
                not left_out
                and (profiles := services[name].get("profiles"))
                and not set(profiles) & set(self._spec.profiles)
            ):
                raise StartError(
                    f"could not {self._doing}: service {name!r} is only run with the profile {profiles[0]!r}: "
                    f"profiles=[{profiles[0]!r}]"
                )

    def _config(self, options: Sequence[str], arguments: Sequence[str]) -> Result:
        files = [word for file in self._spec.files for word in ("-f", str(file))]
        deadline = Deadline.after(READ_TIMEOUT)
        try:
            return self._run([*options, *files, "config", *arguments], deadline)
        except TimeoutError:
            raise StartError(f"could not {self._doing}: Docker Compose did not read it in {READ_TIMEOUT:g} s") from None

    def _run(
        self, arguments: Sequence[str], deadline: Deadline, data: bytes = b"", defaults: Mapping[str, str] = _NOTHING
    ) -> Result:
        environment = {**defaults, **self._environment}
        where = ["--ansi=never", f"--project-name={self._project}", f"--project-directory={self._spec.directory}"]
        return self._program.run(
            [*where, *arguments], deadline, environment=environment, directory=self._spec.directory, model=data
        )


_NOISE = re.compile(
    r"^ *(Container|Network|Volume|Image|Service) |level=warning|^time=\S+ level=info|^#\d+ |^-+$|^ > ?$"
)


def _said(result: Result) -> str:
    """What Compose said of its failure: its last lines, without those that tell of progress."""
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.search(line)] or lines
    return naming.shorten(" ".join(telling[-3:]), 500) or f"nothing, but ended with {result.code}"


def _missing(file: Path) -> str:
    """The sentence for a file that is not there, with one of that name that is."""
    if file.is_dir():
        inside = " or ".join(repr(each.name) for each in sorted(file.glob("*compose*.y*ml"))) or "none by a usual name"
        return f"{file} is a directory; name the file in it, which has {inside}"
    if hint := naming.further_up(file.parent, file.name):
        return f"there is no file {file}{hint}"
    near = [each.name for each in sorted(file.parent.glob("*compose*.y*ml"))] if file.parent.is_dir() else []
    there = f"; there is {', '.join(near)}" if near else ""
    return f"there is no file {file}{there}. Paths start at the directory of the test's module"


def _noted(error: StartError, title: str, log: str) -> StartError:
    lines = naming.log_tail(log, LOG_TAIL)
    error.add_note(f"{title}:\n" + textwrap.indent("\n".join(lines) or "(the log is empty)", "  | ", lambda _: True))
    return error
