# SPDX-License-Identifier: Apache-2.0
"""Building images: when, of what, and what is said where it fails. Against a server that answers as Docker does."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from itest.build import Build
from itest.clock import SYSTEM, wall
from itest.engines import docker_built
from itest.engines.dockerfile import Base, bases
from itest.errors import BuildError, ImageError
from itest.lock import locked
from itest.report import progress
from itest.spec import ContainerSpec
from tests.unit.fake_docker import FakeDockerTest, Handler, lines, trickle


class BasesTest(unittest.TestCase):
    def check(self, text: str, *expected: str, target: str = "", **args: str) -> None:
        self.assertEqual([base.image for base in bases(text, args, target)], list(expected))

    def test_images_that_are_begun_with(self) -> None:
        self.check("FROM busybox:1.37", "busybox:1.37")
        self.check("# FROM x\nfrom a as one\nFROM scratch\nFROM one\nFROM b\nFROM a", "a", "b")
        self.check("FROM \\\n  # why\n  a \\\n  AS one", "a")

    def test_images_that_are_copied_from(self) -> None:
        self.check(
            "FROM a AS one\nFROM b\nCOPY --chown=1 --from=one /x /\nCOPY --from=0 /y /\nCOPY --from=c:1 /z /",
            "a",
            "b",
            "c:1",
        )
        self.check("FROM a\nCOPY x --from=b", "a")

    def test_arguments(self) -> None:
        text = 'ARG VERSION=3.13\nARG REGISTRY\nARG FULL="python:${VERSION}-slim"\nFROM $FULL'
        self.check(text, "python:3.13-slim")
        self.check(text, "python:3.14-slim", VERSION="3.14")
        self.check("ARG BASE\nFROM $BASE", "a:1", BASE="a:1")
        self.check("ARG V\nFROM a:${V:-1}\nFROM b:$V\nARG W=2\nFROM c:$W", "a:1")

    def test_what_comes_after_the_target_is_not_needed(self) -> None:
        text = "FROM a AS one\nRUN x\nFROM b AS two\nCOPY --from=c x x\nFROM d"
        self.check(text, "a", "b", "c", target="Two")
        self.check(text, "a", "b", "c", "d")

    def test_a_platform(self) -> None:
        found = bases("FROM --platform=linux/arm64 a\nFROM --platform=$BUILDPLATFORM b\nFROM c", {})
        self.assertEqual(found, [Base("a", "linux/arm64"), Base("c", "")])


class FakeBuildTest(FakeDockerTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.engine = self.make(cache_dir=self.cache)
        (self.root / "Dockerfile").write_text("FROM base:1\nRUN make\n")
        self.answers["GET /images/base:1/json"] = {"Id": "sha256:b"}
        self.answers["GET /images/json"] = []
        self.builds()

    @property
    def spec(self) -> ContainerSpec:
        return ContainerSpec("", build=Build(self.root))

    @property
    def image(self) -> str:
        return f"itest-build:{Build(self.root).fingerprint()}"

    def builds(self, *messages: dict[str, Any], code: int = 200) -> None:
        def build(handler: Handler) -> tuple[int, bytes]:
            tag = parse_qs(urlsplit(handler.path).query)["t"][0]
            if not any("error" in message for message in messages):
                self.answers[f"GET /images/{tag}/json"] = {"Id": "sha256:built"}
            return code, lines(*messages)

        self.answers["POST /build"] = build

    def asked(self) -> tuple[dict[str, str], tarfile.TarFile]:
        """The parameters of the last build, and what was sent."""
        line, _, body = [each for each in self.server.asked if each[0].startswith("POST /build")][-1]
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(line.split()[1]).query).items()}
        return parameters, self.enterContext(tarfile.open(fileobj=io.BytesIO(body)))


class BuildTest(FakeBuildTest):
    def test_an_image_is_built_once_and_run(self) -> None:
        self.start(self.spec)
        self.start(self.spec)
        self.start(self.spec, self.make(cache_dir=self.cache))
        self.assertEqual(len(self.server.requests("POST /build")), 1)
        self.assertEqual(self.server.body("POST /containers/create")["Image"], self.image)
        self.assertEqual(
            [(span.name, span.subject, span.facts) for span in self.trace.spans],
            [("build", "web", {"image": self.image, "title": f"image of {self.root}/Dockerfile"})],
        )

    def test_another_content_is_another_image(self) -> None:
        self.start(self.spec)
        (self.root / "app.py").touch()
        self.start(self.spec)
        self.assertEqual(len(self.server.requests("POST /build")), 2)

    def test_what_docker_is_asked(self) -> None:
        (self.root / "app.py").write_text("print()")
        self.start(ContainerSpec("", build=Build(self.root, args={"A": 1}, target="prod"), platform="linux/arm64"))
        parameters, archive = self.asked()
        fingerprint = Build(self.root, args={"A": "1"}, target="prod").fingerprint()
        labels = json.loads(parameters.pop("labels"))
        self.assertEqual(labels["itest.build"], f"{fingerprint}-linux-arm64")
        self.assertEqual(labels["itest.build.recipe"], f"{self.root}/Dockerfile, target prod")
        self.assertEqual(
            parameters,
            {
                "t": f"itest-build:{fingerprint}-linux-arm64",
                "dockerfile": "Dockerfile",
                "buildargs": '{"A": "1"}',
                "target": "prod",
                "platform": "linux/arm64",
                "rm": "1",
                "forcerm": "1",
            },
        )
        self.assertEqual(archive.getnames(), ["Dockerfile", "app.py"])
        self.assertIn(
            "&platform=linux%2Farm64", self.server.requests("POST /containers/create")[0].replace("/arm", "%2Farm")
        )

    def test_what_it_begins_with_is_pulled_first(self) -> None:
        del self.answers["GET /images/base:1/json"]
        self.answers["POST /images/create"] = (200, b"")
        self.start(self.spec)
        self.assertEqual(len(self.server.requests("POST /images/create?fromImage=base&tag=1")), 1)
        self.assertEqual([span.name for span in self.trace.spans], ["pull", "build"])

    def test_what_it_begins_with_is_not_there(self) -> None:
        del self.answers["GET /images/base:1/json"]
        with self.assertRaises(ImageError) as caught:
            self.start(ContainerSpec("", build=Build(self.root), pull="never"))
        self.assertRegex(str(caught.exception), "^image base:1 is not on the Docker host, and pull='never' says not to")
        self.assertEqual(caught.exception.__notes__, [f"it is needed to build the image of {self.root}/Dockerfile"])

    def test_always_builds_and_pulls_once_per_session(self) -> None:
        self.answers["POST /images/create"] = (200, b"")
        self.start(self.spec)
        spec = ContainerSpec("", build=Build(self.root), pull="always")
        engine = self.make(cache_dir=self.cache)
        self.start(spec, engine)
        self.start(spec, engine)
        self.assertEqual(len(self.server.requests("POST /build")), 2)
        self.assertEqual(len(self.server.requests("POST /images/create")), 1)

    def test_threads_build_it_once(self) -> None:
        slow = self.answers["POST /build"]
        self.answers["POST /build"] = lambda handler: SYSTEM.sleep(0.1) or slow(handler)
        engines = [self.make(cache_dir=self.cache) for _ in range(2)] * 2  # Two as if they were two processes.
        threads = [threading.Thread(target=self.start, args=(self.spec, engine)) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.server.requests("POST /build")), 1)
        self.assertEqual(len(self.server.requests("POST /containers/create")), 4)

    def test_without_a_cache_directory_it_is_built_all_the_same(self) -> None:
        self.start(self.spec, self.make(cache_dir=self.root / "Dockerfile"))
        self.assertEqual(len(self.server.requests("POST /build")), 1)

    def test_another_process_that_does_not_end(self) -> None:
        place = self.cache / "builds"
        place.mkdir()
        with (
            locked(place / f"{Build(self.root).fingerprint()}.lock", 1, "a test"),
            self.assertRaises(BuildError) as caught,
        ):
            self.start(self.spec, self.make(cache_dir=self.cache, build_timeout=0.1))
        self.assertRegex(
            str(caught.exception), r"^building the image of .*: another process has held the lock .* for 0.1 s;"
        )

    def test_locks_of_old_are_removed(self) -> None:
        old = self.cache / "builds" / "0.lock"
        old.parent.mkdir()
        old.touch()
        os.utime(old, (1, 1))
        self.start(self.spec)
        self.assertEqual([file.stem for file in old.parent.iterdir()], [Build(self.root).fingerprint()])

    def test_a_slow_one_is_mentioned(self) -> None:
        def slow() -> Iterator[dict[str, Any]]:
            for step in (1, 2):
                yield {"stream": f"Step {step}/5 : RUN make\n"}
                self.shown(f"step {step}/2" if self.stderr.isatty() else "building")

        self.answers["POST /build"] = lambda handler: trickle(handler, slow())
        with mock.patch.object(progress, "SILENT", 0.02):
            self.start(self.spec)
        self.assertRegex(
            self.stderr.getvalue(),
            rf"^itest: building image of {self.root}/Dockerfile \(0 s so far, .*\)\nitest: image of {self.root}/Dockerfile built, after 0.\d s\n$",
        )
        self.stderr.truncate(0)
        self.stderr.isatty = lambda: True  # type: ignore[method-assign]
        (self.root / "Dockerfile").write_text("FROM base:1\nRUN make all\n")
        with mock.patch.object(progress, "SILENT", 0.02), mock.patch.object(progress, "REDRAW", 0.01):
            self.start(self.spec)
        self.assertRegex(self.stderr.getvalue(), rf"building image of {self.root}/Dockerfile .*━.* .*step 2/2, 0 s")


class FailureTest(FakeBuildTest):
    def failure(self, *messages: dict[str, Any], spec: ContainerSpec | None = None, **settings: Any) -> BuildError:
        if messages:
            self.builds(*messages)
        with self.assertRaises(BuildError) as caught:
            self.start(spec or self.spec, self.make(cache_dir=self.cache, **settings))
        self.assertEqual(self.server.requests("POST /containers"), [])
        self.assertIsNone(caught.exception.__cause__)
        return caught.exception

    def test_a_command_that_fails(self) -> None:
        said = "The command '/bin/sh -c make' returned a non-zero code: 2"
        output = "".join(f"line {number}\n" for number in range(50))
        error = self.failure(
            {"stream": "Step 1/5 : FROM base:1\n"},
            {"stream": " ---> 90233c45eb2e\n"},
            {"stream": "Step 2/5 : RUN make\n"},
            {"stream": " ---> Running in 0123456789ab\n"},
            {"stream": output},
            {"stream": "\x1b[91mmake: *** no rule\n\x1b[0m"},
            {"errorDetail": {"code": 2, "message": said}, "error": said},
        )
        self.assertRegex(
            str(error),
            rf"^could not build the image of {self.root}/Dockerfile: step 2/2, `RUN make`, ended with exit code 2 after 0.\d s$",
        )
        self.assertEqual((error.step, error.exit_code), ("RUN make", 2))
        self.assertEqual(
            error.output.splitlines(), [*(f"line {number}" for number in range(31, 50)), "make: *** no rule"]
        )
        [note] = error.__notes__
        self.assertEqual(note.splitlines()[0], "output of `RUN make`:")
        self.assertEqual(note.splitlines()[-1], "  | make: *** no rule")
        self.assertEqual([(span.name, span.failed) for span in self.trace.spans], [("build", True)])

    def test_a_podman_that_says_it_in_its_own_words(self) -> None:
        error = self.failure(
            {"stream": "STEP 2/2: RUN make\n"},
            {"stream": "no rule\n"},
            {"error": 'building at STEP "RUN make": while running runtime: exit status 2'},
        )
        self.assertEqual((error.step, error.exit_code, error.output), ("RUN make", 2, "no rule"))

    def test_passwords_are_not_shown(self) -> None:
        error = self.failure(
            {"stream": "Step 2/5 : RUN make hunter2-secret\n"},
            {"stream": "with hunter2-secret\n"},
            {"errorDetail": {"message": "hunter2-secret?"}, "error": "hunter2-secret?"},
            spec=ContainerSpec("", build=Build(self.root, args={"DB_PASSWORD": "hunter2-secret"})),
        )
        self.assertEqual((error.step, error.output), ("RUN make ***", "with ***"))
        self.assertNotIn("hunter2", str(error) + str(error.__notes__) + str(vars(error)))

    def test_what_is_wrong_with_a_dockerfile(self) -> None:
        for said, expected in {
            "dockerfile parse error line 2: unknown instruction: RUM": "Dockerfile: dockerfile parse error line 2: unknown instruction: RUM",
            "failed to reach build target prod in Dockerfile": "; check the name given as target",
            'The target "prod" was not found in the provided Dockerfile': "; check the name given as target",
            "the --mount option requires BuildKit. Refer to https://docs.docker.com/": "; this needs BuildKit, and itest builds without: `docker build -t NAME` by hand, and use that image",
        }.items():
            self.builds({"message": said, "error": ""}, code=400)
            self.answers["POST /build"] = (400, {"message": said})
            self.assertTrue(str(self.failure()).endswith(expected), str(self.failure()))
        (self.root / "Dockerfile").write_text("FROM base:1\nRUN <<EOF\necho\nEOF\n")
        self.answers["POST /build"] = (400, {"message": "dockerfile parse error line 3: unknown instruction: ECHO"})
        self.assertIn("; this needs BuildKit", str(self.failure()))

    def test_a_file_that_is_not_there(self) -> None:
        error = self.failure(
            {"stream": "Step 2/5 : COPY app.py /\n"},
            {
                "error": "COPY failed: file not found in build context or excluded by .dockerignore: stat app.py: no such file"
            },
        )
        self.assertRegex(
            str(error),
            rf"step 2/2, `COPY app.py /`, failed: COPY failed: .*; paths are relative to the context {self.root}$",
        )
        self.assertFalse(hasattr(error, "__notes__"))

    def test_a_file_that_is_not_there_in_podmans_words(self) -> None:
        for reason in (
            'checking on sources under "/var/tmp/libpod_builder1/build": copier: stat: "/app.py": no such file or directory',
            'no items matching glob "/var/tmp/libpod_builder1/build/app.py" copied (1 filtered out using .dockerignore)',
        ):
            for step, hint in (
                ("COPY app.py /", f"; paths are relative to the context {self.root}"),
                ("COPY --from=base app.py /", ""),
            ):
                said = f'building at STEP "{step}": {reason}'
                error = self.failure({"stream": f"STEP 2/2: {step}\n"}, {"error": said})
                self.assertTrue(str(error).endswith(f"step 2/2, `{step}`, failed: {said}{hint}"), str(error))

    def test_a_missing_context(self) -> None:
        error = self.failure(spec=ContainerSpec("", build=Build(self.root / "nope")))
        self.assertIn(f"its context {self.root}/nope does not exist", str(error))

    def test_one_that_does_not_end(self) -> None:
        def endless(handler: Handler) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(lines({"stream": "Step 2/5 : RUN sleep 1000\n"}, {"stream": "." * 1000}))
            released.wait(60)

        released = threading.Event()
        self.addCleanup(released.set)
        self.answers["POST /build"] = endless
        error = self.failure(build_timeout=0.5)
        self.assertRegex(str(error), r"it was given up after \d+ s at step 2/2: raise build_timeout$")

    def test_a_docker_that_goes_away(self) -> None:
        self.answers["POST /build"] = lambda handler: handler.connection.close() or None
        self.assertIn("Dockerfile: Docker does not answer: ", str(self.failure()))


class KeptTest(FakeBuildTest):
    def image_of(self, number: int, recipe: str, age: float = 0.0) -> dict[str, Any]:
        labels = {docker_built.RECIPE: recipe}
        self.answers[f"DELETE /images/itest-build:{number}"] = []
        return {
            "Id": f"sha256:{number}",
            "RepoTags": [f"itest-build:{number}"],
            "Size": 1,
            "Created": wall() - age - number,
            "Labels": labels,
        }

    def test_the_last_of_each_recipe_are_kept(self) -> None:
        month = docker_built.KEPT_TIME
        found = [self.image_of(number, "a") for number in range(8)]
        found += [self.image_of(10, "b"), self.image_of(11, "b", month), self.image_of(12, "c", month)]
        self.answers["GET /images/json"] = found
        self.start(self.spec)
        removed = [line.split("?")[0].rpartition(":")[2] for line in self.server.requests("DELETE /images")]
        self.assertEqual(removed, ["5", "6", "7", "11", "12"])

    def test_one_that_is_in_use_stays(self) -> None:
        self.answers["GET /images/json"] = [self.image_of(1, "a"), self.image_of(2, "a")]
        self.answers["DELETE /images/itest-build:1"] = (409, {"message": "image is being used by running container"})
        removed, left = docker_built.clear(self.engine, self.cache)
        self.assertEqual([each.image for each in removed], ["itest-build:2"])
        self.assertEqual([each.image for each in left], ["itest-build:1"])


if __name__ == "__main__":
    unittest.main()
