# SPDX-License-Identifier: Apache-2.0
"""What people write in a `Container`, as what a spec takes. Everything here raises DeclarationError, a sentence that the
class and attribute are put in front of."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from itest.container_options import Healthcheck, inside, size
from itest.errors import DeclarationError, StartError
from itest.spec import Port

PortText: TypeAlias = "int | str | Port"
"""9200, "9200", "53/udp" or a Port."""

Files: TypeAlias = "Mapping[str, str | bytes | Path]"

PROTOCOLS = ("tcp", "udp", "sctp")
RESTARTS = re.compile(r"|no|always|unless-stopped|on-failure(:\d+)?")
_PORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_/-]*")
_NUMBER = re.compile(rf"\d+(/({'|'.join(PROTOCOLS)}))?")


def ports(value: Mapping[str, PortText] | Sequence[PortText] | PortText) -> dict[str, Port]:
    """The ports by name; one without a name is called by its number, `9200` or `53/udp`. Their host ports are chosen
    before the start, so that they stay the same over a restart."""
    if isinstance(value, Mapping):
        _check_names(value)
        named = {str(name): _port(text) for name, text in value.items()}
    else:
        found = [_port(text) for text in ([value] if isinstance(value, int | str | Port) else value)]
        named = {
            str(port.number) if port.protocol == "tcp" else f"{port.number}/{port.protocol}": port for port in found
        }
    taken: dict[tuple[int, str], str] = {}
    for name, port in named.items():
        if not _PORT_NAME.fullmatch(name):
            raise DeclarationError(f"ports: {name!r} is no name of a port; write one like 'http'")
        if (other := taken.setdefault((port.number, port.protocol), name)) != name:
            raise DeclarationError(f"ports: {other!r} and {name!r} are both {port.number}/{port.protocol}")
    return named


def _check_names(value: Mapping[str, PortText]) -> None:
    """docker-py, and whoever has its habit, maps container ports to ports of the host."""
    for name, text in value.items():
        if _NUMBER.fullmatch(str(name)) and str(name) != str(text):
            number = str(name).removesuffix("/tcp")
            port = number if number.isdigit() else repr(number)
            raise DeclarationError(f"ports: {name!r} is no name: write {{'http': {port}}}; host ports are free ones")


def _port(value: PortText) -> Port:
    if isinstance(value, Port):
        port = value
    else:
        number, _, protocol = str(value).partition("/")
        if not number.isdigit():  # Nor is True, as text.
            raise DeclarationError(f"ports: {value!r} is no container port; write a number, '53/udp' or Port(...)")
        port = Port(int(number), protocol=protocol or "tcp")
    if not 0 < port.number < 65536 or port.protocol not in PROTOCOLS:
        raise DeclarationError(
            f"ports: {port.number}/{port.protocol} is no container port: it must be 1 to 65535, and {_or(PROTOCOLS)}"
        )
    return port._replace(chosen=True)


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file of lines `NAME=value`, as docker and docker compose read it. Raises StartError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StartError(f"could not read env_file {path}: {getattr(error, 'strerror', None) or error}") from None
    found = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        if not equals or not name.strip():
            raise StartError(f"could not read env_file {path}: line {number} is not NAME=value: {line!r}")
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name.strip()] = value[1:-1] if quoted else value
    return found


def size_of(name: str, value: int | str) -> int:
    try:
        return size(value)
    except ValueError as error:
        raise DeclarationError(f"{name}: {error}") from None


def tmpfs(value: Mapping[str, int | str] | Sequence[str] | str) -> dict[str, int]:
    """Directories in memory and their sizes in bytes; 0 is no limit."""
    if isinstance(value, str):
        value = [value]
    sized = value if isinstance(value, Mapping) else dict.fromkeys(value, 0)
    return {inside("tmpfs", path): size_of("tmpfs", limit) for path, limit in sized.items()}


def memory_of(path: str, memory: Iterable[str], volumes: Iterable[str]) -> str:
    """Which of these directories in memory has this path in it, and no volume that is mounted there; empty for none."""
    place = PurePosixPath(posixpath.normpath(posixpath.join("/", path)))
    nearest = max((each for each in (*memory, *volumes) if place.is_relative_to(each)), key=len, default="")
    return nearest if nearest in memory else ""


def limits(value: Mapping[str, int | Sequence[int]]) -> dict[str, tuple[int, int]]:
    """ulimits: one number, or a soft and a hard limit."""
    found = {}
    for name, limit in value.items():
        pair = (limit, limit) if isinstance(limit, int) else tuple(limit or ())
        if len(pair) != 2 or not all(isinstance(each, int) for each in pair):
            raise DeclarationError(f"ulimits: {name}={limit!r} is no limit; write a number, or (soft, hard)")
        found[name] = (pair[0], pair[1])
    return found


def healthcheck(value: Healthcheck | str | Sequence[str] | bool | None) -> Healthcheck | None:
    """None is the image's own, False is none at all."""
    if value is None or isinstance(value, Healthcheck):
        return value
    if not isinstance(value, bool | str | Sequence):
        raise DeclarationError(
            f"healthcheck: {value!r} is no command; write it as a text or a list, or a Healthcheck(...)"
        )
    if value is True:
        raise DeclarationError("healthcheck: True says no command; write one, or leave it out for the image's own")
    return Healthcheck("" if value is False else value if isinstance(value, str) else tuple(value))


def names(name: str, value: Sequence[str] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _or(options: Iterable[str]) -> str:
    *first, last = options
    return f"{', '.join(first)} or {last}"
