# SPDX-License-Identifier: Apache-2.0
"""Who hears Ctrl-C while the main thread stands still, and when nobody is asked."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from itest import ContainerTestCase, interrupts
from itest.testing import MemoryEngine
from tests.unit.inner import InnerTest, MemoryMixin, run

PATIENCE = 30.0
"""Seconds within which something happens, whatever else this machine has to do."""


def listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "itest-interrupts"]


class InterruptsTest(unittest.TestCase):
    def setUp(self) -> None:
        interrupts.end()  # A session of the tests around these may have one.
        self.addCleanup(interrupts.end)
        self.enterContext(mock.patch.object(interrupts, "PATIENCE", 0.05))
        self.acted = threading.Event()

    def press(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    @unittest.skipUnless(sys.platform == "linux", "how a mutex looks that nobody holds")
    def test_it_acts_while_the_main_thread_waits_in_a_library(self) -> None:
        library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)

        def release() -> None:
            self.acted.set()
            library.pthread_mutex_unlock(mutex)

        interrupts.listen(release)
        library.pthread_mutex_lock(mutex)
        presses = threading.Timer(0.1, self.press)
        late = threading.Timer(PATIENCE, library.pthread_mutex_unlock, (mutex,))
        presses.start()
        late.start()
        try:
            with self.assertRaises(KeyboardInterrupt):
                library.pthread_mutex_lock(mutex)  # Nothing but an unlock ends it.
                presses.join()
        finally:
            late.cancel()
        self.assertTrue(self.acted.is_set())

    def test_where_no_thread_can_be_had_no_descriptor_stays_open(self) -> None:
        pipes: list[int] = []
        pipe = os.pipe

        def remembered() -> tuple[int, int]:
            pipes.extend(made := pipe())
            return made

        with (
            mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
            mock.patch.object(os, "pipe", remembered),
        ):
            interrupts.listen(self.acted.set)
        self.assertEqual(len(pipes), 2)
        for descriptor in pipes:
            self.assertRaises(OSError, os.fstat, descriptor)

    def test_not_where_the_main_thread_has_gone_on(self) -> None:
        looked = threading.Event()
        places = iter(range(100))

        def place() -> int:
            number = next(places)
            if number:
                looked.set()
            return number

        interrupts.listen(self.acted.set)
        with mock.patch.object(interrupts, "_place", place):
            with self.assertRaises(KeyboardInterrupt):
                self.press()
                looked.wait(PATIENCE)
            self.assertTrue(looked.wait(PATIENCE))
            interrupts.end()
        self.assertFalse(self.acted.is_set())

    def test_not_for_a_handler_of_somebody_s_own(self) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
        self.addCleanup(signal.signal, signal.SIGINT, before)
        self.assertFalse(interrupts._is_for_the_tests())
        interrupts.listen(self.acted.set)
        self.press()
        self.assertFalse(self.acted.wait(0.3))
        self.assertEqual(heard, [signal.SIGINT])

    def test_for_unittest_s_own_handler(self) -> None:
        before = signal.signal(signal.SIGINT, unittest.signals._InterruptHandler(signal.default_int_handler))  # type: ignore[attr-defined]
        self.addCleanup(signal.signal, signal.SIGINT, before)
        self.assertTrue(interrupts._is_for_the_tests())

    def test_whoever_listens_already_goes_on(self) -> None:
        ears, mouth = os.pipe()
        self.addCleanup(os.close, ears)
        self.addCleanup(os.close, mouth)
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth)
        interrupts.listen(self.acted.set)
        interrupts.end()
        self.assertEqual(signal.set_wakeup_fd(-1), mouth)

    def test_on_another_thread_it_neither_begins_nor_ends(self) -> None:
        interrupts.listen(self.acted.set)
        other = threading.Thread(target=interrupts.end)
        other.start()
        other.join()
        self.assertEqual(len(listeners()), 1)
        interrupts.end()
        self.assertEqual((listeners(), signal.set_wakeup_fd(-1)), ([], -1))

    def test_nothing_is_left_where_there_are_no_descriptors(self) -> None:
        with mock.patch.object(os, "pipe", side_effect=OSError("too many")):
            interrupts.listen(self.acted.set)
        self.assertEqual(listeners(), [])

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_none_in_a_child_of_a_fork_and_anew_in_its_parent(self) -> None:
        interrupts.listen(self.acted.set)
        if (child := os.fork()) == 0:
            os._exit(len(listeners()) + (signal.set_wakeup_fd(-1) != -1))
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(listeners(), [])
        interrupts.listen(self.acted.set)
        self.assertEqual(len(listeners()), 1)


class SessionTest(InnerTest):
    def test_from_the_first_test_on_until_the_end_of_the_session(self) -> None:
        self.use(MemoryEngine())
        interrupts.end()
        found: list[Any] = []
        run(type("Inner", (MemoryMixin, ContainerTestCase), {"test": lambda _: found.append(len(listeners()))}))
        self.assertEqual((found, listeners()), ([1], []))
