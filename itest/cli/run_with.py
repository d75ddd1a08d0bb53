# SPDX-License-Identifier: Apache-2.0
"""`itest exec`: a command with real services, and their URLs in its environment."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING, Any

from itest.cli import wanted
from itest.cli.up import TARGETS
from itest.config import Config
from itest.errors import ConfigError, StopError
from itest.loan import Loan, loans_of, network_of, take_all

if TYPE_CHECKING:
    from typing import Self

FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
"""Exit codes of ours, as those of `docker run`: the services could not be had, the command could not be run, is not there."""

PASSED_ON = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "exec",
        help="run a command with real services and their URLs in its environment",
        usage="itest exec --with WANTED[,WANTED...] [--] COMMAND [ARGUMENT...]",
        description="Run a command with real services, which are stopped after it. In its environment are DATABASE_URL, "
        "REDIS_URL and KAFKA_BOOTSTRAP_SERVERS (of a test class: its migrated database, its prefix), and ITEST_POSTGRES_URL "
        "and so on, by which tests with itest use the same servers.",
        epilog=f"exit codes: the command's, or 128 and the signal that killed it; {FAILED} where the services could not be "
        f"started; {NOT_EXECUTABLE} and {NOT_FOUND} where the command could not be run, or is not there",
    )
    parser.add_argument("--with", dest="wanted", action="append", required=True, metavar="WANTED", help=TARGETS)
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    parser.set_defaults(run=run, failed=FAILED)


def run(options: argparse.Namespace, config: Config) -> int:
    """Run it with the services and return its exit code."""
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise ConfigError("no command is given: itest exec --with postgres -- COMMAND")
    with closing(wanted.session(config)) as session, contextlib.ExitStack() as leases:
        variables: dict[str, str] = {}
        with wanted.output_aside():
            for cls in wanted.classes(options.wanted):
                network = network_of(cls, cls._itest_declarations, session)
                if network is not None:
                    leases.callback(network.close)
                loans = loans_of(cls, cls._itest_declarations, session, network)
                for loan in loans:
                    leases.callback(_give_back, loan)
                take_all(loans, session)
                for loan in loans:
                    for name, value in _variables(loan).items():
                        if variables.setdefault(name, value) != value and not name.startswith("ITEST_"):
                            variables.setdefault(f"{loan.name.upper()}_{name}", value)
        return _run(argv, config.child_environment(**variables))


def _give_back(loan: Loan) -> None:
    try:
        loan.give_back()
    except StopError as error:  # It must not take the place of the command's exit code.
        print(f"itest: {error}", file=sys.stderr)


def _variables(loan: Loan) -> Mapping[str, str]:
    """What an app would need to use this service, and what itest needs to take its server for an external one."""
    if loan.service.scope == "test":
        return {}
    view = loan.class_view()
    setting = wanted.setting_of(loan.service)
    return {**view.env, **({setting: wanted.url_of(view.server)} if setting else {})}


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run it with the signals passed on to it, and return its exit code."""
    with _Signals() as signals:
        try:
            process = subprocess.Popen(argv, env=environment)
        except FileNotFoundError:
            print(f"itest: there is no program {argv[0]!r}", file=sys.stderr)
            return NOT_FOUND
        except OSError as error:
            print(f"itest: {argv[0]!r} cannot be run: {error.strerror}", file=sys.stderr)
            return NOT_EXECUTABLE
        signals.go_to(process)
        code = process.wait()
    return code if code >= 0 else 128 - code


class _Signals:
    """Within the `with`, signals go to the command, which decides what they mean; the services are stopped after it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in PASSED_ON:
            if (number := getattr(signal, name, None)) is not None:
                self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def go_to(self, process: subprocess.Popen[bytes]) -> None:
        """It runs; what has come meanwhile goes to it too."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _on_terminal():
            return  # Ctrl-C has reached it already.
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)  # Which looks first whether it still runs.


def _on_terminal() -> bool:
    """Whether this process is in the foreground of a terminal, together with the command."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
