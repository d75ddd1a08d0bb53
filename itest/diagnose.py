# SPDX-License-Identifier: Apache-2.0
"""Notes for a failing test: its services' logs since it began and their state, attached to the test's own exception.

The exception is on its way to the result when it is annotated, which in Python 3.11 and later is before tearDown. So
every runner that shows notes (PEP 678) shows these, and nothing is done for a test that passes but to note the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Thread, get_ident
from typing import Any

from itest import leaks, naming, trace
from itest import session as sessions
from itest.clock import SYSTEM, wall
from itest.config import Config
from itest.errors import IsolationError, LeftBehind
from itest.loan import Loan
from itest.service import View

# What looks into a failure is imported by the first one: most runs have none. No import may have anything raised here; one fails
# where the test has used up the process's file descriptors.

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).

HEAD = "itest: the services when this test failed"
"""What each note begins with."""

LONG = 60.0
"""Seconds after which it is told that a test goes on; then after twice as many, and so on."""

MOST_NOTES = 3
"""How many failures of one test are looked into: each of a hundred subTests may fail."""


class Diagnosis:
    """The diagnosis of one test, its resets included, or of the set-up of one class."""

    __slots__ = (
        "_began",
        "_config",
        "_due",
        "_escapes",
        "_loans",
        "_moment",
        "_name",
        "_notes",
        "_pid",
        "_since",
        "_test",
        "_thread",
        "_threads",
        "failed",
    )

    def __init__(self, test: str, loans: Sequence[Loan], config: Config, *, name: str = "") -> None:
        self._test = test
        self._name = name or test.rpartition(".")[2]
        self._loans = loans
        self._config = config
        self._pid = os.getpid()
        self._notes: list[str] = []
        self._escapes: list[str] = []
        """What the errors said by which the test itself has escaped its isolation."""
        self.failed = False
        """Whether anything was annotated."""
        self._threads: Collection[Thread] = ()
        self._moment, self._due, self._thread = 0.0, inf, 0
        self._mark()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child that ends as its test does: its connections are also its parent's, which goes on."""
        return os.getpid() != self._pid

    def begin(self) -> None:
        """The test begins here: what happened before, in the resets, is not its doing."""
        self._threads = leaks.threads()
        self._mark()
        self.begin_to_count()

    def begin_to_count(self) -> None:
        """From here on it counts for `look`, on this thread."""
        self._moment, self._due, self._thread = SYSTEM.monotonic(), LONG, get_ident()

    def _mark(self) -> None:
        self._began = self._since = self._now()

    def _now(self) -> float:
        """This moment, as logs know it: those whose lines tell no time are marked before it, not after."""
        for loan in self._loans:
            loan.mark()
        return wall()

    def look(self, runner: object) -> None:
        """On another thread: tell of it if it has been running for very long. `runner` has its event loop. Never raises."""
        seconds = SYSTEM.monotonic() - self._moment
        if seconds < self._due:
            return
        while self._due <= seconds:
            self._due *= 2
        with suppress(Exception):  # It must not take part in what is wrong.
            from itest import hanging

            hanging.tell(f"{self._name} ({self._test})", seconds, self._thread, runner, self._loans)

    def annotate(self, error: object) -> None:
        """Add the note to an exception, unless it has this test's. Never raises."""
        self.failed = True
        if isinstance(error, IsolationError):
            self._escapes.append(str(error))
        if self.forked or not isinstance(error, BaseException):
            return
        if all(loan.lent is None for loan in self._loans):  # There is nothing to show.
            return
        try:
            if not self._has_annotated(error):
                self._add_to(error, self._note(error))
        except Exception as problem:
            with suppress(Exception):  # Its class does not let anybody add notes.
                self._add_to(error, f"{HEAD}: they could not be looked at, {naming.shorten(repr(problem))}")

    def has_told(self, error: IsolationError) -> bool:
        """Whether the test has failed by this itself: at its end it is said with the test's name before it."""
        return any(str(error).endswith(text) for text in self._escapes)

    def _has_annotated(self, error: BaseException) -> bool:
        """Whether it has a note of this test. One of another test, which has raised the same object, is taken off it."""
        # Anybody may set `__notes__`, to anything.
        theirs = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str) and note.startswith(HEAD)]
        if any(note in self._notes for note in theirs):
            return True
        for note in theirs:
            error.__notes__.remove(note)
        return False

    def _add_to(self, error: BaseException, note: str) -> None:
        # Kept by its text: who keeps an exception keeps all that its frames hold.
        self._notes.append(note)
        error.add_note(note)

    def begin_strict(self) -> None:
        """With `strict`: from here on, what is found to be left behind is this test's."""
        leaks.begin()

    def end_strict(self, views: Iterable[View]) -> None:
        """With `strict`, as the last of the test's cleanups: raise LeftBehind if it has left anything.

        One that failed is left as it is: its data is worth more.
        """
        try:
            if not self.failed and not self.forked:
                for view in views:
                    view.close()
                for loan in self._loans:
                    loan.settle(self._test, self._began)
                leaks.report_threads(self._test, self._threads)
        finally:
            left = leaks.end()
        if left and not self.failed:
            raise LeftBehind(left)
        for line in left:
            trace.say(line)

    def end(self) -> None:
        """After the test, whatever came of it."""
        if not self._config.strict:
            leaks.report_threads(self._test, self._threads)

    def keep(self) -> None:
        """After a test that failed: keep what it left, if that is wanted. Never raises."""
        if self.failed and self._config.keep and self._loans and not self.forked:
            from itest import keeping

            keeping.keep(self._test, self._loans, sessions.current())

    def _note(self, error: BaseException) -> str:
        from itest import notes
        from itest.examine import Subject, examine

        if len(self._notes) >= MOST_NOTES:
            return f"{HEAD} are shown with its first {MOST_NOTES} failures only"
        since, self._since = self._since, self._now()
        lent = [(loan.name, *loan.lent, loan.given_to(self._test)) for loan in self._loans if loan.lent is not None]
        findings = examine([Subject(*each) for each in lent], since)
        for loan in self._loans:
            if any(finding.ended and finding.subject.name == loan.name for finding in findings):
                loan.found_dead()
        place, trouble = None, ""
        if self._config.artifacts and findings:
            try:
                place = notes.save(findings, Path(self._config.artifacts), self._test)
            except OSError as refusal:
                trouble = f"\nnothing could be written to ITEST_ARTIFACTS: {refusal}"
        return notes.text(findings, place, error) + trouble


class Watched:
    """A unittest result that has failures annotated on their way. Everything else goes to the real one."""

    __slots__ = ("_itest_annotate", "_itest_result")
    _itest_result: Any
    _itest_annotate: Callable[[object], None]

    def __init__(self, result: object, annotate: Callable[[object], None]) -> None:
        object.__setattr__(self, "_itest_result", result)
        object.__setattr__(self, "_itest_annotate", annotate)

    def addError(self, test: object, err: Any) -> Any:
        self._itest_annotate(_exception(err))
        return self._itest_result.addError(test, err)

    def addFailure(self, test: object, err: Any) -> Any:
        self._itest_annotate(_exception(err))
        return self._itest_result.addFailure(test, err)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._itest_result, name)
        if name != "addSubTest":  # A result need not have that one: unittest asks.
            return found

        def add_subtest(test: object, subtest: object, err: Any) -> Any:
            if err is not None:
                self._itest_annotate(_exception(err))
            return found(test, subtest, err)

        return add_subtest

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._itest_result, name, value)


def _exception(err: Any) -> object:
    """Of what a result is told: unittest's exc_info, or another's object that has it as its value (Twisted's Failure)."""
    return err[1] if isinstance(err, tuple) else getattr(err, "value", None)
