# SPDX-License-Identifier: Apache-2.0
"""The shop without a web: what the API and the worker are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from kafka import KafkaProducer
from kafka.serializer import JsonSerializer
from redis import Redis
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session, sessionmaker

from shop import orders
from shop.catalog import Catalog
from shop.settings import Settings


@dataclass(frozen=True, slots=True)
class Shop:
    sessions: sessionmaker[Session]
    catalog: Catalog
    producer: KafkaProducer
    orders_topic: str

    def order(self, customer: str, quantities: Mapping[str, int]) -> int:
        """Place an order and announce it. Returns its number; raises UnknownProduct, SoldOut.

        It is announced after the commit, as an event cannot be taken back. A crash between the two loses the event:
        a shop that sells real goods writes its events to a table in the same transaction, and sends them from there.
        """
        with self.sessions.begin() as session:
            order_id = orders.place(session, customer, quantities).id
        self.catalog.changed()
        event = {"type": "order.placed", "order": order_id}
        self.producer.send(self.orders_topic, event, key=str(order_id).encode()).get(timeout=10)
        return order_id

    def ship(self, order_id: int) -> None:
        """Ship a placed order."""
        with self.sessions.begin() as session:
            orders.ship(session, order_id)
        self.catalog.changed()


@contextmanager
def open_shop(settings: Settings) -> Iterator[Shop]:
    """The shop, connected to its services until the end of the `with`."""
    url = make_url(settings.database_url).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, pool_pre_ping=True)  # A connection that the server has ended is replaced unseen.
    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, value_serializer=JsonSerializer())
    with closing(producer), Redis.from_url(settings.redis_url) as cache:
        sessions = sessionmaker(engine)
        yield Shop(sessions, Catalog(sessions, cache), producer, settings.orders_topic)
    engine.dispose()
