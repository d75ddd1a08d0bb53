# SPDX-License-Identifier: Apache-2.0
"""Getting an image onto the Docker host: progress for people, one sentence when it fails."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from itest import naming
from itest.clock import SYSTEM, Clock, Deadline
from itest.config import Config
from itest.engines.docker_instance import translated
from itest.engines.docker_progress import Board, Progress
from itest.errors import ImageError, StartError
from itest.trace import Recorder, say

STALLED = 300.0
"""Seconds without a word from Docker after which a pull is given up: unpacking a large layer is silent too."""

# What registries and daemons say (text of Docker 20.10 to 29, containerd and Podman), and what to do about it. The
# first that matches counts: a rate limit, for one, also says "denied".
_CURES = (
    (
        ("toomanyrequests", "rate limit"),
        "the registry's rate limit is used up: log in (`docker login`), wait, or name a copy in another registry",
    ),
    (
        ("no matching manifest", "does not match the specified platform"),
        "the image does not exist for this machine's processor: choose another image or tag",
    ),
    (
        ("x509", "certificate", "HTTP response to HTTPS client"),
        "Docker does not trust the registry: add its certificate, or list it in insecure-registries",
    ),
    (
        (
            "no such host",
            "connection refused",
            "i/o timeout",
            "network is unreachable",
            "no route to host",
            "Client.Timeout",
            "TLS handshake timeout",
            "deadline exceeded",
            "server misbehaving",
            "proxyconnect",
            "connection reset",
            "EOF",
        ),
        "the Docker host cannot reach the registry {registry}: check its network, proxy or mirror, or bring the image "
        "with `docker load`",
    ),
    (
        ("manifest unknown", "manifest for", "not found"),
        "the registry has no such image: check name and tag",
    ),
    (
        ("denied", "does not exist", "unauthorized", "authentication required", "no basic auth"),
        "the name is wrong or the image is private: check it, or log in with `docker login{login}`",
    ),
    (
        ("no space left",),
        "make room on the Docker host, `docker system df` shows what takes it",
    ),
    (
        ("invalid reference", "invalid tag", "invalid repository"),
        "write it as [registry/]name[:tag]",
    ),
)


class Images:
    """The images of one Docker host. Usable from any thread; an image is pulled once however many ask for it."""

    def __init__(self, client: Any, config: Config, clock: Clock = SYSTEM) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self._ids: dict[str, str] = {}
        self._board = Board(clock, quiet=config.quiet)

    def need(self, image: str, trace: Recorder, subject: str = "") -> None:
        """Return when the image, which `subject` needs, is there. Raises ImageError when it cannot be pulled."""
        with self._lock:
            lock = self._locks[image]
        with lock:
            if image not in self._ids and not self._present(image):
                with trace.span("pull", subject or image, image=image):
                    self._pull(image)

    def identity(self, image: str) -> str:
        """The image's id, which is a digest of its content; empty when it is not there. Asked once."""
        if image not in self._ids and not self._present(image):
            return ""
        return self._ids[image]

    def _present(self, image: str) -> bool:
        from docker.errors import APIError, NotFound

        try:
            with translated(f"look for image {image}", StartError, passing=(APIError,)):
                self._ids[image] = str(self._client.inspect_image(image)["Id"])
        except NotFound:
            return False
        except APIError as error:
            raise ImageError(explain(image, str(error.explanation or error))) from None
        return True

    def _pull(self, image: str) -> None:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        deadline = Deadline.after(self._config.pull_timeout, self._clock)
        progress = Progress(image, deadline)
        try:
            with self._board.showing(progress):
                for message in self._messages(image):
                    if error := message.get("error"):
                        raise ImageError(explain(image, str(error)), seconds=deadline.elapsed)
                    progress.note(message)
                    self._board.draw()
                    if deadline.passed:
                        raise TimeoutError
        except (TimeoutError, RequestException, DockerException) as error:
            if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
                raise ImageError(
                    f"image {image} is not on the Docker host, and its pull was given up after "
                    f"{deadline.elapsed:.0f} s ({progress.amount}): raise pull_timeout, or `docker pull` by hand",
                    seconds=deadline.elapsed,
                ) from None
            raise ImageError(explain(image, str(error)), seconds=deadline.elapsed) from None

    def _messages(self, image: str) -> Iterator[dict[str, Any]]:
        """What Docker says while it pulls.

        Asked through the SDK's own HTTP session, since its `pull()` switches the read timeout off: a stalled registry
        would hang the run for ever.
        """
        from docker.auth import resolve_repository_name
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        registry, _ = resolve_repository_name(repository)
        response = self._client.post(
            f"{self._client.base_url}/v{self._client.api_version}/images/create",
            params={"fromImage": repository, "tag": tag or "latest"},
            headers=_credentials(self._client, registry, self._config.environment),
            stream=True,
            timeout=min(self._config.pull_timeout, STALLED),
        )
        with response:
            if not response.ok:
                yield {"error": _explanation(response.text)}
                return
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)


def explain(image: str, said: str) -> str:
    """Why an image could not be pulled and what to try, from what the registry or Docker said."""
    said = _once(naming.mask(said))
    host = registry_of(image)
    cures = (cure for texts, cure in _CURES if any(text.lower() in said.lower() for text in texts))
    cure = next(cures, "try `docker pull` by hand")
    cure = cure.format(registry=host, login="" if host == "docker.io" else f" {host}")
    return f"image {image} is not on the Docker host and could not be pulled: {naming.shorten(said, 300)}; {cure}"


def registry_of(image: str) -> str:
    """The registry that an image's name points to: what precedes the first slash if it looks like a host."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _once(said: str) -> str:
    """Docker's chain of reasons, `a: b: b`, without repetitions and without its own preamble."""
    parts: list[str] = []
    for part in " ".join(said.split()).removeprefix("Error response from daemon: ").rstrip(".").split(": "):
        if part not in parts:
            parts.append(part)
    return ": ".join(parts)


def _explanation(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body


def _credentials(client: Any, registry: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The header with the registry's login, from DOCKER_AUTH_CONFIG or the docker command's own configuration."""
    from docker import auth
    from docker.errors import DockerException

    if given := environment.get("DOCKER_AUTH_CONFIG"):
        try:
            login = auth.AuthConfig.load_config(None, json.loads(given)).resolve_authconfig(registry)
            if login:
                return {"X-Registry-Auth": str(auth.encode_header(login), "ascii")}
        except (ValueError, DockerException):
            say("the variable DOCKER_AUTH_CONFIG cannot be read and is ignored")
    try:
        header = auth.get_config_header(client, registry)
    except (DockerException, Warning):  # A Warning where warnings are errors (python -W error).
        return {}  # A credential helper that is configured but not installed: most images need no login.
    return {"X-Registry-Auth": str(header, "ascii")} if header else {}
