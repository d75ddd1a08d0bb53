# SPDX-License-Identifier: Apache-2.0
"""The few requests that a usual run needs, without the SDK: importing that takes 90 ms of processor time.

Only on a Unix socket, where a request needs neither certificates nor a proxy's consent.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from itest.clock import Deadline

ANSWER_TIMEOUT = 5
"""Seconds in which Docker must answer a greeting to count as there: it does in a millisecond, but a machine may stand still."""

API_TIMEOUT = 60
"""Seconds that one request may take. Most take one millisecond; a start takes seconds on a busy host."""

silent: set[str] = set()
"""Where a request was not answered in its time: paths of sockets, or URLs. Docker may hang, or just take long over that one.
So it is greeted before the next request, which even a busy Docker answers at once; a run whose Docker hangs waits the long
time once, and not for all that is still to be asked."""

podman: set[str] = set()
"""Where it is Podman that answers: paths of sockets, or URLs. It says so in the head of each answer."""


def ask(path: str, method: str, resource: str, body: object = None, timeout: float = API_TIMEOUT) -> tuple[int, Any]:
    """One request to the daemon at this socket: the status of its answer, and what it says, as JSON or as text.

    Raises OSError (TimeoutError after `timeout` seconds) and ValueError for what is no answer.
    """
    status, content = _exchange(path, method, resource, b"" if body is None else json.dumps(body).encode(), timeout)
    try:
        return status, json.loads(content) if content else None
    except ValueError:
        return status, content.decode("utf-8", "replace")


def logs(path: str, container: str, query: str, *, terminal: bool, timeout: float = API_TIMEOUT) -> bytes:
    """What a container has written. `terminal`: it has one, and thereby a single stream. Raises as `ask`."""
    status, content = _exchange(path, "GET", f"/containers/{container}/logs?{query}", b"", timeout)
    if status != 200:
        raise ValueError(f"Docker answers {status}")
    if terminal:
        return content
    parts, position = [], 0
    while position < len(content):  # Pieces of both streams in turn, each after its stream and its length.
        begin = position + 8
        position = begin + int.from_bytes(content[begin - 4 : begin], "big")
        parts.append(content[begin:position])
    return b"".join(parts)


def _exchange(path: str, method: str, resource: str, data: bytes, timeout: float) -> tuple[int, bytes]:
    if path in silent:
        _sent(path, "GET", "/_ping", b"", ANSWER_TIMEOUT)
        silent.discard(path)
    try:
        return _sent(path, method, resource, data, timeout)
    except TimeoutError:
        silent.add(path)
        raise


def _sent(path: str, method: str, resource: str, data: bytes, timeout: float) -> tuple[int, bytes]:
    # HTTP/1.0: the answer then ends with the connection, and comes in one piece.
    head = f"{method} {resource} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    deadline = Deadline.after(timeout)
    parts: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(request)
        while not deadline.passed:
            connection.settimeout(max(deadline.remaining, 0.001))
            if not (chunk := connection.recv(65536)):
                break
            parts.append(chunk)
        else:
            raise TimeoutError("timed out")
    head_, _, content = b"".join(parts).partition(b"\r\n\r\n")
    if b"\r\nServer: Libpod/" in head_:
        podman.add(path)
    words = head_.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("it does not speak HTTP")
    return int(words[1]), content
