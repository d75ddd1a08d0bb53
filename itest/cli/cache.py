# SPDX-License-Identifier: Apache-2.0
"""What is kept for later runs, states (warm start) and images that were built: listed by `itest ps --cache`, removed by
`itest sweep --cache`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from itest import naming, warm_listing, warm_store
from itest.cli.ps import WIDTH, age
from itest.clock import wall
from itest.config import Config
from itest.engines import docker_built
from itest.report.table import plain_console, plain_table, print_table

MEGABYTE = 1024 * 1024


def show(config: Config, *, as_json: bool) -> int:
    """Print them, the longest unused first, with their sizes and the limit. Returns the exit code."""
    entries = warm_listing.entries(config)
    foreign = warm_listing.foreign(config)
    total = sum(entry.size_bytes for entry in entries)
    with warm_listing.docker(config) as engine:
        built = [] if engine is None else docker_built.of(engine.client, config.cache_dir)
    if as_json:
        facts = {
            "entries": [asdict(entry) for entry in entries],
            "total_bytes": total,
            "limit_bytes": config.warm_size * MEGABYTE,
            "foreign": [asdict(entry) for entry in foreign],
            "built": [asdict(each) for each in built],
        }
        print(json.dumps(facts, indent=2))
        return 0
    failed = [entry for entry in entries if entry.failed]
    entries = [entry for entry in entries if not entry.failed]
    now = wall()
    if entries:
        table = plain_table()
        for heading in ("service", "kind", "fingerprint", "MB", "created", "last used"):
            table.add_column(heading, justify="right" if heading == "MB" else "left", no_wrap=True)
        for entry in entries:
            moments = [f"{age(now - moment)} ago" for moment in (entry.created, entry.last_used)]
            table.add_row(entry.service, entry.kind, entry.fingerprint, _megabytes(entry.size_bytes), *moments)
        print_table(table, plain_console(sys.stdout, WIDTH))
    print(f"{_count(len(entries))}, {_megabytes(total)} MB of at most {config.warm_size} MB")
    if foreign:
        size = sum(entry.size_bytes for entry in foreign)
        print(f"{_count(len(foreign))}, {_megabytes(size)} MB, of other cache directories on this Docker")
    for entry in failed:
        again = age(entry.created + warm_store.RETRY - now)
        print(
            f"not kept {age(now - entry.created)} ago, tried again in {again}: {entry.service} {entry.fingerprint}: "
            f"{naming.shorten(entry.failed, 300)}"
        )
    if built:
        table = plain_table()
        for heading in ("image", "built from", "MB with its base", "created"):
            table.add_column(heading, justify="right" if heading.startswith("MB") else "left", no_wrap=True)
        for each in built:
            table.add_row(each.image, each.recipe, _megabytes(each.size_bytes), f"{age(now - each.created)} ago")
        print_table(table, plain_console(sys.stdout, WIDTH))
        print(_images(len(built)))
    return 0


def sweep(config: Config, *, as_json: bool = False) -> int:
    """Remove them all but those on another Docker, and say how many. Returns the exit code: 1 where one could not be removed."""
    removed = warm_listing.clear(config)
    left = warm_listing.entries(config)
    elsewhere = [entry for entry in left if entry.elsewhere]
    left = [entry for entry in left if not entry.elsewhere]
    stay = {entry.fingerprint for entry in left}
    removed = [entry for entry in removed if entry.fingerprint not in stay]
    with warm_listing.docker(config) as engine:
        images, used = ([], []) if engine is None else docker_built.clear(engine, config.cache_dir)
    states = [entry for entry in removed if not entry.failed]
    size = sum(entry.size_bytes for entry in states)
    failures = len(removed) - len(states)
    if as_json:
        counts = {"states": len(states), "bytes": size, "failures": failures, "images": len(images)}
        failed = [*(entry.fingerprint for entry in left), *(each.image for each in used)]
        others = [entry.fingerprint for entry in elsewhere]
        print(json.dumps({"removed": counts, "failed": failed, "elsewhere": others}, indent=2))
        return 1 if failed else 0
    print(f"removed {_count(len(states))}, {_megabytes(size)} MB")
    if failures:
        print(f"removed the record of {failures} that could not be kept: the next run tries again")
    for address in sorted({entry.elsewhere for entry in elsewhere}):
        number = [entry.elsewhere for entry in elsewhere].count(address)
        print(f"left {_count(number)} on another Docker: DOCKER_HOST={address} itest sweep --cache")
    for entry in left:
        print(
            f"itest: could not remove the kept state {entry.fingerprint} of {entry.service}: a server still runs from "
            f"it, or its file cannot be deleted; see `itest ps`",
            file=sys.stderr,
        )
    if images:
        print(f"removed {_images(len(images))}")
    for each in used:
        print(f"itest: could not remove image {each.image}: a container uses it; see `itest ps`", file=sys.stderr)
    return 1 if left or used else 0


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'} that {'was' if number == 1 else 'were'} built"


def _count(number: int) -> str:
    return f"{number} kept state{'' if number == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f}"
