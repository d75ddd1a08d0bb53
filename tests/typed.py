# SPDX-License-Identifier: Apache-2.0
"""A user's tests, as type checkers see them: checked by `mypy`, never run. An ignored error is one that must be found."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer

from itest import Container, ContainerTestCase, Network


class NetworkTest(ContainerTestCase):
    network = Network({"shop": ["shop.example.com"]})
    shop = Container("busybox:1.37", command="sleep 600")

    def test_a_server_for_containers(self) -> None:
        with HTTPServer((self.network.host, 0), BaseHTTPRequestHandler):
            self.shop.exec(["docker", "network", "inspect", self.network.id])
