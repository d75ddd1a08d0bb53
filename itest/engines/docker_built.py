# SPDX-License-Identifier: Apache-2.0
"""The images that were built and are still there: listed, bounded, removed.

Their labels are not those of containers and networks: a container inherits its image's labels, and one that somebody
starts from such an image by hand must not look like one of ours.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import warm_store
from itest.clock import wall
from itest.engines.docker_errors import not_found, translated
from itest.engines.docker_registry import familiar, tags
from itest.spec import BUILT

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine

FINGERPRINT = "itest.build"
"""Label: the fingerprint of what it was built from."""
RECIPE = "itest.build.recipe"
"""Label: the path of its Dockerfile, and its target."""
CACHE = "itest.build.cache"
"""Label: whose it is, by the cache directory of who built it."""

KEPT = 5
"""Versions that are kept of each recipe: a developer goes back and forth between a few branches."""

KEPT_TIME = 30 * 24 * 3600.0
"""Seconds after which an image is removed when another one is built; then it is built anew, mostly from Docker's cache."""


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built. `size_bytes` counts what it shares with others; `created`: seconds since 1970."""

    image: str
    recipe: str
    size_bytes: int
    created: float


def of(client: Any, cache: Path) -> list[Built]:
    """Those that users of this cache directory have built, the newest first. Raises ItestError."""
    with translated("list the images that were built"):
        found = client.images(filters={"label": f"{CACHE}={warm_store.identity(cache)}"})
    built = [_built(image) for image in found]
    return sorted(built, key=lambda each: each.created, reverse=True)


def trim(client: Any, cache: Path, newest: str) -> None:
    """Remove what is more than is kept, but not the one that was built just now. Raises ItestError."""
    seen: dict[str, int] = {}
    for each in of(client, cache):
        seen[each.recipe] = seen.get(each.recipe, 0) + 1
        if each.image != newest and (seen[each.recipe] > KEPT or each.created + KEPT_TIME < wall()):
            _remove(client, each.image)


def clear(engine: DockerEngine, cache: Path) -> tuple[list[Built], list[Built]]:
    """Remove them all: those that were removed, and those that a container still needs. Raises ItestError."""
    client = engine.client
    found = [(each, _remove(client, each.image)) for each in of(client, cache)]
    return [each for each, gone in found if gone], [each for each, gone in found if not gone]


def _remove(client: Any, image: str) -> bool:
    """False where it is in use."""
    from docker.errors import APIError

    try:
        with contextlib.suppress(not_found()), translated(f"remove image {image}", passing=(APIError,)):
            client.remove_image(image)
    except APIError:
        return False
    return True


def _built(image: dict[str, Any]) -> Built:
    ours = [tag for tag in tags(image) if tag.partition(":")[0].rpartition("/")[2] == BUILT]
    recipe = str((image.get("Labels") or {}).get(RECIPE, ""))
    return Built(familiar(ours[0]) if ours else str(image["Id"]), recipe, int(image["Size"]), float(image["Created"]))
