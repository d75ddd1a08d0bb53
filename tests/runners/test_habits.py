# SPDX-License-Identifier: Apache-2.0
"""What test authors do in practice: forget super(), fail, skip, share servers, have no Docker."""

from __future__ import annotations

from itest import Kafka, Postgres, Redis
from tests.runners.pairs import two_at_a_time
from tests.runners.samples import Base, Outcome, SampleTestCase

NO_DOCKER = {"ITEST_ENGINE": "docker", "DOCKER_HOST": "unix:///nonexistent/docker.sock"}


class _Habits(Base):
    def outcome(self, *names: str) -> Outcome:
        self.needs(Postgres(), Redis())
        return self.sample("habits", "-W", "error", "-m", "unittest", "-v", *names)

    def test_forgotten_super(self) -> None:
        self.assertPassed(self.outcome("test_habits"), 10)

    def test_coroutines(self) -> None:
        self.assertPassed(self.outcome("test_async"), 3)

    def test_classes_share_servers(self) -> None:
        outcome = self.outcome("test_habits", "test_async")
        self.assertPassed(outcome, 13)
        self.assertEqual(len(outcome.announced), 2, outcome.output)

    def test_nothing_is_started_for_skipped_tests(self) -> None:
        outcome = self.outcome("test_skipped")
        self.assertEqual(outcome.code, 0, outcome.output)
        self.assertEqual(outcome.announced, [])
        self.assertIn("OK (skipped=3)", outcome.output)

    def test_failures_leave_nothing_to_the_next_test(self) -> None:
        """Each of these tests asserts first that nothing of the one before is left."""
        outcome = self.outcome("test_failing")
        self.assertEqual(outcome.code, 1, outcome.output)
        self.assertIn("FAILED (failures=3, errors=5, skipped=1, expected failures=1)", outcome.output)
        self.assertIn("test_8_good (test_failing.FailingTest.test_8_good) ... ok", outcome.output)
        self.assertNotIn("visits", outcome.output.replace("CREATE TABLE visits", ""))
        for name in ("FailingSetUpClassTest", "FailingTestDataTest"):
            self.assertIn(f"ERROR: setUpClass (test_failing.{name})", outcome.output)


@two_at_a_time
class HabitsOnProcessesTest(_Habits, SampleTestCase):
    """On local processes."""


@two_at_a_time
class HabitsOnDockerTest(_Habits, SampleTestCase):
    """In containers."""

    engine = "docker"


class _Isolation(Base):
    """Nothing that a test leaves in a service reaches the next one. Each leak is made twice."""

    def run_module(self, module: str) -> None:
        outcome = self.sample("isolation", "-W", "error", "-m", "unittest", module)
        self.assertEqual(outcome.code, 0, outcome.output)
        self.assertRegex(outcome.output, r"\nRan \d\d tests in .*\n\nOK\n")

    def test_postgres(self) -> None:
        self.needs(Postgres())
        self.run_module("test_postgres")

    def test_redis(self) -> None:
        self.needs(Redis())
        self.run_module("test_redis")

    def test_kafka(self) -> None:
        self.needs(Kafka())
        self.run_module("test_kafka")


@two_at_a_time
class IsolationOnProcessesTest(_Isolation, SampleTestCase):
    """On local processes."""


@two_at_a_time
class IsolationOnDockerTest(_Isolation, SampleTestCase):
    """In containers."""

    engine = "docker"


@two_at_a_time
class NothingToRunItTest(SampleTestCase):
    """No engine that could run the services."""

    command = ("-W", "error", "-m", "unittest", "-v", "test_habits")

    def test_tests_skip_with_the_reason(self) -> None:
        outcome = self.sample("habits", *self.command, environment={**NO_DOCKER, "ITEST_REQUIRE": "0"})
        self.assertEqual(outcome.code, 0, outcome.output)
        self.assertRegex(outcome.output, r"skipped .nothing here can run (PostgreSQL|Redis): docker: ")
        self.assertIn("unix:///nonexistent/docker.sock", outcome.output)
        self.assertIn("test_without_services (test_habits.UnitTest.test_without_services) ... ok", outcome.output)

    def test_it_is_an_error_where_they_are_required(self) -> None:
        self.assertError(self.sample("habits", *self.command, environment=NO_DOCKER))

    def test_it_is_an_error_in_continuous_integration(self) -> None:
        environment = {**NO_DOCKER, "ITEST_REQUIRE": None, "CI": "true"}
        self.assertError(self.sample("habits", *self.command, environment=environment))

    def assertError(self, outcome: Outcome) -> None:
        self.assertEqual(outcome.code, 1, outcome.output)
        self.assertRegex(outcome.output, r"Unavailable: nothing here can run (PostgreSQL|Redis): docker: ")
        self.assertNotIn("skipped", outcome.output)
