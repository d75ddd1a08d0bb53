# SPDX-License-Identifier: Apache-2.0
"""Servers that are ending: their sockets are closed, and nobody may have been told yet."""

from __future__ import annotations

import itertools
import os
import select
import socket
import subprocess
import sys
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from itest import App, alive
from itest.clock import Deadline
from itest.engines import OUT_OF_REACH, Endpoint, State, is_ending
from itest.errors import IsolationError
from itest.services.app.server import AppLease


class EndedTest(unittest.TestCase):
    def looks(self, states: Iterable[bool], ending: Iterable[bool]) -> State | None:
        """How it has ended, if it runs and is seen to be ending, look by look."""
        runs, ends = iter(states), iter(ending)
        server = mock.Mock(**{"lives.return_value": False})
        server.instance = mock.Mock(state=lambda: State(next(runs), "exited"), ending=lambda: next(ends))
        return alive.ended(server)

    def test_one_that_is_ending_is_waited_for(self) -> None:
        state = self.looks([True, True, True, False], [True, True, True])
        self.assertEqual(state, State(False, "exited"))

    def test_one_that_runs_is_looked_at_once(self) -> None:
        self.assertIsNone(self.looks([True], [False]))

    def test_one_that_was_started_again_runs(self) -> None:
        self.assertIsNone(self.looks([True, True], [True, False]))

    def test_one_that_docker_does_not_tell_of_has_not_ended(self) -> None:
        server = mock.Mock(
            **{"instance.state.return_value": State(True, OUT_OF_REACH), "instance.ending.return_value": False}
        )
        self.assertIsNone(alive.ended(server))

    def test_one_that_never_tells_its_end(self) -> None:
        with mock.patch.object(alive, "REAPING", 0.02):
            self.assertIsNone(self.looks(itertools.repeat(True), itertools.repeat(True)))


class SpokenTest(unittest.TestCase):
    def test_a_farewell_is_seen_where_select_has_no_poll_too(self) -> None:
        with mock.patch.object(select, "poll"):
            del select.poll
            one, other = socket.socketpair()
            with one, other:
                self.assertFalse(alive.has_spoken(one))
                other.close()
                self.assertTrue(alive.has_spoken(one))


class AppTest(unittest.TestCase):
    def finish(self, instance: Any) -> None:
        service = App.command(["npm", "start", "{port}"])
        AppLease(service.connect(instance, "http://127.0.0.1:1"), mock.Mock(), "class", "tests.T").finish(
            "tests.T.test"
        )

    def test_one_whose_program_outlives_what_it_has_started(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            endpoint = Endpoint(*found.getsockname())
            states = [State(True), State(True), State(False, "exited", 3), State(False, "exited", 3)]
            instance = mock.Mock(owned=True, **{"endpoint.return_value": endpoint, "ending.return_value": False})
            with mock.patch.object(alive, "GRACE", 60), self.assertRaisesRegex(IsolationError, "with exit code 3"):
                instance.state.side_effect = states
                self.finish(instance)
            found.listen()
            instance.state.side_effect = [State(True)]
            self.finish(instance)

    def test_an_external_one_is_not_connected_to(self) -> None:
        self.finish(mock.Mock(owned=False, **{"state.return_value": State(True), "ending.return_value": False}))


@unittest.skipUnless(sys.platform == "linux", "only Linux shows it")
class ProcessTest(unittest.TestCase):
    def test_it_is_seen_before_it_is_reaped(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
            self.assertFalse(is_ending(process.pid))
            assert process.stdin is not None
            process.stdin.close()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self.assertTrue(is_ending(process.pid))
        self.assertTrue(is_ending(process.pid))

    def test_threads_that_go_on_without_the_first(self) -> None:
        code = (
            "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); "
            "ctypes.CDLL(None).pthread_exit(None)"
        )
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            self.addCleanup(process.kill)
            deadline = Deadline.after(60)
            while ") Z " not in Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii"):
                self.assertFalse(deadline.passed, "its first thread has not ended")
                deadline.pause(0.01)
            self.assertFalse(is_ending(process.pid))
            process.kill()
