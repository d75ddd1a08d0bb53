# SPDX-License-Identifier: Apache-2.0
"""Servers that end under a test: seen at the next use, at once, and told with their last words.

That a server has hung up on a connection which itest keeps is seen without a round trip, so it is asked before every
new connection. Without that a client would wait for the address of a container that is gone: nothing there refuses it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.clock import Deadline, ready
from itest.engines import REMOVED, State
from itest.errors import ServerDied

if TYPE_CHECKING:
    from itest.service import Server

__unittest = True  # Hides these frames from the traceback of a failed test (unittest/result.py).

GRACE = 0.1
"""Seconds in which a server that refuses its clients is seen to have ended: its sockets close before it is reaped."""

REAPING = 5.0
"""Seconds in which one whose process is seen to be ending is told to have ended: by Docker, that is, which may be busy."""

LAST_LINES = 20
"""Lines of its log that are told."""


def check(server: Server[Any]) -> None:
    """Raise ServerDied if it has ended; a failing test's note has its log. Costs microseconds as long as it has not hung
    up on us."""
    if server.hung_up() and (state := ended(server, GRACE)) is not None:
        raise died(f"{server.title} ({server.instance}) has ended: {told(state)}", server, state, log=False)


def ended(server: Server[Any], grace: float = 0.0) -> State | None:
    """How it has ended; None if it runs, also after that many seconds. One that is just ending has ended, and so has one that
    was started again: with us it has its data in memory, and Docker publishes its ports anew."""
    deadline, last = Deadline.after(grace), Deadline.after(max(grace, REAPING))
    while (state := server.instance.state()).lives_on or server.lives():
        if (last if server.instance.ending() else deadline).passed:
            return None
        deadline.pause(0.005)
    return state


def told(state: State) -> str:
    """How it ended, as a predicate, with the name of the signal where a container's exit code is one."""
    if state.status == REMOVED:
        return f"was {REMOVED}"
    if state.restarted:
        return "was restarted"
    number = (state.exit_code or 0) - 128
    names = {each.value: each.name for each in signal.Signals}
    code = f"exit code {state.exit_code}"
    return str(state).replace(code, f"{code} ({names[number]})") if number in names else str(state)


def died(message: str, server: Server[Any], state: State, *, log: bool = True) -> ServerDied:
    """The error, with the last lines of the log as a note."""
    error = ServerDied(message, exit_code=state.exit_code, oom_killed=state.oom_killed)
    if log:
        try:
            lines = "\n".join(f"  | {line}" for line in last_words(server)) or "  (its log is empty, or gone with it)"
        except Exception as problem:
            lines = f"  (its log could not be read: {naming.mask(str(problem))})"
        error.add_note(f"last log lines of {server.instance}:\n{lines}")
    return error


def last_words(server: Server[Any], lines: int = LAST_LINES) -> list[str]:
    """The last lines of its log. Raises what the engine raises."""
    return naming.log_tail(server.instance.logs(tail=lines), lines)


def has_spoken(connection: Any) -> bool:
    """Whether the other end of a connection, or socket, said something without having been asked: almost always its
    farewell. Seen without a round trip."""
    return ready(connection, 0)
