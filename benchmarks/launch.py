# SPDX-License-Identifier: Apache-2.0
"""One test in a process of its own: `python -m unittest` with services that start for it, and when what happened.

The contenders of `start` and `exit` are such processes: ours on each engine, cold, warm and with servers that an earlier
run has left running, and the same test with testcontainers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import BenchmarkError, summary
from benchmarks.one_bodies import MOMENTS
from benchmarks.peers import ROOT
from benchmarks.report import Row
from itest import warm_listing
from itest.clock import Deadline
from itest.config import Config, load

SERVICES = ("postgres", "redis", "kafka", "all")
ENGINES = ("docker", "process")
STATES = ("warm", "cold", "reuse")
"""What an earlier run has left to ours: its kept state, nothing, or its servers. The first is the base of ratios."""

TUTORIAL = "testcontainers"
"""Without its reaper container, which makes it faster, so that targets are measured against this one."""

AS_IT_COMES = "testcontainers, its reaper"
"""With the container that removes what a killed run has left. Its image, testcontainers/ryuk, is not always to be had."""

KEPT = {"docker": {"postgres"}, "process": {"postgres", "kafka"}}
"""The services whose state is kept, by engine. The others start as fast without."""

TIMEOUT = 120.0
"""Seconds that one process may take."""

CLEAR_WAIT = 10.0
"""Seconds in which the last run's container must be gone, so that its image can be removed."""

KEEP_WAIT = 90.0
"""Seconds in which states are kept after a run; a class-data archive takes 10 on a busy machine."""

PAUSE = 0.3
"""Seconds between two processes: what an earlier one has left to do in the background must not slow the next one."""

REUSE_SECONDS = 600
"""How long reused servers stay between their turns."""

PROGRAMS = re.compile(r"ITEST_(KAFKA_HOME|POSTGRES_BIN|REDIS_BIN)")
"""The settings of whoever runs this that count. All others would change what is measured."""


class NotHere(Exception):
    """It cannot run on this machine, or not yet; with the reason."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds since the process was started: first line and last answer of its test, and its end."""

    test: float
    answer: float
    exit: float


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to be started: `python -m unittest MODULE`, in an environment without settings but these."""

    module: str
    environment: Mapping[str, str]

    def __call__(self) -> tuple[Moments, str]:
        """Run it; returns what it printed too. Raises NotHere where its test was skipped, BenchmarkError when it failed."""
        with tempfile.TemporaryDirectory(prefix="itest-benchmark-") as place, tempfile.TemporaryFile() as output:
            file = Path(place, "moments.json")
            began = time.time()
            process = subprocess.Popen(
                [sys.executable, "-m", "unittest", "-v", self.module],
                env=surroundings({**self.environment, MOMENTS: str(file)}),
                cwd=place,  # No settings of a project are found here.
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            timer = threading.Timer(TIMEOUT, process.kill)
            timer.start()
            try:
                code = process.wait()  # With a timeout of its own it would look every 50 ms only.
                ended = time.time()
            finally:
                timer.cancel()
                process.kill()
            output.seek(0)
            said = output.read().decode(errors="replace")
            if code == 0 and not file.exists() and (skipped := re.search(r"skipped (['\"])(.*)\1", said)):
                raise NotHere(skipped[2])
            if code or not file.exists():
                raise BenchmarkError(f"python -m unittest {self.module} failed ({code}):\n{said[-3000:]}")
            noted = json.loads(file.read_text(encoding="utf-8"))
            return Moments(noted["test"] - began, noted["end"] - began, ended - began), said

    @property
    def config(self) -> Config:
        """The settings that the process has."""
        return load(surroundings(self.environment), Path("/"))


@dataclass(slots=True)
class Contender:
    """One way to run the test of a service, and the runs that it had."""

    service: str
    strategy: str
    launch: Launch
    ours: bool = True
    keeps: frozenset[str] = frozenset()
    """The services whose state must be there before it is measured."""
    runs: list[Moments] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    services: Sequence[str] = SERVICES
    engines: Sequence[str] = ENGINES
    states: Sequence[str] = STATES
    rounds: int = 5
    peers: bool = True


@contextlib.contextmanager
def measured(
    plan: Plan, say: Callable[[str], None], each_round: Callable[[], None] = lambda: None
) -> Iterator[tuple[list[Contender], list[str], list[str]]]:
    """Run all contenders in rounds. Gives them with the notes, and with what the servers were; clears up in the end."""
    with tempfile.TemporaryDirectory(prefix="itest-benchmark-") as place, contextlib.ExitStack() as stack:
        caches = make_caches(Path(place), plan.engines)
        for engine, cache in caches.items():
            stack.callback(clear, ours(engine, cache, "warm", "postgres").launch.config)
        notes: list[str] = []
        planned = contenders(plan, caches, notes)
        ready: list[Contender] = []
        stack.callback(end_reuse, ready, notes)
        absent: dict[str, list[str]] = {}
        servers: dict[str, None] = {}
        for one in planned:
            try:
                said = prepare(one, notes)
            except NotHere as error:
                absent.setdefault(str(error), []).append(f"{one.service} ({one.strategy})")
                continue
            ready.append(one)
            servers.update(dict.fromkeys(re.findall(r"^itest: (\w.*\d) (?:in|from) ", said, re.MULTILINE)))
        notes += [f"left out: {', '.join(names)}: {reason}" for reason, names in absent.items()]
        say(f"{len(ready)} contenders have had a run that is not counted")
        if not ready:
            raise BenchmarkError("nothing can be measured here: " + "; ".join(notes))
        for number in range(1, plan.rounds + 1):
            started = time.monotonic()
            each_round()
            for one in ready:
                one.runs.append(one.launch()[0])
                time.sleep(PAUSE)
            say(f"round {number} of {plan.rounds} took {time.monotonic() - started:.0f} s")
        yield ready, notes, sorted(servers)


def contenders(plan: Plan, caches: Mapping[str, Path], notes: list[str]) -> list[Contender]:
    """All that could take part, those of a service together, warm ones first."""
    peers = plan.peers
    if peers and importlib.util.find_spec("testcontainers") is None:
        peers = False
        notes.append(f"{TUTORIAL} was left out: the package is not installed")
    found = []
    for service in plan.services:
        found += [ours(engine, caches[engine], state, service) for engine in plan.engines for state in plan.states]
        if peers:
            for name, without in ((TUTORIAL, "true"), (AS_IT_COMES, "false")):
                launch = Launch(_class("one_tutorial", service), {"TESTCONTAINERS_RYUK_DISABLED": without})
                found.append(Contender(service, name, launch, ours=False))
    return found


def ours(engine: str, cache: Path, state: str, service: str) -> Contender:
    """Ours on one engine, after a run that has left its state, its servers, or nothing."""
    environment = {"ITEST_ENGINE": engine, "ITEST_CACHE_DIR": str(cache), "ITEST_REQUIRE": "0"}
    environment["ITEST_WARM"] = "0" if state == "cold" else "1"
    if state == "reuse":
        environment |= {"ITEST_REUSE": "1", "ITEST_REUSE_TIME": str(REUSE_SECONDS)}
    wanted = KEPT[engine] & (set(SERVICES) if service == "all" else {service})
    launch = Launch(_class(f"one_ours.{service}", service), environment)
    return Contender(service, f"{state}, {engine}", launch, keeps=frozenset(wanted if state == "warm" else ()))


def clear(config: Config) -> None:
    """Remove what was kept. An image stays as long as the last run's container is there, which its reaper is just removing."""
    deadline = Deadline.after(CLEAR_WAIT)
    warm_listing.clear(config)
    while warm_listing.entries(config) and not deadline.passed:
        deadline.pause(0.1)
        warm_listing.clear(config)


def make_caches(place: Path, engines: Sequence[str]) -> dict[str, Path]:
    """A new cache directory for each engine. It has the Kafka that the user's one has, which takes a minute to get."""
    caches = {}
    for engine in engines:
        caches[engine] = place / engine
        caches[engine].mkdir()
        for jars in load().cache_dir.glob("kafka-*[0-9]"):
            (caches[engine] / jars.name).symlink_to(jars.resolve())
    return caches


def prepare(one: Contender, notes: list[str]) -> str:
    """A run that is not counted, and the wait for what it keeps. Returns what it printed. Raises NotHere."""
    try:
        _, said = one.launch()
    except BenchmarkError as error:
        if one.ours:
            raise
        raise NotHere(re.findall(r"^\S.*", str(error), re.MULTILINE)[0]) from error
    if one.keeps and not wait_for_kept(one.launch.config, one.keeps):
        notes.append(f"{one.service}, {one.strategy}: no state was kept within {KEEP_WAIT:g} s, so it is not warm")
    return said


def wait_for_kept(config: Config, services: frozenset[str]) -> bool:
    """Whether the state of all these is there, within its time; the process that keeps it is then done but for removing
    what it worked on."""
    until = time.monotonic() + KEEP_WAIT
    while not services <= {entry.service for entry in warm_listing.entries(config)}:
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    time.sleep(1.0)
    return True


def end_reuse(contenders: Sequence[Contender], notes: list[str]) -> None:
    """Stop the servers of those that reuse them."""
    for one in contenders:
        if one.launch.environment.get("ITEST_REUSE"):
            command = [sys.executable, "-m", "itest", "down", "--all"]
            ended = subprocess.run(
                command,
                env=surroundings(one.launch.environment),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            if ended.returncode:
                said = ended.stderr.strip()
                notes.append(f"{one.service}, {one.strategy}: its servers may stay for {REUSE_SECONDS} s: {said}")


def surroundings(settings: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no other settings than these apply, and this tree's itest is imported.

    Python may keep what it has compiled: pip compiles what it installs, the peers and the clients among it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ITEST_") or PROGRAMS.match(name)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def rows(contenders: Sequence[Contender], spans: Mapping[str, Callable[[Moments], float]]) -> list[Row]:
    """A row for each contender and span of its runs, in milliseconds; ratios are to the first of the cell."""
    found = []
    for service in dict.fromkeys(one.service for one in contenders):
        for span, length in spans.items():
            here = [one for one in contenders if one.service == service and one.runs]
            base = 0.0
            for one in here:
                got = summary([length(run) for run in one.runs])
                base = base or got.median
                ratio = got.median / base
                found.append(Row(service, span, "", one.strategy, one.ours, got.count, got.median, got.p90, ratio))
    return found


def median(
    contenders: Sequence[Contender], service: str, strategy: str, length: Callable[[Moments], float]
) -> float | None:
    """In seconds; None where that was not measured."""
    for one in contenders:
        if (one.service, one.strategy) == (service, strategy) and one.runs:
            return summary([length(run) for run in one.runs]).median / 1000
    return None


def times(slow: float | None, fast: float | None) -> float | None:
    """How many times as long the one is as the other; None where either was not measured."""
    return slow / fast if slow is not None and fast else None


def _class(module: str, service: str) -> str:
    return f"benchmarks.{module}.{service.capitalize()}Test"
