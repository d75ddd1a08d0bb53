# SPDX-License-Identifier: Apache-2.0
"""A user's tests, as type checkers see them: checked by `mypy`, never run. An ignored error is one that must be found."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from itest import (
    Alembic,
    App,
    AsyncContainerTestCase,
    Compose,
    Container,
    ContainerTestCase,
    Healthcheck,
    Kafka,
    KafkaMixin,
    Network,
    Postgres,
    PostgresMixin,
    Redis,
)
from itest.services.app import ContainerAppView
from itest.services.kafka import Message
from itest.services.postgres import PostgresView


class NetworkTest(ContainerTestCase):
    network = Network({"shop": ["shop.example.com"]})
    shop = Container("busybox:1.37", command="sleep 600", healthcheck=Healthcheck(["test", "-e", "/ready"]))

    def test_a_server_for_containers(self) -> None:
        with HTTPServer((self.network.host, 0), BaseHTTPRequestHandler):
            self.shop.exec(["docker", "network", "inspect", self.network.id])

    def test_commands(self) -> None:
        self.shop.exec(["head", "-c", 3, Path("/etc/hosts")], user=1000, directory=Path("/etc"), env={"COUNT": 3})
        self.shop.exec(["cat"], stdin=open("hosts"))  # type: ignore[arg-type]  # noqa: SIM115


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)


def migrate(view: PostgresView) -> None:
    view.execute("CREATE TABLE orders (id int)")


class RowsTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=migrate)

    def test_rows(self) -> None:
        self.assertRowCount("orders", 0)
        self.assertRowCount(Order, 0)
        self.assertRowCount(Order.__table__, 0)
        self.assertRowCount(Base.metadata.tables["orders"], 0)


class Migrated:
    """A migrator of a user's own."""

    def fingerprint(self) -> str:
        return "1"

    def apply(self, view: PostgresView) -> None:
        migrate(view)


class WordsTest(AsyncContainerTestCase):
    loop_scope = "class"
    sql = Postgres(migrations="migrations", isolation="rollback", scope="class")
    path = Postgres("postgres:17", Path("migrations"), isolation="none")
    alembic = Postgres(migrations=Alembic("alembic.ini"))
    metadata = Postgres(migrations=Base.metadata)
    models = Postgres(migrations=Base)
    own = Postgres(migrations=Migrated())
    redis = Redis(isolation="prefix", scope="test")
    kafka = Kafka(isolation="prefix", codec="json")
    image = Container("busybox:1.37", pull="always", scope="session")
    app = App.command("python -m shop", scope="test")
    misspelled = (
        Postgres(isolation="rolback"),  # type: ignore[arg-type]
        Postgres(migrations=3),  # type: ignore[arg-type]
        Redis(isolation="rollback"),  # type: ignore[arg-type]
        Redis(scope="module"),  # type: ignore[arg-type]
        Kafka(isolation="record"),  # type: ignore[arg-type]
        Kafka(codec="yaml"),  # type: ignore[arg-type]
        Container("busybox:1.37", pull="newer"),  # type: ignore[arg-type]
        Compose(scope="function"),  # type: ignore[arg-type]
        App.command("python -m shop", scope="function"),  # type: ignore[arg-type]
    )


class MisspelledLoopTest(AsyncContainerTestCase):
    loop_scope = "function"  # type: ignore[assignment]


class ForgottenAwaitTest(PostgresMixin, KafkaMixin, AsyncContainerTestCase):
    async def test_a_client_is_awaited(self) -> None:
        connection = await self.postgres.aconnect()
        await connection.execute("SELECT 1")
        async with self.postgres.aconnect() as other:
            await other.execute("SELECT 1")
        self.postgres.aconnect().execute("SELECT 1")  # type: ignore[attr-defined]
        self.kafka.aproducer().send("orders", b"book")  # type: ignore[attr-defined]


class MessageTest(KafkaMixin, ContainerTestCase):
    def test_messages(self) -> None:
        [message] = self.assertProduced("orders")
        self.assertIsInstance(message, Message)
        print(message.key, message.valeu)  # type: ignore[attr-defined]


def healthy(web: ContainerAppView) -> bool:
    return web.client.get("/health").is_success


class ReadyTest(ContainerTestCase):
    web = App.container("shop:1", ports={"http": 8000}, ready=healthy)
    api = App.container("shop:1", ports={"http": 8000}, ready=lambda api: api.client.get("/health").is_success)
    other = Container("shop:1", ports={"http": 8000}, ready=healthy)  # type: ignore[arg-type]

    def test_its_clients(self) -> None:
        self.assertTrue(healthy(self.web))


class WrongNameTest(ContainerTestCase):
    def test_names_that_are_loaded_when_they_are_used(self) -> None:
        from itest import PostgresMixing  # type: ignore[attr-defined]  # noqa: F401
        from itest.services.kafka import Massage  # type: ignore[attr-defined]  # noqa: F401
        from itest.services.postgres import PostgresVeiw  # type: ignore[attr-defined]  # noqa: F401
        from itest.services.redis import RedisVeiw  # type: ignore[attr-defined]  # noqa: F401
