# SPDX-License-Identifier: Apache-2.0
"""Where the shop's services are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Given to `create_app` and to the worker; nothing else in the shop knows an address."""

    database_url: str
    redis_url: str
    kafka_bootstrap_servers: str
    orders_topic: str = "orders"
    orders_group: str = "warehouse"

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """The settings from DATABASE_URL, REDIS_URL, KAFKA_BOOTSTRAP_SERVERS, ORDERS_TOPIC and ORDERS_GROUP."""
        return cls(
            env["DATABASE_URL"],
            env["REDIS_URL"],
            env["KAFKA_BOOTSTRAP_SERVERS"],
            env.get("ORDERS_TOPIC", "orders"),
            env.get("ORDERS_GROUP", "warehouse"),
        )
