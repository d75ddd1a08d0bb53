# SPDX-License-Identifier: Apache-2.0
"""itest as its users write it: real test classes, whose bodies do nothing but be timed."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from benchmarks.measure import SEND_RECEIVE, Stopwatch, Timed, run_tests
from benchmarks.schema import Work
from itest import ContainerTestCase, KafkaMixin, Postgres, PostgresMixin, Redis, RedisMixin
from itest.migrations import SqlFiles


def isolations() -> list[str]:
    """The strategies for PostgreSQL that the declaration has, but for "none", which isolates nothing."""
    return [name for name in Postgres.isolations if name != "none"]


class PostgresRun:
    """Tests on tables made by a migration, with `self.db` in hand."""

    def __init__(self, isolation: str, migration: Path, tables: int, dirty: int) -> None:
        self._tables, self._dirty = tables, dirty

        class Case(PostgresMixin, ContainerTestCase, Timed):
            postgres = Postgres(migrations=SqlFiles(migration), isolation=isolation)
            work: Work

            def test_body(self) -> None:
                connection = self.db
                self.watch.start()
                self.work.run(connection)
                self.watch.stop()

        self._case = Case

    def __call__(self, tests: int, seconds: float) -> Stopwatch:
        self._case.work = Work(self._tables, self._dirty)
        return run_tests(self._case, tests, seconds)


class RedisRun:
    """Tests that leave so many keys, with `self.cache` in hand."""

    def __init__(self, keys: int) -> None:
        class Case(RedisMixin, ContainerTestCase, Timed):
            redis = Redis()

            def test_body(self) -> None:
                cache = self.cache
                self.watch.start()
                self.assertEqual(cache.dbsize(), 0)
                for first in range(0, keys, 10_000):
                    cache.mset({f"key:{number}": number for number in range(first, min(first + 10_000, keys))})
                self.watch.stop()

        self._case = Case

    def __call__(self, tests: int, seconds: float) -> Stopwatch:
        return run_tests(self._case, tests, seconds)


class KafkaRun:
    """Tests that send a message to each of so many topics, with `self.queue` in hand; the first is received too."""

    def __init__(self, topics: int) -> None:
        class Case(KafkaMixin, ContainerTestCase, Timed):
            def test_body(self) -> None:
                queue = self.queue
                self.watch.start()
                begun = perf_counter()
                queue.send("topic-0", b"message")
                [message] = queue.receive("topic-0", timeout=10)
                self.watch.part(SEND_RECEIVE, perf_counter() - begun)
                self.assertEqual(message.value, b"message")
                for number in range(1, topics):
                    queue.send(f"topic-{number}", b"message")
                self.watch.stop()

        self._case = Case

    def __call__(self, tests: int, seconds: float) -> Stopwatch:
        return run_tests(self._case, tests, seconds)
