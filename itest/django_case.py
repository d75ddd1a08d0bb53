# SPDX-License-Identifier: Apache-2.0
"""What classes need of us that derive from Django's own test cases: these write to databases by themselves."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from itest.errors import DeclarationError
from itest.migrations.django import leading, mirrored

NONE = "django.db.backends.dummy"
"""The ENGINE of settings without DATABASES."""

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).


def check_databases(cls: Any) -> None:
    """Raise DeclarationError where one that the class may use is neither the class's nor for tests: Django would write to it,
    and TransactionTestCase empties it after each test."""
    connections = importlib.import_module("django.db").connections
    has_own = any(service.kind == "postgres" for _, service in cls._itest_declarations)
    if not has_own and _is_rolled_back(cls):
        return  # As without itest: where its tests use the database at all, nothing of that stays.
    for alias in connections if cls.databases else ():  # Else nobody may have configured any.
        settings = connections.settings[alias]
        if leading(settings) or (alias not in cls.databases and cls.databases != "__all__"):
            continue
        followed = mirrored(settings) or alias
        if settings["ENGINE"] != NONE and not _is_for_tests(connections[followed]):
            module = importlib.import_module("django.conf").settings.SETTINGS_MODULE or "shop.settings"
            declared, which = ("postgres", "") if followed == "default" else (followed, f", database={followed!r}")
            instead = "take it out of databases"
            if not has_own:
                instead = "derive from django.test.SimpleTestCase where the tests use none, or write databases = set()"
            raise DeclarationError(
                f"{cls.__qualname__}: its databases name {alias!r}, and no declaration leads it away from the project's own, "
                f"{str(settings['NAME'])!r}, which Django's test cases write to or empty: declare {declared} = Postgres("
                f"migrations=Django({module!r}{which})), or {instead}; if it is there for tests, say so in DATABASES by "
                f"'TEST': {{'NAME': {str(connections.settings[followed]['NAME'])!r}}}"
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


def _is_rolled_back(cls: Any) -> bool:
    """Whether Django holds a transaction for the class: else its TestCase is a TransactionTestCase too."""
    django = importlib.import_module("django.test.testcases")
    return issubclass(cls, django.TestCase) and django.connections_support_transactions(cls._validate_databases())


def _is_for_tests(connection: Any) -> bool:
    """Whether Django's runner has made it, or pytest-django or another by `setup_databases`, which leaves no other sign than the
    name: setup_test_environment() may have been called without."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        return True
    settings = connection.settings_dict
    name, given = str(settings["NAME"]), str(settings.get("TEST", {}).get("NAME") or "")
    root, suffix = os.path.splitext(given)
    number = r"(_\d+)?"  # Of a worker: SQLite's stands before what it takes for the ending.
    pattern = rf"{re.escape(root)}{number}{re.escape(suffix)}{number}" if given else "(.*_)?test(_.*)?"
    return re.fullmatch(pattern, name) is not None
