# SPDX-License-Identifier: Apache-2.0
"""What an engine is asked to run for Kafka: one node, broker and controller in one, as a container or a process.

Both have the same settings, and neither needs a script: the host port is chosen before the start, so the address that
the broker advertises to its clients can be written down beforehand.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from itest.config import Config
from itest.errors import DeclarationError
from itest.server_settings import OTHERS
from itest.services.kafka import archive, storage
from itest.services.kafka.jars import find_jars, find_java
from itest.spec import ContainerSpec, Port, ProcessSpec

IMAGE = "apache/kafka:4.1.1"
VERSION = "4.1.1"
"""The version a local process has where the image's tag does not say one."""

CLIENT_PORT = 9092
INTERNAL_PORT = 19092
"""The container port for other containers; it is not published."""
CONTROLLER_PORT = 19093
DATA = "/var/lib/itest"
"""Mounted as memory. No directory of the images: a mount point that is new can be written by any user (mode 1777)."""
LOG_DIR = f"{DATA}/kafka"

SETTINGS: Mapping[str, str] = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
    "auto.create.topics.enable": "true",  # As in the official image: what works here must work there.
    # One node can hold one replica, and 50 partitions of bookkeeping would all be created at the first use.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # By default a new group waits 3 s for more members.
    "group.initial.rebalance.delay.ms": "0",
    # The controller waits 25 ms for more to write at once: creating a topic takes 6 ms instead of 33 without that.
    "controller.quorum.append.linger.ms": "0",
    # Threads for many clients and disks: the fewer there are, the less a start has to do (0.07 s of processor time).
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "2",
    "group.coordinator.threads": "1",
    # 128 MB of heap by default, zeroed at the start, to compact logs far larger than those of tests.
    "log.cleaner.dedupe.buffer.size": "2097152",
    # By default what is a week old by its timestamp is deleted, which a test chooses: 30 s after the start it would be gone.
    "log.retention.ms": "-1",
}

UNWATCHED: Mapping[str, str] = {"metric.reporters": "", "metrics.jmx.exclude": ".*"}
"""No object of JMX for each metric, which is 0.1 s of processor time in a start, where nothing would read them."""

HEAP = "-Xms256m -Xmx512m"
JVM_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:TLABSize=64k"
"""For a JVM that lives for seconds: it starts in 1.7 s instead of 2.3 (2 cores). Each thread gets a part of the heap for
itself, of a fiftieth of its young part at first; with a hundred threads that fills it, so that garbage is collected three
times before the broker has started, 0.05 s in all. With small parts and 256 MB to begin with it never is."""

ONE_COMPILER = "-XX:CICompilerCount=1"
"""One thread that compiles, where a JVM has two at least: they take the cores from those that start the broker, 0.05 s of the
0.8 (2 cores). A JVM that compiles beyond the first level refuses to start with less than two."""

JVM_VARIABLES = ("KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_OPTS")
"""Variables of the images that are no settings of the broker but options of its JVM, in order."""

OLDEST_CONFLUENT = (7, 4)
"""The first cp-kafka that runs without ZooKeeper by environment variables alone."""

HOME = "/opt/kafka"
"""Where Kafka is in the official image."""

START = rf"""\
home={HOME} data={LOG_DIR} settings={DATA}/server.properties
java=${{JAVA_HOME:+$JAVA_HOME/bin/}}java
if [ -f "$home/libs/kafka_2.13-$1.jar" ] && command -v "$java" >/dev/null && mkdir $data &&
    printf %s "$2" >$settings && printf %s "$3" >$data/meta.properties &&
    printf %s "$4" | base64 -d >$data/bootstrap.checkpoint
then
    shift 4
    # The class path of the image's own script, for no other will its archive of classes do. That takes two programs for
    # each of a hundred jars to make it, and has the JVM serve JMX.
    path= share= left_out='(-(test|test-sources|src|scaladoc|javadoc)\.jar|jar.asc|connect-file.*\.jar)$'
    for jar in $home/bin/../libs/*; do [[ $jar =~ $left_out ]] || path=$path:$jar; done
    [ ! -r $home/kafka.jsa ] || share=-XX:SharedArchiveFile=$home/kafka.jsa
    exec "$java" $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS -Djava.awt.headless=true $share \
        -Dkafka.logs.dir=$home/logs "$@" -cp "${{path#:}}" $KAFKA_OPTS kafka.Kafka $settings
fi
rm -rf $data
exec /etc/kafka/docker/run
"""
"""What bash runs in a container of apache/kafka in place of its own start script, and that one where something is not as
expected. Arguments: version, settings, meta.properties, bootstrap.checkpoint as base64, then options of the JVM."""

TALKATIVE = (
    "org.apache.kafka.common.config.AbstractConfig",  # All settings with their values, three times: 1000 lines.
    "org.apache.kafka.storage.internals.log.UnifiedLog",  # Some for each topic made or deleted, so at each reset.
)
"""Loggers whose informative lines cost more time than they are worth."""


def _logging() -> Iterator[str]:
    """To standard error, by the simple loggers of what writes the log: log4j (the image, an installed Kafka) or slf4j (jars
    from Maven, where Kafka asks log4j for its levels nevertheless). Setting all of log4j up takes a tenth of the start.
    """
    yield "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory"
    for prefix in ("org.apache.logging.log4j.simplelog", "org.slf4j.simpleLogger"):
        yield f"-D{prefix}.dateTimeFormat=[yyyy-MM-dd HH:mm:ss,SSS]"
    yield "-Dorg.slf4j.simpleLogger.showDateTime=true"
    yield "-Dorg.apache.logging.log4j.simplelog.showdatetime=true"
    yield "-Dorg.apache.logging.log4j.simplelog.showShortLogname=false"
    yield "-Dorg.apache.logging.log4j.simplelog.showlogname=true"
    yield "-Dorg.apache.logging.log4j.simplelog.level=info"
    for name in TALKATIVE:
        yield f"-Dorg.apache.logging.log4j.simplelog.{name}.level=warn"
        yield f"-Dorg.slf4j.simpleLogger.log.{name}=warn"


LOGGING = tuple(_logging())
"""Options of the JVM, unless a declaration has some of log4j."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image's name says. `contract` is how it is configured: apache, native or confluent; empty for unknown."""

    contract: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Image:
        """Registry, port, directories and digest do not matter: `registry:5000/mirror/cp-kafka:7.6.0@sha256:...`."""
        *directories, name = text.partition("@")[0].split("/")
        name, _, tag = name.partition(":")
        found = re.match(r"v?(\d+(\.\d+)*)", tag)
        if name in _OTHERS or _OTHERS.intersection(directories):
            return cls("", found[1] if found else "")
        contract = _CONTRACTS.get(name, "apache")
        return cls(contract, found[1] if found else "")


_CONTRACTS = {"kafka-native": "native", "cp-kafka": "confluent", "cp-server": "confluent"}
_OTHERS = OTHERS | {"wurstmeister", "strimzi", "redpanda", "redpandadata", "cp-zookeeper"}


def check_image(text: str) -> None:
    """Raise DeclarationError for an image that could not start with what it would be given."""
    image = Image.parse(text)
    if not image.contract:
        raise DeclarationError(
            f"image {text!r} is not configured like apache/kafka, apache/kafka-native or "
            f"confluentinc/cp-kafka; use one of these, or declare it as a Container"
        )
    if image.contract == "confluent" and image.version and _numbers(image.version) < OLDEST_CONFLUENT:
        raise DeclarationError(
            f"image {text!r} is older than 7.4 and needs ZooKeeper; use confluentinc/cp-kafka:7.4.0 or later, "
            f"or {IMAGE}"
        )


def container(image: str, settings: Mapping[str, str]) -> ContainerSpec:
    """The container. `settings` are variables of the image (KAFKA_*), which win over ours."""
    env = {
        "CLUSTER_ID": storage.CLUSTER_ID,
        # Any KAFKA_* at all makes the official image forget its own file of settings, so all that matters is here.
        **{_variable(name): value for name, value in _ours(settings).items()},
        "KAFKA_LOG_DIRS": LOG_DIR,
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@localhost:{CONTROLLER_PORT}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_LISTENERS": (
            f"CLIENT://0.0.0.0:{CLIENT_PORT},INTERNAL://0.0.0.0:{INTERNAL_PORT},CONTROLLER://localhost:{CONTROLLER_PORT}"
        ),
        # Without a host the broker takes its own name, which in Docker is the container's and known to its networks.
        "KAFKA_ADVERTISED_LISTENERS": f"CLIENT://{{endpoint:client}},INTERNAL://:{INTERNAL_PORT}",
        # The broker talks to itself by its own name: the client's address exists outside of the container only.
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
    }
    contract = Image.parse(image).contract
    if contract != "native":
        env.update(KAFKA_HEAP_OPTS=HEAP, KAFKA_JVM_PERFORMANCE_OPTS=JVM_OPTIONS)
    if contract == "apache":
        env.update(KAFKA_JVM_PERFORMANCE_OPTS=" ".join(_performance(settings)))
        env.update({_variable(name): value for name, value in _unwatched(settings).items()})
    env.update(settings)
    return ContainerSpec(
        image=image,
        env=env,
        command=_direct(image, env, settings),
        ports={"client": Port(CLIENT_PORT, chosen=True)},
        tmpfs={DATA: 0},
    )


def process(image: str, settings: Mapping[str, str], config: Config) -> ProcessSpec:
    """The process. Raises Unavailable, saying what to install."""
    java = find_java(config)
    tag = Image.parse(image)
    same = tag.contract in ("apache", "native") and re.fullmatch(r"[4-9]\.\d+\.\d+", tag.version)
    jars = find_jars(config, tag.version if same else VERSION)
    options = tuple(_jvm_options(settings))
    command = (java, *options)
    place = "{directory}/server.properties"
    files: dict[str, str | bytes] = {"server.properties": properties(settings)}
    prepare: tuple[tuple[str, ...], ...] = ()
    if checkpoint := storage.checkpoint(jars.version, _names(settings)):
        files["data/meta.properties"] = storage.META
        files["data/bootstrap.checkpoint"] = base64.b64decode(checkpoint)
    else:
        format = ("kafka.tools.StorageTool", "format", "-t", storage.CLUSTER_ID, "-c", place)
        prepare = ((*command, "-cp", jars.path, *format),)
    return ProcessSpec(
        version=str(jars),
        replaces=image,
        argv=(*command, *archive.options(java, jars, options, config), "-cp", jars.path, "kafka.Kafka", place),
        prepare=prepare,
        ports=("client", "controller"),
        files=files,
        stop_signal=signal.SIGKILL,  # Nothing is worth saving, and an orderly end takes 0.3 s.
    )


def _direct(image: str, env: Mapping[str, str], settings: Mapping[str, str]) -> tuple[str, ...]:
    """The command that starts the broker at once in a container of the official image; empty: the image's own.

    The image's own runs a JVM first that turns the variables into a file and formats the storage: 0.9 s.
    """
    names = _names(settings)
    version = Image.parse(image).version
    checkpoint = storage.checkpoint(version, names)
    if checkpoint is None or not re.search(_OFFICIAL, image) or any(re.match(_BY_SCRIPT, name) for name in names):
        return ()
    values = {_property(name): value for name, value in env.items() if name.startswith("KAFKA_")}
    text = _lines({name: value for name, value in values.items() if _variable(name) not in JVM_VARIABLES})
    return ("bash", "-c", START, "bash", version, text, storage.META, checkpoint, *_log_options(settings))


_OFFICIAL = r"(^|/)apache/kafka:"
"""Images that others made of it may have a command of their own."""

_BY_SCRIPT = r"(version|log4j|tools|jmx|gc|debug|ssl|sasl|zookeeper)\b"
"""What settings begin with that the image's script knows, or refuses: they are no lines of the file."""


def properties(settings: Mapping[str, str]) -> str:
    values = {
        **_ours(settings),
        **_unwatched(settings),
        "log.dirs": "data",  # In its own directory, whose path may have letters and signs that such a file has no place for.
        # Static, so that what `format` writes does not hold the port.
        "controller.quorum.voters": "1@{endpoint:controller}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": "CLIENT://{endpoint:client},CONTROLLER://{endpoint:controller}",
        "advertised.listeners": "CLIENT://{endpoint:client}",
        **{_property(name): value for name, value in settings.items() if name not in JVM_VARIABLES},
    }
    return _lines(values)


def _ours(settings: Mapping[str, str]) -> Mapping[str, str]:
    """`SETTINGS`, without the retention if the declaration has one: milliseconds count more than its minutes or hours."""
    retained = any(re.fullmatch("KAFKA_LOG_RETENTION_(MINUTES|HOURS)", name) for name in settings)
    return {name: value for name, value in SETTINGS.items() if not (retained and name == "log.retention.ms")}


def _unwatched(settings: Mapping[str, str]) -> Mapping[str, str]:
    """`UNWATCHED`, unless the declaration has JMX or an agent in the JVM, which may read them."""
    watched = any(re.search("jmx|javaagent", f"{name}={value}", re.IGNORECASE) for name, value in settings.items())
    return {} if watched else UNWATCHED


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _jvm_options(settings: Mapping[str, str]) -> Iterator[str]:
    """Options of both JVMs, those of the declaration last: the last one wins."""
    yield from ("-Xms256m", "-Xmx256m", *_performance(settings), "-Djava.awt.headless=true")
    yield "-XX:-UsePerfData"  # Its file would stay in the temporary directory: the process ends by SIGKILL.
    if _executable_memory():
        yield "-Djava.io.tmpdir={directory}"  # The same for the native libraries that compression unpacks.
    yield from _log_options(settings)
    for name in JVM_VARIABLES:
        yield from shlex.split(settings.get(name, ""))


def _performance(settings: Mapping[str, str]) -> list[str]:
    """`JVM_OPTIONS`, and `ONE_COMPILER` unless the declaration says how it compiles: two levels need two."""
    own = any(re.search("Tiered|Compiler", settings.get(name, "")) for name in JVM_VARIABLES)
    return [*JVM_OPTIONS.split(), *([] if own else [ONE_COMPILER])]


def _log_options(settings: Mapping[str, str]) -> tuple[str, ...]:
    return () if any("log4j" in settings.get(name, "") for name in JVM_VARIABLES) else LOGGING


def _names(settings: Mapping[str, str]) -> list[str]:
    """The settings of the broker that a declaration has."""
    return [_property(name) for name in settings if name not in JVM_VARIABLES]


def _executable_memory() -> bool:
    """Whether programs may run from /dev/shm, where a process's directory may lie. Containers mount it noexec."""
    try:
        return not os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC
    except (OSError, AttributeError):
        return True


def _variable(name: str) -> str:
    """`log.dirs` as a variable of the images: `KAFKA_LOG_DIRS`."""
    return "KAFKA_" + name.upper().replace("_", "__").replace("-", "___").replace(".", "_")


def _property(variable: str) -> str:
    """The reverse, by the images' own rule: `_` is a dot, `__` an underscore, `___` a dash."""
    name = variable.removeprefix("KAFKA_").lower()
    return re.sub(r"_{1,3}", lambda found: {1: ".", 2: "_", 3: "-"}[len(found[0])], name)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
