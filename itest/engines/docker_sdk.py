# SPDX-License-Identifier: Apache-2.0
"""The import of the SDK, by one thread at a time: its packages import one another in circles, and Python lets a second
thread see them half made rather than wait forever (importlib's `_DeadlockError`).

So it may also fail over what another thread is just importing, a client for instance, and under `-W error` over a warning
whose filter, which requests sets, is gone as a `catch_warnings` of another thread has just ended. What it leaves then is a
package that cannot be imported any more: its modules are there still, but nothing would make them attributes of it again.
"""

from __future__ import annotations

import importlib
import sys
import threading
from contextlib import AbstractContextManager, nullcontext

from itest.clock import SYSTEM

ATTEMPTS = 5
PAUSE = 0.02
"""Seconds between two of them, in which the other thread gets on."""

_PACKAGES = ("docker", "requests", "urllib3")
_MODULES = ("urllib3.exceptions", "requests.exceptions", "docker.errors", "docker.api", "docker.tls")

_lock = threading.Lock()
_done = False


def load() -> None:
    """Have the packages docker, requests and urllib3 imported. Raises ImportError."""
    global _done
    if _done:
        return
    with _lock:
        for attempt in range(1, ATTEMPTS + 1):
            _forget_halves()
            try:
                with _unrecorded():
                    for name in _MODULES:
                        importlib.import_module(name)
                _done = True
                return
            except ModuleNotFoundError:
                raise
            except (ImportError, AttributeError, Warning):
                if attempt == ATTEMPTS:
                    raise
                SYSTEM.sleep(PAUSE)


def _unrecorded() -> AbstractContextManager[None]:
    """Within the `with`, no cassette of vcrpy has its classes in place of those that the SDK makes its own of, for good."""
    vcr = sys.modules.get("vcr.patch")
    return nullcontext() if vcr is None else vcr.force_reset()


def _forget_halves() -> None:
    """Forget the modules of packages whose own import has failed."""
    for name in list(sys.modules):
        root = name.partition(".")[0]
        if root in _PACKAGES and root not in sys.modules:
            del sys.modules[name]
