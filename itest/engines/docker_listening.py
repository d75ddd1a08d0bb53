# SPDX-License-Identifier: Apache-2.0
"""Whether a container's own process listens on a port.

Docker's proxy accepts connections to a published port from the start of the container, so that an answer from there says
nothing. Three ways to know better, the cheapest first: the container's own address, where this machine can reach it; the
kernel's table of sockets, read inside; and whether the proxy hangs up at once.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from itest.wait import half_over

if TYPE_CHECKING:
    from itest.engines import Endpoint
    from itest.engines.docker_instance import DockerInstance

CONNECT_TIMEOUT = 1.0
"""Seconds in which the container's own address must answer to be of use."""

HANG_UP = 1.0
"""Seconds after which a connection through the proxy that is still open leads to somebody. It hangs up within
0.8 ms (50 times); on a busy machine more than 0.25 s were seen."""

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h)."""

_LOOPBACKS = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")

_RESOLVER = "0B00007F"
"""127.0.0.11, where Docker's own name server listens in each container on a network that was made (not on `bridge`)."""

EXPLAIN_EVERY = 20
"""Each so many polls in vain, the container's own table of sockets is asked for the reason, which takes a command; and once
when half the time is over, as on a busy machine there may be fewer polls."""


class Listening:
    """The ports of one container; remembers how often it was asked and what it has learnt."""

    def __init__(self, instance: DockerInstance) -> None:
        self._instance = instance
        self._asked = 0
        self._is_late = False
        self._reason = ""

    def silence(self, name: str, number: int) -> str:
        """Why nobody answers on a container port, published under that name; empty when somebody does."""
        direct = self._instance.direct_endpoint(name)
        known = None if direct is None else _answers(direct)
        if known is None:
            table = _table(self._instance)
            return judge(table, number) if table is not None else _hung_up(self._instance.endpoint(name), number)
        if known:
            return ""
        self._asked += 1
        due = self._asked % EXPLAIN_EVERY == 0
        if not self._is_late and half_over():
            due = self._is_late = True
        if due and (table := _table(self._instance)) is not None:
            self._reason = judge(table, number)
        return self._reason or _nobody(number)


def judge(table: str, number: int) -> str:
    """As `silence`, by the content of /proc/net/tcp and /proc/net/tcp6."""
    wanted = f"{number:04X}"
    found = set()
    others = set()
    for line in table.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == LISTENING:
            host, _, port = words[1].partition(":")
            if host == _RESOLVER:
                continue
            (found.add(host) if port == wanted else others.add(int(port, 16)))
    if found - set(_LOOPBACKS):
        return ""
    if found:
        return (
            f"its process listens on container port {number} on 127.0.0.1 only, where nobody outside of the container "
            f"can reach it: have it listen on 0.0.0.0"
        )
    listed = f"; it listens on {', '.join(map(str, sorted(others)))}" if others else ""
    return f"nothing in the container listens on port {number}{listed}"


def _answers(direct: Endpoint) -> bool | None:
    """Whether the container's own address answers; None where this machine cannot reach it."""
    try:
        socket.create_connection(direct, timeout=CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    except Exception:  # Packages that keep tests from the network, but for this machine, have errors of their own.
        return None
    return True


def _table(instance: DockerInstance) -> str | None:
    result = instance.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    # Without IPv6 there is no second table, and `cat` complains; in an image without `cat` there is nothing.
    return result.stdout if "local_address" in result.stdout else None


def _hung_up(endpoint: Endpoint, number: int) -> str:
    """The proxy hangs up at once where it has nobody to connect to."""
    try:
        with socket.create_connection(endpoint, timeout=CONNECT_TIMEOUT) as connection:
            connection.settimeout(HANG_UP)
            return "" if connection.recv(1) else _nobody(number)
    except TimeoutError:
        return ""
    except OSError:
        return _nobody(number)


def _nobody(number: int) -> str:
    return f"nothing in the container answers on port {number}"
