# SPDX-License-Identifier: Apache-2.0
"""The product list: in PostgreSQL, with a copy in Redis that is made when somebody asks and dropped when it changes."""

from __future__ import annotations

import json
from typing import Any

from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shop.models import Product

KEY = "shop:products"
LIFETIME = 60
"""Seconds. Bounds how long a list can be wrong that was read just before a change and cached just after it."""


class Catalog:
    def __init__(self, sessions: sessionmaker[Session], cache: Redis) -> None:
        self._sessions = sessions
        self._cache = cache

    def items(self) -> list[dict[str, Any]]:
        """All products by sku, from the cache if they are there: sku, name, price and how many are available."""
        if cached := self._cache.get(KEY):
            found: list[dict[str, Any]] = json.loads(cached)
            return found
        with self._sessions() as session:
            products = session.scalars(select(Product).order_by(Product.sku)).all()
        items = [{"sku": p.sku, "name": p.name, "price": p.price, "available": p.available} for p in products]
        self._cache.set(KEY, json.dumps(items), ex=LIFETIME)
        return items

    def add(self, product: Product) -> None:
        """Put a new product up for sale. Raises IntegrityError when its sku is taken."""
        with self._sessions.begin() as session:
            session.add(product)
        self.changed()

    def changed(self) -> None:
        """Forget the cached list. To be called after the change is committed, not before."""
        self._cache.delete(KEY)
