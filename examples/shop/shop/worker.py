# SPDX-License-Identifier: Apache-2.0
"""The warehouse: ships what the orders topic says was ordered. Run it with `python -m shop.worker`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from kafka import KafkaConsumer
from kafka.serializer import JsonSerializer

from shop.settings import Settings
from shop.shop import Shop, open_shop

Handler = Callable[[dict[str, Any]], object]


def handle(event: dict[str, Any], shop: Shop) -> None:
    """Act on one event. It may come twice, as Kafka delivers at least once; the second time changes nothing."""
    if event["type"] == "order.placed":
        shop.ship(event["order"])


def run_worker(consumer: KafkaConsumer, handler: Handler, stop: threading.Event) -> None:
    """Handle events until `stop` is set, which it notices within a second. They are committed after they were handled."""
    while not stop.is_set():
        # A poll that ends while the group is being joined can lose what was assigned (kafka-python 3.0.12).
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                handler(record.value)
            consumer.commit()


def open_consumer(settings: Settings) -> KafkaConsumer:
    """A consumer of the orders topic that starts with the oldest event its group has not handled."""
    return KafkaConsumer(
        settings.orders_topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.orders_group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        value_deserializer=JsonSerializer(),
    )


if __name__ == "__main__":
    settings = Settings.from_env()
    with open_shop(settings) as shop, closing(open_consumer(settings)) as consumer:
        print("waiting for orders", flush=True)
        run_worker(consumer, partial(handle, shop=shop), threading.Event())
