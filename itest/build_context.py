# SPDX-License-Identifier: Apache-2.0
"""The files of an image's build: which ones Docker gets of a directory (.dockerignore), and a fingerprint of them."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from itest.errors import BuildError

IGNORE = ".dockerignore"


def find(context: str | Path, dockerfile: str | Path) -> tuple[Path, Path]:
    """The directory and the Dockerfile, both absolute. Raises BuildError that names the path where one is missing."""
    root = Path(os.path.abspath(Path(context).expanduser()))
    if not root.is_dir():
        problem = "is no directory" if root.exists() else "does not exist"
        raise BuildError(
            f"could not build an image: its context {root} {problem}; check the path given as build, or as its context"
        )
    # It may lie outside of the context, as with the docker command.
    recipe = Path(os.path.normpath(root / Path(dockerfile).expanduser()))
    if not recipe.is_file():
        near = sorted(path.name for path in root.iterdir() if "dockerfile" in path.name.lower() and path.is_file())
        there = f"; its context has {', '.join(near)}" if near else ""
        raise BuildError(
            f"could not build an image: there is no file {recipe}{there}; a Dockerfile's path is relative to its context"
        )
    return root, recipe


def files(root: Path, recipe: Path) -> list[str]:
    """What of the context counts, directories included: sorted paths relative to it."""
    return sorted(_walk(root, "", patterns(root, recipe)))


def digest(root: Path, recipe: Path) -> str:
    """Equal for equal content, wherever it lies: names, kinds, modes and bytes count, times and owners do not."""
    total = hashlib.sha256(_digest_of(recipe).encode())
    for name in files(root, recipe):
        path = root / name
        try:
            facts = path.lstat()
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            else:
                content = _digest_of(path) if stat.S_ISREG(facts.st_mode) else ""
        except OSError as error:
            raise BuildError(f"could not build an image: {path} cannot be read: {error.strerror}") from None
        total.update(f"{name}\0{facts.st_mode:o}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]


def patterns(root: Path, recipe: Path) -> list[tuple[bool, re.Pattern[str]]]:
    """What .dockerignore says: for each line whether it takes back (`!`) what lines before it left out, and which paths
    it means. `<Dockerfile>.dockerignore` comes first, as with the docker command."""
    for file in (recipe.with_name(recipe.name + IGNORE), root / IGNORE):
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            break
    else:
        return []
    found = []
    for line in lines:
        text = "" if line.startswith("#") else line.strip()
        kept, text = text.startswith("!"), text.removeprefix("!").strip()
        if text := os.path.normpath(text).strip("/") if text else "":
            try:
                found.append((kept, re.compile(_expression(text), re.DOTALL)))
            except re.error:
                raise BuildError(
                    f"could not build an image: {file} has the line {line!r}, which is no pattern"
                ) from None
    return found


def is_ignored(name: str, ignored: list[tuple[bool, re.Pattern[str]]]) -> bool:
    """Whether a path, or a directory that it lies in, is left out. The last line that fits decides."""
    parts = name.split("/")
    paths = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    out = False
    for kept, pattern in ignored:
        if kept == out and any(pattern.fullmatch(path) for path in paths):
            out = not kept
    return out


def _walk(root: Path, below: str, ignored: list[tuple[bool, re.Pattern[str]]]) -> Iterator[str]:
    try:
        entries = list(os.scandir(root / below))
    except OSError as error:
        raise BuildError(f"could not build an image: {root / below} cannot be read: {error.strerror}") from None
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        directory = entry.is_dir(follow_symlinks=False)
        out = is_ignored(name, ignored) or name == IGNORE  # Docker would apply the file once more.
        if not out and (directory or entry.is_symlink() or entry.is_file()):  # Sockets and the like cannot be sent.
            yield name
        # Below what is left out there may be files that a later line takes back.
        if directory and (not out or any(kept for kept, _ in ignored)):
            yield from _walk(root, name, ignored)


_TOKEN = re.compile(
    r"(?P<deep>\*\*/)|(?P<any>\*\*)|(?P<set>\[\^?(?:\\.|[^]\\])+])|\\(?P<literal>.)|(?P<other>.)", re.DOTALL
)


def _expression(pattern: str) -> str:
    """A line as a regular expression: `*`, `?` and `[a-z]` within a name, `**` across directories."""

    def one(found: re.Match[str]) -> str:
        if found["deep"]:
            return "(?:.*/)?"
        if found["any"]:
            return ".*"
        if found["set"]:
            return "(?!/)" + found["set"]
        if found["literal"]:
            return re.escape(found["literal"])
        return {"*": "[^/]*", "?": "[^/]"}.get(found["other"], re.escape(found["other"]))

    return _TOKEN.sub(one, pattern)


def _digest_of(path: Path) -> str:
    facts = path.stat()
    return _digest(str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@functools.lru_cache(maxsize=16384)
def _digest(path: str, *version: int) -> str:
    """Of a file's bytes. Read once per version: a run asks several times for the fingerprint of a declaration."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


OUTSIDE = ".itest-dockerfile"
"""What a Dockerfile is called to Docker that is no file of the context, or one that is left out."""


def pack(archive: IO[bytes], root: Path, recipe: Path) -> str:
    """Write the context as a tar archive, and give the Dockerfile's name in it. Raises BuildError.

    Owners are root, as the docker command has it: who checked the files out must not matter.
    """
    names = files(root, recipe)
    own = os.path.relpath(recipe, root)
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if own not in names:
            own = OUTSIDE
            _add(tar, own, recipe.read_bytes())
            _add(tar, IGNORE, f"{own}\n{IGNORE}\n".encode())  # Docker reads the one, and leaves out both.
        for name in names:
            try:
                _add_file(tar, name, root / name)
            except OSError as error:
                reason = error.strerror or error
                raise BuildError(f"could not build an image: {root / name} cannot be read: {reason}") from None
    archive.seek(0)
    return own


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    member = tar.gettarinfo(path, name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isreg() or member.islnk():  # A second name of a file is sent as a file of its own.
        with path.open("rb") as file:
            member.type, member.size = tarfile.REGTYPE, os.fstat(file.fileno()).st_size
            tar.addfile(member, file)
    else:
        tar.addfile(member)
