# SPDX-License-Identifier: Apache-2.0
"""The test case for coroutines. A module of its own, because asyncio is heavy and most suites do without."""

from __future__ import annotations

import unittest

from itest.case import ContainerMixin

__unittest = True


class AsyncContainerTestCase(ContainerMixin, unittest.IsolatedAsyncioTestCase):
    """`ContainerTestCase` for `async def test_*`. Services are started and reset outside the event loop."""
