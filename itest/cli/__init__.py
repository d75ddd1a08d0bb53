# SPDX-License-Identifier: Apache-2.0
"""The command line: `itest COMMAND`, or `python -m itest COMMAND`. A module for each command.

doctor   whether tests can run here, and what is in the way
ps       what itest has running and kept
logs     what a running service says
up       start the services of a test class, and leave them running; down stops them
exec     run a command with real services and their URLs in its environment
sweep    remove what nobody needs any more

Exit codes: 0 fine; 1 what was asked for could not be done; 2 wrong usage or wrong settings. `exec` has its command's.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from itest.config import load
from itest.errors import ConfigError, ItestError

FINE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 130
PIPE_CLOSED = 141
"""What shells have for a command that SIGPIPE has ended: nobody reads its output any more, as after `| head`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Raises SystemExit for wrong usage and for help, as argparse does."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        code = int(options.run(options, load()))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python would say so again when it flushes at its end (its documentation, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
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


def _parser() -> argparse.ArgumentParser:
    from itest import __version__
    from itest.cli import doctor, logs, ps, run_with, sweep, up

    parser = argparse.ArgumentParser(
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
