# SPDX-License-Identifier: Apache-2.0
"""What programs say of their version, remembered in the cache directory: to ask one takes 5 ms of each run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from itest import lock, naming
from itest.tuples import NamedTuple

FILE = "versions.json"

WAIT = 10.0
"""Seconds that a program has to say it."""


class Answer(NamedTuple):
    """What a program printed; `problem`: why it did not run to its end, in words for after a colon. Empty when it did."""

    text: str
    problem: str = ""


def said(program: str | Path, cache: Path) -> Answer:
    """What `program --version` prints. One that does not run here is another platform's, say, or lacks a library.

    It is asked again once its size or time is another one, and each time where it is a script, which may run anything. One
    with a problem is asked once in a process: classes would else wait again and again for one that hangs.
    """
    name = str(program)
    try:
        status = os.stat(name)
    except OSError as error:
        return Answer("", str(error.strerror))
    facts = [status.st_size, status.st_mtime_ns]
    known = _known(cache / FILE)
    match known.get(name):
        case [*before, str(text)] if before == facts:
            return Answer(text)
    key = (name, status.st_ctime_ns)  # Which `chmod` changes, too.
    answer = _failed.get(key) or ask(name, "--version")
    if answer.problem:
        _failed[key] = answer
        return answer
    # A program may be there to be run, but not read; or the cache not to be written to: the next run asks again.
    with contextlib.suppress(OSError):
        if not _is_script(name):
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of two runs at once one may win, and the other asks again next time.
            lock.replace(cache / FILE, json.dumps({**known, name: [*facts, answer.text]}))
    return answer


_failed: dict[tuple[str, int], Answer] = {}


def ask(program: str, *options: str) -> Answer:
    """What it prints with these options to standard output; or, where that is nothing, to standard error, as Java does."""
    import subprocess  # Runs that know already do without.

    try:
        process = subprocess.Popen(
            [program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # So that what a script has started ends with it.
        )
    except OSError as error:
        return Answer("", _refusal(program, error))
    with process:
        try:
            output, errors = process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            return Answer("", f"`{options[0]}` had not ended after {WAIT:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
                    os.killpg(process.pid, signal.SIGKILL)
    code, text = process.returncode, output if output.strip() else errors
    if code == 0:
        return Answer(text)
    last = ([line for line in (errors or output).splitlines() if line.strip()] or ["it said nothing"])[-1]
    return Answer(text, f"`{options[0]}` {naming.exit_text(code)}: {naming.shorten(naming.clean_log(last), 300)}")


def _refusal(program: str, error: OSError) -> str:
    """Why the kernel does not run it. It says of a directory, and of what needs a missing file, what is true of others."""
    if os.path.isdir(program):
        return "it is a directory"
    if isinstance(error, FileNotFoundError) and os.path.exists(program):
        return "its interpreter or loader is not there"
    return str(error.strerror)


def _is_script(program: str) -> bool:
    with open(program, "rb") as file:
        return file.read(2) == b"#!"


def _known(file: Path) -> dict[str, object]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
