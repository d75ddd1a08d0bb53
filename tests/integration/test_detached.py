# SPDX-License-Identifier: Apache-2.0
"""Reaper and keeper of a run whose itest is not on the path but in an import hook, as an editable install has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from itest import Redis, Unavailable, naming
from itest.clock import Deadline
from itest.config import load
from tests.leftovers import Leftovers

ROOT = Path(__file__).resolve().parents[2]

RUN = f"""
import importlib.abc, importlib.util, os, sys
from pathlib import Path

ROOT = Path({str(ROOT)!r})
sys.path[:] = [entry for entry in sys.path if entry and not Path(entry, "itest", "__init__.py").exists()]

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "itest":
            place = ROOT / "itest"
            return importlib.util.spec_from_file_location(
                name, place / "__init__.py", submodule_search_locations=[str(place)]
            )

sys.meta_path.insert(0, Hook())
from itest import Postgres, Redis
from itest.session import current

server = current().lend(Redis() if sys.argv[1] == "redis" else Postgres())
print("running", flush=True)
if sys.argv[1] == "redis":
    os.kill(os.getpid(), {int(signal.SIGKILL)})
lease = server.lease(Postgres(), "C")
lease.seal()
lease.close()
current().close()
"""


class ImportHookTest(unittest.TestCase):
    def setUp(self) -> None:
        try:
            Redis().process("secret", load())
        except Unavailable as error:
            self.skipTest(str(error))
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.before = Leftovers.snapshot()

    def run_of(self, service: str) -> int:
        environment = {**os.environ, "ITEST_ENGINE": "process", "ITEST_CACHE_DIR": str(self.cache), "ITEST_WARM": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-W", "error", "-c", RUN, service]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
        self.assertIn("running", done.stdout, done.stderr)
        return done.returncode

    def test_the_reaper_of_a_killed_run(self) -> None:
        self.assertEqual(self.run_of("redis"), -signal.SIGKILL)
        self.before.check()

    def test_the_keeper_of_a_run_that_ended(self) -> None:
        self.assertEqual(self.run_of("postgres"), 0)
        self.before.check()
        self.assertEqual(len(list(self.cache.glob("warm/*.tar"))), 1)
        # The last that it writes there, after it has removed the server.
        deadline = Deadline.after(20)
        while not list(self.cache.glob("warm/*.json")):
            self.assertFalse(deadline.passed)
            deadline.pause(0.02)

    def test_the_path(self) -> None:
        self.assertEqual(naming.import_path()[-1], str(ROOT))
        self.assertEqual([entry for entry in naming.import_path() if not os.path.isabs(entry)], [])
