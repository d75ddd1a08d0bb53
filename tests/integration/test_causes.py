# SPDX-License-Identifier: Apache-2.0
"""Known causes, made real: what fails on a real Docker and with real servers is named, with its cure."""

from __future__ import annotations

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from itest import Container, Postgres, Redis, StartError
from itest.build import Build
from itest.config import load
from itest.container_options import ContainerOptions, Mount
from itest.engines.docker import DockerEngine
from itest.errors import InstanceDied, Unavailable
from itest.service import Service
from itest.session import Session
from itest.spec import ContainerSpec
from itest.wait import Deadline, log, until_ready
from tests.integration.test_docker_engine import IMAGE, DockerTest
from tests.integration.test_docker_engine import setUpModule as setUpModule


class CausesTest(DockerTest):
    def fails(self, cause: str, spec: ContainerSpec, cure: str) -> StartError:
        """The spec is started and waited for, and fails for this cause."""
        error = self.failure(spec)
        self.assertCause(error, cause, cure)
        return error

    def failure(self, spec: ContainerSpec) -> StartError:
        with self.assertRaises(StartError) as caught:
            until_ready(log("never said"), self.start(spec), Deadline.after(20), subject=str(spec))
        return caught.exception

    def assertCause(self, error: StartError, cause: str, cure: str) -> None:
        self.assertEqual(error.cause, cause, [str(error), *getattr(error, "__notes__", ())])
        self.assertIn(cure, str(error))

    def shell(self, script: str, image: str = IMAGE, **options: object) -> ContainerSpec:
        return ContainerSpec(image, entrypoint=("sh", "-c"), command=(script,))._replace(**options)  # type: ignore[arg-type]

    def test_wrong_architecture(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        place.joinpath("server").write_bytes(b"\x7fELF" + bytes(60))
        place.joinpath("server").chmod(0o755)
        place.joinpath("Dockerfile").write_text(f'FROM {IMAGE}\nCOPY server /server\nENTRYPOINT ["/server"]\n')
        engine = DockerEngine(replace(load(), cache_dir=place / "cache"))
        self.addCleanup(engine.close)
        self.engine = engine
        self.fails("wrong architecture", ContainerSpec("", build=Build(place)), "platform=")
        image = engine.images.need(ContainerSpec("", build=Build(place)), self.trace)
        self.engine.remove(self.labels)
        engine.client.remove_image(image, force=True)

    def test_no_such_program(self) -> None:
        self.fails("no such program", ContainerSpec(IMAGE, command=("serve",)), "check it")
        self.fails(
            "no image of PostgreSQL", ContainerSpec(IMAGE, command=("postgres", "-c", "fsync=off")), "the official one"
        )

    def test_a_program_that_may_not_be_executed(self) -> None:
        self.fails("program may not be executed", ContainerSpec(IMAGE, entrypoint=("/etc/passwd",)), "chmod +x")

    def test_a_directory_that_is_not_there(self) -> None:
        options = ContainerOptions(mounts={"/data": Mount(Path("/nowhere/at/all"))})
        self.fails("no such path to mount", ContainerSpec(IMAGE, options=options), "files=")

    def test_no_space_left(self) -> None:
        spec = self.shell("exec dd if=/dev/zero of=/data/x bs=64k count=64", tmpfs={"/data": 65536})
        self.fails("no space left", spec, "give its tmpfs more")

    def test_out_of_memory(self) -> None:
        # Docker hears of it by a message of its own, and now and then of the end alone.
        for pause in (0.3, 0.3, 0.3, 1, 3):
            script = f"dd if=/dev/zero of=/data/x bs=1M count=200; code=$?; sleep {pause}; exit $code"
            spec = self.shell(script, tmpfs={"/data": 0}, options=ContainerOptions(memory=16 * 2**20))
            error = self.failure(spec)
            if error.cause != "it was killed":
                break
        self.assertCause(error, "out of memory", 'memory="1g"')
        assert isinstance(error, InstanceDied)
        self.assertEqual(error.exit_code, 137)

    def test_killed_from_outside(self) -> None:
        self.fails("it was killed", self.shell("kill -9 $$; exec sh -c 'exit 137'"), "dmesg")

    def test_an_image_that_needs_a_variable(self) -> None:
        self.fails("image needs a variable", ContainerSpec("postgres:17"), 'env={"POSTGRES_PASSWORD": "..."}')

    def test_a_missing_library(self) -> None:
        script = "rm $(ldd $(command -v redis-server) | awk '/libm|libssl|libcrypto/ {print $3}'); exec redis-server"
        self.fails("missing library", self.shell(script, "redis:8"), "musl")


class ServersTest(unittest.TestCase):
    """Real servers, as containers and as local processes."""

    def fails(self, service: Service[object], cause: str, engine: str) -> StartError:  # type: ignore[type-var]
        session = Session(replace(load(), engine=engine, require="", quiet=True, warm=False))
        self.addCleanup(session.close)
        try:
            with self.assertRaises(StartError) as caught:
                session.lend(service)
        except Unavailable as error:
            self.skipTest(str(error))
        self.assertEqual(caught.exception.cause, cause, [str(caught.exception), *caught.exception.__notes__])
        return caught.exception

    def test_a_setting_that_no_server_knows(self) -> None:
        for engine in ("docker", "process"):
            for service in (Postgres(settings={"work_memory": "8MB"}), Redis(settings={"maxmemoryy": "8mb"})):
                with self.subTest(engine, service=service.kind):
                    error = self.fails(service, "unknown setting", engine)  # type: ignore[arg-type]
                    notes = error.__notes__
                    self.assertRegex(notes[0], "work_memory|maxmemoryy")
                    self.assertRegex(notes[-1], r"^it was started as: .*(work_memory=8MB|--maxmemoryy 8mb)")
                    self.assertNotRegex(notes[-1], "[0-9a-f]{32}")

    def test_a_container_whose_server_needs_a_variable(self) -> None:
        error = self.fails(Container("postgres:17", ports=5432), "image needs a variable", "docker")  # type: ignore[arg-type]
        self.assertIn("it was started as: docker run --rm -p 127.0.0.1::5432 postgres:17", error.__notes__)
