# SPDX-License-Identifier: Apache-2.0
"""`init`: scripts that a new server runs once, before anything else, in the database that all others are cloned from.

In a container they are the image's own business, in /docker-entrypoint-initdb.d. A local process has no such place:
there itest runs them, which is the same for SQL and cannot be done for shell scripts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest.errors import DeclarationError, Unavailable

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres

PLACE = "/docker-entrypoint-initdb.d"

ENDINGS = (".sql", ".sql.gz", ".sql.xz", ".sql.zst", ".sh")

NOT_FOR_PROCESSES = {
    ".sh": "is written for the inside of a container",
    ".zst": "is compressed by zstd, which only the image unpacks",
}
"""What only the image runs, and why."""


def check(init: Any) -> None:
    """Raise DeclarationError for what cannot be a list of scripts."""
    for name in init:
        if not isinstance(name, str | Path):
            raise DeclarationError(f"a script of init is named by a path, not by {name!r}")
        if Path(name).suffix and not str(name).endswith(ENDINGS):
            raise DeclarationError(
                f"init names {str(name)!r}, but the image runs {', '.join(ENDINGS)} only; a directory stands "
                f"for such files in it"
            )


def scripts(service: Postgres) -> dict[str, Path]:
    """The scripts by the names that they run under, in order. Raises DeclarationError for one that is not there.

    The image runs what it has there by name. Ours come after its own, which make extensions, and in our order; those of
    a directory have one number, so that the image runs them as it would if that were its own.
    """
    return {
        f"zz-itest-{number:03}-{file.name}": file
        for number, name in enumerate(service.init, 1)
        for file in _files(name, service.directory)
    }


def in_container(service: Postgres) -> dict[str, bytes | Path]:
    return {f"{PLACE}/{name}": file for name, file in scripts(service).items()}


def in_process(service: Postgres) -> dict[str, str | bytes]:
    """For a local process, whose files tell whether it is the same server. Raises Unavailable for what it cannot run."""
    found = scripts(service)
    for file in found.values():
        if reason := NOT_FOR_PROCESSES.get(file.suffix):
            from itest import script

            raise Unavailable(
                f"init names {script.shown(file)}, which {reason}: local processes run .sql, .sql.gz and .sql.xz only, "
                f"use Docker"
            )
    return {f"init/{name}": file.read_bytes() for name, file in found.items()}


def _files(name: str | Path, base: Path) -> list[Path]:
    path = (base / name).resolve()
    if path.is_dir():
        found = [each for each in path.iterdir() if each.name.endswith(ENDINGS)]
        if not found:
            raise DeclarationError(f"init names the directory {path}, which has no file of {', '.join(ENDINGS)}")
        return sorted(found, key=_place)
    if path.is_file():
        return [path]
    raise DeclarationError(
        f"init names {str(name)!r}, but there is no {path}; paths are relative to the module of the test class"
    )


def _place(file: Path) -> tuple[str, str]:
    """Where a local process runs it among others of its directory: as bash sorts names in the official image's locale,
    en_US.utf8, by their letters and digits first (those of ASCII, with an accent or without). Images of Alpine go by code
    points."""
    import unicodedata  # Few name a directory.

    plain = unicodedata.normalize("NFKD", file.name)  # An accent becomes a character of its own, which is no letter.
    return "".join(filter(str.isalnum, plain)).casefold(), file.name.swapcase()
