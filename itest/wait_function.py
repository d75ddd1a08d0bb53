# SPDX-License-Identifier: Apache-2.0
"""A user's own function as a check. It is given the view, which only the service can make: see `Check.bound`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from itest.engines import ExecResult, Instance
from itest.errors import DeclarationError, ItestError
from itest.wait import Check, NotReady, ViewOf


def check_of(ready: object) -> Check:
    """What a declaration says of `ready`, as a check. Raises DeclarationError for what is neither one nor a function."""
    if isinstance(ready, Check):
        return ready
    if not callable(ready):
        raise DeclarationError(f"ready: {ready!r} is neither a check, like http('/health'), nor a function")
    if str(getattr(ready, "__module__", "")).startswith("itest."):
        name = getattr(ready, "__name__", "it")
        raise DeclarationError(f"ready: {name} makes a check and is none: write {name}(...)")
    if inspect.iscoroutinefunction(ready):
        raise DeclarationError("ready: the function is async, and nothing would await it; make it a plain one")
    try:
        signature = inspect.signature(ready)
    except (TypeError, ValueError):
        # What is written in C may not tell what it takes, or have a `__signature__` of its own kind.
        return Called(ready)
    try:
        signature.bind(object())
    except TypeError:
        raise DeclarationError(
            f"ready: the function takes {signature}, and is given one argument, the view: write `lambda view: ...`"
        ) from None
    return Called(ready)


def has_function(check: Check) -> bool:
    """Whether a function is among its parts."""
    return any(isinstance(part, Called) for part in check.parts())


class Called(Check):
    """The function returns something true. What it raises means "not yet", but for mistakes in the function."""

    def __init__(self, function: Callable[[Any], object], view: ViewOf | None = None) -> None:
        self._function = function
        self._view = view

    def bound(self, view: ViewOf) -> Check:
        return Called(self._function, view)

    def __call__(self, instance: Instance) -> None:
        assert self._view is not None, "it has not been told how to make a view"
        with contextlib.closing(self._view(instance)) as view:
            try:
                value = self._function(view)
            except NotReady:
                raise
            except Exception as error:
                if _is_mistake(error, view):
                    raise
                said = str(error) if isinstance(error, ItestError) else f"it raised {type(error).__name__}: {error}"
                raise NotReady(said) from error
        if isinstance(value, Check):
            raise DeclarationError(
                f"ready: {self} returned a check, and nothing has looked at it; declare the check itself"
            )
        if isinstance(value, ExecResult):
            value = value.exit_code == 0
        if not value:
            more = "; it must return something true" if value is None else ""
            raise NotReady(f"it returned {value!r}{more}")

    def __str__(self) -> str:
        name = getattr(self._function, "__name__", "")
        return f"the function {name} to return something true" if name.isidentifier() else "its function to be true"


def _is_mistake(error: Exception, view: object) -> bool:
    """Whether no waiting helps: what the function names does not exist. An attribute that the view or a module lacks is
    one, but not that of a value which is None until there is something."""
    if isinstance(error, AttributeError):
        return error.obj is view or isinstance(error.obj, ModuleType)
    return isinstance(error, NameError | ImportError | DeclarationError)
