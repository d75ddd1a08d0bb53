# SPDX-License-Identifier: Apache-2.0
"""Where a container's image comes from: a registry, or a Dockerfile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import spec
from itest.errors import DeclarationError

if TYPE_CHECKING:
    from itest.services.container.declaration import Container


def check(container: Container) -> None:
    """Raise DeclarationError unless there is one image."""
    if not container.image and container.build is None:
        raise DeclarationError("it names no image; write Container('image:tag'), or Container(build='directory')")
    if container.image and container.build is not None:
        raise DeclarationError(f"both image {container.image!r} and build= are given: leave out one of them")
    if not isinstance(container.image, str):
        raise DeclarationError(f"the image must be a text like 'busybox:1.37', not {container.image!r}")


def origin(container: Container) -> dict[str, Any]:
    """The fields of a ContainerSpec that say it. A build's context starts at the directory of the declaration."""
    if container.build is None:
        found: dict[str, Any] = {"image": container.image}
    else:
        # Images that are built are another part's: spec.Build is there once that is.
        if (kind := getattr(spec, "Build", None)) is None:
            raise DeclarationError("build= needs a version of itest that builds images")
        build = container.build if isinstance(container.build, kind) else kind(Path(container.build))
        found = {"image": "", "build": replace(build, context=container.directory / build.context)}
    more = {"pull": container.pull, "platform": container.platform}
    return {**found, **{name: value for name, value in more.items() if value}}
