# SPDX-License-Identifier: Apache-2.0
"""A pooler before a PostgreSQL server, as PgBouncer is one: enough of it for psycopg2, which sends simple queries alone."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from tests.integration.foreign import Foreign

PLAIN = {80877103, 80877104}
"""The codes by which a client asks for TLS and GSSAPI before it begins."""

REPORTED = ("server_version", "client_encoding", "DateStyle", "integer_datetimes", "standard_conforming_strings")


class Session:
    """A session of the server's, lent to one client at a time."""

    def __init__(self, url: str) -> None:
        self.lent = threading.Lock()
        self._own: Any = psycopg2.connect(url)  # It is used below psycopg2, which has only logged in.
        self.socket = socket.socket(fileno=os.dup(self._own.fileno()))
        self.socket.setblocking(True)
        self.greeting = message(b"R", struct.pack(">i", 0))
        for name in REPORTED:
            self.greeting += message(b"S", f"{name}\0{self._own.info.parameter_status(name)}\0".encode())
        self.greeting += message(b"K", os.urandom(8)) + message(b"Z", b"I")

    def ask(self, sql: bytes, answer: Callable[[bytes], object]) -> bytes:
        """Send a query and have its answer; the state of the transaction after it, I for none."""
        self.socket.sendall(message(b"Q", sql))
        kind = text = b""
        while kind != b"Z":
            kind, text = exactly(self.socket, 1), content(self.socket)
            answer(message(kind, text))
        return text

    def close(self) -> None:
        self.socket.close()
        self._own.close()


class Pooler(socketserver.ThreadingTCPServer):
    """`transaction`: whether a session is lent for a transaction, and not until the client goes. What a client gives as
    `options` is dropped, as with PgBouncer's ignore_startup_parameters, or, with `refuses`, refused. `only` is the one database
    that it leads to, whatever a client names."""

    daemon_threads = True

    def __init__(self, foreign: Foreign, transaction: bool, refuses: bool, only: str) -> None:
        super().__init__(("127.0.0.1", 0), Client)
        self.foreign = foreign
        self.transaction = transaction
        self.refuses = refuses
        self.only = only
        self.pool: dict[str, Session] = {}
        self.opening = threading.Lock()

    def session(self, database: str) -> Session:
        if not self.transaction:
            return Session(self.foreign.url_for(database))
        with self.opening:
            if database not in self.pool:
                self.pool[database] = Session(self.foreign.url_for(database))
            return self.pool[database]


class Client(socketserver.StreamRequestHandler):
    server: Pooler
    disable_nagle_algorithm = True  # An answer is several messages, each sent by itself.

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while struct.unpack(">i", (startup := content(self.request))[:4])[0] in PLAIN:
                self.request.sendall(b"N")
            words = startup[4:].decode().split("\0")
            given = dict(zip(words[::2], words[1::2], strict=False))
            if "options" in given and self.server.refuses:
                refusal = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
                self.request.sendall(message(b"E", refusal))
                return
            session = self.server.session(self.server.only or given["database"])
            try:
                self.request.sendall(session.greeting)
                self.relay(session)
            finally:
                if not self.server.transaction:
                    session.close()

    def relay(self, session: Session) -> None:
        """Until the client goes. A transaction that it leaves open is rolled back."""
        state = b"I"
        try:
            while (kind := exactly(self.request, 1)) == b"Q":
                if state == b"I":
                    session.lent.acquire()
                state = session.ask(content(self.request), self.request.sendall)
                if state == b"I":
                    session.lent.release()
            assert kind == b"X", f"a message {kind!r} is nothing that this pooler knows"
        finally:
            if state != b"I":
                session.ask(b"ROLLBACK\0", lambda answer: None)
                session.lent.release()


def message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">i", len(content) + 4) + content


def content(connection: socket.socket) -> bytes:
    """What is in the next message, after its kind."""
    return exactly(connection, struct.unpack(">i", exactly(connection, 4))[0] - 4)


def exactly(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        if not (more := connection.recv(count - len(got))):
            raise ConnectionError("the other side has gone")
        got += more
    return got


@contextlib.contextmanager
def pooling(foreign: Foreign, *, transaction: bool = False, refuses: bool = False, only: str = "") -> Iterator[str]:
    """Within the `with`, one runs: the URL of the database `postgres` by it."""
    with Pooler(foreign, transaction, refuses, only) as pooler:
        thread = threading.Thread(target=pooler.serve_forever, args=(0.02,))
        thread.start()
        try:
            user, _, _ = urlsplit(foreign.url).netloc.rpartition("@")
            yield urlsplit(foreign.url)._replace(netloc=f"{user}@127.0.0.1:{pooler.server_address[1]}").geturl()
        finally:
            pooler.shutdown()
            thread.join()
            for session in pooler.pool.values():
                session.close()
