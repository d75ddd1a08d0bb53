# SPDX-License-Identifier: Apache-2.0
"""The same with testcontainers as its documentation has it: containers entered in setUpClass, one after the other."""

from __future__ import annotations

import socket
from typing import Any, ClassVar

from benchmarks.one_bodies import OneTest, ask_postgres, ask_redis

KAFKA = "apache/kafka:4.1.1"

KAFKA_PORT = 9092
"""In the container."""


class Tutorial(OneTest):
    """Base of the classes below. A client is imported by the class that has it, so that nobody pays for another's."""

    postgres: ClassVar[Any]
    redis: ClassVar[Any]
    servers: ClassVar[str]

    @classmethod
    def start_postgres(cls) -> None:
        from testcontainers.postgres import PostgresContainer

        cls.postgres = cls.enterClassContext(PostgresContainer("postgres:17", driver=None))

    @classmethod
    def start_redis(cls) -> None:
        from testcontainers.redis import RedisContainer

        cls.redis = cls.enterClassContext(RedisContainer("redis:8"))

    @classmethod
    def start_kafka(cls) -> None:
        """`KafkaContainer` can run Confluent's images only (its start script is in /etc/confluent), so here is what
        users of apache/kafka write: the image's documented variables, a free port, and a line to wait for."""
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        container = DockerContainer(KAFKA).with_bind_ports(KAFKA_PORT, port)
        container.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
        for name, value in kafka_environment(port).items():
            container.with_env(name, value)
        cls.enterClassContext(container)
        cls.servers = f"127.0.0.1:{port}"

    def ask_postgres(self) -> None:
        import psycopg2

        connection = psycopg2.connect(self.postgres.get_connection_url())
        self.addCleanup(connection.close)
        ask_postgres(connection)

    def ask_redis(self) -> None:
        client = self.redis.get_client()
        self.addCleanup(client.close)
        ask_redis(client)

    def ask_kafka(self) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.servers)
        self.addCleanup(producer.close)
        producer.send("orders", b"book").get(timeout=10)


class PostgresTest(Tutorial):
    @classmethod
    def setUpClass(cls) -> None:
        cls.start_postgres()

    def test_one(self) -> None:
        self.note(self.ask_postgres)


class RedisTest(Tutorial):
    @classmethod
    def setUpClass(cls) -> None:
        cls.start_redis()

    def test_one(self) -> None:
        self.note(self.ask_redis)


class KafkaTest(Tutorial):
    @classmethod
    def setUpClass(cls) -> None:
        cls.start_kafka()

    def test_one(self) -> None:
        self.note(self.ask_kafka)


class AllTest(Tutorial):
    @classmethod
    def setUpClass(cls) -> None:
        cls.start_postgres()
        cls.start_redis()
        cls.start_kafka()

    def test_one(self) -> None:
        self.note(self.ask_postgres, self.ask_redis, self.ask_kafka)


def kafka_environment(port: int) -> dict[str, str]:
    """One broker that is its own controller, reached by its published port."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{KAFKA_PORT},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
