# SPDX-License-Identifier: Apache-2.0
"""The test case for coroutines. A module of its own, because asyncio is heavy and most suites do without.

    run             a new event loop, or with `loop_scope = "class"` that of the class
    last cleanup    in the loop: what the views handed out is closed, tasks that are left are cancelled and named
    class cleanups  with `loop_scope = "class"`: `asyncTearDownClass`, then the class's loop ends in the same manner

Services are started and reset outside of any loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import sys
import unittest
from collections.abc import Coroutine
from typing import Any, ClassVar, Literal, TypeVar

from itest import async_tasks
from itest.case import ContainerMixin
from itest.errors import DeclarationError, LoopError
from itest.service import attributes

__unittest = True

SCOPES = ("test", "class")

T = TypeVar("T")


class AsyncContainerTestCase(ContainerMixin, unittest.IsolatedAsyncioTestCase):
    """`ContainerTestCase` for `async def test_*`. Services are started and reset outside of the event loop."""

    loop_scope: ClassVar[Literal["test", "class"]] = "test"
    """How long an event loop lives: `test`, or `class` for one that all tests of the class run in."""

    _asyncioRunner: asyncio.Runner | None
    _asyncioTestContext: contextvars.Context
    _itest_tasks: set[asyncio.Task[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check(cls)

    @classmethod
    async def asyncSetUpClass(cls) -> None:
        """Override with `loop_scope = "class"`: called in the class's loop after `setUpTestData`. What it writes to
        services is part of the baseline. Needs no `super()`."""

    @classmethod
    async def asyncTearDownClass(cls) -> None:
        """Override with `loop_scope = "class"`: called in the class's loop after the last test, where asyncSetUpClass
        has succeeded."""

    @classmethod
    def runAsync(cls, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result, in setUpTestData, setUpClass and the like.

        With `loop_scope = "class"` in the class's loop, else in one that ends with it: a client made there cannot be
        used in a test. Raises LoopError for one that is kept nevertheless, where a loop is running already, and where the
        coroutine is cancelled.
        """
        if not inspect.iscoroutine(coro):
            raise TypeError(f"runAsync() takes a coroutine, not {coro!r}: runAsync(work()) and async def work()")
        if asyncio._get_running_loop() is not None:
            coro.close()
            raise LoopError("runAsync() was called where an event loop is running already: await the coroutine there")
        call = f"{cls.__qualname__}.runAsync({coro.__qualname__}())"
        result: T
        if cls.loop_scope == "class":
            runner = _runner(cls)
            result = _run(runner, coro, call, cls.__dict__["_itest_context"])
            return result
        # By a factory, which leaves the thread's current loop alone: it may be the one of a test.
        runner = asyncio.Runner(debug=True, loop_factory=_loop_factory(cls) or asyncio.new_event_loop)
        try:
            try:
                result = _run(runner, coro, call)
            finally:
                left = runner.run(async_tasks.end())
        finally:
            async_tasks.close(runner)
        async_tasks.report(call, left, *_place(cls))
        if _is_of_ended_loop(result):
            raise LoopError(f"{call} returned {_kind(result)} of an event loop that has ended with the call: {_CURE}")
        return result

    @classmethod
    def _itest_entered(cls) -> None:
        _check(cls)  # Again: a base's `__init_subclass__` may call no `super()`.
        if cls.loop_scope == "class":
            cls.runAsync(cls.asyncSetUpClass())
            cls.addClassCleanup(_tear_down, cls)

    def _itest_before(self) -> None:
        super()._itest_before()
        cls = type(self)
        if cls.__dict__.get("_itest_checked") is not (loans := cls.__dict__["_itest_loans"]):
            _check_clients(cls)
            cls._itest_checked = loans  # type: ignore[attr-defined]  # each class has its own: it must not be inherited
        # Run first of ours and after all of the test's own, as cleanups are.
        self.addCleanup(self._itest_end_async)

    def _itest_end_async(self) -> None:
        assert self._asyncioRunner is not None
        spared = async_tasks.CLIENTS if self.loop_scope == "class" else ()
        if async_tasks.is_anything_left(self._asyncioRunner.get_loop(), self._itest_tasks, spared):
            left = self._asyncioRunner.run(async_tasks.end(self._itest_tasks, spared))
            async_tasks.report(self.id(), left, *_place(getattr(self, self._testMethodName)))

    # unittest makes a loop for each test here. There is no public way to give it another one: `loop_factory` does not do,
    # because the loop that it gives is closed after the test, and unittest asks it from Python 3.13 on only.

    def _setupAsyncioRunner(self) -> None:
        self._itest_tasks = set()
        if self.loop_scope == "class":
            self._asyncioRunner = _runner(type(self))
            loop = self._asyncioRunner.get_loop()
            asyncio.set_event_loop(loop)  # Other classes set theirs meanwhile.
            self._asyncioTestContext = type(self).__dict__["_itest_context"].copy()
            self._itest_tasks = asyncio.all_tasks(loop)  # Those of the class.
        else:
            self._asyncioRunner = asyncio.Runner(debug=True, loop_factory=_loop_factory(self))

    def _tearDownAsyncioRunner(self) -> None:
        runner, self._asyncioRunner = self._asyncioRunner, None
        if self.loop_scope != "class":
            assert runner is not None
            async_tasks.close(runner)
        elif isinstance(sys.exc_info()[1], KeyboardInterrupt):  # No cleanups of the class will be run.
            _end_loop(type(self), say=False)  # A warning that is an error would take its place.


def _runner(cls: type[AsyncContainerTestCase]) -> asyncio.Runner:
    """What runs the class's loop; made at the first call, and anew after the class was left."""
    runner: asyncio.Runner | None = cls.__dict__.get("_itest_runner")
    if runner is None:
        runner = asyncio.Runner(debug=True, loop_factory=_loop_factory(cls))
        cls._itest_runner = runner  # type: ignore[attr-defined]  # each class has its own: it must not be inherited
        cls._itest_context = contextvars.copy_context()  # type: ignore[attr-defined]  # as above
        cls.addClassCleanup(_end_loop, cls)
    return runner


def _loop_factory(owner: AsyncContainerTestCase | type[AsyncContainerTestCase]) -> Any:
    """What makes the loops of a class or a test: its attribute `loop_factory`, as a static or class method, as a plain
    function, or as a method, to which the owner is given. None where there is none."""
    factory = inspect.getattr_static(owner, "loop_factory", None)
    if isinstance(factory, staticmethod | classmethod):
        return getattr(owner, "loop_factory")  # noqa: B009  # typeshed has it from Python 3.13 on
    if inspect.isfunction(factory) and any(
        each.default is each.empty for each in inspect.signature(factory).parameters.values()
    ):
        return functools.partial(factory, owner)
    return factory


def _run(
    runner: asyncio.Runner, coro: Coroutine[Any, Any, T], call: str, context: contextvars.Context | None = None
) -> T:
    """Raises LoopError for a coroutine that ends cancelled: CancelledError is no Exception, and unittest would let it end
    the run."""
    try:
        result: T = runner.run(coro, context=context)
    except asyncio.CancelledError as error:  # Not by Ctrl-C: the runner makes that a KeyboardInterrupt.
        raise LoopError(f"{call} was cancelled, by itself or by a task that it awaits and that is cancelled") from error
    return result


def _tear_down(cls: type[AsyncContainerTestCase]) -> None:
    if "_itest_runner" in cls.__dict__:  # Not after Ctrl-C.
        cls.runAsync(cls.asyncTearDownClass())


def _end_loop(cls: type[AsyncContainerTestCase], say: bool = True) -> None:
    if (runner := cls.__dict__.get("_itest_runner")) is None:
        return
    del cls._itest_runner  # type: ignore[attr-defined]  # as above
    try:
        left = runner.run(async_tasks.end())
    finally:
        async_tasks.close(runner)
    if say:
        async_tasks.report(f"{cls.__module__}.{cls.__qualname__}", left, *_place(cls))


_CURE = (
    "clients belong to the loop that they were made in; make them in asyncSetUp or in the test, or set "
    "loop_scope = 'class' and make them in asyncSetUpClass"
)


def _check(cls: type[AsyncContainerTestCase]) -> None:
    """Raise DeclarationError for what unittest would never call, or only with an assertion that explains nothing."""
    owner = cls.__qualname__
    if cls.loop_scope not in SCOPES:
        raise DeclarationError(f"{owner}: unknown loop_scope {cls.loop_scope!r}; it must be 'test' or 'class'")
    for name, value in attributes(cls).items():
        function = getattr(value, "__func__", value)
        if name in ("asyncSetUp", "asyncTearDown", "asyncSetUpClass", "asyncTearDownClass"):
            if not inspect.iscoroutinefunction(function):
                raise DeclarationError(f"{owner}.{name} is not async: write `async def {name}`")
            if name.endswith("Class") and not isinstance(value, classmethod):
                raise DeclarationError(f"{owner}.{name} is no class method: write @classmethod above it")
            if name.endswith("Class") and cls.loop_scope != "class" and value is not vars(AsyncContainerTestCase)[name]:
                raise DeclarationError(
                    f"{owner}.{name} needs a loop that lives as long as the class: set loop_scope = 'class', or call "
                    f"cls.runAsync(...) in setUpTestData"
                )


def _check_clients(cls: type[AsyncContainerTestCase]) -> None:
    """Raise LoopError for a client among the class's attributes that no test can use."""
    for name, value in attributes(cls).items():
        if _is_of_ended_loop(value):
            raise LoopError(f"{cls.__qualname__}.{name} is {_kind(value)} of an event loop that has ended: {_CURE}")


def _is_of_ended_loop(value: object) -> bool:
    """Whether it says so itself, as clients of asyncpg and aiokafka and asyncio's own objects do."""
    loop = None
    with contextlib.suppress(Exception):  # Without the value's own __getattr__, which may do anything.
        loop = object.__getattribute__(value, "_loop")
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def _kind(value: object) -> str:
    return f"a {type(value).__name__} ({type(value).__module__.partition('.')[0]})"


def _place(thing: Any) -> tuple[str, int]:
    """The file and line where a function or class begins, as far as is known."""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    return getattr(sys.modules.get(thing.__module__), "__file__", None) or thing.__module__, 1
