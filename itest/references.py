# SPDX-License-Identifier: Apache-2.0
"""References between the services of a class: `"{postgres.url}"` in the text of a declaration is that attribute of its
neighbour's view, as whoever reads the text reaches it; and the order of start that follows from that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from itest.errors import DeclarationError, ItestError
from itest.service import Service, View
from itest.spec import BRACE

T = TypeVar("T")

_BEGIN = rf"(?:(?<!\{{)|(?!\{{[^{{}}]*\}}\}})){BRACE}"

REFERENCE = rf"{_BEGIN}([A-Za-z_]\w*)\.([A-Za-z_]\w*)\}}"
"""Other braces stay as they are: JSON, `{port}`, those that BRACE leaves out, and `{{user.name}}`, which is for a program
with templates."""

_AS_IN_A_TEST = rf"{_BEGIN}(?:self|cls)\.(([A-Za-z_]\w*)\.[A-Za-z_]\w*)\}}"


def needs(service: Service[Any]) -> list[str]:
    """The names of the services that must run before this one, each once."""
    texts = [text for field in service.texts for text in _texts(getattr(service, field))]
    found = [match[1] for text in texts for match in re.finditer(REFERENCE, text)]
    return list(dict.fromkeys([*service.depends_on, *found]))


def check(owner: str, declared: Sequence[tuple[str, Service[Any]]]) -> None:
    """Raise DeclarationError for references that lead nowhere, in a circle, or to what is not there in time."""
    services = dict(declared)
    for name, service in declared:
        # In variables alone: a command or a file may be a program in Python.
        for text in _texts(getattr(service, "env", ()) if "env" in service.texts else ()):
            for match in re.finditer(_AS_IN_A_TEST, text):
                if match[2] in services:
                    raise DeclarationError(
                        f"{owner}.{name}: env: {match[0]} is written {{{match[1]}}}, without what a test has before it"
                    )
        for other in needs(service):
            if other not in services:
                raise DeclarationError(
                    f"{owner}.{name} refers to {other!r}, which is no service of {owner}; "
                    f"there are {', '.join(each for each in services if each != name) or 'no others'}"
                )
            if service.scope == "session":
                raise DeclarationError(
                    f"{owner}.{name} refers to {other!r}, whose data is the class's own, so it cannot be shared by all "
                    f"classes: leave scope='session' out"
                )
            if services[other].scope == "test" and service.scope != "test":
                raise DeclarationError(
                    f"{owner}.{name} refers to {other!r}, which each test has anew: give {name} scope='test' too"
                )
    waves(owner, declared)


def waves(owner: str, declared: Sequence[tuple[str, Service[Any]]]) -> list[list[str]]:
    """The names of the services in the order of their start: those of a list start side by side.

    Raises DeclarationError where they go round in a circle.
    """
    left = {name: set(needs(service)) for name, service in declared}
    found: list[list[str]] = []
    while left:
        wave = [name for name, missing in left.items() if not missing & left.keys()]
        if not wave:
            circle = [f"{name} refers to {' and '.join(sorted(of & left.keys()))}" for name, of in left.items()]
            raise DeclarationError(
                f"{owner}: its services wait for one another: {', '.join(circle)}; take one of these references out"
            )
        found.append(wave)
        for name in wave:
            del left[name]
    return found


def resolved(service: Service[Any], label: str, views: Mapping[str, View]) -> Service[Any]:
    """The declaration with its references replaced by what the views say. Raises DeclarationError for an attribute
    that a view does not have."""

    def value(match: re.Match[str]) -> str:
        view = views[match[1]]
        try:
            said = getattr(view.inside(match[1]) if service.in_container else view, match[2])
        except ItestError as error:
            raise DeclarationError(f"{label}: {match[0]}: {error}") from None
        except AttributeError:
            raise DeclarationError(
                f"{label}: {match[0]}: {match[1]} has no {match[2]!r}; it has {', '.join(_attributes(view))}"
            ) from None
        if not isinstance(said, str | int):
            raise DeclarationError(f"{label}: {match[0]} is no text but {type(said).__name__}")
        return str(said)

    changes = {
        field: _replaced(getattr(service, field), lambda text: re.sub(REFERENCE, value, text))
        for field in service.texts
    }
    return service.replace(**changes).at_place_of(service) if changes else service


def _attributes(view: View) -> list[str]:
    """What texts may mention of a view: its texts and numbers."""
    found = {
        name
        for each in type(view).__mro__
        for name, what in vars(each).items()
        if isinstance(what, property) and getattr(what.fget, "__annotations__", {}).get("return") in ("str", "int")
    }
    found |= {name for name, value in vars(view).items() if isinstance(value, str | int)}
    return sorted(name for name in found if not name.startswith("_") and name != "attribute")  # Which is itest's own.


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _replaced(value: T, change: Callable[[str], str]) -> T | Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _replaced(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(each, change) for each in value)
    return value
