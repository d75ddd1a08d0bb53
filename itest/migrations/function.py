# SPDX-License-Identifier: Apache-2.0
"""Migrations that are a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.migrations.protocol import bytes_of, reported

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


CURE = "make it a plain function, in which asyncio.run() runs coroutines"


class Function:
    """A function that takes the view and migrates its database.

    Its source is its fingerprint. `depends_on` are glob patterns of further files that shape what it does. Raises TypeError
    for a coroutine function, which nobody would await.
    """

    def __init__(self, function: Callable[[PostgresView], object], depends_on: Iterable[str] = ()) -> None:
        called = function.func if isinstance(function, functools.partial) else function
        if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(type(called).__call__):
            raise TypeError(f"the migration {_title(called)} is a coroutine function, and nothing awaits it: {CURE}")
        self.function = function
        self.depends_on = tuple(depends_on)

    def fingerprint(self, base: Path) -> str:
        return naming.fingerprint("Function", _source(self.function), bytes_of(base, self.depends_on))

    @property
    def lasting(self) -> bool:
        """Whether what it makes may be kept for later runs: only if somebody has said what shapes it."""
        return bool(self.depends_on)

    def apply(self, view: PostgresView, base: Path) -> None:
        title = _title(self.function)
        own = _file(self.function)
        with reported(f"the migration {title}", lambda file: file == own):
            made = self.function(view)
            if inspect.iscoroutine(made):
                made.close()  # Or Python warns that nobody awaited it.
                raise TypeError(f"it returned a coroutine, and nothing awaits that: {CURE}")

    def __repr__(self) -> str:
        return f"Function({self.function!r})"


def _title(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _source(function: Any) -> object:
    if isinstance(function, functools.partial):
        return [_source(function.func), repr(function.args), repr(sorted(function.keywords.items()))]
    if not inspect.isroutine(function):
        function = type(function)  # An object that can be called: its class is its source.
    try:
        # What it closes over and its defaults are part of it: one factory may make many functions of the same source.
        closed_over = [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
        # So does its module: `view.execute(SCHEMA)` is the same source in each, and another schema.
        name = (function.__module__, function.__qualname__)
        return [name, inspect.getsource(function), closed_over, repr(getattr(function, "__defaults__", None))]
    except (OSError, TypeError, ValueError):  # Built-in, or typed into a console: only its name is known.
        return str(getattr(function, "__qualname__", function))


def _file(function: Any) -> Path | None:
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return Path(inspect.getfile(function if inspect.isroutine(function) else type(function)))
    except TypeError:
        return None
