# SPDX-License-Identifier: Apache-2.0
"""What whole modules and classes of tests cannot do without, and how they fetch a page."""

from __future__ import annotations

import unittest
import urllib.request

from itest.config import load
from itest.engines import Engine
from itest.engines.compose import ComposeEngine
from itest.engines.docker import DockerEngine


def need_docker() -> None:
    """Skip where no Docker answers; fail where that is an error (`ITEST_REQUIRE`)."""
    _need("Docker", DockerEngine(load()))


def need_compose() -> None:
    """The same for Docker Compose."""
    _need("Docker Compose", ComposeEngine(load()))


def get(url: str) -> str:
    """What is there, without the proxies of whoever runs the tests."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as response:
        text: str = response.read().decode()
        return text


def _need(what: str, engine: Engine) -> None:
    required = load().require
    reason = engine.unavailable()
    engine.close()
    if reason and required in ("1", "docker"):
        raise AssertionError(f"ITEST_REQUIRE={required}, but {what} cannot be used: {reason}")
    if reason:
        raise unittest.SkipTest(f"{what} cannot be used: {reason}")
