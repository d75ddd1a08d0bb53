# SPDX-License-Identifier: Apache-2.0
"""What bash takes for `pg_ctl` in PostgreSQL's containers: it returns as soon as the program might, with its word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from itest.services.postgres.customs import QUICK_PG_CTL

START = ("-D", "data", "-o", "-c fsync=off", "-w", "start")
STOP = ("-D", "data", "-m", "fast", "-w", "stop")
READY = r"'1\n/data\n\n\n\n\n\nready   \n'"
STARTING = READY.replace("ready   ", "starting")


@unittest.skipUnless(sys.platform == "linux" and shutil.which("bash"), "needs the bash of a Linux")
class QuickPgCtlTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.directory / "postmaster.pid"

    def run_it(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Have a bash that minds failures, as the image's entrypoint, call `pg_ctl`, which stands for the program."""
        stand_in = self.directory / "pg_ctl"
        stand_in.write_text(f'#!/bin/sh\necho $$ >"$PGDATA/pid"\n{program}\n')
        stand_in.chmod(0o755)
        environment = {
            **QUICK_PG_CTL,
            "PATH": f"{self.directory}:{os.environ['PATH']}",
            "PGDATA": str(self.directory),
        }
        script = 'set -Eeo pipefail\npg_ctl "$@"\necho after'
        return subprocess.run(
            ["bash", "-c", script, "bash", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def assertEnded(self) -> None:
        with self.assertRaises(ProcessLookupError):
            os.kill(int((self.directory / "pid").read_text()), 0)

    def test_a_server_that_is_ready_has_been_started(self) -> None:
        done = self.run_it(
            f'printf {STARTING} >"$PGDATA/postmaster.pid"\nprintf {READY} >"$PGDATA/postmaster.pid"\nexec sleep 100',
            *START,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "after\n", ""))
        self.assertEnded()

    def test_a_server_that_is_gone_has_been_stopped(self) -> None:
        self.file.touch()
        done = self.run_it('rm "$PGDATA/postmaster.pid"\nexec sleep 100', *STOP)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "after\n", ""))
        self.assertEnded()

    def test_the_program_says_what_fails(self) -> None:
        for arguments, text in ((START, ""), (START, STARTING), (STOP, READY)):
            with self.subTest(arguments, text=text):
                self.file.unlink(missing_ok=True)
                if arguments is STOP:
                    self.file.touch()
                write = f'printf {text} >"$PGDATA/postmaster.pid"\n' if text else ""
                done = self.run_it(f"{write}echo no >&2\nexit 3", *arguments)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "", "no\n"))

    def test_without_a_server_it_cannot_be_stopped(self) -> None:
        done = self.run_it("echo 'Is server running?' >&2\nexit 1", *STOP)
        self.assertEqual((done.returncode, done.stderr), (1, "Is server running?\n"))

    def test_the_file_of_another_server_says_nothing(self) -> None:
        self.file.write_text("1\n/data\n\n\n\n\n\nready   \n")
        done = self.run_it("echo another server might be running >&2\nexit 1", *START)
        self.assertEqual((done.returncode, done.stderr), (1, "another server might be running\n"))

    def test_before_postgresql_10_the_file_does_not_say_that_it_is_ready(self) -> None:
        done = self.run_it(r"""printf '1\n/data\n' >"$PGDATA/postmaster.pid"; sleep 0.1; echo started""", *START)
        self.assertEqual((done.returncode, done.stdout), (0, "started\nafter\n"))

    def test_where_sleep_knows_whole_seconds_only_it_takes_longer(self) -> None:
        sleep = self.directory / "sleep"
        sleep.write_text(f'#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec {shutil.which("sleep")} "$@"\n')
        sleep.chmod(0o755)
        done = self.run_it(f'sleep 1\nprintf {READY} >"$PGDATA/postmaster.pid"\nexec sleep 100', *START)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "after\n", ""))
        self.assertEnded()

    def test_other_commands_are_the_programs_alone(self) -> None:
        self.file.touch()
        done = self.run_it('echo "$@"', "-D", "a b", "status")
        self.assertEqual((done.returncode, done.stdout), (0, "-D a b status\nafter\n"))


if __name__ == "__main__":
    unittest.main()
