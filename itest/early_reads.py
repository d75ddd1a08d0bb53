# SPDX-License-Identifier: Apache-2.0
"""What code of the project reads from the environment, and keeps, while migrations run: an app in this process that it is a
part of has its own variables only later."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, ModuleType

from itest.config import live_environment

_kept: dict[tuple[str, str], tuple[ModuleType, str | None]] = {}
"""By variable and the name of a module that has read it: that module, and the value then, None where it was not set."""

SEARCHING = "urllib.request"
"""Who looks through all variables for those that name a proxy, for each client of HTTP that is made, and keeps no other."""

_threads: set[int] = set()
"""Those that migrate."""

_lock = threading.Lock()
_getitem = os._Environ.__getitem__


def kept(names: Iterable[str]) -> dict[str, list[str]]:
    """By module: those of these variables that it has read, and that had another value than now."""
    found: dict[str, list[str]] = {}
    wanted = set(names)
    for (name, reader), (module, value) in [*_kept.items()]:
        if name in wanted and sys.modules.get(reader) is module and value != live_environment().get(name):
            found.setdefault(reader, []).append(name)
    return found


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Within the `with`, what is read on this thread is noted."""
    thread = threading.get_ident()
    with _lock:
        _threads.add(thread)
        os._Environ.__getitem__ = _noting  # type: ignore[assignment,method-assign]  # No hook tells of it.
    try:
        yield
    finally:
        with _lock:
            _threads.discard(thread)
            if not _threads:
                os._Environ.__getitem__ = _getitem  # type: ignore[method-assign]  # as it was


def _noting(environment: os._Environ[str], name: str) -> str:
    value = None
    try:
        value = _getitem(environment, name)
        return value
    finally:
        if threading.get_ident() in _threads and (module := _keeper(sys._getframe(1))):
            _kept[name, module.__name__] = (module, value)


def _keeper(frame: FrameType | None) -> ModuleType | None:
    """The module that reads, where that is likely to last: at its import, or in a function whose results are cached."""
    while frame is not None and not (name := str(frame.f_globals.get("__name__"))).startswith("itest."):
        if name == SEARCHING:
            return None
        module, function = sys.modules.get(name), frame.f_code.co_name
        stays = getattr(module, "__dict__", None) is frame.f_globals  # Not so Alembic's env.py.
        if stays and (function == "<module>" or _is_cached(frame.f_globals.get(function))):
            return module
        frame = frame.f_back
    return None


def _is_cached(function: object) -> bool:
    """Without asking it: what is lazy, as werkzeug's LocalProxy, would be called for that, and read again."""
    return inspect.getattr_static(function, "cache_clear", None) is not None
