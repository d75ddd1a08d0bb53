# SPDX-License-Identifier: Apache-2.0
"""Pulling: what registries say, in one sentence; progress; logins. Against a server that answers as Docker does."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import unittest
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

from itest.clock import SYSTEM
from itest.engines import docker_progress
from itest.engines.docker_registry import explain, registry_of
from itest.errors import ImageError
from itest.spec import ContainerSpec, Port
from tests.unit.fake_docker import FakeDockerTest, Handler, lines


class ExplainTest(unittest.TestCase):
    """The words are those of real registries and daemons."""

    def test_known_reasons(self) -> None:
        for image, said, expected in (
            (
                "postgres:99",
                "Error response from daemon: manifest for postgres:99 not found: manifest unknown: manifest unknown",
                "image postgres:99 is not on the Docker host and could not be pulled: manifest for postgres:99 not "
                "found: manifest unknown; the registry has no such image: check name and tag",
            ),
            (
                "ghcr.io/acme/secret",
                "pull access denied for ghcr.io/acme/secret, repository does not exist or may require 'docker login': "
                "denied: requested access to the resource is denied",
                "check it, or log in with `docker login ghcr.io`",
            ),
            ("acme/secret", "pull access denied for acme/secret", "or log in with `docker login`"),
            (
                "localhost:5000/x",
                'Get "http://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
                "the Docker host cannot reach the registry localhost:5000: check its network, proxy or mirror",
            ),
            ("x", "dial tcp: lookup registry.example: no such host", "cannot reach the registry docker.io"),
            ("x", "net/http: request canceled while waiting for connection (Client.Timeout exceeded)", "cannot reach"),
            ("x", "dial tcp 1.2.3.4:443: i/o timeout", "cannot reach the registry docker.io"),
            (
                "x",
                "toomanyrequests: You have reached your unauthenticated pull rate limit. access denied",
                "the rate limit of docker.io is used up: log in (`docker login`, or the variable DOCKER_AUTH_CONFIG), wait, "
                "or name a mirror by the setting mirror",
            ),
            (
                "x",
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                "does not exist for this machine's processor",
            ),
            ("x", "tls: failed to verify certificate: x509: certificate signed by unknown authority", "trust"),
            ("x", "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "`docker system df`"),
            ("Bad Name", "invalid reference format: repository name must be lowercase", "[registry/]name[:tag]"),
            ("x", "something new", "something new; try `docker pull` by hand"),
        ):
            with self.subTest(said):
                text = explain(image, said)
                self.assertIn(expected, text)
                self.assertNotIn("\n", text)
                self.assertEqual(text.count(f"image {image} is not on the Docker host"), 1)

    def test_registry(self) -> None:
        for image, registry in {
            "redis": "docker.io",
            "apache/kafka:4.1.1": "docker.io",
            "ghcr.io/a/b": "ghcr.io",
            "localhost/b": "localhost",
            "r:5000/b": "r:5000",
        }.items():
            self.assertEqual(registry_of(image), registry)


class PullTest(FakeDockerTest):
    spec = ContainerSpec("ghcr.io/acme/web:2", ports={"http": Port(80)})

    def pulls(self, *messages: dict[str, Any]) -> None:
        self.answers["POST /images/create"] = lambda _: (200, lines(*messages))

    def test_a_missing_image_is_pulled_first(self) -> None:
        self.pulls({"status": "Pulling from acme/web", "id": "2"}, {"status": "Status: Downloaded newer image"})
        self.start(self.spec)
        self.assertEqual(
            self.server.requests("POST")[:2],
            ["POST /images/create?fromImage=ghcr.io%2Facme%2Fweb&tag=2", self.server.requests("POST /containers")[0]],
        )
        self.assertEqual([(span.name, span.subject) for span in self.trace.spans], [("pull", "web")])
        self.assertEqual(self.stderr.getvalue(), "")

    def test_no_tag_means_latest(self) -> None:
        self.pulls()
        self.start(ContainerSpec("web"))
        self.assertEqual(self.server.requests("POST /images"), ["POST /images/create?fromImage=web&tag=latest"])

    def test_a_digest(self) -> None:
        self.pulls()
        self.start(ContainerSpec("web@sha256:" + "0" * 64))
        self.assertIn("fromImage=web&tag=sha256%3A000", self.server.requests("POST /images")[0])

    def test_an_error_in_the_stream(self) -> None:
        self.pulls({"status": "Pulling"}, {"error": "toomanyrequests: slow down", "errorDetail": {"message": "..."}})
        text = self.fails(ImageError, self.spec)
        self.assertEqual(text, explain("ghcr.io/acme/web:2", "toomanyrequests: slow down"))
        self.assertEqual(self.server.requests("POST /containers"), [])

    def test_a_refusal(self) -> None:
        said = "pull access denied for acme/web"
        self.answers["POST /images/create"] = (404, {"message": said})
        self.assertEqual(self.fails(ImageError, self.spec), explain("ghcr.io/acme/web:2", said))

    def test_a_registry_that_says_nothing(self) -> None:
        released = threading.Event()
        self.addCleanup(released.set)
        self.answers["POST /images/create"] = lambda handler: released.wait(5) and None
        text = self.fails(ImageError, self.spec, self.make(pull_timeout=0.1))
        self.assertRegex(
            text,
            r"^image ghcr.io/acme/web:2 is not on the Docker host, and its pull was given up after 0 s "
            r"\(nothing downloaded yet\): raise pull_timeout, or `docker pull` by hand$",
        )

    def test_a_registry_that_trickles(self) -> None:
        def trickle(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                for current in range(100):
                    detail = {"current": current * 10**6, "total": 10**8}
                    handler.wfile.write(lines({"status": "Downloading", "id": "a", "progressDetail": detail}))
                    SYSTEM.sleep(0.02)

        self.answers["POST /images/create"] = trickle
        text = self.fails(ImageError, self.spec, self.make(pull_timeout=0.2))
        self.assertRegex(text, r"given up after 0 s \(\d+ of 100 MB\)")

    def test_a_slow_one_is_mentioned(self) -> None:
        def slow(handler: Handler) -> tuple[int, bytes]:
            SYSTEM.sleep(0.1)
            return 200, b""

        self.answers["POST /images/create"] = slow
        with mock.patch.object(docker_progress, "SILENT", 0.02):
            self.start(self.spec)
            self.start(self.spec, self.make(quiet=True))
        self.assertRegex(
            self.stderr.getvalue(),
            r"^itest: pulling ghcr.io/acme/web:2, which is not on the Docker host\n"
            r"itest: ghcr.io/acme/web:2 pulled, after 0.\d s\n$",
        )

    def test_on_a_terminal_one_line_is_redrawn(self) -> None:
        def slow(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            for current in (1, 2, 3):
                SYSTEM.sleep(0.05)
                detail = {"current": current * 10**6, "total": 4 * 10**6}
                handler.wfile.write(lines({"status": "Downloading", "id": "a", "progressDetail": detail}))
            handler.wfile.write(lines({"status": "Download complete", "id": "a"}))

        self.answers["POST /images/create"] = slow
        self.stderr.isatty = lambda: True  # type: ignore[method-assign]
        with mock.patch.object(docker_progress, "SILENT", 0.02), mock.patch.object(docker_progress, "REDRAW", 0):
            self.start(self.spec)
        text = self.stderr.getvalue()
        self.assertIn("\r\x1b[Kitest: pulling ghcr.io/acme/web:2 2 of 4 MB\r", text)
        self.assertRegex(text, r"4 of 4 MB\ritest: \x1b\[Kghcr.io/acme/web:2 pulled, after 0.\d s\n$")

    def test_one_pull_for_many(self) -> None:
        def slow(handler: Handler) -> tuple[int, bytes]:
            SYSTEM.sleep(0.1)
            self.answers["GET /images/ghcr.io/acme/web:2/json"] = {"Id": "sha256:2"}
            return 200, b""

        self.answers["POST /images/create"] = slow
        threads = [threading.Thread(target=self.start, args=(self.spec,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.server.requests("POST /images")), 1)
        self.assertEqual(len(self.server.requests("POST /containers/create")), 4)

    def test_login_from_the_environment(self) -> None:
        login = {"auths": {"other.example": {"auth": "eDp5"}, "ghcr.io": {"auth": "bWU6cGFzczp3b3Jk"}}}  # me:pass:word
        self.pulls()
        self.start(self.spec, self.make(environment={"DOCKER_AUTH_CONFIG": json.dumps(login)}))
        header = next(headers["X-Registry-Auth"] for line, headers, _ in self.server.asked if "/images/create" in line)
        sent = json.loads(base64.urlsafe_b64decode(header))
        self.assertEqual((sent["username"], sent["password"]), ("me", "pass:word"))

    def test_a_credential_helper_that_is_not_there(self) -> None:
        Path(self.home, "config.json").write_text('{"credsStore": "not-installed"}')
        self.pulls()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.start(self.spec)
            warnings.simplefilter("error")
            self.start(self.spec)


if __name__ == "__main__":
    unittest.main()
