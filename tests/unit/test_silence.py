# SPDX-License-Identifier: Apache-2.0
"""The thread that looks after long statements."""

from __future__ import annotations

import os
import threading
import unittest
from unittest import mock

from itest import silence
from itest.clock import Deadline
from itest.silence import Watch


class WatchTest(unittest.TestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch.object(silence, "PATIENCE", 0.05))
        self.enterContext(mock.patch.object(silence, "TICK", 0.01))
        self.asked = threading.Event()
        self.hung_up = threading.Event()
        self.answer = True
        self.seconds = 0.0
        self.watch = Watch(self.answers, self.hang_up)
        self.addCleanup(self.watch.close)

    def answers(self) -> bool:
        self.asked.set()
        return self.answer

    def hang_up(self, seconds: float) -> None:
        self.seconds = seconds
        self.hung_up.set()

    def test_a_long_statement_of_a_server_that_answers_goes_on(self) -> None:
        with self.watch:
            for _ in range(2):
                self.assertTrue(self.asked.wait(10))
                self.asked.clear()
        self.assertFalse(self.hung_up.is_set())

    def test_one_of_a_silent_server_is_ended(self) -> None:
        self.answer = False
        with self.watch:
            self.assertTrue(self.hung_up.wait(10))
        self.assertGreaterEqual(self.seconds, 0.05)

    def test_short_ones_are_not_looked_at(self) -> None:
        longest, enough = 0.0, Deadline.after(2 * silence.PATIENCE)
        while not enough.passed:
            statement = Deadline.after(silence.PATIENCE)
            with self.watch:
                pass
            longest = max(longest, statement.elapsed)
        # This machine may have been busy with something else during one of them, which then was no short one.
        self.assertFalse(self.asked.is_set() and longest < silence.PATIENCE)

    def test_a_thread_that_was_asking_when_it_was_to_end_ends_then(self) -> None:
        asking, go_on = threading.Event(), threading.Event()

        def answers() -> bool:
            asking.set()
            return go_on.wait(10)

        watch = Watch(answers, self.hang_up)
        self.addCleanup(watch.close)
        with watch:
            self.assertTrue(asking.wait(10))
            first = watch._thread
            watch.close()
        with watch:
            go_on.set()
            assert first is not None
            first.join(10)
            self.assertFalse(first.is_alive())

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_there_is_no_thread_where_the_process_forks(self) -> None:
        def threads() -> int:
            """Those of this kind; others come and go."""
            return sum(each.name == "itest-silence" for each in threading.enumerate())

        before = threads()
        with self.watch:
            self.assertEqual(threads(), before + 1)
        if (child := os.fork()) == 0:
            os._exit(threads())
        self.assertEqual(threads(), 0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        with self.watch:
            self.assertEqual(threads(), 1)
