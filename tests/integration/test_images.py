# SPDX-License-Identifier: Apache-2.0
"""Images of a real Docker: pulled from a registry on this machine, and built. Nothing of them may be left."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from itest import naming
from itest.build import Build
from itest.clock import Deadline
from itest.config import load
from itest.engines import docker_built
from itest.engines.docker import DockerEngine
from itest.engines.docker_build import name_of
from itest.errors import BuildError, ImageError
from itest.spec import ContainerSpec
from itest.trace import Recorder
from tests.integration.test_docker_engine import IMAGE, DockerTest
from tests.integration.test_docker_engine import setUpModule as setUpModule
from tests.registry import Registry, layer_of


class ImagesTest(DockerTest):
    """An engine with a cache directory of its own; what it built and pulled is removed after each test."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.engine = self.make()
        self.addCleanup(self.remove_images)
        self.wanted: list[str] = []
        """Images to be removed, besides those that were built."""

    def make(self, **settings: Any) -> DockerEngine:
        environment = {**os.environ, **settings.pop("environment", {})}
        engine = DockerEngine(replace(load(), cache_dir=self.cache, environment=environment, **settings))
        self.addCleanup(engine.close)
        return engine

    def remove_images(self) -> None:
        from docker.errors import APIError

        _, left = docker_built.clear(self.engine, self.cache)
        for image in self.wanted:
            try:
                self.engine.client.remove_image(image, force=True)
            except APIError as error:
                self.assertEqual(error.status_code, 404, error)
        self.assertEqual(left, [])

    def spans(self) -> list[str]:
        return [span.name for span in self.trace.spans]

    def output(self, spec: ContainerSpec, engine: DockerEngine | None = None) -> str:
        """What the container of a spec prints until it ends."""
        with mock.patch.object(self, "engine", engine or self.engine):
            instance = self.start(spec)
            deadline = Deadline.after(30)
            while instance.state().running and not deadline.passed:
                deadline.pause(0.02)
            text: str = instance.logs()
            instance.stop()
            return text


class RegistryTest(ImagesTest):
    layer: bytes = b""

    def setUp(self) -> None:
        super().setUp()
        self.registry = Registry()
        self.addCleanup(self.registry.close)
        if not RegistryTest.layer:
            RegistryTest.layer = layer_of(self.engine.client, IMAGE)
        # No image that anybody else has, and none that an earlier test left in Docker's own memory of where it is.
        self.name = f"itest-sample-{naming.session_id()[:8]}"

    def push(self, name: str, *architectures: str, **env: str) -> str:
        """Have it in the registry, and removed from Docker at the end; its full name."""
        self.registry.push(name, self.layer, *architectures, **env)
        self.wanted.append(f"{self.registry.host}/{name}")
        return f"{self.registry.host}/{name}"

    def fails(self, spec: ContainerSpec, engine: DockerEngine | None = None) -> str:
        with self.assertRaises(ImageError) as caught:
            (engine or self.engine).images.need(spec, self.trace)
        text = str(caught.exception)
        if not self.registry.asked and ("connection refused" in text or "timeout" in text):
            self.skipTest(f"this Docker cannot reach a registry on this machine's loopback: {text}")
        return text

    def get(self, spec: ContainerSpec, engine: DockerEngine | None = None) -> dict[str, Any]:
        """What Docker says of the image of a spec."""
        engine = engine or self.engine
        try:
            name = engine.images.need(spec, self.trace)
        except ImageError as error:
            if not self.registry.asked and "connection refused" in str(error):
                self.skipTest(f"this Docker cannot reach a registry on this machine's loopback: {error}")
            raise
        return dict(engine.client.inspect_image(name))

    def with_login(self, text: str, **settings: Any) -> DockerEngine:
        auth = base64.b64encode(text.encode()).decode()
        login = json.dumps({"auths": {"other.example": {"auth": "eDp5"}, self.registry.host: {"auth": auth}}})
        return self.make(environment={"DOCKER_AUTH_CONFIG": login}, **settings)


class PullTest(RegistryTest):
    def test_a_missing_image_is_pulled_and_run(self) -> None:
        image = self.push(f"{self.name}/web:1", MARK="one")
        self.get(ContainerSpec(image))
        self.assertIn("MARK=one\n", self.output(ContainerSpec(image)))
        self.assertEqual(self.spans(), ["pull"])

    def test_one_that_is_there_is_left_as_it_is(self) -> None:
        image = self.push(f"{self.name}/web:1", MARK="one")
        first = self.get(ContainerSpec(image))["Id"]
        self.push(f"{self.name}/web:1", MARK="two")
        for pull in ("missing", "never"):
            self.assertEqual(self.get(ContainerSpec(image, pull=pull), self.make())["Id"], first)

    def test_always_gets_the_newest_once_per_session(self) -> None:
        spec = ContainerSpec(self.push(f"{self.name}/web:1", MARK="one"), pull="always")
        first = self.get(spec)["Id"]
        self.push(f"{self.name}/web:1", MARK="two")
        self.assertEqual(self.get(spec)["Id"], first)
        engine = self.make()
        second = self.get(spec, engine)["Id"]
        self.wanted.append(first)
        self.assertNotEqual(second, first)
        self.assertEqual(engine.identity(spec, self.trace), second)
        self.assertIn("MARK=two\n", self.output(spec, engine))

    def test_never(self) -> None:
        text = self.fails(ContainerSpec(self.push(f"{self.name}/web:1"), pull="never"))
        self.assertIn("is not on the Docker host, and pull='never' says not to pull it", text)
        self.assertEqual(self.registry.asked, [])

    def test_a_platform(self) -> None:
        image = self.push(f"{self.name}/web:1", "amd64", "arm64", "ppc64le")
        for architecture in ("arm64", "ppc64le", "arm64"):
            found = self.get(ContainerSpec(image, platform=f"linux/{architecture}"))
            self.wanted.append(found["Id"])
            self.assertEqual(found["Architecture"], architecture)
        text = self.fails(ContainerSpec(image, platform="linux/s390x"))
        self.assertIn(
            f"image {image} is not on the Docker host for platform linux/s390x and could not be pulled: ", text
        )
        self.assertIn("the image does not exist for platform linux/s390x: choose another image or tag", text)

    def test_a_container_of_a_platform(self) -> None:
        native = self.engine.client.version()["Arch"]
        image = self.push(f"{self.name}/web:1", native, "ppc64le", MARK="native")
        self.wanted.append(self.get(ContainerSpec(image, platform="linux/ppc64le"))["Id"])
        self.assertIn("MARK=native\n", self.output(ContainerSpec(image, platform=f"linux/{native}")))

    def test_what_the_registry_does_not_have(self) -> None:
        text = self.fails(ContainerSpec(f"{self.registry.host}/{self.name}/web:9"))
        self.assertTrue(text.endswith("; the registry has no such image: check name and tag"), text)

    def test_a_rate_limit(self) -> None:
        image = self.push(f"{self.name}/web:1")
        self.registry.refusal = 429, "TOOMANYREQUESTS", "You have reached your pull rate limit"
        text = self.fails(ContainerSpec(image))
        self.assertIn("toomanyrequests: You have reached your pull rate limit", text)
        self.assertIn(
            f"; the rate limit of {self.registry.host} is used up: log in (`docker login {self.registry.host}`", text
        )


class LoginTest(RegistryTest):
    def setUp(self) -> None:
        super().setUp()
        self.registry.login = "me:pass:word-of-the-registry"
        self.home = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.dict(os.environ, {"DOCKER_CONFIG": self.home, "DOCKER_AUTH_CONFIG": ""}))
        self.engine = self.make()
        self.spec = ContainerSpec(self.push(f"{self.name}/web:1", MARK="private"))

    def test_no_login(self) -> None:
        text = self.fails(self.spec)
        self.assertIn("no basic auth credentials", text)
        self.assertIn(f"log in with `docker login {self.registry.host}`", text)

    def test_a_login_of_the_variable(self) -> None:
        self.get(self.spec, self.with_login(self.registry.login))
        self.assertIn("MARK=private\n", self.output(self.spec))

    def test_a_login_of_the_docker_command(self) -> None:
        auth = base64.b64encode(self.registry.login.encode()).decode()
        Path(self.home, "config.json").write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}))
        self.get(self.spec, self.make())

    def test_a_wrong_login(self) -> None:
        text = self.fails(self.spec, self.with_login("me:wrong-password-1"))
        self.assertIn(f"the login for {self.registry.host} is: it comes from the variable DOCKER_AUTH_CONFIG", text)
        self.assertNotIn("wrong-password-1", text)

    def test_the_image_that_a_build_begins_with(self) -> None:
        (self.root / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nENV BUILT=yes\n")
        spec = ContainerSpec("", build=Build(self.root, args={"BASE": self.spec.image}))
        engine = self.with_login(self.registry.login)
        self.get(spec, engine)
        self.assertIn("BUILT=yes\n", self.output(spec, engine))
        self.assertEqual(self.spans(), ["pull", "build"])


class MirrorTest(RegistryTest):
    def setUp(self) -> None:
        super().setUp()
        self.mirror = f"{self.registry.host}/hub"

    def test_official_and_other_images_of_docker_hub(self) -> None:
        engine = self.make(mirror=self.mirror)
        for image, mirrored in (
            (f"{self.name}:1", f"library/{self.name}:1"),
            (f"{self.name}/web:1", f"{self.name}/web:1"),
        ):
            self.push(f"hub/{mirrored}", MARK=mirrored)
            self.wanted.append(image)
            found = self.get(ContainerSpec(image), engine)
            self.assertEqual(set(found["RepoTags"]), {image, f"{self.mirror}/{mirrored}"})
            self.assertIn(f"MARK={mirrored}\n", self.output(ContainerSpec(image), engine))

    def test_with_a_login(self) -> None:
        self.registry.login = "me:mirror-password"
        self.push(f"hub/library/{self.name}:1")
        self.wanted.append(f"{self.name}:1")
        self.get(ContainerSpec(f"{self.name}:1"), self.with_login(self.registry.login, mirror=self.mirror))

    def test_by_digest(self) -> None:
        self.push(f"hub/library/{self.name}:1")
        digest = self.get(ContainerSpec(f"{self.mirror}/library/{self.name}:1"))["RepoDigests"][0].partition("@")[2]
        self.engine.client.remove_image(f"{self.mirror}/library/{self.name}:1", force=True)
        spec = ContainerSpec(f"{self.name}@{digest}")
        engine = self.make(mirror=self.mirror)
        for _ in range(2):
            self.assertEqual(self.get(spec, engine)["RepoDigests"], [f"{self.mirror}/library/{self.name}@{digest}"])
        self.wanted.append(f"{self.mirror}/library/{self.name}@{digest}")
        self.assertEqual(self.spans(), ["pull", "pull"])

    def test_what_it_does_not_have(self) -> None:
        text = self.fails(ContainerSpec(f"{self.name}:1"), self.make(mirror=self.mirror))
        self.assertIn(f"could not be pulled as {self.mirror}/library/{self.name}:1, by the setting mirror: ", text)
        self.assertTrue(text.endswith("; the registry has no such image: check name and tag"), text)


class BuildTest(ImagesTest):
    def dockerfile(self, text: str, name: str = "Dockerfile") -> None:
        (self.root / name).write_text(f"FROM {IMAGE}\n{text}\n")

    def spec(self, **build: Any) -> ContainerSpec:
        return ContainerSpec("", build=Build(self.root, **build))

    def fails(self, spec: ContainerSpec) -> BuildError:
        with self.assertRaises(BuildError) as caught:
            self.start(spec)
        return caught.exception

    def test_an_image_is_built_and_run_once_per_content(self) -> None:
        self.dockerfile(
            'ARG NAME=nobody\nCOPY . /app\nRUN echo "built for $NAME" > /name\nCMD ["sh", "-c", "cat /name /app/*.txt"]'
        )
        (self.root / "a.txt").write_text("one\n")
        (self.root / "secret.txt").write_text("not for images\n")
        (self.root / ".dockerignore").write_text("secret*\n")
        self.assertEqual(self.output(self.spec()), "built for nobody\none\n")
        self.assertEqual(self.output(self.spec()), "built for nobody\none\n")
        self.assertEqual(self.output(self.spec(), self.make()), "built for nobody\none\n")
        self.assertEqual(self.spans(), ["build"])
        (self.root / "a.txt").write_text("two\n")
        self.assertEqual(self.output(self.spec()), "built for nobody\ntwo\n")
        self.assertEqual(self.output(self.spec(args={"NAME": "me"})), "built for me\ntwo\n")
        self.assertEqual(self.spans(), ["build"] * 3)
        entries = docker_built.of(self.engine.client, self.cache)
        self.assertEqual({entry.recipe for entry in entries}, {f"{self.root}/Dockerfile"})
        self.assertEqual(len(entries), 3)

    def test_its_labels_do_not_look_like_a_container_of_ours(self) -> None:
        self.dockerfile('CMD ["true"]')
        self.output(self.spec())
        labels = self.engine.client.inspect_image(name_of(Build(self.root)))["Config"]["Labels"]
        self.assertLessEqual({docker_built.FINGERPRINT, docker_built.CACHE, docker_built.RECIPE}, set(labels))
        self.assertFalse({naming.SESSION, naming.OWNER, naming.SERVICE} & set(labels))

    def test_a_target_and_a_dockerfile_of_another_name(self) -> None:
        text = f'FROM {IMAGE} AS first\nCMD ["echo", "first"]\nFROM {IMAGE} AS second\nCMD ["echo", "second"]\n'
        (self.root / "web.Dockerfile").write_text(text)
        self.assertEqual(self.output(self.spec(dockerfile="web.Dockerfile")), "second\n")
        self.assertEqual(self.output(self.spec(dockerfile="web.Dockerfile", target="first")), "first\n")
        error = self.fails(self.spec(dockerfile="web.Dockerfile", target="third"))
        self.assertTrue(
            str(error).endswith("failed to reach build target third in Dockerfile; check the name given as target"),
            error,
        )

    def test_a_dockerfile_outside_of_its_context(self) -> None:
        context = self.root / "context"
        context.mkdir()
        (context / "a.txt").touch()
        self.dockerfile('COPY . /app\nCMD ["ls", "-A", "/app"]')
        self.assertEqual(self.output(ContainerSpec("", build=Build(context, "../Dockerfile"))), "a.txt\n")

    def test_modes_and_links_arrive(self) -> None:
        (self.root / "run.sh").write_text("#!/bin/sh\nstat -c '%u %a %N' /app/*\n")
        (self.root / "run.sh").chmod(0o750)
        (self.root / "link").symlink_to("run.sh")
        self.dockerfile('COPY run.sh link /app/\nCOPY --chown=0 . /app/\nCMD ["/app/run.sh"]')
        self.assertIn("0 750 /app/run.sh", self.output(self.spec()).replace("'", ""))

    def test_the_failing_step_and_what_it_printed(self) -> None:
        self.dockerfile(
            'ARG DB_PASSWORD\nRUN echo "password $DB_PASSWORD"; for i in $(seq 50); do echo "line $i"; done; exit 7'
        )
        error = self.fails(self.spec(args={"DB_PASSWORD": "hunter2-secret"}))
        self.assertRegex(
            str(error),
            rf"^could not build the image of {self.root}/Dockerfile: step 3/3, `RUN echo .*; exit 7`, ended with exit code 7 after \d+\.\d s$",
        )
        self.assertEqual(
            (error.exit_code, error.output.splitlines()), (7, [f"line {number}" for number in range(31, 51)])
        )
        self.assertTrue(error.__notes__[0].endswith("\n  | line 50"))
        self.dockerfile('ARG DB_PASSWORD\nRUN echo "password $DB_PASSWORD"; exit 7')
        error = self.fails(self.spec(args={"DB_PASSWORD": "hunter2-secret"}))
        self.assertEqual(error.output, "password ***")
        self.assertNotIn("hunter2", repr(vars(error)) + str(error))
        self.assertEqual([span.failed for span in self.trace.spans], [True, True])

    def test_what_else_goes_wrong(self) -> None:
        for text, expected in {
            "COPY nope.txt /": "step 2/2, `COPY nope.txt /`, failed: ",
            "RUM true": "Dockerfile: dockerfile parse error line 2: unknown instruction: RUM",
            "RUN nosuchprogram": "step 2/2, `RUN nosuchprogram`, ended with exit code 127 after ",
        }.items():
            with self.subTest(text):
                self.dockerfile(text)
                self.assertIn(expected, str(self.fails(self.spec())))
        self.assertIn(f"there is no file {self.root}/nope", str(self.fails(self.spec(dockerfile="nope"))))
        self.assertIn("does not exist", str(self.fails(ContainerSpec("", build=Build(self.root / "nope")))))

    def test_processes_build_it_once(self) -> None:
        self.dockerfile("RUN sleep 0.5")
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            counts = pool.starmap(_build, [(str(self.root), str(self.cache))] * 3)
        self.assertEqual(sorted(counts), [0, 0, 1])

    def test_what_was_built_can_be_removed(self) -> None:
        self.dockerfile('CMD ["sleep", "600"]')
        instance = self.start(self.spec())
        removed, left = docker_built.clear(self.engine, self.cache)
        self.assertEqual((removed, [each.image for each in left]), ([], [name_of(Build(self.root))]))
        instance.stop()
        removed, left = docker_built.clear(self.engine, self.cache)
        self.assertEqual(([each.image for each in removed], left), ([name_of(Build(self.root))], []))


def _build(root: str, cache: str) -> int:
    """In a process of its own: how many builds it made."""
    engine, trace = DockerEngine(replace(load(), cache_dir=Path(cache))), Recorder()
    try:
        engine.images.need(ContainerSpec("", build=Build(root)), trace)
    finally:
        engine.close()
    return len(trace.spans)


if __name__ == "__main__":
    unittest.main()
