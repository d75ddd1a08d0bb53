# SPDX-License-Identifier: Apache-2.0
"""Making a class-data archive, in a process of its own: a broker is led through what tests do, and ends in order.

Nobody waits for it and nobody reads what it says, so it has the lowest priority, a deadline, and leaves its reason
beside the archive where it fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itest import naming, warm_store
from itest.clock import Deadline, wall
from itest.errors import ItestError
from itest.lock import locked
from itest.services.kafka import archive, clients, recipes, storage
from itest.spec import fill
from itest.warm_store import Record

SECONDS = 120.0
"""Seconds that it may take: 5 on an idle machine."""

ATTEMPTS = 5
"""How often the broker is started: somebody else may take the chosen ports in between."""

KEPT = 3
"""Archives that stay, those that were used last: another Java or Kafka makes the older ones useless."""

PLACE = ".kafka-"
"""What the names of directories begin with in which an archive is made."""

TOPIC = "itest"


def main(orders: Mapping[str, Any]) -> None:
    """Make the archive that these orders ask for, if nobody else has or does. What others left half-made goes."""
    cache, key = Path(orders["cache"]), str(orders["key"])
    os.nice(19)
    lock = warm_store.directory(cache) / "kafka.lock"
    with contextlib.suppress(OSError, ItestError), locked(lock, 0.0, "making a class-data archive"):
        # One at a time, and what lies around under a temporary name belongs to somebody who has died.
        for left in warm_store.directory(cache).glob(f"{PLACE}*"):
            shutil.rmtree(left, ignore_errors=True)
        known = warm_store.read(cache, key)
        if not archive.usable(cache, key) and not (known and known.failed):
            _make(cache, key, orders)
        _forget_old(cache)


def _make(cache: Path, key: str, orders: Mapping[str, Any]) -> None:
    """Its record replaces what there was. Raises OSError, also when the cache has gone meanwhile."""
    directory = warm_store.directory(cache)
    record = Record(key, "kafka", wall())
    with tempfile.TemporaryDirectory(prefix=PLACE, dir=directory, ignore_cleanup_errors=True) as place:
        made = Path(place, "classes.jsa")
        try:
            _train(Path(place), made, orders)
            with made.open("rb") as file:
                os.fsync(file.fileno())  # Or a power failure leaves the name with nothing in it.
            record = record._replace(archive=archive.name_of(key, made), size=made.stat().st_size)
        except Exception as error:
            if not made.parent.is_dir():
                return  # The cache itself is gone, and that is the reason.
            record = record._replace(failed=naming.shorten(f"{type(error).__name__}: {error}", 1000))
        for old in directory.glob(f"{key}.*.jsa"):
            old.unlink()
        if record.archive:
            made.rename(directory / record.archive)
        warm_store.write(cache, record)


def _train(directory: Path, target: Path, orders: Mapping[str, Any]) -> None:
    """Run a broker that writes its classes to `target` at its end. Raises whatever goes wrong."""
    deadline = Deadline.after(SECONDS)
    java: list[str] = [orders["java"], *(fill(option, {}, str(directory)) for option in orders["jvm"])]
    path: str = orders["jars"]
    with (directory / "log").open("wb") as log:
        settings, _ = _settings(directory)
        format = [*java, "-cp", path, "kafka.tools.StorageTool", "format", "-t", storage.CLUSTER_ID, "-c", settings]
        with _running(format, directory, log) as process:
            _wait(process, deadline, (0,))
        dump = [f"-XX:ArchiveClassesAtExit={target}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        for attempt in range(1, ATTEMPTS + 1):
            settings, server = _settings(directory)
            with _running([*java, *dump, "-cp", path, "kafka.Kafka", settings], directory, log) as process:
                try:
                    _use(process, server, deadline)
                except Exception:
                    if process.poll() is not None and attempt < ATTEMPTS:
                        continue  # Whoever answered there, if anybody, has taken the port from it.
                    raise
                process.terminate()
                _wait(process, deadline, (0, 128 + signal.SIGTERM))
                break
        # By itself a JVM says nothing about an archive that it cannot use, and goes on without.
        check = ["-Xshare:on", f"-XX:SharedArchiveFile={target}", "-cp", path, "-version"]
        with _running([*java, *check], directory, log) as process:
            _wait(process, deadline, (0,))


def _settings(directory: Path) -> tuple[str, str]:
    """A file with the broker's settings, and its address: at ports that are free just now."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = {"client": one.getsockname(), "controller": two.getsockname()}
    file = directory / "server.properties"
    file.write_text(fill(recipes.properties({}), ports, str(directory)), encoding="utf-8")
    return str(file), ":".join(map(str, ports["client"]))


@contextlib.contextmanager
def _running(command: Sequence[str], directory: Path, log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A JVM that does not outlive us."""
    setpriv = shutil.which("setpriv")
    process = subprocess.Popen(
        [*([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=directory,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], deadline: Deadline, good: Sequence[int]) -> None:
    code = process.wait(deadline.remaining)
    if code not in good and -code not in good:
        raise ItestError(f"the JVM ended with exit code {code}")


def _use(process: subprocess.Popen[bytes], server: str, deadline: Deadline) -> None:
    """What tests do: so their first steps find their classes in the archive too."""
    [(host, port)] = clients.split(server)
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            break
        if process.poll() is not None or deadline.passed:
            raise ItestError("the broker did not start")
        deadline.pause(0.05)
    with contextlib.ExitStack() as stack:
        admin = clients.admin(server)
        stack.callback(admin.close)
        admin.create_topics([clients.package("kafka.admin").NewTopic(TOPIC, 1, 1)])
        producer = clients.producer(server)
        stack.callback(producer.close, timeout=5)
        for _ in range(3):
            producer.send(TOPIC, b"value", key=b"key").get(timeout=10)
        consumer = clients.make("KafkaConsumer", server, TOPIC, group_id=TOPIC, auto_offset_reset="earliest")
        stack.callback(consumer.close)
        while not consumer.poll(timeout_ms=200):
            if deadline.passed:
                raise ItestError("no message arrived")
        consumer.commit()
        consumer.close()  # Before its topic goes: else it tries for 30 s to commit what it has read of that.
        admin.list_groups()
        admin.delete_topics([TOPIC])


def _forget_old(cache: Path) -> None:
    records = [record for record in warm_store.all_of(cache) if record.archive.endswith(".jsa")]
    records.sort(key=lambda record: warm_store.last_used(cache, record.fingerprint), reverse=True)
    for record in records[KEPT:]:
        warm_store.remove(cache, record)
