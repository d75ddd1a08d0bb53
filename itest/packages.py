# SPDX-License-Identifier: Apache-2.0
"""What is not installed: packages of clients, and programs of servers. Each is named with what brings it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from itest.errors import ItestError, MissingPackage, Unavailable

PARTS = {
    "aiokafka": "structs",
    "alembic": "command",
    "asyncpg": "prepared_stmt",
    "django": "shortcuts",
    "docker": "errors",
    "kafka": "errors",
    "psycopg2": "extensions",
    "redis": "client",
    "rich": "console",
    "sqlalchemy": "exc",
    "uvicorn": "importer",
    "waitress": "adjustments",
}
"""A module of each client, by which it is told from a directory of tests that has its name: of `tests/redis/__init__.py`,
`python -m unittest discover -s tests` makes a package `redis` that comes before all others."""

_imported: dict[str, ModuleType] = {}
"""The client packages that were imported here, and all that they have brought along."""


def lazily(package: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """A package's `__getattr__` (PEP 562) for names that a class body does not need, each from the module given for it: a
    server can be starting while that is imported."""

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{places[name]}"), name)

    return find


def client_package(package: str, extra: str, purpose: str) -> Any:
    """Import a client package at the last moment, once: a test may take it out of `sys.modules`, as `mock.patch.dict` does at
    its end with all that was imported meanwhile, and many an extension ends the process where it is imported again.

    Raises MissingPackage, naming the extra that brings it.
    """
    root = package.partition(".")[0]
    if package in _imported and package not in sys.modules:
        for name, module in _imported.items():
            sys.modules.setdefault(name, module)
    before = None if package in sys.modules else set(sys.modules)
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = error.name or package
        if not (package + ".").startswith(missing + "."):
            raise  # The package is there, but something that it needs is not: its own message says so.
        raise MissingPackage(missing, extra, purpose, stranger(root)) from error
    if other := stranger(root):
        raise MissingPackage(root, extra, purpose, other)
    if before is not None:
        _imported.update((name, module) for name, module in dict(sys.modules).items() if name not in before)
    return found


def need_client(package: str, extra: str, purpose: str) -> None:
    """Raise MissingPackage where a client package is not installed, without the time that importing it takes."""
    try:
        found = importlib.util.find_spec(package)
    except ValueError:
        return  # Something that was made, and not imported, has its place.
    if found is None or found.origin is None:  # A directory of that name is no package.
        raise MissingPackage(package, extra, purpose)
    if other := _stranger(package, found):
        raise MissingPackage(package, extra, purpose, other)


def too_old(package: ModuleType, lowest: str, extra: str, purpose: str) -> ItestError:
    """The error for a client package that is installed and cannot do what is asked of it."""
    return ItestError(
        f"{purpose} needs {package.__name__} {lowest} or later, and {package.__version__} is installed: "
        f"pip install 'itest-containers[{extra}]'"
    )


def stranger(package: str) -> str:
    """The file of another package that Python finds by a client's name; empty where there is none."""
    try:
        need_client(package, "", "")
    except MissingPackage as error:
        return error.other
    return ""


def _stranger(package: str, found: ModuleSpec) -> str:
    if (part := PARTS.get(package)) is None:
        return ""
    places = found.submodule_search_locations or []
    if any(os.path.isfile(os.path.join(place, f"{part}.py")) for place in places):  # As always, but in an archive.
        return ""
    return "" if PathFinder.find_spec(f"{package}.{part}", places) else str(found.origin)


def no_program(title: str, tried: Sequence[str], cure: str, unfit: Sequence[str] = ()) -> Unavailable:
    """No program for the process engine: one sentence on what was looked for, why what was found will not do, and what to
    install."""
    found = f"; found, but {' and '.join(unfit)}" if unfit else ""
    return Unavailable(f"no {title} for local processes (looked for {', '.join(tried)}{found}); {cure}")
