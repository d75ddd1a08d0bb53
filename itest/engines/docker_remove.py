# SPDX-License-Identifier: Apache-2.0
"""Removing containers and volumes, which others may be removing at the same time."""

from __future__ import annotations

from typing import Any

from itest.clock import Deadline
from itest.engines import docker_sdk
from itest.engines.docker_errors import check, not_found

REMOVE_TIMEOUT = 10.0
"""Seconds to wait for a removal that somebody else has begun."""


def request(container: str, *, podman: bool) -> str:
    """The path to DELETE, for a container to be killed and removed with its anonymous volumes."""
    if podman:  # Asked as Docker is, Podman 5 first tells it to end, and waits as long as it has for that.
        return f"/v4.0.0/libpod/containers/{container}?force=1&volumes=1&timeout=0"
    return f"/containers/{container}?force=1&v=1"


def remove(client: Any, container: str) -> None:
    """Kill and remove a container with its anonymous volumes, and return when it is gone. It may be gone already."""
    docker_sdk.load()
    from docker.errors import APIError

    try:
        path = request(container, podman=client.is_podman)
        with client.delete(f"{client.base_url}{path}", timeout=client.timeout) as response:
            check(response)
    except not_found():
        return
    except APIError as error:
        if error.status_code != 409:
            raise
        deadline = Deadline.after(REMOVE_TIMEOUT)  # "removal ... is already in progress": somebody else's.
        while not deadline.passed:
            try:
                client.inspect_container(container)
            except not_found():
                return
            deadline.pause(0.02)
        raise


def remove_volume(client: Any, volume: str) -> None:
    """Remove a volume that no container mounts any more. It may be gone already, or stay for the others."""
    docker_sdk.load()
    from docker.errors import APIError

    try:
        client.remove_volume(volume)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
