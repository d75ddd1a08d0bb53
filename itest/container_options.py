# SPDX-License-Identifier: Apache-2.0
"""What of a container only Docker's users know: limits, mounts, capabilities and the like, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    test: str | tuple[str, ...]
    interval: float = 5.0
    timeout: float = 5.0
    retries: int = 3
    start_period: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.test, str):  # A list is what people write.
            object.__setattr__(self, "test", tuple(self.test))


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
