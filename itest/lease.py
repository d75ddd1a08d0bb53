# SPDX-License-Identifier: Apache-2.0
"""What a class holds of a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from itest.view import View

if TYPE_CHECKING:
    from pathlib import Path

    from itest.evidence import Aside, Evidence

V = TypeVar("V", bound=View)


class Lease(ABC, Generic[V]):
    """What a class holds of a server: data of its own, brought back to the baseline before each test.

    The order of calls: `view` (class level) is used; `seal()` ends the baseline; then for each test `reset()` gives a
    view, `finish()` ends its use, and the caller closes it; `close()` gives everything back. `way` says how the last
    reset was done, in a service that has several ways; it is a fact of the reset's span.
    """

    way = ""

    cuts = 0
    """How often it has ended connections of others than itest: of an app that lives on, which may not expect that."""

    used_by: Sequence[str] = ()
    """The services of the class that refer to it, by their names there: what is done to the data may be an app's doing."""

    view: V

    def reconnected(self) -> None:  # most leases end none
        """The app whose connections it has ended since the last reset (`cuts`) has others now."""

    @abstractmethod
    def seal(self) -> None:
        """What is there now is the baseline. Called once, before the first test."""

    @abstractmethod
    def reset(self, test: str) -> V:
        """Bring the data back to the baseline, whatever was done to it, and give the view of the test so named."""

    def lend(self, test: str) -> V | None:
        """The view of the test so named where the end of somebody's transaction undoes what tests do. It takes the place of
        `seal` and `reset`. None: not with this isolation."""
        return None

    def finish(self, test: str) -> None:  # most leases have nothing to say here
        """The last of the test's own cleanups: what is raised here fails the test that caused it."""

    def rest(self, test: str) -> None:  # most servers do nothing but what a client waits for
        """Wait, for a moment, until the server is done with what that test has asked of it, or the set-up of the class so
        named: the data that it writes to is reset, or is the baseline, after this. What is not done is reported."""

    def evidence(self, since: float) -> Evidence:
        """What state a failed test has left things in, `since` the moment it began (seconds since 1970).

        Called on a thread of its own while the test waits, for 2 s at most; it may be left behind after that. It changes
        nothing and takes no lock that a test needs, so it asks on connections of its own. What it raises is one line.
        """
        from itest.evidence import Evidence  # Only failing tests need it.

        return Evidence()

    def waits(self) -> list[str]:
        """What a test waits for in the service, which has been running for very long: lines for people.

        Called on a thread of its own while the test goes on; else as `evidence`.
        """
        return []

    def meaning(self, log: Sequence[str]) -> list[str]:  # most leases know of nothing
        """What these lines of the server's log, of a failed test's time, mean for the test: lines for its note."""
        return []

    def settle(self, test: str, since: float, alone: bool) -> None:
        """With `strict`, after a test that passed, its clients closed: end what it has left in the service, and report
        it (leaks.report). It began at `since`. `alone`: no app of the class uses the service, nor has the class an event
        loop of its own; those may keep connections.
        """

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        """Have what that test left stay where no later one comes; the server will outlive the run. None: it cannot be.

        Called after the test, with its clients closed. `write(name, text)` gives the path of a file that only this user
        may read, for passwords.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Give the data's place back. Never raises for a server that is gone."""


class Held:
    """What `Service.during` gives where somebody else may hold a transaction for all of the class, which nothing must be reset
    under. `now` is called before each test, and tells whether it is held."""

    def __init__(self, now: Callable[[], bool]) -> None:
        self.now = now
