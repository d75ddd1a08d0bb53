# SPDX-License-Identifier: Apache-2.0
"""Classes that forget `super()`, in each place where it can be forgotten. Services work and tests stay apart."""

import unittest

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class _Visits(PostgresMixin, RedisMixin, ContainerTestCase):
    """Each test finds nothing and leaves something."""

    def visit(self):
        self.assertEqual(self.postgres.execute("SELECT 1 FROM pg_tables WHERE tablename = 'visits'"), [])
        self.assertEqual(self.cache.keys(), [])
        self.postgres.execute("CREATE TABLE visits ()")
        self.cache.set("visit", "yes")


class ForgottenSetUpClassTest(_Visits):
    @classmethod
    def setUpClass(cls):
        cls.ready = True

    def test_visit(self):
        self.assertTrue(self.ready)
        self.visit()

    test_visit_again = test_visit


class ForgottenSetUpTest(_Visits):
    def setUp(self):
        self.visit()

    def test_visit(self):
        self.assertEqual(self.cache.get("visit"), b"yes")

    test_visit_again = test_visit


class ForgottenTearDownTest(_Visits):
    def tearDown(self):
        self.cache.set("another", "visit")

    @classmethod
    def tearDownClass(cls):
        pass

    def test_visit(self):
        self.visit()

    test_visit_again = test_visit


class InheritingTest(ForgottenSetUpTest, ForgottenTearDownTest):
    def test_own(self):
        self.postgres.execute("CREATE TABLE others ()")


class UnitTest(unittest.TestCase):
    def test_without_services(self):
        self.assertFalse(hasattr(self, "cache"))
