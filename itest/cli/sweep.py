# SPDX-License-Identifier: Apache-2.0
"""`itest sweep`: remove what belongs to runs that have ended, or to all runs of this user on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from itest import naming, owners
from itest.cli.look import look
from itest.engines import Engine, Thing
from itest.sweep import is_kept, is_over, remove, share_of


def run(engines: Sequence[Engine], *, living: bool) -> int:
    """Remove it, and say what. `living`: also what belongs to processes that run. Returns the exit code."""
    seen = look(engines)
    wanted = [thing for _, thing in seen.things if is_over(thing) or is_kept(thing) or (living and _is_own(thing))]
    swept = remove(wanted, in_use=living)
    for thing in swept.removed:
        print(f"removed {thing}")
    for thing, reason in swept.failed:
        print(f"itest: could not remove {thing}: {reason}", file=sys.stderr)
    if not wanted:
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
