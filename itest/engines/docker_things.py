# SPDX-License-Identifier: Apache-2.0
"""What itest has made on a Docker: containers, networks and volumes with its label, whichever run made them.

On a Unix socket that is asked without the SDK, since it is asked at the start of each run and mostly nothing is there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from itest import naming, owners
from itest.engines import Thing, docker_quick
from itest.engines.docker_errors import translated, unanswered
from itest.engines.docker_instance import image_of
from itest.engines.docker_remove import remove, remove_volume
from itest.errors import ItestError

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine

FILTERS = {"label": [naming.SESSION]}
"""Whatever its value. Docker and Podman know labels without one."""

LIST_TIMEOUT = 30.0
"""Seconds that a list may take. It takes a millisecond."""


def things(engine: DockerEngine) -> list[Thing]:
    """Containers first: what they use cannot be removed before them. Raises ItestError."""
    containers = _listed(engine, "containers", f"/containers/json?all=1&filters={_filters()}")
    networks = _listed(engine, "networks", f"/networks?filters={_filters()}")
    volumes = _listed(engine, "volumes", f"/volumes?filters={_filters()}")
    found = [
        *(_container(engine, each) for each in containers),
        *(_network(engine, each) for each in networks),
        *(_volume(engine, each) for each in volumes),
    ]
    around = [_around_owner(thing) for thing in found]
    ended = {each for each in set(around) if each and not engine.container_state(each).running}
    return [thing._replace(owner_ended=each in ended) for thing, each in zip(found, around, strict=True)]


def _around_owner(thing: Thing) -> str:
    """The container that its owner runs in; empty for none."""
    owner = owners.parse(thing.labels.get(naming.OWNER, ""))
    return "" if owner is None or owner.container == owners.UNKNOWN else owner.container


def _filters() -> str:
    return quote(json.dumps(FILTERS))


def _listed(engine: DockerEngine, what: str, resource: str) -> list[Mapping[str, Any]]:
    doing = f"list the {what} of itest"
    parts = engine.address.parts
    if parts.scheme != "unix":
        client = engine.client
        with translated(doing):
            if what == "networks":
                return list(client.networks(filters=FILTERS))
            if what == "volumes":
                return list(client.volumes(filters=FILTERS)["Volumes"] or ())
            return list(client.containers(all=True, filters=FILTERS))
    try:
        status, said = docker_quick.ask(parts.path, "GET", resource, timeout=LIST_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ItestError(unanswered(doing, error)) from None
    if what == "volumes" and isinstance(said, dict) and "Volumes" in said:
        said = said["Volumes"]
    if status != 200 or not isinstance(said, list | None):
        raise ItestError(f"could not {doing}, Docker says: {naming.shorten(str(said))}")
    return said or []


def _container(engine: DockerEngine, item: Mapping[str, Any]) -> Thing:
    return Thing(
        "container",
        item["Id"][:12],
        image_of(item),
        item["Labels"] or {},
        float(item["Created"]),
        item["State"] in ("running", "paused"),
        partial(_remove_container, engine, item["Id"]),
        paused=item["State"] == "paused",
    )


def _network(engine: DockerEngine, item: Mapping[str, Any]) -> Thing:
    return Thing(
        "network",
        item["Id"][:12],
        item["Name"],
        item["Labels"] or {},
        _moment(item, "Created"),
        True,
        partial(engine.remove_network, item["Id"]),
    )


def _volume(engine: DockerEngine, item: Mapping[str, Any]) -> Thing:
    name = item["Name"]
    return Thing(
        "volume",
        naming.shorten(name, 40),
        item["Driver"],
        item["Labels"] or {},
        _moment(item, "CreatedAt"),
        True,
        partial(_remove_volume, engine, name),
    )


def _moment(item: Mapping[str, Any], name: str) -> float:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return datetime.fromisoformat(item[name]).timestamp()
    return 0.0


def _remove_container(engine: DockerEngine, container: str) -> None:
    with translated(f"remove container {container[:12]}"):
        remove(engine.client, container)


def _remove_volume(engine: DockerEngine, volume: str) -> None:
    with translated(f"remove volume {volume}"):
        remove_volume(engine.client, volume)
