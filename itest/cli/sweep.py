# SPDX-License-Identifier: Apache-2.0
"""`itest sweep`: remove what belongs to runs that have ended, or to all runs of this user on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from itest import naming, owners
from itest.cli.look import look, opened
from itest.cli.ps import facts
from itest.config import Config
from itest.engines import Engine, Thing
from itest.sweep import is_kept, is_over, remove, share_of


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep",
        help="remove what killed runs have left",
        description="Remove what belongs to runs that have ended without removing it. What belongs to a living "
        "process, to another machine or to another container that runs, or that this Docker does not know, stays.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--all",
        action="store_true",
        help="remove also what belongs to your living processes on this machine; it asks nothing, and tests that are "
        "running right now fail",
    )
    what.add_argument(
        "--cache", action="store_true", help="remove instead all states and built images that are kept for later runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, config: Config) -> int:
    if options.cache:
        from itest.cli import cache

        return cache.sweep(config, as_json=options.json)
    with opened(config) as found:
        return sweep(found, living=options.all, as_json=options.json)


def sweep(engines: Sequence[Engine], *, living: bool, as_json: bool = False) -> int:
    """Remove it, and say what. `living`: also what belongs to processes that run. Returns the exit code."""
    seen = look(engines)
    wanted = [thing for _, thing in seen.things if is_over(thing) or is_kept(thing) or (living and _is_own(thing))]
    swept = remove(wanted, in_use=living)
    if as_json:
        engine_of = {id(thing): engine for engine, thing in seen.things}
        removed = [facts(engine_of[id(thing)], thing) for thing in swept.removed]
        failed = [{**facts(engine_of[id(thing)], thing), "reason": reason} for thing, reason in swept.failed]
        print(json.dumps({"removed": removed, "failed": failed}, indent=2))
        return 1 if swept.failed else seen.code
    for thing in swept.removed:
        print(f"removed {thing}")
    for thing, reason in swept.failed:
        print(f"itest: could not remove {thing}: {reason}", file=sys.stderr)
    if not swept.removed and not swept.failed:
        print("nothing to remove")
    return 1 if swept.failed else seen.code


def _is_own(thing: Thing) -> bool:
    """Whether it is of this user on this machine: shared servers that this user's records tell of are, and directories
    that say nothing of their owner, or they would not have been found."""
    if share_of(thing) is not None:
        return True
    if owner := thing.labels.get(naming.OWNER, ""):
        return owners.is_own(owner)
    return thing.kind in ("process", "directory")
