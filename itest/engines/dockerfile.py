# SPDX-License-Identifier: Apache-2.0
"""Which images a Dockerfile begins with or copies from, so that these are pulled as every other image is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from itest.tuples import NamedTuple


class Base(NamedTuple):
    """An image, and the platform that the Dockerfile wants it for, empty for none in particular."""

    image: str
    platform: str


def bases(text: str, args: Mapping[str, str], target: str = "") -> list[Base]:
    """The images that a build up to `target` needs. What depends on more than arguments with a value is left to Docker."""
    found: list[Base] = []
    known: dict[str, str] = {}
    stages: list[str] = []
    for instruction, rest in _instructions(text):
        if instruction == "ARG" and not stages:
            for name, default in _ARG.findall(rest):
                if value := args.get(name) or _filled(default.strip("\"'"), known):
                    known[name] = value
        elif instruction == "FROM" and (match := _FROM.fullmatch(rest)):
            if target and stages and stages[-1] == target.lower():
                break
            _note(found, match["image"], match["platform"] or "", known, stages)
            stages.append((match["name"] or "").lower())
        elif instruction == "COPY" and (match := _COPY.match(rest)) and not match["image"].isdigit():
            _note(found, match["image"], "", known, stages)
    return found


_ARG = re.compile(r"(\w+)(?:=(\"[^\"]*\"|'[^']*'|\S*))?")
_FROM = re.compile(r"(?:--platform=(?P<platform>\S+)\s+)?(?P<image>\S+)(?:\s+[Aa][Ss]\s+(?P<name>\S+))?")
_COPY = re.compile(r"(?:--(?!from)\S+\s+)*--from=(?P<image>\S+)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


def _note(found: list[Base], image: str, platform: str, known: Mapping[str, str], stages: list[str]) -> None:
    base = Base(_filled(image, known), _filled(platform, known))
    is_stage = base.image.lower() in stages or base.image == "scratch"
    if base.image and "$" not in base.image + base.platform and not is_stage and base not in found:
        found.append(base)


def _filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return known.get(match[1] or match[2]) or match[3] or match[0]

    return _VARIABLE.sub(value, text)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction in capitals, and what follows it; comments are left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\[ \t]*\n", " ", "\n".join(lines)).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        yield instruction.upper(), rest.strip()
