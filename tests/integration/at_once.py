# SPDX-License-Identifier: Apache-2.0
"""Two threads that come to the same place at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

SECONDS = 0.2
"""How long the first in a place waits there for the second. Where only one may be in it, nobody comes."""


def meeting_in(owner: Any, name: str, ask: Callable[[], T]) -> list[T]:
    """What two threads get that ask at once, of whom each, if it comes to call this, waits there for the other."""
    met, function = threading.Barrier(2), getattr(owner, name)

    def wait(*args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.wait(SECONDS)
        return function(*args, **kwargs)

    with mock.patch.object(owner, name, wait), ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        return [each.result() for each in asked]
