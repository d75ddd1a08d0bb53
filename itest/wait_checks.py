# SPDX-License-Identifier: Apache-2.0
"""The checks that declarations name; imported where one is made, since most services are asked by their clients."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from itest import naming
from itest.arguments import words_of
from itest.clock import Deadline
from itest.engines import ExecResult, Instance
from itest.errors import DeclarationError, ExecTimeout
from itest.wait import ANSWER_TIMEOUT, ANY_SUCCESS, Check, NotReady, time_for

URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
"""What may stand in a URL as it is, besides letters and digits: others in a path are quoted, and what is quoted stays so."""

LARGEST_BODY = 2**20
"""Bytes of an answer by HTTP that are read at most."""


EXEC_TIMEOUT = 30.0
"""Seconds that one run of a command, or of a health check, may take: Docker's own default for the latter."""


class Port(Check):
    def __init__(self, name: str | int) -> None:
        self.name = _port_name(name)

    def __call__(self, instance: Instance) -> None:
        endpoint = instance.endpoint(self.name)
        try:
            socket.create_connection(endpoint, timeout=ANSWER_TIMEOUT).close()
        except OSError as error:
            # Where no proxy accepts for the container (Podman; Docker with userland-proxy=false), it is refused here.
            raise NotReady(instance.silence(self.name) or f"{endpoint}: {error}") from error
        if reason := instance.silence(self.name):
            raise NotReady(reason)

    def ports(self) -> list[str]:
        return [self.name]

    def __str__(self) -> str:
        return f"port {self.name!r} to accept connections" if self.name else "its port to accept connections"


class Log(Check):
    def __init__(self, pattern: re.Pattern[str], times: int) -> None:
        if type(times) is not int:
            raise DeclarationError(f"log: times={times!r} is no whole number")
        self.pattern = pattern
        self.times = times

    def __call__(self, instance: Instance) -> None:
        found = sum(1 for _ in self.pattern.finditer(instance.logs()))
        if found < self.times:
            raise NotReady(f"seen {found} of {self.times} times in the log")

    def __str__(self) -> str:
        return f"{self.pattern.pattern!r} in the log" + (f" {self.times} times" if self.times > 1 else "")


class Http(Check):
    def __init__(
        self, path: str, port: str | int, status: int | range, body: re.Pattern[str] | None, headers: Mapping[str, str]
    ) -> None:
        if not isinstance(headers, Mapping):
            raise DeclarationError(f"http: headers must be a dict, {{'Host': 'shop'}}, not a {type(headers).__name__}")
        if not isinstance(status, int | range):
            raise DeclarationError(f"http: status={status!r} is neither a number nor a range: 204, or range(200, 500)")
        self.path = path
        self.port = _port_name(port)
        self.status = range(status, status + 1) if isinstance(status, int) else status
        self.body = body
        self.headers = dict(headers)

    def __call__(self, instance: Instance) -> None:
        import urllib.error  # Here, because with what they import they take 15 ms, and few checks are of this kind.
        import urllib.request
        from http import client as http_client
        from urllib.parse import quote

        class NoRedirects(urllib.request.HTTPRedirectHandler):
            """A redirect is an answer, and where it leads may not exist from here."""

            def redirect_request(self, *args: object, **kwargs: object) -> None:
                return None

        url = f"http://{instance.endpoint(self.port)}{quote(self.path, safe=URL_CHARACTERS)}"
        # No proxy of the environment may stand between a test and its own loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects())
        try:
            with opener.open(urllib.request.Request(url, headers=self.headers), timeout=ANSWER_TIMEOUT) as response:
                self._judge(url, response.status, _body(response))
        except urllib.error.HTTPError as error:
            with error:
                self._judge(url, error.code, _body(error))
        except (OSError, http_client.HTTPException) as error:
            raise NotReady(instance.silence(self.port) or f"GET {url}: {error!r}") from error

    def ports(self) -> list[str]:
        return [self.port]

    def _judge(self, url: str, status: int, body: bytes) -> None:
        if status not in self.status:
            said = naming.shorten(body.decode(errors="replace"))  # Health checks say there what they miss.
            raise NotReady(f"GET {url} answered {status}{f': {said}' if said else ''}")
        if self.body and not self.body.search(body.decode(errors="replace")):
            raise NotReady(f"GET {url} answered {status} without {self.body.pattern!r} in its body")

    def __str__(self) -> str:
        text = f"GET {self.path}{f' at port {self.port!r}' if self.port else ''} to answer"
        if self.status != ANY_SUCCESS:
            first, last = self.status[0], self.status[-1]
            text += f" {first}" if first == last else f" {first} to {last}"
        return f"{text} with {self.body.pattern!r} in its body" if self.body else text


def pattern_of(name: str, text: object, flags: int = 0) -> re.Pattern[str]:
    """A regular expression for text. Raises DeclarationError."""
    if isinstance(text, re.Pattern) and isinstance(text.pattern, str):
        return text
    if not isinstance(text, str):
        raise DeclarationError(f"{name}: {text!r} is no regular expression: it takes a text")
    try:
        return re.compile(text, flags)
    except re.error as error:
        raise DeclarationError(
            f"{name}: {text!r} is no regular expression: {error}; re.escape() makes one of a plain text"
        ) from None


def _port_name(given: str | int) -> str:
    """The name of a port; what has none is called by its number."""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise DeclarationError(f"port: {given!r} is neither the name of a port nor its number")
    return str(given)


def _body(response: Any) -> bytes:
    """What it answers with, as far as that comes in time: some never end, as a stream of events. All of a usual one is read,
    whether it is looked at or not, since many servers log a connection that is closed before."""
    read, deadline = bytearray(), Deadline.after(ANSWER_TIMEOUT)
    with contextlib.suppress(TimeoutError):
        while len(read) < LARGEST_BODY and not deadline.passed and (part := response.read1(LARGEST_BODY)):
            read += part
    return bytes(read)


class Exec(Check):
    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = tuple(argv)

    def __call__(self, instance: Instance) -> None:
        result = run(instance, self.argv)
        if result.exit_code != 0:
            said = (result.stderr or result.stdout).strip()
            raise NotReady(f"`{shlex.join(map(naming.mask, self.argv))}` exited with {result.exit_code}: {said}")

    def __str__(self) -> str:
        return f"`{shlex.join(map(naming.mask, self.argv))}` to succeed"


def command(given: Sequence[str | Sequence[str]]) -> tuple[str, ...]:
    """The words of a command, from what `exec` was given. Raises DeclarationError."""
    if len(given) == 1 and isinstance(given[0], str) and " " in given[0]:
        return ("/bin/sh", "-c", given[0])
    words: Sequence[object] = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else given
    if not words:
        raise DeclarationError("exec: its command is empty: exec('test', '-e', '/ready')")
    return words_of("exec", words)


def run(instance: Instance, argv: Sequence[str]) -> ExecResult:
    """The result of a command in the instance. Raises NotReady where it has not ended in the time that it may take."""
    seconds = time_for(EXEC_TIMEOUT)
    try:
        return instance.exec(argv, timeout=seconds)
    except ExecTimeout as error:
        raise NotReady(f"`{shlex.join(map(naming.mask, argv))}` had not ended after {seconds:g} s") from error


class Health(Check):
    def __call__(self, instance: Instance) -> None:
        state = instance.state()
        health, said = state.health, f": {state.health_said}" if state.health_said else ""
        if health != "healthy":
            raise NotReady(f"its health is {health or 'not reported: it has no HEALTHCHECK'}{said}")

    def __str__(self) -> str:
        return "its HEALTHCHECK to say healthy"


class Ended(Check):
    may_end = True

    def __call__(self, instance: Instance) -> None:
        state = instance.state()
        if state.running:
            raise NotReady("it still runs")
        if state.exit_code != 0:  # It has ended just now; the next poll tells that as it tells every other death.
            raise NotReady(f"it is {state}")

    def __str__(self) -> str:
        return "it to end with exit code 0"
