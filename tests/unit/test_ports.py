# SPDX-License-Identifier: Apache-2.0
"""Sockets that listen at the same port of two addresses."""

from __future__ import annotations

import socket
import sys
import unittest
from typing import Any
from unittest import mock

from itest.engines import Endpoint, ports


class ListenersTest(unittest.TestCase):
    def close_all(self, found: list[socket.socket]) -> None:
        for each in found:
            each.close()

    def addresses(self, *arguments: Any) -> list[tuple[str, int]]:
        found = ports.listeners(*arguments)
        self.addCleanup(self.close_all, found)
        return [each.getsockname() for each in found]

    def test_the_loopback(self) -> None:
        for host in ("", "127.0.0.1"):
            [(address, _)] = self.addresses(0, host)
            self.assertEqual(address, "127.0.0.1")

    def test_another_address_too(self) -> None:
        (one, port), (two, same) = self.addresses(0, "127.0.0.2")
        self.assertEqual((one, two, port), ("127.0.0.1", "127.0.0.2", same))

    def test_a_port_that_is_taken_at_the_other_address(self) -> None:
        create, refused = socket.create_server, []

        def sometimes(address: tuple[str, int], **options: Any) -> socket.socket:
            if address[0] == "127.0.0.2" and len(refused) < 2:
                refused.append(address[1])
                raise OSError("in use")
            return create(address, **options)

        with mock.patch("socket.create_server", sometimes):
            _, (_, port) = self.addresses(0, "127.0.0.2")
        self.assertEqual(len(refused), 2)
        self.assertTrue(port)

    def test_a_port_that_must_be_that_one(self) -> None:
        # What the kernel chooses for one address may be that of somebody's connection at the other.
        port = ports.free_port()
        with socket.create_server(("127.0.0.2", port)):
            with self.assertRaises(OSError):
                ports.listeners(port, "127.0.0.2")
            with socket.create_server(("127.0.0.1", port)):
                pass  # Nothing was left open.

    def test_who_refuses(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            endpoint = Endpoint(*listening.getsockname())
            self.assertFalse(ports.refuses(endpoint))
        self.assertTrue(ports.refuses(endpoint))

    def test_an_address_that_is_not_ours(self) -> None:
        with (
            mock.patch.object(ports.sys, "platform", "darwin"),
            self.assertRaisesRegex(OSError, "no port is free on 127.0.0.1 and on 203.0.113.1"),
        ):
            ports.listeners(0, "203.0.113.1")

    @unittest.skipUnless(sys.platform == "linux", "other systems cannot listen at an address before they have it")
    def test_an_address_that_comes_later(self) -> None:
        (_, port), (two, same) = self.addresses(0, "203.0.113.1")
        self.assertEqual((two, same), ("203.0.113.1", port))
