# SPDX-License-Identifier: Apache-2.0
"""Servers' logs on their way to `logging`."""

from __future__ import annotations

import logging
import threading
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from itest import ContainerTestCase, naming
from itest.log_stream import Streams
from itest.testing import MemoryEngine, MemoryInstance
from tests.unit.inner import InnerTest, MemoryMixin
from tests.unit.inner import run as run_inner


class Instance:
    """Gives these pieces, then waits until it is told to stop, then gives the last ones."""

    id = "i1"

    def __init__(self, *pieces: bytes, last: tuple[bytes, ...] = ()) -> None:
        self.pieces = pieces
        self.last = last
        self.asked_new: list[bool] = []

    def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
        self.asked_new.append(new)
        yield from self.pieces
        stop.wait(10)
        yield from self.last


class StreamsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.streams = Streams()
        self.addCleanup(self.streams.close)

    def logged(self, instance: Any, kind: str = "postgres") -> list[str]:
        with self.assertLogs(f"itest.{kind}", "DEBUG") as caught:
            self.streams.follow(instance, kind, new=True)
            self.streams.end(instance)
        return [f"{record.levelname} {record.getMessage()}" for record in caught.records]

    def test_lines_whatever_the_pieces_are(self) -> None:
        found = self.logged(Instance(b"one\ntw", b"o\n\nthr", b"ee\r\n", last=(b"four",)))
        self.assertEqual(found, ["INFO one", "INFO two", "INFO three", "INFO four"])

    def test_levels_are_those_that_servers_name(self) -> None:
        found = self.logged(
            Instance(
                b"2026-01-01 UTC [7] LOG:  checkpoint\n2026-01-01 UTC [7] ERROR:  no such column\n"
                b"FATAL:  terminating\n[2026-01-01] WARN [Broker] slow (kafka.server)\n# WARNING overcommit\nERRORS: none\n"
            )
        )
        self.assertEqual([line.split()[0] for line in found], ["INFO", "ERROR", "ERROR", "WARNING", "WARNING", "INFO"])

    def test_no_passwords_and_no_control_characters(self) -> None:
        secret = naming.secret()
        found = self.logged(Instance(f"\x1b[31mpassword {secret}\x1b[0m 100%d\n".encode()))
        self.assertEqual(found, ["INFO password *** 100%d"])

    def test_what_is_no_text(self) -> None:
        self.assertEqual(self.logged(Instance(b"\xff\xfe!\n")), ["INFO \ufffd\ufffd!"])

    def test_one_that_cannot_be_followed(self) -> None:
        self.streams.follow(mock.Mock(spec=["id"]), "redis", new=True)
        self.assertEqual(self.streams._running, {})

    def test_one_for_which_no_thread_can_be_had(self) -> None:
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            self.streams.follow(Instance(b"one\n"), "redis", new=True)
        self.assertEqual(self.streams._running, {})

    def test_one_whose_log_breaks_off(self) -> None:
        class Broken(Instance):
            def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
                yield b"one\n"
                raise OSError("gone")

        self.assertEqual(self.logged(Broken()), ["INFO one"])

    def test_the_same_one_twice(self) -> None:
        instance = Instance(b"one\n")
        with self.assertLogs("itest.redis", logging.INFO) as caught:
            self.streams.follow(instance, "redis", new=True)
            self.streams.follow(instance, "redis", new=True)
            self.streams.close()
        self.assertEqual((len(caught.records), instance.asked_new), (1, [True]))
        self.assertFalse([each for each in threading.enumerate() if each.name.startswith("itest-log")])


class SessionTest(InnerTest):
    def test_by_the_setting(self) -> None:
        def followed(self: MemoryInstance, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
            yield b"ready\n"
            stop.wait(10)

        class T(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def test_a(self) -> None:
                pass

        with mock.patch.object(MemoryInstance, "follow", followed, create=True):
            with self.assertNoLogs("itest"):
                run_inner(T)
            self.use(MemoryEngine(), logging=True)
            with self.assertLogs("itest.memory") as caught:
                run_inner(T)
        self.assertEqual(caught.output, ["INFO:itest.memory:ready"])
        self.assertFalse([each for each in threading.enumerate() if each.name.startswith("itest-log")])
