# SPDX-License-Identifier: Apache-2.0
"""What is noted of the variables that migrations read."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from itest import early_reads, migrations

READ = "os.environ.get('TEST_EARLY')"
"""What code of a project does with a variable."""


class KeptTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="test-itest-")))
        self.enterContext(mock.patch.object(sys, "path", [str(self.place), *sys.path]))
        self.enterContext(mock.patch.dict(early_reads._kept, clear=True))
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("TEST_EARLY", None)

    def module(self, source: str) -> str:
        name = f"early_{self.place.name.replace('-', '_')}_{len(list(self.place.iterdir()))}"
        Path(self.place, f"{name}.py").write_text(f"import functools, os\n{source}\n", encoding="utf-8")
        self.addCleanup(sys.modules.pop, name, None)
        return name

    def migrate(self, name: str, call: str = "") -> None:
        """By a function that imports that module, and calls what is in it."""

        def function(view: object) -> None:
            module = importlib.import_module(name)
            if call:
                getattr(module, call)()

        migrations.migrate(function, mock.Mock(), self.place)

    def kept(self, value: str = "tests") -> dict[str, list[str]]:
        """What is said once the variable is set to that."""
        os.environ["TEST_EARLY"] = value
        return early_reads.kept(["TEST_OTHER", "TEST_EARLY"])

    def test_a_module_that_is_imported(self) -> None:
        # Who goes through all of them counts: pydantic-settings does, for the values of its fields.
        for source in (READ, "os.environ.copy()", "'TEST_EARLY' in os.environ", f"def find(): return {READ}\nfind()"):
            os.environ["TEST_EARLY"] = "developer's"
            with self.subTest(source):
                early_reads._kept.clear()
                name = self.module(source)
                self.migrate(name)
                self.assertEqual(self.kept(), {name: ["TEST_EARLY"]})
                self.assertEqual(self.kept("developer's"), {})

    def test_a_variable_that_was_not_set(self) -> None:
        name = self.module(READ)
        self.migrate(name)
        self.assertEqual(self.kept(), {name: ["TEST_EARLY"]})

    def test_the_innermost_module_is_named(self) -> None:
        inner = self.module(READ)
        self.migrate(self.module(f"import {inner}"))
        self.assertEqual(self.kept(), {inner: ["TEST_EARLY"]})

    def test_each_module_is_named(self) -> None:
        names = [self.module(READ) for _ in range(2)]
        for name in names:
            self.migrate(name)
        self.assertEqual(self.kept(), {name: ["TEST_EARLY"] for name in names})

    def test_one_that_has_a_proxy_looked_for_has_read_no_other_variable(self) -> None:
        os.environ["TEST_EARLY"] = "developer's"
        self.migrate(self.module("import urllib.request\nurllib.request.getproxies()"))
        self.assertEqual(self.kept(), {})

    def test_a_function_whose_results_are_cached(self) -> None:
        name = self.module(f"@functools.lru_cache\ndef find(): return {READ}\ndef again(): return {READ}")
        self.migrate(name, "again")
        self.assertEqual(self.kept(), {})
        del os.environ["TEST_EARLY"]
        self.migrate(name, "find")
        self.assertEqual(self.kept(), {name: ["TEST_EARLY"]})

    def test_a_lazy_object_is_not_asked(self) -> None:
        lazy = f"""
class Lazy:
    def __init__(self, make): self.make = make
    def __getattr__(self, name): return getattr(self.make(), name)
def current(): return {READ}
function, current = current, Lazy(current)
"""
        name = self.module(lazy)
        self.migrate(name, "function")
        self.assertEqual(self.kept(), {})

    def test_a_module_that_was_taken_out_again(self) -> None:
        name = self.module(READ)
        self.migrate(name)
        del sys.modules[name]
        self.assertEqual(self.kept(), {})
        importlib.import_module(name)
        self.assertEqual(self.kept(), {})

    def test_nothing_of_what_djangos_settings_read(self) -> None:
        name = self.module(READ)
        with mock.patch.object(migrations.Django, "apply", lambda *_: importlib.import_module(name)):
            migrations.migrate(migrations.Django("shop.settings"), mock.Mock(), self.place)
        self.assertEqual(self.kept(), {})

    def test_nothing_of_other_threads_and_other_times(self) -> None:
        getitem = os._Environ.__getitem__
        names = [self.module(READ) for _ in range(3)]
        importlib.import_module(names[0])
        with early_reads.noted():
            other = threading.Thread(target=importlib.import_module, args=(names[1],))
            other.start()
            other.join()
        importlib.import_module(names[2])
        self.assertEqual(self.kept(), {})
        self.assertIs(os._Environ.__getitem__, getitem)

    def test_two_threads_that_migrate_side_by_side(self) -> None:
        getitem = os._Environ.__getitem__
        began, go_on = threading.Event(), threading.Event()
        name = self.module(READ)

        def other() -> None:
            with early_reads.noted():
                began.set()
                go_on.wait(10)
                importlib.import_module(name)

        thread = threading.Thread(target=other)
        with early_reads.noted():
            thread.start()
            began.wait(10)
        go_on.set()
        thread.join()
        self.assertEqual(self.kept(), {name: ["TEST_EARLY"]})
        self.assertIs(os._Environ.__getitem__, getitem)
