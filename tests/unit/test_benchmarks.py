# SPDX-License-Identifier: Apache-2.0
"""The plumbing of the benchmarks: that they measure what they say, and what they print. No figure is checked here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import unittest
from collections.abc import Callable
from unittest import mock

from benchmarks import __main__ as command
from benchmarks import isolation, ours, peers, schema
from benchmarks.measure import (
    FEWEST,
    SEND_RECEIVE,
    WARM_UP,
    BenchmarkError,
    Cell,
    Contender,
    Stopwatch,
    Timed,
    counted,
    run_tests,
    summary,
    take_turns,
)
from benchmarks.report import Report, Target, show
from itest.services.postgres import Postgres


def silent(line: str) -> None:
    """Nobody reads the progress of these."""


def stub(gaps: list[float], part: float = 0.0) -> Callable[[int, float], Stopwatch]:
    def run(tests: int, seconds: float) -> Stopwatch:
        watch = Stopwatch()
        watch.gaps = list(gaps)
        if part:
            watch.part(SEND_RECEIVE, part)
        return watch

    return run


class StopwatchTest(unittest.TestCase):
    def test_a_gap_is_between_the_end_of_one_body_and_the_start_of_the_next(self) -> None:
        watch = Stopwatch()
        with mock.patch("benchmarks.measure.perf_counter", side_effect=[1.0, 2.0, 2.5, 9.0, 10.0, 11.0]):
            for _ in range(3):
                watch.start()
                watch.stop()
        self.assertEqual(watch.gaps, [0.5, 1.0])

    def test_what_setup_and_teardown_take_is_in_the_gap(self) -> None:
        now = [0.0]

        class Case(Timed):
            def setUp(self) -> None:
                now[0] += 1

            def test_body(self) -> None:
                self.watch.start()
                now[0] += 100
                self.watch.stop()

            def tearDown(self) -> None:
                now[0] += 10

        with mock.patch("benchmarks.measure.perf_counter", lambda: now[0]):
            self.assertEqual(run_tests(Case, 3, 1000).gaps, [11, 11])


class RunTest(unittest.TestCase):
    def test_it_ends_when_its_time_is_over_and_enough_is_measured(self) -> None:
        class Case(Timed):
            def test_body(self) -> None:
                self.watch.start()
                self.watch.stop()

        self.assertEqual(len(run_tests(Case, 50, 0).gaps), FEWEST)

    def test_a_test_that_fails_makes_the_measurement_void(self) -> None:
        class Case(Timed):
            def test_body(self) -> None:
                self.fail("not isolated")

        with self.assertRaisesRegex(BenchmarkError, r"test_body.*did not pass(.|\n)*not isolated"):
            run_tests(Case, 2, 1)

    def test_so_does_one_that_is_skipped(self) -> None:
        class Case(Timed):
            def test_body(self) -> None:
                self.skipTest("no server")

        with self.assertRaisesRegex(BenchmarkError, "no server"):
            run_tests(Case, 2, 1)

    def test_contenders_take_turns(self) -> None:
        order: list[str] = []

        def run(name: str) -> Callable[[int, float], Stopwatch]:
            def batch(tests: int, seconds: float) -> Stopwatch:
                order.append(name)
                return stub([0.001] * 5)(tests, seconds)

            return batch

        cell = Cell("postgres", 10, 3)
        take_turns([Contender(name, cell, True, run(name)) for name in "ab"], 2, 5, 1.0, silent)
        self.assertEqual("".join(order), "abab")

    def test_the_warm_up_is_not_counted(self) -> None:
        self.assertEqual(counted([9.0] * WARM_UP + [1.0] * 20), [1.0] * 20)
        self.assertEqual(counted([9.0, 1.0, 1.0]), [1.0, 1.0])
        self.assertEqual(counted([1.0]), [1.0])

    def test_the_summary_is_in_milliseconds(self) -> None:
        got = summary([number / 1000 for number in range(1, 12)])
        self.assertEqual((got.count, got.median, got.p90), (11, 6.0, 10.0))
        with self.assertRaisesRegex(BenchmarkError, "nothing was measured"):
            summary([])


class SchemaTest(unittest.TestCase):
    def test_each_table_refers_to_one_that_was_made_before(self) -> None:
        made: list[str] = []
        for line in schema.ddl(20).splitlines():
            if line.startswith("CREATE TABLE"):
                if "REFERENCES" in line:
                    self.assertIn(line.split("REFERENCES ")[1].split(",")[0], made)
                made.append(line.split()[2])
        self.assertEqual(made, schema.names(20))

    def test_the_metadata_are_the_same_tables(self) -> None:
        tables = schema.metadata(20).sorted_tables
        self.assertEqual({table.name for table in tables}, set(schema.names(20)))
        self.assertEqual(sum(len(table.indexes) for table in tables), 20)

    def test_every_contender_gets_the_same_work(self) -> None:
        one, other = schema.Work(100, 3), schema.Work(100, 3)
        picks = [one.pick() for _ in range(20)]
        self.assertEqual(picks, [other.pick() for _ in range(20)])
        self.assertEqual({len(pick) for pick in picks}, {3})
        self.assertGreater(len({tuple(pick) for pick in picks}), 10)
        self.assertEqual(schema.Work(30, 30).pick(), list(range(30)))
        self.assertEqual(len(schema.Work(30, 0).pick()), 1)


class ReportTest(unittest.TestCase):
    def setUp(self) -> None:
        cell = Cell("postgres", 30, 3)
        self.contenders = [
            Contender("database", cell, True, stub([0.001] * 9)),
            Contender("create_all + drop_all", cell, False, stub([0.2] * 9)),
            Contender("records", Cell("kafka", 3, 3), True, stub([0.004] * 9, part=0.005)),
        ]
        take_turns(self.contenders, 1, 9, 1.0, silent)

    def report(self) -> Report:
        facts = {"cores": 2, "cpu": "cpu", "memory_gb": 1, "python": "3", "engine": "none", "servers": ["PostgreSQL 0"]}
        rows, targets = isolation.rows(self.contenders), isolation.targets(self.contenders)
        return Report("isolation", ["--rounds", "1"], facts, rows, targets, ["redis was left out: no server"])

    def test_ratios_are_to_ours_in_the_same_cell(self) -> None:
        rows = isolation.rows(self.contenders)
        self.assertEqual(
            [(row.strategy, round(row.ratio, 6)) for row in rows],
            [("database", 1.0), ("create_all + drop_all", 200.0), ("records", 1.0), ("records: send + receive", 1.0)],
        )
        self.assertEqual(rows[3].median, 5.0)

    def test_targets_are_judged_by_what_was_measured(self) -> None:
        verdicts = {target.text: target.verdict for target in isolation.targets(self.contenders)}
        self.assertEqual(verdicts["PostgreSQL, 30 tables, 3 dirty, database,"], "met")
        self.assertEqual(verdicts["faster than create_all + drop_all,"], "met")
        self.assertEqual(verdicts["PostgreSQL, rollback,"], "not measured")
        self.assertEqual(Target("", 1.0, "ms", 1.1).verdict, "missed")
        self.assertEqual(Target("", 10, "x", 9, at_least=True).verdict, "missed")

    def test_json_has_everything(self) -> None:
        found = json.loads(self.report().as_json())
        self.assertEqual(list(found), ["benchmark", "arguments", "machine", "unit", "rows", "targets", "notes"])
        self.assertEqual(
            list(found["rows"][0]),
            ["service", "size", "dirty", "strategy", "ours", "count", "median", "p90", "ratio"],
        )
        self.assertEqual(found["rows"][1]["median"], 200.0)
        self.assertEqual(found["targets"][0]["verdict"], "met")

    def test_the_table_has_everything(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            show(self.report())
        text = out.getvalue()
        self.assertRegex(text, r"postgres +30 +3 +itest database +6 +1.00 +1.00 +1.0")
        self.assertRegex(text, r"create_all \+ drop_all +6 +200.00 +200.00 +200.0")
        self.assertIn("met          PostgreSQL, 30 tables, 3 dirty, database, at most 1.1 ms; measured 1.00", text)
        self.assertIn("note: redis was left out: no server", text)


class CommandTest(unittest.TestCase):
    def call(self, *arguments: str) -> tuple[int, str, str]:
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            try:
                code = command.main(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
        return code, out.getvalue(), err.getvalue()

    def test_its_names(self) -> None:
        code, out, _ = self.call("--help")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"isolation\s+the time between two tests")
        self.assertRegex(out, r"suite\s+the wall time")

    def test_what_it_does_not_know_is_named(self) -> None:
        for arguments, message in (
            (("speed",), "invalid choice: 'speed'"),
            (("isolation", "--services", "mysql"), "'mysql' is none of postgres, redis, kafka"),
            (("isolation", "--tables", "-3"), "0 or more"),
        ):
            with self.subTest(arguments=arguments):
                code, _, err = self.call(*arguments)
                self.assertEqual(code, 2)
                self.assertIn(message, err)

    def test_arguments_reach_the_plan(self) -> None:
        with mock.patch.object(isolation, "run", side_effect=BenchmarkError("seen")) as run:
            code, _, err = self.call(
                "isolation", "--engine", "process", "--tables", "5,6", "--dirty", "1", "--rounds", "2", "--no-peers"
            )
        self.assertEqual((code, err), (1, "benchmarks: seen\n"))
        expected = isolation.Plan(engine="process", tables=(5, 6), dirty=(1,), rounds=2, peers=False)
        self.assertEqual(run.call_args.args[0], expected)

    def test_a_machine_that_can_run_nothing_is_told_so(self) -> None:
        address = {"ITEST_ENGINE": "docker", "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        with mock.patch.dict(os.environ, address):
            code, _, err = self.call("isolation", "--engine", "docker", "--services", "redis")
        self.assertEqual(code, 1)
        self.assertRegex(err, "nothing can be measured here: redis was left out: .*docker")


class StrategyTest(unittest.TestCase):
    def test_every_strategy_that_isolates_is_measured(self) -> None:
        self.assertEqual({*ours.isolations(), "none"}, set(Postgres.isolations))
        self.assertEqual(ours.isolations()[0], "database")  # Ratios are to the first of ours.

    def test_every_peer_says_which_packages_it_needs(self) -> None:
        self.assertEqual(
            list(peers.POSTGRES),
            ["create_all + drop_all", "TRUNCATE of all tables", "clone + drop", "pytest-postgresql"],
        )


if __name__ == "__main__":
    unittest.main()
