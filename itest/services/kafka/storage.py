# SPDX-License-Identifier: Apache-2.0
"""The storage of a new broker, as `kafka-storage format` leaves it, without the JVM of its own that running that takes.

What it writes is the same for all releases of a minor version: two small files that hold neither the host port nor a
path. An integration test compares them with what the tool itself writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CLUSTER_ID = "aXRlc3Qta2Fma2EtMDAwMQ"
"""Any fixed one: 16 bytes as base64 (`itest-kafka-0001`)."""

DIRECTORY_ID = "aXRlc3QtZGlyZWN0b3J5MQ"
"""Likewise (`itest-directory1`)."""

META = f"version=1\ncluster.id={CLUSTER_ID}\nnode.id=1\ndirectory.id={DIRECTORY_ID}\n"
"""`meta.properties`: whose storage it is."""

CHECKPOINTS = {
    # `bootstrap.checkpoint` as base64: the feature levels that the controller writes into the cluster's metadata first,
    # metadata.version (25 and 27), group.version, transaction.version and, since 4.1, eligible.leader.replicas.version.
    "4.0": (
        "AAAAAAAAAAAAAABHAAAAAALSzxIpACAAAAAAAAABof6Hj2MAAAGh/oePY///////////////////AAAAASoAAAAIAAAAAxYAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAQAAAIsAAAAAAl+VKJUAAAAAAAIAAAGh/oePggAAAaH+h4+C//////////////////8AAAADOgAAAAEuAQwAEW1ldGFkYXRh"
        "LnZlcnNpb24AGQAANAAAAgEoAQwADmdyb3VwLnZlcnNpb24AAQAAQAAABAE0AQwAFHRyYW5zYWN0aW9uLnZlcnNpb24AAgAAAAAAAAAAAAQA"
        "AAA/AAAAAAJPfN1tACAAAAAAAAABof6Hj4MAAAGh/oePg///////////////////AAAAARoAAAAIAAAABAYAAAAA"
    ),
    "4.1": (
        "AAAAAAAAAAAAAABHAAAAAALTo8odACAAAAAAAAABof56OWUAAAGh/no5Zf//////////////////AAAAASoAAAAIAAAAAxYAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAQAAALkAAAAAAlbUD68AAAAAAAMAAAGh/no6AwAAAaH+ejoD//////////////////8AAAAEOgAAAAEuAQwAEW1ldGFkYXRh"
        "LnZlcnNpb24AGwAAWgAAAgFOAQwAIWVsaWdpYmxlLmxlYWRlci5yZXBsaWNhcy52ZXJzaW9uAAEAADQAAAQBKAEMAA5ncm91cC52ZXJzaW9u"
        "AAEAAEAAAAYBNAEMABR0cmFuc2FjdGlvbi52ZXJzaW9uAAIAAAAAAAAAAAAFAAAAPwAAAAACSEcykAAgAAAAAAAAAaH+ejoFAAABof56OgX/"
        "/////////////////wAAAAEaAAAACAAAAAQGAAAAAA=="
    ),
}

_SHAPING = re.compile(
    r"(node|broker)\.id|process\.roles|log\.dirs?|(metadata|controller\.quorum|unstable)\..*|inter\.broker\..*"
)
"""Settings that the tool reads."""


def checkpoint(version: str, settings: Iterable[str]) -> str | None:
    """`bootstrap.checkpoint` as base64, for a release of Kafka and the names of the settings that a declaration has.

    None where it is not known, or where the settings may change what the tool writes: then it has to be run.
    """
    found = re.fullmatch(r"(\d+\.\d+)\.\d+", version)
    if not found or any(_SHAPING.fullmatch(name) for name in settings):
        return None
    return CHECKPOINTS.get(found[1])
