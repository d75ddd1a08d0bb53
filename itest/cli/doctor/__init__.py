# SPDX-License-Identifier: Apache-2.0
"""`itest doctor`: whether tests can run here, on what, and one sentence with what to do for each thing in the way.

finding.py  what is found
machine.py  versions, settings, space, leftovers
daemon.py   the Docker daemon, a real container
local.py    local processes, a real one

It changes nothing: what it starts it stops, and nothing is pulled unless it is asked to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from itest import choosing
from itest.cli.doctor import daemon, local, machine
from itest.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from itest.cli.look import opened
from itest.config import Config

WORDS = {"docker": "Docker", "process": "local processes"}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="say whether tests can run here, and what is in the way",
        description="Look at everything that tests with itest need here; start and stop a real container and a real local "
        "process. Nothing is changed or left, and nothing pulled without --pull.",
        epilog="exit code: 0 where tests can run, 1 where they cannot",
    )
    parser.add_argument("--image", default="", help="the container's image (default: the smallest one that is there)")
    parser.add_argument(
        "--pull",
        action="store_true",
        help=f"pull that image (default: {daemon.SMALL}), to see whether that can be done",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, config: Config) -> int:
    """Look, and print what was found as it is found. 1 where tests cannot run."""
    found: list[Finding] = []
    for finding in _examine(config, options.image, options.pull):
        found.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    problems = [finding for finding in found if finding.level == PROBLEM]
    if options.json:
        print(json.dumps({"ok": not problems, "findings": [asdict(finding) for finding in found]}, indent=2))
    elif problems:
        print(f"\ntests cannot run as they should: {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


def _examine(config: Config, image: str, pull: bool) -> Iterator[Finding]:
    yield from machine.versions()
    yield from machine.settings(config)
    docker, process = _unavailable(config)
    allowed = [engine.name for engine in choosing.allowed(config)]
    chosen = next((name for name, why in (("docker", docker), ("process", process)) if name in allowed and not why), "")
    needed = not machine.all_external(config)
    servers = list(local.servers(config))
    if docker:
        lacking = allowed == ["docker"] or not any(finding.level == OK for finding in servers)
        yield Finding("docker", PROBLEM if needed and lacking else NOTE, f"not used: {docker}")
    else:
        yield from _levelled(daemon.examine(config, image, pull), needed=needed and chosen == "docker")
    if not docker or config.compose:
        yield from _levelled(daemon.compose(config), needed=not docker)
    if process:
        yield Finding("process", PROBLEM if needed and not chosen else NOTE, f"not used: {process}")
    else:
        yield from _levelled(chain(servers, local.trial(config)), needed=needed and chosen == "process")
    yield from machine.external(config)
    yield from machine.space(config)
    yield from machine.leftovers(config)
    if not chosen:
        settings = f"engine = {config.engine!r} and require = {config.require!r}"
        said = f"no engine that the settings allow ({settings}) can be used: see above for each"
        if needed:
            yield Finding("engine", PROBLEM, said)
        else:
            yield Finding("engine", NOTE, f"{said}; as all servers are external, only containers of your own need one")
    else:
        others = " and ".join(WORDS[name] for name in choosing.CHOSEN if name != chosen)
        why = (
            "by the settings"
            if len(allowed) == 1
            else "Docker is preferred"
            if chosen == "docker"
            else "as Docker cannot be used, see above"
        )
        yield Finding("engine", OK, f"tests run on {WORDS[chosen]}, not {others} ({why})")


def _unavailable(config: Config) -> Sequence[str]:
    """Why Docker, and why local processes cannot be used here; empty where they can."""
    with opened(config) as engines:
        reasons = {engine.name: engine.unavailable() or "" for engine in engines}
    return [reasons.get(name, "it is not looked at") for name in choosing.CHOSEN]


def _levelled(findings: Iterator[Finding], *, needed: bool) -> Iterator[Finding]:
    """What is in the way of an engine that is not used is no problem."""
    for finding in findings:
        yield finding if needed or finding.level != PROBLEM else Finding(finding.name, NOTE, finding.said)


def _line(finding: Finding) -> str:
    """Aligned, and wrapped where there is a terminal that has a width."""
    head = f"{finding.level:8}{finding.name:12}"
    if not sys.stdout.isatty():
        return head + finding.said
    width = max(60, shutil.get_terminal_size().columns - 1)
    return textwrap.fill(
        head + finding.said, width, subsequent_indent=" " * len(head), break_on_hyphens=False, break_long_words=False
    )
