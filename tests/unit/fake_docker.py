# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that answers as Docker does, for what real Docker cannot be made to do."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import socket
import socketserver
import tempfile
import threading
import unittest
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from unittest import mock

from itest import naming
from itest.clock import Deadline
from itest.config import Config
from itest.engines import docker_client, docker_link, docker_quick
from itest.engines.docker import DockerEngine
from itest.report.progress import Board
from itest.spec import ContainerSpec, Port
from itest.trace import Recorder

LABELS = {naming.SESSION: "s1", naming.SERVICE: "web"}
SPEC = ContainerSpec("web:1", ports={"http": Port(80)})


class FakeDocker(ThreadingHTTPServer):
    """Answers with what `answers` holds for "METHOD /path", and keeps what it was asked in `asked`."""

    daemon_threads = True

    def __init__(self, path: str = "") -> None:
        """On a port of its own, or on a Unix socket at this path."""
        self.address_family = socket.AF_UNIX if path else socket.AF_INET
        super().__init__(path or ("127.0.0.1", 0), Handler)  # type: ignore[arg-type]  # AF_UNIX has no port
        self.software = "Docker/24.0.0 (linux)"
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, Any] = {
            "GET /_ping": b"OK",
            "GET /version": {"ApiVersion": "1.43", "Version": "24.0.0"},
            "GET /images/web:1/json": {"Id": "sha256:1"},
            "POST /containers/create": (201, {"Id": "c0ffee" * 10}),
            "GET /containers/json": [],
            "GET /networks": [],
            "GET /volumes": {"Volumes": None},
        }

    def server_bind(self) -> None:
        if self.address_family == socket.AF_UNIX:
            socketserver.TCPServer.server_bind(self)  # HTTPServer's looks up the name of its host.
        else:
            super().server_bind()

    def requests(self, start: str) -> list[str]:
        return [line for line, _, _ in self.asked if line.startswith(start)]

    def body(self, start: str) -> Any:
        return next(json.loads(body) for line, _, body in self.asked if line.startswith(start))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: FakeDocker

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/v1.43")
        self.server.asked.append((f"{self.command} {path}", dict(self.headers), body))
        key = f"{self.command} {path.split('?')[0]}"
        default = (404, {"message": "not found"}) if self.command == "GET" else (204, b"")
        answer = self.server.answers.get(key, default)
        if isinstance(answer, list) and answer and callable(answer[0]):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(self)
        if answer is None:
            return  # It has answered by itself.
        code, content = answer if isinstance(answer, tuple) else (200, answer)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if code != 204 else b"")

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def version_string(self) -> str:
        return self.server.software

    def log_message(self, format: str, *args: Any) -> None:
        pass


def trickle(handler: Handler, messages: Iterable[dict[str, Any]]) -> None:
    """Answer with messages one by one, as Docker does: each is read as soon as it comes."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for message in messages:
            data = lines(message)
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


@unittest.skipUnless(importlib.util.find_spec("docker"), "needs the package docker")
class FakeDockerTest(unittest.TestCase):
    """Base of tests of an engine that talks to a FakeDocker."""

    unix: ClassVar[bool] = False
    """Whether it listens on a Unix socket."""

    def setUp(self) -> None:
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.server = FakeDocker(f"{directory}/docker.sock" if self.unix else "")
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.answers = self.server.answers
        self.home = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.dict(os.environ, {"DOCKER_CONFIG": self.home, "HOME": self.home}))
        for module in (docker_client, docker_link, docker_quick):  # This process answers, and may be busy.
            self.enterContext(mock.patch.object(module, "ANSWER_TIMEOUT", 60))
        self.stderr = self.enterContext(mock.patch("sys.__stderr__", io.StringIO()))
        self.trace = Recorder()
        self.board = Board()
        self.board.listen(self.trace)
        self.engine = self.make()

    def make(self, **settings: Any) -> DockerEngine:
        place = self.server.server_address
        host = f"unix://{place!s}" if self.unix else f"tcp://127.0.0.1:{place[1]}"
        environment = {"DOCKER_HOST": host, **settings.pop("environment", {})}
        engine = DockerEngine(Config(environment=environment, **settings))
        self.addCleanup(engine.close)
        return engine

    def shown(self, text: str) -> None:
        """Wait until people have been shown that."""
        deadline = Deadline.after(10)
        while text not in self.stderr.getvalue() and not deadline.passed:
            deadline.pause(0.01)

    def start(self, spec: ContainerSpec = SPEC, engine: DockerEngine | None = None) -> Any:
        return (engine or self.engine).start(spec, LABELS, Deadline.after(60), self.trace)

    def fails(self, expected: type[Exception], spec: ContainerSpec = SPEC, engine: DockerEngine | None = None) -> str:
        with self.assertRaises(expected) as caught:
            self.start(spec, engine)
        self.assertIs(type(caught.exception), expected)
        self.assertTrue(caught.exception.__suppress_context__ or caught.exception.__context__ is None)
        return str(caught.exception)
