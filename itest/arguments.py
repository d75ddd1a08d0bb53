# SPDX-License-Identifier: Apache-2.0
"""Arguments as people give them, as what they stand for. What is wrong raises DeclarationError, which is a TypeError too: a
sentence that begins with what was given wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from itest.errors import DeclarationError

Text: TypeAlias = "str | os.PathLike[str] | int | float"
"""What a text may be given as. Not True: some programs read `true`, others `1`."""


def text_of(what: str, value: object) -> str:
    if _is_text(value):
        return _text(value)
    raise DeclarationError(f"{what} must be a text, a Path or a number, not {value!r:.80}")


def bytes_of(what: str, value: object, cure: str = "") -> bytes:
    """Bytes, also given as a text. What is wrong is told with `cure`, what to write instead."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise DeclarationError(f"{what} must be a text or bytes{cure}, not {value!r:.80}")


def variables_of(what: str, value: object) -> dict[str, str]:
    """Environment variables. No value is ever shown: it may be secret."""
    return {name: _text(text) for name, text in _variables(what, value)}


def changes_of(what: str, value: object) -> dict[str, str | None]:
    """As `variables_of`, where None takes a variable away."""
    return {name: None if text is None else _text(text) for name, text in _variables(what, value, type(None))}


def _variables(what: str, value: object, *also: type) -> Iterable[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise DeclarationError(f"{what} must be a dict, {{'NAME': value}}, not a {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name:
            raise DeclarationError(f"{what}: {name!r} is no name of a variable")
        if not (_is_text(text) or isinstance(text, also)):
            raise DeclarationError(
                f"{what}: {name} is a {type(text).__name__}, not a text: write one, in quotes or by str(), or leave it out"
            )
        yield name, text


def words_of(what: str, command: object) -> tuple[str, ...]:
    """A command as a list of words: a text is split as a shell does it, though none runs it."""
    if isinstance(command, str):
        import shlex

        try:
            return tuple(shlex.split(command))
        except ValueError as error:
            raise DeclarationError(f"{what}: {command!r:.80} is no command: {error}") from None
    return _words(what, command)


def shell_words_of(what: str, command: Sequence[Text] | str) -> tuple[str, ...]:
    """As `words_of`, but a text is run by the shell where the command runs."""
    return ("/bin/sh", "-c", command) if isinstance(command, str) else _words(what, command)


def _words(what: str, command: object) -> tuple[str, ...]:
    if not isinstance(command, Sequence) or isinstance(command, bytes | bytearray | memoryview):
        raise DeclarationError(f"{what}: {command!r:.80} is no command: write a list of words, or a text")
    return tuple(text_of(f"{what}: a word of the command", word) for word in command)


def _is_text(value: object) -> bool:
    return isinstance(value, str | os.PathLike | int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """As a plain text: an Enum that is a text or a number too has a `str()` of its own."""
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
    return kind.__str__(value) if kind is str else kind.__repr__(value)
