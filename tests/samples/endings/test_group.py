# SPDX-License-Identifier: Apache-2.0
"""A signal to the whole process group, as a terminal sends it on Ctrl-C: to the runner and to all of its workers."""

import os
import signal
import threading

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class OneTest(PostgresMixin, RedisMixin, ContainerTestCase):
    def test_signal(self):
        self.cache.set("visit", "yes")
        threading.Event().wait(0.3)  # So that the other worker is in the middle of its work too.
        os.killpg(0, signal.Signals[os.environ["SIGNAL"]])
        threading.Event().wait(30)


class OtherTest(OneTest):
    """For the other worker."""
