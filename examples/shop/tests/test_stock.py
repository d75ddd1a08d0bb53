# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL alone: orders at the same moment, from real threads with real connections."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.orm import Session

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import SqlFiles
from shop import orders
from shop.models import Order, Product


class StockTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres("postgres:17", migrations=SqlFiles("../migrations"), fixtures=["products.sql"])

    def test_an_order_reserves_what_it_sells(self) -> None:
        order = orders.place(self.session, "ada", {"book": 2, "lamp": 1})
        self.session.commit()

        self.assertEqual([(line.sku, line.quantity) for line in order.lines], [("book", 2), ("lamp", 1)])
        self.assertEqual(self.session.get_one(Product, "book").available, 3)
        self.assertEqual(self.session.get_one(Product, "lamp").available, 0)

    def test_orders_at_the_same_moment_do_not_oversell(self) -> None:
        # Eight customers want one of five books. Without the row lock in `orders.place` this test fails.
        customers = 8
        together = threading.Barrier(customers, timeout=10)

        def buy(customer: int) -> bool:
            with Session(self.postgres.engine) as session:
                session.connection()  # Connected before the race starts.
                together.wait()
                try:
                    orders.place(session, f"customer {customer}", {"book": 1})
                except orders.SoldOut:
                    return False
                session.commit()
                return True

        with ThreadPoolExecutor(customers) as pool:
            bought = list(pool.map(buy, range(customers)))

        self.assertEqual(bought.count(True), 5)
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM orders"), [(5,)])
        self.assertEqual(self.session.get_one(Product, "book").available, 0)

    def test_numbers_of_orders_start_again_in_each_test(self) -> None:
        # Sequences are part of the data too: the orders of the other tests have not used up any number.
        with self.postgres.session() as session:
            order = orders.place(session, "ada", {"book": 1})
            session.commit()
            self.assertEqual(order.id, 1)
        self.assertEqual(self.session.get_one(Order, 1).status, "placed")
