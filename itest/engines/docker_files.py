# SPDX-License-Identifier: Apache-2.0
"""Files that are put into a container before it starts. Through the API, so that it works on a daemon elsewhere too."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from itest.errors import StartError


def put(client: Any, container: str, files: Mapping[str, bytes | Path]) -> None:
    """Put each file or directory at its absolute path, readable by all. Raises StartError for one that is not there."""
    if files:
        client.put_archive(container, "/", _archive(files))


def _archive(files: Mapping[str, bytes | Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place, what in files.items():
            name = str(PurePosixPath(place)).lstrip("/")
            if isinstance(what, bytes):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(what), 0o644
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
