# SPDX-License-Identifier: Apache-2.0
"""A base class that other modules import."""

from tests.rust_patterns.base import DatabaseTest


class UserTest(DatabaseTest):
    def test_the_schema_is_there(self):
        self.assertRowCount("users", 0)
