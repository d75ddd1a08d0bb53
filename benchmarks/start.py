# SPDX-License-Identifier: Apache-2.0
"""How long a run of one test takes, and how long it is until that test's first answer: ours beside testcontainers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.launch import TIMEOUT, TUTORIAL, Contender, Moments, Plan, measured, median, rows, surroundings, times
from benchmarks.measure import summary
from benchmarks.report import Report, Row, Target, machine

CLIENTS: dict[str, tuple[str, ...]] = {"postgres": ("psycopg2",), "redis": ("redis",), "kafka": ("kafka",)}
CLIENTS["all"] = tuple(name for names in CLIENTS.values() for name in names)

IMPORTS = "imports of the clients"

SPANS: dict[str, Callable[[Moments], float]] = {
    "whole process": lambda run: run.exit,
    "first test": lambda run: run.test,
    "first answer": lambda run: run.answer,
}
"""By their names in the table; each begins with the start of the process."""


def run(plan: Plan, arguments: Sequence[str], say: Callable[[str], None]) -> Report:
    """Measure, in rounds. What cannot run here is left out, and the report says so."""
    imports: dict[str, list[float]] = {service: [] for service in plan.services}

    def each_round() -> None:
        for service, lengths in imports.items():
            lengths.append(import_time(CLIENTS[service]))

    with measured(plan, say, each_round) as (contenders, notes, servers):
        facts = machine(" and ".join(plan.engines), servers)
    found = [*rows(contenders, SPANS), *import_rows(imports)]
    return Report("start", arguments, facts, found, targets(contenders, imports), notes, ("service", "until"))


def import_time(modules: Sequence[str]) -> float:
    """Seconds that a new Python needs to import these, its own start not counted."""
    code = f"import time; t = time.perf_counter(); import {', '.join(modules)}; print(time.perf_counter() - t)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    ran = subprocess.run(command, env=surroundings({}), capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return float(ran.stdout)


def import_rows(imports: dict[str, list[float]]) -> list[Row]:
    found = []
    for service, lengths in imports.items():
        got = summary(lengths)
        found.append(Row(service, IMPORTS, "", "python", False, got.count, got.median, got.p90, 1.0))
    return found


def targets(contenders: Sequence[Contender], imports: dict[str, list[float]]) -> list[Target]:
    """What itest promises, and whether this run shows it."""

    def of(service: str, strategy: str, span: str) -> float | None:
        return median(contenders, service, strategy, SPANS[span])

    def whole(strategy: str) -> float | None:
        return of("postgres", strategy, "whole process")

    def beyond_imports(service: str, engine: str) -> float | None:
        answer = of(service, f"reuse, {engine}", "first answer")
        return None if answer is None else answer * 1000 - summary(imports[service]).median

    one_by_one = of("all", TUTORIAL, "first test")
    found = [
        Target(
            f"PostgreSQL, whole process, {state}, docker, faster than {TUTORIAL},",
            limit,
            "x",
            times(whole(TUTORIAL), whole(f"{state}, docker")),
            at_least=True,
        )
        for state, limit in (("warm", 4), ("cold", 2))
    ]
    found += [
        Target(
            f"PostgreSQL, first answer, warm, {engine},", 0.55, "s", of("postgres", f"warm, {engine}", "first answer")
        )
        for engine in ("docker", "process")
    ]
    for engine, limit in (("docker", 1.6), ("process", 1.2)):
        ours = of("all", f"warm, {engine}", "first test")
        text = f"all three, first test, warm, {engine},"
        found.append(Target(text, limit, "s", ours))
        found.append(Target(f"{text} faster than {TUTORIAL},", 4, "x", times(one_by_one, ours), at_least=True))
    for service, name in (("postgres", "PostgreSQL"), ("all", "all three")):
        for engine in ("docker", "process"):
            text = f"{name}, first answer, reuse, {engine}, beyond the {IMPORTS},"
            found.append(Target(text, 80, "ms", beyond_imports(service, engine)))
    return found
