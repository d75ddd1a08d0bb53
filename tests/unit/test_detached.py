# SPDX-License-Identifier: Apache-2.0
"""Processes that may outlive their maker, and waiting for one that would not."""

from __future__ import annotations

import threading
import unittest
from unittest import mock

from itest import detached

WAITING = f"{detached.READ}import signal\nsignal.pause()\n"


class AwaitedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch.object(detached, "_given_up", threading.Event()))

    def test_one_that_begins_to_be_waited_for_a_moment_after_ctrl_c_is_killed(self) -> None:
        process = detached.start(WAITING)
        detached.kill_awaited()
        with self.assertRaises(OSError) as raised:
            detached.complete(process, b"{}", 10.0)
        self.assertNotIsInstance(raised.exception, TimeoutError)
        self.assertEqual(detached._awaited, set())

    def test_one_that_is_done_is_no_error(self) -> None:
        detached.complete(detached.start(detached.READ), b"{}", 60.0)
