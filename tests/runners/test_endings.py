# SPDX-License-Identifier: Apache-2.0
"""Runs that are ended from outside, or that end themselves in the middle, leave nothing behind all the same.

`sample` asserts that; here it is only said how each run ends.
"""

from __future__ import annotations

import signal

from itest import Postgres, Redis
from tests.runners.pairs import two_at_a_time
from tests.runners.samples import Base, Outcome, SampleTestCase


class _Endings(Base):
    def end(self, test: str, number: signal.Signals = signal.SIGINT, delay: float = 0.0) -> Outcome:
        self.needs(Postgres(), Redis())
        command = ("-W", "error", "-m", "unittest", "-v", f"test_endings.{test}")
        return self.sample("endings", *command, timeout=30.0, environment={"SIGNAL": number.name, "DELAY": str(delay)})

    def assertInterrupted(self, outcome: Outcome) -> None:
        # Python forgets that it should end by the signal when a thread compiles code meanwhile: then it exits with 1.
        self.assertIn(outcome.code, (-signal.SIGINT, 1), outcome.output)
        self.assertIn("\nKeyboardInterrupt\n", outcome.output)

    def test_interrupt_in_a_test(self) -> None:
        self.assertInterrupted(self.end("InTestTest"))

    def test_interrupt_in_setUpClass(self) -> None:
        self.assertInterrupted(self.end("InSetUpClassTest"))

    def test_interrupt_while_servers_start(self) -> None:
        for delay in (0.02, 0.15, 0.4):
            with self.subTest(delay=delay):
                self.assertInterrupted(self.end("InStartTest", delay=delay))

    def test_kill(self) -> None:
        for test in ("InTestTest", "InSetUpClassTest"):
            with self.subTest(test):
                self.assertEqual(self.end(test, signal.SIGKILL).code, -signal.SIGKILL)

    def test_kill_while_servers_start(self) -> None:
        for delay in (0.02, 0.15, 0.4):
            with self.subTest(delay=delay):
                self.assertEqual(self.end("InStartTest", signal.SIGKILL, delay).code, -signal.SIGKILL)

    def test_terminate(self) -> None:
        for test in ("InTestTest", "InSetUpClassTest"):
            with self.subTest(test):
                self.assertEqual(self.end(test, signal.SIGTERM).code, -signal.SIGTERM)

    def test_terminate_while_servers_start(self) -> None:
        self.assertEqual(self.end("InStartTest", signal.SIGTERM, 0.3).code, -signal.SIGTERM)

    def test_hang_up(self) -> None:
        self.assertEqual(self.end("InTestTest", signal.SIGHUP).code, -signal.SIGHUP)

    def test_exit_in_setUpClass(self) -> None:
        outcome = self.end("ExitInSetUpClassTest")
        self.assertEqual(outcome.code, 7, outcome.output)

    def test_hard_exit(self) -> None:
        self.assertEqual(self.end("HardExitTest").code, 7)

    def test_signal_to_every_process_of_a_parallel_run(self) -> None:
        """What a terminal does on Ctrl-C, and what a job's time limit does."""
        parallel = ("-m", "unittest_parallel", "-j", "2", "--level", "class", "-p", "test_group.py")
        for package, command in {
            "unittest_parallel": parallel,
            "xdist": ("-m", "pytest", "-n", "2", "test_group.py"),
        }.items():
            for number in (signal.SIGINT, signal.SIGKILL):
                with self.subTest(package, number=number.name):
                    self.needs_package(package)
                    self.needs(Postgres(), Redis())
                    outcome = self.sample("endings", *command, timeout=30.0, environment={"SIGNAL": number.name})
                    self.assertNotEqual(outcome.code, 0, outcome.output)

    def test_forked_children_end_nothing(self) -> None:
        outcome = self.end("ForkTest")
        self.assertPassed(outcome, 2)
        self.assertEqual(len(outcome.announced), 2, outcome.output)


@two_at_a_time
class EndingsOnProcessesTest(_Endings, SampleTestCase):
    """On local processes."""


@two_at_a_time
class EndingsOnDockerTest(_Endings, SampleTestCase):
    """In containers."""

    engine = "docker"
