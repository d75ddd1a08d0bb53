# SPDX-License-Identifier: Apache-2.0
"""Runs that end before their time, each class in another way. One is selected per run, by its name."""

import os
import signal
import sys
import threading

from itest import ContainerTestCase, PostgresMixin, RedisMixin


class _Services(PostgresMixin, RedisMixin, ContainerTestCase):
    def use(self):
        self.postgres.execute("CREATE TABLE visits ()")
        self.cache.set("visit", "yes")


class InTestTest(_Services):
    """The signal named in the environment arrives in the middle of a test."""

    def test_signal(self):
        self.use()
        os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])
        threading.Event().wait(30)


class InSetUpClassTest(_Services):
    """It arrives in setUpClass, after which unittest calls no cleanup at all."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])
        threading.Event().wait(30)

    def test_never_run(self):
        pass


class InStartTest(_Services):
    """It arrives while servers are being started, `DELAY` seconds after the start began."""

    @classmethod
    def setUpClass(cls):
        number = signal.Signals[os.environ["SIGNAL"]]
        timer = threading.Timer(float(os.environ["DELAY"]), os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
        super().setUpClass()
        timer.join()
        threading.Event().wait(30)

    def test_never_run(self):
        pass


class ExitInSetUpClassTest(_Services):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sys.exit(7)

    def test_never_run(self):
        pass


class HardExitTest(_Services):
    """No handler and no atexit callback runs."""

    def test_exit(self):
        self.use()
        os._exit(7)


class ForkTest(_Services):
    """A forked child ends in every way it can; the parent's servers must not mind, and must not be ended by it."""

    def test_children(self):
        self.use()
        for leave in (sys.exit, os._exit):
            child = os.fork()
            if child == 0:
                leave(0)
            os.waitpid(child, 0)
        self.assertEqual(self.cache.get("visit"), b"yes")
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM visits"), [(0,)])

    test_children_again = test_children
