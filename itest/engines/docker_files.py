# SPDX-License-Identifier: Apache-2.0
"""Files into a container and out of it. Through the API, so that it works on a daemon elsewhere too."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from itest.engines.docker_errors import check
from itest.errors import ItestError, StartError

if TYPE_CHECKING:
    import tarfile


def put(client: Any, container: str, files: Mapping[str, bytes | Path]) -> None:
    """Put each file or directory at its absolute path, readable by all. A directory is added to what is there.

    Raises StartError for one that is not there, and what the SDK raises: also where a file would take a directory's place,
    with all that is in it, or a directory that of a file.
    """
    if not files:
        return
    # Without this option, which the SDK's `put_archive` does not know, Docker removes what is in the way.
    with client.put(
        f"{client.base_url}/v{client.api_version}/containers/{container}/archive",
        params={"path": "/", "noOverwriteDirNonDir": "1"},
        data=_archive(files),
        timeout=client.timeout,
    ) as response:
        check(response)


def take(client: Any, container: str, path: str, target: Path | None = None) -> bytes:
    """The content of a file, written to `target` too where there is one; or a directory's content into that directory. Of
    a link, what it leads to.

    Raises ItestError for a directory without a target.
    """
    import tarfile  # Few runs copy files.

    chunks, facts = client.get_archive(container, path)
    if leads_to := (facts or {}).get("linkTarget"):  # To its very end, as Docker says it.
        chunks, _ = client.get_archive(container, str(PurePosixPath(path).parent / leads_to))
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        first = archive.next()
        assert first is not None, "Docker sends what it has found"
        if not first.isdir():
            file = archive.extractfile(first)
            content = b"" if file is None else file.read()
            if target is not None:
                target = target / PurePosixPath(path).name if target.is_dir() else target
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            return content
        if target is None:
            raise ItestError(f"{path} is a directory: say where it is to be copied to, copy_from({path!r}, directory)")
        target.mkdir(parents=True, exist_ok=True)
        for entry in archive:
            _, _, entry.name = entry.name.partition("/")  # The first part is the directory itself.
            if entry.islnk():
                _, _, entry.linkname = entry.linkname.partition("/")
            if entry.name:
                _extract(archive, entry, target)
    return b""


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    """Into that directory, and nowhere else: links out of it, to absolute paths for one, are left out, as devices are."""
    import tarfile

    if hasattr(tarfile, "data_filter"):
        with contextlib.suppress(tarfile.FilterError):
            archive.extract(entry, target, set_attrs=False, filter="data")
        return
    # Before Python 3.11.4, which Debian 12 has.
    place = target / entry.name
    ends = place.parent / entry.linkname if entry.issym() else target / entry.linkname if entry.islnk() else place
    kept = entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()
    if kept and all(each.resolve().is_relative_to(target.resolve()) for each in (place, ends)):
        archive.extract(entry, target, set_attrs=False)


def _archive(files: Mapping[str, bytes | Path]) -> bytes:
    import tarfile

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
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    # Podman reads no further, and fails now and then where more comes: tarfile fills its archives up to 10 KiB.
    buffer.truncate(end)
    return buffer.getvalue()


def _of_nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root and readable by all: the user inside is hardly the one who runs the tests."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    return entry
