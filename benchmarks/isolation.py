# SPDX-License-Identifier: Apache-2.0
"""What it costs to have clean data between two tests: each of our strategies beside what others do, on one server.

Sizes are tables, keys or topics; dirty is how many of them a test's body wrote to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import ours, peers, schema
from benchmarks.measure import SEND_RECEIVE, BenchmarkError, Cell, Contender, summary, take_turns
from benchmarks.report import Report, Row, Target, machine
from itest import Kafka, Postgres, Redis, Unavailable
from itest import session as sessions
from itest.config import load
from itest.service import Server, Service

SERVICES = ("postgres", "redis", "kafka")
REDIS_KEYS = (0, 1000, 100_000)
KAFKA_TOPICS = 3

TESTS = 60
"""Tests of a batch, where they fit into its time."""

SECONDS = 1.5
"""Time of a batch; a slow contender measures fewer tests."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. `engine` as in ITEST_ENGINE."""

    engine: str = "auto"
    services: Sequence[str] = SERVICES
    tables: Sequence[int] = (10, 30, 100, 1000)
    dirty: Sequence[int] = (0, 3, 30)
    keys: Sequence[int] = REDIS_KEYS
    rounds: int = 5
    tests: int = TESTS
    seconds: float = SECONDS
    peers: bool = True


def run(plan: Plan, arguments: Sequence[str], say: Callable[[str], None]) -> Report:
    """Measure, in rounds. A service that cannot run here is left out, and the report says so."""
    notes: list[str] = []
    contenders: list[Contender] = []
    versions: list[str] = []
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_session(plan.engine))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="itest-benchmark-")))
        makers: dict[str, Callable[[Server[Any]], list[Contender]]] = {
            "postgres": lambda server: _postgres(plan, server, directory, stack, notes),
            "redis": lambda server: _redis(plan, server),
            "kafka": lambda server: _kafka(plan, server),
        }
        declarations: dict[str, Service[Any]] = {"postgres": Postgres(), "redis": Redis(), "kafka": Kafka()}
        for name in plan.services:
            try:
                server = session.lend(declarations[name])
            except Unavailable as error:
                notes.append(f"{name} was left out: {error}")
                continue
            versions.append(server.version)
            contenders += makers[name](server)
        if not contenders:
            raise BenchmarkError("nothing can be measured here: " + "; ".join(notes))
        take_turns(contenders, plan.rounds, plan.tests, plan.seconds, say)
        engines = {span.facts["engine"] for span in session.trace.spans if span.name == "start"}
        facts = machine(", ".join(sorted(engines)), versions)
    return Report("isolation", arguments, facts, rows(contenders), targets(contenders), notes)


def rows(contenders: Sequence[Contender]) -> list[Row]:
    """A row for each contender, then one for each part of its bodies; ratios are to the first of ours in the cell."""
    found: list[Row] = []
    for cell in dict.fromkeys(contender.cell for contender in contenders):
        here = [contender for contender in contenders if contender.cell == cell]
        found += _rows(cell, [(one, one.strategy, one.gaps) for one in here])
        for part in dict.fromkeys(name for one in here for name in one.parts):
            lengths = [(one, f"{one.strategy}: {part}", one.parts[part]) for one in here if part in one.parts]
            found += _rows(replace(cell, dirty=1), lengths)
    return found


def _rows(cell: Cell, lengths: Sequence[tuple[Contender, str, Sequence[float]]]) -> list[Row]:
    base = next((summary(values).median for one, _, values in lengths if one.ours), 0.0)
    found = []
    for one, name, values in lengths:
        got = summary(values)
        ratio = got.median / base if base else 0.0
        found.append(Row(cell.service, cell.size, cell.dirty, name, one.ours, got.count, got.median, got.p90, ratio))
    return found


def targets(contenders: Sequence[Contender]) -> list[Target]:
    """What itest promises, and whether this run shows it."""

    def median(service: str, size: int, dirty: int, strategy: str, part: str = "") -> float | None:
        for one in contenders:
            if (one.cell, one.strategy) == (Cell(service, size, dirty), strategy):
                return summary(one.parts[part] if part else one.gaps).median
        return None

    def ratio(above: float | None, below: float | None) -> float | None:
        return above / below if above is not None and below else None

    base = median("postgres", 30, 3, "database")
    slowest_redis = [summary(one.gaps).median for one in contenders if one.cell.service == "redis" and one.ours]
    tutorial = median("postgres", 30, 3, "create_all + drop_all")
    plugin = median("postgres", 30, 3, "pytest-postgresql")
    kafka = ("kafka", KAFKA_TOPICS, KAFKA_TOPICS, "records")
    return [
        Target("PostgreSQL, 30 tables, 3 dirty, database,", 1.1, "ms", base),
        Target("PostgreSQL, 1000 tables, against 30,", 1.5, "x", ratio(median("postgres", 1000, 3, "database"), base)),
        Target("PostgreSQL, read-only test, 30 tables,", 0.3, "ms", median("postgres", 30, 0, "database")),
        Target("PostgreSQL, rollback,", 0.5, "ms", median("postgres", 30, 3, "rollback")),
        Target("faster than create_all + drop_all,", 100, "x", ratio(tutorial, base), at_least=True),
        Target("faster than pytest-postgresql,", 5, "x", ratio(plugin, base), at_least=True),
        Target("Kafka, 3 dirty topics,", 5, "ms", median(*kafka)),
        Target("Kafka, send and receive,", 6, "ms", median(*kafka, SEND_RECEIVE)),
        Target("Redis, whatever the number of keys,", 0.6, "ms", max(slowest_redis, default=None)),
    ]


def _postgres(
    plan: Plan, server: Server[Any], directory: Path, stack: contextlib.ExitStack, notes: list[str]
) -> list[Contender]:
    databases = peers.Databases(server.address)  # type: ignore[attr-defined]  # a PostgresServer has one
    stack.callback(databases.close)
    others: dict[str, peers.Peer] = {}
    for name, (make, packages) in peers.POSTGRES.items() if plan.peers else ():
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            notes.append(f"{name} was left out: the package {missing[0]} is not installed")
        else:
            others[name] = make
    contenders: list[Contender] = []
    for tables in plan.tables:
        migration = directory / f"schema-{tables}.sql"
        migration.write_text(schema.ddl(tables), encoding="utf-8")
        for dirty in plan.dirty:
            if dirty > tables:
                continue
            cell = Cell("postgres", tables, dirty)
            for isolation in ours.isolations():
                run = ours.PostgresRun(isolation, migration, tables, dirty)
                contenders.append(Contender(isolation, cell, True, run))
            for name, make in others.items():
                contenders.append(Contender(name, cell, False, make(databases, tables, dirty)))
    return contenders


def _redis(plan: Plan, server: Server[Any]) -> list[Contender]:
    contenders: list[Contender] = []
    for keys in plan.keys:
        cell = Cell("redis", keys, keys)
        contenders.append(Contender("database", cell, True, ours.RedisRun(keys)))
        if plan.peers:
            address: str = server.address  # type: ignore[attr-defined]  # a RedisServer has one
            contenders.append(Contender("FLUSHDB", cell, False, peers.redis_flushdb(address, keys)))
    return contenders


def _kafka(plan: Plan, server: Server[Any]) -> list[Contender]:
    cell = Cell("kafka", KAFKA_TOPICS, KAFKA_TOPICS)
    contenders = [Contender("records", cell, True, ours.KafkaRun(KAFKA_TOPICS))]
    if plan.peers:
        servers: str = server.bootstrap_servers  # type: ignore[attr-defined]  # a KafkaServer has them
        contenders.append(Contender("new topics", cell, False, peers.kafka_new_topics(servers, KAFKA_TOPICS)))
    return contenders


@contextlib.contextmanager
def _session(engine: str) -> Iterator[sessions.Session]:
    """A session on this engine, for all that runs inside; its servers are stopped in the end."""
    config = load()
    session = sessions.Session(replace(config, engine=engine, require="" if engine == "auto" else engine))
    before = sessions.install(session)
    try:
        yield session
    finally:
        session.close()
        sessions.install(before)
