# SPDX-License-Identifier: Apache-2.0
"""The check for leftovers finds them: one that finds nothing would make every other test here pass."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from itest import Redis, naming
from tests.leftovers import ROOTS, Leftovers
from tests.runners.samples import SampleTestCase

NOBODY = f"4194305@{platform.node()}"
"""One above the highest process id that Linux gives out."""


class LeftoversTest(SampleTestCase):
    def setUp(self) -> None:
        self.before = Leftovers.snapshot()

    def assertFound(self, text: str) -> None:
        # Between the lines may be what other tests are killing at this moment.
        with self.assertRaisesRegex(AssertionError, "(?s)left behind, and still there after 0.3 s:\n.*" + text):
            self.before.check(timeout=0.3)

    def directory(self, owner: str = "") -> Path:
        place = ROOTS[-1] / f"itest-{secrets.token_hex(10)}-redis-abcdefgh"
        place.mkdir()
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        if owner:
            (place / "itest.json").write_text(json.dumps({"labels": {naming.OWNER: owner}}))
        return place

    def test_nothing(self) -> None:
        self.before.check()

    def test_directory(self) -> None:
        place = self.directory(NOBODY)
        self.assertFound(f"directory {place} of process {NOBODY}")

    def test_directory_without_a_state_file(self) -> None:
        self.assertFound(f"directory {self.directory()} of process ")

    def test_directory_that_is_in_use(self) -> None:
        self.directory(f"{os.getpid()}@{platform.node()}")
        self.before.check()

    def test_directory_that_was_there_before(self) -> None:
        self.directory(NOBODY)
        Leftovers.snapshot().check()

    def test_directory_that_was_there_before_and_whose_owner_ends_meanwhile(self) -> None:
        with subprocess.Popen(["sleep", "60"]) as owner:
            self.directory(f"{owner.pid}@{platform.node()}")
            before = Leftovers.snapshot()
            owner.kill()
        before.check()

    @unittest.skipUnless(sys.platform == "linux", "processes are looked for in /proc")
    def test_process_whose_directory_is_gone(self) -> None:
        place = self.directory()
        with subprocess.Popen(["sleep", "60"], cwd=place) as process:
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            shutil.rmtree(place)
            self.assertFound(rf"process {process.pid} \(sleep 60\) in {place}")
            process.kill()

    @unittest.skipUnless(sys.platform == "linux", "processes are looked for in /proc")
    def test_reaper_without_an_owner(self) -> None:
        code = "import time; time.sleep(60)  # from itest.reaper import main"
        script = '"$@" >/dev/null 2>&1 & echo $!'
        made = subprocess.run(
            ["sh", "-c", script, "sh", sys.executable, "-c", code], capture_output=True, text=True, timeout=10
        )
        reaper = int(made.stdout)
        try:
            self.assertFound(f"reaper {reaper}")
        finally:
            os.kill(reaper, signal.SIGKILL)

    def test_container(self) -> None:
        self.engine = "docker"
        self.needs(Redis())
        import docker

        client = docker.from_env()
        self.addCleanup(client.close)
        if not client.images.list("redis:8"):
            self.skipTest("the image redis:8 is not there")
        name = f"itest-test-{secrets.token_hex(5)}"
        labels = {naming.SESSION: "0" * 20, naming.OWNER: NOBODY}
        container = client.containers.create("redis:8", name=name, labels=labels)
        try:
            self.assertFound(rf"container {name} \(redis:8\) of process {NOBODY}")
        finally:
            container.remove(force=True, v=True)
        self.before.check()
