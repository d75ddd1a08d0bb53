# SPDX-License-Identifier: Apache-2.0
"""The kinds of test, the many ways in which runners treat them, and what its attributes are where there is no view."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import os
import pickle
import re
import sys
import threading
import unittest
from collections.abc import Callable
from typing import Any, ClassVar
from unittest import mock

from itest import AsyncContainerTestCase, ContainerMixin, ContainerTestCase, Network, Postgres, PostgresMixin
from itest import session as sessions
from itest.errors import MigrationError, NotStarted, StartError, Unavailable
from itest.loan import Loan
from itest.service import Service
from itest.testing import MemoryEngine, MemoryLease, MemoryService
from tests.unit.inner import START, STOP, InnerTest, MemoryMixin, run, suite_of


class KindsOfTestTest(InnerTest):
    def test_sub_tests_share_the_data_of_their_test(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                for number in range(3):
                    with self.subTest(number=number):
                        self.memory.data[str(number)] = number
                        self.assertEqual(len(self.memory.data), number + 1)
                        self.assertNotEqual(number, 1)

        result = run(T)
        self.check(result, ran=1, failures=1)
        self.assertIn("(number=1)", str(result.failures[0][0]))
        self.assertEqual(self.events.count("reset test_a"), 1)

    def test_an_expected_failure_is_one(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @unittest.expectedFailure
            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"never": "there"})

            @unittest.expectedFailure
            def test_b(self) -> None:
                self.assertEqual(self.memory.data, {})

        result = run(T)
        self.check(result, ran=2)
        self.assertEqual((len(result.expectedFailures), len(result.unexpectedSuccesses)), (1, 1))

    def test_a_start_failure_is_no_expected_failure(self) -> None:
        def fail(instance: object) -> None:
            raise StartError("no such image")

        self.use(MemoryEngine(prepare=fail))
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @unittest.expectedFailure
            def test_a(self) -> None:
                raise AssertionError("never reached")

        self.check(run(T), ran=0, errors=1)

    def test_coroutines_run_in_a_loop_and_the_services_outside_of_it(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def asyncSetUp(self) -> None:
                self.memory.data["set"] = "up"

            async def test_a(self) -> None:
                events.append(f"a {self.memory.data}")
                self.addAsyncCleanup(self.leave)

            async def leave(self) -> None:
                events.append("async cleanup")

            def test_b(self) -> None:
                events.append(f"b {self.memory.data}")

        self.check(run(T), ran=2)
        self.assertEqual(
            self.events,
            [START, "lease T", "seal", "reset test_a", "a {'set': 'up'}", "async cleanup", "close test_a"]
            + ["reset test_b", "b {'set': 'up'}", "close test_b", "give back", *STOP, "close"],
        )

    def test_another_test_case_can_have_the_life_cycle(self) -> None:
        service = self.service()

        class Framework(unittest.TestCase):
            def setUp(self) -> None:
                self.made_by_framework = True

        class T(MemoryMixin, ContainerMixin, Framework):
            memory = service

            def test_a(self) -> None:
                self.assertTrue(self.made_by_framework)
                self.assertEqual(self.data, {})

        self.check(run(T), ran=1)

    def test_another_test_case_that_calls_setUpTestData_itself(self) -> None:
        class Djangos(unittest.TestCase):
            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.setUpTestData()

            @classmethod
            def setUpTestData(cls) -> None:
                """As Django's TestCase has it."""

        class T(MemoryMixin, ContainerMixin, Djangos):
            @classmethod
            def setUpTestData(cls) -> None:
                cls.memory.data["count"] = cls.memory.data.get("count", 0) + 1

            def test_a(self) -> None:
                self.assertEqual(self.data, {"count": 1})
                self.data["count"] = 5

            test_b = test_a

        self.check(run(T), ran=2)

    def test_another_test_case_that_uses_the_database_around_each_test(self) -> None:
        events = self.events

        class Djangos(unittest.TestCase):
            def _fixture_setup(self) -> None:
                """As Django's TransactionTestCase has it."""

            def __call__(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
                events.append("before")
                result = super().__call__(result)
                events.append("after")
                return result

        class T(ContainerMixin, Djangos):
            memory = self.service()
            reason: ClassVar[Exception | None] = None

            @classmethod
            def setUpClass(cls) -> None:
                """Without `super()`."""

            @classmethod
            def setUpTestData(cls) -> None:
                if cls.reason is not None:
                    raise cls.reason

            def test_a(self) -> None:
                events.append("a")

            @unittest.skip("not today")
            def test_skipped(self) -> None:
                raise AssertionError("never reached")

        self.check(run(T("test_a")), ran=1)
        a_test = ["before", "seal", "reset test_a", "a", "close test_a", "after"]
        self.assertEqual(self.events, [START, "lease T", *a_test, "give back", *STOP, "close"])
        for T.reason, skipped in (
            (Unavailable("no engine"), 1),
            (unittest.SkipTest("not today"), 1),
            (OSError("mine"), 0),
        ):
            for call in (run, lambda test: test()):
                with self.subTest(repr(T.reason)):
                    events.clear()
                    self.use(MemoryEngine())
                    self.check(call(T("test_a")), ran=1, errors=1 - skipped, skipped=skipped)
                    self.assertEqual(events[:3], [START, "lease T", "give back"])
                    self.assertNotIn("before", events)
                    self.assertNotIn("after", events)
        events.clear()
        self.assertEqual(len(run(T("test_skipped")).skipped), 1)
        self.assertEqual(events, ["before", "after"])  # Its own look for that mark.

    def test_the_order_of_the_bases_does_not_matter(self) -> None:
        service = self.service()

        class First(MemoryMixin, ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                self.data["x"] = 1

        class Last(ContainerTestCase, MemoryMixin):
            memory = service

            def test_a(self) -> None:
                self.assertEqual(self.data, {})

        self.check(run(First, Last), ran=2)


class WaysToRunTest(InnerTest):
    def make(self) -> type[ContainerTestCase]:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                events.append(f"a {self.memory.data}")

            @unittest.skip("not today")
            def test_skipped(self) -> None:
                raise AssertionError("never reached")

            def test_fails(self) -> None:
                raise RuntimeError("mine")

        return T

    def test_run_returns_the_result_it_was_given(self) -> None:
        result = unittest.TestResult()
        T = self.make()
        for name in ("test_a", "test_skipped", "test_fails"):
            self.assertIs(T(name).run(result), result)

    def test_run_without_a_result_is_a_run_of_its_own(self) -> None:
        result = self.make()("test_a").run()
        assert result is not None
        self.check(result, ran=1)
        self.assertEqual(
            self.events, [START, "lease T", "seal", "reset test_a", "a {}", "close test_a", *STOP, "close"]
        )

    def test_a_test_case_can_be_called(self) -> None:
        result = unittest.TestResult()
        self.make()("test_a")(result)
        self.check(result, ran=1)
        self.assertIn("a {}", self.events)

    def test_debug_runs_on_reset_data_and_lets_errors_out(self) -> None:
        T = self.make()
        T("test_a").debug()
        with self.assertRaisesRegex(RuntimeError, "mine"):
            T("test_fails").debug()
        self.assertEqual(
            self.events,
            [START, "lease T", "seal", "reset test_a", "a {}", "close test_a", "reset test_fails", "close test_fails"],
        )

    def test_debug_starts_nothing_for_a_test_that_is_skipped(self) -> None:
        with self.assertRaisesRegex(unittest.SkipTest, "not today"):
            self.make()("test_skipped").debug()
        self.assertEqual(self.events, [])

    def test_a_suite_in_debug_gives_back_at_its_end(self) -> None:
        suite_of(self.make()("test_a")).debug()
        self.assertEqual(self.events[-2:], ["close test_a", "give back"])

    def test_a_test_case_can_be_pickled_even_after_it_ran(self) -> None:
        for case in (Sample("test_nothing"), AsyncSample("test_nothing")):
            vars(case)["lock"] = threading.Lock()
            case.run(unittest.TestResult())
            again = pickle.loads(pickle.dumps(case))
            self.assertEqual((type(again), again.id()), (type(case), case.id()))

    def test_a_test_case_keeps_what_it_was_given_in_a_copy(self) -> None:
        for case in (Given(7), AsyncGiven(7)):
            self.use(MemoryEngine())
            case.method, case.other = case.remember, Given(8)
            case.addCleanup(case.remember, "cleanup")
            for again in (copy.copy(case), copy.deepcopy(case), pickle.loads(pickle.dumps(case))):
                with self.subTest(type(case).__name__):
                    self.assertEqual((again, again.value, again.other.value), (case, 7, 8))
            self.check(run(again), ran=1)
            self.assertEqual((again.seen, case.seen), ([7, "cleanup"], []))

    def test_a_test_case_with_an_attribute_that_cannot_be_pickled_is_refused(self) -> None:
        """Without it, the test could pass where it should fail."""
        for case in (Sample("test_nothing"), AsyncSample("test_nothing")):
            vars(case)["_outcomes"] = lambda: 3
            with self.assertRaises(pickle.PicklingError) as caught:
                pickle.dumps([case])
            self.assertRegex(
                str(caught.exception),
                rf"^{re.escape(case.id())} cannot go to a worker process: its attribute _outcomes cannot be pickled "
                rf"\(Can't (pickle|get local object) .*<lambda>'?\); make it in setUp, ",
            )

    def test_a_copy_has_what_cannot_be_pickled(self) -> None:
        for case in (Sample("test_nothing"), AsyncSample("test_nothing")):
            vars(case)["check"] = lambda: 3
            for after in ("", " after a run"):
                for again in (copy.copy(case), *copy.deepcopy([case])):
                    with self.subTest(type(case).__name__ + after):
                        self.assertIs(vars(again)["check"], vars(case)["check"])
                        again.run(result := unittest.TestResult())
                        self.check(result, ran=1)
                case.run(unittest.TestResult())

    def test_a_copy_that_a_test_makes_of_itself_has_cleanups_of_its_own(self) -> None:
        cleanups: list[str] = []

        class T(ContainerTestCase):
            memory = MemoryService()

            def test(self) -> None:
                if not cleanups:
                    self.addCleanup(cleanups.append, "one")
                    copy.copy(self).doCleanups()
                    assert not cleanups

        self.check(run(T), ran=1)
        self.assertEqual(cleanups, ["one"])

    def test_a_run_within_a_test_leaves_the_session_open(self) -> None:
        inner = self.make()

        class Outer(ContainerTestCase):
            memory = MemoryService()

            def test_with_a_runner(self) -> None:
                result = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.TestSuite([inner("test_a")]))
                assert result.wasSuccessful()
                assert self.memory.server.lives()
                assert sessions.opened() is not None

            def test_with_a_result(self) -> None:
                result = inner("test_a").run()
                assert result is not None
                assert result.wasSuccessful(), result.failures
                assert sessions.opened() is not None

        self.check(run(Outer), ran=2)
        self.assertIsNone(sessions.opened())

    def test_a_child_of_a_fork_that_ends_as_a_test(self) -> None:
        """It goes on as a run of its own, also where it raises SystemExit, which unittest takes for an error of the test. It
        closes nothing and asks nothing: its connections are its parent's."""
        status = []
        parent = os.getpid()
        service, events = self.service(), self.events

        class T(ContainerTestCase):
            memory = service

            def test_exit(self) -> None:
                self.fork()
                if os.getpid() != parent:
                    sys.exit(7)

            def test_return(self) -> None:
                self.fork()

            def fork(self) -> None:
                if (child := os.fork()) == 0:
                    events.clear()
                else:
                    status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

        self.enterContext(mock.patch.object(MemoryLease, "finish", lambda lease, test: events.append("finish")))
        self.enterContext(mock.patch("itest.keeping.keep", lambda *of: events.append("keep")))
        for name, errors in (("test_exit", ["SystemExit: 7"]), ("test_return", [])):
            for settings in ({}, {"strict": True}, {"keep": "failed"}):
                self.use(MemoryEngine(), **settings)
                try:
                    result = run(T(name))
                finally:
                    if os.getpid() != parent:
                        lines = [text.splitlines()[-1] for _, text in result.errors]
                        os._exit(7 if (lines, events) == (errors, []) else 1)
                self.check(result, ran=1)
                self.assertIn("finish", events)
        self.assertEqual(status, [7] * 6)

    def test_the_result_is_told_once_to_close_the_session(self) -> None:
        stops: list[str] = []

        class Result(unittest.TestResult):
            def stopTestRun(self) -> None:
                stops.append("stop")

        T, result = self.make(), Result()
        T("test_a").run(result)
        once = result.stopTestRun
        T("test_a").run(result)
        self.assertIs(result.stopTestRun, once)
        result.stopTestRun()
        self.assertEqual((stops, self.events[-3:]), (["stop"], [*STOP, "close"]))

    def test_a_result_without_stopTestRun_is_fine(self) -> None:
        class Result:
            """As pytest's: only what is called for each test."""

            def __init__(self) -> None:
                self.called: list[str] = []

            def startTest(self, test: object) -> None:
                self.called.append("start")

            def addSuccess(self, test: object) -> None:
                self.called.append("success")

            def stopTest(self, test: object) -> None:
                self.called.append("stop")

            def addDuration(self, test: object, seconds: float) -> None:
                """Python 3.12 and later warn where it is missing."""

        result = Result()
        self.make()("test_a").run(result)  # type: ignore[arg-type]  # what is missing is the point
        self.assertEqual(result.called, ["start", "success", "stop"])
        self.assertEqual(vars(result).keys(), {"called"})


class Sample(ContainerTestCase):
    memory = MemoryService()
    own = MemoryService(scope="test")

    def test_nothing(self) -> None:
        pass


class AsyncSample(AsyncContainerTestCase):
    memory = MemoryService()

    async def test_nothing(self) -> None:
        pass


class Given(ContainerTestCase):
    """Made in a load_tests, say, once for each value."""

    memory = MemoryService()
    method: Callable[[object], None]
    other: Given

    def __init__(self, value: int) -> None:
        super().__init__("test_value")
        self.value = value
        self.seen: list[object] = []

    def remember(self, thing: object) -> None:
        self.seen.append(thing)

    def test_value(self) -> None:
        self.method(self.value)


class AsyncGiven(Given, AsyncContainerTestCase):
    pass


class WithMixin(MemoryMixin, ContainerTestCase):
    pass


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """All but the samples, which are for inner runs only."""
    samples = (Sample, AsyncSample, WithMixin, Given, AsyncGiven)
    return unittest.TestSuite(
        suite
        for suite in tests
        if not any(isinstance(case, samples) for case in suite)  # type: ignore[union-attr]  # suites of a module are suites of cases
    )


class NotStartedTest(InnerTest):
    BEFORE = (
        "Sample.memory: its view does not exist before the class's services are started; "
        "in setUpClass, call super().setUpClass() first"
    )

    def assertNotStarted(self, message: str, owner: object, name: str = "memory") -> None:
        with self.assertRaises(NotStarted) as caught:
            getattr(owner, name).url  # noqa: B018  # that reading it raises is the point
        self.assertEqual(str(caught.exception), message)

    def test_on_the_class_before_setUpClass(self) -> None:
        self.assertNotStarted(self.BEFORE, Sample)

    def test_on_an_instance_outside_a_test(self) -> None:
        self.assertNotStarted("Sample.memory: its view exists only while the test runs", Sample("test_nothing"))

    def test_on_an_instance_after_its_test(self) -> None:
        case = Sample("test_nothing")
        case.run(unittest.TestResult())
        reason = "its view exists only while the test runs"
        self.assertNotStarted(
            f"Sample.memory: {reason}; in a debugger, type(self).memory shows what the test has left", case
        )
        self.assertEqual(type(case).memory.data, {})
        self.assertNotStarted(f"Sample.own: {reason}", case, "own")
        self.session.close()
        self.assertNotStarted(f"Sample.memory: {reason}", case)

    def test_in_a_test_whose_own_run_does_not_call_super(self) -> None:
        class T(ContainerTestCase):
            memory = self.service()

            def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
                return unittest.TestCase.run(self, result)

            def test_a(self) -> None:
                self.memory  # noqa: B018  # that reading it raises is the point

        result = run(T)
        self.check(result, ran=1, errors=1)
        self.assertRegex(
            self.last_line(result),
            r"T\.memory: its view is made by itest's run\(\), which was not called; does a run\(\) of your own call super",
        )

    def test_on_an_instance_before_its_test_under_pytest(self) -> None:
        with mock.patch.dict(sys.modules, {"_pytest.unittest": mock.Mock()}):
            self.assertNotStarted(
                "Sample.memory: its view exists only while the test runs; pytest's fixtures and setup_method come before that: "
                "use setUp or setUpTestData",
                Sample("test_nothing"),
            )

    def test_of_a_declaration_that_was_added_to_the_class_later(self) -> None:
        cls = type("T", (ContainerTestCase,), {"test": lambda self: None})
        cls.memory = self.service()  # type: ignore[attr-defined]  # that is the mistake
        message = (
            "T.memory: it was added when the class was made already, and its declarations collected; declare it in the "
            "class's body"
        )
        self.assertNotStarted(message, cls)
        self.assertNotStarted(message, cls("test"))

    def test_on_the_class_after_its_end(self) -> None:
        cls = type("T", (ContainerTestCase,), {"test": lambda self: None, "memory": self.service()})
        self.check(run(cls), ran=1)
        self.assertNotStarted(
            "T.memory: its view has ended with the class; tearDownClass is the last that may use it", cls
        )

    def test_on_a_mixin_alone(self) -> None:
        message = "Memory is only declared on MemoryMixin; its view exists on a ContainerTestCase while its tests run"
        self.assertNotStarted(message, MemoryMixin)
        self.assertNotStarted(message, MemoryMixin())

    def test_in_the_body_of_a_class_that_wants_a_similar_declaration(self) -> None:
        hint = r"; in a class's body, vars\(MemoryMixin\)\['memory'\]\.replace\(\.\.\.\) is this declaration with fields changed$"
        for base, reason in (
            (WithMixin, "does not exist before .* first"),
            (MemoryMixin, "is only declared on .* run"),
        ):
            with self.assertRaisesRegex(NotStarted, reason + hint):

                class T(ContainerTestCase):
                    memory = dataclasses.replace(base.memory, isolation="none")  # type: ignore[arg-type]

        copy = vars(MemoryMixin)["memory"].replace(isolation="none")
        self.assertEqual(type("T", (WithMixin,), {"memory": copy})._itest_declarations, [("memory", copy)])

    def test_in_a_shorthand(self) -> None:
        self.assertNotStarted("WithMixin.memory: its view exists only while the test runs", WithMixin(), "data")

    def test_on_the_class_where_the_scope_is_a_test(self) -> None:
        messages: list[str] = []
        service = self.service(scope="test")

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpTestData(cls) -> None:
                try:
                    cls.memory  # noqa: B018  # that reading it raises is the point
                except NotStarted as error:
                    messages.append(str(error).rpartition("<locals>.")[2])

            def test_a(self) -> None:
                pass

        self.check(run(T), ran=1)
        text = "T.memory: scope='test' has no class-level view, as each test gets a server of its own: write its data in setUp"
        self.assertEqual(messages, [text])

    def test_by_migrations_and_fixtures_where_the_service_has_them(self) -> None:
        loan = Loan(Sample, "postgres", Postgres(scope="test"), self.session, None, {})
        with self.assertRaisesRegex(NotStarted, "in setUp, or have it made by migrations= and fixtures=$"):
            loan.class_view()

    def test_data_that_cannot_be_had_says_of_which_service(self) -> None:
        for name, notes in (("audit", ["it is the service 'audit' of the class"]), ("memory", [])):
            loan = Loan(Sample, name, self.service(), self.session, None, {})
            server: Any = mock.Mock(lease=mock.Mock(side_effect=MigrationError("no such table")))
            with self.assertRaises(MigrationError) as caught:
                loan.take(server)
            self.assertEqual(caught.exception.__notes__, notes)

    def test_of_a_declaration_that_a_subclass_replaced(self) -> None:
        one, two = self.service(), self.service()

        class Base(ContainerTestCase):
            memory = one

        class T(Base):
            memory = two

            def test_a(self) -> None:
                with self.assertRaisesRegex(NotStarted, r"T\.memory: its view exists only while the test runs"):
                    super().memory  # noqa: B018  # that reading it raises is the point

        self.check(run(T), ran=1)

    def test_on_the_class_after_its_session_was_closed(self) -> None:
        case = Sample("test_nothing")
        case.run(unittest.TestResult())
        self.assertEqual(Sample.memory.data, {})
        self.session.close()
        self.assertNotStarted(self.BEFORE, Sample)

    def test_every_attribute_of_the_class_can_be_looked_at(self) -> None:
        self.assertFalse(hasattr(Sample, "memory"))
        for name in dir(Sample):
            getattr(Sample, name, None)
        self.assertIn("memory", dict(inspect.getmembers(Sample)))
        self.assertIsInstance(dict(inspect.getmembers(MemoryMixin))["memory"], Service)

    def test_by_a_class_decorator_that_reads_every_attribute(self) -> None:
        @mock.patch.dict(os.environ, {"ITEST_TEST_OF": "decorator"})
        class T(PostgresMixin, MemoryMixin, ContainerTestCase):
            memory = self.service()
            postgres = None  # type: ignore[assignment]
            net = Network()

            def test_a(self) -> None:
                self.assertEqual(os.environ["ITEST_TEST_OF"], "decorator")

        mock.patch.dict(os.environ)(MemoryMixin)
        self.check(run(T), ran=1)
        with self.assertRaises(NotStarted):
            T.db.cursor()
        for name in ("memory", "net"):  # Anybody else is told at once.
            self.assertRaises(NotStarted, getattr, T, name)
