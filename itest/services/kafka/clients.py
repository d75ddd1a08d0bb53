# SPDX-License-Identifier: Apache-2.0
"""kafka-python: how its clients are made, and the check that a broker answers one. Imported when first needed."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import warnings
from typing import Any
from urllib.parse import urlsplit

from itest import clock, naming
from itest.engines import Instance
from itest.errors import ItestError, StartError
from itest.packages import client_package
from itest.wait import ANSWER_TIMEOUT, Check, answer

PORT = 9092

METADATA_PAUSE = 5
"""Milliseconds between two requests of a client for metadata. kafka-python has 100 and no setting for it, so that the
first use of each topic takes 100 ms."""

BUSY_PAUSE = 50
"""Milliseconds at most until a producer looks for a broker again. With one request under way at a time its only broker counts
as busy while others send, and by default (3.0.12, `_do_refresh_metadata` in cluster.py) that pause grows to seconds."""

LONGEST_PAUSE = 100
"""Milliseconds to which that grows while a topic is not there: a client that asks for one that is gone never stops."""

REQUEST_TIMEOUT = 10_000
"""Milliseconds that a request of our own clients may take. Nothing may hang."""

MOST_BYTES = 100 * 1024 * 1024
"""How large a request of our own may be: what a broker takes, unless it is told otherwise (socket.request.max.bytes)."""

CLOSE_TIMEOUT = 2.0
"""Seconds that closing a client may take, for what it has not sent yet; a broker that is gone must not delay tests."""


GREET_PAUSE = 0.020
"""Seconds between two of the requests by which a broker is waited for: a start of 1 s would grow the usual pause to 0.1."""


NO_PLAINTEXT = "; it may be a listener for TLS or SASL, and itest speaks PLAINTEXT alone"
"""Said of somebody else's broker that is reached and does not answer."""


def split(servers: str) -> list[tuple[str, int]]:
    """The hosts and ports of a list of bootstrap servers. Empty when it is none."""
    found = []
    for part in servers.split(","):
        try:
            parts = urlsplit(part.strip() if "://" in part else f"//{part.strip()}")
            host, port = parts.hostname, parts.port or PORT
        except ValueError:
            return []
        if not host or parts.path.strip("/") or parts.query:
            return []
        found.append((f"[{host}]" if ":" in host else host, port))
    return found


def package(name: str = "kafka") -> Any:
    """kafka-python, or a module of it. Raises MissingPackage."""
    module = sys.modules.get(name)
    # Another thread may just be importing it: then it is there, with half of what it will have. importlib looks at this too.
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    with warnings.catch_warnings():
        # kafka-python 3.0 reads its schemas by a function that Python 3.11 and 3.12 call deprecated; under `-W error`
        # it could not be imported at all.
        warnings.simplefilter("ignore", DeprecationWarning)
        client_package("kafka", "kafka", "the service Kafka")
        return client_package(name, "kafka", "the service Kafka")


def errors() -> Any:
    """Its exceptions."""
    return package("kafka.errors")


def make(kind: str, servers: str, *args: Any, creates: bool = True, **settings: Any) -> Any:
    """A client by the name of its class. One that cannot be made leaves no thread and no socket behind.

    `creates`: asking for a topic's metadata may create it, as in other clients.
    """
    made = []

    def client(**config: Any) -> Any:
        made.append(package("kafka.net.compat").KafkaNetClient(**config))
        with contextlib.suppress(AttributeError):  # No settings of its classes lead there.
            made[0].cluster.config.update(retry_backoff_ms=METADATA_PAUSE, allow_auto_create_topics=creates)
            made[0].cluster.add_listener(_slow_down)
        return made[0]

    try:
        return getattr(package(), kind)(
            *args, **{"bootstrap_servers": servers.split(","), "kafka_client": client, **settings}
        )
    except BaseException:
        # The constructor starts a thread before its first attempt to connect, and nobody else could end it.
        for left in made:
            left.close()
        raise


def _slow_down(cluster: Any) -> None:
    """After an answer to a request for metadata: the pause before the next one, by whether all topics were there."""
    pause = cluster.config["retry_backoff_ms"]
    cluster.config["retry_backoff_ms"] = min(2 * pause, LONGEST_PAUSE) if cluster.need_update else METADATA_PAUSE


def admin(servers: str) -> Any:
    """A KafkaAdminClient of ours."""
    return make(
        "KafkaAdminClient",
        servers,
        request_timeout_ms=REQUEST_TIMEOUT,
        bootstrap_timeout_ms=REQUEST_TIMEOUT,
        # It refuses what is more, and several threads may each have several.
        max_in_flight_requests_per_connection=100,
    )


def producer(servers: str) -> Any:
    """A KafkaProducer of ours: in order, without a wait for more to send."""
    made = make(
        "KafkaProducer",
        servers,
        creates=False,  # A topic that a test deleted must not come back by itself.
        enable_idempotence=False,
        max_in_flight_requests_per_connection=1,
        reconnect_backoff_ms=METADATA_PAUSE,
        reconnect_backoff_max_ms=BUSY_PAUSE,
        request_timeout_ms=REQUEST_TIMEOUT,
        delivery_timeout_ms=REQUEST_TIMEOUT + 100,
        max_block_ms=REQUEST_TIMEOUT,
        bootstrap_timeout_ms=REQUEST_TIMEOUT,
        metrics_enabled=False,
        # How large a record may be is for the broker to say (message.max.bytes).
        max_request_size=MOST_BYTES,
    )
    with contextlib.suppress(AttributeError):
        made._unregister_cleanup()  # At the end of the process it would close itself, loudly, before the session closes it.
    return made


def consumer(servers: str) -> Any:
    """A KafkaConsumer of ours, without a group."""
    return make(
        "KafkaConsumer",
        servers,
        creates=False,
        isolation_level="read_committed",  # What a transaction aborted was never produced.
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # The broker answers one request of a connection after the other: a fetch that waits for what never comes
        # would hold up the next one, for another topic, by 500 ms.
        fetch_max_wait_ms=20,
        # So long it also sleeps when it has no offset or leader yet, which is so after each change of topic.
        retry_backoff_ms=2,
        request_timeout_ms=REQUEST_TIMEOUT,
        bootstrap_timeout_ms=REQUEST_TIMEOUT,
        metrics_enabled=False,
    )


def check_time() -> None:
    """Raise ItestError where a test has replaced the time by which kafka-python waits: it may never come to an end."""
    if not clock.is_real_for("kafka"):
        raise ItestError(
            "kafka-python waits by time.monotonic, which is replaced here, and might wait for ever; leave it the real one: "
            'freeze_time(..., ignore=["kafka"]), or time-machine from version 3 on'
        )


def close_producer(client: Any, seconds: float) -> None:
    """Close a producer within about that time, whether or not the broker still takes what it holds."""
    # It would leave a transaction open. Its own method to abort one waits for ever; it has none to ask whether there is one.
    with contextlib.suppress(AttributeError, errors().KafkaError):
        aborted = client._transaction_manager.begin_abort()
        client._sender.wakeup()
        aborted.wait(seconds * 1000)
    try:
        client.close(timeout=seconds)
    except errors().KafkaError:
        # Nothing of it is closed then: it insists on sending first. Its thread can only be told to give up by itself.
        with contextlib.suppress(AttributeError):
            client._sender.force_close()
        client.close(timeout=seconds)


def answers(servers: str) -> Check:
    """A broker among the servers describes its cluster to a real client, through the address it advertises."""
    kafka_error = errors().KafkaError

    def ask(instance: Instance) -> None:
        # First a bare request for its versions, over the same address: the client goes on trying by itself, with
        # pauses that grow, and would see neither the moment the broker comes up nor the end of its container.
        hint = "" if instance.owned else NO_PLAINTEXT
        greet(servers, hint)
        try:
            client = make(
                "KafkaAdminClient",
                servers,
                bootstrap_timeout_ms=int(ANSWER_TIMEOUT * 1000),
                request_timeout_ms=int(ANSWER_TIMEOUT * 1000),
                reconnect_backoff_ms=20,
                reconnect_backoff_max_ms=100,
            )
        except errors().KafkaConfigurationError as error:
            raise StartError(
                f"the client of Kafka cannot be used: kafka-python {package().__version__} is installed, and itest needs one "
                f"from 3.0.12 on, below 4: pip install 'itest-containers[kafka]' ({naming.shorten(str(error), 200)})"
            ) from error
        except kafka_error as error:
            if sys.flags.optimize:  # 3.0.12: `assert UnsignedVarInt32.decode(data) == 0` in its tagged_fields.py.
                raise ConnectionError(
                    f"{error}; Python runs without asserts (-O, PYTHONOPTIMIZE), and kafka-python reads answers in some: run "
                    f"the tests with them"
                ) from error
            if hint:
                raise ConnectionError(f"{error}{hint}") from error
            raise
        try:
            if not client.describe_cluster()["brokers"]:
                raise ConnectionError("no broker is registered yet")
        finally:
            client.close()

    return answer(f"a broker at {servers} to answer", ask, (kafka_error, OSError), GREET_PAUSE)


def greet(servers: str, hint: str = "") -> None:
    """Raise OSError unless one of them answers an ApiVersions request, as any broker does since Kafka 0.10. `hint` is said of
    those that are reached and do not."""
    reasons = []
    for host, port in split(servers):
        said = ""
        try:
            with socket.create_connection((host.strip("[]"), port), timeout=ANSWER_TIMEOUT) as connection:
                said = hint
                connection.settimeout(ANSWER_TIMEOUT)
                # Size, API key 18, version 0, correlation id 1, no client id.
                connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
                if connection.recv(8)[4:] == struct.pack(">i", 1):
                    return
            reasons.append(f"{host}:{port} does not answer as a Kafka broker{said}")
        except OSError as error:
            reasons.append(f"{host}:{port}: {error}{said}")
    raise ConnectionError("; ".join(reasons))
