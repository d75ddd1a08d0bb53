# SPDX-License-Identifier: Apache-2.0
"""What of a container only Docker's users know: limits, mounts, capabilities and the like, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from itest.arguments import Text, words_of
from itest.errors import DeclarationError

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted into a container: a volume of that name (a str), or a file or directory of this machine (a Path)."""

    source: str | Path
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A command that Docker runs in the container again and again: a text for the image's shell, or program and
    arguments. Times are seconds."""

    test: str | Sequence[Text]
    interval: float = 5.0
    timeout: float = 5.0
    retries: int = 3
    start_period: float = 0.0

    def __post_init__(self) -> None:
        test: object = self.test
        if isinstance(test, list | tuple):
            object.__setattr__(self, "test", words_of("Healthcheck", test))
        elif not isinstance(test, str):
            raise DeclarationError(f"Healthcheck: {test!r} is no command; write it as a text or a list")
        for name in ("interval", "timeout", "start_period"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:  # Nor is nan.
                raise DeclarationError(f"Healthcheck: {name}={seconds!r} is no number of seconds, like 0.5")
        if type(self.retries) is not int or self.retries < 0:
            raise DeclarationError(f"Healthcheck: retries={self.retries!r} is no whole number")


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """The options of a container that no service of itest's own needs; sizes are bytes, 0 and empty are Docker's default.

    `mounts` maps paths in the container to what is there. `ulimits` maps names to a soft and a hard limit. `restart` is
    Docker's restart policy. `healthcheck` replaces the image's; without a command it is switched off. `api` is merged
    into what the Engine API is asked to create, in its own words.
    """

    user: str = ""
    workdir: str = ""
    hostname: str = ""
    memory: int = 0
    cpus: float = 0.0
    shm_size: int = 0
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    healthcheck: Healthcheck | None = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: str = ""
    api: Mapping[str, Any] = field(default_factory=dict)

    @property
    def volumes(self) -> list[str]:
        """The names of the volumes among the mounts."""
        return list(dict.fromkeys(mount.source for mount in self.mounts.values() if isinstance(mount.source, str)))


def size(value: int | str) -> int:
    """Bytes: a number of them, or a text with a unit as Docker takes it, `512m`, `1.5g`. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(float(match[1]) * _UNITS[match[2].lower()])
    raise ValueError(f"{value!r} is no size: write a number of bytes, or a text like '512m' or '1.5g'")


def mounts(value: Mapping[str, str | Path | Mount], directory: Path) -> dict[str, Mount]:
    """`volumes` of a declaration: a text is the name of a volume, a path one of this machine, from `directory` on.

    Raises DeclarationError.
    """
    found = {}
    for path, what in value.items():
        mount = what if isinstance(what, Mount) else Mount(what)
        source = mount.source
        if isinstance(source, Path):
            mount = replace(mount, source=directory / source.expanduser())
        elif not isinstance(source, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", source):
            raise DeclarationError(
                f"volumes: {source!r} is no name of a volume; for a file or directory of this machine write a Path"
            )
        found[inside("volumes", path)] = mount
    return found


def inside(name: str, path: object) -> str:
    """A path in the container, which must be absolute. Raises DeclarationError."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise DeclarationError(f"{name}: {path!r} is no absolute path in the container; write it as '/etc/x.conf'")
    return path
