# SPDX-License-Identifier: Apache-2.0
"""ITEST_KEEP=failed: what is said where something cannot be kept, and how much is."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, keeping
from itest.config import load
from itest.errors import ConfigError
from itest.evidence import Aside
from itest.lease import Held
from itest.sharing import Share
from itest.testing import MemoryEngine, MemoryLease, MemoryServer, MemoryService
from tests.integration.capture import said
from tests.unit.inner import InnerTest, MemoryMixin, run


class KeepingTest(InnerTest):
    def failing(self, tests: int = 1) -> list[str]:
        """What is said of a class whose tests all fail."""

        def test(case: Any) -> None:
            case.fail("x")

        cls = type("Inner", (MemoryMixin, ContainerTestCase), {f"test_{number:02}": test for number in range(tests)})
        with said() as lines:
            run(cls)
        return lines

    def test_nothing_unless_it_is_wanted(self) -> None:
        self.assertEqual(self.failing(), [])

    def test_why_something_is_not_kept(self) -> None:
        self.use(MemoryEngine(), keep="failed")
        first, second = self.failing()
        self.assertRegex(first, r"^nothing is kept of .*Inner\.test_00$")
        self.assertRegex(second, r"^  memory is not kept: its server cannot outlive the run ")

    def test_what_is_kept_and_how_to_look_at_it(self) -> None:
        session = self.use(MemoryEngine(), keep="failed", keep_time=60.0)
        with (
            tempfile.TemporaryDirectory() as directory,
            mock.patch.object(session, "place_to_keep", return_value=Path(directory)),
            mock.patch.object(session, "keep"),
            mock.patch.object(
                MemoryLease, "put_aside", lambda lease, test, write: Aside((f"cat {write('p', 'x').name}",))
            ),
        ):
            lines = self.failing()
            self.assertEqual(Path(directory, "p").stat().st_mode & 0o777, 0o600)
        self.assertRegex(
            lines[0], r"^kept what .*test_00 left, for 60 s; after the run `itest sweep` removes it sooner$"
        )
        self.assertEqual(lines[1:], ["  memory: cat p"])

    def test_a_server_that_the_next_run_uses_again(self) -> None:
        session = self.use(MemoryEngine(), keep="failed")
        share = Share(Path(self.enterContext(tempfile.TemporaryDirectory())), lifetime=60.0)
        with (
            mock.patch.object(session, "place_to_keep", return_value=Path()),
            mock.patch.object(session, "keep"),
            mock.patch.object(MemoryServer, "share", share),
            mock.patch.object(MemoryLease, "put_aside", lambda lease, test, write: Aside(("cat p",))),
        ):
            self.assertRegex(
                self.failing()[0],
                "after the run `itest sweep`, or the next run that uses these servers again, removes it sooner$",
            )

    def test_an_isolation_that_cannot(self) -> None:
        session = self.use(MemoryEngine(), keep="failed")
        with (
            mock.patch.object(session, "place_to_keep", return_value=Path()),
            mock.patch.object(session, "keep") as keep,
        ):
            told = self.failing()[1]
        self.assertRegex(told, r"memory is not kept: nothing of it can be put aside( with isolation='database')?$")
        keep.assert_not_called()

    def test_what_somebodys_transaction_undoes(self) -> None:
        session = self.use(MemoryEngine(), keep="failed")
        with (
            mock.patch.object(session, "place_to_keep", return_value=Path()),
            mock.patch.object(
                MemoryService, "during", lambda service, view: contextlib.nullcontext(Held(lambda: True))
            ),
            mock.patch.object(MemoryLease, "lend", MemoryLease.reset),
        ):
            told = self.failing()[1]
        self.assertRegex(
            told, "memory is not kept: django.test.TestCase rolls it back; on SimpleTestCase with databases="
        )

    def test_ten_at_most(self) -> None:
        self.use(MemoryEngine(), keep="failed")
        lines = self.failing(tests=keeping.MOST + 2)
        self.assertEqual(sum(line.startswith("nothing is kept of") for line in lines), keeping.MOST)
        self.assertIn("test_10 and those after it are not", lines[-1])

    def test_other_values_are_refused(self) -> None:
        with self.assertRaisesRegex(
            ConfigError, "keep = 'always' in the variable ITEST_KEEP: it must be one of 0, failed"
        ):
            load({"ITEST_KEEP": "always"}, Path("/"))
