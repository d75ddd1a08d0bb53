# SPDX-License-Identifier: Apache-2.0
"""Calls at the same time, and what becomes of them when something goes wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from itest.side_by_side import side_by_side, within


class SideBySideTest(unittest.TestCase):
    def test_in_order_whichever_is_done_first(self) -> None:
        first_may_end = threading.Event()

        def last() -> str:
            first_may_end.set()
            return "last"

        self.assertEqual(side_by_side([lambda: first_may_end.wait(10), last], "test"), [True, "last"])

    def test_none_and_one(self) -> None:
        self.assertEqual(side_by_side([], "test"), [])
        self.assertEqual(side_by_side([threading.current_thread], "test"), [threading.current_thread()])

    def test_an_error_is_its_answer(self) -> None:
        for count in (1, 2):
            found = side_by_side([lambda: 1 // 0] * count, "test")
            self.assertEqual([type(each) for each in found], [ZeroDivisionError] * count)

    def test_where_no_thread_can_be_started(self) -> None:
        threads = [threading.Thread, RuntimeError("can't create new thread at interpreter shutdown")]

        def one(*arguments: Any, **settings: Any) -> threading.Thread:
            if isinstance(found := threads.pop(0), Exception):
                raise found
            return found(*arguments, **settings)

        with mock.patch("itest.side_by_side.Thread", one):
            self.assertEqual(side_by_side([lambda: 1, lambda: 2, lambda: 3], "test"), [1, 2, 3])

    def test_one_that_may_take_no_longer_than_so_long(self) -> None:
        over = threading.Event()
        self.assertEqual(within(10, lambda: "done", "test"), "done")
        self.assertIsNone(within(10, lambda: None, "test"))
        with self.assertRaises(ZeroDivisionError):
            within(10, lambda: 1 // 0, "test")
        with self.assertRaisesRegex(TimeoutError, r"after 0\.01 s$"):
            within(0.01, lambda: over.wait(60), "test")
        over.set()

    def test_an_interrupted_run_ends_without_them(self) -> None:
        code = (
            "import os, signal, threading\n"
            "from itest.side_by_side import side_by_side\n"
            "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "side_by_side([lambda: threading.Event().wait(60)] * 2, 'test')\n"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        self.assertIn("KeyboardInterrupt", ran.stderr)
