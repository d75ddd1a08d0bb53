# SPDX-License-Identifier: Apache-2.0
"""Kept states of local processes: one archive each, unpacked into a new instance's directory.

One file is read faster than the 1600 of a PostgreSQL directory are copied, and is there whole or not at all. Its name has a
checksum in it: on data with a fault a server may start, and fail in the tests. Measured with 50 MB: taking it needs 21 ms,
while tar needs 38 on another core, and with both it is 38 to 41.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming
from itest.errors import StartError
from itest.spec import ProcessSpec

if TYPE_CHECKING:
    import tarfile

UNPACK_TIMEOUT = 30.0
"""Seconds that unpacking may take. It takes some hundredths of one."""


def identity(spec: ProcessSpec) -> str:
    """What a state depends on besides the spec: the very program, by its place, size and time. Empty: cannot be kept."""
    if _tar() is None:
        return ""
    try:
        program = os.path.realpath(spec.argv[0])
        status = os.stat(program)
    except OSError:
        return ""
    return f"{program} {status.st_size} {status.st_mtime_ns}"


def pack(place: Path, directories: Iterable[str], archive: Path) -> int:
    """Write these directories of an instance's directory into an archive, and it to the disk. Returns its size."""
    import tarfile

    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for directory in directories:
                tar.add(place / directory, directory, filter=_nameless)
        file.flush()
        os.fsync(file.fileno())  # Else a power cut may leave a file of the right size with nothing in it.
        return file.tell()


def name_of(fingerprint: str, archive: Path) -> str:
    """The name for this archive. Raises OSError."""
    import zlib

    checksum, buffer = 0, bytearray(256 * 1024)
    with archive.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            checksum = zlib.crc32(memoryview(buffer)[:size], checksum)
    return f"{fingerprint}.{checksum:08x}.tar"


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owners by number only: looking names up may take a network."""
    entry.uname = entry.gname = ""
    return entry


def unpack(archive: Path, place: Path, user: int | None) -> None:
    """Unpack an archive into an instance's directory, for a server that runs as `user`. Raises StartError."""
    import subprocess  # A run that finds its server starts none.

    program = _tar()
    assert program is not None, "there is no kept state where there is no tar"
    try:
        with subprocess.Popen(
            [program, "-xf", archive, "-C", place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C"},
        ) as process:
            try:
                name = name_of(archive.name.partition(".")[0], archive)  # Meanwhile.
                errors = process.communicate(timeout=UNPACK_TIMEOUT)[1]
            except BaseException:
                process.kill()
                raise
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"the kept state {archive} could not be unpacked: {error}") from error
    if process.returncode:
        said = errors.decode(errors="replace").strip()[-300:] or "it said nothing"
        raise StartError(
            f"the kept state {archive} could not be unpacked: tar {naming.exit_text(process.returncode)}: {said}"
        )
    if name != archive.name:
        raise StartError(f"the kept state {archive} is not what was written: its checksum is that of {name}")
    if os.geteuid() == 0:
        _give(place, os.geteuid() if user is None else user)


def _give(place: Path, user: int) -> None:
    """Who ran the server that the state was taken from need not be who runs this one."""
    for entry in os.scandir(place):
        if entry.is_dir(follow_symlinks=False):
            if entry.stat(follow_symlinks=False).st_uid == user:
                continue  # All of it is: one user wrote it.
            os.chown(entry.path, user, user)
            for root, directories, files in os.walk(entry.path):
                for name in (*directories, *files):
                    os.chown(os.path.join(root, name), user, user, follow_symlinks=False)


@cache
def _tar() -> str | None:
    return shutil.which("tar", path=os.defpath) or shutil.which("tar")
