# SPDX-License-Identifier: Apache-2.0
"""The suite as tutorials of testcontainers have it: a container per class, create_all and drop_all per test."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from testcontainers.postgres import PostgresContainer

from benchmarks import shop_bodies
from shop.models import Base as Model

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Base(shop_bodies.ShopTests):
    engine: ClassVar[Engine]

    @classmethod
    def setUpClass(cls) -> None:
        container = PostgresContainer("postgres:17")
        container.start()
        cls.addClassCleanup(container.stop)
        cls.engine = create_engine(container.get_connection_url())
        cls.addClassCleanup(cls.engine.dispose)

    def setUp(self) -> None:
        Model.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add_all(shop_bodies.products())
            session.commit()

    def tearDown(self) -> None:
        Model.metadata.drop_all(self.engine)

    @property
    def database(self) -> Engine:
        return self.engine


globals().update(shop_bodies.classes(Base, __name__))
