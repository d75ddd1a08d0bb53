# SPDX-License-Identifier: Apache-2.0
"""Removing containers and volumes, which others may be removing at the same time."""

from __future__ import annotations

from typing import Any

from itest.clock import Deadline
from itest.engines import docker_sdk
from itest.engines.docker_errors import not_found

REMOVE_TIMEOUT = 10.0
"""Seconds to wait for a removal that somebody else has begun."""


def remove(client: Any, container: str) -> None:
    """Kill and remove a container with its anonymous volumes, and return when it is gone. It may be gone already."""
    docker_sdk.load()
    from docker.errors import APIError

    try:
        client.remove_container(container, v=True, force=True)
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
