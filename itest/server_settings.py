# SPDX-License-Identifier: Apache-2.0
"""Settings of a server as a declaration has them: `settings={"max_connections": 200, "jit": False}`; and images that take them
in ways of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itest.errors import DeclarationError

Setting = str | int | float

OTHERS = frozenset({"bitnami", "bitnamilegacy"})
"""Whose images are configured by variables of their own."""


def texts(settings: Mapping[str, Setting] | None, words: tuple[str, str]) -> dict[str, str]:
    """The settings as text; `words` are those that the server has for True and False."""
    return {
        name: words[not value] if isinstance(value, bool) else str(value) for name, value in (settings or {}).items()
    }


def check(settings: Any, ours: Mapping[str, str], example: str) -> None:
    """Raise DeclarationError for what is no mapping of names to values, and for settings that itest makes itself: `ours`
    says of each why."""
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        raise DeclarationError(f"settings must map names to values, {example}, not {settings!r}")
    for name, value in settings.items():
        if not isinstance(name, str) or not name.replace("-", "").replace(".", "").isidentifier():
            raise DeclarationError(f"{name!r} in settings is no name of a setting; write {example}")
        if not isinstance(value, str | int | float):
            raise DeclarationError(
                f"{name} in settings is a {type(value).__name__}, which is no value: text, numbers, True and False are"
            )
        if name.lower() in ours:
            raise DeclarationError(f"{name} in settings: {ours[name.lower()]}")


def check_image(image: str, official: str, instead: str) -> None:
    """Raise DeclarationError for an image of those; `instead` is what to use, of the `official` one and its like."""
    if OTHERS.intersection(image.partition("@")[0].split("/")):
        raise DeclarationError(
            f"image {image!r} is not configured like the official {official} image; use {instead}, or declare it as a "
            f"Container"
        )
