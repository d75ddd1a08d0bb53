# SPDX-License-Identifier: Apache-2.0
"""The process that keeps a server's state after the run: it takes it, removes what it was taken from, and sees to it
that all states together stay within their limit.

It is started by `warm.hand_over` and knows nothing but its orders. If it is killed there is no state, and a reaper of its
own removes the container or directory.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itest import naming, warm_store
from itest.clock import wall
from itest.config import load
from itest.engines import directory, docker_warm, process_warm
from itest.engines.docker import DockerEngine
from itest.engines.docker_registry import tags
from itest.errors import ItestError
from itest.spec import Keep
from itest.warm_store import Record

ABANDONED = 600.0
"""Seconds after which a file or an image that no record names belongs to nobody who is still at work."""

FORGOTTEN = 30 * 24 * 3600.0
"""Seconds after which another cache directory's image goes, where nobody can see whether that directory is still there."""


def main(orders: Mapping[str, Any]) -> None:
    """Keep the state, or remember why it could not be kept, unless there is one already: that stays."""
    cache, fingerprint = Path(orders["cache"]), str(orders["fingerprint"])
    keep = _keep(orders["keep"])
    before = warm_store.read(cache, fingerprint)
    record = Record(fingerprint, keep.service, wall(), keep.secret, steps=orders["steps"], remade=orders["remade"])
    with contextlib.closing(DockerEngine(load(files=False))) as engine:
        try:
            record = (
                _take_container(orders, keep, record, engine) if orders["container"] else _archive(orders, keep, record)
            )
        except (ItestError, OSError) as error:
            record = Record(fingerprint, keep.service, wall(), failed=naming.mask(str(error)))
            if before is None and not _passes(error):
                with contextlib.suppress(OSError):
                    warm_store.write(cache, record)
        else:
            with contextlib.suppress(OSError):
                warm_store.write(cache, record)
                if before is not None and before.archive not in ("", record.archive):
                    warm_store.archive(cache, before).unlink()
        trim(cache, int(orders["limit"]), engine if orders["container"] else None)
    if not record.failed:  # What it was taken from may be there still.
        with contextlib.suppress(OSError):
            os.write(int(orders["reaper"]), b"done\n")


def _passes(error: Exception) -> bool:
    """Whether it says nothing of the next time: a full disk, which Docker tells in words, or what was deleted meanwhile."""
    full = os.strerror(errno.ENOSPC).casefold() in str(error).casefold()
    return full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)


def trim(cache: Path, limit: int, engine: DockerEngine | None) -> None:
    """Remove the states not used for longest until all are within the limit (bytes), and what nobody knows of."""
    for stray in list(warm_store.strays(cache, ABANDONED)):
        with contextlib.suppress(OSError):
            stray.unlink()
    records = [record for record in warm_store.all_of(cache) if not record.failed]
    if engine is not None:  # Another Docker's disk is another one.
        records = [record for record in records if not docker_warm.is_elsewhere(record, engine)]
    records.sort(key=lambda record: warm_store.last_used(cache, record.fingerprint))
    total = sum(record.size for record in records)
    for record in records:
        if total <= limit:
            break
        if record.image and (engine is None or not _discard(engine, record.image)):
            continue  # It is on a daemon that cannot be asked, or a server runs from it.
        warm_store.remove(cache, record)
        total -= record.size
    if engine is not None:
        with contextlib.suppress(ItestError):
            _trim_images(cache, limit, engine)


def _trim_images(cache: Path, limit: int, engine: DockerEngine) -> None:
    """Those without a record, and those of other cache directories that are gone, as after CI jobs; where that cannot be
    seen, all of these together have the limit, too. Raises ItestError."""
    known = {record.image for record in warm_store.all_of(cache)}
    own, total = warm_store.identity(cache), 0
    for image in sorted(docker_warm.images(engine), key=lambda image: -image["Created"]):
        if image["Id"] in known:
            continue
        is_own = image["Labels"].get(docker_warm.CACHE) == own
        is_replaced = is_own and not tags(image)
        there = False if is_own else docker_warm.is_owned(image)
        if there is None:
            total += docker_warm.size_of(engine, image["Id"])
        is_forgotten = image["Created"] + (ABANDONED if there is False else FORGOTTEN) < wall()
        if is_replaced or is_forgotten or (there is None and total > limit):
            _discard(engine, image["Id"])


def _take_container(orders: Mapping[str, Any], keep: Keep, record: Record, engine: DockerEngine) -> Record:
    container, cache = str(orders["container"]), Path(orders["cache"])
    labels = {naming.SESSION: str(orders["session"]), naming.SERVICE: keep.service, naming.OWNER: naming.owner()}
    try:
        image, size = docker_warm.take(
            engine,
            container,
            str(orders["base"]),
            orders["entrypoint"],
            keep,
            record.fingerprint,
            {docker_warm.CACHE: warm_store.identity(cache), docker_warm.ADDRESS: warm_store.address(cache)},
            labels,
        )
    finally:
        docker_warm.remove_container(engine, container)
    return record._replace(created=wall(), image=image, size=size, docker=engine.address.url)


def _archive(orders: Mapping[str, Any], keep: Keep, record: Record) -> Record:
    place, cache = Path(orders["place"]), Path(orders["cache"])
    archive = warm_store.new_archive(cache, record.fingerprint)
    try:
        if keep.tidy:
            module, _, name = keep.tidy.partition(":")
            getattr(importlib.import_module(module), name)(place)
        size = process_warm.pack(place, keep.directories, archive)
        archive = archive.rename(archive.with_name(process_warm.name_of(record.fingerprint, archive)))
    except BaseException:
        archive.unlink(missing_ok=True)
        raise
    finally:
        directory.remove(place)
    return record._replace(created=wall(), archive=archive.name, size=size)


def _discard(engine: DockerEngine, image: str) -> bool:
    try:
        return docker_warm.discard(engine, image)
    except ItestError:
        return False


def _keep(values: Mapping[str, Any]) -> Keep:
    def commands(name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple((user, tuple(argv)) for user, argv in values[name])

    return Keep(
        tuple(values["directories"]),
        values["service"],
        values["secret"],
        values["stop_signal"],
        values["tidy"],
        values["launch"],
        commands("before"),
        commands("after"),
        besides=tuple(values["besides"]),
    )
