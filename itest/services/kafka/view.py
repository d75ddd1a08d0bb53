# SPDX-License-Identifier: Apache-2.0
"""What a test gets of Kafka: names of its own, clients that are closed after it, and the queue."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Awaitable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from itest.async_clients import Opening, own_time
from itest.errors import LoopError
from itest.packages import client_package
from itest.service import View
from itest.services.kafka import clients
from itest.services.kafka.queue import Queue
from itest.services.kafka.server import KafkaServer

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from itest.services.kafka.lease import KafkaLease


ABORT_WAIT = 1.0
"""Seconds in which a producer of asyncio must have aborted its transaction before it is stopped."""


class KafkaView(View):
    """The topics and groups of one test. Topics and groups are named as in the test; `topic()` says what Kafka calls
    them, for code that talks to Kafka by itself."""

    server: KafkaServer

    def __init__(self, server: KafkaServer, lease: KafkaLease, codec: str, prefix: str, number: int) -> None:
        super().__init__(server)
        self.prefix = prefix
        """What the physical names of this test's topics begin with."""
        self._lease = lease
        self._number = number
        self._queue = Queue(server, codec, self.topic)

    @property
    def url(self) -> str:
        return self.bootstrap_servers

    def url_for(self, driver: str) -> str:
        """The servers as a URL: `url_for("confluentkafka")` is `confluentkafka://host:port`."""
        return f"{driver}://{self.bootstrap_servers}"

    @property
    def env(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients on this machine."""
        return self.server.bootstrap_servers if self._inside is None else self.internal_bootstrap_servers

    @property
    def internal_bootstrap_servers(self) -> str:
        """`host:port` for clients in containers, on a network that they share with the broker's container."""
        return self.server.internal_bootstrap_servers

    @property
    def queue(self) -> Queue:
        """Sends and receives; `self.queue` on a KafkaMixin."""
        self.check_open()
        return self._queue

    @property
    def admin(self) -> Any:
        """A `kafka.KafkaAdminClient`. Its connection is kept for the whole run, so closing it does nothing."""
        self.check_open()
        return self._admin

    @cached_property
    def _admin(self) -> Any:
        admin = copy.copy(self.server.admin)
        admin.close = lambda: None
        return admin

    @own_time()
    def topic(self, name: str) -> str:
        """The physical name of a topic, which is created if need be and has a leader for each partition.

        A name that begins with the class's prefix is a physical one already, and is returned as it is. Raises ValueError
        for a name that Kafka does not allow, TypeError for one that is no str.
        """
        self.check_open()  # A queue that was kept asks here, too.
        return self._lease.topic(self.prefix, name)

    def group(self, name: str) -> str:
        """The physical id of a consumer group, another one for each test. An id that it gave is returned as it is."""
        return self._lease.group(self.prefix, self._number, name)

    def producer(self, **kwargs: Any) -> Any:
        """A new `kafka.KafkaProducer`, with its keyword arguments. It takes physical names: `topic(name)`."""
        client = clients.make("KafkaProducer", self.bootstrap_servers, **kwargs)
        return self._closing(client, lambda: clients.close_producer(client, clients.CLOSE_TIMEOUT))

    def consumer(self, *topics: str, **kwargs: Any) -> Any:
        """A new `kafka.KafkaConsumer`, with its keyword arguments, on topics of this test.

        Topics and `group_id` are named as in the test. It starts at the first record, unless `auto_offset_reset`
        says otherwise.
        """
        physical, settings = self._consuming(topics, kwargs)
        client = clients.make("KafkaConsumer", self.bootstrap_servers, *physical, **settings)
        if settings.get("group_id"):
            for topic in physical:
                # It joins its group once instead of twice then, which takes 29 ms instead of 36 and cannot go wrong in
                # between (docs/kafka.md).
                client.partitions_for_topic(topic)
        # What it has read need not be committed: no other test has its group.
        milliseconds = int(clients.CLOSE_TIMEOUT * 1000)
        return self._closing(client, lambda: client.close(autocommit=False, timeout_ms=milliseconds))

    def _consuming(self, topics: Sequence[str], kwargs: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """The topics and settings of a consumer, by the names and defaults of this test."""
        # With the clients' pauses of 100 ms a group's first message takes twice as long.
        settings = {"auto_offset_reset": "earliest", "retry_backoff_ms": 10, **kwargs}
        if group := settings.get("group_id"):
            settings["group_id"] = self.group(group)
        return [self.topic(name) for name in topics], settings

    @own_time()
    def aproducer(self, **kwargs: Any) -> Opening[AIOKafkaProducer]:
        """A new `aiokafka.AIOKafkaProducer`, with its keyword arguments, to be awaited: then it is started. Stopped after
        the test. It takes physical names: `topic(name)`."""
        aiokafka = client_package("aiokafka", "aiokafka", "KafkaView.aproducer()")
        settings = {"bootstrap_servers": self.bootstrap_servers, "retry_backoff_ms": 10, **kwargs}
        return self._opening("aproducer", lambda: _started(aiokafka.AIOKafkaProducer(**settings)), _abort_and_stop)

    @own_time()
    def aconsumer(self, *topics: str, **kwargs: Any) -> Opening[AIOKafkaConsumer]:
        """A new `aiokafka.AIOKafkaConsumer` on topics of this test, to be awaited: then it is started. Stopped after the
        test. Topics, `group_id` and the first record are as for `consumer`."""
        aiokafka = client_package("aiokafka", "aiokafka", "KafkaView.aconsumer()")

        def make() -> Awaitable[AIOKafkaConsumer]:
            physical, settings = self._consuming(topics, kwargs)
            return _started(
                aiokafka.AIOKafkaConsumer(*physical, **{"bootstrap_servers": self.bootstrap_servers, **settings})
            )

        return self._opening("aconsumer", make, _stop)


async def _started(client: Any) -> Any:
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise
    return client


async def _abort_and_stop(producer: Any) -> None:
    # Stopping leaves a transaction open; where there is none to abort, this says so.
    with contextlib.suppress(Exception):
        import asyncio

        await asyncio.wait_for(producer.abort_transaction(), ABORT_WAIT)
    # A stopped one would take all that, and wait for an answer for ever; a consumer refuses by itself.
    for name in ("send", "send_and_wait", "send_batch", "begin_transaction"):
        setattr(producer, name, _refuse)
    await producer.stop()


def _refuse(*args: object, **kwargs: object) -> None:
    raise LoopError(
        "this producer of aproducer() was stopped at the end of the test, the class's baseline or the `async with` that it was "
        "made in: make one in each test, or for the tests of a class one of your own, aiokafka.AIOKafkaProducer(...)"
    )


async def _stop(client: Any) -> None:
    await client.stop()
