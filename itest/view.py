# SPDX-License-Identifier: Apache-2.0
"""What one test gets of a service, whichever it is: addresses, logs, commands, and clients that are closed after it."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from itest import naming
from itest.arguments import Text, shell_words_of
from itest.async_clients import AsyncClients, Opening
from itest.clock import check_seconds
from itest.engines import Endpoint, ExecResult
from itest.errors import NotStarted

if TYPE_CHECKING:
    from typing import Self

    from itest.service import Server

C = TypeVar("C")


class View(ABC):
    """What one test gets. Everything a view hands out is closed with it."""

    server: Server[Any]
    directory: Path | None = None
    """Where the paths of a test start: the directory of its class's module. None outside of a test class."""
    attribute: str = ""
    """Under which name the test's class has it. Empty outside of a test class."""
    _async_clients: AsyncClients | None = None
    _inside: str | None = None
    _given_to = ""
    _closed = False

    def __init__(self, server: Server[Any]) -> None:
        self.server = server

    @cached_property
    def _cleanups(self) -> contextlib.ExitStack:
        """What closes all that was handed out; not there before anything was."""
        return contextlib.ExitStack()

    @property
    @abstractmethod
    def url(self) -> str:
        """The full address, password included, in the form that clients take."""

    @property
    @abstractmethod
    def env(self) -> dict[str, str]:
        """The environment variables that an app would need to use this view."""

    def url_for(self, driver: str) -> str:
        """The URL for another driver: `url_for("asyncpg")` is `postgresql+asyncpg://...`."""
        scheme, rest = self.url.split("://", 1)
        return f"{scheme}+{driver}://{rest}"

    @property
    def host(self) -> str:
        """The address to connect to, `127.0.0.1` for all but external servers."""
        return self._endpoint().host

    @property
    def port(self) -> int:
        """The host port to connect to."""
        return self._endpoint().port

    def inside(self, alias: str = "") -> Self:
        """This view with the addresses that containers reach it by: on a network that they share with its own, by that
        alias or the container's id. For what it says only; it hands out no clients."""
        other = copy.copy(self)
        other._inside = alias
        return other

    def _endpoint(self) -> Endpoint:
        instance = self.server.instance
        return instance.endpoint() if self._inside is None else instance.inside_endpoint(alias=self._inside)

    def _reached(self, url: str) -> str:
        """A URL of the server with the address that this view is for."""
        if self._inside is None:
            return url
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{self._endpoint()}").geturl()

    def logs(self, tail: int | None = None) -> str:
        """The server's log, or the last `tail` lines of it, without passwords."""
        return naming.clean_log(self.server.instance.logs(tail=checked(tail)))

    def exec(self, argv: Sequence[Text] | str, timeout: float = 30.0) -> ExecResult:
        """Run a command beside the server: program and arguments, or a text for a shell. Raises ExecTimeout when it has
        not ended after `timeout` seconds."""
        check_seconds(timeout)
        return self.server.instance.exec(shell_words_of("exec", argv), timeout=timeout)

    def give_to(self, test: str) -> None:
        """It is this test's from now on, and of no use after that. A class's view is nobody's: tests may use it too."""
        self._given_to = test

    def check_open(self) -> None:
        """Raise NotStarted if the test that it was given to has ended: its data is another test's by now."""
        if self._closed and self._given_to:
            raise NotStarted(
                f"this view was of {self._given_to}, which has ended, and its data is the next test's: let each test ask "
                f"its own self for its view"
            )

    def close(self) -> None:
        """Close all that this view handed out. May be called twice."""
        self._closed = True
        if self._async_clients is not None:
            self._async_clients.close()
        if "_cleanups" in self.__dict__:
            self._cleanups.close()

    def _closing(self, client: Any, close: Callable[[], object] | None = None) -> Any:
        """Register a client for closing; returns it. Raises NotStarted after the view's test."""
        if self._closed and self._given_to:
            _quietly(close or client.close)
        self.check_open()
        self._cleanups.callback(_quietly, close or client.close)
        return client

    def _closing_async(self, client: C, close: Callable[[], Awaitable[object]], verb: str) -> C:
        """Register a client of asyncio for closing in the running loop; returns it. Raises LoopError without a loop."""
        self.check_open()
        if self._async_clients is None:
            self._async_clients = AsyncClients()
        self._async_clients.add(client, close, f"{type(self).__name__}.{verb}()")
        return client

    def _opening(
        self, verb: str, open: Callable[[], Awaitable[C]], close: Callable[[C], Awaitable[object]]
    ) -> Opening[C]:
        """What a verb returns whose client must be awaited: opened by `open`, and registered for closing."""

        self.check_open()

        async def opened() -> C:
            client = await open()
            return self._closing_async(client, lambda: close(client), verb)

        return Opening(f"{type(self).__name__}.{verb}()", opened, close)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {naming.mask(self.url)}>"


def checked(tail: int | None) -> int | None:
    """The argument of `logs`. Raises TypeError for what is no number of lines."""
    if tail is not None and type(tail) is not int:
        raise TypeError(f"logs(tail={tail!r}): it takes a number of lines, or None for all of them")
    return tail


def _quietly(close: Callable[[], object]) -> None:
    """Closing a client must not fail a test: the server may be gone, or the test may have broken the connection."""
    with contextlib.suppress(Exception):
        close()
