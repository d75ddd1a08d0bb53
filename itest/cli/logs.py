# SPDX-License-Identifier: Apache-2.0
"""`itest logs`: what a running service says, without passwords that are known here."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from itest import naming
from itest.cli.look import look, opened
from itest.config import Config


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "logs",
        help="print what a running service has logged",
        description="Print the log of each running container and local process of that service, of whatever run.",
    )
    parser.add_argument("service", help="its name in `itest ps`: postgres, redis, kafka, ...")
    parser.add_argument("-n", "--tail", type=int, metavar="LINES", help="only the last lines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, config: Config) -> int:
    """Print it; 1 where there is no such service."""
    with opened(config) as engines:
        seen = look(engines)
        services = {
            name for _, thing in seen.things if (name := thing.labels.get(naming.SERVICE)) and thing.kind != "network"
        }
        if options.service not in services:
            there = f"; there are {', '.join(sorted(services))}" if services else ""
            print(f"itest: nothing of itest runs the service {options.service!r}{there}", file=sys.stderr)
            return 1
        names = {engine for engine, thing in seen.things if thing.labels.get(naming.SERVICE) == options.service}
        instances = [
            instance
            for engine in engines
            if engine.name in names
            for instance in engine.find({naming.SERVICE: options.service})
        ]
        for number, instance in enumerate(instances):
            if len(instances) > 1:
                print(f"{'' if number == 0 else chr(10)}==> {instance} <==")
            sys.stdout.write(naming.clean_log(instance.logs(tail=options.tail)))
    return seen.code
