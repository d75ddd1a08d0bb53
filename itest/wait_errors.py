# SPDX-License-Identifier: Apache-2.0
"""The errors of an instance that does not become ready, with the last lines of its log as a note."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import TypeVar

from itest import causes, naming
from itest.clock import Deadline
from itest.engines import OUT_OF_REACH, Instance, State, place_of
from itest.errors import ExecTimeout, InstanceDied, PortTaken, StartError, StartTimeout

LOG_TAIL = 50
"""Log lines that a startup error carries."""

FIRST = 15
"""How many of these are the first ones of what runs and is not ready: many servers log each poll, at the end nothing else."""

SEARCHED = 20_000
"""Log lines in which the cause of a death is looked for. Kafka logs thousands while it shuts itself down."""

PYTHON_ERROR = (
    r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\w[\w.]*(?:Error|Exception)\b.*)(?:\n.*){0,5}\Z"
)
"""A traceback at the end of a log, but for a few lines: more of the message, or a server that says that it ends."""

UNREACHED = "published ports out of reach"
"""The cause of an error that CUT_OFF is the explanation of."""

CUT_OFF = (
    "This process is in a container with a network of its own, which does not reach the loopback of the Docker host, where ports "
    "are published: have that container on the host's network (`docker run --network host`), or name servers by URL "
    "(ITEST_POSTGRES_URL and the like: service containers)."
)
"""What to say where a container's ports are published and out of reach."""

E = TypeVar("E", bound=Exception)


def late(
    instance: Instance, state: State, reason: str, check: object, deadline: Deadline, subject: str
) -> StartTimeout:
    """It runs, or is started again and again, and never became ready."""
    found = _last_lines(instance, SEARCHED).splitlines()
    lines = "\n".join(found[-LOG_TAIL:])
    known = causes.of_silence(lines, _place(instance))
    cure = known.sentence if known else "If it only needs longer, raise startup_timeout."
    if known is None and (known := causes.find(lines, causes.DRIVER)):  # It may have been got over since.
        cure = f"{cure} {known.sentence}"
    if state.status == OUT_OF_REACH:
        cure = "See whether Docker still runs (`docker info`)."
    elif state.restarts:
        cure = f"Docker has started it again, as it ended, {state.restarts} times: see its last log lines."
    error = StartTimeout(
        f"{subject} did not become ready within {deadline.seconds:g} s, waiting for {check}. "
        f"{_sentence(reason)} {cure}",
        seconds=deadline.elapsed,
        cause=known.name if known else "",
        reason=reason,
    )
    if LOG_TAIL < len(found) < SEARCHED:
        gap = f"... {len(found) - LOG_TAIL} more lines ..."
        lines = "\n".join([*found[:FIRST], gap, *found[FIRST - LOG_TAIL :]])
        return with_log(instance, error, lines, "first and last")
    return with_log(instance, error, lines)


def cut_off(instance: Instance, reason: str, check: object, deadline: Deadline, subject: str) -> StartError:
    """It may be ready, and cannot be reached."""
    return StartError(
        f"{subject} was not reached in {deadline.elapsed:.1f} s, waiting for {check}. {_sentence(reason)} {CUT_OFF}",
        seconds=deadline.elapsed,
        cause=UNREACHED,
    )


def _sentence(reason: str) -> str:
    """The last reason, which may be a sentence already, as what libpq says."""
    if not reason:
        return "Its check gave no reason."
    return f"Last reason: {reason if reason.endswith(('.', '!', '?', '…')) else f'{reason}.'}"


def ended_before(instance: Instance, state: State, check: object, deadline: Deadline, subject: str) -> StartError:
    """It ended before it was ready."""
    lines = _last_lines(instance)
    place = _place(instance)
    story = f"{subject} ended before it was ready: {state}, {deadline.elapsed:.1f} s after its start"
    known = causes.of_death(lines, state.exit_code, oom_killed=state.oom_killed, place=place)
    if known is None and (known := causes.find(_last_lines(instance, SEARCHED), causes.LOG, place=place)):
        lines = f"{known.line}\n(... and at the end:)\n{lines}"
    if place and known is not None and known.name == causes.PORT_TAKEN:  # In a container it is its own.
        taken = PortTaken(
            f"{story}, because another program has its host port. If this repeats, "
            f"its command names a port (write {{port}}, and itest chooses a free one), or something here opens many at once.",
            seconds=deadline.elapsed,
            cause=causes.PORT_TAKEN,
        )
        return with_log(instance, taken, lines)
    why = "A wrong setting or a missing environment variable is the usual cause."
    if known is not None:
        why = known.sentence
    elif state.exit_code == 0:
        why = (
            "Its command must go on, in the foreground, or if it is a Container that does its "
            "work and ends, job=True says so, for a service of a project ready={...: itest.wait.ended()}."
        )
    elif raised := re.search(PYTHON_ERROR, lines):
        why = f"A Python error has ended it: {naming.shorten(raised[1], 300)}."
        if known := causes.find(raised[1], causes.DRIVER):
            why += f" {known.sentence}"
    died = InstanceDied(
        f"{story}, while waiting for {check}. {why}",
        seconds=deadline.elapsed,
        cause=known.name if known else "",
        exit_code=state.exit_code,
    )
    return with_log(instance, died, lines)


def not_ended(argv: Sequence[str], place: str, seconds: float) -> ExecTimeout:
    """A command in or beside an instance runs on."""
    return ExecTimeout(
        f"`{shlex.join(map(naming.mask, argv))}` {place} had not ended after {seconds:g} s; if it only needs longer, give exec a "
        f"longer timeout="
    )


def with_log(instance: Instance, error: E, lines: str | None = None, which: str = "last") -> E:
    """The error with the last log lines as a note; they are read where they are not given. `which` says which they are."""
    lines = _last_lines(instance) if lines is None else lines
    error.add_note(f"{which} log lines of {instance}:\n" + textwrap.indent(lines or "(the log is empty)", "  | "))
    return error


def _place(instance: Instance) -> str:
    """Where a local process has its directory; empty for what is none."""
    place = place_of(instance)
    return "" if place is None else str(place.parent)


def _last_lines(instance: Instance, number: int = LOG_TAIL) -> str:
    """Whatever goes wrong with reading them must not hide the error that they are for."""
    try:
        return "\n".join(naming.log_tail(instance.logs(tail=number), number))
    except Exception as failure:
        return f"(the log could not be read: {naming.mask(str(failure))})"
