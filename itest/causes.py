# SPDX-License-Identifier: Apache-2.0
"""Known causes of what fails: found in what is said, by the one table of them (causes_table.py), for the errors of starts and
the notes on failing tests. It is imported where an error is made, so that a run without errors does not pay for it.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from itest.causes_table import (
    CLIENT,
    DESKTOP_NOT_RUNNING,
    DOCKER,
    DRIVER,
    LIMITS_IGNORED,
    LOG,
    NAMELESS,
    NO_PERMISSION,
    NO_SOCKET,
    NO_SPACE,
    NOT_RUNNING,
    OUT_OF_MEMORY,
    PORT_TAKEN,
    REGISTRY,
    TABLE,
    WHILE_RUNNING,
    Cause,
)

__all__ = [
    "CLIENT",
    "DESKTOP_NOT_RUNNING",
    "DOCKER",
    "DRIVER",
    "LIMITS_IGNORED",
    "LOG",
    "NAMELESS",
    "NOT_RUNNING",
    "NO_PERMISSION",
    "NO_SOCKET",
    "NO_SPACE",
    "OUT_OF_MEMORY",
    "PORT_TAKEN",
    "REGISTRY",
    "TABLE",
    "Cause",
    "Known",
    "find",
    "is_said",
    "named",
    "of_death",
    "of_error",
    "of_silence",
]

KILLED = 137
"""Exit code of what was killed by SIGKILL, which is how the kernel ends what takes too much memory."""


@dataclass(frozen=True, slots=True)
class Known:
    """A cause as it was found, its cure with the placeholders filled, and the line that tells it."""

    name: str
    cure: str
    line: str = ""

    @property
    def sentence(self) -> str:
        return f"Likely cause: {self.name}; {self.cure}."


def find(text: str, said_by: str, **facts: str) -> Known | None:
    """The first known cause for what is said; its cure with the placeholders of `facts` and of what it says."""
    for cause in TABLE:
        if said_by in cause.said_by and (found := re.search(cause.pattern, text, re.IGNORECASE)):
            groups = {name.rstrip("2"): value for name, value in found.groupdict().items() if value}
            line = text[text.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            return _filled(cause, {**facts, **groups}, line)
    return None


def is_said(name: str, text: str, said_by: str) -> bool:
    """Whether this very cause is among what is said."""
    causes = [cause for cause in TABLE if cause.name == name and said_by in cause.said_by]
    return any(re.search(cause.pattern, text, re.IGNORECASE) for cause in causes)


def of_death(log: str, exit_code: int | None, *, oom_killed: bool, place: str = "") -> Known | None:
    """For what a server has ended, as far as its log or its exit code tells. `place`: where a local process has its
    directory."""
    if oom_killed:
        return named(OUT_OF_MEMORY)
    if (found := find(log, LOG, place=place)) is not None or exit_code != KILLED:
        return found
    cure = f"by somebody, or by the kernel for lack of memory (`dmesg` tells); then {named(OUT_OF_MEMORY).cure}"
    return Known("it was killed", cure)


def of_silence(log: str, place: str = "") -> Known | None:
    """For what a server that runs is never ready, as far as its log tells."""
    return next((named(name, LOG, place=place) for name in WHILE_RUNNING if is_said(name, log, LOG)), None)


def of_error(error: OSError, place: str) -> Known | None:
    """For what this system refuses when a local process is to be started, with its directory in `place`."""
    said = f"fork: {error}" if error.errno == errno.EAGAIN else str(error)  # Which it does not say.
    return find(said, LOG, place=place)


def named(name: str, said_by: str = "", **facts: str) -> Known:
    """The cause of that name. Raises StopIteration for one that is not in the table."""
    found = (each for each in TABLE if each.name == name and (not said_by or said_by in each.said_by))
    return _filled(next(found), facts)


def _filled(cause: Cause, facts: dict[str, str], line: str = "") -> Known:
    cure = cause.local if cause.local and facts.get("place") else cause.cure
    for name, value in facts.items():
        cure = cure.replace(f"{{{name}}}", value)
    return Known(cause.name, cure, line)
