# SPDX-License-Identifier: Apache-2.0
"""An app in a container between PostgreSQL, Redis and Kafka in containers, each known to it by its name on their network;
the test talks to all four from outside. Nothing but declarations leads them to one another."""

from __future__ import annotations

import importlib.metadata
import unittest
from pathlib import Path

from itest import App, ContainerTestCase, KafkaMixin, Postgres, PostgresMixin, RedisMixin, http
from itest.config import load

CLIENTS = ("pg8000", "scramp", "asn1crypto", "python-dateutil", "redis", "kafka-python")
"""Packages of Python alone, which the image does not have and can use as they are."""


def installed() -> dict[str, Path]:
    """What these packages consist of, by its place in the container."""
    found = {}
    for distribution in map(importlib.metadata.distribution, CLIENTS):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            found[f"/packages/{top}"] = Path(str(distribution.locate_file(top)))
    return found


def setUpModule() -> None:
    if load().engine == "process":
        raise unittest.SkipTest("an app in a container does not reach local processes")


class OrderTest(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    postgres = Postgres()
    app = App.container(
        "python:3.13-slim",
        command=["python", "/app/app.py"],
        ports={"http": 8000},
        files={"/app/app.py": Path("everything/app.py"), **installed()},
        env={
            "PYTHONPATH": "/packages",
            "DATABASE_URL": "{postgres.url}",
            "REDIS_URL": "{redis.url}",
            "KAFKA_BOOTSTRAP_SERVERS": "{kafka.bootstrap_servers}",
            "ORDERS_TOPIC": "{kafka.prefix}orders",
        },
        ready=http("/"),
    )

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)")

    def order(self, item: str) -> None:
        answer = self.app.client.post("/orders", content=item)
        self.assertEqual(answer.json(), {"order": 1, "from": ["postgres", "redis"]}, answer.text)
        self.assertRowCount("orders", 1, where="item = %s", params=[item])
        self.assertRowCount("orders", 1)
        self.assertCached(f"ordered:{item}", 1)
        self.assertProduced("orders", item.encode())

    def test_an_order_reaches_all_three(self) -> None:
        self.order("book")

    def test_nothing_of_another_test_is_left_while_the_app_stays(self) -> None:
        self.order("pen")

    def test_clients_that_insist_on_a_strong_hash_can_log_in(self) -> None:
        [(hashed,)] = self.postgres.execute("SELECT rolpassword FROM pg_authid WHERE rolname = current_user")
        self.assertTrue(hashed.startswith("SCRAM-SHA-256$4096:"))

    def test_the_broker_is_known_by_a_name_that_only_containers_have(self) -> None:
        said = self.app.exec("echo $KAFKA_BOOTSTRAP_SERVERS").stdout.strip()
        self.assertEqual(said, self.kafka.internal_bootstrap_servers)
        self.assertNotEqual(said, self.kafka.bootstrap_servers)
        self.assertEqual({self.postgres.host, self.redis.host, self.app.host}, {"127.0.0.1"})
