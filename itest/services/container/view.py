# SPDX-License-Identifier: Apache-2.0
"""What a test gets of a container."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from itest.arguments import Text, bytes_of, changes_of, shell_words_of, text_of
from itest.container_options import inside
from itest.engines import Endpoint, ExecResult, container_of
from itest.errors import DeclarationError, ItestError
from itest.service import View
from itest.services.container import texts

if TYPE_CHECKING:
    from itest.services.container.server import ContainerServer

GRACE = 10
"""Seconds that a container has for an orderly end before it is killed: Docker's own default."""


class ContainerView(View):
    """A container, which the tests of a class share. All addresses stay the same for as long as the class runs.

    Besides what is below there is for each port, say `admin`, its `admin_url` and its `admin_port`.
    """

    server: ContainerServer

    @property
    def url(self) -> str:
        """`http://host:port` of the first TCP port; see `url_for` for others. An external one's URL is as it was given."""
        if not self.server.instance.owned:
            return self._reached(self.server.address)
        return f"http://{self._endpoint()}"

    def url_for(self, port: str = "", scheme: str = "http") -> str:
        """The URL of the port of that name."""
        return f"{scheme}://{self.endpoint(port)}"

    def endpoint(self, name: str | int = "") -> Endpoint:
        """Host and port where the container port of that name or number is reached; without one the first TCP port.

        Raises DeclarationError for a port that is not published.
        """
        ports = texts.ports(self.server.service.ports)
        wanted = str(name) or next(self.server.service.tcp_ports(), next(iter(ports), ""))
        by_number = {str(port.number): each for each, port in reversed(ports.items())}
        wanted = wanted if wanted in ports else by_number.get(wanted, wanted)
        instance = self.server.instance
        if wanted not in ports and instance.owned:
            cure = f"published are {', '.join(map(repr, ports))}" if ports else "it publishes none"
            what = f"port {name!r} of {instance} is not published; {cure}" if name else f"{instance} publishes no port"
            raise DeclarationError(f"{what}: declare it, Container(..., ports={{'http': 80}})")
        try:
            if self._inside is not None:
                return instance.inside_endpoint(wanted, self._inside)
            return instance.endpoint(wanted)
        except KeyError as error:
            raise ItestError(f"{instance}: {error.args[0]}") from None

    @property
    def env(self) -> dict[str, str]:
        """`SEARCH_URL`, `SEARCH_HOST` and `SEARCH_PORT` for an attribute `search`, and more for further ports."""
        prefix = re.sub(r"\W", "_", self.attribute or "container").upper()
        found = {}
        ports = list(texts.ports(self.server.service.ports))
        for number, name in enumerate(ports if self.server.instance.owned else ports[:1]):  # A URL says where one is.
            endpoint = self.endpoint(name)
            start = f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}" if number else prefix
            url = f"http://{endpoint}" if number else self.url
            more = {"URL": url, "HOST": endpoint.host, "PORT": str(endpoint.port)}
            found.update({f"{start}_{what}": value for what, value in more.items()})
        return found

    @property
    def exit_code(self) -> int | None:
        """With what its process has ended; None while it runs."""
        return self.server.instance.state().exit_code

    def exec(
        self,
        argv: Sequence[Text] | str,
        timeout: float = 30.0,
        *,
        user: str | int | None = None,
        env: Mapping[str, Text | None] | None = None,
        directory: str | PurePath | None = None,
        stdin: str | bytes | bytearray | memoryview | None = None,
    ) -> ExecResult:
        """Run a command in the container: program and arguments, or a text for its shell.

        As the container's user or another one (`"root"`, `1000`, `"1000:1000"`), with more variables (None takes one of the
        container's away), in another directory, with something to read. Raises ExecTimeout when it has not ended after `timeout`
        seconds.
        """
        words = shell_words_of("exec", argv)
        given = bytes_of("exec: stdin", b"" if stdin is None else stdin, " (of a file, file.read())")
        user = text_of("exec: user", "" if user is None else user)
        directory = text_of("exec: directory", "" if directory is None else directory)
        variables = changes_of("exec: env", env or {})
        if not (user or variables or directory or given):
            return self.server.instance.exec(words, timeout=timeout)
        container = container_of(self.server.instance, "run a command in")
        return container.exec(words, timeout=timeout, user=user, env=variables, directory=directory, stdin=given)

    def copy_from(self, path: str | PurePath, target: str | Path | None = None) -> bytes:
        """The content of a file in the container, which is written to `target` too where that is given. The content of a
        directory is written into `target`, which is made. Paths start at the directory of the test's module."""
        path = text_of("copy_from: the path", path)
        container = container_of(self.server.instance, "copy from")
        self._check_seen("copy_from", path, "read", "cat")
        return container.copy_from(path, None if target is None else self._local(target))

    def copy_to(self, path: str | PurePath, what: str | bytes | Path) -> None:
        """Put a text, bytes, or a file or directory of this machine at an absolute path in the container."""
        path = inside("copy_to", text_of("copy_to: the path", path))
        container = container_of(self.server.instance, "copy to")
        if not isinstance(what, str | bytes | Path):
            raise DeclarationError(f"copy_to: {what!r} for {path} is neither a text nor bytes nor a Path")
        self._check_seen("copy_to", path, "write", "cat >", ", stdin=...")
        if isinstance(what, str):
            what = what.encode()
        container.copy_to(path, self._local(what) if isinstance(what, Path) else what)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nobody answers. Undone after the test."""
        self.server.pause()

    def unpause(self) -> None:
        """Let it go on."""
        self.server.unpause()

    def stop(self, grace: int | None = GRACE) -> None:
        """End its process, by a kill after `grace` seconds, or with None after those that the container was made with. It is
        started again by `restart`, or before the next test."""
        self.server.halt(grace)

    def restart(self, grace: int | None = GRACE) -> None:
        """Stop it as `stop` does, start it again under the same address and return when it is ready."""
        self.server.restart(grace)

    def _check_seen(self, verb: str, path: str, do: str, program: str, more: str = "") -> None:
        """Raise ItestError for what is in memory: Docker mounts it for the container's own processes only."""
        service = self.server.service
        if directory := texts.memory_of(path, texts.tmpfs(service.tmpfs), service.volumes):
            raise ItestError(
                f"{verb}: {path} is in the tmpfs that is mounted on {directory}, and Docker's copies see only what it hides: "
                f"{do} it by exec({f'{program} {shlex.quote(path)}'!r}{more}), or choose another directory"
            )

    def _local(self, path: str | Path) -> Path:
        return (self.directory or Path.cwd()) / Path(path).expanduser()

    def _endpoint(self) -> Endpoint:
        return self.endpoint()

    if not TYPE_CHECKING:  # So that a wrong name is still an error there.

        def __getattr__(self, name: str) -> Any:
            port, _, what = name.rpartition("_")
            if "server" in vars(self) and port in texts.ports(self.server.service.ports):
                if what == "url":
                    return self.url_for(port)
                if what == "port":
                    return self.endpoint(port).port
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        names = texts.ports(self.server.service.ports) if "server" in vars(self) else ()
        return sorted({*super().__dir__(), *(f"{name}_{what}" for name in names for what in ("url", "port"))})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.server.instance}>"
