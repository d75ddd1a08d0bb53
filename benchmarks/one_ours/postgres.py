# SPDX-License-Identifier: Apache-2.0
"""One test with PostgreSQL."""

from __future__ import annotations

from benchmarks.one_bodies import OneTest, ask_postgres
from itest import ContainerTestCase, PostgresMixin


class PostgresTest(PostgresMixin, ContainerTestCase, OneTest):
    def test_one(self) -> None:
        self.note(lambda: ask_postgres(self.db))
