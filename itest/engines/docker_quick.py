# SPDX-License-Identifier: Apache-2.0
"""The few requests that a start needs, before the SDK is there: importing it takes 65 ms, which Docker can work through.

Only on a Unix socket, where a request needs neither certificates nor a proxy's consent.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from itest.clock import Deadline


def ask(path: str, method: str, resource: str, body: object = None, timeout: float = 60.0) -> tuple[int, Any]:
    """One request to the daemon at this socket: the status of its answer, and what it says, as JSON or as text.

    Raises OSError (TimeoutError after `timeout` seconds) and ValueError for what is no answer.
    """
    data = b"" if body is None else json.dumps(body).encode()
    # HTTP/1.0: the answer then ends with the connection, and comes in one piece.
    head = f"{method} {resource} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    deadline = Deadline.after(timeout)
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(request)
        while not deadline.passed:
            connection.settimeout(max(deadline.remaining, 0.001))
            if not (chunk := connection.recv(65536)):
                break
            answer += chunk
        else:
            raise TimeoutError("timed out")
    head_, _, content = answer.partition(b"\r\n\r\n")
    words = head_.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("it does not speak HTTP")
    try:
        value = json.loads(content) if content else None
    except ValueError:
        value = content.decode("utf-8", "replace")
    return int(words[1]), value
