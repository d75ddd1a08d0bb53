# SPDX-License-Identifier: Apache-2.0
"""Servers that several processes use, with real ones: workers at the same moment, runs one after the other, kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar

from itest import naming, sharing
from itest.clock import Deadline
from itest.config import load
from itest.engines.directory import STATE_FILE
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.services.redis.programs import find_program
from tests.leftovers import Leftovers

ROOT = Path(__file__).resolve().parents[2]

WORKERS = 8

WORKER = """
import json, os, sys, time
from itest import Postgres, Redis
from itest.session import current

orders = json.loads(sys.argv[1])
session = current()
if orders["when"] == "start":
    os.kill(os.getpid(), orders["signal"])
postgres = Postgres(env={"MYVAR": "1"})
server, cache = session.lend(postgres), session.lend(Redis())
leases = [server.lease(postgres, "C"), cache.lease(Redis(), "C")]
for lease in leases:
    lease.seal()
for number in range(3):
    database, redis = (lease.reset("C.test") for lease in leases)
    database.execute("CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)")
    assert database.execute("SELECT count(*) FROM mine") == [(1,)]
    assert database.exec(["sh", "-c", "echo $MYVAR"]).stdout == "1\\n"
    assert redis.cache.dbsize() == 0
    redis.cache.set("key", os.getpid())
    assert int(redis.cache.get("key")) == os.getpid()
    database.close()
if orders["statement"]:
    server.admin(orders["statement"])
print(json.dumps([server.instance.id, server.fresh, cache.instance.id, cache.fresh]), flush=True)
if orders["when"] == "use":
    os.kill(os.getpid(), orders["signal"])
if orders["when"] == "wait":
    sys.stdin.readline()
for lease in leases:
    lease.close()
session.close()
"""


NETWORK = """
import json, os, signal
from itest import Redis
from itest.session import current

session = current()
found = session.lend(Redis())
print(json.dumps([session.network("killed").id, found.fresh]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


FULL_DISK = """
import json, sys
from unittest import mock
from itest import Redis
from itest.session import current
from itest.sharing import Share

orders = json.loads(sys.argv[1])
writes = 0

def write(share, record, real=Share.write):
    global writes
    writes += 1
    if writes >= orders["statement"]:
        raise OSError(28, "No space left on device")
    real(share, record)

session = current()
with mock.patch.object(Share, "write", write):
    try:
        told = session.lend(Redis()).share is None
    except OSError as error:
        told = str(error)
print(json.dumps([told]))
session.close()
"""


class SharingTest(unittest.TestCase):
    engine: ClassVar[str] = ""

    def setUp(self) -> None:
        engine = DockerEngine(load()) if self.engine == "docker" else ProcessEngine(load())
        self.addCleanup(engine.close)
        if reason := engine.unavailable():
            self.skipTest(reason)
        self.find = engine.find
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.before = Leftovers.snapshot()

    def worker(
        self, statement: str | int = "", when: str = "", program: str = WORKER, **environment: str
    ) -> subprocess.Popen[str]:
        """A process that uses a PostgreSQL and a Redis, and tells which they were."""
        orders = {"statement": statement, "when": when, "signal": signal.SIGKILL}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, json.dumps(orders)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
                "ITEST_ENGINE": self.engine,
                "ITEST_CACHE_DIR": str(self.cache),
                "ITEST_WARM": "0",
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, process: subprocess.Popen[str], code: int = 0) -> list[Any]:
        """What it told at its end, which must be this one."""
        try:
            output, errors = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
        self.assertEqual(process.returncode, code, errors)
        self.assertNotIn("Warning", errors)
        return list(json.loads(output)) if output else []

    def run_once(self, statement: str = "", when: str = "", code: int = 0, **environment: str) -> list[Any]:
        return self.told(self.worker(statement, when, **environment), code)

    def reused(self, statement: str = "", seconds: float = 60.0, **environment: str) -> list[Any]:
        return self.run_once(statement, ITEST_REUSE="1", ITEST_REUSE_TIME=str(seconds), **environment)

    def kept(self) -> set[int]:
        """The processes that see to the end of the servers' time, once somebody does for each."""
        deadline = Deadline.after(60.0)
        places = {file.parent for file in (self.cache / "servers").glob("*/server.json")}
        while not all(map(sharing.is_time_kept, places)):
            self.assertFalse(deadline.passed, "nobody sees to the end of their time")
            deadline.pause(0.02)
        return {pid for pid in processes() if places & {file.parent for file in opened(pid) if file.name == "time"}}

    def clear(self) -> None:
        """As if the time of all servers were over: their reaper sees to them."""
        for file in (self.cache / "servers").glob("*/server.json"):
            share = sharing.Share(file.parent)
            if record := share.read():
                share.write(record._replace(expires=1.0))
        self.nothing_left()

    def nothing_left(self, seconds: float = 20.0) -> None:
        deadline = Deadline.after(seconds)
        while files := list((self.cache / "servers").glob("*/server.json")):
            self.assertFalse(deadline.passed, f"{files} are still there")
            deadline.pause(0.05)
        self.before.check()

    def test_workers_at_the_same_moment_share_one_server_though_one_is_killed(self) -> None:
        run = {"PYTEST_XDIST_TESTRUNUID": naming.session_id()}
        workers = [self.worker(when="use" if number == 3 else "wait", **run) for number in range(WORKERS)]
        with contextlib.ExitStack() as stack:
            for worker in workers:
                stack.callback(worker.kill)
            # Each stays until all have come: one that came when the others have gone starts a server anew, rightly.
            told = [self.told_by(worker) for worker in workers]
            for at, worker in enumerate(workers):
                errors = worker.communicate("" if at == 3 else "go on\n", timeout=90)[1]
                self.assertEqual(worker.returncode, -signal.SIGKILL if at == 3 else 0, errors)
                self.assertNotIn("Warning", errors)
        self.assertEqual(len({postgres for postgres, *_ in told}), 1, told)
        self.assertEqual([sum(each[1] for each in told), sum(each[3] for each in told)], [1, 1], told)
        self.nothing_left()

    def test_the_last_one_is_killed(self) -> None:
        self.run_once(when="use", code=-signal.SIGKILL, PYTEST_XDIST_TESTRUNUID="the last one is killed")
        self.nothing_left()

    def test_workers_of_another_run_have_another_server(self) -> None:
        first = self.worker(when="wait", PYTEST_XDIST_TESTRUNUID="one")
        second = self.worker(when="wait", PYTEST_XDIST_TESTRUNUID="other")
        with contextlib.ExitStack() as stack:
            stack.callback(second.kill)
            stack.callback(first.kill)
            one, other = self.told_by(first), self.told_by(second)
            self.assertNotEqual(one[0], other[0])
            for process in (first, second):
                self.assertEqual(process.communicate("go on\n", timeout=90)[1].count("Traceback"), 0)
        self.nothing_left()

    def told_by(self, process: subprocess.Popen[str]) -> list[Any]:
        assert process.stdout is not None
        return list(json.loads(process.stdout.readline()))

    def test_the_next_run_uses_it_again(self) -> None:
        first = self.reused()
        second = self.reused()
        self.assertEqual(first, [first[0], True, first[2], True])
        self.assertEqual(second, [first[0], False, first[2], False])
        self.clear()

    def test_it_goes_when_its_time_is_over(self) -> None:
        self.reused(seconds=0.5)
        self.nothing_left()

    def test_one_that_was_changed_as_a_whole_is_replaced(self) -> None:
        first = self.reused("CREATE ROLE left_behind")
        second = self.reused()
        self.assertEqual(second, [second[0], True, first[2], False])
        self.assertNotEqual(first[0], second[0])
        self.clear()

    def test_one_that_died_is_replaced(self) -> None:
        first = self.reused()
        self.postgres().stop()
        self.assertEqual(self.reused()[1:], [True, first[2], False])
        self.clear()

    def postgres(self) -> Any:
        """The instance of the PostgreSQL that stays."""
        [record] = [
            record
            for file in (self.cache / "servers").glob("*/server.json")
            if (record := json.loads(file.read_text()))["service"] == "postgres"
        ]
        [instance] = self.find({naming.SESSION: record["session"]})
        return instance

    @unittest.skipUnless(Path("/proc/self/fd").is_dir(), "who has a file open is seen in /proc")
    def test_one_that_is_found_needs_no_other_reaper(self) -> None:
        self.reused()
        keepers = self.kept()
        worker = self.worker(when="wait", ITEST_REUSE="1")
        with contextlib.ExitStack() as stack:
            stack.callback(worker.kill)
            self.assertEqual(self.told_by(worker)[1::2], [False, False])
            self.assertEqual([pid for pid in processes() if parent(pid) == worker.pid], [])
            self.assertEqual(worker.communicate("go on\n", timeout=90)[1].count("Traceback"), 0)
        self.assertEqual(self.kept(), keepers)
        self.clear()

    def test_one_that_is_found_goes_though_its_run_is_killed(self) -> None:
        self.reused()
        self.kept()
        self.run_once(when="use", code=-signal.SIGKILL, ITEST_REUSE="1")
        self.clear()

    @unittest.skipUnless(Path("/proc/self/fd").is_dir(), "who has a file open is seen in /proc")
    def test_the_next_run_takes_over_from_a_reaper_that_was_killed(self) -> None:
        self.reused()
        kill(self.kept())
        self.assertEqual(self.reused()[1::2], [False, False])
        self.kept()
        self.clear()

    @unittest.skipUnless(Path("/proc/self/fd").is_dir(), "who has a file open is seen in /proc")
    def test_a_run_takes_over_from_a_reaper_that_is_killed_meanwhile(self) -> None:
        self.reused()
        keepers = self.kept()
        worker = self.worker(when="wait", ITEST_REUSE="1")
        with contextlib.ExitStack() as stack:
            stack.callback(worker.kill)
            self.told_by(worker)
            kill(keepers)
            self.assertEqual(worker.communicate("go on\n", timeout=90)[1].count("Traceback"), 0)
        self.assertEqual(self.kept() & keepers, set())
        self.clear()

    def test_two_runs_at_once_use_it_together(self) -> None:
        reuse = {"ITEST_REUSE": "1", "ITEST_REUSE_TIME": "60"}
        told = [self.told(worker) for worker in [self.worker(**reuse), self.worker(**reuse)]]
        self.assertEqual(told[0][0], told[1][0])
        self.clear()

    def test_without_a_place_for_it_each_has_its_own(self) -> None:
        place = self.cache / "file"
        place.touch()
        told = self.run_once(PYTEST_XDIST_TESTRUNUID="no place", ITEST_CACHE_DIR=str(place / "below"))
        self.assertEqual((told[1], told[3]), (True, True))
        self.before.check()


def kill(pids: set[int]) -> None:
    """End them, and wait until they are: what they hold is taken over by whoever finds it free."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = Deadline.after(60.0)
    while any(map(opened, pids)) and not deadline.passed:
        deadline.pause(0.01)


def processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[1])
    return 0


def opened(pid: int) -> set[Path]:
    found = set()
    with contextlib.suppress(OSError):  # It has ended, or is another user's.
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(Path(os.readlink(f"/proc/{pid}/fd/{entry}")))
    return found


class ProcessTest(SharingTest):
    engine = "process"

    def test_the_programs_of_another_environment_do_not_replace_its_server(self) -> None:
        program, _ = find_program(load())
        other = self.cache / "other-server"
        other.symlink_to(program)
        first = self.reused()
        self.assertTrue(self.reused(ITEST_REDIS_BIN=str(other))[3])
        self.assertEqual(self.reused(), [first[0], False, first[2], False])
        self.clear()

    def test_one_of_which_a_file_was_removed_is_replaced(self) -> None:
        first = self.reused()
        (self.postgres().place / STATE_FILE).unlink()
        self.assertEqual(self.reused()[1:], [True, first[2], False])
        self.clear()


class DockerTest(SharingTest):
    engine = "docker"

    def test_nothing_is_left_where_a_disk_is_full(self) -> None:
        # Nothing could be written of it: it is the run's own. It could not be written that it is ready: nobody finds it.
        for writes, told in ((1, True), (2, "[Errno 28] No space left on device")):
            with self.subTest(writes=writes):
                self.assertEqual(self.told(self.worker(writes, program=FULL_DISK, ITEST_REUSE="1")), [told])
                self.nothing_left()

    def test_a_network_goes_with_a_run_that_is_killed_though_its_server_was_found(self) -> None:
        self.reused()
        self.kept()
        network, fresh = self.told(self.worker(program=NETWORK, ITEST_REUSE="1"), -signal.SIGKILL)
        self.assertFalse(fresh)
        with contextlib.closing(DockerEngine(load())) as engine:
            deadline = Deadline.after(20.0)
            while network in [each["Id"] for each in engine.client.networks()]:
                self.assertFalse(deadline.passed, "the network is still there")
                deadline.pause(0.05)
        self.clear()

    # What the engine has no part in is shown on local processes alone, where it takes a third of the time.
    test_a_run_takes_over_from_a_reaper_that_is_killed_meanwhile = None
    test_it_goes_when_its_time_is_over = None
    test_one_that_was_changed_as_a_whole_is_replaced = None
    test_one_that_is_found_needs_no_other_reaper = None
    test_the_last_one_is_killed = None
    test_the_next_run_takes_over_from_a_reaper_that_was_killed = None
    test_one_that_died_is_replaced = None
    test_two_runs_at_once_use_it_together = None
    test_without_a_place_for_it_each_has_its_own = None
    test_workers_of_another_run_have_another_server = None


del SharingTest  # It is nobody's test by itself.
