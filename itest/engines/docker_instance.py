# SPDX-License-Identifier: Apache-2.0
"""One container. What few runs ask of it is imported when it is asked: a run that finds its servers takes a tenth of a second."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming, owners
from itest.clock import Deadline
from itest.container_root import is_of, root_of
from itest.engines import (
    OUT_OF_REACH,
    REMOVED,
    RESTARTING,
    Endpoint,
    ExecResult,
    State,
    docker_quick,
    docker_sdk,
    is_ending,
    port_of,
)
from itest.engines.docker_address import LOOPBACK
from itest.engines.docker_errors import OutOfReach, not_found, translated, unanswered
from itest.engines.docker_registry import familiar
from itest.engines.docker_remove import remove, remove_volume, request
from itest.engines.ports import is_ours, refuses
from itest.errors import ItestError, PortTaken, StartError
from itest.wait import NotReady, answer, until_ready

if TYPE_CHECKING:
    from itest.engines.docker_listening import Listening

PORTS = "itest.ports"
"""Label: the container's ports by name, as JSON, so that an instance that was found knows its endpoints too."""

IMAGE = "itest.image"
"""Label: which image a container with a kept state stands for. Docker lists the id of the state's own."""

PUBLISH_TIMEOUT = 5.0
"""Seconds in which a started container's ports must be published. Docker has them at once, others a little later."""


AFTER = 2e-6
"""Seconds by which a moment is surely later, though nanoseconds are lost where it is read."""


class DockerInstance:
    """A container."""

    owned = True
    state_pause = 0.1
    """Seconds between two looks at its state while a client's answer is waited for: a look is as much work as a poll."""

    def __init__(
        self,
        client: Any,
        container: str,
        image: str,
        ports: Mapping[str, str],
        host: str = LOOPBACK,
        endpoints: Mapping[str, Endpoint] | None = None,
        networks: Mapping[str, Any] | None = None,
        socket: str = "",
        volumes: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._id = container
        self._image = image
        self._ports = dict(ports)
        self._host = host
        self._endpoints = dict(endpoints or {})
        self._networks: Mapping[str, Any] = networks or {}
        self._socket = socket
        self._volumes = tuple(volumes)
        self._pid = self._seen = 0
        self._born = ""
        """When it was started, by Docker's clock, as it was first seen to run."""

    @property
    def id(self) -> str:
        return self._id

    def endpoint(self, name: str = "") -> Endpoint:
        name = port_of(self._ports, name, self)
        if name not in self._endpoints:
            with contextlib.suppress(NotReady):
                self._look_up_endpoints()
        if name not in self._endpoints:
            check = answer("Docker to publish its ports", lambda _: self._look_up_endpoints(), (NotReady,))
            until_ready(check, self, Deadline.after(PUBLISH_TIMEOUT), subject=str(self))
        return self._endpoints[name]

    def direct_endpoint(self, name: str = "") -> Endpoint | None:
        """The container's own address, if its network's gateway is an address of this machine.

        A published port on the loopback is served by a process of Docker's (docker-proxy), which takes about 0.1 ms of
        each round trip (measured with PostgreSQL and Docker 20.10). Docker Desktop's and rootless Docker's networks
        lie elsewhere, and so does everything seen from within a container.
        """
        if self._host != LOOPBACK or not self._ports:
            return None
        port, _, protocol = self._ports[port_of(self._ports, name, self)].partition("/")
        if not self._networks:
            self._remember()
        for network in self._networks.values():
            if protocol == "tcp" and network.get("IPAddress") and is_ours(network.get("Gateway", "")):
                return Endpoint(network["IPAddress"], int(port))
        return None

    def cut_off(self) -> bool:
        """Whether its published ports are out of reach: in a container with a network of its own, as this process is then,
        the loopback is another one than that on which Docker has published them."""
        if not (around := owners.container()) or self._host != LOOPBACK or not self._endpoints:
            return False
        ours: Mapping[str, Any] | None = None
        with contextlib.suppress(ItestError):  # None: it is another Docker's.
            ours = DockerInstance(self._client, around, "", {}, socket=self._socket)._asked()
        network = (ours or {}).get("HostConfig", {}).get("NetworkMode", "host")
        return (
            network != "host" and not network.startswith("container:") and refuses(next(iter(self._endpoints.values())))
        )

    def root(self) -> Path | None:
        if sys.platform != "linux" or self._host != LOOPBACK:
            return None
        if self._pid and (known := root_of(self._id, self._pid)):
            return known
        self._remember()  # Another one, if it was started again.
        return root_of(self._id, self._pid) if self._pid else None

    def inside_endpoint(self, name: str = "", alias: str = "") -> Endpoint:
        return Endpoint(alias or self._id[:12], int(self._ports[port_of(self._ports, name, self)].partition("/")[0]))

    def silence(self, name: str = "") -> str:
        self.endpoint(name)
        name = port_of(self._ports, name, self)
        return self._listening.silence(name, int(self._ports[name].partition("/")[0]))

    @cached_property
    def _listening(self) -> Listening:
        from itest.engines.docker_listening import Listening

        return Listening(self)

    def state(self) -> State:
        try:
            inspected = self._inspected()
        except OutOfReach:
            return State(True, OUT_OF_REACH)
        if inspected is None:
            return State(False, REMOVED)
        state = inspected["State"]
        status = str(state["Status"])
        if status == "stopped":  # What Podman says until it has started it again, or calls it exited.
            status = RESTARTING if _is_started_again(inspected) else "exited"
        running = bool(state["Running"]) or status == RESTARTING  # Docker calls it both.
        if self._pid != self._seen and is_of(self._id, self._pid):  # Later it may be too late to see whose it is.
            self._seen = self._pid
        health = str((state.get("Health") or {}).get("Status", ""))
        checks = (state.get("Health") or {}).get("Log") or [{}]
        return State(
            running=running,
            status=status,
            exit_code=int(state["ExitCode"]) if status == RESTARTING or not running else None,
            oom_killed=bool(state.get("OOMKilled")),
            health="" if health == "none" else health,
            health_said=str(checks[-1].get("Output", "")).strip(),
            restarts=int(inspected.get("RestartCount") or 0),
            restarted=running and state.get("StartedAt", "") != self._born,
        )

    def ending(self) -> bool:
        return self._pid != 0 and self._pid == self._seen and is_ending(self._pid)

    def usage(self) -> list[str]:
        """Its memory and what is unusual about it, as phrases. Raises ItestError."""
        from itest.engines import docker_usage

        told = self._inspected()
        return [] if told is None else docker_usage.facts(told, self._id, self._client, self._socket)

    def logs(self, tail: int | None = None, since: float | None = None) -> str:
        if self._socket:
            with contextlib.suppress(OSError, ValueError, ItestError):
                if (inspected := self._inspected()) is None:
                    return ""
                query = f"stdout=1&stderr=1&tail={'all' if tail is None else tail}{f'&since={since}' if since else ''}"
                said = docker_quick.logs(self._socket, self._id, query, terminal=bool(inspected["Config"]["Tty"]))
                return said.decode("utf-8", "replace")
        docker_sdk.load()
        from docker.errors import APIError

        doing = f"read the log of {self}"
        try:
            with translated(doing, passing=(APIError,)):
                text: bytes = self._client.logs(self._id, tail="all" if tail is None else tail, since=since or None)
        except APIError as error:
            if error.status_code in (404, 409):  # Gone, or "dead or marked for removal".
                return ""
            with translated(doing):
                raise
        return text.decode("utf-8", "replace")

    def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
        """Its output as it comes, until `stop` is set or it is removed; from its beginning if it is `new`."""
        from itest.engines import docker_follow

        return docker_follow.follow(self._client, self, stop, new=new)

    def exec(
        self,
        argv: Sequence[str],
        timeout: float = 30.0,
        user: str = "",
        env: Mapping[str, str | None] | None = None,
        directory: str = "",
        stdin: bytes = b"",
    ) -> ExecResult:
        """As `Instance.exec`, as the image's user or another `user`, with more variables, in another directory.

        What Docker refuses to run ends with 125, 126 or 127, as with the docker command.

        Raises ExecTimeout when the command has not ended in time; it then runs on, because Docker cannot end it.
        """
        docker_sdk.load()
        import shlex

        from docker.errors import APIError

        from itest.engines import docker_exec

        deadline = Deadline.after(timeout)
        job, client = "", self._client
        doing = f"run `{shlex.join(map(naming.mask, argv))}` in {self}"
        try:
            with translated(doing, passing=(APIError, TimeoutError)):
                words, variables = list(argv), dict(env or {})
                if None in variables.values() and client.is_podman:  # It refuses those that are to be taken away.
                    gone = [name for name, value in variables.items() if value is None]
                    words = ["env", *(f"-u{name}" for name in gone), *words]
                    variables = {name: value for name, value in variables.items() if value is not None}
                job = client.exec_create(
                    self._id,
                    words,
                    stdin=bool(stdin),
                    user=user,
                    environment=variables,
                    workdir=directory or None,
                )["Id"]
                if stdin:
                    output = docker_exec.output_with_input(client, self._socket, job, stdin, deadline, doing)
                else:
                    output = docker_exec.output(client, job, deadline)
                code = docker_exec.exit_code(client, job, deadline)
        except APIError as error:
            # Newer daemons refuse a program that is not there; older ones write that into its output, see below.
            return ExecResult(127 if job else 125, "", naming.mask(str(error.explanation or error)))
        except TimeoutError:
            from itest.wait_errors import not_ended  # Only errors need it.

            raise not_ended(argv, f"in {self}", timeout) from None
        stdout, stderr = (output[stream].decode("utf-8", "replace") for stream in (1, 2))
        if code in (126, 127) and stdout.startswith(("OCI runtime exec failed", "unable to find ")):
            stdout, stderr = "", stdout
            code = 127 if "not found" in stderr or "no such file" in stderr else code
        return ExecResult(code, stdout, stderr)

    # What only containers can do (engines.ContainerInstance).

    def health_command(self) -> tuple[str, ...]:
        with translated(f"inspect {self}"):
            config = self._client.inspect_container(self._id)["Config"]
        kind, *words = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        if kind == "CMD-SHELL":
            return (*(config.get("Shell") or ("/bin/sh", "-c")), *words)
        return tuple(words) if kind == "CMD" else ()

    def pause(self) -> None:
        with translated(f"pause {self}"):
            self._client.pause(self._id)

    def unpause(self) -> None:
        with translated(f"unpause {self}"):
            self._client.unpause(self._id)

    def halt(self, grace: int | None) -> None:
        with translated(f"stop {self}"):
            self._client.stop(self._id, timeout=grace)

    def go_on(self) -> float:
        since = self._end_of_log()
        self._networks, self._born = {}, ""  # Its own address may be another one now.
        deadline = Deadline.after(PUBLISH_TIMEOUT)
        while True:
            try:
                with translated(f"start {self} again", StartError):
                    self._client.start(self._id)
                return since
            except PortTaken:  # The proxy of its first life may take a moment to end.
                if deadline.passed:
                    raise
                deadline.pause(0.1)

    def copy_from(self, path: str, target: Path | None = None) -> bytes:
        from itest.engines import docker_files

        with translated(f"copy {path} from {self}"):
            return docker_files.take(self._client, self._id, path, target)

    def copy_to(self, path: str, what: bytes | Path) -> None:
        from itest.engines import docker_files

        with translated(f"copy a file to {path} in {self}"):
            docker_files.put(self._client, self._id, {path: what})

    def removal(self) -> tuple[str, str] | None:
        if self._volumes or not self._socket:
            return None  # A volume goes after the container, and that would take two.
        return f"DELETE {request(self._id, podman=self._socket in docker_quick.podman)}", self._socket

    def disown(self) -> None:
        """Nothing: it is no child of this process."""

    def stop(self) -> None:
        with translated(f"remove {self}"):
            remove(self._client, self._id)
            for volume in self._volumes:
                remove_volume(self._client, volume)

    def __str__(self) -> str:
        return f"container {self._id[:12]} ({self._image})"

    def _inspected(self) -> Mapping[str, Any] | None:
        """What Docker says of it, of which some is remembered; None: it is gone. Raises ItestError."""
        said = self._asked()
        self._networks = (said or {}).get("NetworkSettings", {}).get("Networks") or {}
        state = (said or {}).get("State", {})
        self._pid = state.get("Pid") or 0
        if said and state.get("Running"):
            self._born = self._born or state.get("StartedAt", "")
            if state.get("StartedAt", "") != self._born:  # By a restart, a port that Docker has chosen is another one.
                self._remember_endpoints(said)
        return said

    def _asked(self) -> Mapping[str, Any] | None:
        """What Docker says of it, without the SDK where that can be."""
        if self._socket:
            with contextlib.suppress(OSError, ValueError):
                try:
                    status, said = docker_quick.ask(self._socket, "GET", f"/containers/{self._id}/json")
                except TimeoutError as error:  # The SDK would only wait as long again.
                    raise OutOfReach(unanswered(f"inspect {self}", error)) from None
                if status == 404:
                    return None
                if status == 200 and isinstance(said, dict):
                    return said
        docker_sdk.load()
        from requests.exceptions import ConnectionError, Timeout

        try:
            with translated(f"inspect {self}", passing=(not_found(), ConnectionError, Timeout)):
                inspected: Mapping[str, Any] = self._client.inspect_container(self._id)
        except not_found():
            return None
        except (ConnectionError, Timeout) as error:
            raise OutOfReach(unanswered(f"inspect {self}", error)) from None
        return inspected

    def _end_of_log(self) -> float:
        """A moment after the last line of its log and before any that is still to come, by Docker's clock, which stamps
        lines when it reads them. It sets StartedAt after the first lines of a fast program, and FinishedAt before the
        last words of one."""
        from datetime import datetime

        with contextlib.suppress(ItestError, ValueError), translated(f"read the log of {self}"):
            last: bytes = self._client.logs(self._id, tail=1, timestamps=True)
            return datetime.fromisoformat(last.partition(b" ")[0].decode()).timestamp() + AFTER
        return 0.0  # It is empty, or cannot be read, and then nobody looks into it.

    def _remember(self) -> None:
        """Ask Docker, only for what is remembered of its answer: nothing where there is none."""
        with contextlib.suppress(ItestError):
            self._inspected()

    def _look_up_endpoints(self) -> None:
        """Remember every endpoint; all are published together. Raises NotReady while they are not."""
        said = self._inspected() or {}
        if said.get("State", {}).get("Running"):  # Podman goes on to name those of a container that has ended.
            self._remember_endpoints(said)
        for name, port in self._ports.items():
            if name not in self._endpoints:
                raise NotReady(f"port {port} is not published yet")

    def _remember_endpoints(self, said: Mapping[str, Any]) -> None:
        published = said.get("NetworkSettings", {}).get("Ports") or {}
        for name, port in self._ports.items():
            if bindings := published.get(port):
                self._endpoints[name] = Endpoint(self._host, int(bindings[0]["HostPort"]))


def _is_started_again(said: Mapping[str, Any]) -> bool:
    """Whether the restart policy of a container that has ended has it started again."""
    policy = said.get("HostConfig", {}).get("RestartPolicy") or {}
    if policy.get("Name") != "on-failure":
        return policy.get("Name") in ("always", "unless-stopped")
    times = policy.get("MaximumRetryCount") or 0  # 0: without an end.
    return bool(said["State"]["ExitCode"]) and (not times or (said.get("RestartCount") or 0) < times)


def image_of(item: Mapping[str, Any]) -> str:
    """What to call the image of a container, as Docker lists it."""
    return (item["Labels"] or {}).get(IMAGE) or familiar(item["Image"])
