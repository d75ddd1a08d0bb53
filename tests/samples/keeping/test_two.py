# SPDX-License-Identifier: Apache-2.0
"""A test that fails and has two databases of one server."""

from itest import ContainerTestCase, Postgres


class TwoTest(ContainerTestCase):
    orders = Postgres()
    stock = Postgres()

    def test_fails(self):
        self.fail("on purpose")
