# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while the main thread is in a C library that waits for a server: Python's handler is called when that has returned,
which behind a lock of the test's own is never (libpq; https://www.psycopg.org/docs/faq.html, "interrupt").

The number of each signal is written to a descriptor at once (signal.set_wakeup_fd). So a thread that reads there knows of it, and
acts if the main thread stands still.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, main_thread

from itest.clock import SYSTEM

PATIENCE = 1.0
"""Seconds in which the main thread handles a Ctrl-C, unless it stands still."""

LONGEST_LOOK = 1.0
"""Seconds for which the end waits for the thread, which may be acting."""

_HANDLERS = ("_signal", "unittest", "asyncio")
"""The packages whose handlers have the tests end: somebody's own may mean anything else."""

_listener: _Listener | None = None


def listen(act: Callable[[], object]) -> None:
    """From now on have it called on another thread when a Ctrl-C goes unheard. Cheap where it has begun: it is called for each
    test. It does nothing on another thread than the main one, nor where somebody else listens, as asyncio's loops can."""
    global _listener
    if _listener is None:
        with suppress(OSError, RuntimeError):  # There are no descriptors left, or no threads.
            _listener = _Listener(act)
    if _listener is not None:
        _listener.take()


def end() -> None:
    """Called on the main thread; on another one it goes on."""
    global _listener
    if _listener is not None and _listener.close():
        _listener = None


class _Listener:
    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)  # Asked for by set_wakeup_fd.
        self._thread = Thread(target=self._listen, name="itest-interrupts", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._ears)
            os.close(self._mouth)
            raise

    def take(self) -> None:
        with suppress(ValueError):  # Not on the main thread.
            if (other := signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)) not in (-1, self._mouth):
                signal.set_wakeup_fd(other)

    def close(self) -> bool:
        """Whether it is closed. Where nobody may take the descriptor away it stays: a number that means another file soon must
        not be written to."""
        try:
            other = signal.set_wakeup_fd(-1)
        except ValueError:
            return False
        if other != self._mouth:
            signal.set_wakeup_fd(other)
        os.close(self._mouth)
        self._thread.join(LONGEST_LOOK)
        return True

    def _listen(self) -> None:
        with suppress(OSError):  # Somebody has closed it, as all that there were.
            while signals := os.read(self._ears, 64):
                if signal.SIGINT in signals and _is_for_the_tests():
                    before = _place()
                    SYSTEM.sleep(PATIENCE)
                    if _place() == before:
                        self._act()
            os.close(self._ears)


def _is_for_the_tests() -> bool:
    handler = signal.getsignal(signal.SIGINT)
    module = getattr(getattr(handler, "func", handler), "__module__", None)
    return str(module).partition(".")[0] in _HANDLERS


def _place() -> tuple[int, int]:
    frame = sys._current_frames()[main_thread().ident or 0]
    return id(frame), frame.f_lasti


def _in_child() -> None:
    global _listener
    if _listener is not None:  # The thread that has forked was not the main one. It is now.
        signal.set_wakeup_fd(-1)
        _listener = None


# As for side_by_side's lookouts.
os.register_at_fork(before=end, after_in_child=_in_child)
