# SPDX-License-Identifier: Apache-2.0
"""Clocks and deadlines."""

from __future__ import annotations

import math
import runpy
import select
import socket
import sys
import time
import unittest
from unittest import mock

from itest import clock
from itest.clock import LONGEST, SYSTEM, Deadline, ready
from itest.testing import ManualClock


class DeadlineTest(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = ManualClock()
        self.deadline = Deadline.after(30, self.clock)

    def test_it_counts_from_the_moment_it_is_set(self) -> None:
        self.clock.sleep(12)
        self.assertEqual((self.deadline.elapsed, self.deadline.remaining, self.deadline.passed), (12, 18, False))

    def test_it_has_passed_at_its_moment_and_never_has_less_than_nothing_left(self) -> None:
        self.clock.sleep(30)
        self.assertTrue(self.deadline.passed)
        self.clock.sleep(5)
        self.assertEqual((self.deadline.elapsed, self.deadline.remaining), (35, 0))

    def test_what_is_no_number_of_seconds(self) -> None:
        for wrong in (None, "5", True, math.nan, math.inf):
            with self.assertRaises(TypeError) as caught:
                Deadline.after(wrong)  # type: ignore[arg-type]  # wrong on purpose
            said = f"timeout={wrong!r}: a wait takes a number of seconds, at most 2000000"
            self.assertEqual(str(caught.exception), said)
        for seconds in (0, -1, LONGEST):
            self.assertEqual(Deadline.after(seconds, self.clock).seconds, seconds)

    def test_it_can_begin_anew(self) -> None:
        self.clock.sleep(40)
        self.deadline.begin_anew()
        self.assertEqual((self.deadline.elapsed, self.deadline.remaining), (0, 30))

    def test_a_pause_does_not_go_past_it(self) -> None:
        self.deadline.pause(20)
        self.deadline.pause(20)
        self.deadline.pause(20)
        self.assertEqual(self.clock.slept, [20, 10, 0])


class ReadyTest(unittest.TestCase):
    def test_it_is_seen_where_select_has_no_poll_too(self) -> None:
        """eventlet.monkey_patch() takes it away."""
        for takes_away in (False, True):
            with self.subTest(takes_away), mock.patch.object(select, "poll", select.poll):
                if takes_away:
                    del select.poll
                one, other = socket.socketpair()
                with one, other:
                    self.assertFalse(ready(one, 0))
                    self.assertFalse(ready(one, 0.01))
                    self.assertTrue(ready(one, 0, to_write=True))
                    other.send(b"x")
                    self.assertTrue(ready(one, 60))
                    one.recv(1)
                    other.close()
                    self.assertTrue(ready(one, 0))


class SystemClockTest(unittest.TestCase):
    def test_it_goes_on_where_a_test_has_stopped_time(self) -> None:
        with mock.patch("time.monotonic", return_value=1.0), mock.patch("time.time", return_value=1.0):
            with mock.patch("time.sleep"):
                deadline = Deadline.after(0.01)
                deadline.pause(1.0)
            self.assertTrue(deadline.passed)
            self.assertGreater(clock.wall(), 1.7e9)

    def test_it_goes_on_where_freezegun_had_stopped_time_before_it_was_imported(self) -> None:
        freezegun = mock.Mock(real_perf_counter=time.perf_counter, real_time=time.time)
        with (
            mock.patch.dict(sys.modules, {"freezegun.api": freezegun}),
            mock.patch("time.perf_counter", return_value=1.0),
            mock.patch("time.time", return_value=1.0),
        ):
            namespace = runpy.run_path(clock.__file__)
            self.assertNotEqual(namespace["SYSTEM"].monotonic(), 1.0)
            self.assertGreater(namespace["wall"](), 1.7e9)

    def test_it_is_another_one_than_time_machine_changes_in_place(self) -> None:
        self.assertIsNot(SYSTEM.monotonic, time.monotonic)
        with mock.patch.object(clock.SystemClock, "monotonic", return_value=time.monotonic() + 3600):
            self.assertFalse(clock.is_real_for("kafka"))
        self.assertTrue(clock.is_real_for("kafka"))

    def test_it_is_known_who_has_another_one(self) -> None:
        self.assertTrue(clock.is_real_for("kafka"))
        for stopped in (1.0, mock.Mock()):
            with mock.patch("time.monotonic", return_value=stopped):
                self.assertFalse(clock.is_real_for("kafka"))

        def as_freezegun_does() -> float:
            asking = sys._getframe(1).f_globals["__name__"]
            return SYSTEM.monotonic() if asking.startswith("kafka") else 1.0

        with mock.patch("time.monotonic", as_freezegun_does):
            self.assertTrue(clock.is_real_for("kafka"))
            self.assertFalse(clock.is_real_for("redis"))

    def test_it_is_what_a_deadline_uses_by_default(self) -> None:
        self.assertIs(Deadline.after(1).clock, SYSTEM)
