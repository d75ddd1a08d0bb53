# SPDX-License-Identifier: Apache-2.0
"""How long a run goes on after its last test: what closes, stops and removes servers, ours beside testcontainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.launch import ENGINES, Contender, Moments, Plan, measured, median, rows
from benchmarks.report import Report, Target, machine

LIMIT = 150
"""Milliseconds."""


def span(run: Moments) -> float:
    """From the last line of the last test's body to the end of the process."""
    return run.exit - run.answer


def run(plan: Plan, arguments: Sequence[str], say: Callable[[str], None]) -> Report:
    """Measure, in rounds. What cannot run here is left out, and the report says so."""
    with measured(plan, say) as (contenders, notes, servers):
        facts = machine(" and ".join(plan.engines), servers)
    return Report(
        "exit", arguments, facts, rows(contenders, {"end": span}), targets(contenders), notes, ("service", "until")
    )


def targets(contenders: Sequence[Contender]) -> list[Target]:
    """What itest promises, and whether this run shows it."""
    found = []
    for service, name in (("postgres", "PostgreSQL"), ("all", "all three")):
        for engine in ENGINES:
            length = median(contenders, service, f"warm, {engine}", span)
            found.append(Target(f"{name}, {engine},", LIMIT, "ms", None if length is None else length * 1000))
    return found
