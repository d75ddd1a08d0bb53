# SPDX-License-Identifier: Apache-2.0
"""From the order to the warehouse: a real event through a real broker changes the stock."""

from __future__ import annotations

import sys

from itest import App
from itest.wait import log
from shop.models import Order, Product
from shop.settings import Settings
from shop.shop import Shop, open_shop
from shop.worker import handle
from tests.shop_case import ENV, ShopTestCase


class HandleTest(ShopTestCase):
    """What the worker does with an event, without the worker."""

    shop: Shop

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        addresses = {**cls.postgres.env, **cls.redis.env, **cls.kafka.env}
        settings = Settings.from_env({**addresses, "ORDERS_TOPIC": cls.kafka.topic("orders")})
        cls.shop = cls.enterClassContext(open_shop(settings))

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


class WorkerTest(ShopTestCase):
    """The shop as it runs in production: the API and the worker, each a process, and nothing between them but Kafka."""

    api = App.command(
        [sys.executable, "-m", "uvicorn", "--factory", "shop.api:create_app", "--port", "{port}"], env=ENV
    )
    worker = App.command([sys.executable, "-m", "shop.worker"], env=ENV, ready=log("waiting for orders"))

    def check_that_an_order_is_shipped(self) -> None:
        order = {"customer": "ada", "quantities": {"book": 2}}
        number = self.api.client.post("/orders", json=order).json()["id"]

        def is_shipped() -> bool:
            return bool(self.api.client.get(f"/orders/{number}").json()["status"] == "shipped")

        self.assertEventually(is_shipped, timeout=20)
        self.assertEqual(self.session.get_one(Product, "book").stock, 3)

    def test_the_worker_ships_what_the_api_announces(self) -> None:
        self.check_that_an_order_is_shipped()

    def test_and_again_on_clean_data(self) -> None:
        self.check_that_an_order_is_shipped()
