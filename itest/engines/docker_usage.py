# SPDX-License-Identifier: Apache-2.0
"""What a container takes of the machine, and what has befallen it.

Without the SDK where that can be: it is asked for a failing test, which may have replaced anything that the SDK's import needs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itest.engines import docker_quick

CGROUPS = Path("/sys/fs/cgroup")

STATS_TIMEOUT = 0.2
"""Seconds for Docker's own answer. It has one at once or, as it measures once a second, after a second."""

UNANSWERED = (OSError, ValueError, KeyError, TypeError)
"""What is raised where there is none, or another one than Docker's. The errors of requests are OSErrors."""


def facts(told: Mapping[str, Any], container: str, client: Any, socket: str) -> list[str]:
    """Phrases: its memory, if that is to be had quickly, whether it is paused, restarts, processes that were killed for lack of
    memory. `told` is what Docker says of it."""
    found = []
    state, limit = told["State"], int(told["HostConfig"].get("Memory") or 0)
    used = _of_cgroup(int(state.get("Pid") or 0), container)
    if (used := _of_stats(container, client, socket) if used is None else used) is not None:
        found.append(f"{used >> 20} MB{f' of {limit >> 20} MB' if limit else ''} in use")
    if state.get("Paused"):
        found.append("paused")
    if restarts := int(told.get("RestartCount") or 0):
        found.append(f"restarted {restarts} time{'s'[: restarts != 1]}")
    if state.get("OOMKilled"):
        found.append("a process in it was killed for lack of memory")
    return found


def _of_cgroup(pid: int, container: str) -> int | None:
    """By the kernel's files, if Docker runs on this very machine: then the process is in a cgroup of that name."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        found = re.search(rf"^\d+:(memory)?:/(\S*{container}\S*)$", groups, re.MULTILINE)
        if pid and found:
            # Version 1 has a tree for each controller, version 2 one for all.
            place = CGROUPS / (found[1] or "") / found[2]
            used = int((place / ("memory.usage_in_bytes" if found[1] else "memory.current")).read_text())
            return used - _cache(dict(line.split() for line in (place / "memory.stat").read_text().splitlines()))
    return None


def _of_stats(container: str, client: Any, socket: str) -> int | None:
    with contextlib.suppress(*UNANSWERED):
        memory = _said(client, socket, f"/containers/{container}/stats?stream=false&one-shot=true")["memory_stats"]
        used = int(memory["usage"]) - _cache(memory["stats"])
        return used if _has_cgroups(client, socket) else None
    return None


def _has_cgroups(client: Any, socket: str) -> bool:
    """Whether each container has one. Rootless Docker may have none, and tells of each what it finds around itself."""
    with contextlib.suppress(*UNANSWERED):
        return bool(_said(client, socket, "/info")["CgroupDriver"] != "none")
    return True


def _said(client: Any, socket: str, resource: str) -> Any:
    """What Docker answers. Raises OSError, ValueError."""
    if socket:
        return docker_quick.ask(socket, "GET", resource, timeout=STATS_TIMEOUT)[1]
    with client.get(f"{client.base_url}/v{client.api_version}{resource}", timeout=STATS_TIMEOUT) as response:
        return response.json()


def _cache(stats: dict[str, Any]) -> int:
    """What is not in use, since it can be had back at any time: as `docker stats` counts."""
    return int(stats.get("total_inactive_file", stats.get("inactive_file", 0)))
