# SPDX-License-Identifier: Apache-2.0
"""A local PostgreSQL's Unix socket: for connections that itest keeps itself, in a directory that nobody else may enter."""

from __future__ import annotations

import os
import stat
import unittest
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import psycopg2

from itest import Postgres, testing
from itest.errors import Unavailable
from itest.services.postgres import nearest


class UnixSocketTest(unittest.TestCase):
    server: Any
    data: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        session = cls.enterClassContext(testing.session(engine="process"))
        try:
            cls.server = session.lend(Postgres())
        except Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None
        cls.data = cls.server.instance.place / "data"

    def test_our_own_connections_go_by_it_and_users_are_told_the_port(self) -> None:
        lease = self.server.lease(Postgres(), "tests.Some")
        self.addCleanup(lease.close)
        lease.seal()
        view = lease.reset("tests.Some.test_one")
        self.addCleanup(view.close)
        self.assertEqual(view.connection.info.host, str(self.data))
        self.assertEqual((urlsplit(view.url).hostname, view.host), ("127.0.0.1", "127.0.0.1"))
        self.assertEqual(view.connect().info.host, str(self.data))
        self.assertEqual(view.connect(host=view.host).info.host, "127.0.0.1")

    def test_only_its_user_reaches_it(self) -> None:
        [socket] = self.data.glob(".s.PGSQL.*[0-9]")
        self.assertTrue(stat.S_ISSOCK(socket.stat().st_mode))
        self.assertEqual(stat.S_IMODE(self.data.stat().st_mode) & 0o077, 0)

    def test_the_port_asks_for_the_password(self) -> None:
        parts = urlsplit(self.server.address)
        without = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()
        with (
            mock.patch.dict(os.environ, {"PGPASSFILE": "/nonexistent"}),
            self.assertRaisesRegex(psycopg2.OperationalError, "no password supplied"),
        ):
            psycopg2.connect(without)

    def test_where_its_path_is_too_long_the_port_is_used(self) -> None:
        with mock.patch.object(nearest, "SOCKET_PATH_LIMIT", 10):
            other = Postgres().connect(self.server.instance, self.server.address)
        self.addCleanup(other.close)
        self.assertEqual(urlsplit(other.nearest_url_of("postgres")).query, "")

    def test_where_there_is_none_the_port_is_used(self) -> None:
        with mock.patch.object(type(self.server.instance), "place", Path("/nonexistent")):
            other = Postgres().connect(self.server.instance, self.server.address)
        self.addCleanup(other.close)
        self.assertEqual(urlsplit(other.nearest_url_of("postgres")).query, "")


if __name__ == "__main__":
    unittest.main()
