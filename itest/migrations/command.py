# SPDX-License-Identifier: Apache-2.0
"""Migrations by any program: Flyway, dbmate, sqitch, psql, manage.py."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itest import config, naming
from itest.arguments import Text, variables_of, words_of
from itest.clock import Deadline, check_seconds
from itest.errors import ConfigError, MigrationError
from itest.migrations.protocol import PATH, check, contents_of, patterns_of
from itest.spec import BRACE

if TYPE_CHECKING:
    from itest.services.postgres import PostgresView

TAIL = 20
"""Lines of the output that a failure shows."""


class Command:
    """A command that migrates: `Command(["dbmate", "--url", "{url}", "up"], depends_on=["db/migrations"])`.

    `{url}`, `{dsn}`, `{host}`, `{port}`, `{name}`, `{user}` and `{password}` in `argv` and `env` are filled in;
    `DATABASE_URL` and the `PG*` variables are set anyway. It runs in `cwd`, by default the directory of the test
    module, for at most `timeout` seconds. Its fingerprint is what is given here and the files that `depends_on` (glob
    patterns; a directory means all below it) names: leave out what it reads, and a change there goes unnoticed.
    """

    def __init__(
        self,
        argv: Sequence[Text],
        *,
        env: Mapping[str, Text] | None = None,
        depends_on: Iterable[str] = (),
        cwd: str | Path = "",
        timeout: float = 300.0,
    ) -> None:
        if not isinstance(argv, list | tuple) or not argv:
            raise TypeError(f"Command wants a list of words, not {argv!r}; for a shell line: ['sh', '-c', '...']")
        check_seconds(timeout)
        check("Command: cwd", cwd, PATH, "a path, or leave it out")
        self.argv = words_of("Command", argv)
        self.env = variables_of("Command: env", {} if env is None else env)
        self.depends_on = patterns_of(depends_on)
        self.lasting = bool(self.depends_on)  # Only if somebody has said what shapes it.
        self.cwd = cwd
        self.timeout = timeout

    def fingerprint(self, base: Path) -> str:
        files = contents_of(base, self.depends_on)
        return naming.fingerprint("Command", self.argv, self.env, str(self.cwd), files)

    def apply(self, view: PostgresView, base: Path) -> None:
        values = {name: str(getattr(view, name)) for name in _PLACEHOLDERS}
        argv = [_filled(word, values) for word in self.argv]
        own = {name: _filled(value, values) for name, value in self.env.items()}
        naming.remember_named(own)
        environment = config.load().child_environment(**{**view.env, **own})
        deadline = Deadline.after(self.timeout)
        exit_code, output = _run(argv, base / self.cwd, environment, deadline)
        if exit_code == 0:
            return
        how = f"failed with exit code {exit_code}" if exit_code is not None else "was ended, because it took too long,"
        shown = naming.clean_log("\n".join(output.splitlines()[-TAIL:])).strip()
        raise MigrationError(
            naming.mask(
                f"the migration command `{shlex.join(naming.hide_options(argv))}` {how} after {deadline.elapsed:.1f} s"
            )
            + (f"; the end of its output:\n{shown}" if shown else "; it printed nothing")
        )

    def __repr__(self) -> str:
        return f"Command({shlex.join(naming.hide_options(self.argv))!r})"


_PLACEHOLDERS = ("url", "dsn", "host", "port", "name", "user", "password")
_PLACEHOLDER = re.compile(BRACE + "(" + "|".join(_PLACEHOLDERS) + r")\}")


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Only our own names are filled in: other braces are the command's (JSON, awk, ${VARIABLE})."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _run(argv: Sequence[str], cwd: Path, environment: Mapping[str, str], deadline: Deadline) -> tuple[int | None, str]:
    """The exit code, None when it was ended at the deadline, and all output."""
    # Into a file and not a pipe: a child that it leaves behind would keep a pipe open, and reading it would never end.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            message = f"the migration command `{argv[0]}` cannot be run in {cwd}: {error}"
            raise ConfigError(naming.mask(message)) from None  # Its traceback would have the environment.
        exit_code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                exit_code = process.wait(deadline.remaining)
        finally:
            if process.poll() is None or exit_code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return exit_code, output.read().decode("utf-8", "replace")
