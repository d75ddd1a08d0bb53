# SPDX-License-Identifier: Apache-2.0
"""The suite with itest: tables from the shop's migrations, products as the baseline of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import shop_bodies
from benchmarks.suite import SHOP
from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import SqlFiles

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Base(PostgresMixin, ContainerTestCase, shop_bodies.ShopTests):
    postgres = Postgres("postgres:17", migrations=SqlFiles(SHOP / "migrations"))

    @classmethod
    def setUpTestData(cls) -> None:
        with cls.postgres.session() as session:
            session.add_all(shop_bodies.products())
            session.commit()

    @property
    def database(self) -> Engine:
        return self.postgres.engine


globals().update(shop_bodies.classes(Base, __name__))
