# SPDX-License-Identifier: Apache-2.0
"""The state of a test's database when the test has failed: its keys by type, slow commands, clients that wait."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from itest import naming
from itest.evidence import Evidence
from itest.services.redis.clients import KEPT_NAME, package
from itest.services.redis.state import as_it_is, clients_of, waiting

MOST_KEYS = 1000
"""Keys that are looked at; a database may have millions."""

SHOWN_KEYS = 8
"""Names of each type that are shown."""

MOST_SLOW = 5
"""Slow commands that are shown."""

BATCH = 1000

_OURS = (
    *("FLUSHDB ASYNC", "FLUSHDB SYNC", "UNLINK ", "RESTORE ", "DUMP ", "PEXPIRETIME "),
    *("CLIENT LIST", "INFO COMMANDSTATS", "SCAN 0 MATCH", "SLOWLOG GET"),
)
"""What the commands of resets and of this module begin with: slow only where the machine is."""


def evidence(client: Any, pattern: str, baseline: Mapping[bytes, bytes], since: float) -> Evidence:
    """Of the keys like `pattern`, by a client that is closed then. `baseline` has the dumps of the keys that the test began
    with."""
    found = Evidence()
    with contextlib.closing(client):
        keys, complete = _keys(client, pattern)
        pipeline: Any = client.pipeline(transaction=False)  # redis-py types answers, not pipelines
        for key in keys:
            pipeline.type(key)
        kinds = pipeline.execute()
        known = [key for key in keys if key in baseline]
        for key in known:
            pipeline.dump(key)
        same = {key for key, dump in zip(known, pipeline.execute(), strict=True) if dump == baseline[key]}
        by_kind: dict[str, list[bytes]] = {}
        for key, kind in zip(keys, kinds, strict=True):
            if key not in same:
                by_kind.setdefault(kind.decode(), []).append(key)
        found.brief = _brief(len(keys), complete, len(same))
        for kind, names in sorted(by_kind.items()):
            found.lines.append(f"{kind}: {_listed(names)}")
            found.more += [f"{kind} {_text(name)}" for name in names]
        if complete and (gone := [key for key in baseline if key not in keys]):
            found.lines.append(f"gone from the baseline: {_listed(gone)}")
        database = int(client.connection_pool.connection_kwargs.get("db") or 0)
        with contextlib.suppress(package().ResponseError):  # Managed servers forbid these.
            found.lines += _waiting(client, database)
            found.lines += _slow(client, since)
    return found


def _keys(client: Any, pattern: str) -> tuple[list[bytes], bool]:
    """Some of the keys, and whether they are all."""
    keys: set[bytes] = set()
    cursor = 0
    while True:
        cursor, some = client.scan(cursor, match=pattern, count=BATCH)
        keys.update(some)
        if cursor == 0 or len(keys) >= MOST_KEYS:
            return sorted(keys)[:MOST_KEYS], cursor == 0 and len(keys) <= MOST_KEYS


def _brief(count: int, complete: bool, same: int) -> str:
    if not complete:
        return f"more than {count} keys" if count else "too many keys to look at"
    if count and count == same:
        return f"{_keys_of(count)}, as the baseline has {'it' if count == 1 else 'them'}"
    return (_keys_of(count) if count else "no keys") + (f", {same} of them the unchanged baseline" if same else "")


def _keys_of(count: int) -> str:
    return f"{count} key{'s'[: count != 1]}"


def _waiting(client: Any, database: int) -> list[str]:
    client.set_response_callback("CLIENT LIST", as_it_is)
    listed = [each for each in clients_of(client.client_list()) if int(each["db"]) == database and waiting(each)]
    return [
        f"client {each['id']}{_who(each['name'])} is {waiting(each)}, last command: {each['cmd']}" for each in listed
    ]


def _who(name: str) -> str:
    return f" ({name})" if name and name != KEPT_NAME else ""


def _slow(client: Any, since: float) -> list[str]:
    entries = [
        entry
        for entry in client.slowlog_get(128)
        if entry["start_time"] >= int(since) and not _text(entry["command"]).upper().startswith(_OURS)
    ]
    # The log has whole seconds, so that what another test did just before cannot be told apart.
    lines = []
    for entry in entries[:MOST_SLOW]:
        command = naming.shorten(_text(entry["command"]), 100)
        when = " or before this test" if entry["start_time"] <= since else ""
        lines.append(f"slow{when}: {entry['duration'] / 1000:.0f} ms, {command}")
    return lines + ([f"and {len(entries) - MOST_SLOW} more slow commands"] if len(entries) > MOST_SLOW else [])


def _listed(keys: Sequence[bytes]) -> str:
    shown = ", ".join(naming.shorten(_text(key), 40) for key in keys[:SHOWN_KEYS])
    return f"{shown} and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else shown


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
