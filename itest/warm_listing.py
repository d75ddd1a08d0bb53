# SPDX-License-Identifier: Apache-2.0
"""The states that are kept for later runs, to be shown and cleared. Runs that only use them do without this."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    `nothing` is one that could not be kept: `failed` says why. `elsewhere`: where the Docker is that has its image, if that is
    another one than was asked.
    """

    fingerprint: str
    service: str
    kind: str
    size_bytes: int
    created: float
    last_used: float
    failed: str = ""
    elsewhere: str = ""


def entries(config: Config) -> list[Entry]:
    """The kept states, the longest unused first, and what could not be kept. Images are listed where Docker answers."""
    with docker(config) as engine:
        found = [_entry(config, record, engine) for record in warm_store.all_of(config.cache_dir)]
        known = {entry.fingerprint for entry in found}
        if engine is not None:
            from itest.engines import docker_warm

            for image in docker_warm.images(engine, warm_store.identity(config.cache_dir)):  # Without a record.
                if image["Labels"].get(docker_warm.LABEL) not in known:
                    found.append(_image(engine, image))
    return sorted(found, key=lambda entry: entry.last_used)


def foreign(config: Config) -> list[Entry]:
    """The kept states of other cache directories on this Docker: none of them is begun with, and their size is theirs."""
    with docker(config) as engine:
        return [] if engine is None else [_image(engine, image) for image in _foreign(config, engine)]


def clear(config: Config) -> list[Entry]:
    """Remove all kept states, and those of other cache directories that are gone. Returns what was removed; an image that a
    container still runs from stays, and so does what is known of one on another Docker."""
    removed = entries(config)
    elsewhere = {entry.fingerprint for entry in removed if entry.elsewhere}
    removed = [entry for entry in removed if not entry.elsewhere]
    with docker(config) as engine:
        if engine is not None:
            from itest.engines import docker_warm

            stay = {
                str((image.get("Labels") or {}).get(docker_warm.LABEL))
                for image in docker_warm.images(engine, warm_store.identity(config.cache_dir))
                if not docker_warm.discard(engine, image["Id"])
            }
            removed = [entry for entry in removed if entry.kind != IMAGE or entry.fingerprint not in stay]
            removed += [
                _image(engine, image)
                for image in _foreign(config, engine)
                if docker_warm.is_owned(image) is False and docker_warm.discard(engine, image["Id"])
            ]
    for record in list(warm_store.all_of(config.cache_dir)):
        if record.fingerprint not in elsewhere:
            warm_store.remove(config.cache_dir, record)
    for stray in list(warm_store.strays(config.cache_dir, 0.0)):
        with contextlib.suppress(OSError):
            stray.unlink()
    return removed


def _entry(config: Config, record: Record, engine: DockerEngine | None) -> Entry:
    from itest.engines import docker_warm

    used = warm_store.last_used(config.cache_dir, record.fingerprint)
    kind = IMAGE if record.image else NOTHING if record.failed else ARCHIVE
    elsewhere = record.docker if docker_warm.is_elsewhere(record, engine) else ""
    return Entry(record.fingerprint, record.service, kind, record.size, record.created, used, record.failed, elsewhere)


def _foreign(config: Config, engine: DockerEngine) -> list[dict[str, Any]]:
    from itest.engines import docker_warm

    own = warm_store.identity(config.cache_dir)
    return [image for image in docker_warm.images(engine) if image["Labels"].get(docker_warm.CACHE) != own]


def _image(engine: DockerEngine, image: Mapping[str, Any]) -> Entry:
    from itest.engines import docker_warm

    labels, created = image["Labels"], float(image["Created"])
    size = docker_warm.size_of(engine, image["Id"])
    return Entry(labels.get(docker_warm.LABEL, ""), labels.get(docker_warm.SERVICE, ""), IMAGE, size, created, created)


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
