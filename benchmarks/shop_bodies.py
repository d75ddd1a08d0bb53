# SPDX-License-Identifier: Apache-2.0
"""The tests of both suites: the shop's own code, with real commits. Each expects two products and no order."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.models import Order, Product
from shop.orders import SoldOut, UnknownProduct, place, ship

if TYPE_CHECKING:
    from sqlalchemy import Engine


def products() -> list[Product]:
    """What every test starts from."""
    return [
        Product(sku="book", name="A book", price=1200, stock=5),
        Product(sku="lamp", name="A lamp", price=4900, stock=1),
    ]


class ShopTests(unittest.TestCase):
    """Base of both suites; the subclass says which engine a test uses."""

    @property
    def database(self) -> Engine:
        raise NotImplementedError

    def check_products(self) -> None:
        with Session(self.database) as session:
            self.assertEqual(session.scalars(select(Product.sku).order_by(Product.sku)).all(), ["book", "lamp"])

    def check_order(self) -> None:
        with Session(self.database) as session:
            order = place(session, "Ann", {"book": 2, "lamp": 1})
            session.commit()
            self.assertEqual(order.id, 1)
        with Session(self.database) as session:
            self.assertEqual(session.get_one(Product, "book").available, 3)

    def check_sold_out(self) -> None:
        with Session(self.database) as session:
            place(session, "Ann", {"lamp": 1})
            session.commit()
        with Session(self.database) as session, self.assertRaises(SoldOut):
            place(session, "Bob", {"lamp": 1})

    def check_shipping(self) -> None:
        with Session(self.database) as session:
            order = place(session, "Ann", {"book": 1})
            session.commit()
            ship(session, order.id)
            session.commit()
        with Session(self.database) as session:
            self.assertEqual((session.get_one(Product, "book").stock, session.get_one(Order, 1).status), (4, "shipped"))

    def check_unknown(self) -> None:
        with Session(self.database) as session:
            with self.assertRaises(UnknownProduct):
                place(session, "Ann", {"shoe": 1})
            self.assertEqual(session.scalar(select(func.count()).select_from(Order)), 0)


BODIES: tuple[Callable[[ShopTests], None], ...] = (
    ShopTests.check_products,
    ShopTests.check_order,
    ShopTests.check_sold_out,
    ShopTests.check_shipping,
    ShopTests.check_unknown,
)


def classes(base: type[ShopTests], module: str) -> dict[str, type[ShopTests]]:
    """As many classes and tests as the benchmark asks for, to be put into a module for unittest to find."""
    count, tests = (int(number) for number in os.environ.get("ITEST_BENCHMARK_SUITE", "2,5").split(","))
    bodies = {f"test_{number:02}": BODIES[number % len(BODIES)] for number in range(tests)}
    names = [f"Shop{number:02}Test" for number in range(count)]
    return {name: type(name, (base,), {**bodies, "__module__": module}) for name in names}
