# SPDX-License-Identifier: Apache-2.0
"""A cache of JSON values in Redis."""

from __future__ import annotations

import json
from typing import Any

from redis import Redis


class Cache:
    def __init__(self, client: Redis, ttl: int = 300) -> None:
        self._client = client
        self._ttl = ttl

    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        self._client.set(key, json.dumps(value), ex=ttl or self._ttl)

    def get(self, key: str) -> Any:
        found: Any = self._client.get(key)
        return None if found is None else json.loads(found)

    def invalidate(self, pattern: str) -> None:
        for key in self._client.scan_iter(pattern):
            self._client.delete(key)
