# SPDX-License-Identifier: Apache-2.0
"""Commands run in a container, with a time limit, which the SDK's own `exec_start` does not know."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from itest.clock import Deadline
from itest.engines import docker_sdk
from itest.engines.docker_errors import check
from itest.errors import ItestError

Output = dict[int, bytes]
"""Standard output (1) and error (2) of a job."""

_RESET = re.compile(rb"Error: (read|write) unixpacket \S+: \1: connection reset by peer\n\Z")
"""What Podman adds to the standard error of a command that has not read all of its input."""


def output(client: Any, job: str, deadline: Deadline) -> Output:
    """What a job writes, read to its end. Raises TimeoutError."""
    docker_sdk.load()
    from requests.exceptions import ConnectionError, Timeout
    from urllib3.exceptions import HTTPError as ReadError

    try:
        with client.post(
            f"{client.base_url}/v{client.api_version}/exec/{job}/start",
            json={"Detach": False, "Tty": False},
            stream=True,
            timeout=max(deadline.remaining, 0.001),
        ) as response:
            check(response)
            return _frames(response.raw.read, deadline)
    except (ConnectionError, Timeout, ReadError) as error:
        if "timed out" in str(error).lower():
            raise TimeoutError from None
        raise


def output_with_input(client: Any, path: str, job: str, stdin: bytes, deadline: Deadline, doing: str) -> Output:
    """The same for a job that reads `stdin`. `path` is Docker's Unix socket, if it has one; `doing` is for errors.

    On a connection of our own: Docker needs one whose sending end can be closed by itself, and the SDK loses what a
    command writes before it reads. Raises TimeoutError, ItestError.
    """
    try:
        with _connected(client, path, doing) as connection:
            connection.settimeout(max(deadline.remaining, 0.001))
            body = json.dumps({"Detach": False, "Tty": False}).encode()
            connection.sendall(
                f"POST /v{client.api_version}/exec/{job}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
                f"Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            with connection.makefile("rb") as answer:
                status = answer.readline().split(None, 2)
                while answer.readline().strip():
                    pass
                if status[1:2] not in ([b"101"], [b"200"]):
                    raise ItestError(
                        f"could not {doing}, Docker says: {answer.read(500).decode(errors='replace').strip()}"
                    )
                # On a thread: a command may write more than fits into a pipe before it has read all.
                sender = threading.Thread(target=_send, args=(connection, stdin), name="itest-stdin", daemon=True)
                sender.start()
                try:
                    found = _frames(partial(_read, answer), deadline)
                    return {**found, 2: _RESET.sub(b"", found[2])}
                finally:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    sender.join()
    except TimeoutError:
        raise TimeoutError from None
    except OSError as error:
        raise ItestError(f"could not {doing}, Docker ended the connection: {error}") from None


def exit_code(client: Any, job: str, deadline: Deadline) -> int:
    """The output ends a moment before Docker knows the exit code. Raises TimeoutError."""
    while (found := client.exec_inspect(job))["Running"] or found["ExitCode"] is None:
        if deadline.passed:
            raise TimeoutError
        deadline.pause(0.005)
    return int(found["ExitCode"])


def _frames(read: Callable[[int], bytes], deadline: Deadline) -> Output:
    """Each frame: stream number, three zeros, length, and as many bytes (Engine API, ContainerAttach)."""
    found = {1: bytearray(), 2: bytearray()}
    while len(header := read(8)) == 8:
        stream, length = struct.unpack(">BxxxL", header)
        found[stream] += read(length)
        if deadline.passed:
            raise TimeoutError
    return {stream: bytes(data) for stream, data in found.items()}


def _read(answer: BinaryIO, size: int) -> bytes:
    try:
        return answer.read(size)
    except ConnectionResetError:  # So Podman ends one whose input nobody has read; its output has come before.
        return b""


def _send(connection: socket.socket, stdin: bytes) -> None:
    with contextlib.suppress(OSError):  # A command that ends early does not read all.
        connection.sendall(stdin)
        connection.shutdown(socket.SHUT_WR)


def _connected(client: Any, path: str, doing: str) -> socket.socket:
    if path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return connection
    parts = urlsplit(client.base_url)
    if parts.scheme != "http" or not parts.hostname:
        raise ItestError(
            f"could not {doing}: stdin= needs a Docker that is reached by a Unix socket, or by tcp:// without certificates"
        )
    return socket.create_connection((parts.hostname, parts.port or 2375))
