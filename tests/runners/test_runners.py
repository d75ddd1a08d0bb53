# SPDX-License-Identifier: Apache-2.0
"""The suites of tests/samples pass under each runner, on each Python and on both engines, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itest import Kafka, Postgres, Redis
from itest.service import Service
from tests.runners.interpreters import interpreter
from tests.runners.pairs import two_at_a_time
from tests.runners.samples import SAMPLES, Base, SampleTestCase

DJANGO = str(Path(__file__).with_name("django_runner.py"))


class _Runners(Base):
    """The same suite by each runner. Subclasses say which suite, and on which engine."""

    suite = "pair"
    count = 10
    services: tuple[Service[Any], ...] = (Postgres(), Redis())

    def run_by(self, package: str, *command: str) -> None:
        self.needs_package(package)
        self.needs(*self.services)
        self.assertPassed(self.sample(self.suite, *command), self.count)

    def test_unittest(self) -> None:
        self.run_by("unittest", "-W", "error", "-m", "unittest", "-v")

    def test_pytest(self) -> None:
        self.run_by("pytest", "-m", "pytest", "-W", "error")

    def test_xdist(self) -> None:
        self.run_by("xdist", "-m", "pytest", "-n", "2")

    def test_unittest_parallel_by_module(self) -> None:
        self.run_by("unittest_parallel", "-m", "unittest_parallel", "-j", "2", "--level", "module")

    def test_unittest_parallel_by_class(self) -> None:
        self.run_by("unittest_parallel", "-m", "unittest_parallel", "-j", "2", "--level", "class")

    def test_unittest_parallel_by_test(self) -> None:
        self.run_by("unittest_parallel", "-m", "unittest_parallel", "-j", "2", "--level", "test")

    def test_nose2(self) -> None:
        self.run_by("nose2", "-m", "nose2", "-v")

    def test_django(self) -> None:
        self.run_by("django", DJANGO, "1")

    def test_django_parallel(self) -> None:
        self.run_by("django", DJANGO, "2")


@two_at_a_time
class RunnersOnProcessesTest(_Runners, SampleTestCase):
    """PostgreSQL and Redis as local processes, by every runner."""

    def test_unittest_by_names(self) -> None:
        names = [path.stem for path in sorted((SAMPLES / self.suite).glob("test_*.py"))]
        self.run_by("unittest", "-W", "error", "-m", "unittest", *names)


@two_at_a_time
class RunnersOnDockerTest(_Runners, SampleTestCase):
    """PostgreSQL and Redis in containers, by every runner."""

    engine = "docker"


@two_at_a_time
class AllServicesTest(_Runners, SampleTestCase):
    """PostgreSQL, Redis and Kafka as local processes, by every runner."""

    suite = "orders"

    # The first is what PythonsOnProcessesTest does; one way of parallel shards shows what the others would.
    test_unittest = None
    test_unittest_parallel_by_module = None
    test_unittest_parallel_by_test = None
    count = 5
    services = (Postgres(), Redis(), Kafka())


@two_at_a_time
class ShopTest(_Runners, SampleTestCase):
    """The shop example's tests with 4 worker processes, of each runner that has workers."""

    suite = "../../examples/shop"
    count = 21
    services = (Postgres(), Redis(), Kafka())
    test_unittest = test_pytest = test_nose2 = test_django = None
    test_unittest_parallel_by_module = test_unittest_parallel_by_test = None

    def test_unittest_parallel_by_class(self) -> None:
        self.run_by(
            "unittest_parallel", "-m", "unittest_parallel", "-s", "tests", "-t", ".", "-j", "4", "--level", "class"
        )

    def test_xdist(self) -> None:
        self.run_by("xdist", "-m", "pytest", "-n", "4", "tests")

    def test_django_parallel(self) -> None:
        self.run_by("django", DJANGO, "4")


@two_at_a_time
class CoroutinesTest(SampleTestCase):
    """Clients of asyncio, in loops of both scopes."""

    def run_on(self, engine: str, *command: str) -> None:
        self.needs_package("asyncpg")
        self.engine = engine
        self.needs(Postgres(), Redis())
        self.assertPassed(self.sample("coroutines", *command), 5)

    def test_python_3_12(self) -> None:
        self.run_on("process", interpreter("3.12"), "-W", "error", "-m", "unittest", "-v")

    def test_python_3_13(self) -> None:
        self.run_on("process", interpreter("3.13"), "-W", "error", "-m", "unittest", "-v")

    def test_on_docker(self) -> None:
        self.run_on("docker", "-W", "error", "-m", "unittest", "-v")

    def test_pytest(self) -> None:
        self.needs_package("pytest")
        self.run_on("process", "-m", "pytest", "-W", "error")

    def test_unittest_parallel_by_test(self) -> None:
        self.needs_package("unittest_parallel")
        self.run_on("process", "-m", "unittest_parallel", "-j", "2", "--level", "test")


class _Pythons(Base):
    """The first suite of the README with `python -W error -m unittest`."""

    def run_on(self, version: str) -> None:
        self.needs(Postgres(), Redis(), Kafka())
        outcome = self.sample("orders", interpreter(version), "-W", "error", "-m", "unittest", "-v")
        self.assertPassed(outcome, 5)
        self.assertEqual(len(outcome.announced), 3, outcome.output)

    def test_python_3_11(self) -> None:
        self.run_on("3.11")

    def test_python_3_12(self) -> None:
        self.run_on("3.12")

    def test_python_3_13(self) -> None:
        self.run_on("3.13")


@two_at_a_time
class PythonsOnProcessesTest(_Pythons, SampleTestCase):
    """All three services as local processes."""


@two_at_a_time
class PythonsOnDockerTest(_Pythons, SampleTestCase):
    """All three services in containers."""

    engine = "docker"


@two_at_a_time
class DjangoTestCaseTest(SampleTestCase):
    """Services beside django.test.SimpleTestCase."""

    def run_django(self, engine: str, processes: int) -> None:
        self.needs_package("django")
        self.engine = engine
        self.needs(Postgres(), Redis())
        self.assertPassed(self.sample("django_case", DJANGO, str(processes)), 5)

    def test_on_processes(self) -> None:
        self.run_django("process", 1)

    def test_on_processes_in_parallel(self) -> None:
        self.run_django("process", 2)

    def test_on_docker(self) -> None:
        self.run_django("docker", 1)

    def test_on_docker_in_parallel(self) -> None:
        self.run_django("docker", 2)
