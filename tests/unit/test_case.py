# SPDX-License-Identifier: Apache-2.0
"""The life cycle of a test class: what happens in which order, and what a mistake in user code cannot break."""

from __future__ import annotations

import threading
import unittest
from typing import Any, ClassVar
from unittest import mock

from itest import AsyncContainerTestCase, ContainerTestCase, testing
from itest.engines import Instance
from itest.errors import ItestError, NotStarted, StartError, StopError
from itest.loan import Loan
from itest.testing import MemoryEngine, MemoryInstance, MemoryServer, MemoryService
from tests.unit.inner import START, STOP, InnerTest, MemoryMixin, run


class OrderTest(InnerTest):
    def test_everything_happens_in_this_order(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                events.append(f"setUpClass {cls.memory.data}")

            @classmethod
            def setUpTestData(cls) -> None:
                events.append("setUpTestData")
                cls.memory.data["user"] = "ann"

            @classmethod
            def tearDownClass(cls) -> None:
                events.append("tearDownClass")
                super().tearDownClass()

            def setUp(self) -> None:
                events.append("setUp")
                self.addCleanup(events.append, "cleanup")

            def tearDown(self) -> None:
                events.append("tearDown")

            def test_a(self) -> None:
                events.append(f"a {self.memory.data}")
                self.memory.data["order"] = "book"

            def test_b(self) -> None:
                events.append(f"b {self.memory.data}")

        self.check(run(T), ran=2)
        self.assertEqual(
            self.events,
            [START, "lease T", "setUpTestData", "setUpClass {'user': 'ann'}", "seal"]
            + ["reset test_a", "setUp", "a {'user': 'ann'}", "tearDown", "cleanup", "close test_a"]
            + ["reset test_b", "setUp", "b {'user': 'ann'}", "tearDown", "cleanup", "close test_b"]
            + ["tearDownClass", "give back", *STOP, "close"],
        )

    def test_what_is_written_in_setUpClass_after_super_is_baseline_too(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.memory.data["user"] = "ann"

            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})

        self.check(run(T), ran=1)

    def test_setUpTestData_of_a_base_behind_the_test_case(self) -> None:
        service = self.service()

        class Shop:
            memory: ClassVar[MemoryService]

            @classmethod
            def setUpTestData(cls) -> None:
                cls.memory.data["user"] = "ann"

        class T(ContainerTestCase, Shop):
            memory = service

            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})

        self.check(run(T), ran=1)

    def test_cleanups_of_the_class_and_of_the_test_still_have_their_views(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.addClassCleanup(lambda: events.append(f"class cleanup {cls.memory.name}"))

            def test_a(self) -> None:
                self.addCleanup(lambda: events.append(f"cleanup {self.memory.name}"))

        self.check(run(T), ran=1)
        self.assertEqual(events[-7:-3], ["cleanup test_a", "close test_a", "class cleanup class", "give back"])

    def test_inherited_tests_run_in_each_class_on_data_of_its_own(self) -> None:
        service = self.service()

        class Base(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                pass

        class Sub(Base):
            pass

        self.check(run(Base, Sub), ran=2)
        one = ["seal", "reset test_a", "close test_a", "give back"]
        self.assertEqual(self.events, [START, "lease Base", *one, "lease Sub", *one, *STOP, "close"])

    def test_a_class_that_is_entered_twice_gets_new_data_on_the_same_server(self) -> None:
        service = self.service()

        class A(ContainerTestCase):
            memory = service

            @classmethod
            def setUpTestData(cls) -> None:
                cls.memory.data["entered"] = True

            def test_1(self) -> None:
                self.assertEqual(self.memory.data, {"entered": True})

            test_2 = test_1

        class B(ContainerTestCase):
            memory = service

            def test_1(self) -> None:
                self.assertEqual(self.memory.data, {})

        self.check(run(A("test_1"), B("test_1"), A("test_2")), ran=3)
        self.assertEqual(
            self.events,
            [START, "lease A", "seal", "reset test_1", "close test_1", "give back"]
            + ["lease B", "seal", "reset test_1", "close test_1", "give back"]
            + ["lease A", "seal", "reset test_2", "close test_2", "give back", *STOP, "close"],
        )

    def test_two_declarations_are_reset_and_given_back_in_order(self) -> None:
        one, two = self.service(), self.service("memory:2")

        class T(ContainerTestCase):
            first, second = one, two

            def test_a(self) -> None:
                self.first.data["x"] = 1
                self.assertEqual(self.second.data, {})

        self.check(run(T), ran=1)
        # Side by side: the second one may still be starting while the first one's lease is taken.
        starts = ["start memory:1", "start memory:2"]
        self.assertEqual(sorted(event for event in self.events if event.startswith("start")), starts)
        self.assertIn(self.events[0], starts)
        self.assertEqual(
            [event for event in self.events if event not in starts][:-5],
            ["lease T", "lease T", "seal", "reset test_a", "seal", "reset test_a"]
            + ["close test_a", "close test_a", "give back", "give back"],
        )


class SlowStartTest(InnerTest):
    """One service that takes long to start: what can be done without it is."""

    def setUp(self) -> None:
        super().setUp()
        self.leased = threading.Event()
        self.use(MemoryEngine(self.prepare))

    def prepare(self, instance: MemoryInstance) -> None:
        """Starting the slow one ends when the other one's lease is there, or after 10 s."""
        if instance.spec.image == "slow:1":
            self.events.append("slow begins" if self.leased.wait(10) else "nobody took a lease meanwhile")
            if instance.spec.env.get("BROKEN"):
                raise StartError("no slow:1")

    def case(self, scope: str = "session", fails: bool = False, **env: str) -> type[ContainerTestCase]:
        leased = self.leased

        class Fast(MemoryService):
            def connect(self, instance: Instance, address: str) -> MemoryServer:
                server = super().connect(instance, address)
                lease = server.lease

                def lend(service: Any, owner: str) -> Any:
                    leased.set()
                    if fails:
                        raise StartError("no migration")
                    return lease(service, owner)

                server.lease = lend  # type: ignore[method-assign]
                return server

        class Slow(MemoryService):
            start_seconds: ClassVar[float] = 9.0

        class T(ContainerTestCase):
            slow = Slow("slow:1", env=env, events=self.events)
            fast = Fast("fast:1", events=self.events, scope=scope)

            def test_a(self) -> None:
                pass

        return T

    def test_the_leases_of_the_others_are_taken_meanwhile(self) -> None:
        self.check(run(self.case()), ran=1)
        self.assertLess(self.events.index("lease T"), self.events.index("slow begins"))

    def test_they_are_given_back_when_it_fails(self) -> None:
        for scope in ("class", "session"):
            with self.subTest(scope):
                self.events.clear()
                self.leased.clear()
                self.use(MemoryEngine(self.prepare))
                self.check(result := run(self.case(scope, BROKEN="1")), ran=0, errors=1)
                self.assertIn("StartError: no slow:1", result.errors[0][1])
                self.assertEqual("stop fast:1" in self.events, scope == "class")
                self.session.close()
                self.assertEqual(
                    [self.events.count(each) for each in ("lease T", "give back", "stop fast:1")], [1, 1, 1]
                )

    def test_a_lease_that_cannot_be_taken_is_told_once_all_have_started(self) -> None:
        self.check(result := run(self.case("class", fails=True)), ran=0, errors=1)
        said = "StartError: no migration\nit is the service 'fast' of the class\n"
        self.assertTrue(result.errors[0][1].endswith(said), result.errors[0][1])
        self.assertIn("slow begins", self.events)
        self.assertIn("stop fast:1", self.events)
        self.session.close()
        self.assertEqual([self.events.count(each) for each in ("stop fast:1", "stop slow:1")], [1, 1])


class FailingEndTest(InnerTest):
    """A server that has ended, but whose end raised."""

    def setUp(self) -> None:
        super().setUp()
        stop = MemoryInstance.stop

        def fail(instance: MemoryInstance) -> None:
            stop(instance)
            if instance.spec.image == "app:1":
                raise StopError("the end of the lifespan raised RuntimeError")

        self.enterContext(mock.patch.object(MemoryInstance, "stop", fail))

    def run_with(self, scope: str) -> unittest.TestResult:
        class T(ContainerTestCase):
            db = self.service("db:1", scope="class")
            app = self.service("app:1", scope=scope)
            web = self.service("web:1", scope="class")

            def test_a(self) -> None:
                pass

            test_b = test_a

        return run(T)

    def test_it_is_an_error_of_the_class_and_the_others_are_given_back(self) -> None:
        for scope, stops in (("class", 1), ("test", 2)):
            with self.subTest(scope=scope):
                self.events.clear()
                self.use(MemoryEngine())
                result = self.run_with(scope)
                self.check(result, ran=2, errors=1)
                self.assertTrue(str(result.errors[0][0]).startswith("tearDownClass ("), result.errors)
                self.assertEqual(self.last_line(result), "StopError: the end of the lifespan raised RuntimeError")
                stopped = [event for event in self.events if event.startswith("stop")]
                self.assertEqual(sorted(stopped), ["stop app:1"] * stops + ["stop db:1", "stop web:1"])

    def test_of_one_that_all_classes_share_it_is_said_at_the_end(self) -> None:
        with mock.patch("itest.trace.say") as say:
            self.check(self.run_with("session"), ran=2)
        say.assert_called_once_with("could not stop Memory: the end of the lifespan raised RuntimeError")

    def test_it_does_not_take_the_place_of_an_error_before_it(self) -> None:
        class T(ContainerTestCase):
            app = self.service("app:1", scope="class")

            @classmethod
            def setUpTestData(cls) -> None:
                raise OSError("no data")

            def test_a(self) -> None:
                pass

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertIn("OSError: no data", result.errors[0][1])
        self.assertIn("could not be given back: the end of the lifespan raised RuntimeError", result.errors[0][1])

    def test_nor_of_the_failure_of_another_start(self) -> None:
        wanted = [(self.service(image), "T", None, "") for image in ("no:1", "app:1")]
        start = MemoryEngine.start

        def fail(engine: MemoryEngine, spec: Any, *args: Any) -> Any:
            if spec.image == "no:1":
                raise StartError("no such image")
            return start(engine, spec, *args)

        with (
            mock.patch.object(MemoryEngine, "start", fail),
            self.assertRaisesRegex(StartError, "no such image") as caught,
        ):
            self.session.lend_all(wanted, lambda number, server: None)
        self.assertIn("the end of the lifespan raised RuntimeError", caught.exception.__notes__)


class Registry:
    """Knows its subclasses, and tells nobody else of them."""

    known: ClassVar[list[type]] = []

    def __init_subclass__(cls) -> None:
        Registry.known.append(cls)


class ForgottenSuperTest(InnerTest):
    def test_in_setUpClass_the_first_test_enters_the_class(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpClass(cls) -> None:
                events.append("setUpClass")

            @classmethod
            def setUpTestData(cls) -> None:
                cls.memory.data["user"] = "ann"

            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})

            test_b = test_a

        self.check(run(T), ran=2)
        self.assertEqual(
            self.events,
            ["setUpClass", START, "lease T", "seal", "reset test_a", "close test_a"]
            + ["reset test_b", "close test_b", "give back", *STOP, "close"],
        )

    def test_in_setUp_and_tearDown_and_tearDownClass_nothing_changes(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def tearDownClass(cls) -> None:
                pass

            def setUp(self) -> None:
                self.memory.data["x"] = 1

            def tearDown(self) -> None:
                pass

            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"x": 1})

        self.check(run(T), ran=1)
        self.assertEqual(
            self.events,
            [START, "lease T", "seal", "reset test_a", "close test_a", "give back", *STOP, "close"],
        )

    def test_in_init_subclass_the_declarations_are_collected_at_the_first_use(self) -> None:
        service, other = self.service(), self.service("memory:2")

        class Base(ContainerTestCase):
            memory = service

        class T(Registry, Base):
            memory = other

            @classmethod
            def setUpClass(cls) -> None:
                with self.assertRaisesRegex(NotStarted, r"in setUpClass, call super\(\)\.setUpClass\(\) first"):
                    cls.memory  # noqa: B018  # that reading it raises is the point
                super().setUpClass()

            def test_a(self) -> None:
                self.memory.data["x"] = 1

        self.check(run(T), ran=1)
        self.assertIn("start memory:2", self.events)

    def test_in_init_subclass_what_is_wrong_with_the_class_is_told_at_the_first_use(self) -> None:
        async def test(self: object) -> None:
            raise AssertionError("never awaited")

        for base, wrong, message in (
            (ContainerTestCase, {}, "test is async but the class is not: it would pass without running"),
            (AsyncContainerTestCase, {"asyncSetUp": lambda self: None}, "asyncSetUp is not async"),
        ):
            for forgotten in ({}, {"setUpClass": classmethod(lambda cls: None)}):
                with self.subTest(base.__name__, forgotten=list(forgotten)):
                    result = run(type("T", (Registry, base), {"test": test, **wrong, **forgotten}))
                    self.assertEqual(len(result.errors), 1)
                    self.assertRegex(self.last_line(result), rf"^DeclarationError: T\.{message}")

    def test_a_runner_that_never_calls_setUpClass_is_served(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                self.assertEqual(self.memory.data, {})

        result = unittest.TestResult()
        T("test_a").run(result)
        self.check(result, ran=1)
        T.doClassCleanups()
        result.stopTestRun()
        self.assertEqual(self.events[-4:], ["give back", *STOP, "close"])


class FailureTest(InnerTest):
    def test_setUpClass_that_raises_after_super_gives_back_what_it_had(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                raise RuntimeError("mine")

            def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertEqual(self.last_line(result), "RuntimeError: mine")
        self.assertEqual(self.events, [START, "lease T", "give back"])

    def test_setUpTestData_that_raises_gives_back_what_it_had(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @classmethod
            def setUpTestData(cls) -> None:
                raise RuntimeError("mine")

            def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertEqual(self.last_line(result), "RuntimeError: mine")
        self.assertEqual(self.events, [START, "lease T", "give back"])

    def test_a_reset_that_raises_is_the_error_of_its_test_and_the_run_goes_on(self) -> None:
        service = self.service()
        reset = testing.MemoryLease.reset

        def flaky(lease: testing.MemoryLease, test: str) -> testing.MemoryView:
            if test.endswith("test_b"):
                raise OSError("no space")
            return reset(lease, test)

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                pass

            test_b = test_c = test_a

        with mock.patch.object(testing.MemoryLease, "reset", flaky):
            result = run(T)
        self.check(result, ran=3, errors=1)
        self.assertEqual(result.errors[0][0].id().rpartition(".")[2], "test_b")
        self.assertEqual(self.last_line(result), "OSError: no space")
        self.assertEqual(self.events[-6:-3], ["reset test_c", "close test_c", "give back"])

    def test_the_views_before_a_reset_that_raises_are_closed(self) -> None:
        one, two = self.service(), self.service()
        reset = testing.MemoryLease.reset
        leases: list[testing.MemoryLease] = []

        def flaky(lease: testing.MemoryLease, test: str) -> testing.MemoryView:
            leases.append(lease)
            if len(leases) > 1:
                raise OSError("no space")
            return reset(lease, test)

        class T(ContainerTestCase):
            first, second = one, two

            def test_a(self) -> None:
                raise AssertionError("never reached")

        with mock.patch.object(testing.MemoryLease, "reset", flaky):
            self.check(run(T), ran=1, errors=1)
        self.assertIn("close test_a", self.events)

    def test_a_failing_test_changes_nothing_of_the_order(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                self.memory.data["left"] = "over"
                self.fail("on purpose")

            def test_b(self) -> None:
                self.assertEqual(self.memory.data, {})

        self.check(run(T), ran=2, failures=1)

    def test_ctrl_c_in_a_test_ends_the_run_and_stops_the_servers(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            run(T)
        self.assertEqual(self.events, [START, "lease T", "seal", "reset test_a", "close test_a", *STOP, "close"])

    def test_ctrl_c_in_a_start_goes_on_though_nothing_can_be_given_back(self) -> None:
        class T(ContainerTestCase):
            memory = self.service()

            @classmethod
            def setUpTestData(cls) -> None:
                raise KeyboardInterrupt

            def test_a(self) -> None:
                raise AssertionError("never reached")

        with (
            mock.patch.object(Loan, "give_back", side_effect=ItestError("the network has active endpoints")),
            self.assertRaises(KeyboardInterrupt) as caught,
        ):
            run(T)
        note = "and what the class had could not be given back: the network has active endpoints"
        self.assertEqual(caught.exception.__notes__, [note])

    def test_frames_of_itest_are_not_in_the_traceback_of_a_failed_assertion(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                self.assertEqual(1, 2)

        result = run(T)
        self.check(result, ran=1, failures=1)
        self.assertEqual(result.failures[0][1].count("  File "), 1, result.failures[0][1])


class SkipTest(InnerTest):
    def test_nothing_starts_for_a_class_that_is_skipped(self) -> None:
        service = self.service()

        @unittest.skip("not today")
        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.assertEqual([reason for _, reason in result.skipped], ["not today"])
        self.assertEqual((result.errors, self.events), ([], []))

    def test_nothing_starts_for_a_class_whose_tests_are_all_skipped(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @unittest.skip("not today")
            def test_a(self) -> None:
                raise AssertionError("never reached")

            @unittest.skip("nor tomorrow")
            def test_b(self) -> None:
                raise AssertionError("never reached")

        class Customized(T):
            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                raise AssertionError("never reached")

        class TornDown(T):
            @classmethod
            def tearDownClass(cls) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.assertEqual((result.errors, self.events), ([], []))
        self.assertEqual([reason for _, reason in result.skipped], ["not today", "nor tomorrow"])
        for cls in (Customized, TornDown):
            with self.subTest(cls.__name__):
                result = run(cls)
                self.assertEqual((result.errors, self.events), ([], []))
                self.assertEqual(
                    [reason for _, reason in result.skipped],
                    ["not today; nor tomorrow (every selected test of the class is skipped)"],
                )

    def test_nothing_is_reset_for_a_test_that_is_skipped(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            @unittest.skip("not today")
            def test_a(self) -> None:
                raise AssertionError("never reached")

            def test_b(self) -> None:
                self.skipTest("in the middle")

        result = run(T)
        self.assertEqual(result.errors, [])  # How many ran differs: Python 3.12.1 does not count skipped ones.
        self.assertEqual([reason for _, reason in result.skipped], ["not today", "in the middle"])
        self.assertEqual(
            self.events, [START, "lease T", "seal", "reset test_b", "close test_b", "give back", *STOP, "close"]
        )

    def test_a_class_without_a_declaration_starts_nothing(self) -> None:
        class T(ContainerTestCase):
            def test_a(self) -> None:
                pass

        self.check(run(T), ran=1)
        self.assertEqual(self.events, [])

    def test_None_opts_out_of_what_a_base_declares(self) -> None:
        class T(MemoryMixin, ContainerTestCase):
            memory = None  # type: ignore[assignment]  # how one opts out

            def test_a(self) -> None:
                self.assertIsNone(self.memory)

        class Sub(T):
            memory = self.service()  # type: ignore[assignment]  # and in again

            def test_b(self) -> None:
                self.assertEqual(self.memory.data, {})

        self.check(run(T), ran=1)
        self.assertEqual(self.events, [])
        self.events.clear()
        with testing.session(self.engine):
            self.check(run(Sub("test_b")), ran=1)
        self.assertIn("lease Sub", self.events)
