# SPDX-License-Identifier: Apache-2.0
"""Looking at the services of a test that has failed, within a deadline and without ever raising.

Each is looked at on a thread of its own, which fills a `Finding` step by step: what does not answer in time costs the
rest of its own finding and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from itest import alive, causes, naming
from itest.clock import Deadline
from itest.evidence import Evidence
from itest.lease import Lease
from itest.service import Server

T = TypeVar("T")

SECONDS = 2.0
"""How long all of it may take together."""

MOST_LINES = 10_000
"""Lines of a log that are read at most, its last ones: Docker reads them backwards in 30 ms, while it looks for those since a
moment in all of the log, of which it reads 10 MB in a second."""

SETTLE, SETTLE_PAUSE = 0.5, 0.03
"""Seconds in which a container's log must have arrived, and between two looks at it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A service of a test: the name that its class gave it, the server and the lease."""

    name: str
    server: Server[Any]
    lease: Lease[Any]
    given: bool = True
    """Whether the test was given it: before, it is its reset that has failed."""


@dataclass(slots=True)
class Finding:
    """What was found of one service."""

    subject: Subject
    facts: list[str] = field(default_factory=list)
    ended: str = ""
    """How its server has ended; empty if it runs."""
    evidence: Evidence = field(default_factory=Evidence)
    log: list[str] = field(default_factory=list)
    log_is_of_this_test: bool = True
    log_is_cut: bool = False
    """Whether there may be more of it."""
    log_is_told: bool = False
    """Whether the test's own error has the last lines of it."""
    problems: list[str] = field(default_factory=list)
    """Sentences about what could not be looked at."""
    doing: str = "being asked whether it runs"
    done: bool = False


def examine(subjects: Sequence[Subject], since: float, seconds: float = SECONDS) -> list[Finding]:
    """What there is to say of these, `since` that moment (seconds since 1970)."""
    deadline = Deadline.after(seconds)
    findings = [Finding(subject) for subject in subjects]
    threads = []
    for finding in findings:
        # Daemons: what hangs must not keep the run from ending.
        thread = threading.Thread(target=_examine, args=(finding, since), name="itest-examine", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # No thread can be had, at the end of the interpreter for instance.
            finding.problems.append(f"it was not looked at: {error}")
            finding.done = True
            continue
        threads.append((thread, finding))
    for thread, finding in threads:
        thread.join(deadline.remaining)
        if not finding.done:
            finding.problems.append(f"it did not answer within {seconds:g} s, while {finding.doing}")
    return findings


def _examine(finding: Finding, since: float) -> None:
    """The steps in an order that gives the most where a later one fails."""
    server, lease = finding.subject.server, finding.subject.lease
    instance = server.instance
    look = partial(_look, instance, since)
    # What a container writes, one of a project's too, reaches Docker a moment later, in which the other questions are asked.
    late, arriving = hasattr(instance, "go_on") or hasattr(instance, "published"), Deadline.after(SETTLE_PAUSE)
    before = _step(finding, "reading its log", look) if late else None
    ended = _step(finding, "being asked whether it runs", lambda: alive.ended(server))
    if ended is None:
        evidence = _step(finding, "being asked for its state", lambda: lease.evidence(since))
        finding.evidence = evidence or finding.evidence
        if evidence is None and (
            ended := _step(finding, "being asked whether it still runs", lambda: alive.ended(server, alive.GRACE))
        ):
            finding.problems.clear()  # That is why.
    if ended is not None:
        finding.ended = alive.told(ended)
    elif hasattr(instance, "usage"):
        finding.facts += _step(finding, "being asked for its memory", instance.usage) or []
    if late:
        arriving.pause(SETTLE_PAUSE)
    finding.log = _step(finding, "reading its log", lambda: _settled(look, before)) or []
    if len(finding.log) >= MOST_LINES:
        finding.log_is_cut = True
    elif finding.log and hasattr(instance, "logs_more"):
        finding.log_is_cut = _step(finding, "reading its log", lambda: instance.logs_more(since)) or False
    if finding.log:
        finding.evidence.lines[:0] = _step(finding, "reading its log", lambda: lease.meaning(finding.log)) or []
        if (known := causes.find("\n".join(finding.log), causes.DRIVER)) is not None:
            finding.evidence.lines.insert(0, known.sentence)
    if ended is not None and not finding.log:
        finding.log_is_of_this_test = False
        finding.log = _step(finding, "reading its log", lambda: alive.last_words(server)) or []
    finding.done = True


def _step(finding: Finding, doing: str, step: Callable[[], T]) -> T | None:
    """The step's result; None where it failed, which the finding then says."""
    finding.doing = doing
    try:
        return step()
    except Exception as error:
        problem = f"{doing} failed: {naming.shorten(str(error) or type(error).__name__, 200)}"
        if problem not in finding.problems:
            finding.problems.append(problem)
        return None


def _settled(look: Callable[[], list[str]], before: list[str] | None) -> list[str]:
    """What is seen when two looks at a log say the same, of which `before` was one; with None, what is seen now."""
    lines, deadline = look(), Deadline.after(SETTLE)
    while before is not None and lines != before and not deadline.passed:
        deadline.pause(SETTLE_PAUSE)
        before, lines = lines, look()
    return lines


def _look(instance: Any, since: float) -> list[str]:
    text = naming.clean_log(instance.logs(MOST_LINES, since))
    return [line.rstrip() for line in text.splitlines() if line.strip()]
