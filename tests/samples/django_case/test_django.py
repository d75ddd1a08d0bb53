# SPDX-License-Identifier: Apache-2.0
"""Services added to Django's own test case, which has another base class."""

import django.test

from itest import ContainerMixin, PostgresMixin, RedisMixin


class VisitTest(PostgresMixin, RedisMixin, ContainerMixin, django.test.SimpleTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE TABLE visits (name text)")

    def test_visit(self):
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM visits"), [(0,)])
        self.postgres.execute("INSERT INTO visits VALUES ('django')")
        self.assertEqual(self.cache.keys(), [])
        self.cache.set("visit", "yes")

    test_visit_again = test_visit


class OtherVisitTest(VisitTest):
    def test_settings(self):
        with self.settings(DEBUG=True):
            self.test_visit()
