# SPDX-License-Identifier: Apache-2.0
"""ITEST_KEEP=failed: what failed tests leave can be looked at after the run, by the commands that were printed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2
import redis

from itest import Postgres, Redis, naming, sharing, sweep
from itest.clock import Deadline
from itest.config import load
from itest.engines import Engine, Thing
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from tests.runners.samples import INHERITED, ROOT, SAMPLES, SampleTestCase


class _Keeping(SampleTestCase):
    def setUp(self) -> None:
        self.needs(Postgres(), Redis())
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="cache-")))
        self.engines: Sequence[Engine] = [DockerEngine(load()), ProcessEngine(load())]
        for engine in self.engines:
            self.addCleanup(engine.close)
        self.addCleanup(self.remove)

    def run_kept(self, seconds: float = 300, test: str = "test_keeping") -> str:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="sample-")), "keeping")
        shutil.copytree(SAMPLES / "keeping", place, ignore=shutil.ignore_patterns("__pycache__"))
        environment = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}
        environment.update(PYTHONPATH=str(ROOT), ITEST_ENGINE=self.engine, ITEST_REQUIRE="1")
        environment.update(
            ITEST_CACHE_DIR=str(self.cache), ITEST_KEEP="failed", ITEST_KEEP_TIME=str(seconds), ITEST_WARM="0"
        )
        with tempfile.TemporaryFile("w+") as output:  # No pipe: the servers that stay could hold it.
            command = [sys.executable, "-W", "error", "-m", "unittest", test]
            subprocess.run(command, cwd=place, env=environment, stdout=output, stderr=output, timeout=120)
            output.seek(0)
            return output.read()

    def things(self) -> Iterator[Thing]:
        """Those that stay of this run: no other has this cache directory."""
        for engine in self.engines:
            if engine.unavailable() is None:
                for thing in engine.things():
                    if thing.labels.get(naming.SHARED, "").startswith(f"{self.cache}{os.sep}"):
                        yield thing

    def remove(self) -> None:
        for thing in list(self.things()):
            thing.remove()

    def check_kept(self) -> None:
        said = self.run_kept()
        self.assertIn("FAILED (failures=1)", said)
        self.assertRegex(
            said,
            r"itest: kept what test_keeping.KeptTest.test_1_fails left, for 300 s; after the run `itest sweep` rem",
        )
        passwords = self.passwords()
        self.assertEqual(len(passwords), 2)
        for password in passwords:
            self.assertNotIn(password, said)

        [command] = re.findall(r"itest:   postgres: (PGPASSFILE=.*)", said)
        file, *words = shlex.split(command)
        options = dict(zip(words[1::2], words[2::2], strict=True))
        connection = psycopg2.connect(
            host=options["-h"],
            port=options["-p"],
            user=options["-U"],
            dbname=options["-d"],
            passfile=file.removeprefix("PGPASSFILE="),
        )
        self.addCleanup(connection.close)
        with connection.cursor() as cursor:
            cursor.execute("SELECT item FROM orders")
            self.assertEqual(cursor.fetchall(), [("book",)])
        connection.close()

        [command] = re.findall(r"itest:   redis: (REDISCLI_AUTH=.*)", said)
        password = subprocess.run(
            ["sh", "-c", command.partition(" redis-cli ")[0] + '; printf %s "$REDISCLI_AUTH"'],
            capture_output=True,
            text=True,
        ).stdout
        words = shlex.split(command.partition(" redis-cli ")[2])
        options = dict(zip(words[::2], words[1::2], strict=True))
        client = redis.Redis(options["-h"], int(options["-p"]), int(options["-n"]), password, decode_responses=True)
        self.addCleanup(client.close)
        self.assertEqual(client.mget("open", "last-order"), ["yes", "book"])

        kept = list(self.things())
        self.assertEqual(len(kept), 2)
        # The next run's sweep leaves it alone; a sweep by hand does not, and takes the passwords too.
        self.assertEqual([sweep.is_over(thing) for thing in kept], [False, False])
        self.assertEqual([sweep.is_kept(thing) for thing in kept], [True, True])
        swept = sweep.remove(kept)
        self.assertEqual((len(swept.removed), swept.failed), (2, []))
        self.assertEqual(self.passwords(), [])

    def wait_until_gone(self) -> None:
        """The reaper sees to that."""
        deadline = Deadline.after(30)
        while list(self.things()) or self.passwords():
            self.assertFalse(deadline.passed, "it is still there")
            deadline.pause(0.1)

    def passwords(self) -> list[str]:
        """Those of the servers that stay; nobody else may read the files that they stand in."""
        found = []
        for place in (self.cache / "servers").iterdir():
            self.assertEqual(place.stat().st_mode & 0o077, 0)
            for file in place.iterdir():
                with contextlib.suppress(FileNotFoundError):  # The reaper may be deleting them just now.
                    self.assertEqual(file.stat().st_mode & 0o077, 0, file)
            if record := sharing.Share(place).read():
                found.append(record.secret)
        return found


class KeepingOnProcessesTest(_Keeping):
    def test_what_a_failed_test_left_can_be_looked_at(self) -> None:
        self.check_kept()

    def test_both_databases_of_a_test_that_has_two(self) -> None:
        said = self.run_kept(test="test_two")
        databases = re.findall(r"itest:   (?:orders|stock): PGPASSFILE=.* -d (itest_kept_\w+)", said)
        self.assertEqual(len(set(databases)), 2, said)
        self.assertNotIn("is not kept", said)

    def test_nothing_stays_of_tests_that_pass(self) -> None:
        said = self.run_kept(test="test_keeping.KeptTest.test_3_too")
        self.assertIn("\nOK\n", said)
        self.assertNotIn("kept", said)
        self.wait_until_gone()

    def test_it_ends_by_itself(self) -> None:
        self.run_kept(seconds=3)
        self.wait_until_gone()


class KeepingOnDockerTest(_Keeping):
    engine = "docker"

    def test_what_a_failed_test_left_can_be_looked_at(self) -> None:
        self.check_kept()
