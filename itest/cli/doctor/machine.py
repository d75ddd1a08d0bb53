# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds of this machine: versions, settings, external servers, space, leftovers."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from itest import __version__, naming, sharing, warm_store
from itest.cli import wanted
from itest.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from itest.cli.look import opened
from itest.config import Config
from itest.engines.external import ExternalInstance
from itest.errors import ItestError, MissingPackage, hides
from itest.packages import stranger
from itest.service import Service
from itest.side_by_side import within
from itest.starting import LONGEST_ANSWER
from itest.sweep import left_behind
from itest.wait import NotReady

GIGABYTE = 1024**3
LITTLE = GIGABYTE // 2
"""Bytes below which servers do not start."""
SCARCE = 2 * GIGABYTE
"""Bytes below which an image may not fit."""

CLIENTS = {
    "psycopg2": ("psycopg2", "postgres", ("psycopg2-binary", "psycopg2")),
    "redis": ("redis", "redis", ("redis",)),
    "kafka-python": ("kafka", "kafka", ("kafka-python",)),
}
"""The packages that services need, each with its name in Python, the extra that brings it and the distributions that have it."""

OPTIONAL = ("sqlalchemy", "asyncpg", "aiokafka", "alembic", "django")


def versions() -> Iterator[Finding]:
    """itest's, Python's and those of the packages."""
    yield Finding(
        "itest",
        OK,
        f"itest {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    there = [f"{name} {version}" for name in ("docker", "rich", *OPTIONAL) if (version := _version(name))]
    missing = []
    for name, (package, extra, distributions) in CLIENTS.items():
        if other := stranger(package):
            missing.append(f"{name} cannot be used: {hides(other)}")
        elif version := next(filter(None, map(_version, distributions)), ""):
            there.append(f"{name} {version}")
        else:
            missing.append(f"{name} is not installed: pip install 'itest-containers[{extra}]' for this service")
    if there:
        yield Finding("packages", OK, ", ".join(there))
    for said in missing:
        yield Finding("packages", NOTE, said)


def settings(config: Config) -> Iterator[Finding]:
    """Those that are not as they are by default; none that holds a password."""
    default = Config()
    hidden = ("environment", "sources", "cache_dir", "postgres_url", "redis_url")
    names = [item.name for item in fields(config) if item.name not in hidden]
    changed = [f"{name} = {getattr(config, name)}" for name in names if getattr(config, name) != getattr(default, name)]
    if changed:
        yield Finding("settings", OK, naming.mask(", ".join(changed)))


def external(config: Config) -> Iterator[Finding]:
    """Servers that the settings name: whether each answers as its service does, to the user and password that are given."""
    for name, service in _services():
        if not (url := getattr(config, service.external_setting)):
            continue
        variable = wanted.setting_of(service)
        try:
            spec = service.external_spec(url, variable)
        except ItestError as error:
            yield Finding(name, PROBLEM, str(error))
            continue
        address = ", ".join(f"{host}:{port}" for host, port in spec.ports.values())
        try:
            within(LONGEST_ANSWER, partial(service.readiness(spec.url), ExternalInstance(spec)), "itest-doctor")
            yield Finding(name, OK, f"an external server is used, {address} (from {variable}), and it answers")
        except MissingPackage as error:
            yield Finding(name, NOTE, f"the external server {address} was not asked: {error}")
        except (NotReady, ItestError, TimeoutError) as error:
            said = naming.shorten(str(error), 400)
            yield Finding(
                name, PROBLEM, f"the external server {address} cannot be used ({said}): start it, or correct {variable}"
            )


def all_external(config: Config) -> bool:
    """Whether no service needs an engine."""
    return all(getattr(config, service.external_setting) for _, service in _services())


def space(config: Config) -> Iterator[Finding]:
    """Whether the cache directory can be written to, and what is free on its disk."""
    places = config.cache_dir, warm_store.directory(config.cache_dir), sharing.root(config)
    # Those in it may be another user's.
    if found := next(((place, reason) for place in places if (reason := unwritable(place))), None):
        place, reason = found
        yield Finding(
            "cache",
            NOTE,
            f"{place} cannot be written to ({reason}), so each run starts from nothing: set "
            f"ITEST_CACHE_DIR to another directory",
        )
    else:
        free = shutil.disk_usage(_existing(config.cache_dir)).free
        yield room("cache", free, str(config.cache_dir), "move it by ITEST_CACHE_DIR, or make room")
    memory = Path("/dev/shm")
    if memory.is_dir() and (free := shutil.disk_usage(memory).free) < 256 * 1024**2:
        yield Finding(
            "memory",
            NOTE,
            f"/dev/shm has {free // 2**20} MB free, so the data of local processes lies on disk, which is slower (in a "
            f"container: --shm-size=1g)",
        )


def unwritable(directory: Path) -> str:
    """Why nothing can be written to a directory, which may have to be made first; empty where it can."""
    try:
        with tempfile.TemporaryFile(dir=_existing(directory)) as file:
            file.write(b"itest")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _existing(path: Path) -> Path:
    """What there is of a path. A link that leads nowhere is in the way of whoever makes the rest."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def room(name: str, free: int, where: str, cure: str) -> Finding:
    """The finding for so many bytes that are free there."""
    said = f"{free / GIGABYTE:.1f} GB free at {where}"
    if free < SCARCE:
        return Finding(name, PROBLEM if free < LITTLE else NOTE, f"only {said}: {cure}")
    return Finding(name, OK, said)


def leftovers(config: Config) -> Iterator[Finding]:
    """Of earlier runs."""
    with opened(config) as engines:
        for engine in engines:
            try:
                things = [] if engine.unavailable() else engine.things()
            except ItestError as error:
                yield Finding("leftovers", NOTE, f"{engine.name} cannot be asked: {error}")
                continue
            if over := left_behind(things):
                listed = naming.shorten("; ".join(map(str, over)), 200)
                yield Finding(
                    "leftovers", NOTE, f"killed runs have left {listed}: the next run removes it, or `itest sweep`"
                )
            elif things:
                what = "1 thing of a run that goes on, or is kept"
                if len(things) > 1:
                    what = f"{len(things)} things of runs that go on, or are kept"
                yield Finding("leftovers", OK, f"{what}, on {engine.name}: `itest ps`")


def _services() -> Sequence[tuple[str, Service[Any]]]:
    """Those that can be asked for by their names."""
    [cls] = wanted.classes(list(wanted.SERVICES))
    return cls._itest_declarations


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
