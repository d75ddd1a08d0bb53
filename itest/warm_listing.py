# SPDX-License-Identifier: Apache-2.0
"""The states that are kept for later runs, to be shown and cleared. Runs that only use them do without this."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itest import warm_store
from itest.config import Config
from itest.errors import Unavailable
from itest.warm_store import Record

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine

IMAGE = "docker image"
ARCHIVE = "archive"
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept state, for people: its `kind` is `docker image`, `archive` or `nothing`; times are seconds since 1970.

    `nothing` is one that could not be kept: `failed` says why.
    """

    fingerprint: str
    service: str
    kind: str
    size_bytes: int
    created: float
    last_used: float
    failed: str = ""


def entries(config: Config) -> list[Entry]:
    """The kept states, the longest unused first, and what could not be kept. Images are listed where Docker answers."""
    found = [_entry(config, record) for record in warm_store.all_of(config.cache_dir)]
    known = {entry.fingerprint for entry in found}
    with docker(config) as engine:
        if engine is not None:
            from itest.engines import docker_warm

            for image in docker_warm.images(engine, warm_store.identity(config.cache_dir)):  # Without a record.
                labels = image.get("Labels") or {}
                fingerprint = str(labels.get(docker_warm.LABEL, ""))
                if fingerprint not in known:
                    service = str(labels.get(docker_warm.SERVICE, ""))
                    size, created = docker_warm.size_of(engine, image["Id"]), float(image["Created"])
                    found.append(Entry(fingerprint, service, IMAGE, size, created, created))
    return sorted(found, key=lambda entry: entry.last_used)


def clear(config: Config) -> list[Entry]:
    """Remove all kept states. Returns what was removed; an image that a container still runs from stays."""
    removed = entries(config)
    with docker(config) as engine:
        if engine is not None:
            from itest.engines import docker_warm

            stay = {
                str((image.get("Labels") or {}).get(docker_warm.LABEL))
                for image in docker_warm.images(engine, warm_store.identity(config.cache_dir))
                if not docker_warm.discard(engine, image["Id"])
            }
            removed = [entry for entry in removed if entry.kind != IMAGE or entry.fingerprint not in stay]
    for record in list(warm_store.all_of(config.cache_dir)):
        warm_store.remove(config.cache_dir, record)
    for stray in list(warm_store.strays(config.cache_dir, 0.0)):
        with contextlib.suppress(OSError):
            stray.unlink()
    return removed


def _entry(config: Config, record: Record) -> Entry:
    used = warm_store.last_used(config.cache_dir, record.fingerprint)
    kind = IMAGE if record.image else NOTHING if record.failed else ARCHIVE
    return Entry(record.fingerprint, record.service, kind, record.size, record.created, used, record.failed)


@contextlib.contextmanager
def docker(config: Config) -> Iterator[DockerEngine | None]:
    """The docker engine, closed at the end of the `with`; None where the settings exclude it or none answers."""
    from itest.engines.docker import DockerEngine

    engine = DockerEngine(config)
    try:
        yield None if config.engine == "process" or engine.unavailable() else engine
    except Unavailable:
        return
    finally:
        engine.close()
