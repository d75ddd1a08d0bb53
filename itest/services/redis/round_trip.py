# SPDX-License-Identifier: Apache-2.0
"""Commands of ours that are sent together, as fast as redis-py can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itest import alive
from itest.services.redis.clients import package

Command = tuple[str | bytes | int, ...]


class RoundTrip:
    """Commands that are sent together, again and again: packed once, and their answers left as the server wrote them.

    A pipeline of redis-py packs them, takes a connection out of the pool, and looks up how to convert each answer. Just
    after a test, when no cache holds any of that code, this takes as long as the server does.
    """

    def __init__(self, client: Any, commands: Sequence[Command]) -> None:
        self._connection: Any = client.connection
        self._commands = commands
        self._packed = self._connection.pack_commands(commands)

    def __call__(self) -> list[Any]:
        """The answers. Raises what redis-py raises, for the first command that was refused when all are done."""
        connection = self._connection
        if connection.is_connected and alive.has_spoken(connection._sock):
            connection.disconnect()  # Code under test has ended it; it connects anew.
        answers = []
        try:
            connection.send_packed_command(self._packed)
            for _ in self._commands:
                try:
                    answers.append(connection.read_response(disable_decoding=True))
                except package().ResponseError as error:
                    answers.append(error)
        except BaseException:
            connection.disconnect()  # There may be answers that nobody would expect.
            raise
        for command, answer in zip(self._commands, answers, strict=True):
            if isinstance(answer, Exception):
                answer.add_note(f"the command was {command[0]!s}, in the reset of the database")
                raise answer
        return answers
