# SPDX-License-Identifier: Apache-2.0
"""The end of the process once its tests have run: Python taking itself apart, object by object, which takes longer than
all that itest has left to do when clients as large as kafka-python and Docker's SDK are loaded.

Most of it is the collector's: it goes through all objects several times and frees the classes of every module. What is
frozen (gc.freeze) it leaves to the kernel. Nobody must notice: where an object has anything left to do at its end (an open
file, a generator in the middle of a `with`, a running child, somebody's `__del__`) all is as without itest.
"""

from __future__ import annotations

import atexit
import io
import sys
from types import GeneratorType
from typing import Any

CLIENTS = frozenset({"docker", "itest", "kafka", "psycopg2", "redis", "requests", "sqlalchemy", "urllib3"})
"""Packages whose `__del__` closes connections, which the kernel does as well; and ours, which ended before."""

_prepared = False


def prepare() -> None:
    """Have the end hastened. Called before others register what they do at the end, since the first to come is the last
    to be called."""
    global _prepared
    if not _prepared:
        _prepared = True
        atexit.register(_hasten)


def _hasten() -> None:
    import gc

    try:
        if not gc.get_debug() and all_done(gc.get_objects()):
            gc.freeze()
    except Exception:
        return  # Somebody's object is stranger than can be foreseen.


def all_done(objects: list[Any]) -> bool:
    """Whether none of them has anything left to do at its end. Generators, files and sockets have a `__del__` too."""
    with_end = {kind for kind in set(map(type, objects)) if any("__del__" in vars(base) for base in kind.__mro__)}
    return all(_is_done(each) for each in objects if type(each) in with_end)


def _is_done(thing: Any) -> bool:
    if isinstance(thing, GeneratorType):
        return not (thing.gi_suspended or thing.gi_running)
    if (subprocess := sys.modules.get("subprocess")) and isinstance(thing, subprocess.Popen):
        return bool(thing.returncode is not None)
    kind = type(thing)
    module = str(kind.__module__)
    if kind in (io.StringIO, io.BytesIO):
        return True
    if module in ("_io", "socket"):
        closed = thing.fileno() < 0 if module == "socket" else thing.closed
        return closed or _is_standard(thing)
    return module.partition(".")[0] in CLIENTS


def _is_standard(thing: Any) -> bool:
    """Whether it is one of the standard streams, or a layer of one: Python flushes them by itself."""
    for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        buffer = getattr(stream, "buffer", None)
        if thing in (stream, buffer, getattr(buffer, "raw", None)) and thing is not None:
            return True
    return False
