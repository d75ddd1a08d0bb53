# SPDX-License-Identifier: Apache-2.0
"""Networks on which containers reach one another by name: by their aliases, and by the first 12 digits of their ids."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from itest import naming
from itest.engines.docker_errors import not_found, translated
from itest.engines.ports import is_ours
from itest.errors import ItestError


def create(client: Any, name: str, labels: Mapping[str, str]) -> str:
    """The id of a new bridge network. Raises ItestError."""
    with translated(f"create the network {name}"):
        # Names need not be unique in Docker, and a start that was broken off could have left one of that name.
        made = client.create_network(f"itest-{name}-{naming.random_hex(5)}", driver="bridge", labels=dict(labels))
    return str(made["Id"])


def gateway(client: Any, network: str) -> str:
    """The address that this machine has, or will have, on a network; empty where it has none, because Docker's networks
    are in a virtual machine or on another one. Raises ItestError."""
    with translated(f"look at the network {network[:12]}"):
        pools = (client.inspect_network(network).get("IPAM") or {}).get("Config") or ()
    addresses = [pool.get("Gateway", "").partition("/")[0] for pool in pools]
    known = [address for address in addresses if address and ":" not in address]  # With IPv6 there is one of each kind.
    return next(filter(is_ours, known), "") or (known[0] if known and _is_made_later(client) else "")


def _is_made_later(client: Any) -> bool:
    """Whether this machine gets that address with the first container on the network: so it is with Podman as root."""
    if sys.platform != "linux":
        return False
    try:
        with translated("ask for what Docker is"):
            return client.info().get("Rootless") is False  # Docker says nothing of that name.
    except ItestError:  # A proxy before Docker's socket may not let that through.
        return False


def connect(client: Any, network: str, container: str, aliases: Sequence[str]) -> None:
    """Have a running container on a network too. It may be there already. Raises ItestError."""
    from docker.errors import APIError

    doing = f"connect container {container[:12]} with the network {network[:12]}"
    with translated(doing, passing=(APIError,)):
        try:
            client.connect_container_to_network(container, network, aliases=list(aliases))
        except APIError as error:
            if "already exists in network" not in str(error.explanation):
                with translated(doing):
                    raise


def remove(client: Any, network: str) -> None:
    """Remove it, also from under what is still on it. It may be gone already."""
    from docker.errors import APIError

    with contextlib.suppress(not_found()):
        # Podman refuses nothing, and would leave the bridge and the rules for the ports of what is on it.
        if client.is_podman:
            _clear(client, network)
        try:
            client.remove_network(network)
        except APIError as error:
            if error.status_code != 403:  # "has active endpoints": a server of many runs is on it.
                raise
            _clear(client, network)
            client.remove_network(network)


def _clear(client: Any, network: str) -> None:
    """Disconnect what is on it."""
    for container in client.inspect_network(network).get("Containers") or {}:
        with contextlib.suppress(not_found()):
            client.disconnect_container_from_network(container, network, force=True)
