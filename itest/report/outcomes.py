# SPDX-License-Identifier: Apache-2.0
"""Tests as spans, with their outcomes: heard from the result, whoever made it, since every runner tells its result.

The result's methods are replaced on the instance, as no hook of plain unittest tells of a test's end.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

from itest.trace import Recorder, Span

PASSED, FAILED, ERROR, SKIPPED, EXPECTED, UNEXPECTED = (
    "passed",
    "failed",
    "error",
    "skipped",
    "expected failure",
    "unexpected success",
)


class Watch:
    """Records the tests that one result is told of. `recorder` may be another one later."""

    def __init__(self, result: unittest.TestResult, recorder: Recorder) -> None:
        self.recorder = recorder
        self._result = result
        self._spans: dict[int, Span] = {}
        self._after("startTest", self._started, first=True)
        self._after("addSuccess", lambda test: self._ended(test, PASSED))
        self._after("addFailure", lambda test, error: self._ended(test, FAILED, self._text("failures", test, error)))
        self._after("addError", lambda test, error: self._ended(test, ERROR, self._text("errors", test, error)))
        self._after("addSkip", lambda test, reason="": self._ended(test, SKIPPED, str(reason)))
        self._after("addExpectedFailure", lambda test, error: self._ended(test, EXPECTED))
        self._after("addUnexpectedSuccess", lambda test, *_: self._ended(test, UNEXPECTED))
        self._after("addSubTest", self._subtest)
        self._after("stopTest", self._stopped, first=True)

    def _after(self, name: str, hear: Callable[..., object], first: bool = False) -> None:
        """Hear of a call of the result's method: after it, or as the `first`, where it is only the moment that counts."""
        call: Callable[..., Any] | None = getattr(self._result, name, None)
        if call is None:
            return

        def heard(*args: Any, **kwargs: Any) -> Any:
            if first:
                hear(*args, **kwargs)
                return call(*args, **kwargs)
            try:
                return call(*args, **kwargs)
            finally:
                hear(*args, **kwargs)

        setattr(self._result, name, heard)

    def _started(self, test: Any) -> None:
        self._spans[id(test)] = self.recorder.begin("test", test.id(), {"owner": _owner(test)})

    def _stopped(self, test: Any) -> None:
        if (span := self._spans.pop(id(test), None)) is not None:
            self.recorder.end(span)  # Without an outcome where Ctrl-C has ended it.

    def _ended(self, test: Any, outcome: str, text: str = "") -> None:
        test = getattr(test, "test_case", test)  # A subTest's is told with its test's.
        span = self._spans.get(id(test))
        if span is None:  # Of a class or module: its set-up or tear-down.
            span = self.recorder.begin("test", test.id(), {"owner": _owner(test), "of": "class"})
            self.recorder.end(span)
        facts = span.facts
        if "outcome" not in facts or facts["outcome"] in (PASSED, SKIPPED):
            facts["outcome"] = outcome
        span.failed = facts["outcome"] in (FAILED, ERROR, UNEXPECTED)
        if text:
            facts["text"] = f"{facts['text']}\n{text}" if facts.get("text") else text

    def _subtest(self, test: Any, subtest: Any, error: Any) -> None:
        if isinstance(error, tuple):  # pytest tells of skipped ones too, with a wrapper of its own.
            failed = issubclass(error[0], getattr(test, "failureException", AssertionError))
            text = self._text("failures" if failed else "errors", subtest, error)
            self._ended(test, FAILED if failed else ERROR, f"{subtest._subDescription()}\n{text}")

    def _text(self, kept: str, test: Any, error: Any) -> str:
        """The traceback as the runner shows it, notes included; else as unittest would."""
        texts = getattr(self._result, kept, None)
        if isinstance(texts, list) and texts and texts[-1][0] is test:
            return str(texts[-1][1])
        error = getattr(error, "_excinfo", error)  # pytest has a wrapper of its own.
        if not isinstance(error, tuple) or len(error) != 3 or not hasattr(test, "failureException"):
            return str(error)
        plain = unittest.TestResult()
        plain.addError(test, error)
        return plain.errors[0][1]


def _owner(test: Any) -> str:
    """The class of a test; that of `setUpClass (tests.OrderTest)` is in its name."""
    if isinstance(test, unittest.TestCase):
        return f"{type(test).__module__}.{type(test).__qualname__}"
    name = str(test.id())
    return name.partition("(")[2].rstrip(")") if "(" in name else name
