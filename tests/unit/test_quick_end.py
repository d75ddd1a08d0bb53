# SPDX-License-Identifier: Apache-2.0
"""The end of a process is hastened only where nobody could notice: programs here end with something left to do, or
nothing, and tell what became of it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from itest.quick_end import all_done

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import atexit, gc, sys
before = gc.get_freeze_count()  # Python 3.12 begins with some.
atexit.register(lambda: print("frozen" if gc.get_freeze_count() > before else "as ever", flush=True))
from itest import testing
{}
with testing.session(testing.MemoryEngine()):
    pass
"""


class Ending:
    def __del__(self) -> None:
        """Anything at all."""


class AllDoneTest(unittest.TestCase):
    def test_what_has_no_end_of_its_own(self) -> None:
        self.assertTrue(all_done([1, "text", [], {}, unittest, Ending, self]))

    def test_somebodys_del(self) -> None:
        self.assertFalse(all_done([Ending()]))

    def test_a_class_that_inherits_one(self) -> None:
        self.assertFalse(all_done([type("Heir", (Ending,), {})()]))

    def test_files(self) -> None:
        with tempfile.TemporaryFile("w") as file:
            self.assertFalse(all_done([file]))
            self.assertFalse(all_done([file.buffer]))
        self.assertTrue(all_done([file, file.buffer]))
        self.assertTrue(all_done([sys.__stdout__, sys.__stderr__, sys.__stdin__]))
        self.assertTrue(all_done([io.StringIO(), io.BytesIO()]))
        self.assertFalse(all_done([type("Own", (io.StringIO,), {})()]))

    def test_sockets(self) -> None:
        with socket.socket() as one:
            self.assertFalse(all_done([one]))
        self.assertTrue(all_done([one]))

    def test_generators(self) -> None:
        def numbers() -> Iterator[int]:
            yield 1

        never, half, done = numbers(), numbers(), numbers()
        next(half)
        list(done)
        self.assertTrue(all_done([never, done]))
        self.assertFalse(all_done([half]))
        half.close()

    def test_children(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            self.assertFalse(all_done([child]))
            child.communicate(b"\n")
        self.assertTrue(all_done([child]))

    def test_coroutines(self) -> None:
        async def some() -> None: ...

        coroutine = some()
        self.assertFalse(all_done([coroutine]))
        coroutine.close()


class ProgramTest(unittest.TestCase):
    def told(self, code: str = "", *options: str, **environment: str) -> str:
        """What a program prints that has opened a session, and has this besides."""
        ran = subprocess.run(
            [sys.executable, "-S", *options, "-c", PROGRAM.format(code)],  # Not what this installation adds.
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return ran.stdout

    def test_nothing_left_to_do(self) -> None:
        self.assertEqual(self.told(), "frozen\n")

    def test_a_del_in_a_cycle_is_called(self) -> None:
        code = "class C:\n    def __del__(self): print('told')\nC.one = C(); C.one.me = C.one"
        self.assertEqual(self.told(code), "as ever\ntold\n")

    def test_a_file_that_nobody_closed_is_written(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "file")
            code = f"class C: file = open({str(path)!r}, 'w')\nC.file.write('text')"
            self.assertEqual(self.told(code, "-W", "ignore"), "as ever\n")
            self.assertEqual(path.read_text(encoding="utf-8"), "text")

    def test_what_a_generator_ends_with_is_done(self) -> None:
        code = "class C:\n    @staticmethod\n    def f():\n        try: yield\n        finally: print('told')\nC.f = C.f(); next(C.f)"
        self.assertEqual(self.told(code), "as ever\ntold\n")

    def test_whoever_looks_for_leaks_finds_them(self) -> None:
        self.assertIn("as ever\n", self.told("gc.set_debug(gc.DEBUG_SAVEALL)"))

    def test_an_object_that_cannot_be_looked_at(self) -> None:
        code = (
            "import io\nclass Strange(io.RawIOBase):\n    closed = property(lambda self: 1 / 0)\n    def __del__(self): pass\n"
            "class C: one = Strange()"
        )
        self.assertEqual(self.told(code), "as ever\n")

    def test_without_a_session_all_is_as_ever(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM.format("").rpartition("with")[0]],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(ran.stdout, "as ever\n", ran.stderr)


if __name__ == "__main__":
    unittest.main()
