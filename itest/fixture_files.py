# SPDX-License-Identifier: Apache-2.0
"""Fixtures as files: where they are looked for and what they hold. Putting it into a database is a service's part.

    .sql           a script, run as it is
    .json  .yaml   {table: [{column: value, ...}, ...]}
    .csv           the rows of the table that the file is named after, below a line with the columns

The decorator `itest.fixtures` is here too. The module has another name, because a package cannot have both a module and
a function `fixtures`: which one `itest.fixtures` is would depend on what was imported first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from itest import naming
from itest.errors import DeclarationError, FixtureError

FORMATS = (".sql", ".json", ".yaml", ".yml", ".csv")
"""What a fixture's name may end in, in the order in which a name without an ending is tried."""

DIRECTORY = "fixtures"
"""Beside a test module, fixtures may lie in a directory of this name."""

F = TypeVar("F", bound=Callable[..., object])


def fixtures(*names: str | Path, service: str = "") -> Callable[[F], F]:
    """Decorator: load these fixtures for one test, after the reset and before `setUp`.

    Paths are relative to the test's module. `service` is the attribute of the declaration they go to; it is needed only
    where the class has several that load fixtures.
    """
    for name in names:
        try:
            check_name(name)
        except DeclarationError as error:
            raise DeclarationError(f"itest.fixtures: {error}") from None
    if not names:
        raise DeclarationError('itest.fixtures: name at least one fixture, @itest.fixtures("users.json")')

    def mark(test: F) -> F:
        if isinstance(test, type):
            raise DeclarationError(
                f"itest.fixtures is for single tests; for every test of {test.__name__} put the fixtures into the "
                f"declaration: postgres = Postgres(fixtures={[str(name) for name in names]})"
            )
        directory = directory_of(test.__module__)
        # Decorators apply from the bottom up, people read from the top down.
        wanted = [(service, directory, names), *getattr(test, "__itest_fixtures__", ())]
        test.__itest_fixtures__ = tuple(wanted)  # type: ignore[attr-defined]  # a mark on a function
        return test

    return mark


def load_marked(test: Callable[..., object], owner: str, loaders: dict[str, Any]) -> None:
    """Load what the decorator asked for into the views that have a `load`, by the names of their declarations."""
    wanted: dict[str, list[Path]] = {}
    for service, directory, names in getattr(test, "__itest_fixtures__", ()):
        known = ", ".join(loaders) or "none"
        if service and service not in loaders:
            raise FixtureError(f"{owner}: itest.fixtures names the service {service!r}; those that load are: {known}")
        if not service and len(loaders) != 1:
            raise FixtureError(
                f"{owner}: itest.fixtures does not know where to load {', '.join(map(str, names))}: the class has "
                f"{len(loaders)} services that load fixtures ({known}); say which: itest.fixtures(..., service='...')"
            )
        files = [locate(name, [directory]) for name in names]
        wanted.setdefault(service or next(iter(loaders)), []).extend(files)
    for service, files in wanted.items():  # In one load each, so that rows may refer to those of other files.
        loaders[service].load(*files)


def directory_of(module: str) -> Path:
    """The directory of a module by name; the working directory for one typed into a console."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


def check_name(name: object) -> None:
    """Raise DeclarationError for what cannot be a fixture's name."""
    if not isinstance(name, str | Path):
        raise DeclarationError(f"a fixture is named by a path, not by {name!r}")


def locate(name: str | Path, places: Iterable[Path]) -> Path:
    """The file that a fixture's name means. Raises FixtureError that lists where it was looked for.

    The ending may be left out where only one file fits.
    """
    if not isinstance(name, str | Path):
        raise FixtureError(f"a fixture is named by a path, not by {name!r}; several are arguments of their own")
    tried: list[Path] = []
    places = [*places]
    endings = ("",) if Path(name).suffix in FORMATS else FORMATS
    for place in dict.fromkeys(place / below for place in places for below in ("", DIRECTORY)):
        path = place / name
        candidates = [path.with_name(path.name + ending) for ending in endings]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if len(found) > 1:
            names = " and ".join(candidate.name for candidate in found)
            raise FixtureError(f"the fixture {str(name)!r} could be {names} in {place}: add the ending")
        if found:
            return found[0].resolve()
        tried += candidates if path.suffix in FORMATS else [path.with_name(path.name + ".*")]
    looked = ", ".join(str(path.resolve()) for path in dict.fromkeys(tried))
    # Only now, because a name without an ending may have a dot: `shop.users` is the table of a schema.
    kinds = "" if Path(name).suffix in ("", *FORMATS) else f"; fixtures are {', '.join(FORMATS)}"
    # The module's own directory is the first.
    near = (
        naming.further_up(place, Path(below, f"{name}{ending}"))
        for place in places[:1]
        for below in ("", DIRECTORY)
        for ending in endings
    )
    hint = next(filter(None, near), "")
    raise FixtureError(f"there is no fixture {str(name)!r}; looked for {looked}{kinds}{hint}")


__all__ = ["FORMATS", "check_name", "directory_of", "fixtures", "load_marked", "locate"]
