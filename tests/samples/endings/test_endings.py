# SPDX-License-Identifier: Apache-2.0
"""Runs that end before their time, each class in another way. One is selected per run, by its name."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import warnings

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
    """Forked children end in every way they can. The parent's servers are not theirs to end."""

    def test_children(self):
        self.use()
        for leave in (lambda: None, lambda: sys.exit(0), lambda: os._exit(0)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # since 3.12, because the parent has threads
                child = multiprocessing.get_context("fork").Process(target=leave)
                child.start()
            child.join()
            self.assertEqual(child.exitcode, 0)
        child = os.fork() if sys.version_info < (3, 12) else None
        if child == 0:
            _at_exit_then_end()
        elif child:
            os.waitpid(child, 0)
        self.assertEqual(self.cache.get("visit"), b"yes")
        self.assertEqual(self.postgres.execute("SELECT count(*) FROM visits"), [(0,)])

    test_children_again = test_children


def _at_exit_then_end():
    """What a forked child does that leaves by the end of its script."""
    atexit._run_exitfuncs()
    os._exit(0)
