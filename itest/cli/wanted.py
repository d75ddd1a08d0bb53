# SPDX-License-Identifier: Apache-2.0
"""What services a command line asks for: names of services, with an image or not, and test classes by name or path."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import unittest
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from itest.case import ContainerMixin, ContainerTestCase
from itest.config import Config
from itest.errors import ConfigError
from itest.service import Server, Service
from itest.session import Session
from itest.whole_run import tests_of

SERVICES = {
    "postgres": "itest.services.postgres:Postgres",
    "redis": "itest.services.redis:Redis",
    "kafka": "itest.services.kafka:Kafka",
}
"""The services that can be asked for by their names alone."""


def classes(wanted: Sequence[str]) -> list[type[ContainerMixin]]:
    """Test classes with what is asked for: `postgres,redis=valkey/valkey:8`, `tests.test_orders.OrderTest`,
    `tests/test_orders.py`, `tests/`. Services that are named get a class of their own.

    Raises ConfigError for what is no such thing.
    """
    found: list[type[ContainerMixin]] = []
    named: dict[str, str] = {}
    for word in (word.strip() for text in wanted for word in text.split(",")):
        if not word:
            continue
        name, image = (part.strip() for part in (*word.split("=", 1), "")[:2])
        if name in SERVICES:
            if named.setdefault(name, image) != image:
                raise ConfigError(
                    f"{name} is named twice, with different images, the second time as {word!r}: leave one out"
                )
        elif "." in word or "/" in word or Path(f"{word}.py").is_file() or Path(word).is_dir():
            found += [cls for cls in _of_tests(word) if cls not in found]
        else:
            raise ConfigError(
                f"{word!r} is neither a service ({', '.join(SERVICES)}; with an image, redis=valkey/valkey:8) nor a test "
                f"class nor a module or package here (tests.test_orders.OrderTest, tests/test_orders.py, tests/)"
            )
    if not named and not found:
        raise ConfigError(f"no service and no test class is named, but {' '.join(map(repr, wanted))}")
    services = {name: _service(name, image) for name, image in named.items()}
    return [*([type("Services", (ContainerTestCase,), services)] if services else []), *found]


def session(config: Config) -> Session:
    """What starts it. It tells nothing at its end: the page and the table that the settings ask for are those of a run of
    tests, and a page that is there stays."""
    return Session(replace(config, report="", timing=False))


@contextlib.contextmanager
def output_aside() -> Iterator[None]:
    """Within the `with`, what test modules, migrations and programs that they run print goes to standard error: standard
    output is for the result alone."""
    sys.stdout.flush()
    output = os.dup(1)
    try:
        if sys.stderr is not None:  # Else descriptor 2 may be anybody's.
            os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
        sys.stdout.flush()  # Of those who write to `sys.__stdout__`.
    finally:
        os.dup2(output, 1)
        os.close(output)


def url_of(server: Server[Any]) -> str:
    """The URL of the server as a whole, its password included, as the settings of an external server take it."""
    return str(getattr(server, "address", "") or getattr(server, "bootstrap_servers", ""))


def setting_of(service: Service[Any]) -> str:
    """The variable by which itest takes such a server as an external one; empty where there is none."""
    return f"ITEST_{service.external_setting.upper()}" if service.external_setting else ""


def _service(name: str, image: str) -> Service[Any]:
    module, _, attribute = SERVICES[name].partition(":")
    declaration = getattr(importlib.import_module(module), attribute)
    service: Service[Any] = declaration(image) if image else declaration()
    service.check("itest", name)
    return service


def _of_tests(target: str) -> list[type[ContainerMixin]]:
    """The test classes with services of a package, module, class or test."""
    if sys.path[:1] != [str(Path.cwd())]:
        sys.path.insert(0, str(Path.cwd()))
    loader, name = unittest.TestLoader(), _dotted(target)
    package = Path.cwd().joinpath(*name.split("."))
    try:
        # By its name, what is directly in a package would be loaded, and no module of it.
        # One without an __init__.py is taken as `unittest discover` takes it.
        top = "." if (package / "__init__.py").is_file() else None
        suite = loader.discover(str(package), top_level_dir=top) if package.is_dir() else loader.loadTestsFromName(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # Whatever a test module does when it is imported.
        raise ConfigError(f"the tests {target} cannot be loaded: {type(error).__name__}: {error}") from error
    if loader.errors:
        raise ConfigError(f"the tests {target} cannot be loaded:\n{str(loader.errors[-1]).strip()}")
    found = list(dict.fromkeys(type(test) for test in tests_of(suite) if isinstance(test, ContainerMixin)))
    found = [cls for cls in found if cls._itest_declarations]
    if not found:
        raise ConfigError(f"no test class with services in {target}")
    return found


def _dotted(target: str) -> str:
    """`tests/test_orders.py::OrderTest` as a module is imported: `tests.test_orders.OrderTest`."""
    path, *names = target.split("::")
    if path.endswith(".py") or "/" in path or path in (".", ".."):
        file = Path(path).resolve()
        if not file.is_relative_to(Path.cwd()):
            raise ConfigError(f"{path} is not below the working directory, from which test modules are imported")
        relative = file.relative_to(Path.cwd())
        if relative.suffix not in ("", ".py") and not file.is_dir():
            raise ConfigError(f"{path} is no Python file; a class of one is named tests/test_orders.py::OrderTest")
        path = ".".join((relative.parent / relative.stem).parts)  # Of the working directory itself nothing is left.
    return ".".join([path, *names])
