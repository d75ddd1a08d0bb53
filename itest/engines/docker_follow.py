# SPDX-License-Identifier: Apache-2.0
"""A container's log as it is written, over its restarts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from itest.clock import wall
from itest.engines import REMOVED, Instance

LAST_WORDS = 0.1
"""Seconds that the last lines of a log are waited for when it is followed no more."""

PAUSE = 0.2
"""Seconds between two looks at a container that has ended, and may be started again."""


def follow(client: Any, instance: Instance, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
    """The output of a container in pieces, until `stop` is set or it is removed; from its beginning if it is `new`."""
    since: float | None = None if new else wall()
    while True:
        read = since or 0.0
        for piece in _once(client, instance.id, stop, since):
            read = wall()
            yield piece
        # Not from now on: by the time that we hear of its end it may run again, and have said something.
        since = max(read, _finished(client, instance.id)) or None
        while not instance.state().running:
            if instance.state().status == REMOVED or stop.wait(PAUSE):
                return
        if stop.is_set():
            return


def _finished(client: Any, container: str) -> float:
    """When its last life ended, by Docker's clock. Its last words may have been read a little later."""
    from datetime import datetime

    with contextlib.suppress(Exception):  # It was removed, or has never ended.
        return datetime.fromisoformat(client.inspect_container(container)["State"]["FinishedAt"]).timestamp()
    return 0.0


def _once(client: Any, container: str, stop: threading.Event, since: float | None) -> Iterator[bytes]:
    """Until it ends."""
    stream = client.logs(container, stream=True, follow=True, since=since)
    ended = threading.Event()

    def close() -> None:
        while not stop.wait(PAUSE):
            if ended.is_set():
                return
        ended.wait(LAST_WORDS)
        with contextlib.suppress(Exception):
            stream.close()  # Ends the loop below, which waits for Docker.

    closer = threading.Thread(target=close, name="itest-log-end", daemon=True)
    closer.start()
    try:
        yield from stream
    finally:
        ended.set()
        closer.join()
