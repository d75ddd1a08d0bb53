# SPDX-License-Identifier: Apache-2.0
"""An app as a program that runs beside the tests, as its user would start it by hand."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from itest import naming
from itest.config import Config, live_environment
from itest.errors import DeclarationError, StartError
from itest.services.app.declaration import AppService, text_of, with_port
from itest.services.app.server import AppLease, AppServer, AppView
from itest.spec import ProcessSpec


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CommandApp(AppService[AppView]):
    """A program. See `App.command`."""

    texts: ClassVar[tuple[str, ...]] = ("argv", "env")

    argv: tuple[str, ...]
    workplace: str = ""

    @property
    def what(self) -> str:
        return f"`{text_of(' '.join(naming.hide_options(self.argv)))}`"

    @property
    def listens(self) -> bool:
        return any("{port:http}" in with_port(text) for text in (*self.argv, *self.environment.values()))

    def _check(self) -> None:
        super()._check()
        if not self.argv:
            raise DeclarationError("its command is empty")
        if not self.listens and self.readiness("").ports():
            raise DeclarationError(
                "nothing in its command or env says {port}, so nobody knows where it listens: write "
                "{port} where the program takes its port, or ready=log(...) for a program without one"
            )

    def own_spec(self, secret: str, config: Config) -> ProcessSpec:
        directory = self.directory / self.workplace if self.workplace else Path.cwd()
        if not directory.is_dir():
            raise StartError(
                f"App ({self.what}) could not be started: there is no directory {directory}", service="App"
            )
        naming.remember_named(self.environment)
        env = {"PYTHONUNBUFFERED": live_environment().get("PYTHONUNBUFFERED", "1"), **self.environment}
        env["PATH"] = _path(env.get("PATH") or live_environment().get("PATH", os.defpath))
        program = self._program(directory, env["PATH"])
        return ProcessSpec(
            version=self.what,
            argv=(program, *(with_port(word) for word in self.argv[1:])),
            ports=("http",) if self.listens else (),
            env={name: with_port(value) for name, value in env.items()},
            directory=str(directory),
            inherits=True,
        )

    def lease_of(self, server: AppServer[AppView], owner: str) -> AppLease[AppView]:
        return AppLease(server, AppView, self.scope, owner)

    def _program(self, directory: Path, path: str) -> str:
        """The program's full path. Raises StartError, saying where it was looked for."""
        name = self.argv[0]
        if os.sep in name:
            place = directory / name
            if os.access(place, os.X_OK) and place.is_file():
                return str(place)
            raise StartError(
                f"App ({self.what}) could not be started: {place} is "
                f"{'no program that may be run' if place.exists() else 'not there'}",
                service="App",
            )
        if found := shutil.which(name, path=path):
            return os.path.abspath(found)
        variable, equals, value = name.partition("=")
        if equals and variable.isidentifier():
            shown = naming.hide_named({variable: value})
            raise StartError(
                f"App ({self.what}) could not be started: there is no program '{variable}=...', and no shell runs the command; "
                f"give variables by env={shown}",
                service="App",
            )
        raise StartError(
            f"App ({self.what}) could not be started: there is no program {name!r} on PATH (looked for in "
            f"{', '.join(filter(None, path.split(os.pathsep)))}); of an installed Python package it may be "
            f"[sys.executable, '-m', {name!r}, ...]",
            service="App",
        )


def _path(path: str) -> str:
    """With the programs of the environment that the tests run in, be it activated or not."""
    own = os.path.dirname(sys.executable)
    if sys.prefix == sys.base_prefix or own in path.split(os.pathsep):
        return path
    return f"{own}{os.pathsep}{path}"
