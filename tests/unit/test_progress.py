# SPDX-License-Identifier: Apache-2.0
"""What people see of steps that take long: on a terminal that is emulated, in a file, and under CI."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from itest import trace
from itest.clock import SYSTEM, Deadline
from itest.report import progress
from itest.report.progress import Board
from itest.testing import ManualClock
from itest.trace import Recorder

try:
    import pyte
except ImportError:
    pyte = None


class ProgressTest(unittest.TestCase):
    """Time passes by `self.clock`; `self.board.look()` is what the thread does."""

    ci = False
    terminal = False

    def setUp(self) -> None:
        self.stream = self.enterContext(mock.patch.object(sys, "__stderr__", io.StringIO()))
        self.stream.isatty = lambda: self.terminal
        self.enterContext(mock.patch.dict("os.environ", {"TERM": "xterm-256color"}))
        self.enterContext(mock.patch.object(Board, "_watch"))  # No thread looks here.
        self.addCleanup(setattr, trace, "drawn", False)
        self.clock = ManualClock()
        self.recorder = Recorder(self.clock)
        self.board = Board(self.clock, ci=self.ci)
        self.board.listen(self.recorder)

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.board.look()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


class FileTest(ProgressTest):
    def test_nothing_is_said_of_what_is_quick(self) -> None:
        for name in progress.STEPS:
            with self.recorder.span(name, "postgres"):
                self.pass_time(1.9)
        self.assertEqual(self.lines, [])

    def test_what_it_is_how_long_and_how_far(self) -> None:
        why = ", which is not on the Docker host"
        with self.recorder.span("pull", "postgres", image="postgres:17", why=why) as span:
            span.amount = "3 of 140 MB"
            self.pass_time(2)
            span.amount = "90 of 140 MB"
            self.pass_time(27)
            self.pass_time(1)
            self.pass_time(1)
        self.assertEqual(
            self.lines,
            [
                "itest: pulling postgres:17, which is not on the Docker host (2 s so far, 3 of 140 MB)",
                "itest: still pulling postgres:17 (30 s so far, 90 of 140 MB)",
                "itest: postgres:17 pulled, after 31.0 s",
            ],
        )

    def test_a_start_is_announced_by_the_session(self) -> None:
        with self.recorder.span("start", "kafka"):
            self.pass_time(3)
        self.assertEqual(self.lines, ["itest: starting kafka (3 s so far)"])

    def test_what_fails_and_is_tried_again_is_no_failure(self) -> None:
        with self.assertRaises(KeyError), self.recorder.span("start", "postgres") as span:
            self.pass_time(2)
            span.again = True
            raise KeyError
        self.assertEqual(self.lines, ["itest: starting postgres (2 s so far)"])

    def test_what_fails(self) -> None:
        with self.assertRaises(OSError), self.recorder.span("start", "web"), self.recorder.span("build", "web") as span:
            span.amount = "step 3/7"
            self.pass_time(4)
            raise OSError
        self.assertEqual(
            self.lines,
            ["itest: building web (4 s so far, step 3/7)", "itest: web could not be built, after 4.0 s, at step 3/7"],
        )

    def test_what_has_a_part_that_goes_on_is_not_told_itself(self) -> None:
        with self.recorder.span("start", "web"):
            with self.recorder.span("pull", "web"):
                self.pass_time(5)
            self.pass_time(1.9)
            self.assertEqual(len(self.lines), 2)
            self.pass_time(0.1)
        self.assertEqual(self.lines[2:], ["itest: starting web (2 s so far)"])

    def test_what_is_quick_within_something_slow_is_no_concern(self) -> None:
        with self.recorder.span("start", "web"):
            for _ in range(5):
                with self.recorder.span("ready", "web"), self.recorder.span("reset", "web"):
                    self.pass_time(0.5)
        self.assertEqual(self.lines, ["itest: starting web (2 s so far)"])

    def test_without_a_standard_error(self) -> None:
        with mock.patch.object(sys, "__stderr__", None), self.recorder.span("start", "web"):
            self.pass_time(9)


class QuietTest(ProgressTest):
    ci = True

    def test_nothing_of_what_goes_well(self) -> None:
        with self.recorder.span("pull", "web"):
            self.pass_time(59)
        self.assertEqual(self.lines, [])

    def test_a_line_each_minute_of_what_takes_minutes(self) -> None:
        with self.recorder.span("migrate", "postgres"):
            for _ in range(7):
                self.pass_time(30)
        self.assertEqual(
            self.lines,
            [
                *(f"itest: still migrating postgres ({seconds} s so far)" for seconds in (60, 120, 180)),
                "itest: postgres migrated, after 210.0 s",
            ],
        )

    def test_what_went_on_when_it_failed(self) -> None:
        with (
            contextlib.suppress(OSError),
            self.recorder.span("start", "web"),
            self.recorder.span("pull", "web", image="web:2") as span,
        ):
            span.amount = "12 of 40 MB"
            self.pass_time(50)
            raise OSError
        self.assertEqual(self.lines, ["itest: web:2 could not be pulled, after 50.0 s, at 12 of 40 MB"])

    def test_nothing_of_what_fails_at_once(self) -> None:
        with contextlib.suppress(OSError), self.recorder.span("start", "web"):
            raise OSError
        self.assertEqual(self.lines, [])


@unittest.skipUnless(pyte, "needs the package pyte, a terminal to look at")
class TerminalTest(ProgressTest):
    terminal = True

    def screen(self, columns: int = 78) -> list[str]:
        """What a terminal of that width shows, without the empty lines."""
        screen = pyte.Screen(columns, 10)
        pyte.Stream(screen).feed(self.stream.getvalue().replace("\n", "\r\n"))
        return [line.rstrip() for line in screen.display if line.strip()]

    def test_a_line_with_a_bar_that_is_redrawn_and_goes(self) -> None:
        with self.recorder.span("pull", "postgres", image="postgres:17") as span:
            span.amount, span.share = "35 of 140 MB", 0.25
            self.pass_time(1)
            self.assertEqual(self.screen(), [])
            self.pass_time(1)
            self.assertEqual(self.screen(), [" itest: pulling postgres:17 ━━━━━╺━━━━━━━━━━━━━━ 35 of 140 MB, 2 s"])
            span.amount, span.share = "140 of 140 MB", 1.0
            self.pass_time(4)
            self.assertEqual(self.screen(), [" itest: pulling postgres:17 ━━━━━━━━━━━━━━━━━━━━ 140 of 140 MB, 6 s"])
        self.assertEqual(self.screen(), ["itest: postgres:17 pulled, after 6.0 s"])

    def test_several_at_once_share_the_line(self) -> None:
        with self.recorder.span("start", "kafka"):
            self.clock.sleep(1)
            other = threading.Thread(target=self._pull)
            other.start()
            other.join()
        self.assertEqual(self.seen, [" itest: starting kafka 5 s │ pulling web 4 MB, 4 s"])
        self.assertEqual(self.screen(), ["itest: web pulled, after 4.0 s"])

    def _pull(self) -> None:
        with self.recorder.span("pull", "web") as span:
            span.amount = "4 MB"
            self.pass_time(4)
            self.seen = self.screen()

    def test_what_stands_on_the_line_already_stays(self) -> None:
        self.stream.write("..F")
        with self.recorder.span("start", "kafka"):
            self.pass_time(3)
            self.assertEqual(self.screen(), ["..F itest: starting kafka 3 s"])
            self.stream.write(".")
            self.pass_time(1)
            self.assertEqual(self.screen(), ["..F. itest: starting kafka 4 s"])
            trace.say("something else")
            self.pass_time(1)
            self.assertEqual(self.screen(), ["..F.itest: something else", " itest: starting kafka 5 s"])
        self.assertEqual(self.screen(), ["..F.itest: something else"])

    def test_a_terminal_that_cannot_redraw_has_lines(self) -> None:
        Board(self.clock, dumb=True).listen(recorder := Recorder(self.clock))
        board: Any = recorder.begun[0].__self__  # type: ignore[attr-defined]  # a bound method
        with recorder.span("start", "kafka"):
            self.clock.sleep(3)
            board.look()
        self.assertEqual(self.lines, ["itest: starting kafka (3 s so far)"])

    def test_where_a_line_cannot_be_drawn_there_are_lines(self) -> None:
        with (
            mock.patch.object(Board, "_line", side_effect=ModuleNotFoundError("No module named 'rich.table'")),
            self.recorder.span("start", "kafka"),
        ):
            self.pass_time(2)
            self.pass_time(0)
        self.assertEqual(self.screen(), ["itest: starting kafka (2 s so far)"])

    def test_a_line_too_long_is_cut_and_never_wraps(self) -> None:
        with self.recorder.span("pull", "web", image="registry.example.com/a/very/long/name:1"):
            for _ in range(3):
                self.pass_time(2)
            [line] = self.screen(columns=30)
        self.assertTrue(line.startswith(" itest: pulling registry.exam"), line)


class ThreadTest(unittest.TestCase):
    def threads(self) -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "itest-progress"]

    def test_a_thread_looks_on_while_something_goes_on_and_no_longer(self) -> None:
        recorder = Recorder()
        Board().listen(recorder)
        with mock.patch.object(sys, "__stderr__", io.StringIO()) as stream, mock.patch.object(progress, "SILENT", 0.01):
            for _ in range(3):
                with recorder.span("start", "one"), recorder.span("pull", "one"):
                    self.assertEqual(self.threads(), ["itest-progress"])
                    seen, deadline = len(stream.getvalue()), Deadline.after(10)
                    while len(stream.getvalue()) == seen and not deadline.passed:
                        SYSTEM.sleep(0.005)
                deadline = Deadline.after(10)
                while self.threads() and not deadline.passed:
                    SYSTEM.sleep(0.001)
                self.assertEqual(self.threads(), [])
        self.assertEqual(stream.getvalue().count("pulling one"), 3)

    def test_none_for_what_is_never_told(self) -> None:
        recorder = Recorder()
        Board().listen(recorder)
        with recorder.span("reset", "one"):
            self.assertEqual(self.threads(), [])
