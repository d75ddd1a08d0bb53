# SPDX-License-Identifier: Apache-2.0
"""The whole shop through its API. One app lives as long as the class; the data under it is reset for each test."""

from __future__ import annotations

from itest import App
from tests.shop_case import ENV, ShopTestCase


class ApiTest(ShopTestCase):
    app = App.asgi("shop.api:create_app", env=ENV)

    def order(self, **quantities: int) -> tuple[int, dict[str, int]]:
        response = self.app.client.post("/orders", json={"customer": "ada", "quantities": quantities})
        return response.status_code, response.json()

    def available(self) -> dict[str, int]:
        return {item["sku"]: item["available"] for item in self.app.client.get("/products").json()}

    def test_an_order_is_accepted_and_announced(self) -> None:
        self.assertEqual(self.order(book=2), (201, {"id": 1}))

        [message] = self.queue.receive("orders", count=1, timeout=10)
        self.assertEqual(message.value, {"type": "order.placed", "order": 1})
        self.assertEqual(self.app.client.get("/orders/1").json(), {"status": "placed"})

    def test_an_order_shows_in_the_cached_product_list(self) -> None:
        self.assertEqual(self.available(), {"book": 5, "lamp": 1})
        self.order(book=2)
        self.assertEqual(self.available(), {"book": 3, "lamp": 1})

    def test_a_rejected_order_leaves_nothing(self) -> None:
        # Neither rows nor a reservation, and no event: the first one on the topic is that of the next order.
        status, _ = self.order(book=1, lamp=2)

        self.assertEqual(status, 409)
        self.assertEqual(self.postgres.execute("SELECT * FROM orders"), [])
        self.assertEqual(self.available(), {"book": 5, "lamp": 1})

        _, accepted = self.order(book=1)
        [message] = self.queue.receive("orders", count=1, timeout=10)
        self.assertEqual(message.value["order"], accepted["id"])

    def test_an_unknown_product_cannot_be_ordered(self) -> None:
        status, body = self.order(car=1)

        self.assertEqual((status, body), (404, {"detail": "there is no product car"}))

    def test_a_product_is_added_once(self) -> None:
        pen = {"sku": "pen", "name": "A pen", "price": 300, "stock": 10}

        self.assertEqual(self.app.client.post("/products", json=pen).status_code, 201)
        self.assertEqual(self.app.client.post("/products", json=pen).status_code, 409)
        self.assertEqual(self.available(), {"book": 5, "lamp": 1, "pen": 10})
