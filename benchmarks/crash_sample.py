# SPDX-License-Identifier: Apache-2.0
"""The suite whose runs `crash` kills: two classes that write to both services."""

from __future__ import annotations

import time

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class VisitTest(PostgresMixin, RedisMixin, ContainerTestCase):
    def visit(self) -> None:
        self.postgres.execute("CREATE TABLE visits (at timestamptz DEFAULT now())")
        self.postgres.execute("INSERT INTO visits DEFAULT VALUES")
        self.cache.set("visit", "yes")
        time.sleep(0.05)

    test_first = test_second = test_third = test_fourth = visit


class OtherVisitTest(VisitTest):
    """On the same servers, with a database of its own."""
