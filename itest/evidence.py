# SPDX-License-Identifier: Apache-2.0
"""What a service can tell of the test that has just failed on it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Evidence:
    """The state of a service. Nothing in it is masked yet: whoever shows it does that.

    `brief` stands on the service's first line (`no keys`); `lines` say more, the most telling first, since only the
    first of them are shown; `more` is for the file among the artifacts alone.
    """

    brief: str = ""
    lines: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Aside:
    """What a failed test left, put where no later test comes. `commands` for a shell look at it; none has a password."""

    commands: tuple[str, ...]
