# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run: a few tests of each strategy on local processes. No figure is checked here."""

from __future__ import annotations

import contextlib
import os
import unittest
from dataclasses import replace
from unittest import mock

from benchmarks import isolation, ours, peers
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


if __name__ == "__main__":
    unittest.main()
