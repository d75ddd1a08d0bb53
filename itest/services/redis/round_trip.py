# SPDX-License-Identifier: Apache-2.0
"""Commands of ours that are sent together, as fast as redis-py can be, and whose answers are read by ourselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from itest import alive
from itest.services.redis.clients import package

Command = tuple[str | bytes | int, ...]

AT_ONCE = 65536
"""Bytes that are read at once; all answers of most resets are fewer."""


class RoundTrip:
    """Commands that are sent together, again and again: packed once, and their answers left as the server wrote them.

    A pipeline of redis-py packs them, takes a connection out of the pool, looks up how to convert each answer, and reads
    each through five calls. Just after a test, when no cache holds any of that code, this takes as long as the server does.
    """

    def __init__(self, client: Any, commands: Sequence[Command]) -> None:
        self._connection: Any = client.connection
        self._commands = commands
        self._packed = self._connection.pack_commands(commands)

    def __call__(self) -> list[Any]:
        """The answers. Raises what redis-py raises, for the first command that was refused when all are done."""
        connection = self._connection
        refresh(connection)
        try:
            connection.send_packed_command(self._packed)  # Which connects, if need be.
            following = Answers(connection._sock.recv, connection._parser.parse_error).following
            answers = [following() for _ in self._commands]
        except BaseException as error:
            connection.disconnect()  # There may be answers that nobody would expect.
            if isinstance(error, OSError):  # As redis-py calls it. Its own errors are none of these.
                raise _unreadable(error) from error
            raise
        for command, answer in zip(self._commands, answers, strict=True):
            if isinstance(answer, Exception):
                answer.add_note(f"the command was {command[0]!s}, in the reset of the database")
                raise answer
        return answers


def refresh(connection: Any) -> None:
    """Have it connect anew, when it is used, if the server has ended it: code under test can, and its setting `timeout`.

    A pool of redis-py looks itself; a client with one connection does not. (`is_connected` is there from redis-py 8.0 on.)
    """
    if connection._sock is not None and alive.has_spoken(connection._sock):
        connection.disconnect()


class Answers:
    """Answers on their way from a server, in the protocol RESP as far as it answers commands of ours."""

    def __init__(self, receive: Callable[[int], bytes], refused: Callable[[str], Exception]) -> None:
        self._receive = receive
        self._refused = refused
        self._got = bytearray()
        self._at = 0

    def following(self) -> Any:
        """The next one: bytes, a number, None, or the error that says why the command was refused."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bytes(int(rest))
        if kind == b"=":
            return self._bytes(int(rest))[4:]  # Verbatim text: `txt:`, then what it is.
        if kind == b"_":
            return None
        if kind == b"-":
            return self._refused(rest.decode("utf-8", "replace"))
        raise package().InvalidResponse(f"an answer that begins with {line[:20]!r}")

    def _line(self) -> bytes:
        while (end := self._got.find(b"\r\n", self._at)) < 0:
            self._more()
        line = bytes(self._got[self._at : end])
        self._at = end + 2
        return line

    def _bytes(self, count: int) -> bytes:
        while len(self._got) < self._at + count + 2:
            self._more()
        found = bytes(self._got[self._at : self._at + count])
        self._at += count + 2
        return found

    def _more(self) -> None:
        del self._got[: self._at]
        self._at = 0
        received = self._receive(AT_ONCE)
        if not received:
            raise package().ConnectionError("the server has closed the connection")
        self._got += received


def _unreadable(error: OSError) -> Exception:
    kind = package().TimeoutError if isinstance(error, TimeoutError) else package().ConnectionError
    unreadable: Exception = kind(f"the server's answer could not be read: {error}")
    return unreadable
