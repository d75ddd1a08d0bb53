# SPDX-License-Identifier: Apache-2.0
"""Kept states as images: the container's state is one archive in a layer above the image that it was started from.

At a start the archive is unpacked where the state was, in memory as on the first day. Measured with PostgreSQL (54 MB,
Docker 20.10, overlay2): 45 ms for that, 100 for copying a directory instead; running from the layer itself saves them,
but a clone then takes twice as long and removing the container 0.3 s more.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from itest import warm_store
from itest.clock import Deadline
from itest.engines.docker import DockerEngine
from itest.engines.docker_errors import not_found, translated
from itest.engines.docker_instance import DockerInstance
from itest.engines.docker_remove import remove
from itest.errors import ItestError
from itest.spec import Keep

REPOSITORY = "itest-warm"
LABEL = "itest.warm"
"""Label of the images: the fingerprint of the state that they hold."""
SERVICE = "itest.warm.service"
CACHE = "itest.warm.cache"
"""Label: which cache directory the record of the image is in."""
ADDRESS = "itest.warm.address"
"""Label: where that directory is."""

ARCHIVE = "/itest-warm.tar"
COPY = "/itest-warm"

COMMAND_TIMEOUT = 60.0
"""Seconds that a command in the container may take. They take tenths of one."""

_START = f"tar xf {ARCHIVE} -C / || exit 1\n"


def take(
    engine: DockerEngine,
    container: str,
    image: str,
    entrypoint: Sequence[str] | None,
    keep: Keep,
    fingerprint: str,
    marks: Mapping[str, str],
    labels: Mapping[str, str],
) -> tuple[str, int]:
    """Make an image of a running container's state on top of `image`, and give its id and its size in bytes. It gets the
    labels `marks`, and `labels` what is there only meanwhile.

    The container is of no use afterwards. Raises ItestError.
    """
    client = engine.client
    instance = DockerInstance(client, container, image, {})
    with translated("look up the image of the container"):
        base = client.inspect_image(image)
    if keep.besides:
        _check_that_all_is_kept(client, instance, keep)
    for user, argv in (*keep.before, *_copying(keep), *keep.after, *_packing(keep)):
        _run(instance, user, argv)
    config = base["Config"]
    start = [
        "/bin/sh",
        "-c",
        f'{_START}{keep.launch}exec "$@"',
        "itest",
        *(entrypoint or config.get("Entrypoint") or ()),
    ]
    changes = [f"ENTRYPOINT {json.dumps(start)}", f"CMD {json.dumps(config.get('Cmd') or [])}"]
    # One by one: of several in a line Podman 4 makes one label.
    marks = {LABEL: fingerprint, SERVICE: keep.service, **marks}
    changes += [f"LABEL {name}={text}" for name, text in marks.items()]
    # Not the container itself: its layers would pile up from run to run, and its environment holds the password.
    with translated("make a container for the state"):
        # It never runs; but a volume that Docker makes for it may outlive it, if it is removed while it is being made.
        mounts = client.create_host_config(tmpfs=dict.fromkeys(config.get("Volumes") or {}, ""))
        blank = str(client.create_container(base["Id"], ["true"], labels=dict(labels), host_config=mounts)["Id"])
    try:
        with translated("copy the state"):
            chunks, _ = client.get_archive(container, ARCHIVE, chunk_size=1024 * 1024)
            client.put_archive(blank, "/", _sent(chunks))
            client.commit(blank, REPOSITORY, fingerprint, pause=False, changes=changes)
    finally:
        with contextlib.suppress(ItestError), translated("remove the container of the state"):
            remove(client, blank)
    with translated("look up the image of the state"):
        made = client.inspect_image(f"{REPOSITORY}:{fingerprint}")
    return str(made["Id"]), max(0, int(made["Size"]) - int(base["Size"]))


def remove_container(engine: DockerEngine, container: str) -> None:
    """Remove the container that a state was taken from. Raises ItestError."""
    with translated("remove the container of a kept state"):
        remove(engine.client, container)


def images(engine: DockerEngine, cache: str = "") -> list[dict[str, Any]]:
    """The images of kept states as Docker lists them, of one cache directory or of all, those that lost their tag to a
    newer one too."""
    with translated("list the images of kept states"):
        return list(engine.client.images(filters={"label": f"{CACHE}={cache}" if cache else LABEL}))


def is_elsewhere(record: warm_store.Record, engine: DockerEngine | None) -> bool:
    """Whether the image of a kept state is on another Docker than this one, or this is none. A record of an earlier version of
    itest does not say where it is."""
    return bool(record.docker) and (engine is None or record.docker != engine.address.url)


def is_owned(image: Mapping[str, Any]) -> bool | None:
    """Whether the cache directory is still there that an image belongs to; None where that cannot be seen from here. One of an
    earlier version of itest does not say which it is."""
    address = image["Labels"].get(ADDRESS)
    return True if address is None else warm_store.exists(address)


def size_of(engine: DockerEngine, image: str) -> int:
    """The bytes of its state: of the layer that lies on the image that it was started from. It may be gone. Raises ItestError."""
    try:
        with translated("look up the layers of a kept state's image", passing=(not_found(),)):
            return int(engine.client.history(image)[0]["Size"])
    except not_found():
        return 0


def discard(engine: DockerEngine, image: str) -> bool:
    """Remove an image. False where a container still uses it; it may be gone already."""
    from docker.errors import APIError

    try:
        with translated("remove the image of a kept state", passing=(APIError,)):
            # Never by force: Podman would remove the containers too that use it, another run's servers.
            engine.client.remove_image(image)
    except not_found():
        return True
    except APIError:
        return False
    return True


def _check_that_all_is_kept(client: Any, instance: DockerInstance, keep: Keep) -> None:
    with translated("look for what was written in the container"):
        changed = [PurePosixPath(change["Path"]) for change in client.diff(instance.id) or ()]
        mounts = client.inspect_container(instance.id)["Mounts"]
    parents = {parent for path in changed for parent in path.parents}  # They count as changed by what lies in them.
    written = [path for path in changed if path not in parents]
    # Of what lies in the volumes of its image, Docker tells nothing.
    if volumes := [mount["Destination"] for mount in mounts if mount["Type"] == "volume"]:
        found = _run(instance, "0", ("sh", "-c", _WRITTEN, "sh", *volumes))
        written += [PurePosixPath(line) for line in found.splitlines()]
    known = [PurePosixPath(place) for place in (*keep.directories, *keep.besides)]
    strays = sorted(p for p in written if not any(p.is_relative_to(k) or k.is_relative_to(p) for k in known))
    if strays:
        more = f" and {len(strays) - 1} more" if len(strays) > 1 else ""
        raise ItestError(f"{strays[0]}{more}, written in the container, would be missing in those that begin with it")


_WRITTEN = """\
find "$@" ! -type d -cnewer /etc/hostname 2>/dev/null || find "$@" ! -type d
"""
"""Not what the image has put there before the container was started, which is when that file is written. BusyBox cannot tell."""


def _copying(keep: Keep) -> Iterator[tuple[str, tuple[str, ...]]]:
    words = [f"rm -rf {COPY} {ARCHIVE}"]
    for directory in keep.directories:
        parent = shlex.quote(COPY + directory.rpartition("/")[0])
        words += [f"mkdir -p {parent}", f"cp -a {shlex.quote(directory)} {parent}/"]
    yield "0", ("sh", "-c", " && ".join(words))


def _packing(keep: Keep) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "0", ("tar", "cf", ARCHIVE, "-C", COPY, *(directory.lstrip("/") for directory in keep.directories))


def _run(instance: DockerInstance, user: str, argv: tuple[str, ...]) -> str:
    result = instance.exec(argv, timeout=COMMAND_TIMEOUT, user=user)
    if result.exit_code != 0:
        said = (result.stderr or result.stdout).strip()[-400:]
        raise ItestError(f"`{shlex.join(argv)[:200]}` in {instance} exited with {result.exit_code}: {said}")
    return result.stdout


def _sent(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A generator, which requests sends piece by piece whatever its length."""
    deadline = Deadline.after(COMMAND_TIMEOUT)
    for chunk in chunks:
        if deadline.passed:
            raise ItestError(f"copying the state took more than {COMMAND_TIMEOUT:g} s")
        yield chunk
