# SPDX-License-Identifier: Apache-2.0
"""What Docker and its SDK say, in one sentence of ours: their tracebacks are longer than any test's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from itest import naming
from itest.clock import Deadline
from itest.engines import docker_sdk
from itest.errors import ItestError, PortTaken, StartError

_REQUEST = re.compile(r" for copier\.request\{.*\}(?=: )", re.DOTALL)
"""What Podman tells of a request to copy, some 2000 characters, before the reason why that failed."""


class OutOfReach(ItestError):
    """Docker does not answer. Where it has before in this run, that is no reason to skip tests, as Unavailable is."""


@contextlib.contextmanager
def translated(
    doing: str,
    kind: type[ItestError] = ItestError,
    deadline: Deadline | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn what the SDK raises into an error of one sentence; its tracebacks are longer than any test's.

    A port that was taken is a PortTaken if `kind` is StartError. What is `passing` is left as it is.
    """
    docker_sdk.load()
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except passing:
        raise
    except APIError as error:
        failure = refused(doing, kind, str(error.explanation or error), deadline)
    except (RequestException, DockerException, HTTPError, OutOfReach) as error:
        failure = kind(unanswered(doing, error))
    else:
        return
    if isinstance(failure, StartError) and deadline is not None:
        failure.seconds = deadline.elapsed
    raise failure from None  # The original would still be its context: we are called from a `with` that handles it.


def refused(doing: str, kind: type[ItestError], said: str, deadline: Deadline | None = None) -> ItestError:
    """The error for what Docker said instead of doing it. A port that was taken is a PortTaken if `kind` is StartError."""
    from itest import causes  # Only errors need it.

    known = causes.find(said, causes.DOCKER)
    said = naming.shorten(_REQUEST.sub("", said), 500)
    if kind is StartError and known is not None and known.name == causes.PORT_TAKEN:
        kind = PortTaken
    failure = kind(f"could not {doing}, Docker says: {said}{f'; {known.cure}' if known else ''}")
    if isinstance(failure, StartError):
        failure.cause = known.name if known else ""
        failure.seconds = deadline.elapsed if deadline is not None else 0.0
    return failure


def check(response: Any) -> None:
    """Raise the SDK's APIError for an answer to a request that was sent without its help, if that says so."""
    docker_sdk.load()
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    try:
        response.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)  # Always raises, an APIError.


def port_taken(said: str) -> bool:
    """Whether Docker says that somebody else has a port."""
    from itest import causes  # Only errors need it.

    return causes.is_said(causes.PORT_TAKEN, said, causes.DOCKER)


def unanswered(doing: str, error: Exception) -> str:
    """The sentence for a daemon that did not answer."""
    said = naming.shorten(str(error), 500)
    return f"could not {doing}, Docker does not answer: {said}; see whether it still runs (`docker info`)"


def not_found() -> type[Exception]:
    """The SDK's error for what does not exist (any more)."""
    docker_sdk.load()
    from docker.errors import NotFound

    return NotFound
