# SPDX-License-Identifier: Apache-2.0
"""Where a server of this process must listen for containers to reach it."""

from __future__ import annotations

from typing import Any
from unittest import mock

from itest.engines.docker_address import Address
from itest.errors import ItestError
from itest.spec import ContainerSpec
from tests.unit.fake_docker import FakeDockerTest


class RemoveTest(FakeDockerTest):
    def test_it_is_emptied_only_where_docker_does_not_remove_it_else(self) -> None:
        self.engine.remove_network("n1")
        self.assertEqual([line for line, _, _ in self.server.asked if "/networks/" in line], ["DELETE /networks/n1"])
        self.answers["GET /networks/n1"] = {"Id": "n1", "Containers": {"c1": {}}}
        self.answers["DELETE /networks/n1"] = [
            lambda _: (403, {"message": "error while removing network: network n1 has active endpoints"}),
            lambda _: (204, b""),
        ]
        self.engine.remove_network("n1")
        self.assertEqual(self.server.body("POST /networks/n1/disconnect"), {"Container": "c1", "Force": True})
        self.assertEqual(len(self.server.requests("DELETE")), 3)


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
