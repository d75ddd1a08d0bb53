# SPDX-License-Identifier: Apache-2.0
"""The logs of real servers on their way to `logging`, from a container and from a local process."""

from __future__ import annotations

import logging
import threading
import unittest
from typing import Any
from unittest import mock

from itest import Container, ContainerTestCase, Redis, RedisMixin, testing, wait
from itest.clock import Deadline
from itest.engines import docker_follow
from tests.unit.inner import run as run_inner


class LogStreamTest(unittest.TestCase):
    def test_from_a_container(self) -> None:
        self.check("docker")

    def test_from_a_local_process(self) -> None:
        self.check("process")

    def test_from_a_container_that_is_restarted(self) -> None:
        messages = self.messages("container")

        class Inner(ContainerTestCase):
            web = Container(
                "busybox:1.37",
                command=["sh", "-c", "echo begun $(cat /proc/sys/kernel/random/uuid); sleep 300"],
                ready=wait.exec("true"),
            )

            def test_a(self) -> None:
                self.assertEventually(lambda: len(messages) == 1, timeout=30)
                self.web.restart(grace=0)
                self.assertEventually(lambda: len(messages) == 2, timeout=30)

        self.run_it(Inner, "docker")
        self.assertEqual(len(set(messages)), 2)

    def test_what_it_says_before_its_end_was_noticed(self) -> None:
        finished = docker_follow._finished

        def late(client: Any, container: str) -> float:
            deadline = Deadline.after(30)
            while client.logs(container).count(b"begun") < 2 and not deadline.passed:
                deadline.pause(0.02)
            return finished(client, container)

        with mock.patch.object(docker_follow, "_finished", late):
            self.test_from_a_container_that_is_restarted()

    def check(self, engine: str) -> None:
        messages = self.messages("redis")

        class Inner(RedisMixin, ContainerTestCase):
            redis = Redis(scope="class")

            def test_a(self) -> None:
                self.assertEventually(lambda: any("eady to accept" in line for line in messages), timeout=30)

        self.run_it(Inner, engine)

    def messages(self, kind: str) -> list[str]:
        """What is logged from here on."""
        found: list[str] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record.getMessage())

        logger, handler = logging.getLogger(f"itest.{kind}"), Keep()
        self.addCleanup(logger.setLevel, logger.level)
        self.addCleanup(logger.removeHandler, handler)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        return found

    def run_it(self, inner: type[unittest.TestCase], engine: str) -> None:
        with testing.session(engine=engine, logging=True, quiet=True, require="0"):
            result = run_inner(inner)
        if result.skipped:
            self.skipTest(result.skipped[0][1])
        self.assertEqual([text for _, text in result.failures + result.errors], [])
        # The end of a session waits for them, but not for long.
        deadline = Deadline.after(20)
        while left := [each.name for each in threading.enumerate() if each.name.startswith("itest-log")]:
            self.assertFalse(deadline.passed, left)
            deadline.pause(0.02)
