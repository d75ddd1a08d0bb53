# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed at random moments, and what is left of them: containers, processes, shared memory, directories.

Every run is a whole one of crash_sample.py: Python's start, the servers' start, tests, the end. The moment is anywhere in
it. A run that has ended before its kill is no kill, and another one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from benchmarks import launch
from benchmarks.measure import BenchmarkError, summary
from benchmarks.report import Report, Row, Target, machine
from tests.leftovers import Leftovers

PATIENCE = 5.0
"""Seconds after a kill in which nothing of the run may be left."""

KILLS = 40

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

STATES = ("cold", "warm", "first")
"""What a killed run begins with: nothing, as states are switched off; a kept state; nothing yet, but it would keep it."""

AT_A_TIME = 2

MODULE = "benchmarks.crash_sample"

TESTS = 8

TRIES = 10
"""Runs for one kill, should they end before it."""


@dataclass(frozen=True, slots=True)
class Kill:
    """What is done to one run: `at` is the moment as a part of the time that a whole run takes."""

    number: int
    signal: signal.Signals
    engine: str
    state: str
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from the kill until nothing was left (`PATIENCE` at most), and what was left even then."""

    kill: Kill
    seconds: float
    left: tuple[str, ...] = ()


def run(
    kills: int,
    engines: Sequence[str],
    seed: int | None,
    arguments: Sequence[str],
    say: Callable[[str], None],
    states: Sequence[str] = STATES,
) -> Report:
    """Kill so many runs. Raises BenchmarkError where the suite does not pass when it is left alone."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    say(f"the seed is {seed}")
    with tempfile.TemporaryDirectory(prefix="itest-benchmark-") as place, contextlib.ExitStack() as stack:
        runs = Runs(Path(place), engines, states, stack)
        say("a whole run takes " + ", ".join(f"{length:.2f} s ({name})" for name, length in runs.lengths().items()))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = []
            for outcome in pool.map(runs.kill, plan(kills, engines, seed, states)):
                outcomes.append(outcome)
                kill, left = outcome.kill, "; ".join(outcome.left) or "nothing left"
                say(f"{kill.number}: {kill.signal.name}, {kill.engine}, {kill.state}: {outcome.seconds:.2f} s, {left}")
    facts = machine(" and ".join(engines), ["PostgreSQL", "Redis"])
    notes = [f"the seed is {seed}", *(f"left after kill {name}" for name in left_by(outcomes))]
    return Report("crash", arguments, facts, rows(outcomes), targets(outcomes), notes, ("engine",))


def plan(kills: int, engines: Sequence[str], seed: int, states: Sequence[str] = STATES) -> list[Kill]:
    """The same for the same seed. Each signal on each engine before the next state."""
    moments = random.Random(seed)
    found = []
    for number in range(kills):
        rest, which = divmod(number, len(SIGNALS))
        rest, engine = divmod(rest, len(engines))
        state = states[rest % len(states)]
        found.append(Kill(number + 1, SIGNALS[which], engines[engine], state, moments.random()))
    return found


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each signal on each engine: milliseconds from the kill until nothing was left."""
    found = []
    for engine in dict.fromkeys(one.kill.engine for one in outcomes):
        base = 0.0
        for number in SIGNALS:
            lengths = [one.seconds for one in outcomes if (one.kill.engine, one.kill.signal) == (engine, number)]
            if lengths:
                got = summary(lengths)
                base = base or got.median
                ratio = got.median / base if base else 1.0
                found.append(Row(engine, "", "", number.name, True, got.count, got.median, got.p90, ratio))
    return found


def targets(outcomes: Sequence[Outcome]) -> list[Target]:
    """What itest promises, and whether this run shows it."""
    worst = max((one.seconds for one in outcomes), default=None)
    left = len(left_by(outcomes)) if outcomes else None
    return [
        Target(f"left behind by {len(outcomes)} killed runs after {PATIENCE:g} s,", 0, "things", left),
        Target("the longest time until nothing was left,", PATIENCE, "s", worst),
    ]


def left_by(outcomes: Sequence[Outcome]) -> list[str]:
    """What was left, each thing once: two runs at a time may both have seen it."""
    found: dict[str, str] = {}
    for one in outcomes:
        for thing in one.left:
            kill = (
                f"{one.kill.number} ({one.kill.signal.name}, {one.kill.engine}, {one.kill.state}, at {one.kill.at:.0%})"
            )
            found.setdefault(thing, f"{kill}: {thing}")
    return list(found.values())


class Runs:
    """Runs of the suite, each in an environment of its own, and how long a whole one takes."""

    def __init__(self, place: Path, engines: Sequence[str], states: Sequence[str], stack: contextlib.ExitStack) -> None:
        self._place = place
        self._caches = launch.make_caches(place, engines)
        for engine, cache in self._caches.items():
            stack.callback(launch.clear, self._launch(engine, "warm", cache).config)
        self._lengths: dict[tuple[str, str], float] = {}
        for engine, cache in self._caches.items():
            for state in sorted(states, key=("first", "warm", "cold").index):  # The first has no state yet.
                self._lengths[engine, state] = self._whole(engine, state, cache)

    def lengths(self) -> dict[str, float]:
        """Seconds of a whole run, by engine and state."""
        return {", ".join(names): length for names, length in self._lengths.items()}

    def kill(self, kill: Kill) -> Outcome:
        """Have one run killed, and see what is left. Raises BenchmarkError when each of several ended before."""
        for _ in range(TRIES):
            with self._cache(kill) as cache:
                environment = self._launch(kill.engine, kill.state, cache).environment
                outcome = _kill(kill, environment, self._place, kill.at * self._lengths[kill.engine, kill.state])
            if outcome is not None:
                return outcome
            self._lengths[kill.engine, kill.state] *= 0.85  # The machine has more time for us than it had then.
        raise BenchmarkError(f"{TRIES} runs ended before they could be killed: {kill}")

    @contextlib.contextmanager
    def _cache(self, kill: Kill) -> Iterator[Path]:
        """The cache directory for this run: a new one where nothing may be kept yet."""
        if kill.state != "first":
            yield self._caches[kill.engine]
            return
        with tempfile.TemporaryDirectory(dir=self._place, ignore_cleanup_errors=True) as new:
            yield Path(new)
            launch.clear(self._launch(kill.engine, "first", Path(new)).config)

    def _launch(self, engine: str, state: str, cache: Path) -> launch.Launch:
        ours = launch.ours(engine, cache, state, "postgres").launch
        return replace(ours, module=MODULE)

    def _whole(self, engine: str, state: str, cache: Path) -> float:
        started = time.monotonic()
        found = self._launch(engine, state, cache)
        process = _start(found.environment, self._place)
        try:
            said, _ = process.communicate(timeout=launch.TIMEOUT)
        finally:
            process.kill()
        length = time.monotonic() - started
        if process.returncode or f"Ran {TESTS} tests" not in said or "skipped" in said:
            raise BenchmarkError(f"{MODULE} does not pass ({engine}, {state}):\n{said[-2000:]}")
        if state == "first":
            launch.wait_for_kept(found.config, frozenset({"postgres"}))
        return length


def _kill(kill: Kill, environment: Mapping[str, str], place: Path, after: float) -> Outcome | None:
    """Start a run, kill it `after` so many seconds, and watch until nothing is left. None: it ended before."""
    before = Leftovers.snapshot()
    with tempfile.TemporaryFile(dir=place) as output:
        process = _start({**environment, "PYTHONFAULTHANDLER": "1"}, place, output)
        time.sleep(after)
        if process.poll() is not None:
            return None
        return _watch(kill, process, before, output)


def _watch(kill: Kill, process: subprocess.Popen[str], before: Leftovers, output: IO[bytes]) -> Outcome:
    """Kill it, and see what is left of it."""
    family = {process.pid, *_children(process.pid)}
    process.send_signal(kill.signal)
    killed = time.monotonic()
    while process.poll() is None and time.monotonic() < killed + PATIENCE:
        time.sleep(0.01)
    left = remaining(before, family)
    while left and time.monotonic() < killed + PATIENCE:
        time.sleep(0.05)
        left = [thing for thing in remaining(before, family) if thing in left]
    seconds = time.monotonic() - killed
    if process.poll() is None:
        left.append(f"the run itself, {_place_of(process, output)}")
    return Outcome(kill, min(seconds, PATIENCE), tuple(left))


def _place_of(process: subprocess.Popen[str], output: IO[bytes]) -> str:
    """Where in its code a run is that does not end: the stacks that Python prints when it is aborted. Ends it."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output.seek(0)
    return output.read().decode(errors="replace")[-4000:]


def remaining(before: Leftovers, family: Collection[int]) -> list[str]:
    """What is there now and may be this run's: not what names a process of others, as its owner or as what it is."""
    try:
        before.check(0.0)
    except AssertionError as error:
        things = [line.strip() for line in str(error).splitlines()[1:]]
        owners = {thing: re.search(r" of process (\d+)@|^reaper (\d+)", thing) for thing in things}
        return [thing for thing, owner in owners.items() if owner is None or int(owner[1] or owner[2]) in family]
    return []


def _children(pid: int) -> Iterator[int]:
    """The processes that this one has started, its reaper among them; none where the system has no /proc."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text(errors="replace").rsplit(")", 1)[1].split()[1]) == pid:
                yield int(entry.parent.name)


def _start(
    environment: Mapping[str, str], place: Path, output: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "unittest", MODULE],
        env=launch.surroundings(environment),
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
