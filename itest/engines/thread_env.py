# SPDX-License-Identifier: Apache-2.0
"""The environment of apps that live in this process: in `os.environ` while they live, and undone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from itest.config import live_environment
from itest.errors import DeclarationError


@dataclass(slots=True)
class _Held:
    """A variable that apps have set: to what, who was first, how many want it, and what it was before."""

    value: str
    owner: str
    users: int
    before: str | None


# No local variable below holds the environment: a traceback that shows those (`unittest --locals`) would show all of it.

_held: dict[str, _Held] = {}
_lock = threading.Lock()


def apply(env: Mapping[str, str], owner: str) -> None:
    """Set the variables. Raises DeclarationError, having set none, where another app has set one to something else."""
    with _lock:
        for name, value in env.items():
            if name in _held and _held[name].value != value:
                raise DeclarationError(
                    f"{owner} sets {name}, and so does {_held[name].owner} to another value, while both live in this "
                    f"process, which has one environment: run one of them with App.command"
                )
        for name, value in env.items():
            held = _held.setdefault(name, _Held(value, owner, 0, live_environment().get(name)))
            held.users += 1
            live_environment()[name] = value


def undo(env: Mapping[str, str]) -> None:
    """Make each variable what it was before, once nobody wants it any more."""
    with _lock:
        for name in env:
            held = _held[name]
            held.users -= 1
            if held.users:
                continue
            del _held[name]
            if held.before is None:
                live_environment().pop(name, None)
            else:
                live_environment()[name] = held.before
