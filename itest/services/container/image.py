# SPDX-License-Identifier: Apache-2.0
"""Where a container's image comes from: a registry, or a Dockerfile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from itest.build import Build
from itest.errors import DeclarationError
from itest.spec import PULLS

if TYPE_CHECKING:
    from itest.services.container.declaration import Container


def check(container: Container) -> None:
    """Raise DeclarationError unless there is one image."""
    image, build = container.image, container.build
    if not image and build is None:
        raise DeclarationError("it names no image; write Container('image:tag'), or Container(build='directory')")
    if image and build is not None:
        raise DeclarationError(f"both image {image!r} and build= are given: leave out one of them")
    if not isinstance(build, str | Path | Build | None):
        raise DeclarationError(f"build: {build!r} is neither a directory nor a Build")
    if container.pull not in PULLS:
        raise DeclarationError(f"pull: {container.pull!r} is none of {', '.join(map(repr, PULLS))}")


def built_from(container: Container) -> Build | None:
    """What the image is built from; its context starts at the directory of the declaration."""
    build = container.build
    if build is None:
        return None
    found = build if isinstance(build, Build) else Build(build)
    return replace(found, context=container.directory / found.context)
