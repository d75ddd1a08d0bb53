# SPDX-License-Identifier: Apache-2.0
"""The timing table, on made-up spans."""

from __future__ import annotations

import io
import re
import unittest
from unittest import mock

from itest.report import costs, text
from itest.trace import Span


def span(name: str, subject: str, started: float, ended: float | None, failed: bool = False, **facts: str) -> Span:
    return Span(name, subject, started, ended, facts, failed=failed)


RUN = [
    # Two services side by side; PostgreSQL takes 3 s, 2 of them in parts.
    span("start", "postgres", 10.0, 13.0),
    span("pull", "postgres", 10.0, 11.0),
    span("prepare", "postgres", 11.0, 11.5),
    span("ready", "postgres", 12.5, 13.0),
    span("start", "redis", 10.0, 10.25),
    span("ready", "redis", 10.125, 10.25),
    # One second of test between the resets.
    span("reset", "postgres", 14.0, 14.001),
    span("reset", "postgres", 14.5, 14.502),
    span("reset", "postgres", 15.0, 15.006),
    span("reset", "redis", 15.5, 15.5005),
    span("stop", "postgres", 16.0, 16.5),
    span("stop", "redis", 16.0, 16.125),
]


class Stream(io.StringIO):
    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def printed(spans: list[Span], terminal: bool = False) -> str:
    stream = Stream(terminal)
    with mock.patch("sys.__stderr__", stream):
        text.print_timing(spans)
    return stream.getvalue()


class CostsTest(unittest.TestCase):
    def test_total_counts_no_part_of_a_start_twice(self) -> None:
        postgres, redis = costs.services(RUN)

        self.assertAlmostEqual(postgres.total, 3.0 + 0.009 + 0.5)
        self.assertAlmostEqual(redis.total, 0.25 + 0.0005 + 0.125)

    def test_the_costliest_service_comes_first(self) -> None:
        self.assertEqual([row.name for row in costs.services(RUN[::-1])], ["postgres", "redis"])

    def test_each_server_of_a_service_is_counted(self) -> None:
        [row] = costs.services([span("start", "redis", 0, 1), span("start", "redis", 5, 7)])

        self.assertEqual((row.label, row.total), ("redis x 2", 3.0))

    def test_failures_are_told(self) -> None:
        [row] = costs.services([span("ready", "redis", 0, 1, failed=True), span("start", "redis", 0, 1, failed=True)])

        self.assertEqual(row.label, "redis (1 failed)")

    def test_a_step_still_going_on_costs_nothing_yet(self) -> None:
        [row] = costs.services([span("start", "redis", 0, 1), span("stop", "redis", 5, None)])

        self.assertEqual(row.total, 1.0)

    def test_steps_of_other_names_make_no_row(self) -> None:
        self.assertEqual(costs.services([span("discover", "tests", 0, 1)]), [])

    def test_the_cheapest_are_put_together_where_there_are_too_many(self) -> None:
        rows = costs.services([span("start", f"service{number}", 0, number) for number in range(1, 10)])

        self.assertEqual(
            [row.label for row in rows], ["service9", "service8", "service7", "service6", "service5", "4 others"]
        )
        self.assertEqual(rows[-1].total, 1 + 2 + 3 + 4)


class ClassCostsTest(unittest.TestCase):
    def test_what_was_done_for_a_class(self) -> None:
        setup = span("setup", "shop.tests.OrderTest", 0, 2)
        lease = span("lease", "postgres", 1, 2)
        migrate = span("migrate", "postgres", 1, 1.5)
        lease.parent, migrate.parent = setup, lease
        tests = [
            span("test", "shop.tests.OrderTest.test_a", 3, 4, owner="shop.tests.OrderTest"),
            span("test", "shop.tests.OrderTest.test_b", 4, 4.5, failed=True, owner="shop.tests.OrderTest"),
        ]
        reset = span("reset", "postgres", 2, 2.25, test="shop.tests.OrderTest.test_a")
        [row] = costs.classes([setup, lease, migrate, *tests, reset])

        self.assertEqual((row.name, row.tests, row.failed), ("shop.tests.OrderTest", 2, 1))
        self.assertEqual(row.steps, {"setup": 2, "migrate": 0.5, "test": 1.5, "reset": 0.25})
        self.assertEqual(row.total, 3.75)

    def test_what_is_nobodys_has_no_row(self) -> None:
        self.assertEqual(costs.classes([span("reset", "redis", 0, 1), span("start", "redis", 0, 1)]), [])


class SavingsTest(unittest.TestCase):
    def lines(self, *spans: Span) -> list[str]:
        return text.saving_lines(costs.savings(spans))

    def test_a_start_that_began_with_nothing_has_saved_nothing(self) -> None:
        self.assertEqual(self.lines(span("start", "postgres", 0, 1, server="1")), [])

    def test_the_start_and_the_templates_that_were_there(self) -> None:
        start = span("start", "postgres", 0, 0.5, server="1", kept="yes", cold="1.25")
        found = span("found", "postgres", 1, 1, server="1", template="t", cold="2.0")
        other = span("found", "postgres", 1, 1, server="2", template="u", cold="9.0")
        self.assertEqual(
            self.lines(start, found, found, other),
            [
                "postgres: 0.50 s from its kept state, 3.25 s when there was none (1 template database included): 2.75 s saved"
            ],
        )

    def test_a_start_that_was_no_faster(self) -> None:
        self.assertEqual(
            self.lines(span("start", "postgres", 0, 0.5, server="1", kept="yes", cold="0.25")),
            ["postgres: 0.50 s from its kept state, 0.25 s when there was none: nothing saved"],
        )

    def test_a_state_of_which_that_was_never_measured(self) -> None:
        self.assertEqual(
            self.lines(span("start", "postgres", 0, 0.5, server="1", kept="yes")),
            [
                "postgres: 0.50 s from its kept state; what that saved is not known, as it was not measured when that was kept"
            ],
        )


class ClosingLineTest(unittest.TestCase):
    def test_time_spent_side_by_side_counts_once(self) -> None:
        self.assertEqual(
            text.closing_line(RUN), "side by side that took 3.51 s of a run of 6.50 s; the tests themselves 2.99 s"
        )

    def test_tests_are_not_what_is_waited_for(self) -> None:
        spans = [span("setup", "T", 0, 2), span("start", "redis", 0, 1), span("test", "T.test", 2, 2.5)]
        self.assertEqual(
            text.closing_line(spans), "side by side that took 1.00 s of a run of 2.50 s; the tests themselves 0.50 s"
        )

    def test_nothing_finished(self) -> None:
        self.assertEqual(text.closing_line([span("start", "redis", 0, None)]), "nothing was finished")


class PrintTimingTest(unittest.TestCase):
    maxDiff = None

    def test_table(self) -> None:
        self.assertEqual(
            printed(RUN).splitlines(),
            [
                "",
                "itest: where the time went, in seconds (in start: pull, prepare, ready)",
                "service   start  pull  prepare  ready  resets  median  reset  stop   sum",
                "─" * 72,
                "postgres   3.00  1.00     0.50   0.50       3  2.0 ms   0.01  0.50  3.51",
                "redis      0.25     -        -   0.12       1  0.5 ms   0.00  0.12  0.38",
                "─" * 72,
                "sum        3.25  1.00     0.50   0.62       4  1.5 ms   0.01  0.62  3.88",
                "side by side that took 3.51 s of a run of 6.50 s; the tests themselves 2.99 s",
            ],
        )

    def test_the_classes_have_a_table_too(self) -> None:
        owner = "shop.tests.integration.orders.test_order_repository.OrderTest"
        lines = printed(
            [
                span("start", "postgres", 0, 1, server="1"),
                span("setup", owner, 0, 1.5),
                span("migrate", "postgres", 1, 1.25, owner=owner),
                span("reset", "postgres", 1.5, 1.501, test=f"{owner}.test_a"),
                span("test", f"{owner}.test_a", 2, 3, owner=owner),
                span("test", f"{owner}.test_b", 3, 4, failed=True, owner=owner),
                span("stop", "postgres", 4, 4.25),
            ]
        ).splitlines()
        self.assertEqual(
            lines,
            [
                "",
                "itest: where the time went, in seconds (in lease: migrate)",
                "service   start  migrate  resets  median  reset  stop   sum",
                "─" * 59,
                "postgres   1.00     0.25       1  1.0 ms   0.00  0.25  1.25",
                "─" * 59,
                "sum        1.00     0.25       1  1.0 ms   0.00  0.25  1.25",
                "class                                       set-up  migrate  resets  median  tests  in tests   sum",
                "─" * 98,
                "…est_order_repository.OrderTest (1 failed)    1.50     0.25       1  1.0 ms      2      2.00  3.50",
                "─" * 98,
                "sum                                           1.50     0.25       1  1.0 ms      2      2.00  3.50",
                "side by side that took 1.50 s of a run of 4.25 s; the tests themselves 2.00 s",
            ],
        )

    def test_columns_that_nobody_needs_are_left_out(self) -> None:
        header = printed([span("start", "redis", 0, 1), span("stop", "redis", 2, 3)]).splitlines()[2]

        self.assertEqual(header.split(), ["service", "start", "stop", "sum"])

    def test_never_more_than_twelve_lines_with_all_numbers_whole(self) -> None:
        lines = printed([span(name, f"service{n}", 0, n * 7) for n in range(40) for name in costs.WHOLE + costs.PARTS])

        self.assertLessEqual(len(lines.strip().splitlines()), 12)
        self.assertEqual(len(set(map(len, lines.splitlines()[2:-1]))), 1)
        self.assertRegex(lines, r"(?m)^sum +5460\.00 .* 27300\.00$")

    def test_in_a_narrow_terminal_names_are_cut_and_numbers_stay_whole(self) -> None:
        owner = "shop.tests.integration.orders.test_order_repository.OrderTest"
        spans = [
            *RUN,
            span("setup", owner, 10, 13),
            span("migrate", "postgres", 13, 13.25, owner=owner),
            span("test", f"{owner}.test_a", 13.5, 14, owner=owner),
        ]
        for width, name in (
            (80, "….orders.test_order_repository.OrderTest"),
            (60, "…epository.OrderTest"),
            (40, "…epository.OrderTest"),
        ):
            with self.subTest(width), mock.patch.dict("os.environ", {"COLUMNS": f"{width}", "TERM": "xterm"}):
                lines = re.sub("\x1b\\[[0-9;]*m", "", printed(spans, terminal=True)).splitlines()
                heading = next(number for number, line in enumerate(lines) if line.startswith("class "))
                self.assertEqual(lines[heading].split(), ["class", "set-up", "migrate", "tests", "in", "tests", "sum"])
                self.assertEqual(lines[heading + 2].split(), [name, "3.00", "0.25", "1", "0.50", "3.50"])
                self.assertIn(
                    "postgres   3.00  1.00     0.50   0.50     0.25       3  2.0 ms   0.01  0.50  3.51", lines
                )

    def test_colours_are_for_terminals_only(self) -> None:
        with mock.patch.dict("os.environ", {"TERM": "xterm-256color", "FORCE_COLOR": "1"}):
            self.assertIn("\x1b[", printed(RUN, terminal=True))
            self.assertNotIn("\x1b[", printed(RUN))

    def test_silent_when_nothing_was_started(self) -> None:
        self.assertEqual(printed([]), "")

    def test_silent_without_a_standard_error(self) -> None:
        with mock.patch("sys.__stderr__", None):
            text.print_timing(RUN)
        closed = Stream()
        closed.close()
        with mock.patch("sys.__stderr__", closed):
            text.print_timing(RUN)


if __name__ == "__main__":
    unittest.main()
