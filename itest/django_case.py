# SPDX-License-Identifier: Apache-2.0
"""What classes need of us that derive from Django's own test cases: these write to databases by themselves."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from itest.errors import DeclarationError
from itest.migrations.django import leading, mirrored

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).


def check_databases(cls: Any) -> None:
    """Raise DeclarationError where one that the class may use is neither the class's nor for tests: Django would write to it,
    and TransactionTestCase empties it after each test."""
    connections = importlib.import_module("django.db").connections
    for alias in connections if cls.databases else ():  # Else nobody may have configured any.
        settings = connections.settings[alias]
        if leading(settings) or (alias not in cls.databases and cls.databases != "__all__"):
            continue
        if not _is_for_tests(connections[mirrored(settings) or alias]):
            module = importlib.import_module("django.conf").settings.SETTINGS_MODULE or "shop.settings"
            which = "" if alias == "default" else f", database={alias!r}"
            name = str(settings["NAME"])
            raise DeclarationError(
                f"{cls.__qualname__}: its databases name {alias!r}, and no declaration leads it away from the project's own, "
                f"{name!r}, which Django's test cases write to or empty: declare postgres = Postgres(migrations=Django("
                f"{module!r}{which})), or take it out of databases; if it is there for tests, say so in DATABASES by "
                f"'TEST': {{'NAME': {name!r}}}"
            )


def fill(cls: Any) -> None:
    """Write its test data. Of the models' objects that this leaves on the class each test gets copies, as on
    django.test.TestCase; clients and the like are not to be copied."""
    model = importlib.import_module("django.db.models").Model
    before = dict(vars(cls))
    cls.setUpTestData()
    for name, value in [*vars(cls).items()]:
        objects = value if isinstance(value, list | tuple) else [value]
        if value is not before.get(name) and objects and all(isinstance(each, model) for each in objects):
            setattr(cls, name, importlib.import_module("django.test.testcases").TestData(name, value))


def _is_for_tests(connection: Any) -> bool:
    """Whether Django's runner has made it, or pytest-django or another by `setup_databases`, which leaves no other sign than the
    name: setup_test_environment() may have been called without."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        return True
    settings = connection.settings_dict
    name, given = str(settings["NAME"]), str(settings.get("TEST", {}).get("NAME") or "")
    root, suffix = os.path.splitext(given)
    pattern = rf"{re.escape(root)}(_\d+)?{re.escape(suffix)}" if given else "test_.*"  # With the number of a worker.
    return re.fullmatch(pattern, name) is not None
