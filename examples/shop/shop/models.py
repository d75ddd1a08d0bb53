# SPDX-License-Identifier: Apache-2.0
"""The tables, as in migrations/*.sql. Prices are in cents."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Identity, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {str: Text, datetime: DateTime(timezone=True)}


class Product(Base):
    """Something for sale. `stock` is on the shelf; `reserved` of it is sold and waits to be shipped."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price >= 0", name="price_is_not_negative"),
        CheckConstraint("reserved BETWEEN 0 AND stock", name="never_oversold"),
    )

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    stock: Mapped[int]
    reserved: Mapped[int] = mapped_column(default=0, server_default=text("0"))

    @property
    def available(self) -> int:
        """How many can still be ordered."""
        return self.stock - self.reserved


class Order(Base):
    """What a customer ordered; `placed`, then `shipped`."""

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("status IN ('placed', 'shipped')", name="status_is_known"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    customer: Mapped[str]
    status: Mapped[str] = mapped_column(default="placed", server_default=text("'placed'"))
    placed: Mapped[datetime] = mapped_column(server_default=func.now())
    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.sku")


class OrderLine(Base):
    """One product of an order."""

    __tablename__ = "order_lines"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_is_positive"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"), primary_key=True)
    quantity: Mapped[int]
