# SPDX-License-Identifier: Apache-2.0
"""Lines of code, counted alike in Python, Rust and pseudo-code: not blank, not a comment, not a docstring.

`python -m tests.code_lines FILE...` prints the count of each file, and of each example in a Markdown file.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LAYOUT = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
)  # fmt: skip
NAMED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def python(source: str) -> int:
    """Raises SyntaxError."""
    told: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, NAMED) and ast.get_docstring(node, clean=False) is not None:
            told.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            held.update(range(token.start[0], token.end[0] + 1))
    lines = source.splitlines()
    return sum(1 for number in held - told if lines[number - 1].strip())


def other(source: str, comment: str = "//") -> int:
    lines = [line.strip() for line in source.splitlines()]
    return sum(1 for line in lines if line and not line.startswith(comment))


def count(source: str, language: str) -> int:
    if language != "python":
        return other(source)
    try:
        return python(source)
    except SyntaxError:  # Two files in one example, as "pytest.ini" and "conftest.py".
        return other(source, "#")


def examples(text: str) -> Iterator[tuple[int, str, int]]:
    """Line, language and count of each example of a Markdown file."""
    for found in FENCE.finditer(text.replace("\r\n", "\n")):
        yield text.count("\n", 0, found.start()) + 1, found[1], count(found[2], found[1])


def main(files: list[str]) -> None:
    for name in files:
        text = Path(name).read_text(encoding="utf-8")
        if name.endswith(".py"):
            print(f"{name}: {python(text)}")
        for line, language, lines in () if name.endswith(".py") else examples(text):
            print(f"{name}:{line}: {language or 'text'}: {lines}")


if __name__ == "__main__":
    main(sys.argv[1:])
