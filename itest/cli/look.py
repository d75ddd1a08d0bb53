# SPDX-License-Identifier: Apache-2.0
"""Looking at all engines. One that cannot be used here is no error, one that fails while it is looked at is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from itest.config import Config
from itest.engines import Engine, Thing
from itest.errors import ItestError


@dataclass(slots=True)
class Seen:
    """What there is, each with its engine's name, and the exit code for that: 1 when an engine could not be asked."""

    things: list[tuple[str, Thing]] = field(default_factory=list)
    code: int = 0


def engines(config: Config) -> list[Engine]:
    """All that itest may have run something on, whatever the settings choose for the next run."""
    from itest.engines.docker import DockerEngine
    from itest.engines.process import ProcessEngine

    return [DockerEngine(config), ProcessEngine(config)]


@contextlib.contextmanager
def opened(config: Config) -> Iterator[list[Engine]]:
    """These engines, closed afterwards."""
    with contextlib.ExitStack() as stack:
        found = engines(config)
        for engine in found:
            stack.callback(engine.close)
        yield found


def look(engines: Sequence[Engine]) -> Seen:
    """Ask each engine. Why one was not is said on standard error."""
    seen = Seen()
    for engine in engines:
        try:
            if reason := engine.unavailable():
                print(f"itest: not looked at {engine.name}: {reason}", file=sys.stderr)
            else:
                seen.things += [(engine.name, thing) for thing in engine.things()]
        except ItestError as error:
            print(f"itest: {error}", file=sys.stderr)
            seen.code = 1
    return seen
