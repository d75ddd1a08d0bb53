# SPDX-License-Identifier: Apache-2.0
"""What programs say of their version, remembered in the cache directory: to ask one takes 5 ms of each run."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from itest import naming

FILE = "versions.json"

WAIT = 10.0
"""Seconds that a program has to say it."""


def said(program: str | Path, cache: Path) -> str | None:
    """What `program --version` prints; None where it does not run here: it is another platform's, or lacks a library.

    It is asked again once its size or time is another one, and each time where it is a script, which may run anything.
    """
    name = str(program)
    try:
        status = os.stat(name)
    except OSError:
        return None
    facts = [status.st_size, status.st_mtime_ns]
    known = _known(cache / FILE)
    match known.get(name):
        case [*before, str(text)] if before == facts:
            return text
    answer = _ask(name)
    if answer is not None:
        # A program may be there to be run, but not read; or the cache not to be written to: the next run asks again.
        with contextlib.suppress(OSError):
            if not _is_script(name):
                _write(cache / FILE, {**known, name: [*facts, answer]})
    return answer


def _ask(program: str) -> str | None:
    import subprocess  # Runs that know already do without.

    try:
        return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=WAIT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _is_script(program: str) -> bool:
    with open(program, "rb") as file:
        return file.read(2) == b"#!"


def _known(file: Path) -> dict[str, object]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(file: Path, known: dict[str, object]) -> None:
    """Replace it. Of two runs at once one may win, and the other asks again next time."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_name(f"{file.stem}.{naming.random_hex(4)}.new")
    new.write_text(json.dumps(known), encoding="utf-8")
    new.replace(file)
