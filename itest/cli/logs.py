# SPDX-License-Identifier: Apache-2.0
"""`itest logs`: what a service has logged, without passwords that are known here."""

from __future__ import annotations

import argparse
import contextlib
import select
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, TextIO, cast

from itest import naming
from itest.cli.look import look, opened
from itest.config import Config
from itest.engines import Instance
from itest.log_stream import END_WAIT, Following, lines_of

PAUSE = 0.2
"""Seconds between two looks at whether they still run."""

INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, as shells have it."""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "logs",
        help="print what a service has logged",
        description="Print the log of each container and local process of that service that is there, of whatever run.",
    )
    parser.add_argument("service", help="its name in `itest ps`: postgres, redis, kafka, ...")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what it logs, until it ends or Ctrl-C")
    parser.add_argument("-n", "--tail", type=_count, metavar="LINES", help="only the last lines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, config: Config) -> int:
    """Print it; 1 where there is no such service."""
    with opened(config) as engines:
        seen = look(engines)
        services = {
            name for _, thing in seen.things if (name := thing.labels.get(naming.SERVICE)) and thing.kind != "network"
        }
        if options.service not in services:
            there = f"; there {'are' if len(services) > 1 else 'is'} {', '.join(sorted(services))}" if services else ""
            print(f"itest: nothing of itest runs the service {options.service!r}{there}", file=sys.stderr)
            return 1
        names = {engine for engine, thing in seen.things if thing.labels.get(naming.SERVICE) == options.service}
        instances = [
            instance
            for engine in engines
            if engine.name in names
            for instance in engine.find({naming.SERVICE: options.service})
        ]
        printer = Printer(several=len(instances) > 1)
        if options.tail is not None or not options.follow:
            for instance in instances:
                printer.write(instance, naming.clean_log(instance.logs(tail=options.tail)))
        if options.follow and not follow(instances, printer, new=options.tail is None):
            return INTERRUPTED
    return seen.code


class Printer:
    """Prints what instances have logged, from any thread; under the name of each, where there are several."""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._lock = threading.Lock()
        self._last: Instance | None = None

    def write(self, instance: Instance, text: str) -> None:
        """Print it at once, in one piece. Raises OSError."""
        with self._lock:
            if self._several and instance is not self._last:
                text = f"{'' if self._last is None else chr(10)}==> {instance} <==\n{text}"
            self._last = instance
            sys.stdout.write(text)
            sys.stdout.flush()


def follow(instances: Sequence[Instance], printer: Printer, *, new: bool) -> bool:
    """Print what they log, side by side: from the beginning if `new`, else from now on. True when all have ended, False
    after Ctrl-C. Raises OSError where it cannot be printed."""
    stop = threading.Event()
    broken: list[OSError] = []

    def pass_on(instance: Instance) -> None:
        try:
            for line in lines_of(cast("Following", instance), stop, new=new):
                printer.write(instance, f"{line}\n")
        except OSError as error:  # Nobody reads on, as after `| head`; or the disk is full.
            broken.append(error)
            stop.set()

    def watch() -> None:
        with contextlib.suppress(Exception):  # Docker itself may end.
            while any(each.state().running for each in instances) and not stop.wait(PAUSE):
                if _is_unread(sys.stdout):  # Who waits for the next write to fail may wait without end.
                    broken.append(BrokenPipeError())
                    break
        stop.set()

    threads = [threading.Thread(target=pass_on, args=(instance,), daemon=True) for instance in instances]
    threads.append(threading.Thread(target=watch, daemon=True))
    for thread in threads:
        thread.start()
    try:
        stop.wait()  # Nothing else happens on this thread, so that Ctrl-C breaks into nothing.
        if broken:
            raise broken[0]
        return True
    except KeyboardInterrupt:
        return False
    finally:
        stop.set()
        for thread in threads:
            thread.join(END_WAIT)


def _is_unread(output: TextIO) -> bool:
    """Whether it is a pipe whose reader has gone; False where that cannot be known."""
    try:
        poll = select.poll()  # Windows has none.
        poll.register(output.fileno(), 0)  # What is broken is told unasked.
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # It is no file.
        return False


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)
