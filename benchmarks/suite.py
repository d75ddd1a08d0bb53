# SPDX-License-Identifier: Apache-2.0
"""A whole suite on the tables of examples/shop: with itest, and in the pattern of a testcontainers tutorial.

What is measured is the wall time of `python -m unittest`, from its start to its end, containers included.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

from benchmarks.measure import BenchmarkError, summary
from benchmarks.peers import ROOT
from benchmarks.report import Report, Row, Target, machine

CLASSES = 20
TESTS = 25
ROUNDS = 3

TIMEOUT = 900.0
"""Seconds that one suite may take."""

SHOP = ROOT / "examples" / "shop"

OURS = "shop suite"
TUTORIAL = "testcontainers tutorial"


def run(
    classes: int, tests: int, rounds: int, peers: bool, arguments: Sequence[str], say: Callable[[str], None]
) -> Report:
    """Run both suites in turn. Without Docker or testcontainers only ours, and the report says so."""
    notes: list[str] = []
    modules = {OURS: "benchmarks.shop_ours"}
    if peers and importlib.util.find_spec("testcontainers") is None:
        notes.append(f"{TUTORIAL} was left out: the package testcontainers is not installed")
    elif peers:
        modules[TUTORIAL] = "benchmarks.shop_tutorial"
    lengths: dict[str, list[float]] = {name: [] for name in modules}
    server = ""
    for number in range(1, rounds + 1):
        for name, module in modules.items():
            seconds, said = _suite(module, classes, tests, needs_docker=TUTORIAL in modules)
            lengths[name].append(seconds)
            say(f"round {number} of {rounds}: {name} {seconds:.2f} s")
            if found := re.search(r"^itest: (\S+ \S+)", said, re.MULTILINE):
                server = found[1]
    medians = {name: summary(values).median / 1000 for name, values in lengths.items()}
    rows = [
        Row(
            service="postgres",
            size=classes,
            dirty=tests,
            strategy=name,
            ours=name == OURS,
            count=len(values),
            median=medians[name],
            p90=summary(values).p90 / 1000,
            ratio=medians[name] / medians[OURS],
        )
        for name, values in lengths.items()
    ]
    ratio = medians[TUTORIAL] / medians[OURS] if TUTORIAL in medians else None
    targets = [Target("the whole suite, faster than the tutorial's,", 10, "x", ratio, at_least=True)]
    facts = machine("docker" if TUTORIAL in modules else "auto", [server])
    return Report("suite", arguments, facts, rows, targets, notes, ("service", "classes", "tests"), "s")


def _suite(module: str, classes: int, tests: int, needs_docker: bool) -> tuple[float, str]:
    """Run one suite. Returns its wall time in seconds and what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SHOP)]),
        "ITEST_BENCHMARK_SUITE": f"{classes},{tests}",
        # Its reaper container costs a start more and would only make it slower.
        "TESTCONTAINERS_RYUK_DISABLED": "true",
    }
    if needs_docker:
        environment |= {"ITEST_ENGINE": "docker", "ITEST_REQUIRE": "docker"}
    started = perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "unittest", module],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    seconds = perf_counter() - started
    if ran.returncode or f"Ran {classes * tests} tests" not in ran.stderr or "skipped=" in ran.stderr:
        hint = "; without Docker, --no-peers measures itest alone" if needs_docker else ""
        raise BenchmarkError(f"python -m unittest {module} failed{hint}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return seconds, ran.stderr
