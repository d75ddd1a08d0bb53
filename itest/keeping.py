# SPDX-License-Identifier: Apache-2.0
"""ITEST_KEEP=failed: what a failed test leaves in its services stays to be looked at, for a while.

Each lease puts the data aside, where no later test comes (a database is renamed, a container just stays), and the server
goes on running after the run: it is disowned, with an expiry, and `itest sweep` removes it before that. The commands
that are printed hold no password: a file that only this user may read does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from itest import naming, trace
from itest.errors import ItestError
from itest.loan import Loan
from itest.session import Session

MOST = 10
"""Tests of a run whose data is kept: each keeps a whole database."""


def keep(test: str, loans: Sequence[Loan], session: Session) -> None:
    """Keep what this test has left, and say how to look at it. Never raises."""
    session.kept += 1
    if session.kept > MOST:
        if session.kept == MOST + 1:
            trace.say(f"ITEST_KEEP: {MOST} failed tests are kept; {test} and those after it are not")
        return
    kept, problems, sooner = [], [], "`itest sweep` removes"
    for loan in loans:
        if loan.lent is not None:
            try:
                kept += _keep(test, loan, session)
                share = loan.lent[0].share
                if share is not None and share.lifetime:
                    sooner = "`itest sweep`, or the next run that uses these servers again, removes"
            except Exception as error:
                problems.append(f"{loan.name} is not kept: {naming.shorten(str(error) or repr(error))}")
    if kept:
        trace.say(f"kept what {test} left, for {session.config.keep_time:.0f} s; after the run {sooner} it sooner")
    elif problems:
        trace.say(f"nothing is kept of {test}")
    for line in kept + problems:
        trace.say(f"  {line}")


def _keep(test: str, loan: Loan, session: Session) -> list[str]:
    """The commands to look at it. Raises ItestError that says why there are none."""
    assert loan.lent is not None
    server, lease = loan.lent
    if not server.instance.owned:
        raise ItestError("it is an external server")
    if not server.lives():
        raise ItestError("it has ended")
    if (directory := session.place_to_keep(server)) is None:
        raise ItestError("its server cannot outlive the run (it needs a cache_dir that can be written to, and POSIX)")
    aside = lease.put_aside(test, writer(directory))
    if aside is None:
        isolation = loan.service.isolation_or_default
        if loan.is_held and isolation != "none":
            raise ItestError("django.test.TestCase rolls it back; on SimpleTestCase with databases={...} it would stay")
        way = f" with isolation={isolation!r}" if len(loan.service.isolations) > 1 else ""
        raise ItestError(f"nothing of it can be put aside{way}")
    session.keep(server)  # Not before: what has nothing to show is not to outlive the run.
    return [f"{loan.name}: {command}" for command in aside.commands]


def writer(directory: Path) -> Callable[[str, str], Path]:
    """A function that writes a file there which only this user may read, and gives its path."""

    def write(name: str, text: str) -> Path:
        file = directory / name
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(text)
        return file

    return write
