# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in a test that waits in psycopg2, which handles no signal meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import unittest
from typing import Any

import psycopg2

from itest import AsyncContainerTestCase, ContainerTestCase, Postgres, PostgresMixin
from itest.clock import Deadline
from tests.unit.inner import run

PATIENCE = 60.0
"""Seconds after which a statement that nobody has cancelled is ended, so that this test ends."""


class InterruptTest(PostgresMixin, ContainerTestCase):
    def setUp(self) -> None:
        self.enterContext(contextlib.closing(watcher := self.postgres.connect(application_name="watcher")))
        watcher.autocommit = True
        self.watcher: Any = watcher
        self.ended: list[bool] = []

    def interrupted(self, *bases: type, **attributes: Any) -> unittest.TestResult | None:
        """Run a class with a test, and press Ctrl-C once one of its statements waits. None: that has ended the run."""
        inner = type("Inner", (PostgresMixin, *(bases or (ContainerTestCase,))), {"__module__": __name__, **attributes})
        interrupting = threading.Thread(target=self.interrupt)
        interrupting.start()
        try:
            return run(inner)
        except KeyboardInterrupt:
            return None
        finally:
            interrupting.join()
            self.assertEqual(self.ended, [True])

    def interrupt(self) -> None:
        self.until(True)
        os.kill(os.getpid(), signal.SIGINT)
        self.ended.append(self.until(False))
        self.ask("SELECT pg_terminate_backend(pid)")  # Else this test hangs, too.

    def until(self, wanted: bool) -> bool:
        deadline = Deadline.after(PATIENCE)
        while bool(self.ask("SELECT pid")) != wanted and not deadline.passed:
            deadline.pause(0.05)
        return not deadline.passed

    def ask(self, what: str) -> list[Any]:
        with self.watcher.cursor() as cursor:
            cursor.execute(
                f"{what} FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(600)%%' AND state = 'active' AND pid <> pg_backend_pid()"
            )
            return list(cursor.fetchall())

    def test_on_the_connection_of_the_test(self) -> None:
        def test(inner: Any) -> None:
            with inner.db.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(600)")

        for isolation in ("database", "rollback"):
            with self.subTest(isolation):
                self.ended.clear()
                self.assertIsNone(self.interrupted(test=test, postgres=Postgres(isolation=isolation)))

    def test_on_one_of_its_own_in_the_set_up_of_a_class(self) -> None:
        def set_up(cls: Any) -> None:
            with contextlib.closing(psycopg2.connect(cls.postgres.url)) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(600)")

        self.assertIsNone(self.interrupted(test=lambda _: None, setUpTestData=classmethod(set_up)))

    def test_in_a_coroutine_whose_loop_takes_the_first_for_its_task(self) -> None:
        async def test(inner: Any) -> None:
            asyncio.get_running_loop().slow_callback_duration = PATIENCE  # It would say that this takes a second.
            with inner.db.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(600)")

        result = self.interrupted(AsyncContainerTestCase, test=test)
        assert result is not None
        self.assertIn("QueryCanceled", result.errors[0][1])
