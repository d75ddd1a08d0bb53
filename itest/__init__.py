# SPDX-License-Identifier: Apache-2.0
"""itest: integration tests that feel like unit tests, for the standard library's unittest.

Importing this package costs the standard library only and has no effect: every name below is loaded when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itest.async_case import AsyncContainerTestCase as AsyncContainerTestCase
    from itest.case import ContainerMixin as ContainerMixin
    from itest.case import ContainerTestCase as ContainerTestCase
    from itest.errors import ConfigError as ConfigError
    from itest.errors import ItestError as ItestError
    from itest.errors import StartError as StartError
    from itest.errors import Unavailable as Unavailable
    from itest.fixture_files import fixtures as fixtures
    from itest.network import Network as Network
    from itest.services.app import App as App
    from itest.services.kafka import Kafka as Kafka
    from itest.services.kafka import KafkaMixin as KafkaMixin
    from itest.services.postgres import Postgres as Postgres
    from itest.services.postgres import PostgresMixin as PostgresMixin
    from itest.services.redis import Redis as Redis
    from itest.services.redis import RedisMixin as RedisMixin

__version__ = "0.1.0"

_HOME = {
    "App": "itest.services.app",
    "AsyncContainerTestCase": "itest.async_case",
    "ConfigError": "itest.errors",
    "ContainerMixin": "itest.case",
    "ContainerTestCase": "itest.case",
    "ItestError": "itest.errors",
    "Kafka": "itest.services.kafka",
    "KafkaMixin": "itest.services.kafka",
    "Network": "itest.network",
    "Postgres": "itest.services.postgres",
    "PostgresMixin": "itest.services.postgres",
    "Redis": "itest.services.redis",
    "RedisMixin": "itest.services.redis",
    "StartError": "itest.errors",
    "Unavailable": "itest.errors",
    "fixtures": "itest.fixture_files",
}

__all__ = [
    "App",
    "AsyncContainerTestCase",
    "ConfigError",
    "ContainerMixin",
    "ContainerTestCase",
    "ItestError",
    "Kafka",
    "KafkaMixin",
    "Network",
    "Postgres",
    "PostgresMixin",
    "Redis",
    "RedisMixin",
    "StartError",
    "Unavailable",
    "fixtures",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
