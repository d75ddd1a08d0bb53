# SPDX-License-Identifier: Apache-2.0
"""The class-data archive of a local broker: its classes as the JVM has them once it has loaded and checked them.

With one a broker is up in less than half of the time. It is kept among the other kept states (itest/warm_store.py), for one
Java, list of jars and list of options each, and made by a process of its own (archive_build.py) once the run that missed
it has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from itest import detached, naming, warm_store
from itest.config import Config
from itest.services.kafka.jars import Jars

FORMAT = 1
"""Part of the key. To be raised when an archive must be made anew although nothing else has changed."""

SAMPLES = 64
"""Places of the archive that are compared with what was written: to read all of its 50 MB takes too long."""

SAMPLE = 4096
"""Bytes of each of them."""


def options(java: str, jars: Jars, jvm: Sequence[str], config: Config) -> tuple[str, ...]:
    """The options that have this JVM use its archive; none as long as there is none. One is then made after the run."""
    if not config.warm or any(option.startswith(_CONTRARY) for option in jvm):
        return ()
    try:
        key = _key(java, jars, jvm)
    except OSError:
        return ()
    if archive := usable(config.cache_dir, key):
        warm_store.touch(config.cache_dir, key)  # What is not used for long goes first.
        return (f"-XX:SharedArchiveFile={archive}",)
    order: dict[str, object] = {
        "cache": str(config.cache_dir),
        "java": java,
        "jvm": list(jvm),
        "jars": jars.path,
    }
    record = warm_store.read(config.cache_dir, key)
    if record is None or not record.failed:
        with _lock:
            _missing[key] = order
    return ()


def make_missing() -> None:
    """Have the archives that were missing be made when this process has ended. Called once a broker runs.

    Not where that would end with this one (`detached.goes_on`): it takes 5 s, which is too long to wait for at the end of a run.
    """
    if not detached.goes_on():
        return
    with _lock:
        orders = {key: order for key, order in _missing.items() if key not in _ordered}
        _ordered.update(orders)
    for key, order in orders.items():
        with contextlib.suppress(OSError):
            warm_store.make(Path(str(order["cache"])))
            _order({"key": key, "path": naming.import_path(), **order})


def usable(cache: Path, key: str) -> Path | None:
    """The archive, if it is what it was when it was made: a JVM may crash on one that is not whole."""
    record = warm_store.read(cache, key)
    if record is None or not record.archive:
        return None
    path = warm_store.archive(cache, record)
    try:
        return path if path.name == name_of(key, path) else None
    except OSError:
        return None


def name_of(key: str, archive: Path) -> str:
    """The name for this archive, which has a digest of its content in it. Raises OSError."""
    with archive.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for number in range(SAMPLES + 1):
            file.seek(max(0, (size - SAMPLE) * number // SAMPLES))
            digest.update(file.read(SAMPLE))
    return f"{key}.{digest.hexdigest()[:16]}.jsa"


_CONTRARY = ("-Xshare", "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit", "-XX:AOT", "-javaagent", "-agent", "@")
"""Options of a declaration beside which there is no archive of ours."""

_missing: dict[str, dict[str, object]] = {}
_ordered: dict[str, dict[str, object]] = {}
_pipes: list[int] = []
_lock = threading.Lock()


def _key(java: str, jars: Jars, jvm: Sequence[str]) -> str:
    """All that an archive depends on: the JVM would not take it for another Java, or jar, or order of jars."""
    program = Path(os.path.realpath(java))
    home = program.parent.parent
    parts = [program, *(home / "lib").glob("modules"), *(home / "lib").glob("*/libjvm.*"), *map(Path, jars.paths)]
    stamps = [(str(part), (status := part.stat()).st_size, status.st_mtime_ns) for part in parts]
    return naming.fingerprint(FORMAT, [list(map(str, stamp)) for stamp in stamps], list(jvm))


def _order(orders: Mapping[str, object]) -> None:
    """Start the process that makes an archive as soon as this one, and its forked children, have ended."""
    reading, writing = os.pipe()
    _pipes.append(writing)  # Never closed by us, not even by a destructor: its end is ours.
    try:
        process = detached.start(detached.calling("itest.services.kafka.archive_build"), stdin=reading)
    finally:
        os.close(reading)
    process.returncode = 0  # It works after us; its destructor must not warn about that.
    os.write(writing, json.dumps(orders).encode())


def _after_fork() -> None:
    """In a forked child: the parent's end alone counts, and whoever held the lock does not exist there."""
    global _lock
    _lock = threading.Lock()
    for pipe in _pipes:
        with contextlib.suppress(OSError):
            os.close(pipe)
    _pipes.clear()


os.register_at_fork(after_in_child=_after_fork)
