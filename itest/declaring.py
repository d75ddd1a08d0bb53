# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a class: with its declarations of whatever service, and with methods that nothing would ever await."""

from __future__ import annotations

import functools
import inspect
import re
import unittest
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields
from pathlib import Path
from typing import Any

from itest import naming
from itest.errors import DeclarationError
from itest.service import Service
from itest.service import attributes as attributes_of
from itest.spec import Port

KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a text"),
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "None": ((type(None),), ""),
    "Path": ((Path,), "a Path"),
    "PortText": ((int, str, Port), "a port"),
    "Sequence": ((Sequence, Set), "a list"),
    "Mapping": ((Mapping,), "a dict"),
    "Files": ((Mapping,), "a dict"),
}
"""What annotations of fields are made of whose values can be checked: the types, and what they mean in a sentence."""

EXAMPLES = {
    "image": " like 'busybox:1.37'",
    "memory": " like '512m'",
    "shm_size": " like '512m'",
    "topics": ", {'orders': 1}, with the number of each topic's partitions",
    "ready": " that says of which service: ready={'web': http('/health')}",
}

EXTERNAL = "external='TEST_SERVER_URL'"
"""What is meant by whoever writes a URL."""

REGISTRY = r"(https?|docker|oci|[\w-]+\.[\w.-]+)://"
"""How the name of an image begins that was copied from a browser or another tool."""

_INSTEAD = {
    "setUp": "make it a plain method, or name it asyncSetUp",
    "tearDown": "make it a plain method, or name it asyncTearDown",
    "setUpTestData": "make it a plain method, in which cls.runAsync(...) runs a coroutine",
    "setUpClass": "make it a plain method, or name it asyncSetUpClass and set loop_scope = 'class'",
    "tearDownClass": "make it a plain method, or name it asyncTearDownClass and set loop_scope = 'class'",
}
"""Methods that nothing awaits, and what to do in a class that runs coroutines."""

_OVERRIDDEN = (*_INSTEAD, "asyncSetUp", "asyncTearDown", "asyncSetUpClass", "asyncTearDownClass", "loop_scope")
"""What a test case takes from a class before it among the bases, and hides of one behind it."""

_HIDING = ("unittest.case", "unittest.async_case", "itest.async_case")
"""The modules whose test cases have these and do not call the next one's, as those of itest.case do."""


def check_attributes(cls: type) -> None:
    """Raise DeclarationError for a value that stands where a declaration should: nothing would be started for it."""
    declared: dict[str, type] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Service):
                if not isinstance(value, declared.get(name, Service)):
                    _check_shorthands(cls, name)
                declared[name] = type(value)
            elif type(value) in (tuple, list) and any(isinstance(each, Service) for each in value):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is a {type(value).__name__} of declarations; is there a comma behind it?"
                )
            elif name in declared and value is not None:
                kind, shown = declared[name].__name__, naming.mask(repr(value))
                if isinstance(value, str) and "://" in value:
                    cure = f"write {kind}({EXTERNAL}), where that names a variable that has it"
                else:
                    cure = f"write {kind}({repr(value) if isinstance(value, str) else ''})"
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is {shown}, which is no declaration: {cure}, or None to opt out"
                )
            elif isinstance(value, type) and issubclass(value, Service) and value.__module__.startswith("itest."):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is the class {value.__name__}, which is no declaration: write {value.__name__}()"
                )


def _check_shorthands(cls: type, name: str) -> None:
    """Raise DeclarationError where the class has another kind of service by that name than the shorthands of a mixin need."""
    from itest.shorthand import Shorthand  # Only a declaration of another kind than one before it needs it.

    attributes = attributes_of(cls)
    service = attributes[name]
    for mixin in cls.__mro__:
        needed = vars(mixin).get(name, service)
        if needed is None:  # Who opts out has given the shorthands up.
            return
        names = [
            each
            for each, value in vars(mixin).items()
            if isinstance(value, Shorthand) and value.service == name and attributes[each] is value
        ]
        if (
            names
            and isinstance(needed, Service)
            and isinstance(service, Service)
            and not isinstance(service, type(needed))
        ):
            raise DeclarationError(
                f"{cls.__qualname__}.{name} is a {type(service).__name__}, but {mixin.__name__}'s {' and '.join(names)} "
                f"need{'' if names[1:] else 's'} a {type(needed).__name__}; give it another name"
            )


def check_types(service: Service[Any], where: str) -> None:
    """Raise DeclarationError for a field whose value is of another type than its annotation says."""
    for field in fields(service):
        value = getattr(service, field.name)
        types, words = _wanted(str(field.type))
        if not _is_one_of(types, value):
            if words == "a list" and isinstance(value, str | Path):
                raise DeclarationError(f"{where}: {field.name} must be a list: {field.name}=[{str(value)!r}]")
            example = EXAMPLES.get(field.name, ", {'name': value}" if words == "a dict" else "")
            shown = naming.mask(repr(value))
            if value is None and ("a dict" in words or "a list" in words):
                shown = "None; leave it out if there is none"
            elif "a dict" in words or not field.repr:  # Variables may be secret.
                shown = f"a {'list' if isinstance(value, tuple) else type(value).__name__}"
            raise DeclarationError(f"{where}: {field.name} must be {words}{example}, not {shown}")
        if "Sequence[str]" in str(field.type) and isinstance(value, tuple):
            for text in value:
                if not isinstance(text, str):
                    raise DeclarationError(f"{where}: {field.name}: {naming.mask(repr(text))} is no text")
        if field.name == "image" and isinstance(value, str) and "://" in value:
            # Not the value: who writes a URL here writes its password too.
            scheme = re.match(REGISTRY, value)
            image = f"leave out {scheme[0]} if it is one's name; " if scheme else ""
            raise DeclarationError(
                f"{where}: that is a URL, not an image: {image}{EXTERNAL} names a variable that has the URL of a running server"
            )
        if field.type == "Mapping[str, str]":
            for name, text in value.items():
                if not isinstance(name, str):
                    raise DeclarationError(f"{where}: {field.name}: the name {name!r} is no text; write it in quotes")
                if not isinstance(text, str):
                    raise DeclarationError(
                        f"{where}: {field.name}: {name} is a {type(text).__name__}, not a text; write it in quotes"
                    )


def _is_one_of(types: tuple[type, ...], value: object) -> bool:
    """Whether the value is of one of these types; texts and bytes are sequences too, and never meant as a list."""
    if isinstance(value, str | bytes | bytearray):
        types = tuple(each for each in types if each is not Sequence)
    return isinstance(value, types)


@functools.cache
def _wanted(annotation: str) -> tuple[tuple[type, ...], str]:
    """The types that an annotation stands for, and in words; any where it names others than those above."""
    kinds = re.sub(r"\[.*?\](?= \||$)", "", annotation).split(" | ")
    if not KINDS.keys() >= set(kinds):
        return (object,), ""
    types, words = zip(*(KINDS[kind] for kind in kinds), strict=True)
    return sum(types, ()), " or ".join(filter(None, words))


def check_scope(cls: type, name: str, service: Service[Any]) -> None:
    """Raise DeclarationError where each test would have a server of its own after Django has used the database for it."""
    if (
        service.scope == "test"
        and hasattr(cls, "_fixture_setup")
        and hasattr(getattr(service, "migrations", None), "during")
    ):
        raise DeclarationError(
            f"{cls.__qualname__}.{name}: scope='test' starts a server when Django's test case has used the database already, "
            f"which would be the project's own: leave it out, or write scope='class'"
        )


def check_methods(cls: type) -> None:
    """Raise DeclarationError for methods of a test case that would pass, or never be called, in silence."""
    owner, runs_coroutines = cls.__qualname__, is_async(cls)
    awaits_tests = runs_coroutines or hasattr(cls, "_setup_and_call")  # Django's, which do so for tests alone.
    _check_order(cls)
    is_itests = any(base.__module__ == "itest.async_case" for base in cls.__mro__)
    attributes = attributes_of(cls)
    called = {
        "asyncSetUp": runs_coroutines,
        "asyncTearDown": runs_coroutines,
        "asyncSetUpClass": is_itests,
        "asyncTearDownClass": is_itests,
    }
    for name, is_called in called.items():
        if name in attributes and not is_called and not _calls(attributes, name):
            raise DeclarationError(
                f"{owner}.{name}: nothing would ever call it; make the class an AsyncContainerTestCase"
            )
    if attributes.get("loop_scope") == "class" and not is_itests:
        raise DeclarationError(
            f"{owner}.loop_scope: nothing would ever read it; make the class an AsyncContainerTestCase"
        )
    for name, value in attributes.items():
        if name in _INSTEAD:
            if inspect.iscoroutinefunction(getattr(value, "__func__", value)):
                raise DeclarationError(
                    f"{owner}.{name} is async: nothing would ever await it; "
                    f"{_INSTEAD[name] if runs_coroutines else 'make it a plain method'}"
                )
            if name not in ("setUp", "tearDown") and inspect.isfunction(value):
                raise DeclarationError(f"{owner}.{name} is no class method: write @classmethod above it")
        elif name.startswith("test") and inspect.iscoroutinefunction(value) and not awaits_tests:
            raise DeclarationError(
                f"{owner}.{name} is async but the class is not: it would pass without running; "
                f"make the class an AsyncContainerTestCase"
            )
        elif name.startswith("test") and (inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)):
            raise DeclarationError(
                f"{owner}.{name} has a `yield` in it, so it would pass without running: write the test without one"
            )


def _check_order(cls: type) -> None:
    for name in _OVERRIDDEN:
        having = [base for base in cls.__mro__ if name in vars(base) and base.__module__ != "itest.case"]
        hiding = next((base for base in having if base.__module__ in _HIDING), None)
        if hiding is None:
            continue
        before = _brought_by(cls, hiding)
        for hidden in having[having.index(hiding) + 1 :]:
            behind = _brought_by(cls, hidden)
            if behind is before or hidden.__module__ in _HIDING or _is_meant(cls, name, hiding, hidden):
                continue
            raise DeclarationError(
                f"{cls.__qualname__}: {hidden.__name__}.{name} would have no effect: list {behind.__name__} before "
                f"{before.__name__} among its bases"
            )


def _brought_by(cls: type, base: type) -> type:
    """The first of the bases of `cls` that has it from `base`, which may be `cls`."""
    return next(each for each in (*cls.__bases__, cls) if base in each.__mro__)


def _is_meant(cls: type, name: str, hiding: type, hidden: type) -> bool:
    """Whether there is nothing to call, or a class in front of `hiding` replaces the attribute of `hidden`, which it knows,
    or calls it by name."""
    if getattr(hidden, "_is_protocol", False) or getattr(vars(hidden)[name], "__isabstractmethod__", False):
        return True
    front = cls.__mro__[: cls.__mro__.index(hiding)]
    replaces = any(
        name in vars(base) and hidden in base.__mro__ and "super" not in _names_in(vars(base)[name]) for base in front
    )
    return replaces or any(
        {hidden.__name__, name} <= _names_in(value) for base in front for value in vars(base).values()
    )


def is_async(cls: type) -> bool:
    """Whether the class runs coroutines, without importing asyncio to find out: not because of an `asyncSetUp` of its own."""
    bases = (base for base in cls.__mro__ if "asyncSetUp" in vars(base))
    return any(issubclass(base, unittest.TestCase) and not hasattr(base, "_itest_declarations") for base in bases)


def _calls(attributes: Mapping[str, Any], name: str) -> bool:
    """Whether one of these methods calls the one of that name, as far as its own code tells."""
    return any(name in _names_in(value) for each, value in attributes.items() if each != name)


def _names_in(value: object) -> set[str]:
    """The names that the code of a method uses, but for its own variables; none where it is no method."""
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return set()
    code = getattr(inspect.unwrap(function), "__code__", function.__code__)
    return {*code.co_names, *code.co_freevars}
