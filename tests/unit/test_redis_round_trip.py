# SPDX-License-Identifier: Apache-2.0
"""Commands that are sent together, on a connection that is a pair of sockets: what is sent, and what answers become."""

from __future__ import annotations

import socket
import unittest
from types import SimpleNamespace
from typing import Any

import redis

from itest.services.redis.round_trip import RoundTrip
from itest.services.redis.state import ServerState


class Wire:
    """Stands for redis-py's connection. Each answer is given by one read, an error by being raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.closed = 0
        self.is_connected = True
        self._sock, self.server = socket.socketpair()

    def pack_commands(self, commands: Any) -> list[Any]:
        return [*commands]

    def send_packed_command(self, packed: list[Any]) -> None:
        self.sent += packed

    def read_response(self, disable_decoding: bool) -> Any:
        assert disable_decoding
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def disconnect(self) -> None:
        self.closed += 1


class RoundTripTest(unittest.TestCase):
    def wire(self, *answers: Any) -> Wire:
        wire = Wire(*answers)
        self.addCleanup(wire._sock.close)
        self.addCleanup(wire.server.close)
        return wire

    def trip(self, wire: Wire, *commands: tuple[str, ...]) -> RoundTrip:
        return RoundTrip(SimpleNamespace(connection=wire), commands)

    def test_answers_are_as_the_server_wrote_them(self) -> None:
        wire = self.wire(b"OK", 5, b"OK", 6)
        trip = self.trip(wire, ("PING",), ("DBSIZE",))
        self.assertEqual([trip(), trip()], [[b"OK", 5], [b"OK", 6]])
        self.assertEqual((wire.sent, wire.closed), ([("PING",), ("DBSIZE",)] * 2, 0))

    def test_what_is_refused_is_raised_when_all_is_answered(self) -> None:
        refused = redis.ResponseError("OOM command not allowed")
        wire = self.wire(b"OK", refused, b"OK", redis.ResponseError("another"))
        with self.assertRaises(redis.ResponseError) as caught:
            self.trip(wire, ("FLUSHDB",), ("RESTORE", "a"), ("RESTORE", "b"), ("RESTORE", "c"))()
        self.assertIs(caught.exception, refused)
        self.assertEqual(caught.exception.__notes__, ["the command was RESTORE, in the reset of the database"])
        self.assertEqual((wire.answers, wire.closed), ([], 0))

    def test_an_answer_that_does_not_come_leaves_no_other_to_be_taken_for_the_next(self) -> None:
        for reason in (redis.TimeoutError(), KeyboardInterrupt()):
            wire = self.wire(b"OK", reason, b"late")
            with self.assertRaises(type(reason)):
                self.trip(wire, ("PING",), ("PING",), ("PING",))()
            self.assertEqual(wire.closed, 1)

    def test_a_connection_that_the_server_has_ended_is_made_anew(self) -> None:
        wire = self.wire(b"OK")
        trip = self.trip(wire, ("PING",))
        wire.server.close()
        trip()
        self.assertEqual(wire.closed, 1)


class StateTest(unittest.TestCase):
    """What is made of the list of clients."""

    def client(self, number: int, name: str = "", **fields: Any) -> bytes:
        facts = {"flags": "N", "db": 1, "sub": 0, "psub": 0, "multi": -1, "watch": 0, "cmd": "get", **fields}
        return f"id={number} addr=a name={name} ".encode() + " ".join(f"{k}={v}" for k, v in facts.items()).encode()

    def test_only_new_clients_and_the_kept_one_are_looked_at(self) -> None:
        state = object.__new__(ServerState)
        state._newest_client = 10
        listed = b"\n".join(
            (
                self.client(3),
                self.client(4, "itest-cache"),
                self.client(5, "not-itest-cache", flags="b"),
                self.client(10, flags="b"),
                self.client(11, flags="b"),
            )
        )
        self.assertEqual([one["id"] for one in state._new_or_kept(listed + b"\n")], ["4", "11"])
        self.assertEqual(state._new_or_kept(b""), [])


if __name__ == "__main__":
    unittest.main()
