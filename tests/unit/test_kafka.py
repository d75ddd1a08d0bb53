# SPDX-License-Identifier: Apache-2.0
"""Kafka without a broker: what engines are asked to run, where the jars come from, codecs, and the error texts."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import types
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from itest import Kafka, KafkaMixin, detached, warm_store
from itest.clock import SYSTEM, Deadline, wall
from itest.config import Config
from itest.errors import (
    ConfigError,
    DeclarationError,
    ItestError,
    MissingPackage,
    NotStarted,
    ReceiveTimeout,
    StartError,
    Unavailable,
)
from itest.lock import locked
from itest.report.progress import Board
from itest.services.kafka import KafkaServer, KafkaView, Message, archive, archive_build, clients, jars, queue, recipes
from itest.services.kafka.queue import Queue, decode, encode
from itest.services.kafka.round_trip import Partition
from itest.spec import ContainerSpec, fill
from itest.testing import ManualClock, MemoryEngine
from itest.trace import Recorder, kept_by
from itest.wait import NotReady
from tests.programs import write_program
from tests.unit.test_external import closed_port

ENDPOINTS = {"client": ("127.0.0.1", 40001), "controller": ("127.0.0.1", 40002)}


class DeclarationTest(unittest.TestCase):
    def refused(self, kafka: Kafka) -> str:
        with self.assertRaises(DeclarationError) as caught:
            kafka.check("OrderTest", "kafka")
        return str(caught.exception)

    def test_the_default_is_right(self) -> None:
        Kafka().check("OrderTest", "kafka")
        self.assertEqual(Kafka().isolation_or_default, "records")

    def test_the_mixin_only_declares(self) -> None:
        self.assertIsInstance(vars(KafkaMixin)["kafka"], Kafka)

    def test_an_unknown_codec_is_refused(self) -> None:
        self.assertEqual(
            self.refused(Kafka(codec="avro")),
            "OrderTest.kafka: unknown codec 'avro'; it must be one of bytes, text, json",
        )

    def test_an_unknown_isolation_is_refused(self) -> None:
        self.assertIn("Kafka supports 'records', 'prefix', 'none'", self.refused(Kafka(isolation="database")))

    def test_a_topic_has_partitions(self) -> None:
        for wrong in (0, "2", None, 1.5, True):
            self.assertEqual(
                self.refused(Kafka(partitions=wrong)),  # type: ignore[arg-type]
                f"OrderTest.kafka: partitions={wrong!r}; a topic has a whole number of them, at least 1",
            )

    def test_topics_made_ahead(self) -> None:
        Kafka(topics={"orders.v1": 3}).check("OrderTest", "kafka")
        wrong: Any = ["orders"]
        self.assertEqual(
            self.refused(Kafka(topics=wrong)),
            "OrderTest.kafka: topics must map names to numbers of partitions, topics={'orders': 3}, not ('orders',)",
        )
        self.assertEqual(
            self.refused(Kafka(topics={"a b": 1})),
            "OrderTest.kafka: 'a b' in topics: letters, digits, '.', '_' and '-' are what the name of a topic is made of",
        )
        self.assertEqual(
            self.refused(Kafka(topics={"orders": 0})),
            "OrderTest.kafka: orders = 0 in topics; a topic has at least 1 partition",
        )

    def test_topics_are_no_part_of_the_server(self) -> None:
        one, two = Kafka().container(""), Kafka(topics={"orders": 3}, partitions=2).container("")
        self.assertEqual(one.fingerprint(), two.fingerprint())

    def test_only_settings_of_kafka_are_taken(self) -> None:
        self.assertEqual(
            self.refused(Kafka(env={"message.max.bytes": "1"})),
            "OrderTest.kafka: 'message.max.bytes' in env is no setting of Kafka; "
            "message.max.bytes is KAFKA_MESSAGE_MAX_BYTES",
        )

    def test_a_prefix_begins_names_of_topics(self) -> None:
        for prefix in ("bad prefix", "shop orders/"):
            self.assertEqual(
                self.refused(Kafka(prefix=prefix)),
                f"OrderTest.kafka: prefix={prefix!r}: letters, digits, '.', '_' and '-' are what the name of a topic is made of",
            )
        Kafka(prefix="shop.orders_1-").check("OrderTest", "kafka")

    def test_a_fixed_prefix_contradicts_isolation_by_prefix(self) -> None:
        for prefix in ("shop-", ""):
            self.assertIn("give no prefix", self.refused(Kafka(prefix=prefix, isolation="prefix")))

    def test_an_old_confluent_image_needs_zookeeper(self) -> None:
        self.assertEqual(
            self.refused(Kafka("confluentinc/cp-kafka:7.3.1")),
            "OrderTest.kafka: image 'confluentinc/cp-kafka:7.3.1' is older than 7.4 and needs ZooKeeper; "
            "use confluentinc/cp-kafka:7.4.0 or later, or apache/kafka:4.1.1",
        )

    def test_an_image_that_is_configured_otherwise_is_refused(self) -> None:
        for image in ("bitnami/kafka:3.7", "redpandadata/redpanda:v24.1.1", "registry:5000/mirror/bitnami/kafka"):
            self.assertIn("is not configured like apache/kafka", self.refused(Kafka(image)))

    def test_a_list_of_external_servers(self) -> None:
        spec = Kafka().external_spec("one:9093, two", "TEST_KAFKA")
        self.assertEqual((spec.url, dict(spec.ports)), ("one:9093,two:9092", {"client": ("one", 9093)}))
        self.assertEqual(Kafka().external_spec("PLAINTEXT://[::1]:9092", "X").url, "[::1]:9092")

    def test_what_is_no_list_of_servers_is_refused(self) -> None:
        for wrong in ("", "one:port", "one:9092,", "http://one:9092/path"):
            with self.assertRaises(ConfigError) as caught:
                Kafka().external_spec(wrong, "TEST_KAFKA")
            self.assertIn("TEST_KAFKA is no list of Kafka servers: it must look like host1:9092", str(caught.exception))

    def test_an_external_cluster_that_wants_more_than_plaintext_is_refused(self) -> None:
        for wrong in ("ci:geheim@host:9092", "a:1,ci@b:2", "SASL_SSL://host:9092", "a:1, ssl://b:2"):
            with self.assertRaises(ConfigError) as caught:
                Kafka().external_spec(wrong, "TEST_KAFKA")
            self.assertEqual(
                str(caught.exception),
                "TEST_KAFKA names a user, TLS or SASL, and itest speaks to Kafka without: name a PLAINTEXT listener, host1:9092",
            )
        self.assertEqual(Kafka().external_spec("PLAINTEXT://host:9092", "TEST_KAFKA").url, "host:9092")


class ContainerTest(unittest.TestCase):
    def env(self, image: str, **env: str) -> dict[str, str]:
        return dict(Kafka(image, env=env).container("").env)

    def test_the_official_image(self) -> None:
        spec = Kafka().container("")
        env = spec.env
        self.assertEqual(spec.image, "apache/kafka:4.1.1")
        self.assertTrue(spec.ports["client"].chosen)
        self.assertEqual(
            fill(env["KAFKA_ADVERTISED_LISTENERS"], ENDPOINTS), "CLIENT://127.0.0.1:40001,INTERNAL://:19092"
        )
        self.assertEqual(env["KAFKA_INTER_BROKER_LISTENER_NAME"], "INTERNAL")
        self.assertEqual(env["KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS"], "0")
        self.assertEqual(env["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"], "1")
        self.assertEqual(env["KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR"], "1")
        self.assertIn("-XX:+UseSerialGC", env["KAFKA_JVM_PERFORMANCE_OPTS"])
        self.assertTrue(env["KAFKA_LOG_DIRS"].startswith(tuple(spec.tmpfs)))
        self.assertEqual(len(env["CLUSTER_ID"]), 22)
        self.assertNotIn("ZOOKEEPER", "".join(env))

    def test_the_official_image_starts_its_broker_at_once(self) -> None:
        spec = Kafka(env={"KAFKA_MESSAGE_MAX_BYTES": "9", "KAFKA_OPTS": "-Da=b"}).container("")
        self.assertIsNone(spec.entrypoint)
        shell, _, script, _, version, settings, meta, checkpoint, *logging = spec.command
        self.assertEqual((shell, version, tuple(logging)), ("bash", "4.1.1", recipes.LOGGING))
        lines = dict(line.split("=", 1) for line in fill(settings, ENDPOINTS).splitlines())
        self.assertEqual(lines["message.max.bytes"], "9")
        self.assertEqual(lines["log.dirs"], "/var/lib/itest/kafka")
        self.assertEqual(lines["advertised.listeners"], "CLIENT://127.0.0.1:40001,INTERNAL://:19092")
        variables = {recipes._variable(name) for name in lines} | set(recipes.JVM_VARIABLES)
        self.assertEqual(set(spec.env) - variables, {"CLUSTER_ID"})  # what its own script would make of them
        self.assertIn(f"cluster.id={spec.env['CLUSTER_ID']}\n", meta)
        self.assertIn(b"metadata.version", base64.b64decode(checkpoint, validate=True))
        self.assertTrue(script.endswith("exec /etc/kafka/docker/run\n"))

    def test_its_directory_may_have_any_name(self) -> None:
        # The file is Latin-1, with the backslash for an escape (java.util.Properties.load).
        self.assertNotIn("{directory}", recipes.properties({}))

    def test_metrics_are_left_to_whoever_may_read_them(self) -> None:
        reporters, exclude = "KAFKA_METRIC_REPORTERS", "KAFKA_METRICS_JMX_EXCLUDE"
        env = self.env("apache/kafka:4.1.1")
        self.assertEqual((env[reporters], env[exclude]), ("", ".*"))
        self.assertIn("metrics.jmx.exclude=.*\n", recipes.properties({}))
        for name, value in (
            ("KAFKA_JMX_PORT", "9101"),
            ("KAFKA_OPTS", "-javaagent:/opt/exporter.jar"),
            ("KAFKA_OPTS", "-Dcom.sun.management.jmxremote"),
            ("KAFKA_METRIC_REPORTERS", "org.apache.kafka.common.metrics.JmxReporter"),
        ):
            with self.subTest(name, value=value):
                watched = dict(Kafka(env={name: value}).container("").env)
                self.assertEqual((watched.get(reporters, value), exclude in watched), (value, False))
                self.assertNotIn("metrics.jmx.exclude", recipes.properties({name: value}))
        for image in ("apache/kafka-native:4.1.1", "confluentinc/cp-kafka:7.6.0"):
            self.assertNotIn(exclude, self.env(image))

    def test_other_images_and_what_their_scripts_know_start_as_they_do(self) -> None:
        for image in (
            "apache/kafka:latest",
            "apache/kafka:3.9.1",
            "apache/kafka:9.0.0",
            "apache/kafka-native:4.1.1",
            "confluentinc/cp-kafka:7.6.0",
            "example/kafka:4.1.1",
        ):
            self.assertEqual(Kafka(image).container("").command, (), image)
        for variable in ("KAFKA_NODE_ID", "KAFKA_LOG_DIRS", "KAFKA_LOG4J_ROOT_LOGLEVEL", "KAFKA_SSL_KEYSTORE_FILENAME"):
            self.assertEqual(Kafka(env={variable: "2"}).container("").command, (), variable)
        self.assertTrue(Kafka("registry.example:5000/apache/kafka:4.0.0").container("").command)

    def test_the_native_image_has_no_jvm(self) -> None:
        env = self.env("apache/kafka-native:4.1.1")
        self.assertEqual([name for name in env if name.endswith("_OPTS")], [])
        self.assertEqual(env["KAFKA_PROCESS_ROLES"], "broker,controller")

    def test_the_confluent_image(self) -> None:
        env = self.env("confluentinc/cp-kafka:7.6.0")
        for name in ("CLUSTER_ID", "KAFKA_PROCESS_ROLES", "KAFKA_LOG_DIRS", "KAFKA_CONTROLLER_QUORUM_VOTERS"):
            self.assertIn(name, env)

    def test_an_image_is_known_behind_a_registry_and_with_a_digest(self) -> None:
        digest = "@sha256:" + "0" * 64
        cases = {
            "apache/kafka": ("apache", ""),
            "apache/kafka:latest": ("apache", ""),
            "registry.example:5000/kafka:4.1.1-rc1": ("apache", "4.1.1"),
            f"apache/kafka-native:4.0.0{digest}": ("native", "4.0.0"),
            f"registry.example:5000/mirror/confluentinc/cp-kafka:7.4.0{digest}": ("confluent", "7.4.0"),
            f"confluentinc/cp-kafka{digest}": ("confluent", ""),
            "bitnami/kafka:3": ("", "3"),
        }
        for text, (contract, version) in cases.items():
            with self.subTest(text):
                self.assertEqual(recipes.Image.parse(text), recipes.Image(contract, version))

    def test_settings_of_the_declaration_win(self) -> None:
        env = self.env("apache/kafka:4.1.1", KAFKA_HEAP_OPTS="-Xmx1g", KAFKA_AUTO_CREATE_TOPICS_ENABLE="false")
        self.assertEqual((env["KAFKA_HEAP_OPTS"], env["KAFKA_AUTO_CREATE_TOPICS_ENABLE"]), ("-Xmx1g", "false"))

    def test_records_of_any_age_are_kept_unless_the_declaration_says_how_long(self) -> None:
        self.assertEqual(self.env("apache/kafka:4.1.1")["KAFKA_LOG_RETENTION_MS"], "-1")
        self.assertIn("log.retention.ms=-1\n", recipes.properties({"KAFKA_LOG_RETENTION_BYTES": "9"}))
        self.assertIn("log.retention.ms=60000\n", recipes.properties({"KAFKA_LOG_RETENTION_MS": "60000"}))
        for name in ("KAFKA_LOG_RETENTION_MINUTES", "KAFKA_LOG_RETENTION_HOURS"):
            self.assertNotIn("log.retention.ms", recipes.properties({name: "1"}))
            self.assertNotIn("KAFKA_LOG_RETENTION_MS", self.env("apache/kafka:4.1.1", **{name: "1"}))

    def test_isolation_and_codec_do_not_make_another_server(self) -> None:
        one = Kafka(codec="json", isolation="prefix", partitions=3, prefix=None).container("")
        self.assertEqual(one.fingerprint(), Kafka().container("").fingerprint())


class ProcessTest(unittest.TestCase):
    def setUp(self) -> None:
        found = jars.Jars(("/k/libs/a.jar", "/k/libs/kafka_2.13-4.1.1.jar"), "4.1.1", "Maven")
        self.find_jars = self.enterContext(mock.patch.object(recipes, "find_jars", return_value=found))
        self.enterContext(mock.patch.object(recipes, "find_java", return_value="/jdk/bin/java"))

    def spec(self, image: str = "apache/kafka:4.1.1", **env: str) -> Any:
        return Kafka(image, env=env).process("", Config())

    def test_it_runs_on_storage_that_is_formatted_already(self) -> None:
        spec = self.spec()
        self.assertEqual(spec.argv[0], "/jdk/bin/java")
        self.assertEqual(spec.argv[-2:], ("kafka.Kafka", "{directory}/server.properties"))
        self.assertIn("/k/libs/a.jar:/k/libs/kafka_2.13-4.1.1.jar", spec.argv)
        self.assertEqual(spec.prepare, ())
        self.assertIn("node.id=1\n", spec.files["data/meta.properties"])
        self.assertIn(b"metadata.version", spec.files["data/bootstrap.checkpoint"])
        self.assertEqual(spec.ports, ("client", "controller"))
        self.assertEqual((str(spec), spec.replaces), ("Apache Kafka 4.1.1 from Maven", "apache/kafka:4.1.1"))

    def test_storage_that_is_not_known_is_formatted_first(self) -> None:
        for env in ({"KAFKA_NODE_ID": "2"}, {"KAFKA_UNSTABLE_API_VERSIONS_ENABLE": "true"}):
            (format,) = self.spec(**env).prepare
            self.assertIn("kafka.tools.StorageTool", format)
        self.find_jars.return_value = jars.Jars(("/k/libs/kafka_2.13-9.9.9.jar",), "9.9.9", "Maven")
        spec = self.spec()
        self.assertEqual(len(spec.prepare), 1)
        self.assertEqual(sorted(spec.files), ["server.properties"])

    def test_its_settings_are_those_of_the_container(self) -> None:
        properties = self.properties(self.spec())
        env = Kafka().container("").env
        for name in recipes.SETTINGS:
            if name != "inter.broker.listener.name":
                self.assertEqual(properties[name], env[recipes._variable(name)])
        self.assertEqual(properties["listeners"], "CLIENT://127.0.0.1:40001,CONTROLLER://127.0.0.1:40002")
        self.assertEqual(properties["controller.quorum.voters"], "1@127.0.0.1:40002")

    def test_settings_of_the_declaration_win(self) -> None:
        spec = self.spec(KAFKA_MESSAGE_MAX_BYTES="9", KAFKA_HEAP_OPTS="-Xmx1g -Xms1g", KAFKA_OPTS="-Da='b c'")
        self.assertEqual(self.properties(spec)["message.max.bytes"], "9")
        self.assertNotIn("heap.opts", self.properties(spec))
        options = spec.argv[: spec.argv.index("-cp")]
        self.assertEqual(options[-3:], ("-Xmx1g", "-Xms1g", "-Da=b c"))

    def test_logging_of_the_declaration_is_left_alone(self) -> None:
        own = "-Dlog4j2.configurationFile=/etc/own.properties"
        for argv in (self.spec(KAFKA_OPTS=own).argv, Kafka(env={"KAFKA_OPTS": own}).container("").command):
            self.assertEqual([option for option in recipes.LOGGING if option in argv], [])

    def test_how_it_compiles_is_left_to_a_declaration_that_says_so(self) -> None:
        """A JVM with two levels and one thread that compiles does not start."""

        def containers(**settings: str) -> str:
            return Kafka(env=settings).container("").env["KAFKA_JVM_PERFORMANCE_OPTS"]

        self.assertIn(recipes.ONE_COMPILER, self.spec().argv)
        self.assertIn(recipes.ONE_COMPILER, containers().split())
        for own in ("-XX:TieredStopAtLevel=4", "-XX:-TieredCompilation", "-XX:CICompilerCount=3"):
            with self.subTest(own):
                self.assertNotIn(recipes.ONE_COMPILER, self.spec(KAFKA_OPTS=own).argv)
                self.assertNotIn(recipes.ONE_COMPILER, containers(KAFKA_OPTS=own))
        self.assertNotIn(
            "Compiler", Kafka("confluentinc/cp-kafka:7.6.0").container("").env["KAFKA_JVM_PERFORMANCE_OPTS"]
        )

    def test_names_of_settings_go_both_ways(self) -> None:
        for name in ("log.dirs", "a_b.c-d"):
            self.assertEqual(recipes._property(recipes._variable(name)), name)

    def test_the_version_is_the_one_of_the_image_where_it_has_one(self) -> None:
        for image, version in {
            "apache/kafka:4.0.0": "4.0.0",
            "apache/kafka:latest": "4.1.1",
            "apache/kafka:3.9.1": "4.1.1",
            "confluentinc/cp-kafka:7.6.0": "4.1.1",
        }.items():
            self.spec(image)
            self.assertEqual(self.find_jars.call_args.args[1], version)

    def properties(self, spec: Any) -> dict[str, str]:
        text = fill(spec.files["server.properties"], ENDPOINTS, "/place")
        return dict(line.split("=", 1) for line in text.splitlines())


class MachineTest(unittest.TestCase):
    """A machine of our own: a PATH, a cache, and programs that are shell scripts."""

    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(jars._answers, clear=True))
        (self.root / "bin").mkdir()

    def config(self, **settings: Any) -> Config:
        environment = {"PATH": str(self.root / "bin"), **settings.pop("environment", {})}
        return Config(quiet=True, cache_dir=self.root / "cache", environment=environment, **settings)

    def program(self, path: str, script: str) -> Path:
        return write_program(self.root / path, script)


class JarsTest(MachineTest):
    def jar(self, directory: str, version: str = "4.1.1") -> None:
        (self.root / directory).mkdir(parents=True, exist_ok=True)
        for name in (f"kafka_2.13-{version}.jar", "a.jar"):
            (self.root / directory / name).touch()

    def maven(self, script: str = "") -> Path:
        """A program that does with its options what mvn does, and counts how often it is called."""
        make = 'mkdir -p "$d"; : > "$d/kafka_2.13-4.1.1.jar"; : > "$d/a.jar"'
        find = "for o; do case $o in -DoutputDirectory=*) d=${o#*=};; esac; done"
        return self.program("bin/mvn", f'PATH=/usr/bin:/bin; echo x >> "{self.root}/calls"; {find}; {script or make}')

    def calls(self) -> int:
        calls = self.root / "calls"
        return len(calls.read_text().split()) if calls.exists() else 0

    def unavailable(self, config: Config | None = None) -> str:
        with self.assertRaises(Unavailable) as caught:
            jars.find_jars(config or self.config(), "4.1.1")
        return str(caught.exception)

    def test_the_setting_comes_first(self) -> None:
        self.jar("home/libs", "4.0.0")
        found = jars.find_jars(self.config(kafka_home=str(self.root / "home")), "4.1.1")
        self.assertEqual(str(found), "Apache Kafka 4.0.0 from the setting kafka_home")
        self.assertEqual([os.path.basename(path) for path in found.paths], ["a.jar", "kafka_2.13-4.0.0.jar"])

    def test_a_wrong_setting_is_an_error(self) -> None:
        self.jar("home/libs", "3.9.1")
        for home in ("home", "nowhere"):
            with self.assertRaises(ConfigError) as caught:
                jars.find_jars(self.config(kafka_home=str(self.root / home)), "4.1.1")
            self.assertIn("which has no libs/kafka_2.13-*.jar of version 4.0 or later", str(caught.exception))

    def test_an_installation_is_found_by_its_start_script(self) -> None:
        self.jar("opt/libs")
        script = self.program("opt/bin/kafka-server-start.sh", "")
        (self.root / "bin/kafka-server-start.sh").symlink_to(script)
        self.assertIn("/opt/libs", jars.find_jars(self.config(), "4.1.1").source)

    def test_maven_is_asked_once(self) -> None:
        self.maven()
        for _ in range(2):
            found = jars.find_jars(self.config(), "4.1.1")
            jars._answers.clear()  # as in the next run
        self.assertEqual(self.calls(), 1)
        self.assertEqual(found.paths[0], str(self.root / "cache/kafka-4.1.1/a.jar"))
        self.assertEqual(sorted(os.listdir(self.root / "cache")), ["kafka-4.1.1", "kafka-4.1.1.lock"])

    def test_two_at_once_ask_maven_once(self) -> None:
        self.maven('sleep 0.2; mkdir -p "$d"; : > "$d/kafka_2.13-4.1.1.jar"')
        found: list[jars.Jars] = []
        config = self.config()
        # Straight to the file lock, as two processes: the lock of this process would not let two threads get there.
        threads = [
            threading.Thread(target=lambda: found.append(jars._find(config, "4.1.1")), daemon=True) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual((len(found), self.calls()), (3, 1))

    def test_what_a_killed_process_left_is_cleared_away(self) -> None:
        self.maven()
        for left in (".kafka-4.1.1-dead", "kafka-4.1.1"):
            (self.root / "cache" / left).mkdir(parents=True)
            (self.root / "cache" / left / "half.jar").touch()
        jars.find_jars(self.config(), "4.1.1")
        self.assertEqual(sorted(os.listdir(self.root / "cache")), ["kafka-4.1.1", "kafka-4.1.1.lock"])

    def test_the_reason_of_maven_is_given(self) -> None:
        self.maven("echo '[ERROR] Could not transfer artifact: Connection refused'; exit 1")
        text = self.unavailable()
        self.assertIn("`mvn` could not fetch Apache Kafka 4.1.1: [ERROR] Could not transfer artifact", text)
        self.assertIn("set ITEST_KAFKA_HOME", text)
        self.assertEqual(os.listdir(self.root / "cache"), ["kafka-4.1.1.lock"])

    def test_a_full_disk_is_told_by_the_end_of_a_long_line(self) -> None:
        self.maven(f"echo '[ERROR] Failed to execute goal: {'x' * 500} to /c/a.jar: No space left on device'; exit 1")
        text = self.unavailable()
        self.assertIn(": [ERROR] Failed to execute goal: xx", text)
        self.assertIn(f"xx to /c/a.jar: No space left on device; make room, 43 MB in {self.root}/cache and", text)
        self.assertNotIn("KAFKA_HOME", text)

    def test_a_failure_is_remembered(self) -> None:
        self.maven("exit 1")
        self.assertEqual(self.unavailable(), self.unavailable())
        self.assertEqual(self.calls(), 1)

    def test_a_maven_that_takes_too_long_is_ended(self) -> None:
        self.maven("exec sleep 60")
        with mock.patch.object(jars, "RESOLVE_TIMEOUT", 0.3):
            self.assertEqual(self.unavailable(), "`mvn` did not fetch Apache Kafka 4.1.1 in 0.3 s")

    def test_somebody_who_waits_is_told_what_for(self) -> None:
        self.maven()
        clock = ManualClock()
        recorder, board = Recorder(clock), Board(clock)
        board.listen(recorder)

        def resolve(*arguments: object) -> jars.Jars:
            clock.sleep(2.5)
            board.look()
            return jars.Jars((), "4.1.1", "Maven")

        with (
            mock.patch.object(jars, "_resolve", resolve),
            mock.patch.object(Board, "_watch"),  # No thread looks here.
            mock.patch.object(sys, "__stderr__", io.StringIO()) as stream,
            kept_by(recorder),
        ):
            for _ in range(2):
                jars.find_jars(self.config(), "4.1.1")
        self.assertEqual(
            stream.getvalue().splitlines(),
            [
                f"itest: fetching Apache Kafka 4.1.1 with mvn into {self.root}/cache, once (43 MB) (2 s so far)",
                "itest: Apache Kafka 4.1.1 fetched, after 2.5 s",
            ],
        )
        self.assertEqual(
            [(span.name, span.subject, span.seconds) for span in recorder.spans], [("fetch", "kafka", 2.5)]
        )

    def test_a_cache_whose_path_java_would_divide_is_named(self) -> None:
        self.maven()
        config = Config(quiet=True, cache_dir=self.root / "a:b", environment=self.config().environment)
        self.assertEqual(
            self.unavailable(config),
            f"Apache Kafka cannot run from {self.root}/a:b/kafka-4.1.1: to Java a path ends at ':'; set ITEST_CACHE_DIR, "
            f"or ITEST_KAFKA_HOME, to a directory without one in its path",
        )
        self.assertEqual(self.calls(), 0, "nothing is fetched in vain")

    def test_a_cache_that_cannot_be_written_is_named(self) -> None:
        self.maven()
        (self.root / "file").touch()
        config = Config(quiet=True, cache_dir=self.root / "file/cache", environment=self.config().environment)
        text = self.unavailable(config)
        self.assertIn(f"could not be put into the cache directory {self.root}/file/cache", text)
        self.assertIn("set ITEST_CACHE_DIR", text)

    def test_nothing_found_says_what_to_install(self) -> None:
        text = self.unavailable()
        self.assertIn("no Apache Kafka for local processes (looked for the setting kafka_home, ", text)
        self.assertIn("or install Maven", text)


class JavaTest(MachineTest):
    def java(self, path: str, said: str, code: int = 0) -> Path:
        return self.program(path, f"echo '{said}' >&2; exit {code}")

    def no_java(self, **environment: str) -> str:
        with self.assertRaises(Unavailable) as caught:
            jars.find_java(self.config(environment=environment))
        return str(caught.exception)

    def test_java_home_comes_first(self) -> None:
        self.java("bin/java", 'openjdk version "21.0.1"')
        home = self.java("home/bin/java", 'openjdk version "17.0.15" 2025-04-15').parent.parent
        self.assertEqual(jars.find_java(self.config(environment={"JAVA_HOME": str(home)})), str(home / "bin/java"))

    def test_one_that_does_not_run_is_passed_over(self) -> None:
        java = self.java("bin/java", 'openjdk version "21-ea"')
        self.assertEqual(jars.find_java(self.config(environment={"JAVA_HOME": "/nowhere"})), str(java))

    def test_its_own_description_is_enough(self) -> None:
        java = self.java("bin/java", "", code=1)
        (self.root / "release").write_text('IMPLEMENTOR="Debian"\nJAVA_VERSION="21.0.1"\n')
        self.assertEqual(jars.find_java(self.config()), str(java))

    def test_an_old_one_is_named(self) -> None:
        java = self.java("bin/java", 'java version "1.8.0_402"')
        self.assertEqual(
            self.no_java(),
            f"no Java 17 or later, which Apache Kafka needs, for local processes (looked for PATH, where {java} is "
            f"Java 8); install one (openjdk-17-jre-headless) or set JAVA_HOME",
        )

    def test_one_that_does_not_run_is_named_with_the_reason(self) -> None:
        java = self.java("bin/java", "Error: could not open `jvm.cfg`", code=2)
        why = f"{java} does not run: `-version` exited with code 2: Error: could not open `jvm.cfg`"
        self.assertIn(f"(looked for PATH, where {why});", self.no_java())

    def test_no_java_says_what_to_install(self) -> None:
        self.assertIn("looked for JAVA_HOME, PATH); install one", self.no_java())


class ArchiveTest(MachineTest):
    """The class-data archive, with a Java and jars that are only files."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.dict(archive._missing, clear=True))
        self.enterContext(mock.patch.dict(archive._ordered, clear=True))
        self.java = str(self.program("jdk/bin/java", ""))
        for name in ("a.jar", "b.jar"):
            (self.root / name).write_bytes(b"x")
        self.cache = self.root / "cache"
        warm_store.make(self.cache)

    def jars(self, *names: str) -> jars.Jars:
        return jars.Jars(tuple(str(self.root / name) for name in names or ("a.jar", "b.jar")), "4.1.1", "Maven")

    def options(self, *jvm: str, found: jars.Jars | None = None, **settings: Any) -> tuple[str, ...]:
        return archive.options(self.java, found or self.jars(), jvm, self.config(**settings))

    def keep(self, content: bytes = b"classes" * 50_000) -> Path:
        """An archive under the key that the last call of `options` had missed."""
        [key] = archive._missing
        file = self.cache / "classes"
        file.write_bytes(content)
        name = archive.name_of(key, file)
        file.rename(warm_store.directory(self.cache) / name)
        warm_store.write(self.cache, warm_store.Record(key, "kafka", wall(), archive=name, size=len(content)))
        return warm_store.directory(self.cache) / name

    def test_it_is_missed_and_then_used(self) -> None:
        self.assertEqual(self.options(), ())
        kept = self.keep()
        self.assertEqual(self.options(), (f"-XX:SharedArchiveFile={kept}",))

    def test_another_java_or_jar_or_order_or_option_has_another(self) -> None:
        self.options()
        self.keep()
        self.assertEqual(self.options("-Xmx1g"), ())
        self.assertEqual(self.options(found=self.jars("b.jar", "a.jar")), ())
        (self.root / "a.jar").write_bytes(b"newer")
        self.assertEqual(self.options(), ())

    def test_one_that_is_not_whole_is_not_used(self) -> None:
        self.options()
        kept = self.keep()
        whole = kept.read_bytes()
        for broken in (whole[:-1], b"", b"?" + whole[1:], whole[:-1] + b"?"):
            kept.write_bytes(broken)
            archive._missing.clear()
            self.assertEqual(self.options(), ())
            self.assertEqual(len(archive._missing), 1)  # to be made again

    def test_it_is_none_without_the_setting_or_beside_options_of_its_kind(self) -> None:
        self.assertEqual(self.options(warm=False), ())
        self.assertEqual(self.options("-Xshare:off"), ())
        self.assertEqual(self.options("-javaagent:cover.jar"), ())
        self.assertEqual(archive._missing, {})

    def test_what_could_not_be_made_is_not_tried_again_at_once(self) -> None:
        self.options()
        [key] = archive._missing
        archive._missing.clear()
        warm_store.write(self.cache, warm_store.Record(key, "kafka", wall(), failed="no space"))
        self.assertEqual(self.options(), ())
        self.assertEqual(archive._missing, {})

    def test_nothing_is_ordered_twice_by_one_process(self) -> None:
        self.options()
        goes_on = mock.patch.object(detached, "goes_on", return_value=True)
        with mock.patch.object(archive, "_order") as order, goes_on:
            archive.make_missing()
            archive.make_missing()
        order.assert_called_once()
        self.assertEqual(order.call_args.args[0]["cache"], str(self.cache))

    def test_nothing_is_ordered_whose_maker_would_end_with_this_process(self) -> None:
        self.options()
        goes_on = mock.patch.object(detached, "goes_on", return_value=False)
        with mock.patch.object(archive, "_order") as order, goes_on:
            archive.make_missing()
        order.assert_not_called()

    def test_a_failure_is_kept_with_its_reason_and_nothing_else(self) -> None:
        self.options()
        [(key, order)] = archive._missing.items()
        (warm_store.directory(self.cache) / f"{archive_build.PLACE}left").mkdir()
        with mock.patch("os.nice"):
            archive_build.main({"key": key, **order})
        record = warm_store.read(self.cache, key)
        assert record is not None
        self.assertEqual(record.failed, "ItestError: the broker did not start")
        self.assertEqual(
            sorted(path.name for path in warm_store.directory(self.cache).iterdir()), [f"{key}.json", "kafka.lock"]
        )

    def test_those_used_last_stay(self) -> None:
        for number in range(archive_build.KEPT + 2):
            key = f"{number:016}"
            (warm_store.directory(self.cache) / f"{key}.jsa").touch()
            warm_store.write(self.cache, warm_store.Record(key, "kafka", wall(), archive=f"{key}.jsa"))
            os.utime(warm_store.directory(self.cache) / f"{key}.json", (number, number))
        archive_build._forget_old(self.cache)
        left = sorted(path.name[:16] for path in warm_store.directory(self.cache).glob("*.jsa"))
        self.assertEqual(left, [f"{number:016}" for number in (2, 3, 4)])


class CodecTest(unittest.TestCase):
    def record(self, value: bytes | None, key: bytes | None = None) -> Any:
        return SimpleNamespace(value=value, key=key, headers=[("a", b"1")], partition=2, offset=7, timestamp=1500)

    def test_there_and_back(self) -> None:
        for codec, value in (("bytes", b"\xff"), ("text", "Übung"), ("json", {"a": [1, None, "ü"]}), ("bytes", None)):
            with self.subTest(codec):
                message = decode(codec, "orders", self.record(encode(codec, value)))
                self.assertEqual(message.value, value)

    def test_a_message_has_the_facts(self) -> None:
        message = decode("text", "orders", self.record(b"book", b"k"))
        self.assertEqual(message, Message("book", "k", {"a": b"1"}, "orders", 2, 7, 1.5, (("a", b"1"),)))

    def test_keys_are_bytes_where_values_are(self) -> None:
        self.assertEqual(decode("bytes", "orders", self.record(b"", b"k")).key, b"k")

    def test_a_value_that_the_codec_does_not_take(self) -> None:
        with self.assertRaises(TypeError) as caught:
            encode("bytes", "book")
        self.assertEqual(
            str(caught.exception),
            "the codec 'bytes' takes bytes, not str ('book'); "
            "declare Kafka(codec='text') to send str, Kafka(codec='json') to send objects",
        )
        with self.assertRaises(TypeError):
            encode("text", b"book")
        self.assertEqual(encode("bytes", bytearray(b"ab")), b"ab")

    def test_a_record_that_the_codec_cannot_read(self) -> None:
        with self.assertRaises(ItestError) as caught:
            decode("json", "orders", self.record(b"{"))
        self.assertIn(
            "the record at offset 7 of topic 'orders' (partition 2) is no json: Expecting property name",
            str(caught.exception),
        )


class FakeConsumer:
    """Gives each batch once, then nothing."""

    def __init__(self, *batches: list[Any]) -> None:
        self.batches = list(batches)

    def position(self, partition: Any) -> int:
        return 9

    def poll(self, timeout_ms: int, max_records: int) -> dict[str, list[Any]]:
        return {"partition": self.batches.pop(0)} if self.batches else {}


class QueueTest(unittest.TestCase):
    def queue(self, *values: bytes) -> Queue:
        records = [
            SimpleNamespace(value=value, key=None, headers=[], partition=0, offset=offset, timestamp=0)
            for offset, value in enumerate(values)
        ]
        server = mock.Mock()
        server.topics.partitions = lambda name: [Partition(name, 0)] if name.startswith("itest-1-") else []
        server.topics.marks = {}
        server.topics.changed.return_value = False
        server.doing = lambda what: contextlib.nullcontext()
        consumer = FakeConsumer(*([records] if records else []))
        server.consuming = lambda starts: contextlib.nullcontext(consumer)
        server.topics.end_offsets = lambda starts, seconds, committed=False: dict.fromkeys(starts, len(values))
        server.topics.start_offsets = lambda starts, seconds: dict.fromkeys(starts, 0)
        return Queue(server, "bytes", lambda name: f"itest-1-{name}")

    def test_too_few_messages_fail_the_test_and_say_all_there_is_to_say(self) -> None:
        with self.assertRaises(ReceiveTimeout) as caught:
            self.queue(b"book").receive("orders", count=3, timeout=0.01)
        self.assertIsInstance(caught.exception, AssertionError)
        self.assertEqual([message.value for message in caught.exception.received], [b"book"])  # type: ignore[attr-defined]
        self.assertEqual(
            str(caught.exception),
            "1 of 3 messages arrived on topic 'orders' (itest-1-orders on the broker) within 0.01 s: b'book'. "
            "Partition 0 was read from offset 0 and ends at 1. Was the rest sent to another topic, or not flushed by "
            "its producer? If it only takes longer, raise timeout.",
        )

    def test_nothing_at_all(self) -> None:
        with self.assertRaisesRegex(ReceiveTimeout, r"^0 of 1 message arrived on topic 'orders' .* within 0\.01 s\. "):
            self.queue().receive("orders", timeout=0.01)

    def test_what_was_passed_over_is_the_topics_that_it_was_in(self) -> None:
        asked = self.queue()
        topics: Any = asked._server.topics
        topics.id.return_value = "one"
        asked.passed_over("orders").append(Message(b"a"))
        self.assertEqual(asked.passed_over("mail"), [])
        self.assertEqual(asked.passed_over("orders"), [Message(b"a")])
        topics.id.return_value = "another"
        self.assertEqual(asked.passed_over("orders"), [])

    def test_records_that_were_deleted_are_told(self) -> None:
        asked = self.queue(b"a", b"b")
        server: Any = asked._server
        server.consuming = lambda starts: contextlib.nullcontext(FakeConsumer())
        server.topics.start_offsets = lambda starts, seconds: dict.fromkeys(starts, 2)
        with self.assertRaisesRegex(
            ReceiveTimeout,
            r"Partition 0 was read from offset 0 and ends at 2, but records before 2 were deleted, by the topic's retention or",
        ):
            asked.receive("orders", timeout=0.01)

    def test_looking_at_a_topic_is_a_part_of_the_time_that_a_record_has(self) -> None:
        asked = self.queue()
        server: Any = asked._server
        future = server.producer_for.return_value.send.return_value
        future.get.side_effect = [clients.errors().KafkaTimeoutError, SimpleNamespace(offset=0, partition=0)]
        server.topics.all.side_effect = lambda seconds: SYSTEM.sleep(0.1)
        with mock.patch.object(queue, "ACK_WAIT", 0.2), mock.patch.object(queue, "CHANGE_WAIT", 0.05):
            asked.send("orders", b"book")
        self.assertLessEqual(future.get.mock_calls[-1].kwargs["timeout"], 0.1)

    def test_a_producer_that_does_not_send_is_given_up(self) -> None:
        """All that others sent later would wait behind its record."""
        asked = self.queue()
        server: Any = asked._server
        producer = server.producer_for.return_value
        producer.send.return_value.get.side_effect = clients.errors().KafkaTimeoutError
        with self.assertRaises(clients.errors().KafkaTimeoutError):
            asked.send("orders", b"book")
        server.give_up.assert_called_once_with(producer)

    def test_keys_and_headers_of_another_type_are_refused_in_words(self) -> None:
        wrong: Any
        for wrong, said in (
            ({"key": 3}, "key must be a text or bytes, not 3"),
            ({"headers": "a=b"}, r"headers must be a dict, \{'name': 'value'\}, or pairs of name and value, not 'a=b'"),
            ({"headers": 3}, "headers must be a dict, .*, not 3"),
            ({"headers": {"a": 3}}, "the header 'a' must be a text or bytes, not 3"),
            ({"headers": {b"a": b"b"}}, "a header's name must be a text, .*, not b'a'"),
        ):
            with self.subTest(said), self.assertRaisesRegex(TypeError, f"^{said}$"):
                self.queue().send("orders", b"book", **wrong)

    def test_at_least_one_must_be_waited_for(self) -> None:
        for wrong in (0, -1, None, "1", 1.5, True):
            with self.assertRaises(ValueError) as caught:
                self.queue().receive("orders", count=wrong)  # type: ignore[arg-type]
            self.assertEqual(
                str(caught.exception), f"count={wrong!r}: a whole number of messages can be waited for, at least 1"
            )

    def test_only_so_many_seconds_can_be_waited_for(self) -> None:
        for wrong in (None, "5", True):
            with self.assertRaisesRegex(TypeError, f"^timeout={wrong!r}: a wait takes a number of seconds, at most"):
                self.queue(b"book").receive("orders", timeout=wrong)  # type: ignore[arg-type]


class EndedViewTest(unittest.TestCase):
    def test_one_of_a_test_that_has_ended_is_of_no_use(self) -> None:
        view = KafkaView(mock.Mock(), mock.Mock(), "bytes", "itest-1-", 1)
        view.give_to("tests.T.test_a")
        queue = view.queue
        view.close()
        uses: list[Callable[[], object]] = [
            lambda: view.queue,
            lambda: view.admin,
            lambda: view.topic("orders"),
            lambda: queue.send("orders", b"late"),
            lambda: queue.receive("orders", timeout=0),
        ]
        for use in uses:
            with self.assertRaisesRegex(NotStarted, r"^this view was of tests\.T\.test_a, which has ended"):
                use()


class ClientTest(unittest.TestCase):
    @contextlib.contextmanager
    def answering(self, answer: bytes) -> Iterator[str]:
        """A server that answers whatever it is asked like this."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                with contextlib.suppress(OSError):  # The server is shut down.
                    while True:
                        connection, _ = server.accept()
                        with connection, contextlib.suppress(OSError):
                            # kafka-python may leave one behind on which it never says anything.
                            connection.settimeout(5)
                            connection.recv(100)
                            connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield f"127.0.0.1:{server.getsockname()[1]}"
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join(15)
                self.assertFalse(thread.is_alive())

    def test_what_is_no_broker_is_not_ready(self) -> None:
        address = self.enterContext(self.answering(b"HTTP/1.1 400 Bad Request\r\n"))
        with self.assertRaisesRegex(NotReady, f"{address} does not answer as a Kafka broker"):
            clients.answers(address)(mock.Mock())

    def test_of_somebody_elses_that_does_not_answer_it_says_what_may_be_the_matter(self) -> None:
        theirs = mock.Mock(owned=False)
        hint = "; it may be a listener for TLS or SASL, and itest speaks PLAINTEXT alone$"
        with self.answering(b"") as address, self.assertRaisesRegex(NotReady, f"as a Kafka broker{hint}"):
            clients.answers(address)(theirs)
        refused = clients.errors().KafkaTimeoutError("Unable to bootstrap")
        with (
            mock.patch.object(clients, "greet"),
            mock.patch.object(clients, "make", side_effect=refused),
            self.assertRaisesRegex(NotReady, f"Unable to bootstrap{hint}"),
        ):
            clients.answers("broker:9092")(theirs)
        address = f"127.0.0.1:{closed_port()}"
        with self.assertRaisesRegex(NotReady, f"{address}: .*refused$"):
            clients.answers(address)(theirs)

    def test_nobody_there_is_noticed_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        # Kafka's own client would go on trying.
        with (
            mock.patch.object(clients, "make") as make,
            self.assertRaisesRegex(NotReady, f"127.0.0.1:{port}: .*refused"),
        ):
            clients.answers(f"127.0.0.1:{port}")(mock.Mock())
        make.assert_not_called()

    def test_another_kafka_python_is_named_at_once(self) -> None:
        """Its 2.x does not know the settings that a client of ours is made with."""
        unknown = clients.errors().KafkaConfigurationError("Unrecognized configs: {'bootstrap_timeout_ms'}")
        with (
            mock.patch.object(clients, "greet"),
            mock.patch.object(clients, "make", side_effect=unknown),
            self.assertRaisesRegex(
                StartError, r"kafka-python \d\S* is installed, and itest needs one from 3.0.12 on.*bootstrap_timeout_ms"
            ),
        ):
            clients.answers("broker:9092")(mock.Mock())

    def test_without_asserts_it_says_that_its_client_needs_them(self) -> None:
        refused = clients.errors().KafkaTimeoutError("Unable to bootstrap")
        with mock.patch.object(clients, "greet"), mock.patch.object(clients, "make", side_effect=refused):
            with self.assertRaisesRegex(NotReady, "^KafkaTimeoutError: KafkaTimeoutError: Unable to bootstrap$"):
                clients.answers("broker:9092")(mock.Mock())
            with (
                mock.patch.object(clients.sys, "flags", mock.Mock(optimize=2)),
                self.assertRaisesRegex(
                    NotReady, r"Unable to bootstrap; Python runs without asserts \(-O, .* with them$"
                ),
            ):
                clients.answers("broker:9092")(mock.Mock())

    def test_a_client_that_cannot_be_made_leaves_no_thread(self) -> None:
        before = set(threading.enumerate())
        address = self.enterContext(self.answering(b""))
        with self.assertRaises(clients.errors().KafkaError):
            clients.make("KafkaAdminClient", address, bootstrap_timeout_ms=50)
        self.assertEqual([thread.name for thread in set(threading.enumerate()) - before if "kafka" in thread.name], [])

    def test_a_topic_that_is_not_there_is_asked_for_ever_more_seldom(self) -> None:
        cluster = SimpleNamespace(need_update=True, config={"retry_backoff_ms": clients.METADATA_PAUSE})

        def pause() -> Any:
            clients._slow_down(cluster)
            return cluster.config["retry_backoff_ms"]

        self.assertEqual([pause() for _ in range(6)], [10, 20, 40, 80, 100, 100])
        cluster.need_update = False
        self.assertEqual(pause(), clients.METADATA_PAUSE)

    def test_one_that_another_thread_is_importing_is_waited_for(self) -> None:
        whole = clients.package()
        half = types.ModuleType("kafka")
        half.__spec__ = mock.Mock(_initializing=True)
        with (
            mock.patch.dict(sys.modules, {"kafka": half}),
            mock.patch("itest.services.kafka.clients.client_package", return_value=whole) as wait,
        ):
            self.assertIs(clients.package(), whole)
        wait.assert_called()

    def test_a_missing_package_names_the_extra(self) -> None:
        hidden = {name: None for name in sys.modules if name.partition(".")[0] == "kafka"} | {"kafka": None}
        with mock.patch.dict(sys.modules, hidden), self.assertRaises(MissingPackage) as caught:
            clients.answers("127.0.0.1:9092")
        self.assertEqual(caught.exception.extra, "kafka")


class ServerTest(unittest.TestCase):
    def server(self) -> KafkaServer:
        spec = Kafka().container("")
        assert isinstance(spec, ContainerSpec)
        instance: Any = MemoryEngine().start(spec, {}, Deadline.after(1), Recorder())
        instance.log = "[x] INFO Kafka version: 4.1.1 (org.apache.kafka)\n"
        instance.id = "0123456789abcdef"
        return KafkaServer("Kafka", "kafka", instance, str(instance.endpoint("client")))

    def test_its_version_is_its_own_word(self) -> None:
        self.assertEqual(self.server().version, "Apache Kafka 4.1.1")

    def test_other_containers_reach_it_by_its_host_name(self) -> None:
        self.assertEqual(self.server().internal_bootstrap_servers, "0123456789ab:19092")

    def test_prefixes_are_given_once_and_given_again(self) -> None:
        server = self.server()
        one, two = server.take_prefix(None, "a", "One"), server.take_prefix(None, "a", "Two")
        self.assertNotEqual(one, two)
        self.assertFalse(server.alone)
        server.give_prefix(one, "a")
        self.assertTrue(server.alone)
        self.assertNotEqual(server.take_prefix(None, "b", "Two"), one)
        self.assertTrue(server.alone)  # A class may have several.
        self.assertEqual(server.take_prefix(None, "a", "One"), one)

    def test_one_prefix_cannot_be_had_twice(self) -> None:
        server = self.server()
        server.take_prefix("", None, "One")
        with self.assertRaisesRegex(ItestError, "two declarations with prefix='' use Kafka at 127.0.0.1:.* at once"):
            server.take_prefix("", None, "Two")

    def test_each_thread_has_a_consumer_to_itself_and_the_next_one_gets_it(self) -> None:
        server = self.server()
        make = self.enterContext(mock.patch.object(clients, "consumer", side_effect=lambda address: mock.Mock()))
        with server.consuming({}) as one, server.consuming({Partition("orders", 0): 7}) as two:
            self.assertIsNot(one, two)
            two.seek.assert_called_once_with(("orders", 0), 7)
        for _ in range(3):
            with self.assertRaises(KeyError), server.consuming({}) as again:
                raise KeyError
            self.assertIs(again, one)
        self.assertEqual(make.call_count, 2)
        server.close()
        for consumer in (one, two):
            consumer.close.assert_called_once_with()
        with self.assertRaisesRegex(NotStarted, "was given back"), server.consuming({}):
            self.fail("it was there")

    def test_clients_that_know_a_topic_that_is_gone_are_closed_and_others_kept(self) -> None:
        server = self.server()
        for kind in ("consumer", "producer"):
            self.enterContext(mock.patch.object(clients, kind, side_effect=lambda address: mock.Mock()))
        producer = server.producer_for("orders", "mail")
        with (
            server.consuming({Partition("orders", 0): 0}) as orders,
            server.consuming({Partition("mail", 0): 0}) as mail,
        ):
            pass
        server.forget({"stock"})
        self.assertIs(server.producer_for("orders"), producer)
        with server.consuming({Partition("orders", 0): 0}) as busy:
            self.assertIs(busy, orders)
            server.forget({"orders"})
            busy.close.assert_not_called()
            self.assertIsNot(server.producer_for("mail"), producer)
        producer.close.assert_called_once()
        server.forget({"orders"})
        orders.close.assert_called_once_with()
        mail.close.assert_not_called()

    def test_in_stopped_time_nothing_is_sent_or_received(self) -> None:
        """kafka-python would wait for ever."""
        server = self.server()
        for kind in ("consumer", "producer"):
            self.enterContext(mock.patch.object(clients, kind))
        server.producer_for("orders")
        with mock.patch("time.monotonic", return_value=1.0):
            with self.assertRaisesRegex(
                ItestError,
                r'time.monotonic, .*: freeze_time\(\.\.\., ignore=\["kafka"\]\), or time-machine from version 3 on$',
            ):
                server.producer_for("orders")
            with self.assertRaisesRegex(ItestError, r"time.monotonic"), server.consuming({}):
                self.fail("it was there")

    def late(self, server: KafkaServer) -> str:
        """What is said when a request is not answered in its time."""
        with self.assertRaises(ItestError) as caught, server.doing("creating topic orders"):
            raise clients.errors().KafkaTimeoutError("too late")
        return str(caught.exception)

    def test_an_error_of_the_client_says_what_was_being_done(self) -> None:
        server = self.server()
        with mock.patch.object(clients, "greet"):
            said = self.late(server)
        self.assertRegex(
            said, r"^creating topic orders on Kafka at 127\.0\.0\.1:\d+ failed: KafkaTimeoutError: .*too late"
        )
        self.assertTrue(server.lives())

    def test_one_that_greets_nobody_any_more_is_given_up(self) -> None:
        server = self.server()
        with mock.patch.object(clients, "greet", side_effect=ConnectionError("timed out")) as greet:
            said = self.late(server)
        greet.assert_called_once_with(server.bootstrap_servers)
        self.assertEqual(
            said,
            "creating topic orders failed: Apache Kafka 4.1.1 (container 0123456789abcdef (apache/kafka:4.1.1)) does not "
            "answer within 10 s, though it runs: did a test pause it, or does its machine stand still? The next class gets "
            "a new one",
        )
        self.assertFalse(server.lives())
        with self.assertRaisesRegex(ItestError, "^Apache Kafka 4.1.1 .* does not answer"), server.doing("anything"):
            self.fail("it was asked")

    def test_an_error_of_another_kind_is_no_reason_to_greet_it(self) -> None:
        server = self.server()
        greet = self.enterContext(mock.patch.object(clients, "greet", side_effect=ConnectionError))
        with self.assertRaisesRegex(ItestError, "PolicyViolation"), server.doing("deleting records"):
            raise clients.errors().PolicyViolationError
        with self.assertRaisesRegex(ItestError, "refused"), server.doing("deleting records"):
            raise clients.errors().KafkaConnectionError("refused")  # At once: it may be ending just now.
        greet.assert_not_called()
        self.assertTrue(server.lives())


class LockTest(unittest.TestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory()), "lock")

    def test_it_is_free_again_afterwards(self) -> None:
        for _ in range(2):
            with locked(self.path, 1, "testing"):
                pass
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_a_holder_that_does_not_end_is_named(self) -> None:
        clock = ManualClock()
        self.enterContext(locked(self.path, 1, "testing"))
        with self.assertRaises(ItestError) as caught, locked(self.path, 5, "testing", clock):
            self.fail("it was taken twice")
        self.assertEqual(
            str(caught.exception),
            f"testing: another process has held the lock {self.path} for 5 s; wait until it is done, or end it",
        )
        self.assertGreaterEqual(clock.now, 5)

    def test_a_process_that_dies_frees_it(self) -> None:
        code = f"import fcntl, os; f = open({str(self.path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); os._exit(9)"
        subprocess.run([sys.executable, "-I", "-c", code], timeout=30, check=False)
        with locked(self.path, 0.5, "testing"):
            pass
