# SPDX-License-Identifier: Apache-2.0
"""Where a run begins and ends, as far as its tests can tell: the session is opened ahead of them, and closed after them."""

from __future__ import annotations

import contextlib
import inspect
import os
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from itest import session as sessions
from itest import sharing
from itest.service import Service

if TYPE_CHECKING:
    from itest.diagnose import Diagnosis

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).

_running: list[unittest.TestCase] = []
"""The tests with services that run right now: one, and those of runs within it or on other threads."""

_set_ups: dict[type, Diagnosis] = {}
"""The diagnoses of classes whose set-up has begun and none of whose tests has: what follows `super().setUpClass()` in one of the
user's belongs to it."""

_runs: list[unittest.TestResult] = []
"""The results of the runs of plain unittest that have begun and not ended: one, and those within it (tests of test tools
have them, in setUpClass as well) or on other threads. The session is closed with the last of them."""

_selected: dict[type[unittest.TestCase], list[str]] = {}
"""The methods of each class that plain unittest is about to run."""

os.register_at_fork(after_in_child=_running.clear)
os.register_at_fork(after_in_child=_set_ups.clear)
os.register_at_fork(after_in_child=_runs.clear)


def install() -> None:
    """Have plain unittest make suites of our kind, unless somebody else has chosen one."""
    if unittest.defaultTestLoader.suiteClass is unittest.TestSuite:
        unittest.defaultTestLoader.suiteClass = RunSuite


class RunSuite(unittest.TestSuite):
    """The suite that plain unittest makes of the selected tests; as the outermost of a run it also begins and ends it.

    unittest's one loader makes every suite through its attribute `suiteClass`, after it has imported the test modules. So
    the outermost suite of a run is one of ours, and knows before the first test which services the run needs: they start
    side by side, while the tests of those that are ready run already. Other runners make suites of their own; there,
    services start at the first class that needs them.
    """

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        # Within another suite, also one of somebody else's, unittest has marked the result already (TestSuite.run).
        if getattr(result, "_testRunEntered", False) or not _begin([*tests_of(self)], result):
            return super().run(result, debug)
        try:
            return super().run(result, debug)
        finally:
            _end_of(result)


def tests_of(suite: Any) -> Iterator[unittest.TestCase]:
    """The tests of a suite, in order."""
    for test in suite:
        if isinstance(test, unittest.TestCase):
            yield test
        elif hasattr(test, "__iter__"):
            yield from tests_of(test)


@contextlib.contextmanager
def running(test: unittest.TestCase) -> Iterator[None]:
    """Within the `with`, the end of another run is not that of this test's."""
    _running.append(test)
    try:
        yield
    finally:
        if test in _running:  # Not in a child of a fork within the test, which ends as the test does.
            _running.remove(test)


def set_up_begins(cls: type, diagnosis: Diagnosis) -> None:
    """A class has its services, and is filled by whoever calls this and by what the user's own setUpClass does after it."""
    _set_ups[cls] = diagnosis


def set_up_ends(cls: type) -> None:
    """Its first test begins, or it is left."""
    _set_ups.pop(cls, None)


def look() -> None:
    """Have it told, on another thread, of each test and set-up that has been running for very long. Never raises."""
    for cls, set_up in list(_set_ups.items()):
        set_up.look(vars(cls).get("_itest_runner"))
    for test in list(_running):
        if (diagnosis := vars(test).get("_itest_diagnosis")) is not None:
            diagnosis.look(vars(test).get("_asyncioRunner"))


def close_with(result: unittest.TestResult) -> None:
    """Have the session closed when the run ends, before the result is printed, also after Ctrl-C.

    The result's `stopTestRun` is called in a `finally` by every runner that has one; it is patched on the instance,
    once, because no other hook of plain unittest comes at the end of a run (docs/design.md, "The closing chain").
    A worker process is left out: unittest-parallel makes a run of each shard, and each would start its servers anew.
    So is a run within a test, as tests of test tools make them; one within another run leaves the end to that.
    """
    if _running or hasattr(result, "_itest_closes") or sharing.worker_of() or not hasattr(result, "stopTestRun"):
        return
    stop: Callable[[], object] = result.stopTestRun

    def stop_and_close() -> None:
        try:
            _end()
        finally:
            stop()

    result.stopTestRun = stop_and_close  # type: ignore[method-assign]  # what this function is for
    result._itest_closes = True  # type: ignore[attr-defined]  # a mark of ours on somebody else's object


def is_skipped(test: unittest.TestCase) -> bool:
    """Whether the test, or its class, is decorated with `skip`."""
    # Django's skipUnlessDBFeature asks the database, and until the class has its own that may be one that answers nobody.
    with contextlib.suppress(Exception):
        if getattr(type(test), "__unittest_skip__", False):
            return True
    return getattr(getattr(test, test._testMethodName, None), "__unittest_skip__", False)


def ask_to_skip(cls: type[unittest.TestCase]) -> None:
    """Raise SkipTest where the class, which has its services now, answers that it is skipped (`_defer_skip`)."""
    deferred = [skip for base in cls.__mro__ if (skip := vars(base).get("_itest_skip")) is not None]
    if any(skip.__get__(None, cls) for skip in deferred):
        raise unittest.SkipTest(getattr(cls, "__unittest_skip_why__", ""))


def skip_reasons(cls: type[unittest.TestCase]) -> list[str]:
    """Why all selected tests of the class are skipped; empty where one is not, or where there is none."""
    names = _selected.get(cls) or unittest.defaultTestLoader.getTestCaseNames(cls)
    methods = [getattr(cls, name, None) for name in names]
    if not all(getattr(method, "__unittest_skip__", False) for method in methods):
        return []
    return list(dict.fromkeys(str(getattr(method, "__unittest_skip_why__", "")) for method in methods))


def _begin(tests: list[unittest.TestCase], result: unittest.TestResult) -> bool:
    """Start what the selected tests need, all at once and beside the tests: each class waits for its own only.

    False in a worker process and where a session is open already: then this is a part of a run that somebody else began.
    A run within another one, or beside it on another thread, starts what it needs class by class.
    """
    for cls in {type(test) for test in tests}:
        _defer_skip(cls)
    if sharing.worker_of() or (_is_open() and not _runs):
        return False
    _runs.append(result)
    if len(_runs) > 1:
        return True
    for test in tests:
        _selected.setdefault(type(test), []).append(getattr(test, "_testMethodName", ""))
    classes = dict.fromkeys(type(test) for test in tests if not is_skipped(test))
    declared: list[list[tuple[str, Service[Any]]]] = [getattr(cls, "_itest_declarations", []) for cls in classes]
    services = [service for each in declared for _, service in each if service.scope == "session"]
    with contextlib.suppress(Exception):  # A wrong setting, first of all: each class that needs it tells.
        if services:
            sessions.current().start_ahead(services)
        if any(declared):
            sessions.current().telling.watch(result)
    return True


def _defer_skip(cls: Any) -> None:
    """Have a class with services answer whether it is skipped once it has them, where that asks a database, as Django's
    skipUnlessDBFeature does: unittest would ask before, and what that raises ends the run."""
    if not hasattr(cls, "_itest_declarations"):
        return
    skip = inspect.getattr_static(cls, "__unittest_skip__", False)
    if hasattr(skip, "__get__"):
        cls._itest_skip = skip
        cls.__unittest_skip__ = False


def _is_open() -> bool:
    return sessions.opened() is not None


def _end_of(result: unittest.TestResult) -> None:
    """The end of a run that `_begin` has begun; in a child of a fork within it, of all that there is."""
    _runs[:] = [each for each in _runs if each is not result]
    _end()


def _end() -> None:
    """Close the session, also when no test has come to run because each class failed to start; not while another run goes
    on."""
    if _running or _runs:
        return
    _selected.clear()
    if (session := sessions.opened()) is not None:
        session.close()
