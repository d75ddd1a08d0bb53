# SPDX-License-Identifier: Apache-2.0
"""Which user a server runs as, and how it is told of its owner's death. Measured in docs/design.md, "Processes".

Servers such as PostgreSQL refuse user id 0, which is what CI containers run as. Nothing on the machine is changed for
that: no user is added and no permission of a foreign directory touched.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from itest.engines.launcher import signal_name
from itest.errors import StartError
from itest.spec import ProcessSpec

NOBODY = 65534
"""The user id to run as in place of 0. It must be in the user database: initdb looks its own name up."""

PROBE_WAIT = 10.0
"""Seconds that a probe may take; it takes 3 ms."""

COPY_LIMIT = 20_000
"""Files that an installed program may have to be copied; more means that the directory is not an installation."""


class Identity(NamedTuple):
    """Who a server runs as: commands that exec it in another identity, or a user id to change to."""

    prefix: tuple[str, ...] = ()
    user: int | None = None


class Privileges:
    """What this process may do here. Asked of the machine once, when first needed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def identity(self, spec: ProcessSpec) -> Identity:
        """Who the server runs as. Raises StartError when it refuses every identity that can be had."""
        if spec.runs_as_root or (os.geteuid() != 0 and _has_name(os.geteuid())):
            return Identity()
        # A namespace needs no other user's access to anything: the program may lie below a directory that is
        # closed to others (/root), and all files stay ours.
        if self._namespace:
            return Identity(prefix=self._namespace)
        if os.geteuid() != 0:
            return Identity()  # A user id without a name, as on OpenShift: only some programs mind.
        if self._can_change_user:
            return Identity(user=NOBODY)
        raise StartError(
            f"{spec} refuses to run as root, and here root may neither make a user namespace "
            f"(unshare -U --map-user={NOBODY}) nor change to user id {NOBODY}: run the tests as an ordinary user, "
            f"or give the container CAP_SETUID and CAP_SETGID"
        )

    def death_signal(self, number: int) -> tuple[str, ...]:
        """The command that has the kernel send a program this signal when its owner dies. Empty where none can.

        It must come after every change of identity, which clears the setting. Where it is missing (macOS, Alpine's
        busybox), the reaper alone sees to the end of orphans.
        """
        return (*self._setpriv, signal_name(number), "--") if self._setpriv else ()

    @cached_property
    def _setpriv(self) -> tuple[str, ...]:
        return self._probed("setpriv", "--pdeathsig", then=("SIGTERM", "--"))

    @cached_property
    def _namespace(self) -> tuple[str, ...]:
        return self._probed("unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")

    @cached_property
    def _can_change_user(self) -> bool:
        return _succeeds(["/bin/sh", "-c", ":"], user=NOBODY)

    def _probed(self, program: str, *options: str, then: Sequence[str] = ()) -> tuple[str, ...]:
        found = shutil.which(program, path=f"{self._path}{os.pathsep}{os.defpath}")
        if found and _succeeds([found, *options, *then, "/bin/sh", "-c", ":"]):
            return (found, *options)
        return ()


def reachable(program: str, identity: Identity) -> bool:
    """Whether that identity can run the program, which may lie below a directory that is closed to others."""
    return identity.user is None or _succeeds(["/bin/sh", "-c", '[ -x "$1" ]', "sh", program], user=identity.user)


def move_in(spec: ProcessSpec, directory: Path) -> ProcessSpec:
    """The spec with its program installed below a directory that everybody who needs it can reach.

    Files are hard links where they can be, so that nothing is copied. Raises StartError if this cannot be done.
    """
    program = Path(os.path.realpath(spec.argv[0]))
    source = program.parent.parent if program.parent.name in ("bin", "sbin") else program.parent
    target = directory / "itest.program"
    try:
        _copy_tree(source, target)
    except OSError as error:
        raise StartError(
            f"{spec} refuses to run as root, its program {program} cannot be reached by user id {NOBODY}, and "
            f"{source} could not be copied to {directory}: {error}. Run the tests as an ordinary user, or install it "
            f"where all users can read it"
        ) from error

    new_program = target / program.relative_to(source)

    def moved(text: str) -> str:
        return text.replace(str(source), str(target)).replace(os.path.dirname(spec.argv[0]), str(new_program.parent))

    return spec._replace(
        argv=(str(new_program), *map(moved, spec.argv[1:])),
        prepare=tuple(tuple(map(moved, argv)) for argv in spec.prepare),
        env={name: moved(value) for name, value in spec.env.items()},
    )


def _copy_tree(source: Path, target: Path) -> None:
    count = 0
    for place, directories, files in os.walk(source):
        names = [*files, *(name for name in directories if Path(place, name).is_symlink())]
        here = target / Path(place).relative_to(source)
        here.mkdir()
        here.chmod(0o755)
        count += len(names)
        if count > COPY_LIMIT:
            raise OSError(f"it holds more than {COPY_LIMIT} files")
        for name in names:
            _copy_file(Path(place, name), here / name)


def _copy_file(source: Path, target: Path) -> None:
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
    elif stat.S_ISREG(mode):
        wanted = 0o755 if mode & stat.S_IXUSR else 0o644
        # A hard link shares its mode with the original, which is not ours to change.
        if mode & wanted & 0o005 == wanted & 0o005:
            try:
                os.link(source, target)
                return
            except OSError:
                pass  # another file system
        shutil.copyfile(source, target)
        target.chmod(wanted)


def _succeeds(argv: Sequence[str], user: int | None = None) -> bool:
    try:
        return (
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                timeout=PROBE_WAIT,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            ).returncode
            == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False


def _has_name(user: int) -> bool:
    import pwd

    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
