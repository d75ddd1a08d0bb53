# SPDX-License-Identifier: Apache-2.0
"""Where Docker is: the address by the rules of the docker command, and a quick look whether anybody is there.

Standard library only, so that a machine without Docker pays a millisecond and not the import of the SDK.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from itest import naming
from itest.errors import Unavailable
from itest.side_by_side import within
from itest.tuples import NamedTuple

CONNECT_TIMEOUT = 1.5
"""Seconds to wait for a connection: a Docker that can be used at all is near."""

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """Where Docker is. `source` says who said so; `certificates` is a directory with ca.pem, cert.pem, key.pem."""

    url: str
    source: str
    certificates: Path | None = None
    verify: bool = True

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The host on which published ports are reached: this machine's loopback, or the daemon's own machine."""
        name = self.parts.hostname or ""
        if self.parts.scheme in ("unix", "npipe") or name in ("", "localhost", "::1") or name.startswith("127."):
            return LOOPBACK
        return name

    @property
    def socket(self) -> str:
        """The path of its Unix socket; empty where it has none."""
        return self.parts.path if self.parts.scheme == "unix" else ""

    def __str__(self) -> str:
        return f"{naming.mask(self.url)} ({self.source})"


def locate(environment: Mapping[str, str]) -> Address:
    """DOCKER_HOST, else the current context, else the first usable one of the usual sockets. Raises Unavailable."""
    if url := environment.get("DOCKER_HOST", "").strip():
        return _checked(_from_docker_host(url, environment))
    name, source = environment.get("DOCKER_CONTEXT", ""), "the variable DOCKER_CONTEXT"
    directory = _docker_directory(environment)
    if not name:
        name, source = _current_context(directory), f"currentContext in {directory / 'config.json'}"
    if name and name != "default":
        return _checked(_from_context(directory, name, source))
    if sys.platform == "win32":
        return Address("npipe:////./pipe/docker_engine", "the default pipe")
    return _first_usable(_sockets(environment))


def problem(address: Address) -> str | None:
    """Why nothing can be reached at the address, in one sentence with a cure; None when somebody listens there."""
    parts = address.parts
    try:
        if parts.scheme == "unix":
            _connect_unix(parts.path)
        elif parts.scheme in ("tcp", "http", "https"):
            _connect_tcp(parts.hostname or "", parts.port or (2376 if address.certificates else 2375))
    except FileNotFoundError:
        return f"there is no Docker socket at {address}: {_start(address)}"
    except PermissionError:
        from itest import causes  # Only errors need it.

        return f"this user may not use the Docker socket {address}: {causes.named(causes.NO_PERMISSION).cure}"
    except ConnectionRefusedError:
        from itest import causes

        if parts.scheme == "unix" and not Path(parts.path).is_socket():
            return f"{address} is no socket: {causes.named(causes.NO_SOCKET, source=address.source).cure}"
        return f"nothing listens at {address}, so Docker is not running: {_start(address)}"
    except socket.gaierror:
        return f"the host of {address} is not known to this machine: correct {address.source} or the network's DNS"
    except TimeoutError:
        return f"{address} did not answer within {CONNECT_TIMEOUT:g} s: correct {address.source} or start Docker there"
    except OSError as error:
        cure = f"take a shorter one in {address.source}" if "path too long" in str(error) else _start(address)
        return f"{address} cannot be reached ({error}): {cure}"
    return None


def is_forbidden(address: Address) -> bool:
    """Whether there is a Unix socket that this user may not use."""
    return os.path.exists(address.socket) and not os.access(address.socket, os.W_OK)


def _start(address: Address) -> str:
    """How to start Docker, by where it would be."""
    from itest import causes

    path = address.parts.path
    if "/.docker/run/" in path or "/.docker/desktop/" in path or "desktop" in address.source.lower():
        return f"{causes.DESKTOP_NOT_RUNNING}, {causes.named(causes.DESKTOP_NOT_RUNNING).cure}"
    return causes.named(causes.NOT_RUNNING).cure


def current_context(environment: Mapping[str, str]) -> str:
    """The docker context that the docker command would use without DOCKER_HOST; empty for none."""
    return environment.get("DOCKER_CONTEXT", "") or _current_context(_docker_directory(environment))


def _from_docker_host(url: str, environment: Mapping[str, str]) -> Address:
    if "://" not in url and not url.startswith("unix:"):
        url = f"unix://{url}" if url.startswith("/") else f"tcp://{url}"
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    path = environment.get("DOCKER_CERT_PATH", "")
    if re.fullmatch(r"tcp://(\[[^]]*\]|[^:/\[]+)", url):
        url = f"{url}:{2376 if verify or path else 2375}"  # As the docker command adds it.
    if url.startswith("tcp:") and (verify or path):
        return Address(url, "DOCKER_HOST", Path(path) if path else _docker_directory(environment), verify)
    return Address(url, "DOCKER_HOST")


def _from_context(directory: Path, name: str, source: str) -> Address:
    """The address in a context's metadata; the directory's name is the SHA-256 of the context's name."""
    key = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta = json.loads((directory / "contexts" / "meta" / key / "meta.json").read_text(encoding="utf-8"))
        endpoint = meta["Endpoints"]["docker"]
        url, verify = str(endpoint["Host"]), not endpoint.get("SkipTLSVerify", False)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise Unavailable(
            f"the docker context {name!r} ({source}) cannot be read: see `docker context ls`, then "
            f"`docker context use` one that exists"
        ) from None
    certificates = directory / "contexts" / "tls" / key / "docker"
    return Address(url, f"the docker context {name!r}", certificates if certificates.is_dir() else None, verify)


def _checked(address: Address) -> Address:
    try:
        scheme, _ = address.parts.scheme, address.parts.port
    except ValueError:
        scheme = ""
    if scheme == "unix" and not re.match("unix:///.", address.url):
        scheme = ""
    if scheme not in ("unix", "tcp", "http", "https", "ssh", "npipe"):
        raise Unavailable(
            f"{address} is not an address of Docker: it must look like unix:///var/run/docker.sock, "
            f"tcp://host:2375 or ssh://user@host"
        )
    return address


def _docker_directory(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("DOCKER_CONFIG") or _home(environment) / ".docker")


def _home(environment: Mapping[str, str]) -> Path:
    if home := environment.get("HOME") or environment.get("USERPROFILE"):
        return Path(home)
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _current_context(directory: Path) -> str:
    try:
        return str(json.loads((directory / "config.json").read_text(encoding="utf-8")).get("currentContext", ""))
    except (OSError, ValueError, AttributeError):
        return ""  # None, or unreadable: the docker command then uses the default, too.


def _sockets(environment: Mapping[str, str]) -> list[Address]:
    """The usual sockets: Docker, Docker rootless, Docker Desktop, Podman as its user, Podman as root."""
    home = _home(environment)
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    paths = [
        ("the default socket", Path("/var/run/docker.sock")),
        ("rootless Docker's socket", Path(runtime) / "docker.sock" if runtime else None),
        ("Docker Desktop's socket", home / ".docker" / "run" / "docker.sock"),
        ("Docker Desktop's socket", home / ".docker" / "desktop" / "docker.sock"),
        ("Podman's socket", Path(runtime) / "podman" / "podman.sock" if runtime else None),
        ("Podman's socket", Path("/run/podman/podman.sock")),
    ]
    return [Address(f"unix://{path}", source) for source, path in paths if path is not None]


def _first_usable(addresses: list[Address]) -> Address:
    """The first that somebody listens on; else the first that is there at all; else the default one."""
    there = []
    for address in addresses:
        try:
            _connect_unix(address.parts.path)
            return address
        except FileNotFoundError:
            continue
        except OSError:
            there.append(address)
    return (there or addresses)[0]


def _connect_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(CONNECT_TIMEOUT)
        client.connect(path)


def _connect_tcp(host: str, port: int) -> None:
    """Looking up a name knows no timeout and may take half a minute."""
    within(
        CONNECT_TIMEOUT,
        lambda: socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close(),
        "itest-docker-probe",
    )
