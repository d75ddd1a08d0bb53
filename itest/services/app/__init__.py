# SPDX-License-Identifier: Apache-2.0
"""The app under test: a live server that gets its neighbours' addresses by references and stays up over a class.

This file has the four ways to declare one. `declaration.py` has what they share, `command.py`, `thread.py` and
`container.py` have the kinds, `server.py` has the server, the lease and the view, `clients.py` and `transport.py` have what calls
the app.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from itest.arguments import Text, words_of
from itest.errors import DeclarationError
from itest.services.app.command import CommandApp
from itest.services.app.container import ContainerApp, ContainerAppView
from itest.services.app.declaration import AppService
from itest.services.app.server import AppServer, AppView
from itest.services.app.thread import ThreadApp, ThreadAppView
from itest.wait import Check

if TYPE_CHECKING:
    from typing import Unpack

    from itest.service import Scope


class Options(TypedDict, total=False):
    """What every kind of app takes besides its own, as every service does."""

    scope: Scope
    startup_timeout: float | None
    start_attempts: int
    depends_on: Sequence[str]
    external: str


class App:
    """An app under test: `App.command`, `App.asgi`, `App.wsgi` or `App.container`.

    Texts in `env` may refer to neighbours: `env={"DATABASE_URL": "{postgres.url}"}`. `ready` is a check of itest.wait
    or a function of the view that returns something true; without one the app is ready when its port answers. Each class
    has an app of its own, which stays up while the data of its neighbours is reset under it, so that tests meet it as
    production does: with what it keeps in memory.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise DeclarationError(
            "an app is run in one of four ways: App.command(argv), App.asgi(app), App.wsgi(app) or App.container(image)"
        )

    @staticmethod
    def command(
        argv: Sequence[Text] | str,
        *,
        env: Mapping[str, Text] | None = None,
        ready: Check | Callable[[AppView], object] | None = None,
        directory: str | os.PathLike[str] = "",
        **options: Unpack[Options],
    ) -> CommandApp:
        """A program, started as you would by hand: with your environment and in the current directory.

        `{port}` in `argv` and `env` is the port that it is to listen on. A text is split into words as a shell does,
        but no shell runs it. `directory` is another one to work in, relative to that of the test's module.
        """
        if not isinstance(directory, str | os.PathLike):
            raise DeclarationError(f"App.command: directory={directory!r} is no path; leave it out for the current one")
        words = words_of("App.command", argv)
        return CommandApp(argv=words, workplace=os.fspath(directory), env=env or {}, ready=ready, **options)

    @staticmethod
    def asgi(
        app: Any,
        *,
        env: Mapping[str, Text] | None = None,
        ready: Check | Callable[[ThreadAppView], object] | None = None,
        factory: bool | None = None,
        **options: Unpack[Options],
    ) -> ThreadApp:
        """An ASGI app (FastAPI, Starlette, Django), served by uvicorn on a thread of this process.

        `app` is the app, a factory for it, or where either is: `"shop.api:create_app"`. What can be called without
        arguments is taken for a factory, unless `factory` says. `env` is in this process's own environment meanwhile.
        """
        return ThreadApp(app=app, interface="asgi", factory=factory, env=env or {}, ready=ready, **options)

    @staticmethod
    def wsgi(
        app: Any,
        *,
        env: Mapping[str, Text] | None = None,
        ready: Check | Callable[[ThreadAppView], object] | None = None,
        factory: bool | None = None,
        **options: Unpack[Options],
    ) -> ThreadApp:
        """A WSGI app (Flask, Django), served by waitress on threads of this process; else as `asgi`."""
        return ThreadApp(app=app, interface="wsgi", factory=factory, env=env or {}, ready=ready, **options)

    container = ContainerApp
    """An image, run in a container: `App.container("shop:1", ports={"http": 8000})`. Takes what `Container` takes, and is
    given the addresses by which containers reach its neighbours. `url` leads to the first port."""


__all__ = [
    "App",
    "AppServer",
    "AppService",
    "AppView",
    "CommandApp",
    "ContainerApp",
    "ContainerAppView",
    "ThreadApp",
    "ThreadAppView",
]
