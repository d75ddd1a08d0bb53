# SPDX-License-Identifier: Apache-2.0
"""What is known of kept states: one small file each in the cache directory, readable by its user alone.

The file is written last and replaced as a whole, so a state that was not finished does not exist. Its time is that of
the last use. It holds the state's password, which is valid nowhere else and changed at each start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from itest import lock, naming, owners
from itest.clock import wall
from itest.tuples import NamedTuple

FORMAT = 2
"""Part of each fingerprint; raised when states are kept differently."""

RETRY = 24 * 3600.0
"""Seconds after which it is tried again to keep a state that could not be kept."""


class Record(NamedTuple):
    """One kept state: an image's id or the name of an archive beside this file, with its size in bytes.

    `failed` says instead why there is none: it is then not tried at the end of every run.
    """

    fingerprint: str
    service: str
    created: float
    secret: str = ""
    image: str = ""
    archive: str = ""
    size: int = 0
    failed: str = ""
    steps: Mapping[str, float] = MappingProxyType({})
    """Seconds that it took when there was nothing to begin with: `start`, and each template by its key."""
    remade: bool = False
    """It was made since the one before could not be begun with."""
    docker: str = ""
    """The address of the Docker that has the image."""

    def __repr__(self) -> str:
        return naming.show("Record", {**self._asdict(), "secret": naming.MASK})


def identity(cache: Path) -> str:
    """A name for the cache directory: images of several may lie on one Docker, and each sees to its own."""
    return naming.fingerprint("cache", owners.host(), str(cache.absolute()))


def address(cache: Path) -> str:
    """Where the cache directory is, for a label: on which machine, in which container if in any, and its path."""
    from urllib.parse import quote  # Only who makes an image needs it.

    return quote(os.fsencode(f"{owners.host()} {owners.container()} {cache.absolute()}"))


def exists(address: str) -> bool | None:
    """Whether the cache directory of that address does; None where that cannot be seen from here."""
    from urllib.parse import unquote_to_bytes

    *where, path = unquote_to_bytes(address).split(b" ", 2)
    if where != [os.fsencode(owners.host()), os.fsencode(owners.container())]:
        return None
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def directory(cache: Path) -> Path:
    return cache / "warm"


def make(cache: Path) -> Path:
    """The directory, made if need be. Raises OSError."""
    place = directory(cache)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def read(cache: Path, fingerprint: str) -> Record | None:
    """The record, if it is whole, and so is the archive that it names."""
    try:
        record = Record(**json.loads(_file(cache, fingerprint).read_text(encoding="utf-8")))
        if not _is_one(record) or record.fingerprint != fingerprint:
            return None  # Somebody has changed it, and no run, nor what lists and clears them, must end over that.
        if record.failed and record.created + RETRY < wall():
            return None
        if record.archive and archive(cache, record).stat().st_size != record.size:
            return None
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    naming.remember_secret(record.secret)
    return record


def _is_one(record: Record) -> bool:
    """Whether all of it is of the right type, and it says one thing: where the state is, or why there is none."""
    kinds = zip(record, Record("", "", 0.0, steps={}), strict=True)
    return (
        all(isinstance(value, type(default)) for value, default in kinds)
        and all(isinstance(seconds, int | float) for seconds in record.steps.values())
        and [bool(record.image), bool(record.archive), bool(record.failed)].count(True) == 1
        and record.archive == Path(record.archive).name
    )


def write(cache: Path, record: Record) -> None:
    """Replace the record. Raises OSError."""
    make(cache)
    text = json.dumps({**record._asdict(), "steps": dict(record.steps)})
    lock.replace(_file(cache, record.fingerprint), text)


def touch(cache: Path, fingerprint: str) -> None:
    """It is used now."""
    with contextlib.suppress(OSError):
        os.utime(_file(cache, fingerprint))


def last_used(cache: Path, fingerprint: str) -> float:
    try:
        return _file(cache, fingerprint).stat().st_mtime
    except OSError:
        return 0.0


def remove(cache: Path, record: Record) -> None:
    """Forget a state, and remove its archive. Its image is the engine's to remove."""
    with contextlib.suppress(OSError):
        _file(cache, record.fingerprint).unlink()
    if record.archive:
        with contextlib.suppress(OSError):
            archive(cache, record).unlink()


def all_of(cache: Path) -> Iterator[Record]:
    """The records of all states, failed ones too."""
    with contextlib.suppress(OSError):
        for file in sorted(directory(cache).glob("*.json")):
            if record := read(cache, file.stem):
                yield record


def archive(cache: Path, record: Record) -> Path:
    return directory(cache) / record.archive


def new_archive(cache: Path, fingerprint: str) -> Path:
    """A name for a new archive until it is complete: another one each time."""
    return make(cache) / f"{fingerprint}.{naming.random_hex(4)}.tar"


def lock_file(cache: Path, fingerprint: str) -> Path:
    return make(cache) / f"{fingerprint}.lock"


def strays(cache: Path, older: float) -> Iterator[Path]:
    """Files that no record names, and that nobody has written to for `older` seconds: of makers that were killed, the locks of
    states that were not worth keeping, and records that say nothing any more."""
    named = {"kafka.lock"}
    for record in all_of(cache):
        named |= {record.archive, f"{record.fingerprint}.json", f"{record.fingerprint}.lock"}
    with contextlib.suppress(OSError):
        for file in directory(cache).iterdir():
            with contextlib.suppress(OSError):
                if (
                    file.suffix in (".tar", ".new", ".lock", ".json")
                    and file.name not in named
                    and file.stat().st_mtime + older < wall()
                ):
                    yield file


def _file(cache: Path, fingerprint: str) -> Path:
    return directory(cache) / f"{fingerprint}.json"
