# SPDX-License-Identifier: Apache-2.0
"""The suite that plain unittest makes of the selected tests: it sees the whole run first, and its end last.

unittest's one loader makes every suite through its attribute `suiteClass`, after it has imported the test modules. So
the outermost suite of a run is one of ours, and knows before the first test which services the run needs: they start
side by side, while the tests of those that are ready run already. Other runners make suites of their own; there,
services start at the first class that needs them.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from typing import Any

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).

Begin = Callable[[list[unittest.TestCase], unittest.TestResult], bool]
End = Callable[[unittest.TestResult], object]

_begin: Begin | None = None
_end: End | None = None


def install(begin: Begin, end: End) -> None:
    """Have plain unittest make suites of this kind, unless somebody else has chosen one.

    `begin` is called with the selected tests and the result before the first test, and says whether a run begins here;
    if so, `end` is called with the result after the last.
    """
    global _begin, _end
    _begin, _end = begin, end
    if unittest.defaultTestLoader.suiteClass is unittest.TestSuite:
        unittest.defaultTestLoader.suiteClass = RunSuite


class RunSuite(unittest.TestSuite):
    """A TestSuite; as the outermost of a run it also begins and ends it."""

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        # Within another suite, also one of somebody else's, unittest has marked the result already (TestSuite.run).
        within = getattr(result, "_testRunEntered", False)
        if within or _begin is None or _end is None or not _begin([*_tests(self)], result):
            return super().run(result, debug)
        try:
            return super().run(result, debug)
        finally:
            _end(result)


def _tests(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestCase):
            yield test
        elif hasattr(test, "__iter__"):
            yield from _tests(test)
