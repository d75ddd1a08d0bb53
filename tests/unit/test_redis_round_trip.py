# SPDX-License-Identifier: Apache-2.0
"""Commands that are sent together, on a connection that is a pair of sockets: what is sent, and what answers become."""

from __future__ import annotations

import socket
import unittest
from types import SimpleNamespace
from typing import Any

import redis

from itest.services.redis.round_trip import RoundTrip, refresh
from itest.services.redis.state import ServerState, clients_of, unclean, waiting


class Wire:
    """Stands for redis-py's connection. The answers are what the server says at once, or bit by bit; an error is raised
    in place of a read."""

    def __init__(self, *answers: bytes | BaseException) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.closed = 0
        self.is_connected = True
        self.socket, self.server = socket.socketpair()
        self._sock = SimpleNamespace(recv=self.receive, fileno=self.socket.fileno)
        self._parser = redis.connection._RESP3Parser(1)

    def pack_commands(self, commands: Any) -> list[Any]:
        return [*commands]

    def send_packed_command(self, packed: list[Any]) -> None:
        self.sent += packed

    def receive(self, most: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert len(answer) <= most
        return answer

    def disconnect(self) -> None:
        self.closed += 1


class RoundTripTest(unittest.TestCase):
    def wire(self, *answers: bytes | BaseException) -> Wire:
        wire = Wire(*answers)
        self.addCleanup(wire.socket.close)
        self.addCleanup(wire.server.close)
        return wire

    def trip(self, wire: Wire, *commands: tuple[str, ...]) -> RoundTrip:
        return RoundTrip(SimpleNamespace(connection=wire), commands)

    def test_answers_are_as_the_server_wrote_them(self) -> None:
        wire = self.wire(b"+OK\r\n:5\r\n", b"+OK\r\n", b":-6\r\n")
        trip = self.trip(wire, ("PING",), ("DBSIZE",))
        self.assertEqual([trip(), trip()], [[b"OK", 5], [b"OK", -6]])
        self.assertEqual((wire.sent, wire.closed, wire.answers), ([("PING",), ("DBSIZE",)] * 2, 0, []))

    def test_every_kind_of_answer_however_it_is_cut(self) -> None:
        said = b"$4\r\na\r\nb\r\n=7\r\ntxt:c=d\r\n$-1\r\n_\r\n$0\r\n\r\n:12\r\n+OK\r\n"
        wanted = [b"a\r\nb", b"c=d", None, None, b"", 12, b"OK"]
        commands = [("PING",)] * len(wanted)
        for size in (1, 2, 3, 7, len(said)):
            with self.subTest(size):
                wire = self.wire(*(said[at : at + size] for at in range(0, len(said), size)))
                self.assertEqual(self.trip(wire, *commands)(), wanted)

    def test_a_long_answer(self) -> None:
        text = bytes(range(256)) * 4000
        said = b"$%d\r\n%s\r\n+OK\r\n" % (len(text), text)
        wire = self.wire(*(said[at : at + 65536] for at in range(0, len(said), 65536)))
        self.assertEqual(self.trip(wire, ("DUMP", "a"), ("PING",))(), [text, b"OK"])

    def test_what_is_refused_is_raised_when_all_is_answered(self) -> None:
        wire = self.wire(b"+OK\r\n-OOM command not allowed\r\n+OK\r\n-ERR another\r\n")
        with self.assertRaises(redis.ResponseError) as caught:
            self.trip(wire, ("FLUSHDB",), ("RESTORE", "a"), ("RESTORE", "b"), ("RESTORE", "c"))()
        self.assertIsInstance(caught.exception, redis.exceptions.OutOfMemoryError)
        self.assertEqual(str(caught.exception), "command not allowed")
        self.assertEqual(caught.exception.__notes__, ["the command was RESTORE, in the reset of the database"])
        self.assertEqual((wire.answers, wire.closed), ([], 0))

    def test_an_answer_that_does_not_come_leaves_no_other_to_be_taken_for_the_next(self) -> None:
        for reason, raised in (
            (TimeoutError(), redis.TimeoutError),
            (ConnectionResetError(), redis.ConnectionError),
            (b"", redis.ConnectionError),
            (b"*0\r\n", redis.exceptions.InvalidResponse),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ):
            with self.subTest(reason):
                wire = self.wire(b"+OK\r\n", reason, b"+late\r\n")
                with self.assertRaises(raised):
                    self.trip(wire, ("PING",), ("PING",), ("PING",))()
                self.assertEqual(wire.closed, 1)

    def test_a_connection_that_the_server_has_ended_is_made_anew(self) -> None:
        wire = self.wire(b"+OK\r\n")
        trip = self.trip(wire, ("PING",))
        wire.server.close()
        trip()
        self.assertEqual(wire.closed, 1)


class RefreshTest(unittest.TestCase):
    def test_a_connection_of_any_version(self) -> None:
        """One of redis-py before 8.0 has no `is_connected`."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            calls: list[str] = []
            connection = SimpleNamespace(_sock=ours, disconnect=lambda: calls.append("disconnect"))
            refresh(connection)
            self.assertEqual(calls, [])
            theirs.close()
            refresh(connection)
            self.assertEqual(calls, ["disconnect"])
            connection._sock = None  # type: ignore[assignment]  # as redis-py has it when it is not connected
            refresh(connection)
            self.assertEqual(calls, ["disconnect"])


class StateTest(unittest.TestCase):
    """What is made of the list of clients."""

    def client(self, number: int, name: str = "", **fields: Any) -> bytes:
        """Its line, in the order of the server's. Older servers have no `ssub` and no `watch`."""
        facts = {
            "flags": "N",
            "db": 1,
            "sub": 0,
            "psub": 0,
            "multi": -1,
            "cmd": "get",
            "user": "default",
            "resp": 3,
            **fields,
        }
        order = ("flags", "db", "sub", "psub", "ssub", "multi", "watch", "cmd", "user", "resp")
        return (
            f"id={number} addr=a name={name} ".encode()
            + " ".join(f"{k}={facts[k]}" for k in order if k in facts).encode()
        )

    def test_only_new_clients_and_the_kept_one_are_looked_at(self) -> None:
        state = object.__new__(ServerState)
        state._newest_client = 10
        listed = b"\n".join(
            (
                self.client(3),
                self.client(4, "itest-cache", flags="b"),
                self.client(5, "itest-cache", flags="b"),
                self.client(6, "mine"),
                self.client(10, flags="b"),
                self.client(11, flags="b"),
            )
        )
        kept: Any = SimpleNamespace(ids={4, 6}, user="default", protocol="3")
        self.assertEqual([one["id"] for one in state._to_look_at(listed + b"\n", 1, kept)], ["4", "6", "11"])
        self.assertEqual(state._to_look_at(b"", 1, kept), [])

    def test_the_kept_one_only_where_it_is_not_as_it_was_when_new(self) -> None:
        state = object.__new__(ServerState)
        state._newest_client = 10
        kept: Any = SimpleNamespace(ids={12}, user="default", protocol="3")
        for changed in (
            {},
            {"db": 11},
            {"flags": "b"},
            {"sub": 1},
            {"psub": 2},
            {"flags": "x", "multi": 0},
            {"watch": 1},
            {"ssub": 1},
            {"flags": "tT"},
            {"user": "reader"},
            {"resp": 2},
        ):
            with self.subTest(changed):
                for newer in ({}, {"ssub": 0}, {"ssub": 0, "watch": 0}, {"multi": 0}):
                    listed = self.client(12, "itest-cache", **{**newer, **changed}) + b" tot-mem=8"
                    found = state._to_look_at(listed, 1, kept)
                    self.assertEqual([one["id"] for one in found], ["12"] if changed else [])
                    self.assertTrue(all(unclean(one, 1, kept) for one in found))

    def test_an_older_server_says_less_of_it(self) -> None:
        state = object.__new__(ServerState)
        state._newest_client = 10
        kept: Any = SimpleNamespace(ids={12}, user="default", protocol="2")
        [found] = state._to_look_at(b"id=12 name=itest-cache flags=N db=1 sub=0 psub=0 multi=-1 cmd=get", 1, kept)
        self.assertFalse(unclean(found, 1, kept))

    def test_one_that_was_in_multi_is_no_more(self) -> None:
        [was, inside] = clients_of(self.client(1, multi=0) + b"\n" + self.client(2, flags="x", multi=0))
        self.assertEqual((waiting(was), waiting(inside)), ("", "in MULTI"))


if __name__ == "__main__":
    unittest.main()
