# SPDX-License-Identifier: Apache-2.0
"""The compose engine: projects of several containers, by the program Docker Compose, on the Docker that itest uses.

    compose_program   the program itself: where it is, running it
    compose_model     what of a project is changed, so that it can run beside others
    compose_job       the calls of that program: read the files, build, start
    compose_instance  a project that runs
    compose           the engine: have it read, changed, started, removed

What Compose makes has itest's labels, so that it is found, listed and removed as all that the docker engine makes:
at the end by label through the API, which takes a moment, while `docker compose down` waits for each stop.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from itest import naming, warm_store
from itest.clock import Deadline
from itest.config import Config
from itest.engines import Endpoint, Instance, Thing, compose_model, compose_program, docker_built
from itest.engines.compose_instance import ComposeInstance
from itest.engines.compose_job import ComposeJob
from itest.engines.compose_program import Program
from itest.engines.docker import DockerEngine
from itest.engines.docker_address import LOOPBACK
from itest.engines.docker_errors import not_found, translated
from itest.engines.docker_instance import DockerInstance
from itest.engines.ports import free_port
from itest.errors import ItestError, StartError, Unavailable
from itest.spec import PULLS, ComposeSpec, Spec
from itest.trace import Recorder

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
"""Labels of Compose's own (compose-spec, "Reserved labels")."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

START_INTERVAL_API = (1, 44)
"""The Engine API since which a health check can be run more often until its first success (Docker 25)."""


class ComposeEngine:
    """Runs projects. All that can be asked of what they are made of, the docker engine answers."""

    name = "compose"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._docker = DockerEngine(config)
        self._program: Program | None = None

    def unavailable(self) -> str | None:
        for setting, value in (("engine", self._config.engine), ("require", self._config.require)):
            if value == "process":
                return f"the setting {setting} = 'process' leaves out Docker, which Docker Compose needs"
        if reason := self._docker.unavailable():
            return reason
        try:
            self._program = self._program or compose_program.find(self._config)
        except Unavailable as error:
            return str(error)
        return None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> Instance:
        assert isinstance(spec, ComposeSpec)
        project = f"itest-{naming.random_hex(5)}"
        variables = compose_program.environment(self._config, self._docker.address, spec.env)
        job = ComposeJob(self._known(), spec, project, variables, lambda: self._docker.is_podman)
        read = job.read()
        compose_model.remember_secrets(read["services"])
        network = self._network(spec, read["services"])
        model = naming.Masked(
            compose_model.isolated(
                read,
                spec,
                self._docker.owned(labels),
                self._publish,
                network=network,
                host=self._docker.gateway(spec.network) if spec.network else "",
                cache=warm_store.identity(self._config.cache_dir),
            )
        )
        ports = compose_model.published(model["services"])
        job.check_ready(ports)
        self._images(job, model, trace)
        self._hasten(model["services"])
        deadline.begin_anew()  # The time of a pull does not count, nor a build's.
        ours = {naming.SESSION: labels[naming.SESSION], PROJECT: project}
        try:
            job.up(naming.MaskedBytes(json.dumps(model).encode()), deadline, lambda: self._containers(project))
            containers = self._containers(project, model["services"])
            self._network(spec, read["services"], containers)  # Another project may have started meanwhile.
        except BaseException as error:
            try:
                self._docker.remove(ours)
            except Exception as failure:
                error.add_note(f"and what there was of project {project} was left behind: {failure}")
            raise
        main = compose_model.main(model["services"], spec)
        lasting = compose_model.lasting(model["services"], spec)
        return ComposeInstance(project, containers, ports, main, lambda: self._docker.remove(ours), lasting)

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        return self._docker.find(labels)

    def remove(self, labels: Mapping[str, str]) -> int:
        return self._docker.remove(labels)

    def things(self) -> list[Thing]:
        return self._docker.things()

    def close(self) -> None:
        self._docker.close()

    def _known(self) -> Program:
        """Raises Unavailable."""
        if self._program is None:
            self._program = compose_program.find(self._config)
        return self._program

    def _publish(self) -> tuple[str, str]:
        """Where the next port is published. On another machine nothing is known of free ports, nor is its loopback of
        use here."""
        if self._docker.address.host != LOOPBACK:
            return "0.0.0.0", ""
        return LOOPBACK, str(free_port())

    def _api(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self._docker.client.api_version.split("."))

    def _containers(self, project: str, services: Mapping[str, Any] = _NOTHING) -> dict[str, list[DockerInstance]]:
        """The containers there are of a project by service, whatever they do, in the order of their numbers."""
        with translated(f"list the containers of project {project}"):
            listed = self._docker.client.containers(all=True, filters={"label": [f"{PROJECT}={project}"]})
        host, published = self._docker.address.host, compose_model.published(services)
        found: dict[str, list[DockerInstance]] = {name: [] for name in published}
        for item in sorted(listed, key=lambda item: int(item["Labels"].get(NUMBER, 0))):
            name = item["Labels"].get(SERVICE, "")
            ports, known = published.get(name, {}), {}
            if name in services and services[name].get("network_mode") == "host":  # There Docker publishes nothing.
                known = {port: Endpoint(host, int(number.partition("/")[0])) for port, number in ports.items()}
            each = DockerInstance(self._docker.client, item["Id"], item["Image"], ports, host, known)
            found.setdefault(name, []).append(each)
        return {name: containers for name, containers in found.items() if containers}  # Some are scaled to none.

    def _images(self, job: ComposeJob, model: Mapping[str, Any], trace: Recorder) -> None:
        """Have all images there. Ours is the better way to pull: its progress is shown, and its errors say what to do."""
        building = [name for name, service in model["services"].items() if "build" in service]
        built = {model["services"][name]["image"] for name in building}
        for service in model["services"].values():
            if (image := service.get("image")) and image not in built:
                policy = service.pop("pull_policy", "")
                pull, platform = policy if policy in PULLS else "missing", service.get("platform", "")
                self._docker.images.get(image.replace("$$", "$"), pull, platform, trace, "compose")
        if building:
            with trace.span("build", "compose", services=", ".join(building)):
                job.build(json.dumps(model).encode(), building, self._config.build_timeout)
            with contextlib.suppress(ItestError):  # What is too much stays until the next time.
                docker_built.trim(self._docker.client, self._config.cache_dir, "")

    def _hasten(self, services: Mapping[str, Any]) -> None:
        """Have all health checks run more often, those of the images too, of which the files say nothing."""
        start_interval = self._api() >= START_INTERVAL_API
        for service in services.values():
            check: Mapping[str, Any] = {}
            if image := service.get("image", "").replace("$$", "$"):
                with translated(f"look for a health check in image {image}", StartError):
                    check = (self._docker.client.inspect_image(image)["Config"] or {}).get("Healthcheck") or {}
            compose_model.hasten(service, check, start_interval)

    def _network(
        self, spec: ComposeSpec, services: Mapping[str, Any], ours: Mapping[str, Sequence[Instance]] = _NOTHING
    ) -> str:
        """The name of the class's network, by which Compose knows it; empty where there is none. Raises StartError where
        what is on it, or will be, besides `ours` has a name that a service of the project has too: who asks for it would
        get now the one, now the other."""
        if not spec.network:
            return ""
        client, taken = self._docker.client, set(spec.taken)
        own = {container.id for containers in ours.values() for container in containers}
        names = compose_model.names(compose_model.chosen(services, spec))
        with translated(f"look at the network of {spec}"):
            network = client.inspect_network(spec.network)
            for container in set(network["Containers"] or {}) - own:
                with contextlib.suppress(not_found()):  # Another project's, which has failed and is being removed.
                    facts = client.inspect_container(container)["NetworkSettings"]["Networks"].get(network["Name"], {})
                    taken.update(facts.get("Aliases") or ())
        if twice := sorted(names.keys() & taken):
            service = names[twice[0]]
            also = f", also called {twice[0]!r}," if twice[0] != service else ""
            raise StartError(
                f"could not start {spec}: its service {service!r}{also} has the same name as a service of the test "
                f"class, which is on the same network; leave one of them out by without=[{service!r}], or give the "
                f"class's attribute another name"
            )
        return str(network["Name"])
