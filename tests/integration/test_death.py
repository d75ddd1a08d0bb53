# SPDX-License-Identifier: Apache-2.0
"""Servers that are killed or restarted under a test: the next use tells, at once, and the next class has a new one."""

from __future__ import annotations

import os
import signal
import unittest
from time import monotonic
from typing import Any, ClassVar

from itest import ContainerTestCase, Kafka, Postgres, Redis, testing
from itest.clock import Deadline
from itest.config import load
from itest.engines.docker import DockerEngine
from itest.errors import ServerDied
from itest.service import Server, Service

LIMIT = 0.2
"""Seconds in which it must be told, on a machine that does nothing else."""

SLACK = 5
"""How many times as long a busy machine may take; without our care it takes two seconds to two minutes."""

ATTEMPTS = 3
"""How often that is tried: the whole machine may stand still for a moment."""


def kill(server: Server[Any]) -> None:
    """And wait until it is gone."""
    instance: Any = server.instance
    if hasattr(instance, "go_on"):
        instance._client.kill(instance.id)
    else:
        os.kill(instance._process.pid, signal.SIGKILL)
    deadline = Deadline.after(10)
    while server.lives() and not deadline.passed:
        deadline.pause(0.01)


class _DeathTest(unittest.TestCase):
    engine: ClassVar[str]

    def check(self, declared: Service[Any], use: Any = None) -> None:
        """It is told in time."""
        taken: list[float] = []
        while not taken or (taken[-1] >= LIMIT * SLACK and len(taken) < ATTEMPTS):
            taken.append(self.told_after(declared, use))
        self.assertLess(taken[-1], LIMIT * SLACK, taken)

    def told_after(self, declared: Service[Any], use: Any) -> float:
        """Kill it in a test; use it, if a use is given; go on to the next test and the next class. Seconds until it is told."""
        moments: list[float] = []
        servers: list[Server[Any]] = []

        class Dying(ContainerTestCase):
            service = declared

            def test_1(self) -> None:
                if use is not None:
                    use(self.service)
                servers.append(self.service.server)
                kill(self.service.server)
                moments.append(monotonic())
                deadline = Deadline.after(10)
                while use is not None and not deadline.passed:
                    use(self.service)  # A session of PostgreSQL may answer once more before it hears of the end.

            def test_2(self) -> None:
                """Never run."""

        class After(ContainerTestCase):
            service = declared.replace()

            def test(self) -> None:
                servers.append(self.service.server)

        class Result(unittest.TestResult):
            def addError(self, test: Any, err: Any) -> None:
                super().addError(test, err)
                moments.append(monotonic())

        result = Result()
        with testing.session(engine=self.engine, quiet=True):
            unittest.TestSuite(map(unittest.TestLoader().loadTestsFromTestCase, (Dying, After))).run(result)
        if result.skipped:
            self.skipTest(result.skipped[0][1])
        texts = [text for _, text in [*result.errors, *result.failures]]
        self.assertEqual(len(texts), 1 if use is None else 2, texts)
        self.assertIn(f"{ServerDied.__name__}: {Dying.__qualname__}.service ended before ", texts[-1])
        self.assertRegex(texts[-1], r"(killed by SIGKILL|exit code 137 \(SIGKILL\))")
        if use is not None:
            self.assertIn(" ENDED under this test: ", texts[0])
        self.assertEqual(len({id(server) for server in servers}), 2)
        return moments[1] - moments[0]

    def test_postgres(self) -> None:
        self.check(Postgres())
        self.check(Postgres(), lambda view: view.connection.cursor().execute("SELECT 1"))

    def test_redis(self) -> None:
        self.check(Redis())
        self.check(Redis(), lambda view: view.cache.get("order"))

    def test_kafka(self) -> None:
        self.check(Kafka())


class DeathOfProcessesTest(_DeathTest):
    engine = "process"


class DeathOfContainersTest(_DeathTest):
    engine = "docker"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        engine = DockerEngine(load())
        cls.addClassCleanup(engine.close)
        if reason := engine.unavailable():
            raise unittest.SkipTest(reason)

    def test_restarted(self) -> None:
        """Its ports are published anew, so that nobody reaches it where it was."""
        for declared in (Postgres(), Redis()):
            with self.subTest(declared.kind):
                self.restart(declared)

    def restart(self, declared: Service[Any]) -> None:
        servers: list[Server[Any]] = []

        class Restarting(ContainerTestCase):
            service = declared

            def test_1(self) -> None:
                servers.append(self.service.server)
                instance: Any = self.service.server.instance
                instance._client.restart(instance.id, timeout=3)

            def test_2(self) -> None:
                """Never run."""

        class After(ContainerTestCase):
            service = declared.replace()

            def test(self) -> None:
                servers.append(self.service.server)

        result = unittest.TestResult()
        with testing.session(engine=self.engine, quiet=True):
            unittest.TestSuite(map(unittest.TestLoader().loadTestsFromTestCase, (Restarting, After))).run(result)
        [(_, text)] = [*result.errors, *result.failures]
        self.assertIn(f"{ServerDied.__name__}: {Restarting.__qualname__}.service ended before ", text)
        self.assertEqual(len({id(server) for server in servers}), 2)


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """Without the base class."""
    return unittest.TestSuite(map(loader.loadTestsFromTestCase, (DeathOfProcessesTest, DeathOfContainersTest)))
