# SPDX-License-Identifier: Apache-2.0
"""Files into a container and out of it. Through the API, so that it works on a daemon elsewhere too."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from itest.errors import ItestError, StartError


def put(client: Any, container: str, files: Mapping[str, bytes | Path]) -> None:
    """Put each file or directory at its absolute path, readable by all. Raises StartError for one that is not there."""
    if files:
        client.put_archive(container, "/", _archive(files))


def take(client: Any, container: str, path: str, target: Path | None = None) -> bytes:
    """The content of a file; with a `target`, the file or directory is written there as well, under that very name.

    Raises ItestError for a directory without a target.
    """
    chunks, _ = client.get_archive(container, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        first = archive.next()
        assert first is not None, "Docker sends what it has found"
        if first.isdir() and target is None:
            raise ItestError(f"{path} is a directory: say where it is to be copied to, copy_from({path!r}, directory)")
        if target is None:
            file = archive.extractfile(first)
            return b"" if file is None else file.read()
        for entry in archive:
            _, _, rest = entry.name.partition("/")
            archive.extract(entry.replace(name=rest or ".") if first.isdir() else entry, target, filter="data")
    return b""


def _archive(files: Mapping[str, bytes | Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place, what in files.items():
            name = str(PurePosixPath(place)).lstrip("/")
            if isinstance(what, bytes):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(what), 0o755 if what.startswith(b"#!") else 0o644
                archive.addfile(entry, io.BytesIO(what))
            elif what.exists():
                archive.add(what, name, filter=_of_nobody)
            else:
                raise StartError(f"could not put {what} into the container as {place}: there is no such file")
    return buffer.getvalue()


def _of_nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root and readable by all: the user inside is hardly the one who runs the tests."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    return entry
