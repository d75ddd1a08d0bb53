# SPDX-License-Identifier: Apache-2.0
"""itest: integration tests that feel like unit tests, for the standard library's unittest.

Importing this package costs the standard library only and has no effect: every name below is loaded when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itest.async_case import AsyncContainerTestCase as AsyncContainerTestCase
    from itest.build import Build as Build
    from itest.case import ContainerMixin as ContainerMixin
    from itest.case import ContainerTestCase as ContainerTestCase
    from itest.container_options import Healthcheck as Healthcheck
    from itest.container_options import Mount as Mount
    from itest.errors import ConfigError as ConfigError
    from itest.errors import ItestError as ItestError
    from itest.errors import StartError as StartError
    from itest.errors import Unavailable as Unavailable
    from itest.fixture_files import fixtures as fixtures
    from itest.network import Network as Network
    from itest.services.app import App as App
    from itest.services.compose import Compose as Compose
    from itest.services.container import Container as Container
    from itest.services.kafka import Kafka as Kafka
    from itest.services.kafka import KafkaMixin as KafkaMixin
    from itest.services.postgres import Postgres as Postgres
    from itest.services.postgres import PostgresMixin as PostgresMixin
    from itest.services.redis import Redis as Redis
    from itest.services.redis import RedisMixin as RedisMixin
    from itest.spec import Port as Port
    from itest.wait import health as health
    from itest.wait import http as http
    from itest.wait import log as log
    from itest.wait import port as port

__version__ = "0.1.0"

_HOME = {
    "App": "itest.services.app",
    "AsyncContainerTestCase": "itest.async_case",
    "Build": "itest.build",
    "Compose": "itest.services.compose",
    "ConfigError": "itest.errors",
    "Container": "itest.services.container",
    "ContainerMixin": "itest.case",
    "ContainerTestCase": "itest.case",
    "Healthcheck": "itest.container_options",
    "ItestError": "itest.errors",
    "Kafka": "itest.services.kafka",
    "KafkaMixin": "itest.services.kafka",
    "Mount": "itest.container_options",
    "Network": "itest.network",
    "Port": "itest.spec",
    "Postgres": "itest.services.postgres",
    "PostgresMixin": "itest.services.postgres",
    "Redis": "itest.services.redis",
    "RedisMixin": "itest.services.redis",
    "StartError": "itest.errors",
    "Unavailable": "itest.errors",
    "fixtures": "itest.fixture_files",
    "health": "itest.wait",
    "http": "itest.wait",
    "log": "itest.wait",
    "port": "itest.wait",
}

__all__ = [
    "App",
    "AsyncContainerTestCase",
    "Build",
    "Compose",
    "ConfigError",
    "Container",
    "ContainerMixin",
    "ContainerTestCase",
    "Healthcheck",
    "ItestError",
    "Kafka",
    "KafkaMixin",
    "Mount",
    "Network",
    "Port",
    "Postgres",
    "PostgresMixin",
    "Redis",
    "RedisMixin",
    "StartError",
    "Unavailable",
    "fixtures",
    "health",
    "http",
    "log",
    "port",
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
