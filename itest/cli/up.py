# SPDX-License-Identifier: Apache-2.0
"""`itest up` and `itest down`: the servers of a test class, started to stay and stopped again.

They are what a run with `reuse` leaves and finds. Their URLs are printed as the settings that make itest, in any process,
take them for external servers; a run with ITEST_REUSE=1 finds them without.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from itest import naming, sharing
from itest.choosing import Engines
from itest.cli import wanted
from itest.cli.look import look, opened
from itest.config import Config
from itest.engines import Thing
from itest.errors import ConfigError, ItestError
from itest.service import Service
from itest.sweep import share_of

MEANWHILE = 0.1
"""Seconds that servers stay which `itest up` has started and not told of: where another one fails, or Ctrl-C or a kill ends it,
the reaper removes them. One that was there before keeps its time."""

LENGTHS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

TARGETS = (
    "services by name (postgres, redis=valkey/valkey:8) or test classes (tests.test_orders.OrderTest, "
    "tests/test_orders.py, tests/)"
)


def add_to(commands: Any) -> None:
    """Add both commands to the parser."""
    up = commands.add_parser(
        "up",
        help="start the services of a test class, and leave them running",
        description="Start the services of test classes and leave them running; print their URLs, with passwords, as the "
        "variables by which itest takes them for external servers.",
    )
    up.add_argument("wanted", nargs="+", metavar="WANTED", help=TARGETS)
    up.add_argument(
        "--for",
        dest="seconds",
        type=_length,
        default=8 * 3600.0,
        metavar="TIME",
        help="how long: 30m, 8h (default), 2d",
    )
    up.add_argument(
        "--export",
        action="store_true",
        help='write `export` before each: urls="$(itest up --export ...)" && eval "$urls"',
    )
    up.add_argument("--json", action="store_true", help="print JSON")
    up.set_defaults(run=run)
    down = commands.add_parser(
        "down",
        help="stop what `itest up`, or a run with reuse, has left running",
        description="Stop servers that `itest up`, or a run with reuse, has left running. Those of another cache directory "
        "and those that a process is using stay.",
    )
    down.add_argument("wanted", nargs="*", metavar="WANTED", help=TARGETS)
    down.add_argument("--all", action="store_true", help="all of them, in place of WANTED")
    down.set_defaults(run=stop)


def run(options: argparse.Namespace, config: Config) -> int:
    """Start them and print their URLs; 1 where one cannot be left running."""
    found: dict[str, str] = {}
    code = 0
    with closing(wanted.session(replace(_own(config), reuse=True, reuse_time=MEANWHILE))) as session:
        with wanted.output_aside():
            named = _services(options.wanted)
            kept = [(name, service) for name, service in named if _can_stay(service)]
            servers = session.lend_all([(service, "", None, name) for name, service in kept])
        for (name, service), server in zip(kept, servers, strict=True):
            if server.share is None and server.instance.owned:
                code = 1
                where = f": {config.cache_dir} cannot be written to; set ITEST_CACHE_DIR" if config.quiet else ""
                print(f"itest: {name} ({service.title}) cannot be left running{where}", file=sys.stderr)
                continue
            variable, url = wanted.setting_of(service), wanted.url_of(server)
            if found.setdefault(variable, url) != url:
                print(f"itest: {name} runs too, but {variable} names another one: {url}", file=sys.stderr)
        for name, service in named:
            if not _can_stay(service):
                code = 1
                print(
                    f"itest: {name} ({service.title}) is not started: each class has one of its own, which cannot be shared",
                    file=sys.stderr,
                )
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            for variable, url in found.items():
                print(f"{'export ' if options.export else ''}{variable}={shlex.quote(url)}")
        sys.stdout.flush()
        for server in servers:
            if server.share is not None:
                server.share.lifetime = options.seconds
    return code


def stop(options: argparse.Namespace, config: Config) -> int:
    """Stop them; 1 where one is in use."""
    if bool(options.wanted) == options.all:
        raise ConfigError("say what to stop: services or test classes as for `itest up`, or --all")
    with opened(config) as engines:
        seen = look(engines)
        things = [thing for _, thing in seen.things if _stays(thing, sharing.root(config))]
        if not options.all:
            keys = _identities(options.wanted, config)
            things = [thing for thing in things if thing.labels.get(naming.FINGERPRINT) in keys]
        stopped, failed = _end(things)
    # Said only now: where nobody reads it, they are stopped all the same.
    for thing, reason in failed:
        print(f"itest: {thing} stays: {reason}", file=sys.stderr)
    for thing in stopped:
        print(f"stopped {thing}")
    if not things:
        print("nothing to stop")
    return 1 if failed else seen.code


def _end(things: Sequence[Thing]) -> tuple[list[Thing], list[tuple[Thing, str]]]:
    """Stop servers that are shared: those that are, and those that could not be, each with the reason."""
    stopped: list[Thing] = []
    failed: list[tuple[Thing, str]] = []
    for thing in things:
        if (share := share_of(thing)) is None:
            continue
        try:
            ended = sharing.end(share, lambda session, thing=thing: thing.remove())  # type: ignore[misc]  # mypy knows no default there
        except ItestError as error:
            failed.append((thing, naming.mask(str(error))))
        except OSError as error:
            cure = f"see that {share} can be written to; `itest sweep --all` ends it too, with all else that runs"
            failed.append((thing, f"{naming.mask(str(error))}: {cure}"))
        else:
            if ended:
                stopped.append(thing)
            else:
                failed.append((thing, "a process uses it right now; see `itest ps`"))
    return stopped, failed


def _services(texts: Sequence[str]) -> list[tuple[str, Service[Any]]]:
    """The services of all that is wanted, and what to call each."""
    return [
        (f"{cls.__name__}.{name}" if cls.__name__ != "Services" else name, service)
        for cls in wanted.classes(texts)
        for name, service in cls._itest_declarations
    ]


def _can_stay(service: Service[Any]) -> bool:
    return service.scope == "session" and bool(service.external_setting)


def _stays(thing: Thing, root: Path) -> bool:
    """Whether it is a server that is left running between runs, by runs with this cache directory."""
    share = share_of(thing)
    record = None if share is None or share.parent != root else sharing.Share(share).read()
    return record is not None and record.ready and record.expires > 0


def _identities(texts: Sequence[str], config: Config) -> set[str]:
    """What the servers of all that is wanted are known by, as far as `itest up` starts them."""
    with closing(Engines(_own(config))) as engines, wanted.output_aside():
        return {service.identity(engines.spec(service, "")) for _, service in _services(texts) if _can_stay(service)}


def _own(config: Config) -> Config:
    """Without the external servers that an earlier `itest up --export` may have set: those are ours."""
    return replace(config, postgres_url="", redis_url="", kafka_bootstrap_servers="")


def _length(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: write 90s, 30m, 8h or 2d")
    return float(match[1]) * LENGTHS[match[2] or "s"]
