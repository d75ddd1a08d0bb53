# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds of Docker: the daemon, the images that tests want, and a real container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from itest import causes, naming, wait, wait_errors
from itest.cli import wanted
from itest.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from itest.cli.doctor.machine import GIGABYTE, room
from itest.clock import Deadline
from itest.config import Config
from itest.container_options import ContainerOptions
from itest.engines import Instance, compose_program, docker_address
from itest.engines.docker import DockerEngine
from itest.engines.docker_errors import translated
from itest.engines.docker_registry import familiar, tags
from itest.errors import ImageError, ItestError, StartError
from itest.spec import BUILT, ContainerSpec, Port
from itest.trace import Recorder

SMALL = "busybox:1.37"
"""What is pulled if an image is to be pulled."""

ATTEMPTS = 4
"""How many images are tried, the smallest first: some have no shell."""

TIMEOUT = 20.0
"""Seconds for the container."""

MEMORY = 64 * 2**20
"""Bytes that the container may have, to see whether that is heeded."""

SERVE = (
    "mkdir -p /tmp/itest && cd /tmp/itest && echo itest > index.html; "
    "for server in 'httpd -f -p 8080' 'busybox httpd -f -p 8080' 'python3 -m http.server 8080'; do $server; done; "
    "echo no program here can listen; exec sleep 60"
)
"""Listens with whatever the image has for that."""


def examine(config: Config, image: str, pull: bool) -> Iterator[Finding]:
    """Docker answers; whether it works."""
    with closing(DockerEngine(config)) as engine:
        try:
            with translated("ask Docker about itself"):
                yield from _daemon(config, engine)
                yield from _images(engine)
            yield from _container(engine, image, pull)
        except ItestError as error:
            yield Finding("docker", PROBLEM, str(error))


def compose(config: Config) -> Iterator[Finding]:
    """The program Docker Compose."""
    try:
        program = compose_program.find(config)
    except ItestError as error:
        yield Finding("compose", PROBLEM if config.compose else NOTE, str(error))
    else:
        yield Finding("compose", OK, f"Docker Compose {program.version} is there ({' '.join(program.argv)})")


def _daemon(config: Config, engine: DockerEngine) -> Iterator[Finding]:
    info, version = engine.client.info(), engine.client.version()
    title = "Podman" if engine.is_podman else "Docker"
    rootless = info.get("Rootless") or any("rootless" in str(option) for option in info.get("SecurityOptions") or ())
    parts = [
        f"{title} {version.get('Version')}{', rootless' if rootless else ''} answers at {engine.address}",
        f"API {version.get('ApiVersion')}",
        f"{version.get('Os')}/{version.get('Arch')}",
        f"cgroup v{info.get('CgroupVersion') or 1} ({info.get('CgroupDriver')})",
        f"{info.get('NCPU')} processors",
        f"{int(info.get('MemTotal') or 0) / GIGABYTE:.1f} GB memory",
    ]
    yield Finding("docker", OK, ", ".join(parts))
    other = docker_address.current_context(config.environment)
    if config.variable("DOCKER_HOST") and other not in ("", "default"):
        yield Finding("docker", NOTE, f"DOCKER_HOST wins over the docker context {other!r}; unset it to use that one")
    if not info.get("MemoryLimit", True):
        yield Finding("limits", NOTE, f"Docker ignores limits of memory: {causes.named(causes.LIMITS_IGNORED).cure}")


def _images(engine: DockerEngine) -> Iterator[Finding]:
    """The images of the services that are declared without one."""
    there = _there(engine)
    for name in wanted.SERVICES:
        [cls] = wanted.classes([name])
        image = cls._itest_declarations[0][1].container("").image
        if (found := there.get(image)) is None:
            yield Finding("image", NOTE, f"{image} is not there: it is pulled by the first run that needs it")
        else:
            stands_in = (found.get("Labels") or {}).get("itest.stand-in") == "true"
            kind = ", a stand-in that is not the official image" if stands_in else ""
            yield Finding("image", OK, f"{image} is there ({found['Size'] / 1e6:.0f} MB{kind})")


def _there(engine: DockerEngine) -> dict[str, dict[str, Any]]:
    """The images that have a name, the smallest first."""
    found = sorted(engine.client.images(), key=lambda each: int(each["Size"]))
    return {familiar(name): each for each in found for name in tags(each)}


def _container(engine: DockerEngine, image: str, pull: bool) -> Iterator[Finding]:
    candidates = [image] if image else [SMALL] if pull else _candidates(engine)
    if not candidates:
        yield Finding(
            "container",
            NOTE,
            "none was started, as no image is there: `itest doctor --pull` pulls a small one and starts it",
        )
    for number, name in enumerate(candidates, 1):
        try:
            if not pull and not engine.images.identity(name):
                yield Finding(
                    "container",
                    PROBLEM,
                    f"image {name} is not on the Docker host: `itest doctor --image {name} --pull` tries to pull it",
                )
                return
            yield from _trial(engine, name, pull)
        except ImageError as error:
            yield Finding("container", PROBLEM, str(error))
        except StartError as error:
            if error.cause == "no such program" and number < len(candidates):
                continue
            yield Finding("container", PROBLEM, naming.shorten(str(error), 600))
        return


def _candidates(engine: DockerEngine) -> list[str]:
    with translated("list the images"):
        names = [name for name in _there(engine) if not name.startswith((f"{BUILT}:", "itest-warm:"))]
    return names[:ATTEMPTS]


def _trial(engine: DockerEngine, image: str, pull: bool) -> Iterator[Finding]:
    """Start a container, talk to it, stop it."""
    spec = ContainerSpec(
        image,
        entrypoint=("/bin/sh", "-c"),
        command=(SERVE,),
        ports={"http": Port(8080)},
        options=ContainerOptions(memory=MEMORY),
        pull="always" if pull else "never",
    )
    labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "doctor", naming.OWNER: naming.owner()}
    deadline = Deadline.after(TIMEOUT)
    instance = engine.start(spec, labels, deadline, Recorder())
    found = []
    try:
        started = deadline.elapsed
        found = [_port(instance, deadline), *_limits(instance)]
        if (free := _free(instance)) is not None:
            cure = "`docker system df` shows what takes it, `docker system prune` removes what nobody uses"
            found.append(room("disk", free, "Docker's own disk", cure))
    finally:
        instance.stop()
    yield Finding("container", OK, f"one of {image} was started in {started:.1f} s, and stopped")
    yield from found


def _port(instance: Instance, deadline: Deadline) -> Finding:
    """Whether its published port is reached from here."""
    check = wait.http("/index.html", body="itest") | wait.log("no program here can listen")
    try:
        wait.until_ready(check, instance, deadline, subject="the container")
    except StartError as error:
        if not instance.state().running:
            raise
        said = f"its published port {instance.endpoint()} does not answer: "
        if error.cause == wait_errors.UNREACHED:
            return Finding("port", PROBLEM, f"{said}{wait_errors.CUT_OFF.rstrip('.')}")
        return Finding(
            "port",
            PROBLEM,
            f"{said}{getattr(error, 'reason', error)}; see whether a firewall or VPN stands between this process and Docker, "
            f"and whether DOCKER_HOST is the right machine",
        )
    if "no program here can listen" in instance.logs():
        return Finding("port", NOTE, "not tried: the image has no program that listens")
    return Finding("port", OK, f"its published port answers at {instance.endpoint()}")


def _limits(instance: Instance) -> Iterator[Finding]:
    """Whether the limit of its memory is heeded, by its own cgroup."""
    files = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    words = instance.exec(["sh", "-c", f"cat {files} 2>/dev/null"]).stdout.split()
    if words and words[0] != str(MEMORY):
        yield Finding("limits", NOTE, f"limits of memory are ignored: {causes.named(causes.LIMITS_IGNORED).cure}")
    elif words:
        yield Finding("limits", OK, "limits of memory are heeded")


def _free(instance: Instance) -> int | None:
    """Bytes that are free where containers' files are."""
    lines = instance.exec(["df", "-Pk", "/"]).stdout.splitlines()
    words = lines[-1].split() if len(lines) > 1 else []
    return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else None
