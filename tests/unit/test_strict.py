# SPDX-License-Identifier: Apache-2.0
"""What tests leave behind: told with their names, and with `strict` failures of their own."""

from __future__ import annotations

import pickle
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, leaks
from itest.diagnose import HEAD
from itest.errors import LeftBehind
from itest.testing import MemoryEngine, MemoryLease
from tests.integration.capture import said
from tests.unit.inner import InnerTest, MemoryMixin, run


def settle(lease: MemoryLease, test: str, since: float, alone: bool) -> None:
    if lease._last.data.pop("left", None):
        leaks.report(f"{test} left something behind")


class StrictTest(InnerTest):
    def make(self) -> type[ContainerTestCase]:
        class Inner(MemoryMixin, ContainerTestCase):
            def test_1_leaves(self) -> None:
                self.data["left"] = True

            def test_2_good(self) -> None:
                """Leaves nothing."""

            def test_3_fails(self) -> None:
                self.data["left"] = True
                self.fail("own error")

        return Inner

    def test_it_fails_the_test_that_left_it(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.use(MemoryEngine(), strict=True, artifacts=str(place))
        with mock.patch.object(MemoryLease, "settle", settle):
            result = run(self.make())
        self.check(result, ran=3, failures=2)
        (first, text), (third, own) = result.failures
        self.assertIn("test_1_leaves", str(first))
        self.assertRegex(text, rf"LeftBehind: .*Inner\.test_1_leaves left something behind\n{HEAD}\nmemory: ")
        self.assertEqual(len(list(place.glob("*.test_1_leaves/memory.log"))), 1)
        self.assertIn("test_3_fails", str(third))
        self.assertIn("own error", own)
        self.assertNotIn("LeftBehind", own)

    def test_nobody_looks_without_it(self) -> None:
        with mock.patch.object(MemoryLease, "settle", side_effect=AssertionError("it was called")):
            self.check(run(self.make()), ran=3, failures=1)

    def test_its_sentences_are_an_attribute(self) -> None:
        for error in (LeftBehind(["one", "two"]), pickle.loads(pickle.dumps(LeftBehind(["one", "two"])))):
            self.assertEqual((str(error), error.left), ("one\ntwo", ["one", "two"]))


class ThreadsTest(InnerTest):
    def run_with_thread(self, **thread: Any) -> tuple[Any, list[str]]:
        release = threading.Event()
        self.addCleanup(release.set)

        class Inner(MemoryMixin, ContainerTestCase):
            def test(self) -> None:
                threading.Thread(target=release.wait, args=(20,), **thread).start()

        with said() as lines:
            return run(Inner), lines

    def test_one_is_named(self) -> None:
        result, lines = self.run_with_thread(name="worker")
        self.check(result, ran=1)
        [line] = lines
        self.assertRegex(
            line, r"Inner\.test left a thread behind, which runs on: 'worker', threading\.Event\.wait\(\)$"
        )

    def test_strict(self) -> None:
        self.use(MemoryEngine(), strict=True)
        result, lines = self.run_with_thread(name="worker")
        self.check(result, ran=1, failures=1)
        self.assertEqual(lines, [])

    def test_one_that_has_failed_is_not_failed_again(self) -> None:
        self.use(MemoryEngine(), strict=True)

        class Inner(MemoryMixin, ContainerTestCase):
            def test(self) -> None:
                self.fail("on purpose")

        with (
            mock.patch.object(MemoryLease, "finish", lambda lease, test: leaks.report(f"{test} left it running")),
            said() as lines,
        ):
            self.check(run(Inner), ran=1, failures=1)
        self.assertTrue(lines[-1].endswith("Inner.test left it running"), lines)

    def test_daemons_and_those_of_loops_are_nobodys(self) -> None:
        for thread in ({"daemon": True}, {"name": "asyncio_0"}, {"name": "uvloop_0"}, {"name": "itest-x"}):
            with self.subTest(thread=thread):
                self.use(MemoryEngine())
                self.assertEqual(self.run_with_thread(**thread)[1], [])
