# SPDX-License-Identifier: Apache-2.0
"""From the order to the warehouse: a real event through a real broker changes the stock."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any, ClassVar

from shop.models import Order, Product
from shop.shop import Shop, open_shop
from shop.worker import handle, open_consumer, run_worker
from tests.shop_case import ShopTestCase


class WorkerTest(ShopTestCase):
    shop: ClassVar[Shop]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shop = cls.enterClassContext(open_shop(cls.settings))

    def test_an_order_event_takes_the_goods_off_the_shelf(self) -> None:
        order = self.shop.order("ada", {"book": 2})

        [message] = self.queue.receive("orders", count=1, timeout=10)
        handle(message.value, self.shop)

        self.assertEqual(self.session.get_one(Order, order).status, "shipped")
        book = self.session.get_one(Product, "book")
        self.assertEqual((book.stock, book.reserved), (3, 0))

    def test_an_event_that_comes_twice_counts_once(self) -> None:
        event = {"type": "order.placed", "order": self.shop.order("ada", {"book": 2})}

        handle(event, self.shop)
        handle(event, self.shop)

        self.assertEqual(self.session.get_one(Product, "book").stock, 3)

    def test_the_worker_ships_what_it_hears_of(self) -> None:
        # The worker as it runs in production, but in a consumer group that no other test has been in.
        stop = threading.Event()

        def ship_and_stop(event: dict[str, Any]) -> None:
            handle(event, self.shop)
            stop.set()

        consumer = self.enterContext(closing(open_consumer(self.settings, self.kafka.group("warehouse"))))
        worker = threading.Thread(target=run_worker, args=(consumer, ship_and_stop, stop))
        worker.start()
        self.addCleanup(worker.join, timeout=10)
        self.addCleanup(stop.set)

        order = self.shop.order("ada", {"book": 2})
        worker.join(timeout=20)

        self.assertFalse(worker.is_alive(), "the event did not arrive within 20 s")
        self.assertEqual(self.session.get_one(Order, order).status, "shipped")
