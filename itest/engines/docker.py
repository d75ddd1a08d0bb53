# SPDX-License-Identifier: Apache-2.0
"""The docker engine: containers through the Docker Engine API (Docker, Podman, remote and rootless daemons).

    docker_address    where Docker is, and why nobody answers there
    docker_quick      what a usual run asks, without the SDK
    docker_sdk        that import
    docker_client     its client, and whether Docker is what listens
    docker_link       these together: Docker as far as a run has needed it
    docker_pull       getting an image
    docker_registry   its names, and what registries say
    docker_login      logins to them
    docker_build      building an image
    docker_built      those that were built
    dockerfile        what they are built from
    docker_progress   how far that is
    docker_config     what is asked to be created
    docker_options    the rarer part of that
    docker_files      files for a container, before it starts and later
    docker_network    networks, and what is on them
    docker_instance   one container
    docker_remove     its end
    docker_errors     what Docker says, in one sentence
    docker_exec       commands in it
    docker_follow     its log as it is written
    docker_listening  whether its process listens
    docker_warm       kept states as images
    docker_things     what itest has made there, in whatever run
    docker_usage      what a container uses of the machine
    docker            the engine itself: create, find, remove

Together the only modules that know the `docker` package, which is imported when something is asked that docker_quick does not.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from itest import naming, owners
from itest.clock import Deadline
from itest.config import Config
from itest.engines import Endpoint, Instance, State, Thing, docker_network, docker_quick, remove_all
from itest.engines.docker_address import LOOPBACK, Address
from itest.engines.docker_errors import OutOfReach, refused, translated, unanswered
from itest.engines.docker_instance import PORTS, DockerInstance, image_of
from itest.engines.docker_link import Later, Link
from itest.engines.docker_remove import remove, remove_volume
from itest.engines.ports import free_port
from itest.errors import ItestError, StartError, Unavailable
from itest.spec import ContainerSpec, Spec
from itest.trace import Recorder, say

if TYPE_CHECKING:
    from itest.engines.docker_pull import Images


class DockerEngine:
    """Runs containers. One client serves all threads: each request takes a connection of its own from a pool."""

    name = "docker"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._link = Link(config)
        self._ids: dict[str, str] = {}
        self._gateways: dict[str, str] = {}
        self._warnings: set[str] = set()
        self._around: bool | None = None
        """Whether the container that this process runs in is one of this Docker's, once that was asked."""

    def unavailable(self) -> str | None:
        try:
            self._link.reach()
        except Unavailable as error:
            return str(error)
        return None

    @property
    def heard(self) -> bool:
        """Whether Docker seems to be there, or was asked for in vain, also where it is unavailable."""
        return self._link.heard

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> Instance:
        from itest.engines.docker_config import published, wanted
        from itest.engines.docker_options import volume_name

        assert isinstance(spec, ContainerSpec)
        address = self.address
        labels = self.owned(labels)
        image = spec.warm or self._image(spec, trace, labels.get(naming.SERVICE, ""))
        deadline.begin_anew()  # The time of a pull does not count.
        try:
            chosen = {name: (address.host, free_port()) for name, port in spec.ports.items() if port.chosen}
        except OSError as error:
            raise StartError(f"could not start {spec}: {error}", seconds=deadline.elapsed) from error
        # The name is ours, so that the container can be removed even when the answer with its id never came.
        name = _name(labels)
        volumes = [volume_name(labels, volume) for volume in (spec.options.volumes if spec.options else ())]
        try:
            host = self.gateway(spec.network) if spec.network else ""
            for volume in volumes:  # Podman gives no labels to one that it makes with the container.
                with translated(f"create the volume {volume}", StartError, deadline):
                    self.client.create_volume(volume, labels=dict(labels))
            config = wanted(spec if spec.warm else spec._replace(image=image), labels, address, chosen, host)
            container = self._started(name, config, spec, deadline)
        except BaseException as error:
            try:
                with translated(f"remove {name}"):
                    remove(self.client, name)
                    for volume in volumes:
                        remove_volume(self.client, volume)
            except Exception as failure:
                error.add_note(f"and its container, if Docker has made it, was left behind: {failure}")
            raise
        known = {name: Endpoint(*endpoint) for name, endpoint in chosen.items()}
        return DockerInstance(
            Later(self._link),
            container,
            image if spec.build else spec.image,
            published(spec),
            address.host,
            known,
            socket=address.socket,
            volumes=volumes,
        )

    def identity(self, spec: ContainerSpec, trace: Recorder, subject: str = "") -> str:
        """The id of a spec's image, which is a digest of its content; empty where it is not there.

        One that must be built, or looked for in its registry, is so first: only then it is known. Raises StartError.
        """
        image = spec.image
        if spec.build is not None or spec.pull == "always":
            image = self._image(spec, trace, subject)
        return (not spec.platform and self._known(image)) or self.images.identity(image, spec.platform)

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        filters = _filters(labels)
        found = self._listed(filters)
        if found is None:
            with translated("list the containers"):
                found = self.client.containers(all=True, filters=filters)
        client, address = Later(self._link), self.address
        return [
            DockerInstance(
                client,
                item["Id"],
                image_of(item),
                (ports := _ports_of(item["Labels"] or {})),
                address.host,
                _endpoints(ports, item.get("Ports") or (), address.host),
                (item.get("NetworkSettings") or {}).get("Networks"),
                socket=address.socket,
            )
            for item in found
        ]

    def _listed(self, filters: Mapping[str, Any]) -> list[Any] | None:
        """The containers, asked without the SDK; None where that cannot be."""
        if not self._link.quick:
            return None
        with contextlib.suppress(OSError, ValueError):
            wanted = quote(json.dumps(filters))
            status, said = docker_quick.ask(self.address.parts.path, "GET", f"/containers/json?all=1&filters={wanted}")
            if status == 200 and isinstance(said, list):
                return said
        return None

    def remove(self, labels: Mapping[str, str]) -> int:
        return remove_all(self.things(), labels)

    def network(self, name: str, labels: Mapping[str, str]) -> str:
        """The id of a new network, of that name as far as people see it. Raises ItestError."""
        return docker_network.create(self.client, name, self.owned(labels))

    def remove_network(self, network: str) -> None:
        """Remove a network, also from under what is on it. Raises ItestError."""
        with translated(f"remove network {network[:12]}"):
            docker_network.remove(self.client, network)

    def host_on(self, network: str) -> str:
        """The address to listen on in this process, for containers on this network to reach it as HOST_INSIDE.

        Raises ItestError where Docker is on another machine.
        """
        if self.address.host != LOOPBACK:
            raise ItestError(
                f"containers on {self.address.host}, where Docker is, do not reach this machine by any address that "
                f"itest could know; have the server in a container too"
            )
        # Docker Desktop and its like lead their name for this machine to its loopback.
        return self.gateway(network) or LOOPBACK

    def gateway(self, network: str) -> str:
        """The address of this machine on a network; empty where it has none. Raises ItestError."""
        if network not in self._gateways:
            self._gateways[network] = docker_network.gateway(self.client, network)
        return self._gateways[network]

    def connect(self, instance: Instance, network: str, aliases: Sequence[str] = ()) -> None:
        """Have a container on this network too, also under these names. Raises ItestError."""
        docker_network.connect(self.client, network, instance.id, aliases)

    def owned(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The labels, of which that of the owner names the container that this process runs in too, if this Docker knows it."""
        owner = labels.get(naming.OWNER, "")
        if not owner or "container=" in owner or not (container := owners.container()):
            return labels
        if self._around is None:
            self._around = self.container_state(container).status == "running"
        return {**labels, naming.OWNER: f"{owner} container={container}"} if self._around else labels

    def container_state(self, container: str) -> State:
        """What a container of that id is doing, whosever it is."""
        return DockerInstance(Later(self._link), container, "", {}, socket=self.address.socket).state()

    def things(self) -> list[Thing]:
        from itest.engines import docker_things

        return docker_things.things(self)

    @property
    def client(self) -> Any:
        """The SDK's client. Raises OutOfReach."""
        return self._link.client

    @property
    def address(self) -> Address:
        """Where Docker is. Raises Unavailable."""
        return self._link.address

    @property
    def is_podman(self) -> bool:
        """Whether it is Podman that answers. Raises OutOfReach."""
        return bool(self.client.is_podman)

    @property
    def images(self) -> Images:
        """Its images. Raises StartError where it does not answer any more."""
        try:
            return self._link.images
        except OutOfReach as error:
            raise StartError(unanswered("look for its images", error)) from None

    def close(self) -> None:
        self._link.close()

    def _image(self, spec: ContainerSpec, trace: Recorder, subject: str) -> str:
        """The name or id of its image, once that is there. Raises StartError."""
        name = spec.image
        if spec.build is not None:
            from itest.engines.docker_build import name_of

            name = name_of(spec.build)
        if spec.pull in ("missing", "never") and not spec.platform and self._known(name):
            return name
        name = self.images.need(spec, trace, subject)
        self._ids.pop(name, None)  # It may be another one by now.
        return name

    def _known(self, image: str) -> str:
        """The image's id if it is known to be there, or can be known without the SDK."""
        if image not in self._ids and self._link.quick:
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                status, said = docker_quick.ask(
                    self.address.parts.path, "GET", f"/images/{quote(image, safe='/:@')}/json"
                )
                if status == 200:
                    self._ids[image] = str(said["Id"])
        return self._ids.get(image, "")

    def _started(self, name: str, config: dict[str, Any], spec: ContainerSpec, deadline: Deadline) -> str:
        """Create and start a container of that name, and give its id. Raises StartError."""
        if not self._link.quick or spec.files:
            with translated(f"start {spec}", StartError, deadline):
                created = self.client.create_container_from_config(config, name, spec.platform or None)
                container = str(created["Id"])
                self._warned(spec, created)
                from itest.engines import docker_files

                docker_files.put(self.client, container, spec.files)
                self.client.start(container)
            return container
        said: Any = None
        try:
            path = self.address.parts.path
            query = f"name={name}{f'&platform={quote(spec.platform)}' if spec.platform else ''}"
            status, said = docker_quick.ask(path, "POST", f"/containers/create?{query}", config)
            if status == 201:
                container = str(said["Id"])
                self._warned(spec, said)
                status, said = docker_quick.ask(path, "POST", f"/containers/{container}/start")
                if status in (204, 304):
                    return container
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StartError(unanswered(f"start {spec}", error), seconds=deadline.elapsed) from None
        reason = said.get("message", said) if isinstance(said, dict) else said
        raise refused(f"start {spec}", StartError, str(reason), deadline)

    def _warned(self, spec: ContainerSpec, created: Mapping[str, Any]) -> None:
        """Say it, once, where Docker ignores a limit that was asked for."""
        for warning in created.get("Warnings") or ():
            from itest import causes  # Mostly there is none.

            known = causes.find(str(warning), causes.DOCKER)
            if known is not None and warning not in self._warnings and not self._config.quiet:
                self._warnings.add(warning)
                say(f"{spec}, Docker says: {naming.shorten(str(warning))}; {known.cure}")


def _endpoints(ports: Mapping[str, str], published: Sequence[Mapping[str, Any]], host: str) -> dict[str, Endpoint]:
    """Where named ports (`5432/tcp`) are reached, by Docker's list of what a container publishes."""
    found = {f"{each['PrivatePort']}/{each['Type']}": each["PublicPort"] for each in published if "PublicPort" in each}
    return {name: Endpoint(host, int(found[port])) for name, port in ports.items() if port in found}


def _ports_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The ports by name, as the label of a container says."""
    try:
        return dict(json.loads(labels.get(PORTS, "{}")))
    except (ValueError, TypeError):
        return {}  # Somebody else's container that carries our other labels: it may still be found and removed.


def _name(labels: Mapping[str, str]) -> str:
    """A container name that nobody else has: `itest-postgres-1f0c2a9be4`."""
    service = re.sub("[^a-z0-9]+", "-", labels.get(naming.SERVICE, "service").lower())
    return f"itest-{service}-{naming.random_hex(5)}"


def _filters(labels: Mapping[str, str]) -> dict[str, list[str]]:
    if not labels:
        raise ValueError("at least one label is needed: without one, every container of the machine would be meant")
    return {"label": [f"{name}={value}" for name, value in labels.items()]}
