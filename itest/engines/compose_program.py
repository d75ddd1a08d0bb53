# SPDX-License-Identifier: Apache-2.0
"""Docker Compose as a program: where it is, and running it so that it ends with its owner, however that ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from itest import naming
from itest.clock import Deadline
from itest.config import Config, Environment
from itest.engines.docker_address import Address
from itest.errors import Unavailable
from itest.tuples import NamedTuple

NAME = "docker-compose"

PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/opt/homebrew/lib/docker/cli-plugins",
    "/Applications/Docker.app/Contents/Resources/cli-plugins",
)
"""Where the docker command looks for its plugins besides the user's own directory. One can be run by itself, too."""

VERSION_TIMEOUT = 30.0
"""Seconds in which it must say its version. It takes 40 ms."""

INSTALL = (
    "install it (https://docs.docker.com/compose/install; Debian 13: `apt install docker-compose`, Ubuntu: "
    "`apt install docker-compose-v2`), or have the setting `compose` (ITEST_COMPOSE) name the program"
)

FOREIGN = ("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_ENV_FILES", "DOCKER_CONTEXT")
"""Variables that are not handed on: what is run is said by the declaration alone."""

GUARD = """
import os, select, signal, sys
lifeline, argv = int(sys.argv[1]), sys.argv[2:]
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(wake)
child = os.fork()
if not child:
    try:
        os.close(lifeline)
        os.execv(argv[0], argv)
    except OSError as error:
        os.write(2, f'{argv[0]}: {error.strerror}'.encode())
    os._exit(127)
while not (ended := os.waitpid(child, os.WNOHANG))[0]:
    if woken not in select.select([lifeline, woken], [], [])[0]:
        os.killpg(0, signal.SIGKILL)
    os.read(woken, 99)  # One that was only stopped or goes on again wakes us as well.
code = os.waitstatus_to_exitcode(ended[1])
sys.exit(code if code >= 0 else 128 - code)
"""
"""Runs the program until that ends, or until the other end of its lifeline is closed, which the kernel does when the
owner dies: then it kills its process group, which has the program's own children in it too. Otherwise an owner that is
killed would leave a program behind that goes on making containers."""


class Result(NamedTuple):
    """What the program said and how it ended."""

    code: int
    stdout: str
    stderr: str

    def __repr__(self) -> str:
        return f"Result({self.code}, ...)"  # A project's model is among what it says.


@dataclass(frozen=True, slots=True)
class Program:
    """Docker Compose: how it is called, and its version (`2.26.1`)."""

    argv: tuple[str, ...]
    version: str

    def run(
        self,
        arguments: Sequence[str],
        deadline: Deadline,
        *,
        environment: Mapping[str, str],
        directory: Path,
        model: bytes = b"",
    ) -> Result:
        """Run it there, with this on its standard input. Raises TimeoutError, after it was killed.

        In a session of its own: Ctrl-C in the terminal reaches Python alone, which then decides.
        """
        lifeline, ours = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, str(lifeline), *self.argv, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
                pass_fds=(lifeline,),
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(lifeline)
        with process:
            try:
                stdout, stderr = process.communicate(model, timeout=max(deadline.remaining, 0.001))
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                os.close(ours)
        return Result(process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def find(config: Config) -> Program:
    """The setting's program, else the plugin of the docker command, else docker-compose on PATH. Raises Unavailable."""
    if config.compose:
        path = shutil.which(config.compose, path=config.variable("PATH") or None)
        if path is None:
            raise Unavailable(f"compose = {config.compose!r} (the setting, or ITEST_COMPOSE) is no program")
        return _known([path, "compose"] if Path(path).name == "docker" else [path])
    directories = [_user_plugins(config), *PLUGINS]
    for directory in directories:
        if os.access(path := os.path.join(directory, NAME), os.X_OK):
            return _known([path])
    if path := shutil.which(NAME, path=config.variable("PATH") or None):
        return _known([path])
    raise Unavailable(
        f"Docker Compose is not here: there is no {NAME} on PATH nor in the docker command's directories for plugins "
        f"({directories[0]}, {PLUGINS[0]} and others); {INSTALL}"
    )


def environment(config: Config, address: Address, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of the program: this process's own with these variables, and the Docker that itest uses."""
    given = config.child_environment(**variables)
    found = Environment((name, value) for name, value in given.items() if name not in FOREIGN)
    # Else those of a file .env would be taken; of what else it may say, our options win.
    found["COMPOSE_PROFILES"] = ""
    found["DOCKER_HOST"] = address.url
    if address.certificates is not None:
        found["DOCKER_CERT_PATH"] = str(address.certificates)
        found.pop("DOCKER_TLS_VERIFY", None)
        found.update({"DOCKER_TLS_VERIFY": "1"} if address.verify else {"DOCKER_TLS": "1"})
    return found


def _user_plugins(config: Config) -> str:
    home = config.variable("HOME") or os.path.expanduser("~")
    return os.path.join(config.variable("DOCKER_CONFIG") or os.path.join(home, ".docker"), "cli-plugins")


def _known(argv: Sequence[str]) -> Program:
    """Ask it for its version. Raises Unavailable for one that does not say it, and for Compose v1."""
    said = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        run = subprocess.run(
            [*argv, "version", "--short"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT,
            start_new_session=True,
        )
        said = run.stdout + run.stderr
    if not (found := re.search(r"^v?(\d+)\.\d+[\w.]*", said.strip())):
        reason = naming.shorten(said) or "nothing"
        raise Unavailable(f"{' '.join(argv)} says {reason} when it is asked for its version; {INSTALL}")
    if found[1] == "1":
        raise Unavailable(
            f"{argv[0]} is Docker Compose {found[0]}, which ended in 2023; version 2 is needed: {INSTALL}"
        )
    return Program(tuple(argv), found[0].lstrip("v"))
