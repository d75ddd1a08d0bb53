# SPDX-License-Identifier: Apache-2.0
"""Where a server of this process must listen for containers to reach it."""

from __future__ import annotations

from typing import Any
from unittest import mock

from itest.engines.docker_address import Address
from itest.errors import ItestError
from itest.spec import ContainerSpec
from tests.unit.fake_docker import FakeDockerTest


class HostTest(FakeDockerTest):
    def network(self, *gateways: str) -> None:
        pools = [{"Gateway": gateway} if gateway else {} for gateway in gateways]
        self.answers["GET /networks/n1"] = {"Id": "n1", "IPAM": {"Config": pools}}

    def hosts(self) -> Any:
        self.start(ContainerSpec("web:1", network="n1"))
        return self.server.body("POST /containers/create")["HostConfig"]["ExtraHosts"]

    def test_the_gateway_where_it_is_an_address_of_this_machine(self) -> None:
        self.network("", "fd00::1", "127.0.0.7/8")
        self.assertEqual(self.engine.host_on("n1"), "127.0.0.7")
        self.assertEqual(self.hosts(), ["host.docker.internal:127.0.0.7"])
        self.assertEqual(len(self.server.requests("GET /networks/n1")), 1)

    def test_the_loopback_where_docker_is_in_a_virtual_machine(self) -> None:
        self.network("203.0.113.1")  # Which this machine cannot have: it is for documentation.
        self.assertEqual(self.engine.host_on("n1"), "127.0.0.1")
        self.assertEqual(self.hosts(), ["host.docker.internal:host-gateway"])

    def test_a_network_without_addresses(self) -> None:
        self.answers["GET /networks/n1"] = {"Id": "n1", "IPAM": {"Config": None}}
        self.assertEqual(self.engine.host_on("n1"), "127.0.0.1")

    def test_nothing_where_docker_is_on_another_machine(self) -> None:
        self.network("127.0.0.7")
        elsewhere = mock.patch.object(Address, "host", "docker.example.com")
        with elsewhere, self.assertRaisesRegex(ItestError, "containers on docker.example.com.* in a container too"):
            self.engine.host_on("n1")

    def test_a_network_that_is_gone(self) -> None:
        with self.assertRaisesRegex(ItestError, "could not look at the network n1, Docker says: not found"):
            self.engine.host_on("n1")
