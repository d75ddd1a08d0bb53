# SPDX-License-Identifier: Apache-2.0
"""The log of an app that lives in this process: what it and its server give to `logging`, and nobody else does.

Records are caught where they are made. A handler would change what the user's own logging does: `basicConfig` does
nothing where there is a handler already, and `dictConfig` removes those there are.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from itest.clock import wall

SERVERS = ("uvicorn", "waitress")
"""The loggers of the servers themselves. What they say belongs to an app's log, and not on standard error."""

LIMIT = 10_000
"""Records that a log keeps, the last ones."""

_current: ContextVar[AppLog | None] = ContextVar("itest_app_log", default=None)


class AppLog:
    """What one app has logged. Whatever runs in a context that has entered it belongs to the app."""

    def __init__(self) -> None:
        self._records: deque[tuple[float, str]] = deque(maxlen=LIMIT)
        self.stream = _Stream(self)
        self._format = logging.Formatter("%(levelname)s: %(name)s: %(message)s")

    def enter(self) -> None:
        """From here on, what is logged in this context is the app's: its threads, its tasks, and theirs."""
        _current.set(self)

    def add(self, record: logging.LogRecord) -> None:
        try:
            # A copy, because formatting leaves texts on the record that other formatters would take over.
            text = self._format.format(copy.copy(record))
        except Exception:  # Wrong arguments for its message: logging reports that by itself.
            text = f"{record.levelname}: {record.name}: {record.msg}"
        self.write(text)

    def write(self, text: str) -> None:
        """Add lines."""
        self._records.append((wall(), text))

    def text(self, tail: int | None = None, since: float | None = None) -> str:
        """All of it, what was logged since a moment (seconds since 1970), or its last lines."""
        records = [text for moment, text in list(self._records) if since is None or moment >= since]
        lines = "".join(f"{text}\n" for text in records).splitlines(keepends=True)
        return "".join(lines if tail is None else lines[-tail:] if tail else [])


class _Stream(io.TextIOBase):
    """What WSGI calls `wsgi.errors`: a file that is the log."""

    def __init__(self, log: AppLog) -> None:
        self._log = log
        self._line = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        # A handler that writes here, as Flask's own does, has the record at hand, and that is in the log already.
        record = sys._getframe(1).f_locals.get("record")
        if isinstance(record, logging.LogRecord) and hasattr(record, "_itest_app"):
            return len(text)
        *lines, self._line = f"{self._line}{text}".split("\n")
        for line in lines:
            self._log.write(line)
        return len(text)


class _Capture:
    """The changes to `logging` that catch the apps' records, in force while there is an app."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = contextlib.ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self._catch_records()
            self._keep_from_stderr()
            for name in SERVERS:
                self._quiet(logging.getLogger(name))

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()

    def _catch_records(self) -> None:
        before: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            if record.name and (log := _current.get()) is not None:
                log.add(record)
                record._itest_app = True
            return record

        def undo() -> None:
            if logging.getLogRecordFactory() is factory:  # Else somebody has put another one around it.
                logging.setLogRecordFactory(before)

        logging.setLogRecordFactory(factory)
        self._undo.callback(undo)

    def _keep_from_stderr(self) -> None:
        """The handler of last resort, for loggers without any, leaves out what is in an app's log."""
        last = logging.lastResort
        if last is None:
            return

        def not_the_apps(record: logging.LogRecord) -> bool:
            return not getattr(record, "_itest_app", False)

        last.addFilter(not_the_apps)
        self._undo.callback(last.removeFilter, not_the_apps)

    def _quiet(self, logger: logging.Logger) -> None:
        """Have a server's logger log its requests too, and to nobody else; unless the user has set it up."""
        if logger.handlers:
            return
        level, propagate, handler = logger.level, logger.propagate, logging.NullHandler()
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(level or logging.INFO)

        def undo() -> None:
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)

        self._undo.callback(undo)


CAPTURE = _Capture()
