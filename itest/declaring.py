# SPDX-License-Identifier: Apache-2.0
"""What is wrong with declarations of whatever service: a value of another kind, or one that is no declaration at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from itest.errors import DeclarationError
from itest.service import Service

PLAIN = {"str": (str, "a text"), "bool": (bool, "True or False"), "int": (int, "a whole number")}
"""Annotations of fields whose values can be checked, with what they mean in a sentence."""

EXAMPLES = {"image": " like 'busybox:1.37'"}

MAPPING = r"Files|Mapping\[((?!\] \|).)*\]"
"""The annotation of a field that takes a dict and nothing else."""


def check_attributes(cls: type) -> None:
    """Raise DeclarationError for a value that stands where a declaration should: nothing would be started for it."""
    declared: dict[str, type] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Service):
                declared[name] = type(value)
            elif type(value) in (tuple, list) and any(isinstance(each, Service) for each in value):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is a {type(value).__name__} of declarations; is there a comma behind it?"
                )
            elif name in declared and value is not None:
                example = (
                    f"{declared[name].__name__}({value!r})"
                    if isinstance(value, str)
                    else f"{declared[name].__name__}()"
                )
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is {value!r}, which is no declaration: write {example}, or None to opt out"
                )
            elif isinstance(value, type) and issubclass(value, Service) and value.__module__.startswith("itest."):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name} is the class {value.__name__}, which is no declaration: write {value.__name__}()"
                )


def check_types(service: Service[Any], where: str) -> None:
    """Raise DeclarationError for a field whose value is of another type than its annotation says."""
    if isinstance(service.depends_on, str):
        raise DeclarationError(f"{where}: depends_on must be a list: depends_on=[{service.depends_on!r}]")
    for field in fields(service):
        value = getattr(service, field.name)
        kind, words = PLAIN.get(str(field.type), (object, ""))
        if not isinstance(value, kind):
            shown = repr(value) if field.repr else f"a {type(value).__name__}"
            example = EXAMPLES.get(field.name, "")
            raise DeclarationError(f"{where}: {field.name} must be {words}{example}, not {shown}")
        if not isinstance(value, Mapping) and re.fullmatch(MAPPING, str(field.type)):
            # Not the value: variables may be secret.
            shown = "list" if isinstance(value, tuple) else type(value).__name__
            raise DeclarationError(f"{where}: {field.name} must be a dict, {{'name': value}}, not a {shown}")
        if field.type == "Mapping[str, str]" and isinstance(value, Mapping):
            for name, text in value.items():
                if not isinstance(text, str):
                    raise DeclarationError(f"{where}: {field.name}: {name}={text!r} is no text; write it in quotes")
