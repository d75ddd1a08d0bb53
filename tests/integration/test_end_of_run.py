# SPDX-License-Identifier: Apache-2.0
"""Runs that end before all that they started was there, or among odd names: what is kept of them, and that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import unittest
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from itest import naming, warm_store
from itest.clock import Deadline
from itest.config import load
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.sharing import Share
from tests.leftovers import Leftovers

ROOT = Path(__file__).parents[2]

CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "setsid")
"""What runs a command as a container's main one: at its end the kernel kills all that it has started."""

TWO = """
    from itest import ContainerTestCase, KafkaMixin, PostgresMixin

    class FirstTest(PostgresMixin, ContainerTestCase):
        def test(self):
            self.postgres.execute("SELECT 1")
            self.fail("the other one is still starting")

    class SecondTest(KafkaMixin, ContainerTestCase):
        def test(self): ...
"""

ONE = """
    from itest import ContainerTestCase, PostgresMixin

    class FirstTest(PostgresMixin, ContainerTestCase):
        def test(self):
            self.postgres.execute("SELECT 1")
"""

BOTH = """
    from itest import ContainerTestCase, Network, PostgresMixin, RedisMixin, session

    class FirstTest(PostgresMixin, RedisMixin, ContainerTestCase):
        network = Network()

        def test(self):
            print(session.current().id)
            self.postgres.execute("SELECT 1")
"""

SHARED = """
    from itest import ContainerTestCase, PostgresMixin

    class FirstTest(PostgresMixin, ContainerTestCase):
        def test(self):
            self.postgres.execute("SELECT 1")

    class SecondTest(FirstTest): ...
"""

UNITTEST = ("-m", "unittest", "discover", "-s", "tests")
PARALLEL = ("-m", "unittest_parallel", "-j", "2", "--level", "class", "-s", "tests")

INTERRUPTED = f"{BOTH}            raise KeyboardInterrupt\n"
"""Its network is still there when the run closes."""


SLOW = """
    from itest import ContainerTestCase, Postgres, PostgresMixin, detached, session, warm
    from itest.report import progress

    progress.SILENT, warm.KEEP_TIMEOUT = 0.05, {timeout}
    detached.calling = lambda module: detached.READ + {keeper!r}

    class FirstTest(PostgresMixin, ContainerTestCase):
        {another}
        def test(self):
            print(session.current().id)
            self.postgres.execute("SELECT 1")
"""

ENDLESS = "import time\ntime.sleep(120)\n"
"""What keeps a state, and comes to no end."""

INTERRUPTING = f"""
import contextlib, os, signal
with contextlib.suppress(FileExistsError):  # Only one does.
    os.close(os.open({{file!r}}, os.O_CREAT | os.O_EXCL))
    os.kill(os.getppid(), signal.SIGINT)
{ENDLESS}"""


class EndTest(unittest.TestCase):
    engine = "process"

    def setUp(self) -> None:
        engine = DockerEngine(load()) if self.engine == "docker" else ProcessEngine(load())
        self.addCleanup(engine.close)
        self.eye = engine
        if reason := engine.unavailable():
            self.skipTest(reason)
        self.before = Leftovers.snapshot()
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cache = self.place / "cache"
        (self.place / "tests").mkdir()

    def run_of(
        self,
        suite: str,
        code: int,
        *arguments: str,
        within: Sequence[str] = (),
        runner: Sequence[str] = UNITTEST,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """A run of this suite, which ends with this code; `within`: the command that is to run it."""
        (self.place / "tests" / "test_it.py").write_text(textwrap.dedent(suite))
        process = subprocess.run(
            [*within, sys.executable, "-W", "error", *runner, *arguments],
            cwd=self.place,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
                "ITEST_ENGINE": self.engine,
                "ITEST_CACHE_DIR": os.fspath(self.cache),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(process.returncode, code, process.stderr)
        return process

    def kept(self) -> None:
        """What the run began with anew is kept, and nothing else is left of it."""
        deadline = Deadline.after(60.0)
        while not (records := list(warm_store.all_of(self.cache))):
            self.assertFalse(deadline.passed, "nothing was kept")
            deadline.pause(0.05)
        self.assertEqual([(record.service, record.failed) for record in records], [("postgres", "")])
        self.before.check()

    def clear(self) -> None:
        command = [sys.executable, "-m", "itest", "sweep", "--cache"]
        subprocess.run(command, env={**os.environ, "ITEST_CACHE_DIR": os.fspath(self.cache)}, check=True, timeout=60)

    def test_what_is_kept_of_one_that_ends_while_another_server_starts(self) -> None:
        self.addCleanup(self.clear)
        self.run_of(TWO, 1, "-f")
        self.kept()

    def needs_a_container(self) -> None:
        if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
            self.skipTest("this user may not make a PID namespace")
        self.addCleanup(self.clear)

    def left(self, session: str) -> list[str]:
        """What there is still of that session: of a run elsewhere nothing else tells."""
        return [str(each) for each in self.eye.things() if each.labels[naming.SESSION] == session]

    def test_ctrl_c_ends_the_wait_for_states_of_one_that_ends_its_container(self) -> None:
        self.needs_a_container()
        for another in ("", 'other = Postgres(settings={"work_mem": "5MB"})'):
            with self.subTest(another):
                keeper = INTERRUPTING.format(file=str(self.place / f"interrupted{len(another)}"))
                suite = SLOW.format(keeper=keeper, another=another, timeout=120)
                done = self.run_of(suite, 0, within=CONTAINER)
                self.assertRegex(done.stderr, r"(?s)Ran 1 test .*\nOK\n")
                self.assertNotIn("Traceback", done.stderr)
                self.assertEqual(self.left(done.stdout.strip()), [])
                self.assertEqual(list(warm_store.all_of(self.cache)), [])

    def test_a_wait_that_is_too_long_is_told_and_not_done_again_by_the_next_run(self) -> None:
        self.needs_a_container()
        done = self.run_of(SLOW.format(keeper=ENDLESS, another="", timeout=3), 0, within=CONTAINER, CI="")
        self.assertRegex(done.stderr, r"itest: keeping the state of PostgreSQL .* s so far\)\n")
        self.assertRegex(done.stderr, r"itest: the state of PostgreSQL could not be kept: it was not done after 3 s\n")
        self.assertEqual(self.left(done.stdout.strip()), [])
        [record] = warm_store.all_of(self.cache)
        self.assertEqual(record.failed, "it was not done after 3 s")
        again = self.run_of(SLOW.format(keeper=ENDLESS, another="", timeout=120), 0, within=CONTAINER, CI="")
        self.assertNotIn("state of", again.stderr)

    def test_nothing_is_left_by_the_workers_of_one_that_ends_its_container(self) -> None:
        if not find_spec("unittest_parallel"):
            self.skipTest("unittest-parallel is not installed")
        self.needs_a_container()
        self.run_of(SHARED, 0, within=CONTAINER, runner=PARALLEL)  # Its pool kills its workers.
        left = [str(each) for each in self.eye.things() if str(self.cache) in each.labels.get(naming.SHARED, "")]
        self.assertEqual(left, [])

    def test_nothing_is_left_by_one_that_ends_its_container(self) -> None:
        self.needs_a_container()
        for suite, code in ((BOTH, 0), (INTERRUPTED, 130)):
            for within in (CONTAINER, (*CONTAINER, "sh", "-c", '"$@"; exit $?', "sh")):
                with self.subTest(code=code, within=within):
                    session = self.run_of(suite, code, within=within).stdout.strip()
                    self.assertEqual(self.left(session), [])
            self.assertEqual(len(list(warm_store.all_of(self.cache))), 0 if code else 1)
            self.before.check()
            self.clear()  # A run that was interrupted keeps nothing.

    def test_tests_with_a_module_that_the_standard_library_has_too(self) -> None:
        (self.place / "tests" / "signal.py").write_text("def connected(number): return number\n")
        self.addCleanup(self.clear)
        self.run_of(ONE, 0)
        self.kept()

    def test_a_cache_directory_whose_name_is_no_text(self) -> None:
        self.cache = Path(os.fsdecode(os.fsencode(self.place) + b"/cache\xff\n"))
        self.run_of(ONE, 0, ITEST_REUSE="1", ITEST_REUSE_TIME="0.5", ITEST_WARM="0")
        deadline = Deadline.after(60.0)
        while any(Share(file.parent).read() for file in (self.cache / "servers").glob("*/server.json")):
            self.assertFalse(deadline.passed, "its time is over, and it is still there")
            deadline.pause(0.05)
        self.before.check()


class DockerEndTest(EndTest):
    engine = "docker"
