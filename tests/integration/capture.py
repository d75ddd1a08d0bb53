# SPDX-License-Identifier: Apache-2.0
"""What itest says on standard error, caught."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from itest import trace


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """The lines that itest says within the `with`, but for a sweep's: it may find just now what other tests have killed."""
    lines: list[str] = []

    def say(line: str) -> None:
        if not line.startswith("removed what a killed run had left: "):
            lines.append(line)

    with mock.patch.object(trace, "say", say):
        yield lines
