# SPDX-License-Identifier: Apache-2.0
"""What itest says on standard error, caught."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from unittest import mock

from itest import trace

SWEPT = re.compile(r"removed what a killed run had left: |could not remove .*, which a killed run has left: ")
"""What a sweep says, at any moment, of what other tests have killed just now."""

PROGRESS = re.compile(r".* \(\d+ s so far|.*, after \d+\.\d s(, at .*)?$", re.DOTALL)
"""What is said of a step that takes long, as any may on a busy machine."""


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """The lines that itest says within the `with`, but for a sweep's and those of progress."""
    lines: list[str] = []

    def say(line: str) -> None:
        if not SWEPT.match(line) and not PROGRESS.match(line):
            lines.append(line)

    with mock.patch.object(trace, "say", say):
        yield lines
