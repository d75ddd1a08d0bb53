# SPDX-License-Identifier: Apache-2.0
"""Classes of which nothing runs: no server must be started for them."""

import unittest

from itest import ContainerTestCase, PostgresMixin, RedisMixin


@unittest.skip("on purpose")
class SkippedClassTest(PostgresMixin, RedisMixin, ContainerTestCase):
    def test_never_run(self):
        self.fail("run")


class SkippedMethodsTest(PostgresMixin, RedisMixin, ContainerTestCase):
    @unittest.skip("on purpose")
    def test_never_run(self):
        self.fail("run")

    @unittest.skipIf(True, "on purpose")
    def test_never_run_either(self):
        self.fail("run")


class NoTestsTest(PostgresMixin, RedisMixin, ContainerTestCase):
    """A base class for others, with nothing to run."""


class UnitTest(unittest.TestCase):
    def test_without_services(self):
        pass
