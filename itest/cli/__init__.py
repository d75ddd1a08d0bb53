# SPDX-License-Identifier: Apache-2.0
"""The command line: `itest COMMAND`, or `python -m itest COMMAND`. A module for each command.

doctor   whether tests can run here, and what is in the way
ps       what itest has running and kept
logs     what a service has logged
up       start the services of a test class, and leave them running; down stops them
exec     run a command with real services and their URLs in its environment
sweep    remove what nobody needs any more

Exit codes: 0 fine; 1 what was asked for could not be done; 2 wrong usage or wrong settings. `exec` has its command's.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

from itest.config import load
from itest.errors import ConfigError, ItestError

FINE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 130
PIPE_CLOSED = 141
"""What shells have for a command that SIGPIPE has ended: nobody reads its output any more, as after `| head`."""

UNWRITTEN = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)
"""What `write` fails with where the output goes (POSIX.1-2024, write), be it closed or full."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Raises SystemExit for wrong usage and for help, as argparse does."""
    options = argparse.Namespace()
    try:
        options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is None:  # As after `>&-`: writing fails then, instead of being done nowhere.
            sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8", closefd=False)
        code = int(options.run(options, load()))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _write_no_more()
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in UNWRITTEN or error.filename is not None:
            raise
        _write_no_more()
        print(f"itest: the output cannot be written: {error.strerror}", file=sys.stderr)
        return int(getattr(options, "failed", FAILED))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigError as error:
        print(f"itest: {error}", file=sys.stderr)
        return WRONG_USAGE
    except ItestError as error:
        print(f"itest: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        return int(getattr(options, "failed", FAILED))


def _write_no_more() -> None:
    """Else Python would fail once more when it flushes at its end (its documentation, "Note on SIGPIPE")."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Options are written out, those of the commands too, which are parsed by this class as well: `--a` is not to be `--all`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    from itest import __version__
    from itest.cli import doctor, logs, ps, run_with, sweep, up

    parser = _Parser(
        prog="itest",
        description="Real services for tests: whether they can run here, which do, and a command with some of them.",
        epilog="exit codes: 0 fine; 1 what was asked for could not be done; 2 wrong usage; exec has its command's. "
        "`itest COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"itest {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (doctor, ps, logs, up, run_with, sweep):
        module.add_to(commands)
    return parser
