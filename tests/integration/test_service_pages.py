# SPDX-License-Identifier: Apache-2.0
"""What docs/postgres.md, docs/redis.md and docs/kafka.md show, run."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from itest.config import load
from tests.documents import check_document


class PagesTest(unittest.TestCase):
    def test_postgres(self) -> None:
        check_document(self, "docs/postgres.md")

    def test_redis(self) -> None:
        # Few local servers speak TLS, and the page says that tests skip then.
        optional = {"ITEST_REQUIRE": "0"} if load().engine == "process" else {}
        with mock.patch.dict(os.environ, optional):
            check_document(self, "docs/redis.md")

    def test_kafka(self) -> None:
        check_document(self, "docs/kafka.md")
