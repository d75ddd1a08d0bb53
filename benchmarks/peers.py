# SPDX-License-Identifier: Apache-2.0
"""What people do without itest, on the same servers: plain test cases whose setUp and tearDown do it, and one plugin.

Each is written as its documentation or its usual tutorial shows it, and none is slowed down: connections are kept where
a user would keep them, and whatever is needed once is made before anything is timed.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from benchmarks import schema
from benchmarks.measure import SEND_RECEIVE, BenchmarkError, Stopwatch, Timed, run_tests
from benchmarks.schema import Work

if TYPE_CHECKING:
    from sqlalchemy import Engine

PYTEST_TIMEOUT = 300.0
"""Seconds that one pytest run may take."""

STOPPED = 2
"""How pytest exits when a test asked it to stop (pytest.ExitCode.INTERRUPTED); no report is written if one failed."""

SETTINGS = "ITEST_BENCHMARK_PEER"
"""The variable that tells pytest_peer.py what to do, as JSON."""

ROOT = Path(__file__).resolve().parent.parent


class Databases:
    """Databases for the peers on a PostgreSQL server that itest has started; dropped with `close`."""

    def __init__(self, address: str) -> None:
        import psycopg2

        self.address = address
        self.admin = psycopg2.connect(address)
        self.admin.autocommit = True
        self._made: list[str] = []

    def make(self, name: str, tables: int = 0) -> str:
        """A database with so many tables, made at the first call; returns its URL."""
        import psycopg2

        url = urlsplit(self.address)._replace(path=f"/{name}").geturl()
        if name not in self._made:
            self.run(f'CREATE DATABASE "{name}"')
            self._made.append(name)
            if tables:
                connection = psycopg2.connect(url)
                with connection, connection.cursor() as cursor:
                    cursor.execute(schema.ddl(tables))
                connection.close()
        return url

    def run(self, sql: str) -> None:
        with self.admin.cursor() as cursor:
            cursor.execute(sql)

    def close(self) -> None:
        for name in self._made:
            self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.admin.close()


Peer = Callable[[Databases, int, int], Callable[[int, float], Stopwatch]]


class _PeerCase(Timed):
    work: Work
    connection: Any

    def test_body(self) -> None:
        connection = self.connection
        self.watch.start()
        self.work.run(connection)
        self.watch.stop()


def create_all_drop_all(databases: Databases, tables: int, dirty: int) -> Callable[[int, float], Stopwatch]:
    """SQLAlchemy's metadata.create_all before and metadata.drop_all after each test."""
    from sqlalchemy import create_engine

    metadata = schema.metadata(tables)
    url = databases.make(f"peer_create_all_{tables}").replace("postgresql://", "postgresql+psycopg2://", 1)

    class Case(_PeerCase):
        engine: ClassVar[Engine]

        @classmethod
        def setUpClass(cls) -> None:
            cls.engine = create_engine(url)
            cls.addClassCleanup(cls.engine.dispose)

        def setUp(self) -> None:
            metadata.create_all(self.engine)
            self.connection = self.engine.raw_connection()

        def tearDown(self) -> None:
            self.connection.close()
            metadata.drop_all(self.engine)

    return _runner(Case, tables, dirty)


def truncate_all(databases: Databases, tables: int, dirty: int) -> Callable[[int, float], Stopwatch]:
    """TRUNCATE of all tables, RESTART IDENTITY CASCADE, after each test, on the test's own connection."""
    import psycopg2

    url = databases.make(f"peer_truncate_{tables}", tables)
    truncate = f"TRUNCATE {', '.join(schema.names(tables))} RESTART IDENTITY CASCADE"

    class Case(_PeerCase):
        @classmethod
        def setUpClass(cls) -> None:
            cls.connection = psycopg2.connect(url)
            cls.addClassCleanup(cls.connection.close)

        def tearDown(self) -> None:
            self.connection.rollback()
            with self.connection, self.connection.cursor() as cursor:
                cursor.execute(truncate)

    return _runner(Case, tables, dirty)


def clone_and_drop(databases: Databases, tables: int, dirty: int) -> Callable[[int, float], Stopwatch]:
    """CREATE DATABASE ... TEMPLATE and connect before each test, DROP DATABASE after it."""
    import psycopg2

    template = f"peer_template_{tables}"
    url = databases.make(template, tables).replace(template, f"{template}_clone")

    class Case(_PeerCase):
        def setUp(self) -> None:
            databases.run(f"CREATE DATABASE {template}_clone TEMPLATE {template}")
            self.connection = psycopg2.connect(url)

        def tearDown(self) -> None:
            self.connection.close()
            databases.run(f"DROP DATABASE {template}_clone")

    return _runner(Case, tables, dirty)


def pytest_postgresql(databases: Databases, tables: int, dirty: int) -> Callable[[int, float], Stopwatch]:
    """The plugin's fixtures on a running server, the tables loaded from a file; each batch is a run of pytest."""
    parts = urlsplit(databases.address)

    def run(tests: int, seconds: float) -> Stopwatch:
        with tempfile.TemporaryDirectory(prefix="itest-benchmark-") as directory:
            file, report = Path(directory) / "schema.sql", Path(directory) / "gaps.json"
            file.write_text(schema.ddl(tables), encoding="utf-8")
            settings = {
                "host": parts.hostname,
                "port": parts.port,
                "user": parts.username,
                "password": parts.password,
                "load": str(file),
                "report": str(report),
                "tables": tables,
                "dirty": dirty,
                "tests": tests,
                "seconds": seconds,
            }
            argv = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
            argv += ["--rootdir", directory, "-c", os.devnull, str(Path(__file__).with_name("pytest_peer.py"))]
            environment = {**os.environ, SETTINGS: json.dumps(settings), "PYTHONPATH": str(ROOT)}
            ran = subprocess.run(
                argv, env=environment, cwd=directory, capture_output=True, text=True, timeout=PYTEST_TIMEOUT
            )
            if ran.returncode not in (0, STOPPED) or not report.exists():
                raise BenchmarkError(f"pytest with pytest-postgresql failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
            watch = Stopwatch()
            watch.gaps = json.loads(report.read_text(encoding="utf-8"))
            return watch

    return run


POSTGRES: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "create_all + drop_all": (create_all_drop_all, ("sqlalchemy",)),
    "TRUNCATE of all tables": (truncate_all, ()),
    "clone + drop": (clone_and_drop, ()),
    "pytest-postgresql": (pytest_postgresql, ("pytest", "pytest_postgresql")),
}
"""By the name in the table: what makes it run, and the packages that it needs."""


def redis_flushdb(address: str, keys: int) -> Callable[[int, float], Stopwatch]:
    """FLUSHDB after each test, on a database number that nobody else uses."""
    import redis

    class Case(Timed):
        cache: ClassVar[redis.Redis]

        @classmethod
        def setUpClass(cls) -> None:
            cls.cache = redis.Redis.from_url(f"{address}/500")
            cls.addClassCleanup(cls.cache.close)

        def test_body(self) -> None:
            cache = self.cache
            self.watch.start()
            self.assertEqual(cache.dbsize(), 0)
            for first in range(0, keys, 10_000):
                cache.mset({f"key:{number}": number for number in range(first, min(first + 10_000, keys))})
            self.watch.stop()

        def tearDown(self) -> None:
            self.cache.flushdb()

    return lambda tests, seconds: run_tests(Case, tests, seconds)


def kafka_new_topics(servers: str, topics: int) -> Callable[[int, float], Stopwatch]:
    """New topics before each test, deleted after it; producer and admin client are kept, each test has a consumer."""
    from itest.services.kafka import clients  # kafka-python can be imported under -W error only with its help

    kafka = clients.package()
    numbers = itertools.count(1)

    class Case(Timed):
        admin: ClassVar[Any]
        producer: ClassVar[Any]

        @classmethod
        def setUpClass(cls) -> None:
            cls.admin = kafka.KafkaAdminClient(bootstrap_servers=servers)
            cls.addClassCleanup(cls.admin.close)
            cls.producer = kafka.KafkaProducer(bootstrap_servers=servers)
            cls.addClassCleanup(cls.producer.close)

        def setUp(self) -> None:
            self.topics = [f"peer-{next(numbers)}" for _ in range(topics)]
            self.admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1} for name in self.topics})
            self.consumer = kafka.KafkaConsumer(
                self.topics[0], bootstrap_servers=servers, group_id=self.topics[0], auto_offset_reset="earliest"
            )

        def test_body(self) -> None:
            self.watch.start()
            begun = perf_counter()
            self.producer.send(self.topics[0], b"message").get(timeout=10)
            record = next(self.consumer)
            self.watch.part(SEND_RECEIVE, perf_counter() - begun)
            self.assertEqual(record.value, b"message")
            for name in self.topics[1:]:
                self.producer.send(name, b"message").get(timeout=10)
            self.watch.stop()

        def tearDown(self) -> None:
            self.consumer.close()
            self.admin.delete_topics(self.topics)

    return lambda tests, seconds: run_tests(Case, tests, seconds)


def _runner(case: type[_PeerCase], tables: int, dirty: int) -> Callable[[int, float], Stopwatch]:
    def run(tests: int, seconds: float) -> Stopwatch:
        case.work = Work(tables, dirty)
        return run_tests(case, tests, seconds)

    return run
