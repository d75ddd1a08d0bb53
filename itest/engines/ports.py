# SPDX-License-Identifier: Apache-2.0
"""Host ports: a free one, chosen before the server that will use it is started; and sockets that listen at one."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

from itest.engines import Endpoint

_ATTEMPTS = 16

_IP_FREEBIND = 15
"""Of Linux (ip(7)); Python has no name for it."""

HOST = "127.0.0.1"

_QUIET = range(20_000, 30_000)
"""Below what Linux and Docker (32768 and above), macOS (49152) and Kubernetes' services (30000) hand out."""

_GIVEN = 32_768
"""The first port that systems hand out which do not say it as Linux does."""

BACKLOG = 128
"""Connections that may wait to be accepted."""


def listeners(port: int = 0, host: str = "") -> list[socket.socket]:
    """Sockets that listen on the loopback and on `host` too, at the same port: that one, or a free one. Raises OSError."""
    for _ in range(_ATTEMPTS):
        first = socket.create_server((HOST, port), backlog=BACKLOG)
        if host in ("", HOST):
            return [first]
        try:
            return [first, _listener(host, first.getsockname()[1])]
        except OSError:  # That port is free on one of the two addresses only.
            first.close()
            if port:
                raise
    raise OSError(f"no port is free on {HOST} and on {host}")


def _listener(host: str, port: int) -> socket.socket:
    """One at an address that this machine may get later only: with Podman, its networks' with their first container."""
    if sys.platform != "linux" or is_ours(host):
        return socket.create_server((host, port), backlog=BACKLOG)
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def is_ours(address: str) -> bool:
    """Whether an address is one of this machine's: only to those a socket can be bound."""
    if not address:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


def refuses(endpoint: Endpoint) -> bool:
    """Whether nobody listens there, for certain."""
    try:
        socket.create_connection(endpoint, timeout=1).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def free_port() -> int:
    """A TCP port of this machine that nobody uses and that nobody else will be given soon.

    The kernel's own choice (port 0) is a race once it is closed again: from the same range Docker gives its containers
    one port after the other, and the kernel whoever else asks for any. So it is drawn from a range that nobody is given
    anything of. A connection to oneself that is closed from this side leaves the port in TIME_WAIT: nobody who
    draws likewise gets it then, nor does who asks for any port (no repeat in 60 000 draws on Linux), while a server
    that binds this very port with SO_REUSEADDR, as all servers do, does. The start must still be retried when it is
    taken: by a program with a fixed port, or on systems that do it otherwise. Raises OSError where there is none.
    """
    quiet = _quiet()
    last = OSError()
    for _ in range(_ATTEMPTS):
        with socket.socket() as listener:
            try:
                listener.bind((HOST, quiet[int.from_bytes(os.urandom(4)) % len(quiet)] if quiet else 0))
                # Not before it is bound: it would get a port that waits for another's server.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.listen(1)
                endpoint = Endpoint(*listener.getsockname()[:2])
                # The end that closes first is the one whose port waits; that must be the listener's.
                with socket.create_connection(endpoint, timeout=1.0) as client:
                    accepted, _address = listener.accept()
                    accepted.close()
                    client.recv(1)
            except OSError as error:
                last = error
                continue  # It is taken, or the address cannot talk to itself just now; another port may.
        return endpoint.port
    cure = ""
    if last.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        cure = "; bring up the loopback interface (`ip link set lo up`), which has no such address here"
    raise OSError(f"no free port could be found on {HOST}: {last.strerror or last}{cure}")


def _quiet() -> range:
    """The ports that no system gives to whoever asks for any. Empty where this one does."""
    first = _GIVEN
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/ip_local_port_range") as settings:
        first = int(settings.read().split()[0])
    return _QUIET if first >= _QUIET.stop else range(0)
