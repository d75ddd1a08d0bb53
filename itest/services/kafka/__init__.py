# SPDX-License-Identifier: Apache-2.0
"""Apache Kafka.

__init__.py  Kafka and KafkaMixin: what is wanted
recipes.py   as a container and as a process
jars.py      where a process's Java and jars come from
storage.py   the storage of a new broker, without the tool that formats it
archive.py   a process's classes, kept so that it starts sooner; archive_build.py makes them
names.py     names of topics and codecs
clients.py   kafka-python: how its clients are made, and the check that a broker answers
server.py    a running broker: its clients and its prefixes
round_trip.py  several requests to a broker at once
topics.py    which topics there are, and what the last reset left in them
lease.py     the topics of a class, brought back to their baseline before each test
baseline.py  the records of that baseline
view.py      what a test gets
queue.py     send and receive
resetting.py  the errors of a reset: which pass by themselves, and what the others say
configs.py   the settings of topics and the broker that are in the way of a reset or of the next class
transactions.py  those that a test has left open
groups.py    the groups by which apps read a class's topics
evidence.py  what there is when a test has failed
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from itest.arguments import Text, variables_of
from itest.config import Config
from itest.engines import Instance
from itest.errors import ConfigError, DeclarationError
from itest.packages import lazily, need_client
from itest.service import Service, ServiceMixin
from itest.services.kafka import archive, clients, recipes
from itest.services.kafka.names import CODECS, NAMES, is_name
from itest.shorthand import Shorthand
from itest.spec import ContainerSpec, ExternalSpec, ProcessSpec
from itest.wait import Check

if TYPE_CHECKING:
    from itest.services.kafka.queue import Message, Queue
    from itest.services.kafka.server import KafkaServer
    from itest.services.kafka.view import KafkaView  # named as a text, in the base

__all__ = ["Kafka", "KafkaMixin", "KafkaServer", "KafkaView", "Message", "Queue"]

if not TYPE_CHECKING:  # So that a wrong name is still an error there.
    __getattr__ = lazily(__name__, {"KafkaServer": "server", "KafkaView": "view", "Message": "queue", "Queue": "queue"})


@dataclass(frozen=True, eq=False, repr=False)
class Kafka(Service["KafkaView"]):
    """An Apache Kafka broker: `apache/kafka`, `apache/kafka-native` or `confluentinc/cp-kafka` (7.4 or later).

    Each class gets topics and groups of its own, under a prefix; `isolation="records"` deletes the records before each
    test and puts those of the class's baseline back, `"prefix"` gives each test new topics with offsets from 0.
    `codec` is what the queue takes and gives: `bytes`, `text` (str as UTF-8) or `json` (objects). New topics have
    that many `partitions`; `topics` are made ahead, each with a number of its own: `{"orders": 3}`. `env` are
    variables of the image, `{"KAFKA_MESSAGE_MAX_BYTES": "2000000"}`; a local process is given the same settings.
    """

    kind: ClassVar[str] = "kafka"
    title: ClassVar[str] = "Kafka"
    isolations: ClassVar[tuple[str, ...]] = ("records", "prefix", "none")
    external_setting: ClassVar[str] = "kafka_bootstrap_servers"
    start_seconds: ClassVar[float] = 1.0
    asks_to_connect: ClassVar[bool] = True

    image: str = recipes.IMAGE
    codec: Literal["bytes", "text", "json"] = "bytes"
    partitions: int = 1
    topics: Mapping[str, int] = field(default_factory=dict)
    env: Mapping[str, Text] = field(default_factory=dict)
    prefix: str | None = None
    """What the names of topics and groups begin with; None for one of its own for each class. With `""` topics have
    the very names that an app has them by, and a test sees what the app sees."""

    if TYPE_CHECKING:
        _: KW_ONLY
        isolation: Literal["", "records", "prefix", "none"] = ""

    def _check(self) -> None:
        super()._check()
        if self.codec not in CODECS:
            raise DeclarationError(f"unknown codec {self.codec!r}; it must be one of {', '.join(CODECS)}")
        if type(self.partitions) is not int or self.partitions < 1:
            raise DeclarationError(f"partitions={self.partitions!r}; a topic has a whole number of them, at least 1")
        if not isinstance(self.topics, Mapping):
            raise DeclarationError(
                f"topics must map names to numbers of partitions, topics={{'orders': 3}}, not {self.topics!r}"
            )
        for topic, partitions in self.topics.items():
            if not isinstance(topic, str) or not is_name(topic):
                raise DeclarationError(f"{topic!r} in topics: {NAMES}")
            if type(partitions) is not int or partitions < 1:
                raise DeclarationError(f"{topic} = {partitions!r} in topics; a topic has at least 1 partition")
        for variable in variables_of("env", self.env):
            if not variable.startswith("KAFKA_"):
                raise DeclarationError(
                    f"{variable!r} in env is no setting of Kafka; message.max.bytes is KAFKA_MESSAGE_MAX_BYTES"
                )
        if self.prefix and not is_name(self.prefix):
            raise DeclarationError(f"prefix={self.prefix!r}: {NAMES}")
        if self.prefix is not None and self.isolation_or_default == "prefix":
            raise DeclarationError("isolation='prefix' makes a new prefix for each test; give no prefix")
        recipes.check_image(self.image)

    @property
    def sharable(self) -> bool:
        return self.prefix is None and self.isolation_or_default != "none"  # Else topics have the same names for all.

    def check_client(self) -> None:
        need_client("kafka", "kafka", "the service Kafka")

    def import_ahead(self) -> None:
        clients.package()
        importlib.import_module("itest.services.kafka.server")
        importlib.import_module("itest.services.kafka.lease")

    def container(self, secret: str) -> ContainerSpec:
        return recipes.container(self.image, variables_of("env", self.env))

    def process(self, secret: str, config: Config) -> ProcessSpec:
        return recipes.process(self.image, variables_of("env", self.env), config)

    def external_spec(self, url: str, source: str) -> ExternalSpec:
        if "@" in url or re.search("(?i)(ssl|sasl_[a-z]+)://", url):
            raise ConfigError(
                f"{source} names a user, TLS or SASL, and itest speaks to Kafka without: name a PLAINTEXT listener, host1:9092"
            )
        servers = clients.split(url)
        if not servers:
            raise ConfigError(f"{source} is no list of Kafka servers: it must look like host1:9092,host2:9092")
        return ExternalSpec(",".join(f"{host}:{port}" for host, port in servers), {"client": servers[0]}, source)

    def address(self, instance: Instance, secret: str) -> str:
        return str(instance.endpoint("client"))

    def readiness(self, address: str) -> Check:
        return clients.answers(address)

    def connect(self, instance: Instance, address: str) -> KafkaServer:
        archive.make_missing()
        from itest.services.kafka.server import KafkaServer  # While it is being started it is imported ahead.

        clients.greet(address)  # Clients would go on trying where nobody answers.
        server = KafkaServer(self.title, self.kind, instance, address)
        try:
            server.topics.all()
        except BaseException:
            server.close()
            raise
        return server


class KafkaMixin(ServiceMixin):
    """Declares `kafka`; `self.queue` sends to and receives from the test's own topics."""

    kafka = Kafka()

    queue: Shorthand[Queue] = Shorthand("kafka", "queue")
