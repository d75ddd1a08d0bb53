# SPDX-License-Identifier: Apache-2.0
"""What an engine is asked to run for Redis: any image with redis-server's options, and what differs of Redis Stack."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from itest import server_settings
from itest.config import Config, load
from itest.errors import DeclarationError
from itest.services.redis.programs import find_program
from itest.spec import ContainerSpec, Port, ProcessSpec

if TYPE_CHECKING:
    from itest.certificates import Certificates
    from itest.services.redis import Redis

PORT = 6379
DATABASES = 512
"""Numbered databases of our own servers: one for each declaration of a class that is running."""

NEVER = "999999999 1"
"""What Redis Stack saves, in place of nothing: its start script loses empty words. Thirty years after a change."""

SEVERAL_WORDS = ("loadmodule", "rename-command", "user")
"""Settings whose words Redis wants one by one; the others' it takes apart itself where they have several."""

RESERVED = {
    **dict.fromkeys(("port", "tls-port", "bind"), "where it listens is itest's business, ask the view for it"),
    "requirepass": "itest chooses the password, ask the view for it",
    "daemonize": "it would end the container, or be nobody's process",
}
"""Settings that no declaration may have, and why."""

NEEDED = (
    "ACL",
    "CLIENT",
    "CONFIG",
    "DUMP",
    "FLUSHDB",
    "INFO",
    "PEXPIRETIME",
    "PING",
    "RESTORE",
    "SCAN",
    "SELECT",
    "SWAPDB",
)
"""Commands that itest gives a server of ours, so that none may have another name."""

DATA = "/data"
"""Where the official images have their data, with us in memory."""

SOCKET = "itest.sock"
"""The name of its Unix socket, beside its data: a round trip to it passes no network, and none of Docker's."""

PASSWORD = "password.secret"
"""The file in a process's directory that has it."""

INSIDE = "/etc/itest/tls"
"""Directory of the certificates in a container."""


def check(service: Redis) -> None:
    """Raise DeclarationError for what no server could be started with."""
    server_settings.check_image(service.image, "redis", "that one, Valkey's or Redis Stack's")
    server_settings.check(service.settings, RESERVED, 'settings={"maxmemory": "64mb"}')
    said = settings(service).get("databases", "")
    if said and service.isolation_or_default == "database" and not (said.isdecimal() and int(said) > 1):
        raise DeclarationError(
            f"databases = {said} in settings leaves no class a database, for number 0 is none's; say 2 or more, or "
            f'isolation="prefix"'
        )
    if settings(service).get("cluster-enabled") == "yes" and service.isolation_or_default == "database":
        raise DeclarationError(
            'cluster-enabled in settings leaves number 0 alone, which no class is given; say isolation="prefix"'
        )
    renamed, *_ = settings(service).get("rename-command", "").upper().split() or ("",)
    if renamed in NEEDED:
        raise DeclarationError(f"rename-command in settings: itest needs {renamed} itself, by this name")
    if is_stack(service.image):
        for name, value in settings(service).items():
            if not value.strip() and name != "save":
                raise DeclarationError(f"{name} in settings is empty, which Redis Stack's image cannot be told")


def settings(service: Redis) -> dict[str, str]:
    """Those of the declaration, as text. To Redis, capitals in their names are as good."""
    return {name.lower(): text for name, text in server_settings.texts(service.settings, ("yes", "no")).items()}


def databases(service: Redis) -> int:
    """How many numbered databases a server of ours has."""
    return int(settings(service).get("databases", DATABASES))


def is_stack(image: str) -> bool:
    """Redis Stack's images have no entrypoint that takes options, but a script that takes them from a variable."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0] in ("redis-stack", "redis-stack-server")


def container(service: Redis, secret: str) -> ContainerSpec:
    # For the owner of a rootless Docker, too, whose containers' users are others: the password is asked for there as well.
    socket = {"unixsocket": f"{DATA}/{SOCKET}", "unixsocketperm": "777"}
    options = [*_options(service, secret, socket), *_tls(service, INSIDE)]
    stack = is_stack(service.image)
    if stack:  # It splits the variable at each space, and Redis puts together again what belongs to an option.
        options = [word or NEVER for word in options]
    files = _certificates() if service.tls else ()
    return ContainerSpec(
        image=service.image,
        env={"REDIS_ARGS": " ".join(options)} if stack else {},
        # Options alone: the entrypoint puts the name of the image's own server in front of them.
        command=() if stack else tuple(options),
        ports={"redis": Port(PORT)},
        tmpfs={DATA: 0},
        files={f"{INSIDE}/{file.name}": file for file in files},
    )


def process(service: Redis, secret: str, config: Config) -> ProcessSpec:
    program, version = find_program(config, tls=service.tls)
    options = ["--port", "{port:redis}", "--bind", "127.0.0.1", "--dir", "{directory}"]
    # Relative, because the path of a socket must be short.
    options += _options(service, "", {"unixsocket": SOCKET})
    files = _certificates() if service.tls else ()
    return ProcessSpec(
        version=version,
        replaces=service.image,
        argv=(program, f"{{directory}}/{PASSWORD}", *options, *_tls(service, "{directory}/tls", "{port:redis}")),
        ports=("redis",),
        files={PASSWORD: _password(secret), **{f"tls/{file.name}": file.read_bytes() for file in files}},
        stop_signal=signal.SIGKILL,  # Nothing is worth saving, and SIGTERM waits for a tick of 100 ms.
    )


def authority(service: Redis) -> str:
    """The file with the certificate of the authority that clients must trust; empty without TLS."""
    return str(_certificates().authority) if service.tls else ""


def _password(secret: str) -> str:
    """A file of settings with the password: what stands in a command, all users of a machine can read."""
    quoted = "".join(f"\\x{byte:02x}" for byte in secret.encode())
    return f'requirepass "{quoted}"\n'


def _options(service: Redis, secret: str, socket: dict[str, str]) -> Iterator[str]:
    """Without a secret they do not say any."""
    password = {"requirepass": secret} if secret else {}
    ours = {**password, "save": "", "appendonly": "no", "databases": str(DATABASES), **socket}
    for name, value in {**ours, **settings(service)}.items():
        yield f"--{name}"
        yield from value.split() if name in SEVERAL_WORDS else (value,)


def _tls(service: Redis, directory: str, port: str = str(PORT)) -> Iterator[str]:
    if service.tls:
        yield from ("--port", "0", "--tls-port", port, "--tls-auth-clients", "no")
        yield from ("--tls-ca-cert-file", f"{directory}/authority.pem")
        yield from ("--tls-cert-file", f"{directory}/server.pem", "--tls-key-file", f"{directory}/server.key")


def _certificates() -> Certificates:
    from itest import certificates  # Few servers speak TLS.

    return certificates.local(load().cache_dir)
