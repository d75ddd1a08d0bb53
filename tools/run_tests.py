# SPDX-License-Identifier: Apache-2.0
"""Run all tests; say how many were skipped and why, and what was left behind; end with a line that machines can read.

Tests that mostly wait for other processes run beside the rest, in processes of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

APART = {
    "runners": ("tests.runners.", "tests.integration.test_death.", "tests.integration.test_keeping."),
    "starts": tuple(f"tests.integration.test_{name}." for name in ("warm", "kafka_warm", "kafka_network", "sharing")),
    "containers": tuple(
        f"tests.integration.test_{name}."
        for name in ("command_line", "command_line_page", "compose_service", "compose_page", "container_service",
                     "containers_page", "doctor", "images", "images_page", "everything", "host_access", "references_page",
                     "tutorials", "from_testcontainers")
    ),
    "local": tuple(
        f"tests.integration.test_{name}."
        for name in ("assertions", "async", "async_page", "benchmarks", "factories", "fixtures", "migrations",
                     "isolation_page", "postgres_leaks", "postgres_random", "postgres_rollback", "postgres_schema",
                     "postgres_truncate", "postgres_external", "postgres_spares", "redis_isolation")
    ),
}  # fmt: skip
"""What runs in processes of its own: the beginnings of the tests' names. Those of `local` use local processes even where
Docker answers: what they test is the same on both engines, and a container takes five times as long to start and stop."""

SLOWEST = 15
"""Tests and modules whose times are printed."""

PREPARE = """
from itest import Postgres
from itest.session import current

lease = current().lend(Postgres()).lease(Postgres(), "prepare")
lease.seal()
lease.close()
current().close()
"""

KEPT_WAIT = 15.0
"""Seconds that keeping these states may take; without Docker there is one less, and the wait is in vain."""

LIMIT = 1800
"""Seconds that such a process may take."""


def main() -> int:
    tests = list(flat(unittest.defaultTestLoader.discover("tests", top_level_dir=".")))
    if len(sys.argv) > 1:
        if sys.argv[1] != "starts":
            keep_nothing()
        return report(*run([test for test in tests if test.id().startswith(APART[sys.argv[1]])]))
    from tests.leftovers import Leftovers  # Found now, because discovery has put this directory on the path.

    before = Leftovers.snapshot()
    prepare()
    keep_nothing()
    with contextlib.ExitStack() as stack:
        apart = {name: start(name, stack) for name in APART}
        others = tuple(prefix for prefixes in APART.values() for prefix in prefixes)
        counts = [run([test for test in tests if not test.id().startswith(others)])]
        counts += [result(name, process, output) for name, (process, output) in apart.items()]
    clean = nothing_left(before)
    passed, failed, skipped = (sum(column) for column in zip(*counts, strict=True))
    return report(passed, failed, skipped, clean=clean)


def prepare() -> None:
    """Have this very code keep the state of a PostgreSQL for each engine: tests that need one then start it in a third
    of the time. What other code has kept of PostgreSQL is forgotten before; its images go with the next one."""
    from itest import warm_listing, warm_store
    from itest.config import load

    config = load()
    for record in list(warm_store.all_of(config.cache_dir)):
        if record.service == "postgres":
            warm_store.remove(config.cache_dir, record)
    for engine in ("docker", "process"):
        environment = {**os.environ, "ITEST_ENGINE": engine, "ITEST_WARM": "1"}
        subprocess.run([sys.executable, "-c", PREPARE], env=environment, timeout=LIMIT, check=False)
    until = time.monotonic() + KEPT_WAIT
    while sum(entry.service == "postgres" for entry in warm_listing.entries(config)) < 2 and time.monotonic() < until:
        time.sleep(0.1)


def keep_nothing() -> None:
    """The tests begin with that state, but what they make of it is not worth the time."""
    from itest import warm

    warm.hand_over = lambda state, server, session: False  # type: ignore[assignment]


def start(name: str, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], IO[str]]:
    """Start a process for these tests, and a file for what it says; both end with the stack."""
    output = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115  # the stack closes it
    command = [sys.executable, "-W", "error", __file__, name]
    environment = {**os.environ, **({"ITEST_ENGINE": "process"} if name == "local" else {})}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process, output


def result(name: str, process: subprocess.Popen[bytes], output: IO[str]) -> tuple[int, int, int]:
    """Wait for such a process, and print what it said. Its counts."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LIMIT)
    output.seek(0)
    said = output.read()
    print(f"\nBeside the rest, {name}:\n{said}", file=sys.stderr)
    found = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", said, re.MULTILINE)
    if found is None:
        return 0, 1, 0  # It did not come to its end.
    return int(found[1]), int(found[2]), int(found[3])


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        yield from flat(test) if isinstance(test, unittest.TestSuite) else [test]


def run(tests: list[unittest.TestCase]) -> tuple[int, int, int]:
    """Run the tests. How many passed, failed and were skipped; why they were is printed, and which took longest."""
    said = Heard(sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        keep_reports(Path(place))
        result = unittest.TextTestRunner(said, verbosity=2, resultclass=Timed).run(unittest.TestSuite(tests))
        reports = [file.read_text(encoding="utf-8") for file in Path(place).rglob("*") if file.is_file()]
    modules: Counter[str] = Counter()
    for seconds, name in result.times:
        modules[name.rsplit(".", 2)[0]] += seconds  # type: ignore[assignment]  # of seconds, too
    for what, times in ("tests", result.times), ("modules", [(seconds, name) for name, seconds in modules.items()]):
        print(f"\nThe slowest {what}, in seconds:", file=sys.stderr)
        for seconds, name in sorted(times, reverse=True)[:SLOWEST]:
            print(f"  {seconds:6.1f} {name}", file=sys.stderr)
    reasons = Counter(reason for _, reason in result.skipped)
    if reasons:
        print("\nSkipped:", file=sys.stderr)
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}", file=sys.stderr)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    told = secrets_in("".join([*said.text, *reports]))
    print(f"\n{told} passwords of this run are in what it printed and in its {len(reports)} reports", file=sys.stderr)
    failed += told
    return max(0, result.testsRun - failed - len(result.skipped)), failed, len(result.skipped)


def keep_reports(place: Path) -> None:
    """Have the sessions that tests of this process open write their page, with the logs of all servers, and the artifacts
    of what fails, so that they can be searched."""
    from itest import session

    load = session.load
    session.load = lambda: replace(load(), report=str(place / "page.html"), artifacts=str(place / "artifacts"))  # type: ignore[attr-defined]


class Heard:
    """A stream that keeps what it passes on."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.text: list[str] = []

    def write(self, text: str) -> int:
        self.text.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def secrets_in(text: str) -> int:
    """How many of the passwords that itest has made in this process are in a text."""
    from itest import naming

    return sum(len(secret) >= naming.DISTINCT and secret in text for secret in naming._known_secrets)


class Timed(unittest.TextTestResult):
    """A result that notes how long each test took; unittest does so from Python 3.12 on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.times: list[tuple[float, str]] = []
        self._begun = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        self._begun = time.monotonic()
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.times.append((time.monotonic() - self._begun, test.id()))


def nothing_left(before: object) -> bool:
    """Whether the whole run left no container, process, directory, shared memory or thread."""
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        print(f"\nthreads left behind: {', '.join(threads)}", file=sys.stderr)
    try:
        before.check()  # type: ignore[attr-defined]  # a Leftovers, which is imported late
    except AssertionError as error:
        print(f"\n{error}", file=sys.stderr)
        return False
    return not threads


def report(passed: int, failed: int, skipped: int, clean: bool = True) -> int:
    """The closing line, and the exit status that goes with it."""
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if passed and not failed and clean else 1


if __name__ == "__main__":
    sys.exit(main())
