# SPDX-License-Identifier: Apache-2.0
"""Orders in the database: placing one reserves its products, shipping it takes them off the shelf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.models import Order, OrderLine, Product


class UnknownProduct(Exception):
    """There is no product with this sku."""


class SoldOut(Exception):
    """Fewer are left than were ordered."""


def place(session: Session, customer: str, quantities: Mapping[str, int]) -> Order:
    """Reserve so many of each sku and store the order; the caller commits. Raises UnknownProduct, SoldOut."""
    products = _locked(session, quantities)
    for sku, quantity in quantities.items():
        if sku not in products:
            raise UnknownProduct(sku)
        if products[sku].available < quantity:
            raise SoldOut(sku)
        products[sku].reserved += quantity
    lines = [OrderLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items()]
    order = Order(customer=customer, lines=lines)
    session.add(order)
    session.flush()
    return order


def ship(session: Session, order_id: int) -> None:
    """Take a placed order's products off the shelf; the caller commits. Shipping it again changes nothing."""
    order = session.get_one(Order, order_id, with_for_update=True)
    if order.status != "placed":
        return
    products = _locked(session, [line.sku for line in order.lines])
    for line in order.lines:
        products[line.sku].stock -= line.quantity
        products[line.sku].reserved -= line.quantity
    order.status = "shipped"


def _locked(session: Session, skus: Iterable[str]) -> dict[str, Product]:
    """The products, their rows locked in order of sku: two orders for the same ones wait, and never for each other."""
    query = select(Product).where(Product.sku.in_(list(skus))).order_by(Product.sku).with_for_update()
    return {product.sku: product for product in session.scalars(query.execution_options(populate_existing=True))}
