# SPDX-License-Identifier: Apache-2.0
"""Tests as spans: their outcomes as the result is told of them, and durations for unittest."""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase
from itest.report import durations
from itest.report.outcomes import Watch
from itest.testing import MemoryEngine
from itest.trace import Recorder, Span
from tests.unit.inner import InnerTest, MemoryMixin
from tests.unit.inner import run as run_inner


class Inner:
    """Out of the loader's sight."""

    class Cases(unittest.TestCase):
        def test_1_passes(self) -> None:
            pass

        def test_2_fails(self) -> None:
            try:
                self.assertEqual(1, 2)
            except AssertionError as error:
                error.add_note("postgres: the last statements\n  | SELECT 1")
                raise

        def test_3_errs(self) -> None:
            raise OSError("no space")

        @unittest.skip("not today")
        def test_4_is_skipped(self) -> None:
            pass

        @unittest.expectedFailure
        def test_5_fails_as_expected(self) -> None:
            self.fail()

        @unittest.expectedFailure
        def test_6_passes_unexpectedly(self) -> None:
            pass

        def test_7_has_parts(self) -> None:
            for number in (1, 2, 3):
                with self.subTest(number=number):
                    self.assertEqual(number, 2)

        def test_8_has_a_part_that_is_skipped(self) -> None:
            with self.subTest(number=1):
                self.skipTest("not this one")

    class Broken(unittest.TestCase):
        @classmethod
        def setUpClass(cls) -> None:
            raise OSError("no server")

        def test_never(self) -> None:
            pass


def watched(*cases: type[unittest.TestCase], result: Any = None) -> list[Span]:
    recorder = Recorder()
    result = unittest.TestResult() if result is None else result
    Watch(result, recorder)
    load = unittest.TestLoader().loadTestsFromTestCase
    unittest.TestSuite(map(load, cases)).run(result)
    return recorder.spans


class WatchTest(unittest.TestCase):
    def test_each_outcome(self) -> None:
        spans = watched(Inner.Cases)
        owner = f"{__name__}.Inner.Cases"
        self.assertEqual(
            [(span.subject.rpartition(".")[2], span.facts["outcome"], span.failed) for span in spans],
            [
                ("test_1_passes", "passed", False),
                ("test_2_fails", "failed", True),
                ("test_3_errs", "error", True),
                ("test_4_is_skipped", "skipped", False),
                ("test_5_fails_as_expected", "expected failure", False),
                ("test_6_passes_unexpectedly", "unexpected success", True),
                ("test_7_has_parts", "failed", True),
                ("test_8_has_a_part_that_is_skipped", "skipped", False),
            ],
        )
        self.assertEqual({span.facts["owner"] for span in spans}, {owner})
        self.assertTrue(all(span.ended for span in spans))

    def test_the_text_is_the_runners_with_its_notes(self) -> None:
        spans = watched(Inner.Cases)
        text = spans[1].facts["text"]
        self.assertTrue(text.startswith("Traceback (most recent call last):\n"), text)
        self.assertNotIn("unittest/case.py", text)
        self.assertTrue(text.endswith("AssertionError: 1 != 2\npostgres: the last statements\n  | SELECT 1\n"), text)
        self.assertEqual(spans[3].facts["text"], "not today")
        self.assertRegex(
            spans[6].facts["text"], r"(?s)^\(number=1\)\nTraceback.*1 != 2\n\n\(number=3\)\nTraceback.*3 != 2\n"
        )

    def test_a_result_that_keeps_no_texts(self) -> None:
        class Other(unittest.TestResult):
            def addFailure(self, test: Any, err: Any) -> None:
                pass

            addError = addFailure

        spans = watched(Inner.Cases, result=Other())
        self.assertTrue(
            spans[1].facts["text"].endswith("AssertionError: 1 != 2\npostgres: the last statements\n  | SELECT 1\n")
        )
        self.assertNotIn("unittest/case.py", spans[2].facts["text"])

    def test_what_ctrl_c_has_ended_has_not_passed(self) -> None:
        class T(unittest.TestCase):
            def test(self) -> None:
                raise KeyboardInterrupt

        recorder, result = Recorder(), unittest.TestResult()
        Watch(result, recorder)
        with self.assertRaises(KeyboardInterrupt):
            T("test").run(result)
        [span] = recorder.spans
        self.assertNotIn("outcome", span.facts)

    def test_a_skipped_part_as_pytest_tells_it(self) -> None:
        recorder, result = Recorder(), unittest.TestResult()
        with mock.patch.object(result, "addSubTest"):
            Watch(result, recorder)
            test = Inner.Cases("test_1_passes")
            result.startTest(test)
            result.addSubTest(test, test, mock.Mock(name="ExceptionInfo"))
            result.addSuccess(test)
        self.assertEqual(recorder.spans[0].facts["outcome"], "passed")

    def test_a_class_that_cannot_be_set_up_where_no_texts_are_kept(self) -> None:
        class Other(unittest.TestResult):
            def addError(self, test: Any, err: Any) -> None:
                pass

        [span] = watched(Inner.Broken, result=Other())
        self.assertTrue(span.facts["text"].startswith("Traceback (most recent call last):\n"), span.facts["text"])

    def test_a_class_that_cannot_be_set_up(self) -> None:
        [span] = watched(Inner.Broken)
        self.assertEqual(span.subject, f"setUpClass ({__name__}.Inner.Broken)")
        self.assertEqual((span.facts["owner"], span.facts["outcome"]), (f"{__name__}.Inner.Broken", "error"))
        self.assertIn("OSError: no server", span.facts["text"])

    def test_the_result_says_what_it_would_say_anyway(self) -> None:
        plain, result = unittest.TestResult(), unittest.TestResult()
        unittest.TestLoader().loadTestsFromTestCase(Inner.Cases).run(plain)
        watched(Inner.Cases, result=result)
        self.assertEqual(repr(result), repr(plain))
        self.assertEqual([text for _, text in result.failures], [text for _, text in plain.failures])

    def test_a_test_costs_little(self) -> None:
        recorder, result = Recorder(), unittest.TestResult()
        plain, test = unittest.TestResult(), Inner.Cases("test_1_passes")
        Watch(result, recorder)

        def microseconds(result: unittest.TestResult) -> float:
            begun = time.process_time()  # Of this process alone: others may have the machine meanwhile.
            for _ in range(200):
                result.startTest(test)
                result.addSuccess(test)
                result.stopTest(test)
            return (time.process_time() - begun) / 200 * 1e6

        costs = [microseconds(result) - microseconds(plain) for _ in range(50)]
        # Measured: 3 us on a quiet machine; on a busy one the same takes longer.
        self.assertLess(statistics.quantiles(costs, n=4)[0], 20)


class SessionTest(InnerTest):
    def inner(self) -> type[unittest.TestCase]:
        class T(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def test_a(self) -> None:
                pass

        return T

    def recorded(self) -> list[str]:
        return [span.facts["outcome"] for span in self.session.trace.spans if span.name == "test"]

    def test_tests_are_recorded_for_the_timing_table(self) -> None:
        self.use(self.engine, timing=True)
        with mock.patch("sys.__stderr__", io.StringIO()) as stream:
            run_inner(self.inner())
        self.assertEqual(self.recorded(), ["passed"])
        self.assertIn("in tests", stream.getvalue())

    def test_a_table_that_cannot_be_shown_costs_the_run_nothing(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        other = Path(place, "rich", "__init__.py")
        other.parent.mkdir()
        other.touch()
        self.enterContext(mock.patch.object(sys, "path", [place, *sys.path]))
        self.enterContext(mock.patch.dict(sys.modules))
        for module in [module for module in sys.modules if module.partition(".")[0] == "rich"]:
            del sys.modules[module]
        for reason in (
            f"a table needs the package 'rich', but Python finds another one .* first, {other}: ",
            "broken$",
        ):
            self.use(MemoryEngine(), timing=True)
            with self.subTest(reason), mock.patch("sys.__stderr__", io.StringIO()) as stream:
                self.check(run_inner(self.inner()), ran=1)
                self.assertRegex(stream.getvalue(), f"(?m)^itest: could not show where the time went: {reason}")
            self.enterContext(mock.patch("itest.report.text.plain_console", side_effect=LookupError("broken")))

    def test_and_else_the_result_is_left_alone(self) -> None:
        result = unittest.TestResult()
        run_inner(self.inner(), result=result)
        self.assertEqual(self.recorded(), [])
        self.assertNotIn("startTest", vars(result))

    @unittest.skipUnless(
        hasattr(unittest.TestResult(), "collectedDurations"), "Python 3.12 and later collect durations"
    )
    def test_durations_of_what_was_done_for_the_tests(self) -> None:
        result: Any = unittest.TestResult()
        run_inner(self.inner(), result=result)
        labels = [label for label, _ in result.collectedDurations if label.startswith("itest")]
        self.assertEqual(
            labels, ["itest: start memory (Memory 1)", "itest: stop memory", "itest: reset memory (1 time)"]
        )


class DurationsTest(unittest.TestCase):
    def span(self, name: str, subject: str, seconds: float, parent: Span | None = None, **facts: str) -> Span:
        return Span(name, subject, 1.0, 1.0 + seconds, facts, parent=parent)

    def test_a_line_for_each_step_and_one_for_the_resets_of_a_service(self) -> None:
        start = self.span("start", "postgres", 3.0, version="PostgreSQL 17.6", title="PostgreSQL")
        spans = [
            start,
            self.span("pull", "postgres", 2.0, start, image="postgres:17", why=""),
            self.span("ready", "postgres", 0.5, start),
            self.span("migrate", "postgres", 0.25),
            self.span("reset", "postgres", 0.5),
            self.span("reset", "postgres", 0.25),
            self.span("stop", "postgres", 0.125),
            Span("stop", "redis", 1.0),
        ]
        self.assertEqual(
            durations.lines(spans),
            [
                ("itest: start postgres (PostgreSQL 17.6)", 1.0),
                ("itest: pull postgres (postgres:17)", 2.0),
                ("itest: migrate postgres", 0.25),
                ("itest: stop postgres", 0.125),
                ("itest: reset postgres (2 times)", 0.75),
            ],
        )
