# SPDX-License-Identifier: Apache-2.0
"""What a class is given besides its servers: the network of its containers."""

from __future__ import annotations

import unittest
from unittest import mock

from itest import Container, ContainerTestCase, Network
from itest.loan import network_of
from itest.session import Session


class NetworkOfTest(unittest.TestCase):
    def network_of(self, cls: type[ContainerTestCase]) -> list[mock._Call]:
        """The networks that are made for a class."""
        session = mock.create_autospec(Session, instance=True)
        network_of(cls, cls._itest_declarations, session)
        return session.network.mock_calls  # type: ignore[no-any-return]  # a mock's attribute

    def test_there_is_one_where_containers_have_something_beside_them(self) -> None:
        class Alone(ContainerTestCase):
            web = Container("nginx:1.29")

        class Two(Alone):
            other = Container("busybox:1.37")

        self.assertEqual(self.network_of(Alone), [])
        self.assertEqual(self.network_of(Two), [mock.call("two", {}, dict(Two._itest_declarations))])

    def test_one_that_is_declared_is_made_for_one_container_too(self) -> None:
        class Alone(ContainerTestCase):
            web = Container("nginx:1.29")
            network = Network({"web": ["www"]})

        self.assertEqual(
            self.network_of(Alone), [mock.call("alone", {"web": ["www"]}, dict(Alone._itest_declarations))]
        )

    def test_a_subclass_opts_out_of_its_bases_names(self) -> None:
        class Base(ContainerTestCase):
            web = Container("nginx:1.29")
            other = Container("busybox:1.37")
            network = Network({"web": ["www"]})

        class Plain(Base):
            network = None  # type: ignore[assignment]  # how a class opts out

        self.assertEqual(self.network_of(Plain), [mock.call("plain", {}, dict(Plain._itest_declarations))])


if __name__ == "__main__":
    unittest.main()
