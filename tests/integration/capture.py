# SPDX-License-Identifier: Apache-2.0
"""What itest says on standard error, caught."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from itest import trace


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """The lines that itest says within the `with`."""
    lines: list[str] = []
    with mock.patch.object(trace, "say", lines.append):
        yield lines
