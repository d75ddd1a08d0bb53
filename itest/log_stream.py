# SPDX-License-Identifier: Apache-2.0
"""Servers' logs, line by line, to the loggers `itest.postgres`, `itest.redis` and so on: the setting `logging`.

A thread per server reads what an instance's `follow` gives, and ends with the server.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, cast

from itest import naming
from itest.engines import Instance

if TYPE_CHECKING:
    import logging

END_WAIT = 2.0
"""Seconds that a thread has to pass on the last lines when its server ends."""


class Following(Protocol):
    """What is needed of an instance. One that has no log to follow, as an external server, lacks it."""

    def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
        """Its output as it comes, in pieces of any length, until `stop` is set or it ends; from its beginning if it is
        `new`, else from now on."""


class Streams:
    """The logs that are passed on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}

    def follow(self, instance: Instance, kind: str, *, new: bool) -> None:
        """Pass on the log of an instance from its beginning if it is `new`, else from now on."""
        if not hasattr(instance, "follow"):
            return
        import logging

        stop = threading.Event()
        thread = threading.Thread(
            target=_pass_on,
            args=(cast("Following", instance), logging.getLogger(f"itest.{kind}"), stop, new),
            name=f"itest-log-{kind}",
            daemon=True,
        )
        with self._lock:
            if instance.id in self._running:
                return
            with contextlib.suppress(RuntimeError):  # No thread can be had; its log is no reason to have no server.
                thread.start()
                self._running[instance.id] = (thread, stop)

    def end(self, instance: Instance) -> None:
        """The instance ends now: pass on what it has said, and no more."""
        with self._lock:
            thread, stop = self._running.pop(instance.id, (None, None))
        if thread is not None and stop is not None:
            stop.set()
            thread.join(END_WAIT)

    def close(self) -> None:
        """End them all."""
        with self._lock:
            left, self._running = list(self._running.values()), {}
        for _, stop in left:
            stop.set()
        for thread, _ in left:
            thread.join(END_WAIT)


def lines_of(instance: Following, stop: threading.Event, *, new: bool) -> Iterator[str]:
    """The lines of a log as they are written, without passwords that are known here; see `Following.follow`."""
    rest = b""
    with contextlib.suppress(Exception):  # A server that is gone has no more to say; nobody waits for its log.
        for piece in instance.follow(stop, new=new):
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(_clean, lines)
    if rest:
        yield _clean(rest)


def _pass_on(instance: Following, logger: logging.Logger, stop: threading.Event, new: bool) -> None:
    for line in lines_of(instance, stop, new=new):
        if line:
            logger.log(_level(line), "%s", line)


def _clean(raw: bytes) -> str:
    return naming.clean_log(raw.decode("utf-8", "replace")).rstrip()


def _level(line: str) -> int:
    """The level that the server's own words mean: Python's number for ERROR, WARNING or INFO."""
    match = _LEVEL.search(line)
    return 20 if match is None else 40 if match[1] else 30


_LEVEL = re.compile(r"\b(?:(ERROR|FATAL|PANIC|CRITICAL)|WARN(?:ING)?)\b")
