# SPDX-License-Identifier: Apache-2.0
"""The README as tests: documentation that is run cannot lie.

Each block marked `python` that makes a test class is executed, and its tests run through itest on whatever engine the
settings choose. A block goes on with the names of those before it, as a reader does. Every other block marked `python`
must compile. Files that an example mentions (`migrations`, `users.sql`) are looked for in tests/readme/.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<source>.*?)^ *```$", re.MULTILINE | re.DOTALL)
FILES = Path(__file__).resolve().parent / "readme"


class Block(NamedTuple):
    """A block of code and the line of the file on which its first line stands."""

    source: str
    line: int

    @property
    def has_tests(self) -> bool:
        return re.search(r"^class \w*Test\b", self.source, re.MULTILINE) is not None


def blocks(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        yield Block(textwrap.dedent(found["source"]), text.count("\n", 0, found.start("source")) + 1)


class ReadmeTest(unittest.TestCase):
    """One block: that it compiles, and that its class can be made if it makes one."""

    def __init__(self, file: Path, block: Block, error: BaseException | None = None) -> None:
        super().__init__("runTest")
        self.file, self.block, self.error = file, block, error

    def runTest(self) -> None:
        if self.error is not None:
            raise self.error
        compiled(self.file, self.block)

    def id(self) -> str:
        return f"{self.file.name}:{self.block.line}"

    def __str__(self) -> str:
        return f"the block at {self.id()}"


def suite(loader: unittest.TestLoader, file: Path) -> unittest.TestSuite:
    """The tests that the file shows; none where there is no such file."""
    tests = unittest.TestSuite()
    if not file.is_file():
        return tests
    names: dict[str, object] = {}
    for block in blocks(file.read_text(encoding="utf-8")):
        error = None
        if block.has_tests:
            module = types.ModuleType(f"{file.stem}_line_{block.line}", f"The example at {file.name}:{block.line}.")
            module.__file__ = str(FILES / f"{module.__name__}.py")
            sys.modules[module.__name__] = module  # Runners find a class by its module's name; so does pickle.
            before = {**names, **vars(module)}
            vars(module).update(before)
            try:
                exec(compiled(file, block), vars(module))
            except Exception as failure:
                error = failure  # Raised when the tests run: an error while loading would hide all other tests.
            for name, value in vars(module).items():
                new = name not in before or value is not before[name]
                if new and isinstance(value, type) and issubclass(value, unittest.TestCase):
                    # Not the classes that the block only imported.
                    tests.addTests(loader.loadTestsFromTestCase(value) if value.__module__ == module.__name__ else ())
            names.update({name: value for name, value in vars(module).items() if not name.startswith("__")})
        tests.addTest(ReadmeTest(file, block, error))
    return tests


def compiled(file: Path, block: Block) -> types.CodeType:
    """The block's code, with the file's own line numbers in tracebacks; top-level `await` is allowed in examples."""
    source = "\n" * (block.line - 1) + block.source
    code = compile(source, str(file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert isinstance(code, types.CodeType)
    return code
