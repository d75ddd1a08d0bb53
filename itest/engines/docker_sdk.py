# SPDX-License-Identifier: Apache-2.0
"""The import of the SDK, by one thread at a time: its packages import one another in circles, and Python lets a second
thread see them half made rather than wait forever (importlib's `_DeadlockError`)."""

from __future__ import annotations

import importlib
import threading

_lock = threading.Lock()
_done = False


def load() -> None:
    """Have the packages docker, requests and urllib3 imported. Raises ImportError."""
    global _done
    if _done:
        return
    with _lock:
        for name in ("urllib3.exceptions", "requests.exceptions", "docker.errors", "docker.api", "docker.tls"):
            importlib.import_module(name)
        _done = True
