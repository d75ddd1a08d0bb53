# SPDX-License-Identifier: Apache-2.0
"""Tests with pytest-postgresql as its documentation shows them; run by peers.py in a pytest of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from pytest_postgresql import factories

from benchmarks.measure import FEWEST, Stopwatch
from benchmarks.schema import Work

settings = json.loads(os.environ["ITEST_BENCHMARK_PEER"])

server = factories.postgresql_noproc(
    host=settings["host"],
    port=settings["port"],
    user=settings["user"],
    password=settings["password"],
    dbname="peer_pytest",
    load=[Path(settings["load"])],
)
db = factories.postgresql("server")

watch = Stopwatch()
work = Work(settings["tables"], settings["dirty"])
until: list[float] = []


@pytest.fixture(scope="session", autouse=True)
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.session.testsfailed:
        Path(settings["report"]).write_text(json.dumps(watch.gaps), encoding="utf-8")


@pytest.mark.parametrize("number", range(settings["tests"]))
def test_body(db: Any, number: int, request: pytest.FixtureRequest) -> None:
    watch.start()
    if not until:
        until.append(perf_counter() + settings["seconds"])
    elif perf_counter() > until[0] and len(watch.gaps) >= FEWEST:
        request.session.shouldstop = "its time is over"
    work.run(db)
    watch.stop()
