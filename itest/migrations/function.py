# SPDX-License-Identifier: Apache-2.0
"""Migrations that are a function."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.migrations.protocol import contents_of, patterns_of, reported

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView


CURE = "make it a plain function, in which asyncio.run() runs coroutines"


class Function:
    """A function that takes the view and migrates its database.

    Its source is its fingerprint, with what it closes over, its defaults, and the state of an object that can be called
    or whose method this is. `depends_on` are glob patterns of further files that shape what it does. Raises TypeError for
    a coroutine function, which nobody would await.
    """

    def __init__(self, function: Callable[[PostgresView], object], depends_on: Iterable[str] = ()) -> None:
        called = function.func if isinstance(function, functools.partial) else function
        if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(type(called).__call__):
            raise TypeError(f"the migration {_title(called)} is a coroutine function, and nothing awaits it: {CURE}")
        self.function = function
        self.depends_on = patterns_of(depends_on)
        self.lasting = bool(self.depends_on)  # Only if somebody has said what shapes it.

    def fingerprint(self, base: Path) -> str:
        return naming.fingerprint("Function", _shape(self.function, {}), contents_of(base, self.depends_on))

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


def _shape(value: Any, seen: dict[int, object]) -> object:
    """What a function does and a value holds, as far as that can be known: the same in every process.

    One factory may make many functions of one source, and one class many objects that can be called. So what a function
    closes over and its defaults are part of it, and so is the state of an object. `seen` holds what may lead back to
    itself.
    """
    if isinstance(value, tuple):
        return [_shape(item, seen) for item in value]
    kind: Any = type(value)
    by_state = callable(value) or kind.__repr__ is object.__repr__  # Its address, another one in each process.
    if not by_state and not isinstance(value, list | dict):
        return repr(value)
    if id(value) in seen:
        return "again"
    seen[id(value)] = value
    parts: tuple[object, ...]
    if isinstance(value, list | dict):
        parts = tuple(value.items() if isinstance(value, dict) else value)
    elif isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif inspect.isclass(value):
        return _class_text(value)  # type: ignore[arg-type]  # a class can be hashed
    elif inspect.ismethod(value):
        parts = (value.__func__, value.__self__)
    elif inspect.isfunction(value):
        # Otherwise the source of what `functools.wraps` has made is that of the function inside.
        own = _text(value, value.__code__ if hasattr(value, "__wrapped__") else value)
        return [own, _shape((_closed_over(value), value.__defaults__, value.__kwdefaults__), seen)]
    elif inspect.isroutine(value):  # Built-in.
        return _text(value, value)
    else:
        parts = (kind, kind.__call__ if callable(value) else None, object.__getstate__(value))
    return _shape(parts, seen)


def _closed_over(function: Any) -> tuple[object, ...]:
    found: list[object] = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # Empty until whoever makes the function assigns it.
            found.append(cell.cell_contents)
    return tuple(found)


def _text(named: Any, source: Any) -> list[str]:
    """Its name, its module (`view.execute(SCHEMA)` is the same source in each, and another schema) and its source."""
    name = [str(getattr(named, "__module__", "")), str(getattr(named, "__qualname__", named))]
    try:
        return [*name, inspect.getsource(source)]
    except (OSError, TypeError):  # Built-in, or typed into a console: only its name is known.
        return name


@functools.lru_cache(64)
def _class_text(kind: type) -> list[str]:
    """Kept, because finding a class means parsing its module, which takes up to 50 ms."""
    return _text(kind, kind)


def _file(function: Any) -> Path | None:
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return Path(inspect.getfile(function if inspect.isroutine(function) else type(function)))
    except TypeError:
        return None
