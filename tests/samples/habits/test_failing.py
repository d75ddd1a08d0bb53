# SPDX-License-Identifier: Apache-2.0
"""Tests that end badly after they wrote something. Named so that unittest takes them in this order."""

import os
import sys
import unittest

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class FailingTest(PostgresMixin, RedisMixin, ContainerTestCase):
    def setUp(self):
        self.assertEqual(self.postgres.execute("SELECT 1 FROM pg_tables WHERE tablename = 'visits'"), [])
        self.assertEqual(self.cache.keys(), [])
        self.postgres.execute("CREATE TABLE visits ()")
        self.cache.set("visit", "yes")

    def test_1_failure(self):
        self.fail("on purpose")

    def test_2_error(self):
        raise RuntimeError("on purpose")

    def test_3_exit(self):
        sys.exit("on purpose")

    @unittest.expectedFailure
    def test_4_expected_failure(self):
        self.fail("on purpose")

    def test_5_subtests(self):
        for number in range(2):
            with self.subTest(number=number):
                self.fail("on purpose")

    def test_6_connection_broken(self):
        self.db.close()
        self.postgres.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def test_7_skip(self):
        self.skipTest("on purpose")

    def test_8_good(self):
        self.assertEqual(os.environ["ITEST_REQUIRE"], "1")


class FailingSetUpClassTest(PostgresMixin, ContainerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.postgres.execute("CREATE TABLE visits ()")
        raise RuntimeError("on purpose")

    def test_never_run(self):
        pass


class FailingTestDataTest(PostgresMixin, ContainerTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.postgres.execute("CREATE nonsense")

    def test_never_run(self):
        pass
