# SPDX-License-Identifier: Apache-2.0
"""Pulling: what registries say, in one sentence; progress; logins. Against a server that answers as Docker does."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from itest import naming
from itest.clock import SYSTEM
from itest.engines.docker_registry import explain, fits, mirrored, registry_of
from itest.errors import DeclarationError, ImageError, Unavailable
from itest.report import progress
from itest.spec import ContainerSpec, Port
from tests.programs import write_program
from tests.unit.fake_docker import FakeDockerTest, Handler, lines, trickle


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

    def test_a_url_in_place_of_a_name_is_told_without_its_password(self) -> None:
        url = "postgresql://u:S3cretPassw@h/x"
        text = explain(url, f"invalid reference format: {url}")
        self.assertEqual((text.count("S3cretPassw"), text.count("u:***@h")), (0, 2), text)

    def test_what_is_said_of_a_mirror_a_platform_and_a_login(self) -> None:
        denied = "denied: requested access to the resource is denied"
        self.assertEqual(
            explain(
                "postgres:17",
                denied,
                asked="r.example/hub/library/postgres:17",
                login="the variable DOCKER_AUTH_CONFIG",
            ),
            "image postgres:17 is not on the Docker host and could not be pulled as r.example/hub/library/postgres:17, by the "
            "setting mirror: denied: requested access to the resource is denied; the name is wrong, or the login for "
            "r.example is: it comes from the variable DOCKER_AUTH_CONFIG, renew it there",
        )
        self.assertTrue(
            explain("a", denied, problem="x could not be asked: no helper").endswith(
                "log in with `docker login` (x could not be asked: no helper)"
            )
        )
        text = explain(
            "a", "no matching manifest for linux/arm64/v8 in the manifest list entries", platform="linux/arm64"
        )
        self.assertIn("image a is not on the Docker host for platform linux/arm64 and could not be pulled", text)
        self.assertIn("; the image does not exist for platform linux/arm64: choose", text)
        text = explain("quay.io/a/b", "toomanyrequests", there=True)
        self.assertTrue(
            text.startswith("image quay.io/a/b could not be pulled: toomanyrequests; the rate limit of quay.io")
        )
        self.assertIn("`docker login quay.io`", text)

    def test_names_in_a_mirror(self) -> None:
        for image, expected in {
            "postgres:17": "r.example/hub/library/postgres:17",
            "postgres": "r.example/hub/library/postgres",
            "postgres@sha256:00": "r.example/hub/library/postgres@sha256:00",
            "library/postgres": "r.example/hub/library/postgres",
            "apache/kafka:4.1.1": "r.example/hub/apache/kafka:4.1.1",
            "docker.io/postgres:17": "r.example/hub/library/postgres:17",
            "docker.io/apache/kafka": "r.example/hub/apache/kafka",
            "index.docker.io/library/redis": "r.example/hub/library/redis",
            "quay.io/x/y": "quay.io/x/y",
            "r.example/hub/x": "r.example/hub/x",
            "localhost:5000/x": "localhost:5000/x",
            "localhost/x": "localhost/x",
            "sha256:" + "0" * 64: "sha256:" + "0" * 64,
        }.items():
            for mirror in ("r.example/hub", "r.example/hub/"):
                self.assertEqual(mirrored(image, mirror), expected)
            self.assertEqual(mirrored(image, ""), image)

    def test_platforms(self) -> None:
        for platform, fitting in {
            "linux/amd64": True,
            "amd64": True,
            "linux/x86_64": True,
            "Linux/AMD64": True,
            "linux/arm64": False,
            "windows/amd64": False,
        }.items():
            self.assertEqual(fits(platform, "linux", "amd64", ""), fitting, platform)
        self.assertTrue(fits("linux/arm64", "linux", "arm64", "v8"))
        self.assertTrue(fits("linux/arm/v7", "linux", "arm", "v7"))
        self.assertFalse(fits("linux/arm/v6", "linux", "arm", "v7"))

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
        with self.assertRaises(ImageError) as caught:
            self.start(self.spec)
        self.assertEqual(str(caught.exception), explain("ghcr.io/acme/web:2", said))
        self.assertEqual(caught.exception.image, "ghcr.io/acme/web:2")

    def test_a_registry_that_says_nothing(self) -> None:
        released = threading.Event()
        self.addCleanup(released.set)
        self.answers["POST /images/create"] = lambda handler: released.wait(60) and None
        text = self.fails(ImageError, self.spec, self.make(pull_timeout=0.1))
        self.assertRegex(
            text,
            r"^image ghcr.io/acme/web:2 is not on the Docker host, and its pull was given up after \d+ s "
            r"\(nothing downloaded yet\): raise pull_timeout, or `docker pull` by hand$",
        )

    def test_a_registry_that_trickles(self) -> None:
        def trickle(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                for current in range(1000):
                    detail = {"current": current * 10**6, "total": 10**9}
                    handler.wfile.write(lines({"status": "Downloading", "id": "a", "progressDetail": detail}))
                    SYSTEM.sleep(0.02)

        self.answers["POST /images/create"] = trickle
        text = self.fails(ImageError, self.spec, self.make(pull_timeout=0.5))
        self.assertRegex(text, r"given up after \d+ s \(\d+ of 1000 MB\)")

    def test_a_slow_one_is_mentioned(self) -> None:
        def slow(handler: Handler) -> tuple[int, bytes]:
            SYSTEM.sleep(0.1)
            return 200, b""

        self.answers["POST /images/create"] = slow
        with mock.patch.object(progress, "SILENT", 0.02):
            self.start(self.spec)
        self.assertRegex(
            self.stderr.getvalue(),
            r"^itest: pulling ghcr.io/acme/web:2, which is not on the Docker host \(\d+ s so far, nothing downloaded yet\)\n"
            r"itest: ghcr.io/acme/web:2 pulled, after \d+\.\d s\n$",
        )

    def test_on_a_terminal_one_line_is_redrawn(self) -> None:
        def slow() -> Iterator[dict[str, Any]]:
            for current in (1, 2):
                detail = {"current": current * 10**6, "total": 4 * 10**6}
                yield {"status": "Downloading", "id": "a", "progressDetail": detail}
                self.shown(f"{current} of 4 MB")
            yield {"status": "Download complete", "id": "a"}

        self.answers["POST /images/create"] = lambda handler: trickle(handler, slow())
        self.stderr.isatty = lambda: True  # type: ignore[method-assign]
        with mock.patch.object(progress, "SILENT", 0.02), mock.patch.object(progress, "REDRAW", 0.01):
            self.start(self.spec)
        text = self.stderr.getvalue()
        self.assertRegex(text, r"\x1b\[K itest: pulling ghcr.io/acme/web:2 .*━.* .*2 of 4 MB, \d+ s")
        self.assertRegex(text, r"\x1b\[K?itest: ghcr.io/acme/web:2 pulled, after \d+\.\d s\n\x1b\[K$")

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


class PolicyTest(FakeDockerTest):
    """`GET /images/web:1/json` finds an image of that name; nothing else is there."""

    def setUp(self) -> None:
        super().setUp()
        self.answers["POST /images/create"] = (200, b"")

    def pulls(self) -> list[str]:
        return [line.partition("?")[2] for line in self.server.requests("POST /images/create")]

    def test_missing(self) -> None:
        self.start(ContainerSpec("web:1"))
        self.start(ContainerSpec("web:2"))
        self.assertEqual(self.pulls(), ["fromImage=web&tag=2"])

    def test_always_is_once_per_session(self) -> None:
        self.start(ContainerSpec("web:1", pull="always"))
        self.start(ContainerSpec("web:1", pull="always"))
        self.start(ContainerSpec("web:1"))
        self.assertEqual(self.pulls(), ["fromImage=web&tag=1"])
        self.start(ContainerSpec("web:1", pull="always"), self.make())
        self.assertEqual(len(self.pulls()), 2)

    def test_always_is_an_error_if_there_is_nothing_newer_to_be_had(self) -> None:
        self.answers["POST /images/create"] = (500, {"message": "dial tcp: lookup registry: no such host"})
        text = self.fails(ImageError, ContainerSpec("web:1", pull="always"))
        self.assertTrue(
            text.startswith("image web:1 could not be pulled: dial tcp: lookup registry: no such host; "), text
        )

    def test_always_knows_the_image_that_it_got(self) -> None:
        spec = ContainerSpec("web:1", pull="always")
        self.assertEqual(self.engine.identity(ContainerSpec("web:1"), self.trace), "sha256:1")
        self.answers["GET /images/web:1/json"] = {"Id": "sha256:new"}
        self.assertEqual(self.engine.identity(spec, self.trace), "sha256:new")
        self.assertEqual(len(self.pulls()), 1)

    def test_never(self) -> None:
        self.start(ContainerSpec("web:1", pull="never"))
        text = self.fails(ImageError, ContainerSpec("web:2", pull="never"))
        self.assertEqual(
            text,
            "image web:2 is not on the Docker host, and pull='never' says not to pull it: bring it (`docker pull`, "
            "`docker load`), or say pull='missing'",
        )
        self.assertEqual(self.pulls(), [])

    def test_another_word(self) -> None:
        text = self.fails(DeclarationError, ContainerSpec("web:1", pull="allways"))
        self.assertEqual(text, "pull='allways' of image web:1: it must be one of missing, always, never")

    def test_a_platform_is_asked_for_and_looked_at(self) -> None:
        self.answers["GET /images/web:1/json"] = {"Id": "sha256:1", "Os": "linux", "Architecture": "amd64"}
        self.start(ContainerSpec("web:1", platform="linux/amd64"))
        self.assertEqual(self.pulls(), [])
        self.assertEqual(self.server.body("POST /containers/create")["Image"], "sha256:1")
        self.start(ContainerSpec("web:1", platform="linux/arm64"))
        self.assertEqual(self.pulls(), ["fromImage=web&tag=1&platform=linux%2Farm64"])
        self.assertRegex(self.server.requests("POST /containers/create")[1], "&platform=linux(%2F|/)arm64$")
        text = self.fails(ImageError, ContainerSpec("web:1", platform="windows/amd64", pull="never"))
        self.assertTrue(
            text.startswith("image web:1 is not on the Docker host for platform windows/amd64, and pull="), text
        )


class MirrorTest(FakeDockerTest):
    def setUp(self) -> None:
        super().setUp()
        self.answers["POST /images/create"] = (200, b"")
        self.engine = self.make(mirror="r.example/hub")

    def test_the_image_is_known_by_both_names(self) -> None:
        self.answers["POST /images/r.example/hub/library/db:17/tag"] = (201, b"")
        self.start(ContainerSpec("db:17"))
        self.assertEqual(
            self.server.requests("POST /images"),
            [
                "POST /images/create?fromImage=r.example%2Fhub%2Flibrary%2Fdb&tag=17",
                "POST /images/r.example/hub/library/db:17/tag?tag=17&repo=db&force=0",
            ],
        )
        self.assertEqual(self.server.body("POST /containers/create")["Image"], "db:17")

    def test_what_is_there_is_not_asked_for(self) -> None:
        self.start(ContainerSpec("web:1"))
        self.assertEqual(self.server.requests("POST /images"), [])

    def test_other_registries_are_left_alone(self) -> None:
        self.start(ContainerSpec("quay.io/x/y:1"))
        self.assertEqual(self.server.requests("POST /images"), ["POST /images/create?fromImage=quay.io%2Fx%2Fy&tag=1"])

    def test_what_has_a_digest_for_a_name_cannot_have_another_one(self) -> None:
        digest = "sha256:" + "0" * 64
        self.start(ContainerSpec(f"db@{digest}"))
        self.assertEqual(len(self.server.requests("POST /images")), 1)
        self.assertEqual(self.server.body("POST /containers/create")["Image"], f"r.example/hub/library/db@{digest}")

    def test_a_failure_says_what_was_asked_for(self) -> None:
        self.answers["POST /images/create"] = (404, {"message": "manifest unknown"})
        text = self.fails(ImageError, ContainerSpec("db:17"), self.engine)
        self.assertIn(
            "could not be pulled as r.example/hub/library/db:17, by the setting mirror: manifest unknown;", text
        )


class LoginTest(FakeDockerTest):
    spec = ContainerSpec("ghcr.io/acme/web:2")

    def setUp(self) -> None:
        super().setUp()
        self.answers["POST /images/create"] = (200, b"")
        self.enterContext(mock.patch.object(naming, "_known_secrets", set()))

    def sent(self, given: object = None, image: str = "ghcr.io/acme/web:2", **settings: Any) -> dict[str, str] | None:
        """The login that goes with a pull, where DOCKER_AUTH_CONFIG is that."""
        environment = (
            {} if given is None else {"DOCKER_AUTH_CONFIG": given if isinstance(given, str) else json.dumps(given)}
        )
        self.server.asked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.start(ContainerSpec(image), self.make(environment=environment, **settings))
        [headers] = [headers for line, headers, _ in self.server.asked if "/images/create" in line]
        header = headers.get("X-Registry-Auth")
        return (
            None
            if header is None
            else {name.lower(): value for name, value in json.loads(base64.urlsafe_b64decode(header)).items()}
        )

    def assertLogin(self, sent: dict[str, str] | None, user: str, password: str) -> None:
        assert sent is not None
        self.assertEqual((sent["username"], sent["password"]), (user, password))

    def auth(self, text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    def config(self, content: object) -> None:
        Path(self.home, "config.json").write_text(json.dumps(content))

    def helper(self, name: str, user: str, password: str) -> None:
        """A credential helper on PATH, as the docker command has them."""
        said = json.dumps({"ServerURL": "x", "Username": user, "Secret": password})
        write_program(Path(self.home, f"docker-credential-{name}"), f"cat >/dev/null\necho '{said}'")
        self.enterContext(mock.patch.dict(os.environ, {"PATH": f"{self.home}:{os.environ['PATH']}"}))

    def test_any_entry_of_the_variable_and_a_password_with_colons(self) -> None:
        given = {"auths": {"other.example": self.auth("x:y"), "ghcr.io": self.auth("me:pass:word-of-mine")}}
        self.assertLogin(self.sent(given), "me", "pass:word-of-mine")
        self.assertEqual(naming.mask("it is pass:word-of-mine"), "it is ***")

    def test_docker_hub_has_its_old_name(self) -> None:
        given = {"auths": {"https://index.docker.io/v1/": self.auth("me:hub")}}
        self.assertLogin(self.sent(given, "acme/web"), "me", "hub")
        self.assertIsNone(self.sent(given))

    def test_the_mirror_has_a_login_of_its_own(self) -> None:
        given = {"auths": {"https://index.docker.io/v1/": self.auth("me:hub"), "r.example": self.auth("me:mirror")}}
        self.assertLogin(self.sent(given, "acme/web", mirror="r.example/hub"), "me", "mirror")

    def test_name_and_password_as_they_are(self) -> None:
        self.assertLogin(self.sent({"auths": {"ghcr.io": {"username": "me", "password": "plain"}}}), "me", "plain")

    def test_a_token(self) -> None:
        sent = self.sent({"auths": {"ghcr.io": {"auth": "", "identitytoken": "tok"}}})
        self.assertEqual(sent and sent["identitytoken"], "tok")

    def test_helpers_of_the_variable(self) -> None:
        self.helper("sample", "helped", "s:e")
        self.assertLogin(self.sent({"credHelpers": {"ghcr.io": "sample"}}), "helped", "s:e")
        self.assertLogin(self.sent({"auths": {"ghcr.io": {}}, "credsStore": "sample"}), "helped", "s:e")
        self.assertIsNone(self.sent({"credHelpers": {"other.example": "sample"}}))

    def test_the_configuration_of_the_docker_command(self) -> None:
        self.config({"auths": {"ghcr.io": self.auth("file:f1")}})
        self.assertLogin(self.sent(), "file", "f1")
        self.assertLogin(self.sent({"auths": {"ghcr.io": self.auth("variable:v1")}}), "variable", "v1")
        self.assertLogin(self.sent({"auths": {"other.example": self.auth("variable:v1")}}), "file", "f1")
        self.helper("sample", "store", "s1")
        for content in ({"credsStore": "sample"}, {"credHelpers": {"ghcr.io": "sample"}}):
            self.config(content)
            self.assertLogin(self.sent(), "store", "s1")

    def test_a_variable_that_cannot_be_read(self) -> None:
        for given, reason in {
            "{": r"it is no JSON \(.*\)",
            "[]": 'it must look like {"auths": ',
            '{"auths": []}': 'it must look like {"auths": ',
        }.items():
            self.stderr.seek(0)
            self.stderr.truncate()
            self.config({"auths": {"ghcr.io": self.auth("file:f1")}})
            self.assertLogin(self.sent(given), "file", "f1")
            self.assertRegex(
                self.stderr.getvalue(),
                f"^itest: the variable DOCKER_AUTH_CONFIG is ignored, because it cannot be read: {reason}",
            )

    def test_one_entry_that_cannot_be_read_leaves_the_others(self) -> None:
        for bad in ({"auth": "!"}, self.auth("no colon"), "text", None):
            given = {"auths": {"bad.example": bad, "ghcr.io": self.auth("me:p")}}
            self.assertLogin(self.sent(given), "me", "p")
            self.assertIn(
                "itest: the entry bad.example of the variable DOCKER_AUTH_CONFIG is ignored", self.stderr.getvalue()
            )

    def test_a_login_that_is_refused_is_said_to_be_that(self) -> None:
        self.answers["POST /images/create"] = (
            500,
            {"message": "unauthorized: incorrect username or password my-password-1"},
        )
        engine = self.make(
            environment={"DOCKER_AUTH_CONFIG": json.dumps({"auths": {"ghcr.io": self.auth("me:my-password-1")}})}
        )
        text = self.fails(ImageError, self.spec, engine)
        self.assertTrue(
            text.endswith(
                "unauthorized: incorrect username or password ***; the name is wrong, or the login for ghcr.io is: it comes "
                "from the variable DOCKER_AUTH_CONFIG, renew it there"
            ),
            text,
        )

    def test_a_credential_helper_that_is_not_there(self) -> None:
        self.config({"credsStore": "not-installed"})
        self.assertIsNone(self.sent())
        self.answers["POST /images/create"] = (500, {"message": "denied"})
        text = self.fails(ImageError, self.spec, self.make())
        self.assertIn("(the configuration of the docker command could not be asked: ", text)
        self.assertIn("docker-credential-not-installed", text)

    def test_a_configuration_that_nobody_can_read(self) -> None:
        for content in ({"auths": {"x": {"auth": "a"}}}, {"auths": {"x": []}}, []):
            self.config(content)
            text = self.fails(Unavailable, self.spec, self.make())
            self.assertTrue(text.startswith("the configuration of the docker command, ~/.docker/config.json or "), text)


if __name__ == "__main__":
    unittest.main()
