# SPDX-License-Identifier: Apache-2.0
"""Runs a suite of tests/samples in a process of its own, and tells what came of it and what it left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import ItestError, Unavailable
from itest import config as settings
from itest.engines.docker import DockerEngine
from itest.service import Service
from tests.leftovers import Leftovers

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"

TIMEOUT = 300.0
"""Seconds that a suite may take; most take three, and many times that where much else runs."""

INHERITED = re.compile(
    r"PATH|HOME|TMPDIR|JAVA_HOME|XDG_.*|DOCKER_.*|ITEST_(CACHE_DIR|KAFKA_HOME|POSTGRES_BIN|REDIS_BIN)|COVERAGE_.*"
)
"""All of the environment that a suite sees, so that no setting of whoever runs these tests changes what they prove."""


@dataclass(frozen=True)
class Outcome:
    """How a suite's process ended, and all that it wrote."""

    code: int
    output: str
    seconds: float

    @property
    def tests(self) -> int:
        """How many tests the runner says it ran, whichever runner it was."""
        found = re.findall(r"^Ran (\d+) tests?", self.output, re.MULTILINE)
        found += [sum(map(int, re.findall(r"(\d+) (?:passed|failed|error)", self.output.strip().splitlines()[-1])))]
        return int(found[0])

    @property
    def announced(self) -> list[str]:
        """The servers that were started: itest says each one's name once."""
        return re.findall(r"^itest: (\w+) .*, ready in ", self.output, re.MULTILINE)


class SampleTestCase(unittest.TestCase):
    """Runs samples and asserts that nothing of them remains."""

    engine = "process"

    def sample(
        self,
        name: str,
        *command: str,
        timeout: float = TIMEOUT,
        environment: Mapping[str, str | None] | None = None,
    ) -> Outcome:
        """Run a command in a copy of a sample's directory; by default `python -W error -m unittest -v`.

        The command is arguments for this Python, or a whole command that starts with a Python's path. `environment`
        adds variables, or takes them away (None).
        """
        arguments = list(command or ("-W", "error", "-m", "unittest", "-v"))
        if not os.access(arguments[0], os.X_OK):
            arguments.insert(0, sys.executable)
        before = Leftovers.snapshot()
        with tempfile.TemporaryDirectory(prefix="sample-") as place:
            source = SAMPLES / name
            directory = Path(place, source.name)
            shutil.copytree(source, directory, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
            outcome = _run(arguments, directory, self._environment(environment or {}), timeout)
        try:
            before.check()
        except AssertionError as error:
            error.add_note(f"after {arguments}:\n{outcome.output}")
            raise
        return outcome

    def assertPassed(self, outcome: Outcome, tests: int) -> None:
        """All of so many tests passed, and none was skipped."""
        self.assertEqual(outcome.code, 0, outcome.output)
        self.assertEqual(outcome.tests, tests, outcome.output)
        self.assertNotIn("skipped", outcome.output)

    def needs(self, *services: Service[Any]) -> None:
        """Skip if this engine cannot run these services here; fail instead where skipping is an error."""
        if reason := self._problem(services):
            if settings.load().required:
                self.fail(reason)
            self.skipTest(reason)

    def needs_package(self, package: str) -> None:
        """Skip if this Python does not have a runner's package."""
        if not find_spec(package):
            self.skipTest(f"the package {package!r} is not installed")

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The environment of a suite: few variables, this tree's itest, and skipping is an error."""
        environment: dict[str, str | None] = {
            name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)
        }
        environment.update(LC_ALL="C.UTF-8", PYTHONPATH=str(ROOT), ITEST_ENGINE=self.engine, ITEST_REQUIRE="1")
        environment.update(PYTHONFAULTHANDLER="1")
        environment.update(changes)
        return {name: value for name, value in environment.items() if value is not None}

    def _problem(self, services: Sequence[Service[Any]]) -> str:
        if self.engine == "docker":
            return _docker_problem()  # It runs all of them, if it runs.
        for service in services:
            try:
                service.process("secret", settings.load())
            except Unavailable as error:
                return str(error)
        return ""


# Base of mixins that hold tests for several classes: of a TestCase unittest would run them in the mixin as well.
if TYPE_CHECKING:
    Base = SampleTestCase
else:
    Base = object


@cache
def _docker_problem() -> str:
    try:
        engine = DockerEngine(settings.load())
        reason = engine.unavailable()
        engine.close()
    except ItestError as error:
        return str(error)
    return reason or ""


def _run(command: Sequence[str], directory: Path, environment: Mapping[str, str], timeout: float) -> Outcome:
    started = time.monotonic()
    # A file and no pipe: a server that inherited a pipe and outlived its owner would hold it open, and us with it.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
            process.send_signal(signal.SIGABRT)  # With PYTHONFAULTHANDLER it says where it hangs.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
        finally:
            _end(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code is None:
        raise AssertionError(f"{' '.join(command)} did not end within {timeout:g} s; it wrote:\n{text}")
    return Outcome(code, text, time.monotonic() - started)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs of the process and its group. Servers and reapers have groups of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
