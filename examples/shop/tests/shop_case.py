# SPDX-License-Identifier: Apache-2.0
"""What the tests of the whole shop share: its three services, and the variables that lead an app to them."""

from __future__ import annotations

from itest import ContainerTestCase, Kafka, KafkaMixin, Postgres, PostgresMixin, RedisMixin
from itest.migrations import SqlFiles
from shop.models import Product

ENV = {
    "DATABASE_URL": "{postgres.url}",
    "REDIS_URL": "{redis.url}",
    "KAFKA_BOOTSTRAP_SERVERS": "{kafka.bootstrap_servers}",
    "ORDERS_TOPIC": "{kafka.prefix}orders",
    "ORDERS_GROUP": "{kafka.prefix}warehouse",
}
"""For an app of the shop: what stands in braces is that attribute of the service of that name."""


class ShopTestCase(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    postgres = Postgres("postgres:17", migrations=SqlFiles("../migrations"))
    kafka = Kafka(codec="json", topics={"orders": 1})

    @classmethod
    def setUpTestData(cls) -> None:
        """The baseline: every test of the class starts from these two products."""
        with cls.postgres.session() as session:
            session.add(Product(sku="book", name="A book", price=1200, stock=5))
            session.add(Product(sku="lamp", name="A lamp", price=4900, stock=1))
            session.commit()
