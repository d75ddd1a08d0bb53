# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL where the environment has variables of libpq that are meant for another server."""

from __future__ import annotations

import asyncio
import os
import unittest
from dataclasses import replace
from typing import Any
from unittest import mock

from itest import testing
from itest.errors import ConfigError, Unavailable
from tests.integration.baseline import DECLARATION

VARIABLES = {
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "system",
    "PGSSLCERTMODE": "require",
    "PGSSLNEGOTIATION": "direct",
    "PGHOSTADDR": "192.0.2.1",  # Nobody has an address of this network (RFC 5737).
    "PGREQUIREPEER": "nobody-at-all",
    "PGREQUIREAUTH": "none",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGCLIENTENCODING": "latin1",
}


class EnvironmentTest(unittest.TestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch.dict(os.environ, VARIABLES))
        session = self.enterContext(testing.session(quiet=True, startup_timeout=30.0))
        try:
            self.server: Any = session.lend(DECLARATION)
        except Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None

    def test_it_does_not_count_for_a_server_of_ours(self) -> None:
        for isolation in ("database", "rollback", "truncate"):
            with self.subTest(isolation):
                lease = self.server.lease(replace(DECLARATION, isolation=isolation), "tests.Environment")
                self.addCleanup(lease.close)
                lease.seal()
                for _ in range(2):
                    view = lease.reset("tests.Environment.test")
                    self.assertEqual(view.execute("SELECT count(*) FROM parent WHERE id = 7000"), [(0,)])
                    view.execute("INSERT INTO parent (id, name) VALUES (7000, '€')")
                    with view.connection.cursor() as cursor:
                        cursor.execute("UPDATE parent SET name = '€€' WHERE id = 7000")
                    with view.engine.connect() as connection:
                        connection.exec_driver_sql("SELECT '€'")
                    view.close()

    def test_nor_for_clients_of_asyncio(self) -> None:
        lease = self.server.lease(DECLARATION, "tests.Environment")
        self.addCleanup(lease.close)
        lease.seal()
        view = lease.reset("tests.Environment.test")
        self.addCleanup(view.close)

        async def ask() -> Any:
            connection = await view.aconnect()
            return await connection.fetchval("SELECT 1")

        self.assertEqual(asyncio.run(ask()), 1)


class ServiceTest(unittest.TestCase):
    def test_a_service_that_is_not_there_is_told_at_once(self) -> None:
        self.enterContext(mock.patch.dict(os.environ, {"PGSERVICE": "shop", "PGSERVICEFILE": os.devnull}))
        session = self.enterContext(testing.session(quiet=True, startup_timeout=30.0))
        with self.assertRaises((ConfigError, Unavailable)) as caught:
            session.lend(DECLARATION)
        if isinstance(caught.exception, Unavailable):
            raise unittest.SkipTest(str(caught.exception))
        self.assertEqual(
            str(caught.exception),
            'libpq does not even try to connect: definition of service "shop" not found; correct the variable PGSERVICE, or '
            "do without it",
        )
