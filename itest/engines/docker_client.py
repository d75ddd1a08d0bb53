# SPDX-License-Identifier: Apache-2.0
"""The SDK's client, and the first word with what listens where Docker should be."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import MethodType
from typing import Any

from itest import naming
from itest.engines import docker_quick, docker_sdk
from itest.engines.docker_address import LOOPBACK, Address
from itest.engines.docker_errors import OutOfReach
from itest.engines.docker_quick import ANSWER_TIMEOUT, API_TIMEOUT, podman, silent
from itest.errors import Unavailable, hides
from itest.packages import stranger
from itest.side_by_side import within

CONNECTIONS = 64
"""Connections kept for use by threads. With fewer than threads, urllib3 logs a warning for each one it discards."""

PIECES = 4
"""The first answer may take so many times the client's timeout, which counts anew with each piece of it."""


def greet(address: Address) -> None:
    """Raises Unavailable where something else than Docker listens."""
    try:
        # Not its version: for that it asks others, which takes 5 ms in place of 0.2.
        status, said = docker_quick.ask(address.parts.path, "GET", "/_ping", timeout=ANSWER_TIMEOUT)
        if status != 200 or said != "OK":
            raise ValueError(f"it says {said}")
    except (OSError, ValueError) as error:
        raise Unavailable(_no_docker(address, error)) from None


def _no_docker(address: Address, error: Exception) -> str:
    said = naming.shorten(str(error))
    if proxy := _proxy(address):
        return (
            f"Docker at {address} is asked through the environment's proxy {naming.mask(proxy)}, and does not answer: {said}; if "
            f"it needs none, add {address.host} to the variable NO_PROXY"
        )
    return (
        f"something listens at {address}, but it does not answer as Docker does: {said or type(error).__name__}; see "
        f"whether Docker runs there (`docker version`), else correct {address.source}"
    )


def _proxy(address: Address) -> str:
    """The URL of the proxy that the SDK takes to get there; empty for none."""
    if address.host == LOOPBACK:
        return ""
    from requests.utils import get_environ_proxies, select_proxy

    url = address.parts._replace(scheme="https" if address.certificates else "http").geturl()
    return select_proxy(url, get_environ_proxies(url)) or ""


def no_sdk(address: Address) -> str:
    other = stranger("docker")
    problem = f"is not what it needs: {hides(other)}" if other else "cannot be imported: pip install 'docker>=7.1'"
    return f"Docker answers at {address}, but the package 'docker' {problem}"


def connected(address: Address, timeout: int) -> Any:
    """A client that has spoken with Docker, silent for no more than that many seconds, and uses the newest version of the API
    that it offers. Raises OutOfReach where nobody answers, Unavailable where the SDK cannot ask."""
    try:
        docker_sdk.load()
        from docker.errors import DockerException, InvalidConfigFile
        from docker.tls import TLSConfig

        client_class = _client_class(direct=address.host == LOOPBACK)
    except ImportError:
        raise Unavailable(no_sdk(address)) from None
    try:
        tls: Any = False
        if (directory := address.certificates) is not None:
            _check_certificates(address, directory)
            tls = TLSConfig(
                client_cert=(str(directory / "cert.pem"), str(directory / "key.pem")),
                ca_cert=str(directory / "ca.pem") if address.verify else None,
                verify=address.verify,
            )
        client = within(
            timeout * PIECES,
            lambda: client_class(address.url, version="auto", timeout=timeout, tls=tls, max_pool_size=CONNECTIONS),
            "itest-docker-greeting",
        )
    except (InvalidConfigFile, ValueError, AttributeError, TypeError) as error:  # What the SDK says of its own reading.
        raise Unavailable(
            f"the configuration of the docker command, ~/.docker/config.json or the one in the directory DOCKER_CONFIG, "
            f"cannot be used: {naming.shorten(str(error))}; correct it, or log in anew"
        ) from None
    except (DockerException, TimeoutError) as error:
        if address.url.startswith(("ssh:", "npipe:")):  # The SDK says so before it asks anybody.
            cure = "pip install 'docker[ssh]'" if "paramiko" in str(error) else f"correct {address.source}"
            raise Unavailable(f"Docker cannot be asked at {address}: {naming.shorten(str(error))}; {cure}") from None
        raise OutOfReach(_no_docker(address, error)) from None
    client.timeout = API_TIMEOUT
    return client


def _check_certificates(address: Address, directory: Path) -> None:
    """Raises Unavailable where a file is missing that TLS needs: the SDK says so in words for who calls it."""
    for name in ("cert.pem", "key.pem", *(["ca.pem"] if address.verify else [])):
        if not (directory / name).is_file():
            cure = f"make {address.source} anew"
            if address.source == "DOCKER_HOST":
                cure = "correct DOCKER_CERT_PATH, or unset it and DOCKER_TLS_VERIFY"
            raise Unavailable(f"Docker is to be asked by TLS at {address}, but there is no {directory / name}: {cure}")


def _client_class(*, direct: bool) -> Any:
    """The SDK's client, but it greets Docker first where a request was not answered in time (`docker_quick.silent`).

    `direct`: it takes no proxy of the environment, as the docker command takes none to this machine itself.
    """
    from docker.api import APIClient
    from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
    from requests import Request
    from requests.exceptions import Timeout

    # vcrpy has pools throw away connections that are none of its own class, of which this one never has any.
    UnixHTTPConnectionPool.ConnectionCls = UnixHTTPConnection  # type: ignore[assignment]  # urllib3 has a protocol for it
    send_by_adapter = _as_written("requests.adapters").HTTPAdapter.send
    send_by_session = _as_written("requests.sessions").Session.send

    class Client(APIClient):
        def __init__(self, url: str, **settings: Any) -> None:
            self._place = url.removeprefix("unix://")
            super().__init__(url, **settings)

        @property
        def is_podman(self) -> bool:
            """Known from the beginning: a client is made with the first answer, which says the version."""
            return self._place in podman

        def mount(self, prefix: str | bytes, adapter: Any) -> None:
            adapter.send = MethodType(send_by_adapter, adapter)
            super().mount(prefix, adapter)

        def send(self, request: Any, **settings: Any) -> Any:
            """What every request goes through, see `requests.Session.send`."""
            if direct:
                settings["proxies"] = {}
            if self._place in silent:
                greeting = self.prepare_request(Request("GET", f"{self.base_url}/_ping"))
                send_by_session(self, greeting, **{**settings, "timeout": ANSWER_TIMEOUT, "stream": False})
                silent.discard(self._place)
            try:
                answer = send_by_session(self, request, **settings)
            except Timeout:
                silent.add(self._place)
                raise
            if answer.headers.get("Server", "").startswith("Libpod/"):
                podman.add(self._place)
            return answer

    return Client


def _as_written(name: str) -> Any:
    """A module once more, beside the one that others import: what packages that answer a test's requests (responses,
    requests-mock) have put into that is not for Docker's."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None, "it has been imported"
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # urllib3's, that there is no PySocks.
        spec.loader.exec_module(module)
    return module
