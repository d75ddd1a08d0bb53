# SPDX-License-Identifier: Apache-2.0
"""Spans: what happened when."""

from __future__ import annotations

import io
import os
import sys
import unittest
from unittest import mock

from itest.testing import ManualClock
from itest.trace import Recorder, say


class RecorderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = ManualClock()
        self.recorder = Recorder(self.clock)

    def test_a_span_takes_as_long_as_its_body(self) -> None:
        with self.recorder.span("start", "redis", engine="memory") as span:
            self.assertEqual((span.seconds, span.ended), (0, None))
            self.clock.sleep(2)
            span.facts["version"] = "8"
        self.assertEqual(self.recorder.spans, [span])
        self.assertEqual((span.name, span.subject, span.seconds, span.failed), ("start", "redis", 2, False))
        self.assertEqual(span.facts, {"engine": "memory", "version": "8"})

    def test_the_span_of_a_body_that_raises_is_kept_as_failed(self) -> None:
        with self.assertRaises(KeyboardInterrupt), self.recorder.span("start", "redis"):
            self.clock.sleep(1)
            raise KeyboardInterrupt
        [span] = self.recorder.spans
        self.assertEqual((span.seconds, span.failed), (1, True))

    def test_listeners_are_told_of_each_span_that_ends(self) -> None:
        heard: list[str] = []
        self.recorder.listeners.append(lambda span: heard.append(f"{span.name} {span.seconds:g}"))
        with self.recorder.span("start", "redis"), self.recorder.span("ready", "redis"):
            self.clock.sleep(3)
            self.assertEqual(heard, [])
        self.assertEqual(heard, ["ready 3", "start 3"])


class SayTest(unittest.TestCase):
    def test_it_is_heard_where_a_runner_captures_standard_error(self) -> None:
        with (
            mock.patch.object(sys, "__stderr__", io.StringIO()) as real,
            mock.patch.object(sys, "stderr", io.StringIO()) as captured,
        ):
            say("ready")
        self.assertEqual((real.getvalue(), captured.getvalue()), ("itest: ready\n", ""))

    def test_it_never_raises(self) -> None:
        stream = mock.Mock(closed=False)
        stream.fileno.side_effect = io.UnsupportedOperation
        stream.write.side_effect = BrokenPipeError  # Nobody reads it any more, or its disk is full.
        with mock.patch.object(sys, "__stderr__", stream):
            say("nobody hears this either")
        stream.write.assert_called()
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as pipe, mock.patch.object(sys, "__stderr__", pipe):
            say("nor this")

    def test_no_lock_of_the_stream_is_held_when_the_interpreter_ends(self) -> None:
        read, write = os.pipe()
        with os.fdopen(read) as reader, os.fdopen(write, "w", encoding="ascii") as file:
            stream = mock.Mock(wraps=file, closed=False, encoding="ascii")
            with mock.patch.object(sys, "__stderr__", stream):
                say("größer")
            self.assertEqual(reader.readline(), "itest: gr\\xf6\\xdfer\n")
        stream.write.assert_not_called()
        stream.flush.assert_not_called()

    def test_it_is_silent_where_there_is_no_standard_error(self) -> None:
        closed = io.StringIO()
        closed.close()
        for stream in (None, closed):
            with mock.patch.object(sys, "__stderr__", stream):
                say("nobody hears this")
