# SPDX-License-Identifier: Apache-2.0
"""Readiness: checks that say whether an instance is ready, and the one loop that waits for them.

A check is any callable that takes the instance and returns when it is ready or raises `NotReady(reason)`. Any other
exception ends the wait at once, except those a check lists as `expected`. Checks combine: `port("http") & log("up")`,
also with a user's own function of the view (wait_function.py).
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from itest import naming
from itest.clock import Deadline
from itest.engines import OUT_OF_REACH, RESTARTING, Instance, State
from itest.errors import DeclarationError, ItestError

FIRST_PAUSE = 0.010
"""Seconds between the first two polls."""

GROWTH = 1.1
"""Each pause is this much longer than the one before: a tenth of the time waited so far is what a poll may miss."""

LONGEST_PAUSE = 0.100
"""Seconds between two polls at most. Polling every second costs users a second per start (see docs/design.md)."""

STEADY = 0.5
"""Seconds for which a container must have run of which nothing else can be seen: many mistakes end it sooner, and on a busy
machine Docker takes more than 0.2 to hear of that."""

CUT_OFF_AFTER = 3.0
"""Seconds after which a container that does not answer is looked at for whether it is out of reach."""

ANSWER_TIMEOUT = 2.0
"""Seconds one poll may wait for an answer, so that a server that accepts and says nothing cannot eat the deadline."""


ANY_SUCCESS = range(200, 400)
"""The statuses that `http` takes for an answer if it is not told otherwise: any 2xx or 3xx."""


_waiting = threading.local()
"""`deadline`: that of the wait in which a check is asked on this thread, or of the start that a service is a part of."""

ViewOf: TypeAlias = Callable[[Instance], Any]
"""Makes the view that users' own functions are given; it is closed after each."""


class NotReady(Exception):
    """Not yet. The text is the reason, kept for the error if the deadline passes."""


@contextlib.contextmanager
def until(deadline: Deadline) -> Iterator[None]:
    """Have what is done here, on this thread, know the deadline of the wait that it is a part of."""
    outer, _waiting.deadline = getattr(_waiting, "deadline", None), deadline
    try:
        yield
    finally:
        _waiting.deadline = outer


def current_deadline() -> Deadline | None:
    """That of the wait which this thread is in."""
    return getattr(_waiting, "deadline", None)


def time_for(seconds: float) -> float:
    """The seconds that a check may give a command: so many, but no more than its wait has left, or than one answer may take
    at the end of that."""
    deadline = current_deadline()
    return seconds if deadline is None else min(seconds, max(round(deadline.remaining, 1), ANSWER_TIMEOUT))


def half_over() -> bool:
    """Whether half the time of the wait is over in which a check is asked: what takes long to find out, it should know now."""
    deadline = current_deadline()
    return deadline is not None and deadline.elapsed >= deadline.seconds / 2


class Steady:
    """Whether a container has run for STEADY seconds, since it was first looked at or Docker has started it again."""

    def __init__(self) -> None:
        self._restarts = -1
        self._until = Deadline.after(0)

    def look(self, state: State) -> None:
        """Raises NotReady."""
        if state.status == RESTARTING:  # It counts as the life that is still to begin.
            self._restarts = -1
            raise NotReady(f"it has {state}")
        if state.restarts != self._restarts:
            self._restarts, self._until = state.restarts, Deadline.after(STEADY)
        if not self._until.passed:
            times = f" again, for the {state.restarts}. time" if state.restarts else ""
            raise NotReady(f"it has just started{times}")


class Check:
    """Base of the checks. A subclass implements `__call__` and `__str__`; the latter fits after "waited for".

    `may_end`: an instance that has ended with exit code 0 may be ready. `shows_life`: it passes only while the instance
    lives. `longest_pause`: seconds between two polls at most.
    """

    may_end = False
    shows_life = False
    longest_pause = LONGEST_PAUSE

    def __call__(self, instance: Instance) -> None:
        """Return when the instance is ready; raise NotReady when not yet."""
        raise NotImplementedError

    def ports(self) -> list[str]:
        """The names of the ports that it looks at; an empty one for the first port."""
        return []

    def parts(self) -> tuple[Check, ...]:
        """The checks that it consists of."""
        return (self,)

    def bound(self, view: ViewOf) -> Check:
        """The same check, whose functions of users' own are given the view that this makes."""
        return self

    def __and__(self, other: Check | Callable[[Any], object]) -> Check:
        return _All(_flat(_All, self, other))

    def __rand__(self, other: Callable[[Any], object]) -> Check:
        return _All(_flat(_All, other, self))

    def __or__(self, other: Check | Callable[[Any], object]) -> Check:
        return _Any(_flat(_Any, self, other))

    def __ror__(self, other: Callable[[Any], object]) -> Check:
        return _Any(_flat(_Any, other, self))


def port(name: str | int = "") -> Check:
    """The port of that name, or number if it has none, accepts a TCP connection (the first port when none is given).

    In a container its own process must listen, since Docker's proxy accepts connections before that. A server that
    listens may still not serve: prefer `http`, `log` or a client's answer.
    """
    from itest.wait_checks import Port

    return Port(name)


def log(pattern: str, times: int = 1) -> Check:
    """The regular expression has matched this many times in the log."""
    from itest.wait_checks import Log, pattern_of

    return Log(pattern_of("log", pattern, re.MULTILINE), times)


def http(
    path: str = "/",
    *,
    port: str | int = "",
    status: int | range = ANY_SUCCESS,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> Check:
    """A GET of the path answers with that status (any 2xx or 3xx by default) and, if given, a body that matches.

    No redirect is followed. Of a body that does not end, what comes in 2 s is read. `port` is as for the check `port`.
    """
    from itest.wait_checks import Http, pattern_of

    if not isinstance(path, str) or not path.startswith("/"):
        raise DeclarationError(f"http: the path {path!r} does not begin with '/'; which port is said by port=")
    return Http(path, port, status, pattern_of("http: body", body) if body else None, headers or {})


def exec(*argv: str | Sequence[str]) -> Check:
    """The command, run inside the container or beside the process, exits with 0: its words, one list of them, or one text
    with spaces for the shell."""
    from itest.wait_checks import Exec, command

    return Exec(command(argv))


def health() -> Check:
    """The image's own HEALTHCHECK says healthy. Docker engine only."""
    from itest.wait_checks import Health

    return Health()


def ended() -> Check:
    """The container has done its work: its process has ended with exit code 0."""
    from itest.wait_checks import Ended

    return Ended()


def answer(
    description: str,
    function: Callable[[Instance], object],
    expected: tuple[type[Exception], ...],
    longest_pause: float = LONGEST_PAUSE,
) -> Check:
    """A real client's answer: the function returns. Exceptions of the `expected` types mean "not yet".

    A `longest_pause` (seconds) shorter than usual is for what costs little to ask.
    """
    return _Answer(description, function, expected, longest_pause)


def until_ready(check: Callable[[Instance], object], instance: Instance, deadline: Deadline, *, subject: str) -> None:
    """Poll until the check passes. The only loop that waits for readiness.

    Each poll asks first whether the instance still lives; less often if the check itself shows that and asking takes long.
    Raises InstanceDied or StartTimeout, with the last log lines as a note.
    """
    longest = getattr(check, "longest_pause", LONGEST_PAUSE)
    unseen = getattr(instance, "state_pause", 0.0) if getattr(check, "shows_life", False) else 0.0
    pause = min(FIRST_PAUSE, longest)
    reason = "nothing was tried"
    looked = -math.inf
    while True:
        if deadline.elapsed >= looked + unseen or deadline.passed:
            looked, state = deadline.elapsed, instance.state()
            if not state.running and not (state.exit_code == 0 and getattr(check, "may_end", False)):
                from itest.wait_errors import ended_before

                raise ended_before(instance, state, check, deadline, subject)
        try:
            if state.status in (RESTARTING, OUT_OF_REACH):
                raise NotReady(f"it {'has' if state.status == RESTARTING else 'is'} {state}")
            with until(deadline):
                check(instance)
            return
        except NotReady as error:
            reason = naming.shorten(str(error), 300)
        except ItestError as error:
            if (state := instance.state()).status != OUT_OF_REACH:
                raise
            reason = naming.shorten(str(error), 300)
        if deadline.elapsed >= CUT_OFF_AFTER and _is_cut_off(check, instance):
            from itest.wait_errors import cut_off

            raise cut_off(instance, reason, check, deadline, subject)
        if deadline.passed:
            from itest.wait_errors import late

            raise late(instance, state, reason, check, deadline, subject)
        deadline.pause(pause)
        pause = min(pause * GROWTH, longest)


def _is_cut_off(check: Callable[[Instance], object], instance: Instance) -> bool:
    """Whether what is waited for is an answer at a port that this process can never reach."""
    asks = getattr(check, "shows_life", False) or (isinstance(check, Check) and check.ports())
    return bool(asks) and hasattr(instance, "cut_off") and instance.cut_off()


class _Answer(Check):
    shows_life = True

    def __init__(
        self,
        description: str,
        function: Callable[[Instance], object],
        expected: tuple[type[Exception], ...],
        longest_pause: float,
    ) -> None:
        self.longest_pause = longest_pause
        self.description = description
        self.function = function
        self.expected = expected

    def __call__(self, instance: Instance) -> None:
        try:
            self.function(instance)
        except self.expected as error:
            raise NotReady(f"{type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return self.description


class _Several(Check):
    def __init__(self, checks: tuple[Check, ...]) -> None:
        self.checks = checks
        self.longest_pause = max(check.longest_pause for check in checks)

    def ports(self) -> list[str]:
        return [name for check in self.checks for name in check.ports()]

    def parts(self) -> tuple[Check, ...]:
        return tuple(part for check in self.checks for part in check.parts())

    def bound(self, view: ViewOf) -> Check:
        return type(self)(tuple(check.bound(view) for check in self.checks))


class _All(_Several):
    def __call__(self, instance: Instance) -> None:
        for check in self.checks:
            check(instance)

    def __str__(self) -> str:
        return " and ".join(f"({check})" if isinstance(check, _Any) else str(check) for check in self.checks)


class _Any(_Several):
    def __call__(self, instance: Instance) -> None:
        reasons = []
        for check in self.checks:
            try:
                return check(instance)
            except NotReady as error:
                reasons.append(str(error))
        raise NotReady("; ".join(reasons))

    def __str__(self) -> str:
        return " or ".join(map(str, self.checks))


def _flat(kind: type[_Several], *operands: Check | Callable[[Any], object]) -> tuple[Check, ...]:
    """`a & b & c` as one check of three, so that its text reads well."""
    from itest.wait_function import check_of

    checks = map(check_of, operands)
    return tuple(part for check in checks for part in (check.checks if isinstance(check, kind) else (check,)))
