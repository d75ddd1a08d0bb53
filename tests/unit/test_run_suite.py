# SPDX-License-Identifier: Apache-2.0
"""The suite that sees the whole run: what starts before the first test, and what ends after the last."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import unittest
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

from itest import ContainerTestCase, whole_run
from itest import session as sessions
from itest.clock import Deadline
from itest.spec import ContainerSpec
from itest.testing import MemoryEngine, MemoryInstance, MemoryService
from itest.testing.memory import MemoryServer
from tests.unit.inner import InnerTest

WAIT = 10.0


class RunSuiteTest(InnerTest):
    def setUp(self) -> None:
        super().setUp()
        # The session of these tests is open from the start, for it is made by hand.
        self.is_open = self.enterContext(mock.patch.object(whole_run, "_is_open", return_value=False))

    def suite(self, *classes: type[unittest.TestCase]) -> unittest.TestResult:
        """The result of a run as plain unittest makes it, by its own loader."""
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        result = unittest.TestResult()
        unittest.defaultTestLoader.suiteClass(map(load, classes)).run(result)
        return result

    def test_services_start_side_by_side_before_the_first_test(self) -> None:
        go_on, started = threading.Event(), threading.Event()

        def prepare(instance: MemoryInstance) -> None:
            if instance.spec.image == "slow:1":
                started.set()
                go_on.wait(WAIT)

        self.use(MemoryEngine(prepare))
        events = self.events

        class A(ContainerTestCase):
            fast = self.service("fast:1")

            def test(self) -> None:
                # The other class's server is starting, and nobody has waited for it.
                assert started.wait(WAIT)
                events.append("test A")
                go_on.set()

        class B(ContainerTestCase):
            slow = self.service("slow:1")

            def test(self) -> None:
                events.append("test B")

        self.check(self.suite(A, B), ran=2)
        self.assertEqual(self.events.count("start slow:1"), 1)
        self.assertLess(self.events.index("start slow:1"), self.events.index("test A"))
        self.assertLess(self.events.index("test A"), self.events.index("test B"))
        self.assertEqual(self.engine.instances, [])

    def test_nobody_waits_for_what_has_to_be_fetched_first(self) -> None:
        fetched = threading.Event()
        self.addCleanup(fetched.set)
        fast = self.service("fast:1")

        @dataclass(frozen=True, eq=False)
        class Fetched(MemoryService):
            start_seconds: ClassVar[float] = fast.start_seconds + 1

            def container(self, secret: str) -> ContainerSpec:
                assert fetched.wait(WAIT)
                return super().container(secret)

        events = self.events

        class A(unittest.TestCase):
            def test(self) -> None:
                deadline = Deadline.after(WAIT)
                while "start fast:1" not in events and not deadline.passed:
                    deadline.pause(0.005)
                self.assertEqual(events, ["start fast:1"])
                fetched.set()

        class B(ContainerTestCase):
            one, two = Fetched("fetched:1", events=events), fast

            def test(self) -> None: ...

        self.check(self.suite(A, B), ran=2)
        self.assertEqual(self.events.count("start fetched:1"), 1)

    def test_only_what_the_selected_tests_need_is_started(self) -> None:
        class Wanted(ContainerTestCase):
            one, two = self.service("one:1"), self.service("two:1")
            own = self.service("own:1", scope="test")

            def test(self) -> None: ...

        class Skipped(ContainerTestCase):
            three = self.service("three:1")

            @unittest.skip("not today")
            def test(self) -> None: ...

        class Unselected(ContainerTestCase):
            four = self.service("four:1")

            def other(self) -> None: ...

        result = self.suite(Wanted, Skipped, Unselected)
        self.assertEqual((result.errors, [reason for _, reason in result.skipped]), ([], ["not today"]))
        self.assertEqual(
            sorted(event for event in self.events if event.startswith("start")),
            ["start one:1", "start own:1", "start two:1"],
        )

    def test_nothing_starts_for_a_skipped_test_that_is_selected_alone(self) -> None:
        class T(ContainerTestCase):
            one = self.service("one:1")

            @unittest.skip("not today")
            def test_a(self) -> None: ...

            def test_b(self) -> None: ...

        result = unittest.TestResult()
        unittest.defaultTestLoader.suiteClass([T("test_a")]).run(result)
        self.assertEqual((result.errors, [reason for _, reason in result.skipped]), ([], ["not today"]))
        self.assertNotIn("start one:1", self.events)
        self.use(MemoryEngine())
        self.assertEqual(self.suite(T).errors, [])
        self.assertIn("start one:1", self.events)

    def test_the_end_of_a_run_does_not_stop_what_one_on_another_thread_uses(self) -> None:
        is_over, running = threading.Event(), threading.Event()
        test = self

        class Long(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None:
                running.set()
                assert is_over.wait(WAIT)
                test.assertNotIn("stop one:1", test.events)

        class Short(ContainerTestCase):
            one = Long.__dict__["one"]

            def test(self) -> None:
                assert running.wait(WAIT)

        results: list[unittest.TestResult] = []
        thread = threading.Thread(target=lambda: results.append(self.suite(Short)))
        thread.start()
        other = threading.Thread(target=lambda: results.append(self.suite(Long)))
        other.start()
        thread.join()
        is_over.set()
        other.join()
        for result in results:
            self.check(result, ran=1)

    def test_the_end_of_a_run_does_not_stop_what_one_on_another_thread_has_just_started(self) -> None:
        filling, is_over = threading.Event(), threading.Event()
        results: list[unittest.TestResult] = []

        class Short(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None:
                assert filling.wait(WAIT)

        class Long(ContainerTestCase):
            one = Short.__dict__["one"]

            @classmethod
            def setUpTestData(cls) -> None:
                filling.set()
                assert is_over.wait(WAIT)

            def test(self) -> None:
                assert self.one.server.lives()

        threads = [threading.Thread(target=lambda cls=cls: results.append(self.suite(cls))) for cls in (Short, Long)]
        for thread in threads:
            thread.start()
        threads[0].join()
        is_over.set()
        threads[1].join()
        for result in results:
            self.check(result, ran=1)
        self.assertEqual(self.events.count("stop one:1"), 1)
        self.assertTrue(self.session.closed)

    def test_it_can_be_switched_off(self) -> None:
        self.use(MemoryEngine(), parallel_start=False)
        events = self.events

        class A(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None:
                events.append("test A")

        class B(ContainerTestCase):
            two = self.service("two:1")

            def test(self) -> None: ...

        self.check(self.suite(A, B), ran=2)
        self.assertLess(self.events.index("test A"), self.events.index("start two:1"))

    def test_what_fails_to_start_fails_its_own_class(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.spec.image == "broken:1":
                instance.log = "no such luck"
                instance.end(1)

        self.use(MemoryEngine(prepare))

        class A(ContainerTestCase):
            fine = self.service("fine:1")

            def test(self) -> None: ...

        class B(ContainerTestCase):
            broken = self.service("broken:1")

            def test(self) -> None: ...

        result = self.suite(A, B)
        self.check(result, ran=1, errors=1)
        self.assertIn("no such luck", result.errors[0][1])
        self.assertEqual(self.events.count("start broken:1"), 1)

    def test_the_session_is_closed_when_no_class_could_start(self) -> None:
        class A(ContainerTestCase):
            one = self.service("one:1")

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                raise ValueError("after the start")

            def test(self) -> None: ...

        self.check(self.suite(A), ran=0, errors=1)
        self.assertIn("stop one:1", self.events)
        self.assertTrue(self.session.closed)

    def test_a_suite_that_a_test_runs_does_not_end_the_run(self) -> None:
        outer = self

        class Inner(unittest.TestCase):
            def test(self) -> None: ...

        class A(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None:
                outer.check(outer.suite(Inner), ran=1)
                outer.assertFalse(outer.session.closed)

        self.check(self.suite(A), ran=1)
        self.assertTrue(self.session.closed)

    def test_a_run_within_the_run_does_not_end_it_wherever_it_is_made(self) -> None:
        outer = self

        class Inner(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None: ...

        def nested() -> None:
            runner = unittest.TextTestRunner(stream=io.StringIO())
            for suite in (unittest.TestSuite, unittest.defaultTestLoader.suiteClass):
                outer.check(runner.run(suite([Inner("test")])), ran=1)
            outer.assertFalse(outer.session.closed)

        class Plain(unittest.TestCase):
            def test(self) -> None:
                nested()

        class OfTheClass(ContainerTestCase):
            one = Inner.__dict__["one"]

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                nested()

            def test(self) -> None: ...

        self.check(self.suite(OfTheClass, Plain, Inner), ran=3)
        self.assertEqual(self.events.count("start one:1"), 1)
        self.assertTrue(self.session.closed)

    def test_a_server_is_told_what_is_still_to_come(self) -> None:
        one, again, skipped = (self.service("one:1") for _ in range(3))

        class A(ContainerTestCase):
            service = one

            def test(self) -> None: ...

        class B(A): ...

        class C(ContainerTestCase):
            service = again

            def test(self) -> None: ...

        class Skipped(ContainerTestCase):
            service = skipped

            @unittest.skip("not today")
            def test(self) -> None: ...

        told: list[list[Any]] = []
        with mock.patch.object(MemoryServer, "prune", lambda _, to_come: told.append(list(to_come))):
            result = self.suite(A, B, C, Skipped)
        self.assertEqual((len(result.errors), len(result.failures), len(result.skipped)), (0, 0, 1))
        self.assertEqual(told, [[one, again], [again], []])

    def test_a_part_of_somebody_elses_run_neither_begins_nor_ends_it(self) -> None:
        class A(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None: ...

        class B(A):
            two = self.service("two:1")

        load = unittest.defaultTestLoader.loadTestsFromTestCase
        self.assertIsInstance(load(A), whole_run.RunSuite)
        result = unittest.TestResult()
        unittest.TestSuite([load(A), load(B)]).run(result)
        self.check(result, ran=2)
        self.assertFalse(self.session.closed)
        self.assertEqual([event for event in self.events if event.startswith("start")], ["start one:1", "start two:1"])

    def test_a_session_that_was_open_before_stays_open(self) -> None:
        self.is_open.return_value = True

        class A(ContainerTestCase):
            one = self.service("one:1")

            def test(self) -> None: ...

        self.check(self.suite(A), ran=1)
        self.assertFalse(self.session.closed)

    def test_a_run_that_ends_during_a_start_leaves_nothing(self) -> None:
        starting, go_on = threading.Event(), threading.Event()

        def prepare(instance: MemoryInstance) -> None:
            if instance.spec.image == "slow:1":
                starting.set()
                go_on.wait(WAIT)

        self.use(MemoryEngine(prepare))
        self.session.start_ahead([self.service("slow:1"), self.service("fast:1")])
        self.assertTrue(starting.wait(WAIT))
        self.session.close()
        go_on.set()
        deadline = Deadline.after(WAIT)
        while self.engine.instances and not deadline.passed:
            deadline.pause(0.005)
        self.assertEqual(self.engine.instances, [])

    def test_a_closed_session_starts_nothing(self) -> None:
        self.session.close()
        with self.assertRaisesRegex(sessions.NotStarted, "^the run has ended; .* is not started any more$"):
            self.session.lend(self.service())
        self.assertNotIn("start memory:1", self.events)


class InstallTest(unittest.TestCase):
    def test_a_suite_that_somebody_else_chose_is_left_alone(self) -> None:
        class Theirs(unittest.TestSuite): ...

        with mock.patch.object(unittest.defaultTestLoader, "suiteClass", Theirs):
            whole_run.install()
            self.assertIs(unittest.defaultTestLoader.suiteClass, Theirs)

    def test_importing_changes_nothing_and_a_declaration_does(self) -> None:
        program = (
            "import unittest, itest\n"
            "itest.ContainerTestCase\n"
            "assert unittest.defaultTestLoader.suiteClass is unittest.TestSuite\n"
            "class T(itest.PostgresMixin, itest.ContainerTestCase): pass\n"
            "assert unittest.defaultTestLoader.suiteClass is not unittest.TestSuite\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
