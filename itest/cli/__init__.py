# SPDX-License-Identifier: Apache-2.0
"""The command line: `itest ps` says what itest has running and kept, `itest sweep` removes what nobody needs any more.

Exit codes: 0 fine; 1 something could not be removed, or could not be looked at; 2 wrong usage or wrong settings.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from itest.config import Config, load
from itest.engines import Engine
from itest.errors import ConfigError, ItestError

FINE, FAILED, WRONG_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Raises SystemExit for wrong usage and for help, as argparse does."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options, load())
    except ConfigError as error:
        print(f"itest: {error}", file=sys.stderr)
        return WRONG_USAGE
    except ItestError as error:
        print(f"itest: {error}", file=sys.stderr)
        return FAILED


def engines(config: Config) -> list[Engine]:
    """All that itest may have run something on, whatever the settings choose for the next run."""
    from itest.engines.docker import DockerEngine
    from itest.engines.process import ProcessEngine

    return [DockerEngine(config), ProcessEngine(config)]


def _run(options: argparse.Namespace, config: Config) -> int:
    from itest.cli import cache, ps, sweep

    if options.cache:
        return cache.sweep(config) if options.command == "sweep" else cache.show(config, as_json=options.json)
    with contextlib.ExitStack() as stack:
        found = engines(config)
        for engine in found:
            stack.callback(engine.close)
        if options.command == "ps":
            return ps.show(found, as_json=options.json)
        return sweep.run(found, living=options.all)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="itest",
        description="What itest has running on this machine and keeps between runs, and how to get rid of it.",
        epilog="exit codes: 0 fine; 1 something could not be removed, or could not be looked at; 2 wrong usage",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{ps,sweep}")

    ps = commands.add_parser(
        "ps",
        help="list what itest has made and is still there: containers, networks, local processes",
        description="List what itest has made and is still there, of whatever run, with the process that owns it.",
    )
    ps.add_argument(
        "--cache", action="store_true", help="list instead the states and built images that are kept for later runs"
    )
    ps.add_argument("--json", action="store_true", help="print JSON")

    sweep = commands.add_parser(
        "sweep",
        help="remove what killed runs have left",
        description="Remove what belongs to runs that have ended without removing it. What belongs to a living "
        "process, to another machine or to another container stays.",
    )
    what = sweep.add_mutually_exclusive_group()
    what.add_argument(
        "--all",
        action="store_true",
        help="remove also what belongs to your living processes on this machine; it asks nothing, and tests that are "
        "running right now fail",
    )
    what.add_argument(
        "--cache", action="store_true", help="remove instead all states and built images that are kept for later runs"
    )
    return parser
