# SPDX-License-Identifier: Apache-2.0
"""What a migrator is, and how its failure is told: file, line, statement and the server's own words."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import os
import traceback
import unittest
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from itest import naming, script
from itest.errors import ConfigError, DeclarationError, ItestError, MigrationError

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from itest.services.postgres import PostgresView

    class Own(Protocol):
        """A migrator of a user's own, without `base`."""

        def fingerprint(self) -> str: ...

        def apply(self, view: PostgresView) -> object: ...

    class Models(Protocol):
        """SQLAlchemy's declarative base, or whatever else has its metadata."""

        @property
        def metadata(self) -> MetaData: ...

    Migrations: TypeAlias = "Migrator | Own | Callable[[PostgresView], object] | str | Path | MetaData | Models"
    """What a declaration's `migrations` may be: see `itest.migrations.migrator`."""


@runtime_checkable
class Migrator(Protocol):
    """The two methods of a migrator. `base` is the directory of the test module, for relative paths; a migrator of a
    user's own, which has none, may do without it: `fingerprint()` and `apply(view)`.

    Where it has an attribute `lasting` that is false, what it makes is not kept for later runs: then its fingerprint
    does not say all that shapes what it does. Where it has a method `during(view)`, that is a context manager which a class
    that has the view runs in; what it gives is not used, but for a `Held` (`Service.during`).
    """

    def fingerprint(self, base: Path) -> str:
        """Equal as long as `apply` would do the same; it names the template database."""

    def apply(self, view: PostgresView, base: Path) -> None:
        """Migrate the empty database of this view. Raises MigrationError."""


class Placeless:
    """A migrator whose methods take no `base`."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self.lasting = getattr(own, "lasting", True)

    def fingerprint(self, base: Path) -> str:
        return str(self._own.fingerprint())

    def apply(self, view: PostgresView, base: Path) -> None:
        self._own.apply(view)


def with_base(own: Migrator) -> Migrator:
    """As both methods are called: with `base`."""
    try:
        inspect.signature(own.fingerprint).bind(Path())
    except TypeError:
        return Placeless(own)
    return own


PATH = (str, os.PathLike)


def check(what: str, value: object, kinds: type | tuple[type, ...], words: str) -> None:
    """Raise TypeError where what a migrator is given is of another type."""
    if not isinstance(value, kinds):
        raise TypeError(f"{what}={value!r}: it takes {words}")


def patterns_of(depends_on: Iterable[str]) -> tuple[str, ...]:
    """`depends_on` of a migrator. Raises TypeError, for one text too: its letters would be patterns."""
    if isinstance(depends_on, PATH):
        raise TypeError(f"depends_on must be a list: depends_on=[{str(depends_on)!r}]")
    check("depends_on", depends_on, Iterable, "a list of glob patterns")
    return tuple(depends_on)


def contents_of(base: Path, patterns: Iterable[str]) -> list[tuple[str, bytes]]:
    """The names and bytes of the files that glob patterns mean, in order; a directory means all files below it.

    Raises ConfigError for a pattern that means nothing: what it should have covered could change unnoticed.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        # pathlib globs relative patterns only; `..` and absolute ones are resolved by walking from their fixed part.
        matches = sorted(_glob(base, pattern))
        files = [file for match in matches for file in (sorted(match.rglob("*")) if match.is_dir() else [match])]
        files = [file for file in files if file.is_file() and file.suffix != ".pyc"]
        if not files:
            raise ConfigError(f"depends_on: there is no file {pattern!r} in {base}")
        found.update(dict.fromkeys(files))
    return [(file.name, file.read_bytes()) for file in found]


def _glob(base: Path, pattern: str) -> Iterator[Path]:
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if set("*?[") & set(part)), len(parts))
    place = base.joinpath(*parts[:fixed])
    if fixed == len(parts):
        return iter([place] if place.exists() else [])
    return place.glob(str(Path(*parts[fixed:])))


@dataclass(slots=True)
class Progress:
    """What a migrator itself knows of where it was when it failed, and what to try."""

    file: Path | None = None
    statement: str = ""
    advice: str = ""


@contextlib.contextmanager
def reported(title: str, is_migration: Callable[[Path], bool] = lambda file: False) -> Iterator[Progress]:
    """Turn what a migration raises into a MigrationError. `is_migration` knows its files among the traceback's."""
    progress = Progress()
    try:
        yield progress
    except Exception as error:
        if isinstance(error, ItestError | unittest.SkipTest) and not isinstance(error, DeclarationError):
            raise
        file, line, source = _place(error, is_migration)
        statement = _statement(error) or progress.statement
        file = file or progress.file
        place = f" at {script.shown(file)}" if file else ""
        place += f", line {line}" if line else ""
        what = f"; in the statement: {naming.shorten(statement, 200)}" if statement else ""
        if not statement and source:
            what = f"; in the line: {naming.shorten(source)}"
        advice = f"; {progress.advice}" if progress.advice else ""
        message = naming.mask(f"{title} failed{place}: {_reason(error)}{what}{advice}")
        raise MigrationError(message, file=file, line=line, statement=statement) from error


def _place(error: BaseException, is_migration: Callable[[Path], bool]) -> tuple[Path | None, int, str]:
    """The innermost frame that lies in a migration."""
    place: tuple[Path | None, int, str] = (None, 0, "")
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if is_migration(file):
            place = (file, line, linecache.getline(str(file), line).strip())
    return place


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: SQLAlchemy's `orig`, otherwise its cause."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, "orig", None) or current.__cause__


def _statement(error: BaseException) -> str:
    """The SQL that failed: SQLAlchemy keeps it in `statement`, psycopg2 in the cursor."""
    for link in _chain(error):
        statement = getattr(link, "statement", None)
        if isinstance(statement, str) and statement:
            return statement.strip()
        query = getattr(getattr(link, "cursor", None), "query", None)
        if isinstance(query, bytes) and query:
            return query.decode("utf-8", "replace").strip()
    return ""


def _reason(error: BaseException) -> str:
    """The server's words where the server failed, else the error's own."""
    for link in _chain(error):
        diag: Any = getattr(link, "diag", None)
        if getattr(diag, "message_primary", None):
            return script.reason_of(link)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
