# SPDX-License-Identifier: Apache-2.0
"""What users have ordered."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.models import Order


class OrderService:
    def __init__(self, session: Session) -> None:
        self._session = session

    def total_of(self, user_id: int) -> Decimal:
        return self._session.scalar(
            select(func.sum(Order.total)).where(Order.user_id == user_id)
        ) or Decimal(0)
