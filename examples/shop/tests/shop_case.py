# SPDX-License-Identifier: Apache-2.0
"""What the tests of the whole shop share: its three services, and settings that lead there."""

from __future__ import annotations

from typing import ClassVar

from itest import ContainerTestCase, Kafka, KafkaMixin, Postgres, PostgresMixin, RedisMixin
from itest.migrations import SqlFiles
from shop.models import Product
from shop.settings import Settings


class ShopTestCase(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    postgres = Postgres("postgres:17", migrations=SqlFiles("../migrations"))
    kafka = Kafka(codec="json")

    settings: ClassVar[Settings]

    @classmethod
    def setUpTestData(cls) -> None:
        """The baseline: every test of the class starts from these two products."""
        with cls.postgres.session() as session:
            session.add(Product(sku="book", name="A book", price=1200, stock=5))
            session.add(Product(sku="lamp", name="A lamp", price=4900, stock=1))
            session.commit()

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        addresses = {**cls.postgres.env, **cls.redis.env, **cls.kafka.env}
        cls.settings = Settings.from_env({**addresses, "ORDERS_TOPIC": cls.kafka.topic("orders")})
