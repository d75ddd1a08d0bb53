# SPDX-License-Identifier: Apache-2.0
"""Runs that were killed together with their reapers, and what the next run and the command line make of that.

Other runs on this machine sweep too: they may be the ones that remove what is looked at here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from itest import Redis, naming, owners, warm_listing
from itest.clock import Deadline
from itest.config import load
from itest.engines import Engine
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.errors import Unavailable
from itest.session import Session
from itest.spec import ContainerSpec, ProcessSpec, Spec
from itest.trace import Recorder

OWNER = """
import sys
from itest import Redis, session
run = session.current()
run.lend(Redis())
print(run.id, run._starter._reaper._process.pid, flush=True)
sys.stdin.read()
"""
"""A run that is not at its end: it says which it is and who its reaper is."""

DYING = f"""{OWNER}
import os
from itest.reaper import Reaper
send = Reaper.send
def send_last(reaper, *request):
    send(reaper, *request)
    reaper._process.kill()
    os.waitid(os.P_PID, reaper._process.pid, os.WEXITED | os.WNOWAIT)
Reaper.send = send_last
"""
"""One whose reaper is killed when it has been told what to remove, and has not done so yet."""

SLEEP = "exec sleep 600"


class SweepTest(unittest.TestCase):
    """On one engine, with another one to look at what there is."""

    engine: ClassVar[str] = ""

    def setUp(self) -> None:
        self.config = replace(load(), engine=self.engine, quiet=True, warm=False)
        self.eye: Engine = {"docker": DockerEngine, "process": ProcessEngine}[self.engine](self.config)
        self.addCleanup(self.eye.close)
        try:
            reason = self.eye.unavailable()
            if self.engine == "process":
                Redis().process("secret", self.config)
        except Unavailable as error:
            reason = str(error)
        if reason:
            if self.config.require in ("1", self.engine):
                self.fail(reason)
            self.skipTest(reason)

    def python(self, *arguments: str, cache: Path | None = None, **options: object) -> subprocess.Popen[str]:
        """A process of this Python that sees this tree and this engine."""
        warmth = {"ITEST_WARM": "0"} if cache is None else {"ITEST_WARM": "1", "ITEST_CACHE_DIR": str(cache)}
        environment = {**os.environ, **warmth, "ITEST_ENGINE": self.engine, "ITEST_QUIET": "1"}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        with process:
            process.kill()

    def itest(self, *arguments: str) -> str:
        """The output of a command that goes well."""
        process = self.python("-m", "itest", *arguments)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        return output

    def run_(self, code: str = OWNER) -> tuple[subprocess.Popen[str], str, int]:
        """A run in a process of its own: the process, the run's session, and its reaper."""
        process = self.python("-c", code)
        assert process.stdout is not None and process.stderr is not None
        if not (line := process.stdout.readline()):
            self.fail(process.stderr.read())
        session, reaper = line.split()
        self.addCleanup(self.eye.remove, {naming.SESSION: session})
        return process, session, int(reaper)

    @contextlib.contextmanager
    def owner(self) -> Iterator[str]:
        """The label of a process that lives as long as this does: what is made of its own is safe from other runs until then."""
        process = self.python("-c", "from itest import naming; print(naming.owner(), flush=True); input()")
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", timeout=60)

    def dead_thing(self) -> str:
        """The session of something that runs, and whose owner has ended."""
        with self.owner() as owner:
            return self.thing(owner)

    def thing(self, owner: str) -> str:
        """The session of something that runs and is labelled with this owner."""
        labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "thing", naming.OWNER: owner}
        spec: Spec = ContainerSpec("busybox:1.37", command=("sh", "-c", SLEEP), ports={})
        if self.engine == "process":
            spec = ProcessSpec("a shell", ("/bin/sh", "-c", SLEEP), ())
        self.addCleanup(self.eye.remove, labels)
        self.addCleanup(self.eye.start(spec, labels, Deadline.after(30), Recorder()).stop)
        return labels[naming.SESSION]

    def left(self, session: str) -> list[str]:
        return [str(thing) for thing in self.eye.things() if thing.labels[naming.SESSION] == session]

    def assertGone(self, session: str, seconds: float = 5.0) -> None:
        deadline = Deadline.after(seconds)
        while (left := self.left(session)) and not deadline.passed:
            deadline.pause(0.02)
        self.assertEqual(left, [], f"still there after {seconds:g} s")

    def test_the_next_run_removes_what_a_run_left_that_was_killed_with_its_reaper(self) -> None:
        killed, session, reaper = self.run_()
        _, other, _ = self.run_()
        os.kill(reaper, signal.SIGKILL)
        killed.kill()
        killed.wait(10)
        also = self.dead_thing()
        run = Session(self.config)
        try:
            run.lend(Redis())
            for dead in (session, also):
                self.assertGone(dead)
            self.assertEqual(len(self.left(other)), 1, "its owner lives")
            self.assertEqual(len(self.left(run.id)), 1)
        finally:
            run.close()

    def test_a_run_whose_reaper_was_killed_leaves_nothing(self) -> None:
        run, session, reaper = self.run_()
        label = str(owners.current(reaper))
        os.kill(reaper, signal.SIGKILL)
        self.eventually(lambda: owners.is_dead(label))
        _, errors = run.communicate(timeout=60)
        self.assertEqual((run.returncode, errors), (0, ""))
        self.assertGone(session)

    def test_nor_does_one_whose_reaper_is_killed_over_its_end(self) -> None:
        run, session, _ = self.run_(DYING)
        _, errors = run.communicate(timeout=60)
        self.assertEqual((run.returncode, errors), (0, ""))
        self.assertGone(session)

    def test_ps_tells_whose_it_is_and_sweep_removes_what_is_nobodys(self) -> None:
        mine, dead = self.thing(naming.owner()), self.dead_thing()
        listed = {thing["session"]: thing for thing in json.loads(self.itest("ps", "--json"))}
        self.assertEqual((listed[mine]["owner"]["pid"], listed[mine]["owner"]["lives"]), (os.getpid(), True))
        self.assertEqual((listed[mine]["service"], listed[mine]["engine"]), ("thing", self.engine))
        if dead in listed:  # Else another run has swept it by now.
            self.assertIs(listed[dead]["owner"]["lives"], False)
        self.assertIn(f"{os.getpid()} lives", self.itest("ps"))
        [kept] = self.left(mine)
        self.assertNotIn(kept, self.itest("sweep"))
        self.assertGone(dead)
        self.assertEqual(self.left(mine), [kept])

    def test_what_a_process_keeps_the_state_of_when_its_run_is_over_stays(self) -> None:
        cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        config = replace(self.config, cache_dir=cache, warm=True)
        self.addCleanup(warm_listing.clear, config)
        code = (
            "from itest import Postgres, session; d = Postgres(); run = session.current(); run.lend(d).lease(d, 'C').close()"
            "; print(run.id)"
        )
        run = self.python("-c", code, cache=cache)
        session, errors = run.communicate(timeout=60)
        self.assertEqual((run.returncode, errors), (0, ""))
        # There may be what other tests have killed just now.
        swept = json.loads(self.itest("sweep", "--json"))["removed"]
        self.assertNotIn(session.strip(), [thing["session"] for thing in swept])
        self.eventually(lambda: [entry.service for entry in warm_listing.entries(config)] == ["postgres"])

    def eventually(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = Deadline.after(seconds)
        while not condition():
            self.assertFalse(deadline.passed, f"not within {seconds:g} s")
            deadline.pause(0.05)


class SweepOnProcessesTest(SweepTest):
    engine = "process"


class SweepOnDockerTest(SweepTest):
    engine = "docker"

    def test_what_a_container_has_left_that_was_killed_is_removed_from_anywhere(self) -> None:
        job = self.thing(naming.owner())
        [around] = self.eye.find({naming.SESSION: job})
        left = self.thing(f"1@job pidns=1 container={around.id}")
        self.itest("sweep")
        self.assertEqual(len(self.left(left)), 1, "the container runs")
        around.stop()
        self.itest("sweep")
        self.assertGone(left)

    def test_networks_go_after_what_is_attached_to_them(self) -> None:
        assert isinstance(self.eye, DockerEngine)
        client = self.eye.client
        with self.owner() as owner:
            session = self.thing(owner)
            [thing] = [thing for thing in self.eye.things() if thing.labels[naming.SESSION] == session]
            network = client.create_network(f"itest-{session}", labels=dict(thing.labels))["Id"]
            client.connect_container_to_network(thing.id, network)
        self.itest("sweep")
        self.assertGone(session)


del SweepTest  # It is nobody's test by itself.


class NoDockerTest(unittest.TestCase):
    def test_no_docker_is_no_error(self) -> None:
        environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        for command in ("ps", "sweep"):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-m", "itest", command],
                env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
                timeout=30,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stderr, "^itest: not looked at docker: there is no Docker socket at unix:///nowhere/")
