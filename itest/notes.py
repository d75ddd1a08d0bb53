# SPDX-License-Identifier: Apache-2.0
"""The text of the note on a failing test, and the files that hold what did not fit into it.

A line for each service, under it its state and its log. `tests/golden` has examples of all that can be there.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from itest import causes, naming
from itest.diagnose import HEAD
from itest.examine import Finding

MOST_LINES = 40
"""Lines of a note at most: a screen."""

WIDTH = 180
"""Characters of a line at most."""

FILE_NAME_LIMIT = 150
"""Bytes of a directory's name at most."""

_written: set[Path] = set()
"""The files that this run has written."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""What a terminal would obey, or XML may not hold."""


def text(findings: Sequence[Finding], artifacts: Path | None = None, error: BaseException | None = None) -> str:
    """The note on this error. `artifacts` is the directory that has the whole of it."""
    told = "\n".join(note for note in getattr(error, "__notes__", ()) if isinstance(note, str))
    for finding in findings:
        finding.log_is_told = f"last log lines of {finding.subject.server.instance}:\n" in told
    shares = _shares(findings)
    known = causes.find(_said(error), causes.DRIVER) if error is not None else None
    lines = [HEAD, *([known.sentence] if known is not None else [])]
    for finding, (states, logs) in zip(findings, shares, strict=True):
        lines += _of(finding, states, logs, artifacts)
    room = MOST_LINES - (artifacts is not None)
    if len(lines) > room:
        lines[room - 1 :] = [f"... and {len(lines) - room + 1} more lines"]
    shown = [_clean(line) for line in lines]
    if artifacts is not None:
        # However long: nobody can use a part of a path.
        shown.append(_printable(f"whole logs and states: {artifacts}"))
    return "\n".join(shown)


def _said(error: BaseException) -> str:
    """What it says; of a group (asyncio.TaskGroup's, say) what each of its exceptions does."""
    if isinstance(error, BaseExceptionGroup):
        return "".join(map(_said, error.exceptions))
    return "".join(traceback.format_exception_only(error))


def save(findings: Sequence[Finding], directory: Path, test: str) -> Path:
    """Write all that was found to files of a directory named after the test; returns that. Raises OSError."""
    place = directory.resolve() / _directory_name(test)
    place.mkdir(parents=True, exist_ok=True)
    for finding in findings:
        state = [*_headline(finding), *finding.evidence.lines, *finding.evidence.more]
        _write(place / f"{finding.subject.name}.state.txt", state)
        cut = ["... what it logged before this is left out"] if finding.log_is_cut else []
        _write(place / f"{finding.subject.name}.log", [*cut, *finding.log])
    return place


def _directory_name(test: str) -> str:
    """The test's id as the name of a directory. What is cut is the module, and then the rest is not unique any more."""
    name = re.sub(r"[^\w.=-]+", "_", test).strip("._") or "test"
    if len(name.encode()) <= FILE_NAME_LIMIT:
        return name
    unique = f"-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return name.encode()[len(unique) - FILE_NAME_LIMIT :].decode(errors="ignore") + unique


def _write(file: Path, lines: Sequence[str]) -> None:
    """Added to what an earlier failure of the same test has written, in place of what an earlier run has."""
    mode = "a" if file in _written else "w"
    _written.add(file)
    with file.open(mode, encoding="utf-8", errors="replace") as handle:
        handle.writelines(f"{_printable(line)}\n" for line in lines)


def _shares(findings: Sequence[Finding]) -> list[tuple[int, int]]:
    """How many lines of state and of log each may have: nobody's are cut before there is no more room."""
    room = MOST_LINES - 2 - 3 * len(findings)  # Each has a first line, a heading of its log and perhaps a problem.
    states = _divided([len(finding.evidence.lines) for finding in findings], room // 2)
    logs = _divided([len(_telling(finding)[0]) for finding in findings], room - sum(states))
    return list(zip(states, logs, strict=True))


def _divided(wanted: Sequence[int], room: int) -> list[int]:
    """Each as much as it wants, and where that is too much for all, the small ones first and the rest evenly."""
    given = [0] * len(wanted)
    for left, index in zip(range(len(wanted), 0, -1), sorted(range(len(wanted)), key=wanted.__getitem__), strict=True):
        given[index] = max(0, min(wanted[index], room // left))
        room -= given[index]
    return given


def _of(finding: Finding, states: int, logs: int, artifacts: Path | None) -> list[str]:
    first, *problems = _headline(finding, WIDTH // 2)
    found = finding.evidence.lines
    log, routine = _telling(finding)
    lines = [*problems, *(f"  {line}" for line in found[:states])]
    if len(found) > states:
        lines.append(f"  ... and {len(found) - states} more of these")
    which = "log since the test began" if finding.log_is_of_this_test else "end of its log"
    left_out = f", without {_lines(routine)} of routine" if routine else ""
    if log:
        count = f"{'at least ' if finding.log_is_cut else ''}{_lines(len(log))}"
        if logs < len(log):
            count = f"last {logs} of {count}"
        cut = "" if artifacts is not None or logs >= len(log) else "; set ITEST_ARTIFACTS to a directory to have more"
        lines.append(f"  {which}, {count}{left_out}{cut}:")
        lines += (f"  | {line.expandtabs(4)}" for line in log[len(log) - logs :])
    elif finding.log_is_told:
        lines.append("  its last log lines are above")
    elif routine:
        first += f"; nothing but {_lines(routine)} of routine logged"
    elif not finding.problems:
        first += "; nothing logged"
    return [first, *lines]


def _telling(finding: Finding) -> tuple[list[str], int]:
    """The lines of its log that are shown where there is room, and how many others were left out."""
    log: list[str] = [] if finding.log_is_told else finding.log
    routine = finding.subject.server.routine
    if not routine or finding.ended:
        return log, 0
    telling = [line for line in log if not re.search(routine, line)]
    return telling, len(log) - len(telling)


def _lines(count: int) -> str:
    return f"{count} line{'s'[: count != 1]}"


def _headline(finding: Finding, room: int | None = None) -> list[str]:
    """The first line, and one for each problem. `room`: characters of it that what runs may have, as an app's command may be
    long and how it is must be on the line too."""
    name, server = finding.subject.name, finding.subject.server
    version, where = _version(finding), str(server.instance)
    what = where if version in where else f"{version}, {where}"
    if room is not None:
        what = naming.shorten(what, room)
    first = [", ".join([f"{name}: {what}", *finding.facts])]
    if finding.ended:
        when = "under" if finding.subject.given else "before"
        first = [f"{name}: {what} ENDED {when} this test: {finding.ended}; {server.after_its_end}"]
    elif finding.evidence.brief:
        first.append(finding.evidence.brief)
    return ["; ".join(first), *(f"  {problem}" for problem in finding.problems)]


def _version(finding: Finding) -> str:
    try:
        return finding.subject.server.version
    except Exception:  # Some ask the server for it.
        return finding.subject.server.title


def _clean(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    shown = _printable(line.lstrip())
    return indent + (shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…")


def _printable(line: str) -> str:
    """One line, whatever names of tables and keys are in it."""
    return naming.mask(_UNPRINTABLE.sub("", re.sub(r"[\r\n]+", " ", re.sub(naming.ESCAPES, "", line))))
