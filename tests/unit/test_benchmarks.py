# SPDX-License-Identifier: Apache-2.0
"""The plumbing of the benchmarks: that they measure what they say, and what they print. No figure is checked here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from benchmarks import __main__ as command
from benchmarks import crash, ending, isolation, launch, ours, peers, schema, start
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


class LaunchTest(unittest.TestCase):
    """Processes of one test, in place of which there are figures here."""

    def launched(self, service: str, strategy: str, *runs: launch.Moments) -> launch.Contender:
        nothing = launch.Launch("none", {})
        return launch.Contender(service, strategy, nothing, strategy != launch.TUTORIAL, runs=list(runs))

    def setUp(self) -> None:
        moments = launch.Moments
        self.contenders = [
            self.launched("postgres", "warm, docker", moments(0.4, 0.5, 0.6), moments(0.3, 0.4, 0.5)),
            self.launched("postgres", "reuse, docker", moments(0.1, 0.2, 0.3)),
            self.launched("postgres", "testcontainers", moments(3.0, 3.1, 3.3)),
            self.launched("all", "warm, process", moments(1.0, 1.1, 1.3)),
            self.launched("all", "testcontainers", moments(6.0, 6.1, 6.3)),
        ]

    def test_ratios_are_to_the_first_of_a_service(self) -> None:
        rows = launch.rows(self.contenders, {"answer": lambda run: run.answer})
        self.assertEqual(
            [(row.cell[:2], row.strategy, round(row.median), round(row.ratio, 2)) for row in rows],
            [
                (("postgres", "answer"), "warm, docker", 450, 1.0),
                (("postgres", "answer"), "reuse, docker", 200, 0.44),
                (("postgres", "answer"), "testcontainers", 3100, 6.89),
                (("all", "answer"), "warm, process", 1100, 1.0),
                (("all", "answer"), "testcontainers", 6100, 5.55),
            ],
        )

    def test_targets_of_start(self) -> None:
        found = {target.text: target for target in start.targets(self.contenders, {"postgres": [0.05], "all": [0.2]})}
        beyond = found["PostgreSQL, first answer, reuse, docker, beyond the imports of the clients,"]
        self.assertEqual((beyond.verdict, round(beyond.measured or 0)), ("missed", 150))
        faster = found["PostgreSQL, whole process, warm, docker, faster than testcontainers,"]
        self.assertAlmostEqual(faster.measured or 0, 6)
        self.assertEqual(found["PostgreSQL, first answer, warm, docker,"].verdict, "met")
        self.assertEqual(found["all three, first test, warm, docker,"].verdict, "not measured")
        self.assertEqual(found["PostgreSQL, whole process, cold, docker, faster than testcontainers,"].measured, None)

    def test_targets_of_exit(self) -> None:
        found = [(target.text, target.verdict) for target in ending.targets(self.contenders)]
        self.assertEqual(
            found,
            [
                ("PostgreSQL, docker,", "met"),
                ("PostgreSQL, process,", "not measured"),
                ("all three, docker,", "not measured"),
                ("all three, process,", "missed"),
            ],
        )

    def test_the_columns_are_the_headings_that_a_report_has(self) -> None:
        facts = {"cores": 2, "cpu": "cpu", "memory_gb": 1, "python": "3", "engine": "none", "servers": ["PostgreSQL 0"]}
        rows = launch.rows(self.contenders[:1], {"answer": lambda run: run.answer})
        report = Report("start", [], facts, rows, [], headings=("service", "until"))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            show(report)
        self.assertRegex(out.getvalue(), r"postgres   answer   itest warm, docker   2 +450.00")
        self.assertEqual(list(json.loads(report.as_json())["rows"][0])[:4], ["service", "until", "strategy", "ours"])

    def test_contenders_have_an_environment_without_other_settings(self) -> None:
        place = Path("/cache")
        warm = launch.ours("process", place, "warm", "kafka")
        self.assertEqual((warm.strategy, warm.keeps), ("warm, process", {"kafka"}))
        self.assertEqual(launch.ours("docker", place, "warm", "all").keeps, {"postgres"})
        self.assertEqual(launch.ours("docker", place, "cold", "all").keeps, frozenset())
        given = {"ITEST_TIMING": "1", "ITEST_WARM": "0", "ITEST_REDIS_BIN": "/redis", "CI": "1"}
        with mock.patch.dict(os.environ, given):
            config = warm.launch.config
        found = (config.engine, config.warm, config.timing, config.redis_bin, config.require, config.cache_dir)
        self.assertEqual(found, ("process", True, False, "/redis", "0", place))

    def test_what_cannot_be_measured_is_noted(self) -> None:
        notes: list[str] = []
        plan = launch.Plan(services=("redis",), engines=("process",))
        with mock.patch("importlib.util.find_spec", return_value=None):
            found = launch.contenders(plan, {"process": Path("/cache")}, notes)
        self.assertEqual([one.strategy for one in found], ["warm, process", "cold, process", "reuse, process"])
        self.assertEqual(notes[-1], "testcontainers was left out: the package is not installed")

    def test_a_skipped_test_is_not_here_and_a_failed_one_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            Path(place, "one.py").write_text(ONE)
            with mock.patch.object(launch, "ROOT", place):
                with self.assertRaisesRegex(launch.NotHere, "^no server's here$"):
                    launch.Launch("one.SkippedTest", {})()
                with self.assertRaisesRegex(BenchmarkError, r"one\.FailedTest failed \(1\)(.|\n)*it is broken"):
                    launch.Launch("one.FailedTest", {})()


ONE = """
import unittest

class SkippedTest(unittest.TestCase):
    def test_one(self):
        self.skipTest("no server's here")

class FailedTest(unittest.TestCase):
    def test_one(self):
        self.fail("it is broken")
"""


class CrashTest(unittest.TestCase):
    def test_the_same_seed_gives_the_same_kills(self) -> None:
        found = crash.plan(24, ("docker", "process"), 7)
        self.assertEqual(found, crash.plan(24, ("docker", "process"), 7))
        self.assertNotEqual(found, crash.plan(24, ("docker", "process"), 8))
        self.assertEqual(len({(kill.signal, kill.engine, kill.state) for kill in found}), 24)
        self.assertTrue(all(0 <= kill.at < 1 for kill in found))

    def test_what_two_runs_saw_is_counted_once(self) -> None:
        [first, second, third] = crash.plan(3, ("docker",), 7)
        outcomes = [
            crash.Outcome(first, 5.0, ("network a", "volume b")),
            crash.Outcome(second, 5.0, ("network a",)),
            crash.Outcome(third, 0.5),
        ]
        self.assertEqual([target.measured for target in crash.targets(outcomes)], [2, 5.0])
        self.assertEqual([target.verdict for target in crash.targets(outcomes)], ["missed", "met"])
        self.assertRegex(crash.left_by(outcomes)[1], r"^1 \(SIGKILL, docker, cold, at \d+%\): volume b$")
        self.assertEqual([row.strategy for row in crash.rows(outcomes)], ["SIGKILL", "SIGTERM", "SIGINT"])
        self.assertEqual({target.verdict for target in crash.targets([])}, {"not measured"})

    def test_what_other_runs_left_is_not_counted(self) -> None:
        things = [
            "container a (redis:8) of process 12@host",
            "reaper 5",
            "directory /tmp/b of process 13@host",
            "reaper 14",
            "volume c",
        ]
        before = mock.Mock()
        before.check.side_effect = AssertionError("left behind:\n  " + "\n  ".join(things))
        self.assertEqual(crash.remaining(before, {13, 14}), things[2:])
        before.check.side_effect = None
        self.assertEqual(crash.remaining(before, {13, 14}), [])

    def test_every_signal_is_one_that_ends_a_process(self) -> None:
        self.assertEqual({number.name for number in crash.SIGNALS}, {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"})
        self.assertEqual(crash.SIGNALS[0], signal.SIGKILL)


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
        self.assertRegex(out, r"start\s+the time to the first answer")
        self.assertRegex(out, r"exit\s+the time from the last test's end")
        self.assertRegex(out, r"crash\s+what killed runs leave behind")
        self.assertRegex(out, r"overhead\s+what itest itself costs a test")

    def test_overhead_needs_no_server(self) -> None:
        code, out, err = self.call("overhead", "--rounds", "1", "--tests", "30", "--json")
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        parts = {row["strategy"]: row["median"] for row in report["rows"] if row["a class of"] == "3 services"}
        self.assertGreater(parts["the whole"], parts["diagnosis"])
        self.assertGreater(parts["diagnosis"], 0)
        [target] = report["targets"]
        self.assertEqual(target["verdict"], "met")

    def test_what_it_does_not_know_is_named(self) -> None:
        for arguments, message in (
            (("speed",), "invalid choice: 'speed'"),
            (("isolation", "--services", "mysql"), "'mysql' is none of postgres, redis, kafka"),
            (("isolation", "--tables", "-3"), "0 or more"),
            (("start", "--services", "mysql"), "'mysql' is none of postgres, redis, kafka, all"),
            (("crash", "--engines", "podman"), "'podman' is none of docker, process"),
            (("crash", "--kills", "many"), "invalid int value: 'many'"),
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

    def test_arguments_reach_start_exit_and_crash(self) -> None:
        with mock.patch.object(start, "run", side_effect=BenchmarkError("seen")) as run:
            self.call("start", "--engines", "docker", "--rounds", "2", "--no-peers")
        self.assertEqual(run.call_args.args[0], launch.Plan(engines=("docker",), rounds=2, peers=False))
        with mock.patch.object(ending, "run", side_effect=BenchmarkError("seen")) as run:
            self.call("exit")
        self.assertEqual(run.call_args.args[0], launch.Plan(services=("postgres", "all")))
        with mock.patch.object(crash, "run", side_effect=BenchmarkError("seen")) as run:
            self.call("crash", "--kills", "3", "--seed", "5")
        self.assertEqual(run.call_args.args[:3], (3, ("docker", "process"), 5))

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
