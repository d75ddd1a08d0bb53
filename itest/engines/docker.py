# SPDX-License-Identifier: Apache-2.0
"""The docker engine: containers through the Docker Engine API (Docker, Podman, remote and rootless daemons).

    docker_address    where Docker is, and why nobody answers there
    docker_pull       getting an image
    docker_progress   showing people how far that is
    docker_instance   one container
    docker            the engine itself: create, find, remove

Together the only modules that know the `docker` package, which is imported once Docker was seen to listen.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from itest import naming
from itest.clock import Deadline
from itest.config import Config
from itest.engines import Endpoint, Instance
from itest.engines.docker_address import LOOPBACK, Address, locate, problem
from itest.engines.docker_instance import PORTS, DockerInstance, not_found, remove, translated
from itest.engines.docker_pull import Images
from itest.engines.ports import free_port
from itest.errors import StartError, Unavailable
from itest.spec import ContainerSpec, Spec, fill
from itest.trace import Recorder

ANSWER_TIMEOUT = 2
"""Seconds in which Docker must say its version to count as available."""

API_TIMEOUT = 60
"""Seconds that one request may take. Most take one millisecond; a start takes seconds on a busy host."""

CONNECTIONS = 64
"""Connections kept for use by threads. With fewer than threads, urllib3 logs a warning for each one it discards."""


class DockerEngine:
    """Runs containers. One client serves all threads: each request takes a connection of its own from a pool."""

    name = "docker"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._connection: tuple[Any, Address, Images] | None = None

    def unavailable(self) -> str | None:
        try:
            self._connect()
        except Unavailable as error:
            return str(error)
        return None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> Instance:
        assert isinstance(spec, ContainerSpec)
        client, address, images = self._connect()
        images.need(spec.image, trace, labels.get(naming.SERVICE, ""))
        deadline = Deadline.after(deadline.seconds, deadline.clock)  # The time of a pull does not count.
        try:
            chosen = {name: (address.host, free_port()) for name, port in spec.ports.items() if port.chosen}
        except OSError as error:
            raise StartError(f"could not start {spec}: {error}", seconds=deadline.elapsed) from error
        # The name is ours, so that the container can be removed even when the answer with its id never came.
        name = _name(labels)
        try:
            with translated(f"start {spec}", StartError, deadline):
                container = _create(client, name, spec, labels, address, chosen)
                client.start(container)
        except BaseException as error:
            try:
                with translated(f"remove {name}"):
                    remove(client, name)
            except Exception as failure:
                error.add_note(f"and its container was left behind: {failure}")
            raise
        known = {name: Endpoint(*endpoint) for name, endpoint in chosen.items()}
        return DockerInstance(client, container, spec.image, _published(spec), address.host, known)

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        filters = _filters(labels)
        client, address, _ = self._connect()
        with translated("list the containers"):
            found = client.containers(all=True, filters=filters)
        return [
            DockerInstance(client, item["Id"], item["Image"], _ports_of(item["Labels"] or {}), address.host)
            for item in found
        ]

    def remove(self, labels: Mapping[str, str]) -> int:
        instances = self.find(labels)
        _side_by_side([instance.stop for instance in instances])
        client, _, _ = self._connect()
        with translated("remove networks"):
            networks = client.networks(filters=_filters(labels))
            for network in networks:
                with contextlib.suppress(not_found()):
                    client.remove_network(network["Id"])
        return len(instances) + len(networks)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection[0].close()

    def _connect(self) -> tuple[Any, Address, Images]:
        """The client, made at the first call. Raises Unavailable."""
        with self._lock:
            if self._connection is None:
                address = locate(self._config.environment)
                if reason := problem(address):
                    raise Unavailable(reason)
                client = _client(address)
                self._connection = (client, address, Images(client, self._config))
            return self._connection


def _client(address: Address) -> Any:
    """A client that has spoken with Docker and uses the newest version of the API that it offers."""
    try:
        from docker.api import APIClient
        from docker.errors import DockerException
        from docker.tls import TLSConfig
    except ImportError:
        raise Unavailable(
            f"Docker answers at {address}, but the package 'docker' cannot be imported: pip install 'docker>=7.1'"
        ) from None
    try:
        tls: Any = False
        if (directory := address.certificates) is not None:
            tls = TLSConfig(
                client_cert=(str(directory / "cert.pem"), str(directory / "key.pem")),
                ca_cert=str(directory / "ca.pem") if address.verify else None,
                verify=address.verify,
            )
        client = APIClient(address.url, version="auto", timeout=ANSWER_TIMEOUT, tls=tls, max_pool_size=CONNECTIONS)
    except DockerException as error:
        raise Unavailable(
            f"something listens at {address}, but it does not answer as Docker does: "
            f"{naming.shorten(naming.mask(str(error)))}"
        ) from None
    client.timeout = API_TIMEOUT
    return client


def _create(
    client: Any,
    name: str,
    spec: ContainerSpec,
    labels: Mapping[str, str],
    address: Address,
    chosen: Mapping[str, tuple[str, int]],
) -> str:
    """Create the container and return its id."""

    def filled(text: str) -> str:
        try:
            return fill(text, chosen)
        except KeyError as error:
            raise StartError(
                f"could not start {spec}: it mentions the host port of {error}, which only Docker will choose; "
                f"declare that port with Port(..., chosen=True)"
            ) from None

    # The loopback of another machine is out of our reach: a daemon there must publish for its network.
    interface = LOOPBACK if address.host == LOOPBACK else "0.0.0.0"
    ports = _published(spec)
    created = client.create_container(
        spec.image,
        [filled(argument) for argument in spec.command] or None,
        name=name,
        environment={variable: filled(value) for variable, value in spec.env.items()},
        entrypoint=None if spec.entrypoint is None else [filled(argument) for argument in spec.entrypoint],
        ports=[(port.number, port.protocol) for port in spec.ports.values()],
        labels={**labels, PORTS: json.dumps(ports)},
        host_config=client.create_host_config(
            port_bindings={
                port: (interface, chosen[name][1] if name in chosen else None) for name, port in ports.items()
            },
            tmpfs={path: f"size={size}" if size else "" for path, size in spec.tmpfs.items()},
            # A daemon's default may be a driver whose logs cannot be read back (syslog, awslogs).
            log_config={"Type": "json-file", "Config": {}},
        ),
    )
    return str(created["Id"])


def _name(labels: Mapping[str, str]) -> str:
    """A container name that nobody else has: `itest-postgres-1f0c2a9be4`."""
    service = re.sub("[^a-z0-9]+", "-", labels.get(naming.SERVICE, "service").lower())
    return f"itest-{service}-{secrets.token_hex(5)}"


def _published(spec: ContainerSpec) -> dict[str, str]:
    """Docker's names of the ports by ours: `{"http": "9200/tcp"}`."""
    return {name: f"{port.number}/{port.protocol}" for name, port in spec.ports.items()}


def _ports_of(labels: Mapping[str, str]) -> dict[str, str]:
    try:
        return dict(json.loads(labels.get(PORTS, "{}")))
    except (ValueError, TypeError):
        return {}  # Somebody else's container that carries our other labels: it may still be found and removed.


def _filters(labels: Mapping[str, str]) -> dict[str, list[str]]:
    if not labels:
        raise ValueError("at least one label is needed: without one, every container of the machine would be meant")
    return {"label": [f"{name}={value}" for name, value in labels.items()]}


def _side_by_side(actions: Sequence[Callable[[], None]]) -> None:
    """Run all, on threads where that is worth it and possible, and raise the first error afterwards."""
    errors: list[Exception] = []

    def run(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    if len(actions) > 1:
        try:
            with ThreadPoolExecutor(min(len(actions), 8), thread_name_prefix="itest-remove") as pool:
                list(pool.map(run, actions))
            actions = ()
        except RuntimeError:
            errors.clear()  # No thread can be started while the interpreter shuts down; twice does no harm.
    for action in actions:
        run(action)
    if errors:
        raise errors[0]
