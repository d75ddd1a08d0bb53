# SPDX-License-Identifier: Apache-2.0
"""`itest ps`: what itest has made on the engines of this machine and is still there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from itest import naming, owners
from itest.cli.look import look, opened
from itest.clock import wall
from itest.config import Config
from itest.engines import Engine, Thing
from itest.report.table import plain_console, plain_table, print_table

WIDTH = 200
"""Columns of the table in a file: ids must not be cut there."""

COLUMNS = ("service", "version or image", "engine", "what", "state", "age", "owner", "reuse")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "ps",
        help="list what itest has made and is still there: containers, networks, local processes",
        description="List what itest has made and is still there, of whatever run, with the process that owns it.",
    )
    parser.add_argument(
        "--cache", action="store_true", help="list instead the states and built images that are kept for later runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, config: Config) -> int:
    if options.cache:
        from itest.cli import cache

        return cache.show(config, as_json=options.json)
    with opened(config) as found:
        return show(found, as_json=options.json)


def show(engines: Sequence[Engine], *, as_json: bool) -> int:
    """Print it, the oldest first. Returns the exit code."""
    seen = look(engines)
    found = sorted(seen.things, key=lambda pair: pair[1].created)
    if as_json:
        print(json.dumps([facts(engine, thing) for engine, thing in found], indent=2))
    elif found:
        table = plain_table()
        for heading in COLUMNS:
            table.add_column(heading, justify="right" if heading == "age" else "left", no_wrap=True)
        for engine, thing in found:
            table.add_row(*_cells(engine, thing))
        print_table(table, plain_console(sys.stdout, WIDTH))
    else:
        print("nothing of itest is here")
    return seen.code


def age(seconds: float) -> str:
    """A length of time, for people: `12 s`, `5 min`, `3 h`, `2 days`."""
    for length, unit, until in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172800)):
        if seconds < until:
            return f"{max(0.0, seconds) // length:.0f} {unit}"
    return f"{seconds // 86400:.0f} days"


def _cells(engine: str, thing: Thing) -> Iterator[str]:
    yield thing.labels.get(naming.SERVICE, "-")
    yield naming.shorten(thing.title, 60)
    yield engine
    yield f"{thing.kind} {thing.id}"
    yield "paused" if thing.paused else {True: "running", False: "ended", None: "unknown"}[thing.running]
    yield age(wall() - thing.created) if thing.created else "-"
    yield _owner(thing)
    yield "yes" if thing.labels.get(naming.SHARED) else "-"


def _owner(thing: Thing) -> str:
    text = thing.labels.get(naming.OWNER, "")
    owner = owners.parse(text)
    if owner is None:
        return naming.shorten(text, 40) or "-"
    words = {True: f"{owner.pid} lives", False: f"{owner.pid} has ended", None: f"{owner.pid}@{owner.host}"}
    return words[_lives(thing)]


def _lives(thing: Thing) -> bool | None:
    """Whether its owner does; None where that cannot be known from here."""
    return False if thing.owner_ended else owners.lives(thing.labels.get(naming.OWNER, ""))


def facts(engine: str, thing: Thing) -> dict[str, object]:
    """`running` and `owner.lives` are null where that cannot be known from here."""
    text = thing.labels.get(naming.OWNER, "")
    owner = owners.parse(text)
    facts = {"pid": owner.pid, "host": owner.host, "lives": _lives(thing)} if owner else None
    return {
        "service": thing.labels.get(naming.SERVICE, ""),
        "title": thing.title,
        "engine": engine,
        "kind": thing.kind,
        "id": thing.id,
        "running": thing.running,
        "created": thing.created,
        "session": thing.labels.get(naming.SESSION, ""),
        "owner": facts,
        "shared": thing.labels.get(naming.SHARED) or None,
    }
