# SPDX-License-Identifier: Apache-2.0
"""AsyncContainerTestCase: its event loops, what is left in them, and the mistakes that unittest passes over."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from itest import AsyncContainerTestCase, ContainerMixin, ContainerTestCase, async_tasks, testing
from itest.async_clients import AsyncClients, own_time, running_loop
from itest.errors import DeclarationError, LoopError
from itest.services.kafka.view import KafkaView
from itest.testing import MemoryView
from tests.unit.inner import START, STOP, InnerTest, run


class Client:
    """A client that knows its loop, as those of asyncpg and aiokafka do."""

    def __init__(self, events: list[str], name: str = "client") -> None:
        self._loop = asyncio.get_running_loop()
        self.events = events
        self.name = name

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self._loop, "closed in another loop"
        await asyncio.sleep(0)
        self.events.append(f"close {self.name}")


def connect(view: MemoryView, events: list[str], name: str = "client") -> Any:
    """An async verb, as views have them."""

    async def open() -> Client:
        await asyncio.sleep(0)
        return Client(events, name)

    return view._opening("aconnect", open, Client.close)


class AsyncTest(InnerTest):
    def warned(self, *subjects: type[unittest.TestCase]) -> tuple[unittest.TestResult, list[warnings.WarningMessage]]:
        """Run them and return what they warned of as well."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = run(*subjects)
        return result, caught


class LoopPerTestTest(AsyncTest):
    def test_each_test_has_a_loop_of_its_own(self) -> None:
        loops = []

        class T(AsyncContainerTestCase):
            async def test_a(self) -> None:
                loops.append(asyncio.get_running_loop())

            test_b = test_a

        self.check(run(T), ran=2)
        self.assertIsNot(*loops)

    def test_what_a_view_hands_out_is_closed_in_the_loop_after_the_cleanups_and_before_the_view(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def asyncSetUp(self) -> None:
                await connect(self.memory, events, "first")

            async def test_a(self) -> None:
                await asyncio.gather(connect(self.memory, events, "second"), connect(self.memory, events, "second"))
                self.addAsyncCleanup(self.leave)

            async def leave(self) -> None:
                events.append("cleanup")

            async def asyncTearDown(self) -> None:
                events.append("asyncTearDown")

        self.check(run(T), ran=1)
        self.assertEqual(
            self.events,
            [START, "lease T", "seal", "reset test_a", "asyncTearDown", "cleanup"]
            + ["close second", "close second", "close first", "close test_a", "give back", *STOP, "close"],
        )

    def test_async_with_closes_it_at_the_end_of_the_block(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def test_a(self) -> None:
                async with connect(self.memory, events) as client:
                    self.assertIsInstance(client, Client)
                events.append("after the block")

        self.check(run(T), ran=1)
        self.assertEqual(self.events[4:6], ["close client", "after the block"])

    def test_without_await_it_says_so(self) -> None:
        service = self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def test_a(self) -> None:
                connect(self.memory, []).fetch("SELECT 1")

        result = run(T)
        self.check(result, ran=1, errors=1)
        self.assertEqual(
            self.last_line(result),
            "AttributeError: MemoryView.aconnect() is not awaited yet, so it has no 'fetch': "
            "write `await ...MemoryView.aconnect()`",
        )

    def test_for_a_task_it_says_what_takes_it(self) -> None:
        service = self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def test_a(self) -> None:
                self.assertIsInstance(await asyncio.ensure_future(connect(self.memory, [])), Client)
                self.task = asyncio.create_task(connect(self.memory, []))

        result = run(T)
        self.check(result, ran=1, errors=1)
        self.assertEqual(
            self.last_line(result),
            "TypeError: a coroutine was expected, got <MemoryView.aconnect(), which is no coroutine: `await` it, or use "
            "asyncio.gather() or asyncio.ensure_future()>",
        )

    def test_a_client_that_does_not_close_fails_and_delays_nobody(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def test_a(self) -> None:
                await connect(self.memory, events)
                self.memory._closing_async(self, self.never, "aclient")
                self.memory._closing_async(self, self.wrong, "aclient")

            async def never(self) -> None:
                await asyncio.sleep(3600)

            async def wrong(self) -> None:
                raise OSError("gone")

        with unittest.mock.patch("itest.async_clients.CLOSE_TIMEOUT", 0.01):
            self.check(run(T), ran=1)
        self.assertIn("close client", self.events)

    def test_a_plain_test_of_the_class_has_everything_closed_as_well(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def asyncSetUp(self) -> None:
                await connect(self.memory, events)

            def test_a(self) -> None:
                pass

        self.check(run(T), ran=1)
        self.assertEqual(self.events[-5:], ["close client", "close test_a", "give back", *STOP, "close"][-5:])

    def test_debug_closes_it_too(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def test_a(self) -> None:
                await connect(self.memory, events)

        T("test_a").debug()
        T.doClassCleanups()
        self.assertIn("close client", self.events)


class OtherLoopsTest(AsyncTest):
    """Loops that the test case does not run."""

    def test_asyncio_run_in_a_plain_test(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                async def work() -> None:
                    await connect(self.memory, events)
                    events.append("work")

                asyncio.run(work())
                events.append("after run")

        self.check(run(T), ran=1)
        self.assertEqual(self.events[4:7], ["work", "close client", "after run"])

    def test_a_loop_that_was_stopped_and_not_closed(self) -> None:
        events, service = self.events, self.service()
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        class T(ContainerTestCase):
            memory = service

            async def work(self) -> None:
                await connect(self.memory, events)

            def test_a(self) -> None:
                loop.run_until_complete(self.work())

        self.check(run(T), ran=1)
        self.assertEqual(self.events[4:6], ["close client", "close test_a"])

    def test_a_loop_on_a_thread(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                async def work() -> None:
                    await connect(self.memory, events)

                asyncio.run_coroutine_threadsafe(work(), loop).result(10)

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            self.check(run(T), ran=1)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        self.assertEqual(self.events[4:6], ["close client", "close test_a"])

    def test_another_frameworks_async_test_case(self) -> None:
        events, service = self.events, self.service()

        class T(ContainerMixin, unittest.IsolatedAsyncioTestCase):
            memory = service

            async def test_a(self) -> None:
                await connect(self.memory, events)

        self.check(run(T), ran=1)
        self.assertEqual(self.events[4:6], ["close client", "close test_a"])

    def test_the_views_of_a_loop_that_is_running_leave_its_clients_to_it(self) -> None:
        events: list[str] = []

        async def work() -> None:
            clients = AsyncClients()
            client = Client(events)
            clients.add(client, client.close, "aconnect()")
            clients.close()
            events.append("still open")

        asyncio.run(work())
        self.assertEqual(events[0], "still open")


class LoopPerClassTest(AsyncTest):
    def test_all_of_a_class_runs_in_one_loop_in_this_order(self) -> None:
        events, service = self.events, self.service()
        loops = set()

        class T(AsyncContainerTestCase):
            memory = service
            loop_scope = "class"

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                events.append("setUpClass")

            @classmethod
            def setUpTestData(cls) -> None:
                cls.runAsync(cls.note("setUpTestData"))

            @classmethod
            async def note(cls, text: str) -> None:
                loops.add(asyncio.get_running_loop())
                events.append(text)

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                cls.addClassCleanup(lambda: cls.runAsync(cls.note("class cleanup")))
                cls.memory.data["user"] = "ann"
                await cls.note("asyncSetUpClass")

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                await cls.note("asyncTearDownClass")

            def setUp(self) -> None:
                loops.add(asyncio.get_event_loop())

            async def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})
                self.memory.data.clear()
                await connect(self.memory, events)
                await self.note("a")

            async def test_b(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})
                await self.note("b")

        self.check(run(T), ran=2)
        self.assertEqual(len(loops), 1)
        self.assertTrue(loops.pop().is_closed())
        self.assertEqual(
            [event for event in self.events if not event.startswith(("reset", "seal", "lease"))],
            [START, "setUpTestData", "asyncSetUpClass", "setUpClass"]
            + ["a", "close client", "close test_a", "b", "close test_b"]
            + ["asyncTearDownClass", "class cleanup", "give back", *STOP, "close"],
        )

    def test_what_its_hooks_set_in_the_context_each_test_finds_and_changes_for_itself(self) -> None:
        user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
        seen: list[str] = []

        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            def setUpTestData(cls) -> None:
                cls.runAsync(cls.set("ann"))

            @classmethod
            async def set(cls, name: str) -> None:
                user.set(name)

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                user.set(f"{user.get()} and bob")

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                seen.append(user.get())

            def setUp(self) -> None:
                seen.append(user.get())

            async def test_a(self) -> None:
                user.set("eve")

            test_b = test_a

        class Sub(T):
            @classmethod
            def setUpTestData(cls) -> None:
                """Sets nobody."""

        self.check(run(T, Sub), ran=4)
        self.assertEqual(seen, ["ann and bob"] * 3 + ["nobody and bob"] * 3)
        self.assertEqual(user.get(), "nobody")

    def test_it_works_without_services_and_for_each_subclass_anew(self) -> None:
        loops = []

        class Base(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                loops.append(asyncio.get_running_loop())
                cls.future = asyncio.get_running_loop().create_future()

            async def test_a(self) -> None:
                self.future.set_result(1)
                self.assertEqual(await self.future, 1)

        class Sub(Base):
            pass

        self.check(run(Base, Sub), ran=2)
        self.assertIsNot(*loops)

    def test_classes_that_take_turns(self) -> None:
        class A(AsyncContainerTestCase):
            loop_scope = "class"

            async def test_1(self) -> None:
                await asyncio.sleep(0)

            test_2 = test_1

        class B(A):
            pass

        self.check(run(A("test_1"), B("test_1"), A("test_2"), B("test_2")), ran=4)

    def test_forgotten_super_in_setUpClass(self) -> None:
        events = self.events

        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            def setUpClass(cls) -> None:
                pass

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                events.append("asyncSetUpClass")

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                events.append("asyncTearDownClass")

            @classmethod
            def tearDownClass(cls) -> None:
                pass

            async def test_a(self) -> None:
                events.append("a")

            test_b = test_a

        self.check(run(T), ran=2)
        self.assertEqual(self.events, ["asyncSetUpClass", "a", "a", "asyncTearDownClass"])

    def test_asyncSetUpClass_that_raises(self) -> None:
        service = self.service()

        class T(AsyncContainerTestCase):
            memory = service
            loop_scope = "class"

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                raise OSError("no")

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                raise AssertionError("never reached")

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertEqual(self.last_line(result), "OSError: no")
        self.assertEqual(self.events[:3], [START, "lease T", "give back"])

    def test_asyncTearDownClass_that_raises_and_the_loop_is_closed(self) -> None:
        loops = []

        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                loops.append(asyncio.get_running_loop())
                raise OSError("no")

            async def test_a(self) -> None:
                pass

        result = run(T)
        self.check(result, ran=1, errors=1)
        self.assertEqual(self.last_line(result), "OSError: no")
        self.assertTrue(loops[0].is_closed())

    def test_what_is_cancelled_is_an_error_of_its_class_and_not_the_end_of_the_run(self) -> None:
        async def cancelled() -> None:
            task = asyncio.create_task(asyncio.sleep(3600))
            task.cancel()
            await task

        class SetUp(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                await cancelled()

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        class TearDown(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                await cancelled()

            async def test_a(self) -> None:
                pass

        class Data(AsyncContainerTestCase):
            @classmethod
            def setUpTestData(cls) -> None:
                cls.runAsync(cancelled())

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(SetUp, TearDown, Data)
        self.check(result, ran=1, errors=3)
        for number, cls in enumerate((SetUp, TearDown, Data)):
            self.assertRegex(
                self.last_line(result, number), rf"^LoopError: .*{cls.__name__}\.runAsync\(.*\) was cancelled"
            )

    def test_ctrl_c_in_asyncSetUpClass_ends_the_run(self) -> None:
        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(3600)

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        with self.assertRaises(KeyboardInterrupt):
            run(T)
        T.doClassCleanups()

    def test_ctrl_c_closes_the_loop(self) -> None:
        loops = []

        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncTearDownClass(cls) -> None:
                raise AssertionError("never reached")

            async def test_a(self) -> None:
                loops.append(asyncio.get_running_loop())
                self.task = asyncio.create_task(asyncio.sleep(3600))
                raise KeyboardInterrupt

        with warnings.catch_warnings(), self.assertRaises(KeyboardInterrupt):
            warnings.simplefilter("error")
            run(T)
        self.assertTrue(loops[0].is_closed())
        T.doClassCleanups()


class LeakedTaskTest(AsyncTest):
    def test_it_is_cancelled_and_named_with_the_place_that_made_it(self) -> None:
        cancelled = []

        class T(AsyncContainerTestCase):
            async def poll(self) -> None:
                try:
                    await asyncio.sleep(3600)
                finally:
                    cancelled.append(True)

            async def test_a(self) -> None:
                self.task = asyncio.create_task(self.poll(), name="poller")

            async def test_b(self) -> None:
                pass

        for loop_scope in ("test", "class"):
            with self.subTest(loop_scope=loop_scope):
                cancelled.clear()
                T.loop_scope = loop_scope
                result, caught = self.warned(T)
                self.check(result, ran=2)
                self.assertEqual(cancelled, [True])
                [warning] = caught
                self.assertEqual(warning.category, ResourceWarning)
                self.assertEqual(warning.filename, __file__)
                self.assertRegex(
                    str(warning.message),
                    r"^tests\.unit\.test_async_case\..*T\.test_a left an asyncio task behind, which was cancelled: 'poller', "
                    rf".*T\.poll\(\), made at {re.escape(__file__)}:\d+\. Await what a test starts, use asyncio\.TaskGroup, "
                    r"or cancel it in a cleanup$",
                )

    def test_where_warnings_are_errors_it_fails_the_test_that_left_it(self) -> None:
        class T(AsyncContainerTestCase):
            loop_scope = "class"

            async def test_a(self) -> None:
                self.tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(2)]

            async def test_b(self) -> None:
                pass

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = run(T)
        self.check(result, ran=2, errors=1)
        self.assertEqual(result.errors[0][0].id().rpartition(".")[2], "test_a")
        self.assertIn("test_a left 2 asyncio tasks behind, which were cancelled: 'Task-", self.last_line(result))

    def test_one_that_will_not_be_cancelled_and_one_that_raises_then(self) -> None:
        class T(AsyncContainerTestCase):
            async def stubborn(self) -> None:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
                await asyncio.sleep(3600)

            async def wrong(self) -> None:
                try:
                    await asyncio.sleep(3600)
                finally:
                    raise OSError("postgresql://ann:secret@host/db")

            async def test_a(self) -> None:
                self.tasks = [asyncio.create_task(self.stubborn()), asyncio.create_task(self.wrong())]

        with unittest.mock.patch("itest.async_tasks.CANCEL_TIMEOUT", 0.01):
            _, caught = self.warned(T)
        text = str(caught[0].message)
        self.assertIn(
            ", which did not end within 0.01 s of its cancellation and was given up (let CancelledError through: `except "
            "Exception`, not a bare `except`)",
            text,
        )
        self.assertIn(", which then raised OSError('postgresql://ann:***@host/db')", text)

    def test_one_that_swallows_all_is_given_up_and_neither_the_run_nor_the_process_waits_for_it(self) -> None:
        code = (
            "import asyncio, unittest\n"
            "from itest import AsyncContainerTestCase, async_tasks\n"
            "async_tasks.CANCEL_TIMEOUT = 0.01\n"
            "loops = []\n"
            "async def work():\n"
            "    while True:\n"
            "        try:\n"
            "            await asyncio.sleep(3600)\n"
            "        except:\n"
            "            pass\n"
            "async def begin():\n"
            "    loops.append(asyncio.get_running_loop())\n"
            "    asyncio.create_task(work())\n"
            "class OfRunAsync(AsyncContainerTestCase):\n"
            "    @classmethod\n"
            "    def setUpTestData(cls): cls.runAsync(begin())\n"
            "    async def test_a(self): pass\n"
            "class OfClass(AsyncContainerTestCase):\n"
            "    loop_scope = 'class'\n"
            "    @classmethod\n"
            "    async def asyncSetUpClass(cls): await begin()\n"
            "    async def test_a(self): pass\n"
            "class OfTest(AsyncContainerTestCase):\n"
            "    async def test_a(self): await begin()\n"
            "class OfTestInClass(OfTest):\n"
            "    loop_scope = 'class'\n"
            "    async def test_b(self): pass\n"
            "unittest.main(exit=False)\n"
            "print([loop.is_closed() for loop in loops])"
        )
        done = subprocess.run(
            [sys.executable, "-W", "always::ResourceWarning", "-c", code], capture_output=True, text=True, timeout=60
        )
        self.assertEqual((done.returncode, done.stdout), (0, f"{[True] * 4}\n"), done.stderr)
        self.assertEqual(
            re.findall(r"(\S+) left an asyncio task behind, .* and was given up", done.stderr),
            [
                "__main__.OfClass",
                "OfRunAsync.runAsync(begin())",
                "__main__.OfTest.test_a",
                "__main__.OfTestInClass.test_a",
            ],
        )
        self.assertIn("Ran 5 tests", done.stderr)
        self.assertIn("\nOK", done.stderr)

    def test_one_that_is_about_to_end_is_none(self) -> None:
        class T(AsyncContainerTestCase):
            async def test_a(self) -> None:
                self.task = asyncio.create_task(asyncio.sleep(0))

            async def test_b(self) -> None:
                self.task = asyncio.create_task(asyncio.sleep(0.01))

        result, caught = self.warned(T)
        self.check(result, ran=2)
        self.assertEqual(caught, [])

    def test_those_that_end_generators_after_a_break_are_awaited_and_not_named(self) -> None:
        ended: list[str] = []

        class T(AsyncContainerTestCase):
            async def lines(self, depth: int, end: float = 0) -> Any:  # As those of httpx, one around the other.
                try:
                    if depth:
                        async for line in self.lines(depth - 1, end):
                            yield line
                    yield "line"
                finally:
                    try:
                        await asyncio.sleep(end)
                        ended.append("in order")
                    except asyncio.CancelledError:
                        ended.append("cancelled")
                        raise

            async def test_a(self) -> None:
                async_tasks.GRACE = 30
                async for _ in self.lines(20):
                    break

            async def test_b(self) -> None:
                async_tasks.GRACE = 0.01
                async for _ in self.lines(0, end=3600):
                    break

        for loop_scope in ("test", "class"):
            with self.subTest(loop_scope=loop_scope):
                ended.clear()
                T.loop_scope = loop_scope
                with unittest.mock.patch.object(async_tasks, "GRACE"):
                    result, caught = self.warned(T)
                self.check(result, ran=2)
                self.assertEqual([str(warning.message) for warning in caught], [])
                self.assertEqual(ended, ["in order"] * 21 + ["cancelled"])

    def test_those_that_a_client_of_the_class_makes_in_a_test_live_on_too(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory())) / "asyncpg.py"
        place.write_text("import asyncio\ndef read(): return asyncio.create_task(asyncio.sleep(3600), name='reads')\n")
        spec = importlib.util.spec_from_file_location("asyncpg", place)
        assert spec is not None and spec.loader is not None
        client = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(client)
        self.enterContext(unittest.mock.patch.dict(sys.modules, asyncpg=client))

        class T(AsyncContainerTestCase):
            loop_scope = "class"
            reading: Any = None

            async def test_a(self) -> None:
                type(self).reading = client.read()

            async def test_b(self) -> None:
                self.assertFalse(self.reading.done())
                self.task = asyncio.create_task(asyncio.sleep(3600), name="own")

            async def test_c(self) -> None:
                self.assertFalse(self.reading.done())

        result, caught = self.warned(T)
        self.check(result, ran=3)
        of_the_test, of_the_class = (str(warning.message) for warning in caught)
        self.assertRegex(of_the_test, r"test_b left an asyncio task behind, which was cancelled: 'own'")
        self.assertRegex(
            of_the_class, rf"T left an asyncio task behind, .*'reads', sleep\(\), made at {re.escape(str(place))}:2"
        )

        class Own(AsyncContainerTestCase):
            async def test_a(self) -> None:
                self.reading = client.read()

        _, caught = self.warned(Own)
        self.assertRegex(str(caught[0].message), r"test_a left an asyncio task behind, which was cancelled: 'reads'")

    def test_those_of_the_class_live_on_until_its_end(self) -> None:
        class T(AsyncContainerTestCase):
            loop_scope = "class"

            @classmethod
            async def asyncSetUpClass(cls) -> None:
                cls.task = asyncio.create_task(asyncio.sleep(3600), name="server")

            async def test_a(self) -> None:
                self.assertFalse(self.task.done())

            test_b = test_a

        result, caught = self.warned(T)
        self.check(result, ran=2)
        [warning] = caught
        self.assertRegex(str(warning.message), r"T left an asyncio task behind, which was cancelled: 'server', ")

    def test_those_of_runAsync(self) -> None:
        class T(AsyncContainerTestCase):
            @classmethod
            async def work(cls) -> None:
                cls.task = asyncio.create_task(asyncio.sleep(3600), name="worker")

            @classmethod
            def setUpTestData(cls) -> None:
                cls.runAsync(cls.work())

            async def test_a(self) -> None:
                pass

        _, caught = self.warned(T)
        self.assertRegex(str(caught[0].message), r"T\.runAsync\(.*work\(\)\) left an asyncio task behind, .*'worker'")

    def test_those_of_a_client_go_with_it_and_a_test_s_own_use_of_one_does_not(self) -> None:
        service = self.service()

        class T(AsyncContainerTestCase):
            memory = service

            async def stop(self) -> None:
                self.task.cancel()

            async def test_a(self) -> None:
                self.task = asyncio.create_task(asyncio.sleep(3600))
                self.memory._closing_async(self, self.stop, "aclient")  # The client's package is `tests`.

        _, caught = self.warned(T)
        self.assertEqual(caught, [])


class LoopFactoryTest(AsyncTest):
    def test_it_makes_all_loops_however_it_is_written(self) -> None:
        class Loop(asyncio.SelectorEventLoop):
            pass

        def plain() -> Loop:
            return Loop()

        def method(self: object) -> Loop:
            return Loop()

        for scope in ("test", "class"):
            for factory in (Loop, plain, method, staticmethod(plain), classmethod(method)):
                with self.subTest(scope, factory=factory):

                    class T(AsyncContainerTestCase):
                        loop_scope = scope
                        loop_factory = factory
                        loops: ClassVar[list[object]] = []

                        @classmethod
                        async def note(cls) -> None:
                            cls.loops.append(asyncio.get_running_loop())

                        @classmethod
                        def setUpTestData(cls) -> None:
                            cls.runAsync(cls.note())

                        async def test_a(self) -> None:
                            await self.note()

                    self.check(run(T), ran=1)
                    self.assertEqual([type(loop) for loop in T.loops], [Loop, Loop])
                    self.assertEqual(len(set(map(id, T.loops))), 1 if scope == "class" else 2)


class RunAsyncTest(AsyncTest):
    def test_it_runs_class_work_and_closes_what_views_handed_out(self) -> None:
        events, service = self.events, self.service()

        class T(AsyncContainerTestCase):
            memory = service

            @classmethod
            async def work(cls) -> int:
                await connect(cls.memory, events)
                cls.memory.data["user"] = "ann"
                return 42

            @classmethod
            def setUpTestData(cls) -> None:
                events.append(str(cls.runAsync(cls.work())))

            async def test_a(self) -> None:
                self.assertEqual(self.memory.data, {"user": "ann"})

        self.check(run(T), ran=1)
        self.assertEqual(self.events[2:4], ["close client", "42"])

    def test_its_error_is_raised(self) -> None:
        async def work() -> None:
            raise OSError("no")

        with self.assertRaisesRegex(OSError, "^no$"):
            AsyncContainerTestCase.runAsync(work())

    def test_within_a_loop_it_says_what_to_do(self) -> None:
        async def work() -> None:
            pass

        async def test() -> None:
            AsyncContainerTestCase.runAsync(work())

        with self.assertRaises(LoopError) as caught:
            asyncio.run(test())
        self.assertEqual(
            str(caught.exception),
            "runAsync() was called where an event loop is running already: await the coroutine there",
        )

    def test_what_is_no_coroutine(self) -> None:
        async def work() -> None:
            pass

        with self.assertRaisesRegex(
            TypeError, r"^runAsync\(\) takes a coroutine, not <function .*: runAsync\(work\(\)\)"
        ):
            AsyncContainerTestCase.runAsync(work)  # type: ignore[arg-type]

    def test_the_current_loop_of_the_thread_stays(self) -> None:
        class T(AsyncContainerTestCase):
            def setUp(self) -> None:
                loop = asyncio.get_event_loop()
                self.runAsync(asyncio.sleep(0))
                self.assertIs(asyncio.get_event_loop(), loop)

            async def test_a(self) -> None:
                pass

        self.check(run(T), ran=1)


class MistakesTest(AsyncTest):
    def assertRefused(self, message: str, make: Callable[[], object]) -> None:
        with self.assertRaises(DeclarationError) as caught:
            make()
        self.assertEqual(str(caught.exception).rpartition("<locals>.")[2], message)

    def test_async_hooks_that_are_not_async(self) -> None:
        def hook(self: object) -> None:
            pass

        for name in ("asyncSetUp", "asyncTearDown", "asyncSetUpClass", "asyncTearDownClass"):
            self.assertRefused(
                f"T.{name} is not async: write `async def {name}`",
                lambda name=name: type("T", (AsyncContainerTestCase,), {name: hook}),
            )

    def test_class_hooks_that_are_no_class_methods(self) -> None:
        async def hook(self: object) -> None:
            pass

        self.assertRefused(
            "T.asyncSetUpClass is no class method: write @classmethod above it",
            lambda: type("T", (AsyncContainerTestCase,), {"asyncSetUpClass": hook, "loop_scope": "class"}),
        )

    def test_class_hooks_without_a_loop_of_the_class(self) -> None:
        async def hook(cls: type) -> None:
            pass

        self.assertRefused(
            "T.asyncSetUpClass needs a loop that lives as long as the class: set loop_scope = 'class', or call "
            "cls.runAsync(...) in setUpTestData",
            lambda: type("T", (AsyncContainerTestCase,), {"asyncSetUpClass": classmethod(hook)}),
        )

    def test_an_unknown_loop_scope(self) -> None:
        self.assertRefused(
            "T: unknown loop_scope 'module'; it must be 'test' or 'class'",
            lambda: type("T", (AsyncContainerTestCase,), {"loop_scope": "module"}),
        )

    def test_class_cleanups_that_are_async(self) -> None:
        async def cleanup() -> None:
            pass

        for base, cure in (
            (ContainerTestCase, ""),
            (
                AsyncContainerTestCase,
                ", in which cls.runAsync(...) runs a coroutine, or set loop_scope = 'class' and use asyncTearDownClass",
            ),
        ):
            cls = type("T", (base,), {})
            with self.assertRaises(DeclarationError) as caught:
                cls.addClassCleanup(cleanup)  # type: ignore[attr-defined]
            self.assertRegex(
                str(caught.exception),
                r"^T\.addClassCleanup\(.*cleanup\): it is async and nothing would ever await it; give a plain function"
                + re.escape(cure)
                + "$",
            )

    def test_an_async_verb_without_a_loop(self) -> None:
        service = self.service()

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                connect(self.memory, [])

            def test_b(self) -> None:
                self.memory._closing_async(self, asyncio.sleep, "aclient")  # type: ignore[arg-type]

        result = run(T)
        self.check(result, ran=2, errors=2)
        for number, verb in enumerate(("aconnect", "aclient")):
            self.assertEqual(
                self.last_line(result, number),
                f"LoopError: MemoryView.{verb}() was called where no event loop is running: call it in an `async def` "
                f"test, or in asyncSetUp, of an AsyncContainerTestCase; for a class's own data there is cls.runAsync(...)",
            )

    def test_an_async_verb_in_trio(self) -> None:
        trio = unittest.mock.Mock()
        with unittest.mock.patch.dict(sys.modules, trio=trio):
            with self.assertRaises(LoopError) as caught:
                running_loop("View.aconnect()")
            trio.lowlevel.current_task.side_effect = RuntimeError("must be called from async context")
            with self.assertRaisesRegex(LoopError, "where no event loop is running"):
                running_loop("View.aconnect()")
        self.assertEqual(
            str(caught.exception),
            "View.aconnect() was called in trio, and gives a client of asyncio: call it in a test of an "
            "AsyncContainerTestCase, or use a client of trio's with the address that the view has",
        )

    def test_a_client_that_is_brought_out_of_its_loop(self) -> None:
        async def make() -> Client:
            return Client([])

        class T(AsyncContainerTestCase):
            @classmethod
            def setUpTestData(cls) -> None:
                cls.client = cls.runAsync(make())

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertRegex(
            self.last_line(result),
            r"^LoopError: .*T\.runAsync\(.*make\(\)\) returned a Client \(tests\) of an event loop that has ended with the "
            r"call: clients belong to the loop that they were made in; make them in asyncSetUp or in the test, or set "
            r"loop_scope = 'class' and make them in asyncSetUpClass$",
        )

    def test_a_client_of_a_loop_that_has_ended(self) -> None:
        class T(AsyncContainerTestCase):
            @classmethod
            async def make(cls) -> None:
                cls.client = Client([])

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                asyncio.run(cls.make())

            async def test_a(self) -> None:
                raise AssertionError("never reached")

        for loop_scope in ("test", "class"):
            T.loop_scope = loop_scope
            result = run(T)
            self.check(result, ran=1, errors=1)
            self.assertRegex(
                self.last_line(result),
                r"^LoopError: .*T\.client is a Client \(tests\) of an event loop that has ended: clients belong to the loop",
            )


class OwnTimeTest(unittest.TestCase):
    def test_what_itest_does_in_a_step_of_the_loop_is_not_held_against_the_test(self) -> None:
        clock = testing.ManualClock()
        self.enterContext(unittest.mock.patch("itest.async_clients.SYSTEM", clock))

        class Loop(asyncio.SelectorEventLoop):
            """No step of it takes long only because the machine is busy."""

            def time(self) -> float:
                return clock.now

        async def work(does: Callable[[], object]) -> None:
            asyncio.get_running_loop().slow_callback_duration = 0.02
            does()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.assertAlmostEqual(asyncio.get_running_loop().slow_callback_duration, 0.02)

        def wait() -> None:
            clock.sleep(0.04)

        lease = unittest.mock.Mock(**{"topic.side_effect": lambda prefix, name: wait()})
        view = KafkaView(unittest.mock.Mock(), lease, "bytes", "", 0)
        for does, logs in (
            (wait, self.assertLogs),
            (own_time()(wait), self.assertNoLogs),
            (lambda: view.topic("orders"), self.assertNoLogs),
            (lambda: view.queue.topic("orders"), self.assertNoLogs),
        ):
            with logs("asyncio", "WARNING"), asyncio.Runner(debug=True, loop_factory=Loop) as runner:
                runner.run(work(does))

    def test_without_a_loop_it_does_nothing(self) -> None:
        with own_time():
            pass


class CostTest(unittest.TestCase):
    def test_plain_test_cases_do_without_asyncio(self) -> None:
        code = (
            "import sys, unittest\n"
            "from itest import ContainerTestCase, testing\n"
            "from itest.async_clients import own_time\n"
            "class T(ContainerTestCase):\n"
            "    memory = testing.MemoryService()\n"
            "    def test_a(self):\n"
            "        with own_time():\n"
            "            self.memory.data['x'] = 1\n"
            "with testing.session(testing.MemoryEngine()):\n"
            "    T('test_a').debug()\n"
            "    T.doClassCleanups()\n"
            "print('asyncio' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        self.assertEqual((done.stdout, done.stderr), ("False\n", ""))


if __name__ == "__main__":
    unittest.main()
