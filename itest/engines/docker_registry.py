# SPDX-License-Identifier: Apache-2.0
"""Names of images, the mirror of Docker Hub, and what registries say, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from itest import naming

HUB = "docker.io"


def explain(
    image: str,
    said: str,
    *,
    asked: str = "",
    platform: str = "",
    login: str = "",
    problem: str = "",
    there: bool = False,
) -> str:
    """Why an image could not be pulled and what to try, from what the registry or Docker said.

    `asked`: the name it was asked for by, with a mirror; `login`: where a login came from, `problem`: why there is none;
    `there`: an older one is there, but a newer one was to be looked for.
    """
    from itest import causes  # Only errors need it.

    said = _once(naming.mask(said))
    host = registry_of(asked or image)
    suffix = "" if host == HUB else f" {host}"
    access = "the name is wrong or the image is private: check it, or log in with `docker login{login}`"
    if login:
        access = "the name is wrong, or the login for {registry} is: it comes from {source}, renew it there"
    elif problem:
        access += f" ({naming.mask(problem)})"
    facts = {"access": access, "registry": host, "login": suffix, "source": login}
    facts["platform"] = f"platform {platform}" if platform else "this machine's processor"
    known = causes.find(said, causes.REGISTRY, **facts)
    cure = known.cure if known else "try `docker pull` by hand"
    where = f" as {asked}, by the setting mirror" if asked and asked != image else ""
    state = "" if there else f"is not on the Docker host{f' for platform {platform}' if platform else ''} and "
    return naming.mask(f"image {image} {state}could not be pulled{where}: {naming.shorten(said, 300)}; {cure}")


def registry_of(image: str) -> str:
    """The registry that an image's name points to: what precedes the first slash if it looks like a host."""
    first, slash, _ = image.partition("/")
    if not slash or ("." not in first and ":" not in first and first != "localhost"):
        return HUB
    return HUB if first == f"index.{HUB}" else first


def familiar(image: str) -> str:
    """An image's name as people and Docker give it: Podman lists it as docker.io/library/redis:8, or localhost/mine:1."""
    return re.sub(r"^(docker\.io/(library/)?|localhost/)", "", image)


def tags(image: Mapping[str, Any]) -> list[str]:
    """The names of an image that Docker lists. Before API 1.43 it lists one without any as `<none>:<none>`, Podman as null
    (https://docs.docker.com/reference/api/engine/version-history/)."""
    return [tag for tag in image.get("RepoTags") or () if tag != "<none>:<none>"]


def mirrored(image: str, mirror: str) -> str:
    """The name by which a mirror has an image: only Docker Hub's has another one, and an id is no name.

    `postgres:17` is `mirror/library/postgres:17`, `apache/kafka:4.1.1` is `mirror/apache/kafka:4.1.1`.
    """
    if not mirror or registry_of(image) != HUB or re.fullmatch(r"(sha256:)?[0-9a-f]{64}", image):
        return image
    name = re.sub(rf"^(index\.)?{re.escape(HUB)}/", "", image)
    return f"{mirror.rstrip('/')}/{name if '/' in name else f'library/{name}'}"


def _once(said: str) -> str:
    """Docker's chain of reasons, `a: b: b`, without repetitions and without its own preamble."""
    parts: list[str] = []
    for part in " ".join(said.split()).removeprefix("Error response from daemon: ").rstrip(".").split(": "):
        if part not in parts:
            parts.append(part)
    return ": ".join(parts)


_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}


def fits(platform: str, os: str, architecture: str, variant: str) -> bool:
    """Whether an image that Docker says this of is one for `os/architecture[/variant]`, or for an architecture alone."""
    parts = platform.lower().split("/")
    if len(parts) == 1:
        parts.insert(0, os)
    parts[1] = _NAMES.get(parts[1], parts[1])
    found = [os, architecture, variant]
    return all(not have or want == have for want, have in zip(parts, found, strict=False))
