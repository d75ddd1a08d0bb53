# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run: a few tests of each strategy on local processes. No figure is checked here."""

from __future__ import annotations

import contextlib
import os
import unittest
from dataclasses import replace
from unittest import mock

from benchmarks import crash, ending, isolation, launch, ours, peers, start
from benchmarks.measure import BenchmarkError
from benchmarks.report import Report


def silent(line: str) -> None:
    """Nobody reads the progress of these."""


class SmallRunTest(unittest.TestCase):
    def test_a_small_run(self) -> None:
        plan = isolation.Plan(
            engine="process", tables=(3,), dirty=(0, 2, 30), keys=(5,), rounds=1, tests=4, seconds=0.1
        )
        with mock.patch.dict(os.environ, {"ITEST_QUIET": "1"}):
            for service in ("redis", "postgres"):
                with self.subTest(service=service), contextlib.ExitStack() as stack:
                    # The plugin's batch is a pytest of its own, which takes too long for a test of plumbing.
                    stack.enter_context(mock.patch.dict(peers.POSTGRES))
                    del peers.POSTGRES["pytest-postgresql"]
                    try:
                        report = isolation.run(replace(plan, services=(service,)), [], silent)
                    except BenchmarkError as error:
                        self.assertIn("nothing can be measured here", str(error))
                        self.skipTest(str(error))
                    self.check(report, service)

    def check(self, report: Report, service: str) -> None:
        self.assertEqual(report.machine["engine"], "process")
        cells = {(row.size, row.dirty) for row in report.rows}
        self.assertEqual(cells, {(5, 5)} if service == "redis" else {(3, 0), (3, 2)})
        for row in report.rows:
            self.assertGreater(row.count, 0)
            self.assertGreater(row.median, 0)
            self.assertLessEqual(row.median, row.p90)
        strategies = [row.strategy for row in report.rows if row.ours and (row.size, row.dirty) == (3, 2)]
        if service == "postgres":
            self.assertEqual(strategies, ours.isolations())


class ProcessTest(unittest.TestCase):
    """The benchmarks of whole processes, with as few of them as there can be."""

    plan = launch.Plan(services=("redis",), engines=("process",), states=("cold",), rounds=1, peers=False)

    def test_start_and_exit(self) -> None:
        for measure in (start.run, ending.run):
            with self.subTest(measure.__module__):
                try:
                    report = measure(self.plan, [], silent)
                except BenchmarkError as error:
                    self.assertIn("nothing can be measured here", str(error))
                    self.skipTest(str(error))
                lengths = {str(row.size): row.median for row in report.rows if row.ours}
                self.assertGreater(min(lengths.values()), 0)
                if measure is start.run:
                    self.assertLess(lengths["first test"], lengths["first answer"])
                    self.assertLess(lengths["first answer"], lengths["whole process"])
                self.assertRegex(str(report.machine["servers"]), "Valkey|Redis")

    def test_crash(self) -> None:
        try:
            report = crash.run(2, ("process",), 1, [], silent, states=("cold",))
        except BenchmarkError as error:
            self.assertIn("skipped", str(error))
            self.skipTest(str(error))
        self.assertEqual([row.strategy for row in report.rows], ["SIGKILL", "SIGTERM"])
        self.assertEqual(report.notes[0], "the seed is 1")


if __name__ == "__main__":
    unittest.main()
