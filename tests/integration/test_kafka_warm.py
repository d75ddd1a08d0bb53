# SPDX-License-Identifier: Apache-2.0
"""Kafka's fast start on real brokers: the storage that is not formatted anew, the archive of classes, and what happens
where either is not as it should be."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import Kafka, naming, warm_store
from itest.clock import Deadline, wall
from itest.config import Config, load
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.errors import InstanceDied, Unavailable
from itest.lock import locked
from itest.services.kafka import KafkaServer, archive, archive_build, recipes, storage
from itest.services.kafka.jars import find_jars, find_java
from itest.spec import ContainerSpec, ProcessSpec, Spec, fill
from itest.trace import Recorder
from itest.wait import log, until_ready
from itest.warm_store import Record

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
from itest import Kafka
from itest.session import current
server = current().lend(Kafka())
print(server.version)
"""


def levels(checkpoint: bytes) -> dict[str, int]:
    """The feature levels in a `bootstrap.checkpoint`."""
    found = re.findall(rb"\x01\x0c\x00.([a-z.]+\.version)(..)", checkpoint, re.DOTALL)
    return {name.decode(): int.from_bytes(level, "big") for name, level in found}


class EngineTest(unittest.TestCase):
    """Starts what it is given, and gives back a server that has answered."""

    engine: Any

    def start(self, spec: Spec) -> KafkaServer:
        labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "kafka", naming.OWNER: naming.owner()}
        instance = self.engine.start(spec, labels, Deadline.after(60), Recorder())
        self.addCleanup(instance.stop)
        kafka = Kafka()
        address = kafka.address(instance, "")
        until_ready(kafka.readiness(address), instance, Deadline.after(60), subject="Kafka")
        server = KafkaServer("Kafka", "kafka", instance, address)
        self.addCleanup(server.close)
        return server


class ContainerTest(EngineTest):
    def setUp(self) -> None:
        self.engine = DockerEngine(load())
        self.addCleanup(self.engine.close)
        if reason := self.engine.unavailable():
            if load().require == "docker":
                self.fail(reason)
            self.skipTest(reason)

    def spec(self, **changes: str) -> ContainerSpec:
        """The default's; `changes` to the arguments of its command by their names."""
        spec = Kafka().container("")
        given = dict(zip(("version", "settings", "meta", "checkpoint"), spec.command[4:8], strict=True))
        return spec._replace(command=(*spec.command[:4], *{**given, **changes}.values(), *spec.command[8:]))

    def wrapper_ran(self, server: KafkaServer) -> bool:
        """Only the image's own start script leaves a file of settings with what it was given."""
        script = "grep -q INTERNAL /opt/kafka/config/server.properties"
        return server.instance.exec(["sh", "-c", script]).exit_code == 0

    def test_the_broker_is_started_at_once(self) -> None:
        server = self.start(self.spec())
        self.assertFalse(self.wrapper_ran(server))
        self.assertEqual(server.version, "Apache Kafka 4.1.1")
        running = server.instance.exec(["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"]).stdout
        self.assertIn("kafka.Kafka /var/lib/itest/server.properties", running)
        self.assertIn(f"-XX:SharedArchiveFile={recipes.HOME}/kafka.jsa", running)
        # The JVM says nothing about an archive that was made for another class path, and does not map it.
        self.assertEqual(server.instance.exec(["grep", "-q", f"{recipes.HOME}/kafka.jsa", "/proc/1/maps"]).exit_code, 0)
        # It answers before it says so.
        started = log(r"INFO kafka\.server\.KafkaRaftServer \[KafkaRaftServer nodeId=1\] Kafka Server started")
        until_ready(started, server.instance, Deadline.after(30), subject="Kafka")

    def test_an_image_that_is_not_what_its_name_says_starts_as_it_does_by_itself(self) -> None:
        server = self.start(self.spec(version="4.1.99"))
        self.assertTrue(self.wrapper_ran(server))

    def test_so_does_one_that_cannot_write_the_storage(self) -> None:
        self.assertTrue(self.wrapper_ran(self.start(self.spec(checkpoint="no base64 at all!"))))

    def test_it_has_the_features_of_one_that_was_formatted_by_the_image(self) -> None:
        server = self.start(Kafka().container("")._replace(command=()))
        self.assertTrue(self.wrapper_ran(server))
        text = server.instance.exec(["base64", f"{recipes.LOG_DIR}/bootstrap.checkpoint"]).stdout
        self.assertEqual(levels(base64.b64decode(text)), levels(base64.b64decode(storage.CHECKPOINTS["4.1"])))


class ProcessTest(EngineTest):
    """One cache directory, with one archive, for all tests here: making it takes seconds."""

    cache: ClassVar[Path]
    config: ClassVar[Config]
    made: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        config = load()
        try:
            java, jars = find_java(config), find_jars(config, recipes.VERSION)
        except Unavailable as error:
            raise unittest.SkipTest(str(error)) from error
        cls.cache = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        # The jars themselves are fetched once for all.
        home = cls.cache / "home"
        home.mkdir()
        (home / "libs").symlink_to(Path(jars.paths[0]).parent)
        cls.config = replace(config, cache_dir=cls.cache, kafka_home=str(home), warm=True, quiet=True)
        assert java

    def setUp(self) -> None:
        self.engine = ProcessEngine(self.config)
        self.addCleanup(self.engine.close)
        self.enterContext(mock.patch.dict(archive._missing, clear=True))

    def spec(self, **settings: str) -> ProcessSpec:
        return Kafka(env=settings).process("", self.config)

    def archives(self) -> list[Path]:
        return list(warm_store.directory(self.cache).glob("*.jsa"))

    def run_once(self) -> str:
        """A whole run in a process of its own; returns at its end."""
        environment = {
            **os.environ,
            "ITEST_ENGINE": "process",
            "ITEST_CACHE_DIR": str(self.cache),
            "ITEST_KAFKA_HOME": self.config.kafka_home,
            "ITEST_WARM": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }
        environment.pop("ITEST_KAFKA_BOOTSTRAP_SERVERS", None)
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(RUN)]
        # In a session of its own: in that of a container's main command none is made.
        result = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, start_new_session=True
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def archive_after_a_run(self) -> Path:
        """What a run that has none leaves to be made."""
        self.assertEqual(self.run_once(), "Apache Kafka 4.1.1\n")
        return self.archive_in_time()

    def archive_in_time(self) -> Path:
        deadline = Deadline.after(120)
        while True:
            if shared := [option for option in self.spec().argv if option.startswith("-XX:SharedArchiveFile=")]:
                return Path(shared[0].partition("=")[2])
            records = [path.read_text() for path in warm_store.directory(self.cache).glob("*.json")]
            self.assertFalse(deadline.passed, f"no archive was made: {records}")
            deadline.pause(0.1)

    def test_1_it_is_made_after_a_run_also_in_place_of_a_broken_one_and_used_by_the_next(self) -> None:
        self.spec()
        [key] = archive._missing
        broken = warm_store.make(self.cache) / f"{key}.0123456789abcdef.jsa"
        broken.write_bytes(b"half of it")
        warm_store.write(self.cache, Record(key, "kafka", wall(), archive=broken.name, size=broken.stat().st_size))
        self.assertNotIn(f"-XX:SharedArchiveFile={broken}", self.spec().argv)
        made = self.archive_after_a_run()
        with locked(warm_store.directory(self.cache) / "kafka.lock", 30, "waiting for its maker to leave"):
            pass
        self.assertEqual(self.archives(), [made])
        self.assertEqual(list(warm_store.directory(self.cache).glob(".kafka-*")), [])
        self.assertGreater(made.stat().st_size, 10_000_000)
        spec = self.spec()
        java, *_ = spec.argv
        place = str(self.cache)
        words = [fill(word, {}, place) for word in spec.argv[: spec.argv.index("kafka.Kafka")]]
        # Not "silently without": a JVM that insists on it starts.
        subprocess.run([java, "-Xshare:on", *words[1:], "-version"], check=True, capture_output=True, timeout=30)
        loaded = self.start(spec._replace(argv=(java, "-Xlog:class+load:file={directory}/classes", *spec.argv[1:])))
        script = "grep -c 'source: shared objects file (top)' classes"
        self.assertGreater(int(loaded.instance.exec(["sh", "-c", script]).stdout), 3000)

    def test_2_one_for_other_jars_is_passed_over_by_the_jvm(self) -> None:
        """Should the key ever miss a difference: the JVM goes on without it, and the broker runs."""
        spec = self.spec()
        position = spec.argv.index("-cp") + 1
        paths = spec.argv[position].split(os.pathsep)
        turned = os.pathsep.join(reversed(paths))
        server = self.start(spec._replace(argv=(*spec.argv[:position], turned, *spec.argv[position + 1 :])))
        self.assertEqual(server.version, "Apache Kafka 4.1.1")

    def test_it_is_made_though_somebody_takes_a_port_meanwhile(self) -> None:
        settings, files = archive_build._settings, []

        def taken(directory: Path) -> tuple[str, str]:
            file, address = settings(directory)
            files.append(file)
            if len(files) == 2:  # The first was for what formats the storage.
                found = re.search(
                    r"^controller\.quorum\.voters=1@127\.0\.0\.1:(\d+)$", Path(file).read_text(), re.MULTILINE
                )
                assert found is not None
                self.enterContext(socket.create_server(("127.0.0.1", int(found[1]))))
            return file, address

        place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        orders = {
            "java": find_java(self.config),
            "jvm": list(recipes._jvm_options({})),
            "jars": find_jars(self.config, recipes.VERSION).path,
        }
        with mock.patch.object(archive_build, "_settings", taken):
            archive_build._train(place, place / "classes.jsa", orders)
        self.assertEqual(len(files), 3)
        self.assertGreater((place / "classes.jsa").stat().st_size, 10_000_000)

    def test_storage_is_what_the_tool_writes(self) -> None:
        spec = self.spec(KAFKA_NODE_ID="1")
        self.assertEqual(len(spec.prepare), 1)
        written = self.start(spec).instance.exec(["base64", "data/bootstrap.checkpoint"]).stdout
        self.assertEqual(levels(base64.b64decode(written)), levels(base64.b64decode(storage.CHECKPOINTS["4.1"])))
        self.assertIn("metadata.version", levels(base64.b64decode(written)))

    def test_storage_that_is_not_whole_is_refused_by_the_broker(self) -> None:
        """It is written anew at each start, so this takes a full disk; then the broker says so, and nothing hangs."""
        spec = self.spec()
        with self.assertRaises(InstanceDied) as caught:
            self.start(spec._replace(files={**spec.files, "data/bootstrap.checkpoint": b""}))
        self.assertIn("bootstrap metadata", "".join(caught.exception.__notes__))

    def test_without_the_setting_there_is_no_archive(self) -> None:
        argv = Kafka().process("", replace(self.config, warm=False)).argv
        self.assertFalse([option for option in argv if "SharedArchiveFile" in option])
        self.assertEqual(archive._missing, {})


if __name__ == "__main__":
    unittest.main()
