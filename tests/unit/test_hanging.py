# SPDX-License-Identifier: Apache-2.0
"""What is told of a test that has been running for very long, when, and that nothing about it can do harm."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import threading
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from itest import (
    AsyncContainerTestCase,
    ContainerMixin,
    ContainerTestCase,
    diagnose,
    hanging,
    naming,
    telling,
    whole_run,
)
from itest.clock import Deadline
from itest.config import Config
from itest.diagnose import Diagnosis
from itest.lease import Lease
from itest.testing import ManualClock, MemoryEngine, MemoryLease
from tests.integration.capture import said
from tests.unit.inner import InnerTest, MemoryMixin, run

PATIENCE = 30.0
"""Seconds within which something is told, whatever else this machine has to do."""


def lookouts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "itest-lookout"]


def line_of(function: Callable[..., object], text: str) -> int:
    """The number of the line of a function in which that text stands."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


class HangingTest(InnerTest):
    """What is told of a test that says itself when it has been running for long."""

    def setUp(self) -> None:
        super().setUp()
        self.use(MemoryEngine(), quiet=False)
        self.enterContext(mock.patch.object(telling, "LOOK_PAUSE", 0.01))
        self.said = self.enterContext(said())
        self.enterContext(mock.patch.object(MemoryLease, "waits", lambda lease: ["for an answer"]))

    def is_told(self) -> bool:
        return any("has been running for" in line for line in self.said)

    def wait(self, inner: Any = None) -> None:
        """Within a test, until it is told of. With that test given, it is long from here on."""
        if inner is not None:
            inner._itest_diagnosis._due = 0.001
        deadline = Deadline.after(PATIENCE)
        while not self.is_told() and not deadline.passed:
            deadline.pause(0.01)

    def wait_in_a_function(self, inner: Any) -> None:
        self.wait(inner)

    def told(self, *bases: type, **attributes: Any) -> list[str]:
        """The lines that are told of a test first."""
        result = run(type("Inner", bases or (MemoryMixin, ContainerTestCase), {"__module__": __name__, **attributes}))
        self.check(result, ran=1)
        return next(line for line in self.said if "has been running for" in line).split("\n")

    def test_where_it_is_and_what_its_services_wait_for(self) -> None:
        def test(inner: Any) -> None:
            inner.assertTrue(inner.memory)
            self.wait_in_a_function(inner)

        here = os.path.relpath(__file__)
        first, place, waits = self.told(test=test)
        self.assertRegex(first, rf"^test \({re.escape(__name__)}\.Inner\.test\) has been running for \d+ s$")
        outer = f"called at {here}:{line_of(self.wait_in_a_function, 'self.wait(')} in HangingTest.wait_in_a_function"
        self.assertIn(outer, place)
        self.assertTrue(place.startswith(f"  at {here}:"), place)
        self.assertTrue(place.endswith(f" in {test.__qualname__}"), place)
        self.assertEqual(waits, "  memory: for an answer")

    def test_of_a_coroutine_each_task_that_runs_code_of_the_tests(self) -> None:
        async def wait(inner: Any) -> None:
            asyncio.get_running_loop().call_soon(setattr, inner._itest_diagnosis, "_due", 0.001)
            await asyncio.to_thread(self.wait)

        async def test(inner: Any) -> None:
            await asyncio.gather(wait(inner), asyncio.sleep(0))

        _, *places, _ = self.told(MemoryMixin, AsyncContainerTestCase, test=test)
        where = {(line_of(wait, "to_thread"), wait.__qualname__), (line_of(test, "gather"), test.__qualname__)}
        found = [
            re.search(rf"^  task '.+' at {re.escape(os.path.relpath(__file__))}:(\d+) in (.*)$", each)
            for each in places
        ]
        self.assertEqual({(int(match[1]), match[2]) for match in found if match}, where, places)

    def test_of_one_that_is_in_no_code_of_the_tests_where_that_is(self) -> None:
        with mock.patch.object(hanging, "_is_theirs", return_value=False):
            _, place, _ = self.told(test=lambda inner: self.wait(inner))
        self.assertRegex(place, r"^  at .*:\d+ in .*, called at ")

    def test_of_a_set_up_too_until_the_first_test(self) -> None:
        class Inner(MemoryMixin, ContainerTestCase):
            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                whole_run._set_ups[cls]._due = 0.001
                self.wait()

            def test(self) -> None:
                self.assertEqual(whole_run._set_ups, {})

        self.check(run(Inner), ran=1)
        first, place, waits = next(line for line in self.said if "has been running for" in line).split("\n")
        inner = re.escape(f"{__name__}.{Inner.__qualname__}")
        self.assertRegex(first, rf"^setUpClass \({inner}\) has been running for \d+ s$")
        set_up = Inner.setUpClass.__func__  # type: ignore[attr-defined]  # a class method has it
        line = line_of(set_up, "self.wait()")
        self.assertIn(f"called at {os.path.relpath(__file__)}:{line} in {set_up.__qualname__}", place)
        self.assertEqual(waits, "  memory: for an answer")

    def test_a_set_up_that_fails_is_over(self) -> None:
        def fail(cls: type) -> None:
            self.assertIn(cls, whole_run._set_ups)
            raise ValueError("on purpose")

        inner = {"setUpTestData": classmethod(fail), "test": lambda _: None}
        result = run(type("Inner", (MemoryMixin, ContainerTestCase), inner))
        self.assertIn("ValueError: on purpose", result.errors[0][1])
        self.assertEqual(whole_run._set_ups, {})

    def test_with_another_test_case(self) -> None:
        self.assertEqual(
            len(self.told(MemoryMixin, ContainerMixin, unittest.TestCase, test=lambda inner: self.wait(inner))), 3
        )

    def test_a_service_that_cannot_be_asked_costs_a_line(self) -> None:
        secret = naming.secret()
        with mock.patch.object(MemoryLease, "waits", side_effect=OSError(f"no route to redis://:{secret}@there")):
            *_, last = self.told(test=lambda inner: self.wait(inner))
        self.assertEqual(last, "  memory: could not be asked what it waits for: no route to redis://:***@there")

    def test_one_that_does_not_answer_too(self) -> None:
        answer = threading.Event()
        self.addCleanup(answer.set)
        with (
            mock.patch.object(hanging, "SECONDS", 0.01),
            mock.patch.object(MemoryLease, "waits", lambda lease: answer.wait(PATIENCE)),
        ):
            *_, last = self.told(test=lambda inner: self.wait(inner))
        self.assertIn("could not be asked what it waits for: ", last)

    def test_of_many_lines_the_first(self) -> None:
        with mock.patch.object(MemoryLease, "waits", lambda lease: [f"line {number}" for number in range(12)]):
            *_, before, last = self.told(test=lambda inner: self.wait(inner))
        self.assertEqual((before, last), ("  memory: line 9", "  memory: ... and 2 more"))

    def test_that_nothing_can_be_told_does_no_harm(self) -> None:
        asked = threading.Event()

        def tell(*_: object) -> None:
            asked.set()
            raise RuntimeError("on purpose")

        def test(inner: Any) -> None:
            inner._itest_diagnosis._due = 0.001
            inner.assertTrue(asked.wait(PATIENCE))

        with mock.patch.object(hanging, "tell", tell):
            self.check(run(type("Inner", (MemoryMixin, ContainerTestCase), {"test": test})), ran=1)

    def test_nothing_while_somebody_debugs_it(self) -> None:
        places: list[object] = []
        exec("def stop(look): look()", debugger := {"__name__": "bdb"})
        look = lambda: places.append(hanging._places(threading.get_ident(), None))  # noqa: E731  # as short as it is
        look()
        debugger["stop"](look)  # type: ignore[operator]  # made by exec
        self.assertTrue(places[0])
        self.assertIsNone(places[1])

    def test_the_thread_is_there_from_the_first_test_on_until_the_end_of_the_session(self) -> None:
        before = lookouts()
        found = []

        class Inner(MemoryMixin, ContainerTestCase):
            def test_1(self) -> None:
                found.append([each for each in lookouts() if each not in before])

            test_2 = test_1

        run(Inner)
        self.assertEqual([len(each) for each in found], [1, 1])
        self.assertEqual(found[0], found[1])
        self.assertFalse(found[0][0].is_alive())

    def test_none_with_quiet(self) -> None:
        before = lookouts()
        self.use(MemoryEngine(), quiet=True)
        found: list[threading.Thread] = []
        run(type("Inner", (MemoryMixin, ContainerTestCase), {"test": lambda _: found.extend(lookouts())}))
        self.assertEqual([each for each in found if each not in before], [])

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_not_in_a_child_of_a_fork(self) -> None:
        before, found = lookouts(), []

        def test(inner: object) -> None:
            if (child := os.fork()) == 0:
                os._exit(len(lookouts()))
            found.append(os.waitpid(child, 0)[1])

        self.check(run(type("Inner", (MemoryMixin, ContainerTestCase), {"test": test, "test_2": test})), ran=2)
        self.assertEqual(found, [0, 0])
        self.assertEqual([each for each in lookouts() if each not in before], [])


class WhenTest(unittest.TestCase):
    def test_after_a_minute_and_each_time_that_it_has_doubled(self) -> None:
        clock, told = ManualClock(), []
        with (
            mock.patch.object(diagnose, "SYSTEM", clock),
            mock.patch.object(hanging, "tell", lambda test, seconds, *_: told.append(seconds)),
        ):
            diagnosis = Diagnosis("tests.T.test", (), Config())
            clock.now = 1000.0
            diagnosis.look(None)  # Its services are being reset, or started.
            diagnosis.begin()
            for clock.now in (1059.0, 1061.0, 1119.0, 1121.0, 1500.0, 1959.0, 1960.0):
                diagnosis.look(None)
        self.assertEqual(told, [61.0, 121.0, 500.0, 960.0])


class LeaseTest(unittest.TestCase):
    def test_most_services_have_nothing_to_tell(self) -> None:
        self.assertEqual(Lease.waits(mock.Mock()), [])
