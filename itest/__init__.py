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
    from itest.migrations import Alembic as Alembic
    from itest.migrations import Command as Command
    from itest.migrations import Django as Django
    from itest.migrations import MetaData as MetaData
    from itest.migrations import SqlFiles as SqlFiles
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
    "Alembic": "itest.migrations",
    "App": "itest.services.app",
    "AsyncContainerTestCase": "itest.async_case",
    "Build": "itest.build",
    "Command": "itest.migrations",
    "Compose": "itest.services.compose",
    "ConfigError": "itest.errors",
    "Container": "itest.services.container",
    "ContainerMixin": "itest.case",
    "ContainerTestCase": "itest.case",
    "Django": "itest.migrations",
    "Healthcheck": "itest.container_options",
    "ItestError": "itest.errors",
    "Kafka": "itest.services.kafka",
    "KafkaMixin": "itest.services.kafka",
    "MetaData": "itest.migrations",
    "Mount": "itest.container_options",
    "Network": "itest.network",
    "Port": "itest.spec",
    "Postgres": "itest.services.postgres",
    "PostgresMixin": "itest.services.postgres",
    "Redis": "itest.services.redis",
    "RedisMixin": "itest.services.redis",
    "SqlFiles": "itest.migrations",
    "StartError": "itest.errors",
    "Unavailable": "itest.errors",
    "fixtures": "itest.fixture_files",
    "health": "itest.wait",
    "http": "itest.wait",
    "log": "itest.wait",
    "port": "itest.wait",
}

__all__ = [
    "Alembic",
    "App",
    "AsyncContainerTestCase",
    "Build",
    "Command",
    "Compose",
    "ConfigError",
    "Container",
    "ContainerMixin",
    "ContainerTestCase",
    "Django",
    "Healthcheck",
    "ItestError",
    "Kafka",
    "KafkaMixin",
    "MetaData",
    "Mount",
    "Network",
    "Port",
    "Postgres",
    "PostgresMixin",
    "Redis",
    "RedisMixin",
    "SqlFiles",
    "StartError",
    "Unavailable",
    "fixtures",
    "health",
    "http",
    "log",
    "port",
]


if not TYPE_CHECKING:  # So that a wrong name is still an error there.

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
