# SPDX-License-Identifier: Apache-2.0
"""Which user a server runs as, and how it is told of its owner's death. Measured in docs/design.md, "Processes".

Servers such as PostgreSQL refuse user id 0, which is what CI containers run as. Nothing on the machine is changed for
that: no user is added and no permission of a foreign directory touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from itest import naming
from itest.errors import StartError
from itest.spec import ProcessSpec
from itest.tuples import NamedTuple

NOBODY = 65534
"""The user id to run as in place of 0. It must be in the user database: initdb looks its own name up."""

PROBE_WAIT = 10.0
"""Seconds that a probe may take; it takes 3 ms."""


class Identity(NamedTuple):
    """Who a server runs as: commands that exec it in another identity, or a user id to change to.

    `owner` is the user id that its files must have, if that is not ours.
    """

    prefix: tuple[str, ...] = ()
    user: int | None = None
    owner: int | None = None

    def check_reach(self, spec: ProcessSpec, place: Path) -> None:
        """That it can run the program and work in the instance's directory. Raises StartError if not."""
        if self.user is None:
            return
        for path, cure in (
            (spec.argv[0], "install it where all users can reach it"),
            (str(place), "set TMPDIR to a directory that all users can enter"),
        ):
            if not _succeeds(["/bin/sh", "-c", '[ -x "$1" ]', "sh", path], user=self.user):
                raise StartError(
                    f"{spec} refuses to run as root, and user id {self.user}, as which it would run here, cannot reach "
                    f"{path}: {cure}, or run the tests as an ordinary user. With setpriv, from util-linux, and "
                    f"CAP_SETPCAP and CAP_DAC_OVERRIDE it would reach everything that root does"
                )


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
        if self._set_user:
            return Identity(prefix=self._set_user, owner=NOBODY)
        if self._can_change_user:
            return Identity(user=NOBODY, owner=NOBODY)
        raise StartError(
            f"{spec} refuses to run as root, and here root may neither make a user namespace "
            f"(unshare -U --map-user={NOBODY}) nor change to user id {NOBODY}: run the tests as an ordinary user, "
            f"or give the container CAP_SETUID and CAP_SETGID"
        )

    def is_nameless(self, spec: ProcessSpec) -> bool:
        """Whether the server will not run, as its user id has no name, which it looks up."""
        user = os.geteuid()
        return not spec.runs_as_root and user != 0 and not _has_name(user) and not self._namespace

    def death_signal(self, number: int) -> tuple[str, ...]:
        """The command that has the kernel send a program this signal when its owner dies. Empty where none can.

        It must come after every change of identity, which clears the setting. Where it is missing (macOS, Alpine's
        busybox), the reaper alone sees to the end of orphans.
        """
        return (*self._setpriv, naming.signal_name(number), "--") if self._setpriv else ()

    @cached_property
    def _setpriv(self) -> tuple[str, ...]:
        return self._probed("setpriv", "--pdeathsig", then=("SIGTERM", "--"))

    @cached_property
    def _namespace(self) -> tuple[str, ...]:
        return self._probed("unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")

    @cached_property
    def _set_user(self) -> tuple[str, ...]:
        """It becomes nobody, and still passes through directories that are closed to others, as root does.

        A capability outlives exec when it is ambient (capabilities(7)). access(2), by which PostgreSQL looks for its
        own programs, passes over those of anybody but root, save under no_setuid_fixup (Linux, fs/open.c).
        """
        become = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
        keep = ("--securebits", "+no_setuid_fixup", "--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        return self._probed("setpriv", *become, *keep, "--")

    @cached_property
    def _can_change_user(self) -> bool:
        return _succeeds(["/bin/sh", "-c", ":"], user=NOBODY)

    def _probed(self, program: str, *options: str, then: Sequence[str] = ()) -> tuple[str, ...]:
        found = shutil.which(program, path=f"{self._path}{os.pathsep}{os.defpath}")
        if found and _succeeds([found, *options, *then, "/bin/sh", "-c", ":"]):
            return (found, *options)
        return ()


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
