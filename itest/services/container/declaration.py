# SPDX-License-Identifier: Apache-2.0
"""The declaration of any container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from itest import naming
from itest.arguments import Text, variables_of, words_of
from itest.config import Config
from itest.container_options import ContainerOptions, Healthcheck, Mount, inside
from itest.container_options import mounts as mounts_of
from itest.engines import Instance
from itest.errors import ConfigError, DeclarationError, StartError, Unavailable, no_url
from itest.service import Service
from itest.services.container import image, readiness, texts
from itest.services.container.server import ContainerServer
from itest.services.container.texts import Files, PortText
from itest.spec import ContainerSpec, ExternalSpec, Port, ProcessSpec
from itest.wait import Check, ended
from itest.wait_function import check_of

if TYPE_CHECKING:
    from itest.build import Build
    from itest.service import Scope
    from itest.services.container.view import ContainerView


@dataclass(frozen=True, eq=False, repr=False)
class Container(Service["ContainerView"]):
    """Any container: `Container("elasticsearch:9.1.0", ports={"http": 9200}, ready=http("/_cluster/health"))`.

    Needs Docker. Its data cannot be reset, so by default each class has one of its own (`scope="class"`). Paths of this
    machine start at the directory of the test's module; sizes are bytes or texts like "512m".
    """

    kind: ClassVar[str] = "container"
    title: ClassVar[str] = "Container"
    isolations: ClassVar[tuple[str, ...]] = ("none",)
    texts: ClassVar[tuple[str, ...]] = ("env", "command", "entrypoint", "files")
    in_container: ClassVar[bool] = True

    image: str = ""
    _: KW_ONLY
    build: str | Path | Build | None = None
    """In place of an image: what it is built from, as a directory with a Dockerfile or a Build."""
    pull: Literal["missing", "always", "never"] = "missing"
    platform: str = ""
    scope: Scope = "class"
    ready: Check | Callable[[ContainerView], object] | None = None
    """When it can be used: a check (`http`, `log`, `port`, `health`), or a function that is given the view and returns
    something true. By default the image's health check passes, else its TCP ports answer, else it runs."""
    job: bool = False
    """It does its work and ends: ready when it has ended with exit code 0, and an error if with another."""

    command: str | Sequence[Text] = ()
    entrypoint: str | Sequence[Text] | None = None
    env: Mapping[str, Text] = field(default_factory=dict)
    env_file: str | Path | Sequence[str | Path] = ()
    """Files of lines NAME=value; what `env` says wins."""
    ports: Mapping[str, PortText] | Sequence[PortText] | PortText = ()
    """Container ports that tests reach, by name: `{"http": 9200, "dns": "53/udp"}`, or only numbers."""
    files: Files = field(default_factory=dict)
    """What is put into it before it starts, by absolute path: a text, bytes, or the Path of a file or directory."""

    volumes: Mapping[str, str | Path | Mount] = field(default_factory=dict)
    """Mounts, by absolute path: a text names a volume, which containers of a run share; a Path is of this machine."""
    tmpfs: Mapping[str, int | str] | Sequence[str] | str = ()
    user: str = ""
    workdir: str = ""
    hostname: str = ""
    memory: int | str = 0
    cpus: float = 0.0
    shm_size: int | str = 0
    ulimits: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    cap_add: str | Sequence[str] = ()
    cap_drop: str | Sequence[str] = ()
    privileged: bool = False
    healthcheck: Healthcheck | str | Sequence[str] | bool | None = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: str = ""
    api: Mapping[str, Any] = field(default_factory=dict)
    """Anything else, in the words of Docker's Engine API: `{"HostConfig": {"Sysctls": {...}}}`."""

    # What is checked when the class is made.

    def _check(self) -> None:
        super()._check()
        image.check(self)
        if self.reuse:
            raise DeclarationError("reuse=True: itest cannot bring a container's data back to what it was")
        if self.job and self.ready is not None:
            raise DeclarationError("job=True is ready when it has ended, so it has no ready=")
        if not texts.RESTARTS.fullmatch(self.restart):
            raise DeclarationError(
                f"restart: {self.restart!r} is no policy of Docker's: 'no', 'on-failure', 'on-failure:3', 'always' or "
                f"'unless-stopped'"
            )
        for label in self.labels:
            if label.startswith("itest."):
                raise DeclarationError(f"labels: {label!r} begins with 'itest.', which is for itest itself")
        self._check_ready(texts.ports(self.ports))
        variables_of("env", self.env)
        words_of("command", self.command)
        words_of("entrypoint", self.entrypoint or ())
        mounts = self._options().mounts
        memory = texts.tmpfs(self.tmpfs)
        for place, what in self.files.items():
            self._check_file(inside("files", place), what, memory, mounts)

    def _check_ready(self, ports: Mapping[str, Port]) -> None:
        if self.ready is None:
            return
        check = check_of(self.ready)
        for name in check.ports():
            if not ports:
                raise DeclarationError(f"ready waits for {check}, but no port is declared: ports={{'http': 80}}")
            if name and name not in ports:
                raise DeclarationError(f"ready mentions port {name!r}; declared are {', '.join(map(repr, ports))}")
            if ports[name or next(iter(ports))].protocol != "tcp":
                raise DeclarationError(f"ready: nobody can see whether port {name!r} answers, since it is not TCP")

    def _check_file(self, place: str, what: object, memory: Mapping[str, int], mounts: Mapping[str, Mount]) -> None:
        if not isinstance(what, str | bytes | Path):
            raise DeclarationError(f"files: {what!r} for {place} is neither a text nor bytes nor a Path")
        if hidden := texts.memory_of(place, memory, mounts):
            raise DeclarationError(f"files: {place} would be hidden by the tmpfs that is mounted on {hidden}")
        for directory, mount in mounts.items():
            if isinstance(mount.source, Path) and PurePosixPath(place).is_relative_to(directory):
                raise DeclarationError(
                    f"files: {place} would be written into {mount.source} of this machine, mounted there"
                )

    # What an engine is asked to run.

    def container(self, secret: str) -> ContainerSpec:
        return ContainerSpec(
            image=self.image,
            build=image.built_from(self),
            pull=self.pull,
            platform=self.platform,
            env=self._env(),
            command=words_of("command", self.command),
            entrypoint=None if self.entrypoint is None else words_of("entrypoint", self.entrypoint),
            ports=texts.ports(self.ports),
            tmpfs=texts.tmpfs(self.tmpfs),
            files={place: self._content(place, what) for place, what in self.files.items()},
            options=options if (options := self._options()) != ContainerOptions() else None,
        )

    def process(self, secret: str, config: Config) -> ProcessSpec:
        raise Unavailable(f"{self._what} runs in a container only, so it needs Docker")

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        except ValueError:
            raise no_url(source) from None
        if not parts.hostname or not port:
            raise ConfigError(f"{source} is no URL with host and port: it must look like http://host:9200")
        name = next(iter(texts.ports(self.ports)), "http")
        for wanted in check_of(self.ready).ports() if self.ready is not None else ():
            if wanted not in ("", name):
                raise ConfigError(
                    f"{source} says where one port of {self._what} is, {name!r}, and ready= waits for its port {wanted!r} too: "
                    f"have it wait for {name!r}, or be a function of the view"
                )
        return ExternalSpec(url, {name: (parts.hostname, port)}, source)

    @property
    def _what(self) -> str:
        return f"image {self.image}" if self.build is None else str(image.built_from(self))

    def _env(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in (self.env_file,) if isinstance(self.env_file, str | Path) else self.env_file:
            found.update(texts.env_file(self.directory / file))
        found.update(variables_of("env", self.env))
        naming.remember_named(found)
        return found

    def _content(self, place: str, what: str | bytes | Path) -> bytes | Path:
        if isinstance(what, str):
            return what.encode()
        if isinstance(what, Path):
            what = self.directory / what.expanduser()
            if not what.exists():
                raise StartError(
                    f"could not start {self._what}: there is no {what}, which is to be {place} in the container; "
                    f"paths start at the directory of the test's module"
                )
        return what

    def _options(self) -> ContainerOptions:
        if isinstance(self.cpus, bool) or not isinstance(self.cpus, int | float) or self.cpus < 0:
            raise DeclarationError(f"cpus: {self.cpus!r} is no number of processors, like 0.5")
        return ContainerOptions(
            user=self.user,
            workdir=self.workdir,
            hostname=self.hostname,
            memory=texts.size_of("memory", self.memory),
            cpus=self.cpus,
            shm_size=texts.size_of("shm_size", self.shm_size),
            ulimits=texts.limits(self.ulimits),
            cap_add=texts.names("cap_add", self.cap_add),
            cap_drop=texts.names("cap_drop", self.cap_drop),
            privileged=self.privileged,
            mounts=mounts_of(self.volumes, self.directory),
            healthcheck=texts.healthcheck(self.healthcheck),
            extra_hosts=dict(self.extra_hosts),
            labels=dict(self.labels),
            restart=self.restart,
            api=self.api,
        )

    # What comes of it.

    def address(self, instance: Instance, secret: str) -> str:
        return next((f"http://{instance.endpoint(name)}" for name in self.tcp_ports()), "")

    def readiness(self, address: str) -> Check:
        if self.job:
            return ended()
        if self.ready is not None:
            return check_of(self.ready).bound(lambda instance: self.connect(instance, address).view())
        return readiness.Default(list(self.tcp_ports()))

    def connect(self, instance: Instance, address: str) -> ContainerServer:
        return ContainerServer(self, instance, address)

    def tcp_ports(self) -> Iterator[str]:
        """The names of the ports that a connection can be made to."""
        return (name for name, port in texts.ports(self.ports).items() if port.protocol == "tcp")
