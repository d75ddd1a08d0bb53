# SPDX-License-Identifier: Apache-2.0
"""The shop example's API and worker, as its own tests run them: an app with PostgreSQL, Redis and Kafka all at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

from itest.config import load
from itest.engines.docker import DockerEngine

ROOT = Path(__file__).resolve().parents[2]


class ShopTest(unittest.TestCase):
    def shop(self, engine: str) -> None:
        environment = {**os.environ, "ITEST_ENGINE": engine, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "unittest", "-v", "tests.test_api", "tests.test_worker"],
            cwd=ROOT / "examples" / "shop",
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        if skipped := re.search(r"skipped '(nothing here can run .*)'", done.stderr):
            self.skipTest(skipped[1])
        self.assertIn("Ran 9 tests", done.stderr)

    def test_on_local_processes(self) -> None:
        self.shop("process")

    def test_on_docker(self) -> None:
        engine = DockerEngine(load())
        self.addCleanup(engine.close)
        if reason := engine.unavailable():
            self.skipTest(f"Docker cannot be used: {reason}")
        self.shop("docker")
