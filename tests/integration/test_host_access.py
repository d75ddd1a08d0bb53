# SPDX-License-Identifier: Apache-2.0
"""A server in the test process, reached from containers, and from nowhere else."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any
from unittest import mock

from itest import App, Container, ContainerTestCase, Network, Redis, RedisMixin, naming, session
from itest.engines import HOST_INSIDE, docker_network
from itest.engines.docker_instance import DockerInstance


class HostTest(ContainerTestCase):
    network = Network()
    box = Container("busybox:1.37", command="sleep 600")

    def test_a_container_reaches_it(self) -> None:
        with socket.create_server((self.network.host, 0)) as listener:
            answered = threading.Thread(target=self.answer, args=(listener,))
            answered.start()
            port = listener.getsockname()[1]
            said = self.box.exec(["nc", "-w", "20", HOST_INSIDE, str(port)])
            answered.join(30)
        self.assertEqual((said.exit_code, said.stdout), (0, "here\n"), said)

    def answer(self, listener: socket.socket) -> None:
        listener.settimeout(30)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"here\n")

    def test_the_address_is_one_of_this_machine_but_not_all_of_them(self) -> None:
        self.assertNotIn(self.network.host, ("", "0.0.0.0"))
        other = "127.0.0.1" if self.network.host != "127.0.0.1" else "127.0.0.2"
        for _ in range(16):
            with (
                # A connection of others may have that very port there, even an ended one.
                contextlib.suppress(OSError),
                socket.create_server((self.network.host, 0)) as listener,
                socket.socket() as elsewhere,
            ):
                elsewhere.bind((other, listener.getsockname()[1]))
                return
        self.fail(f"who listens on {self.network.host} has the port on {other} too")

    def test_it_is_asked_once(self) -> None:
        engine: Any = self.network._engine
        with mock.patch.object(docker_network, "gateway", side_effect=AssertionError):
            self.assertEqual(engine.host_on(self.network.id), self.network.host)


class BesideOthersTest(ContainerTestCase):
    """A container that outlives the class is on its network too, but does not know that name."""

    network = Network()
    box = Container("busybox:1.37", command="sleep 600")
    redis = Redis()

    def test_the_network_is_the_same(self) -> None:
        hosts = self.box.exec(["cat", "/etc/hosts"]).stdout
        self.assertRegex(hosts, rf"{self.network.host}\s+{HOST_INSIDE}")
        self.assertEqual(self.box.exec(["nc", "-w", "5", "redis", "6379"], stdin="QUIT\r\n").exit_code, 0)


async def receiver(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the address at which it was called."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": scope["server"][0].encode()})


class AppTest(ContainerTestCase):
    """An app of the test process is called by containers, and by the test."""

    network = Network()
    receiver = App.asgi(receiver, factory=False)
    caller = Container("busybox:1.37", command=["wget", "-qO-", "{receiver.url}"], job=True)

    def test_a_container_has_called_it(self) -> None:
        self.assertEqual(self.caller.logs().strip(), self.network.host)

    def test_the_test_calls_it_on_the_loopback(self) -> None:
        self.assertEqual(self.receiver.client.get("/").text, "127.0.0.1")

    def test_after_a_restart_too(self) -> None:
        self.receiver.server.instance.restart()
        port = self.receiver.port
        with socket.create_connection((self.network.host, port), timeout=5):
            self.assertEqual(self.receiver.client.get("/").text, "127.0.0.1")


class SharedTest(RedisMixin, ContainerTestCase):
    """A class that declares a network has one though its servers are shared ones, and they join it."""

    network = Network({"redis": ["store"]})

    def test_it_is_there_by_its_names(self) -> None:
        instance = self.redis.server.instance
        if not isinstance(instance, DockerInstance):
            self.skipTest("Redis is a local process")
        client = instance._client
        box = client.create_container(
            "busybox:1.37",
            command=["nc", "-w", "20", "store", "6379"],
            labels={naming.SESSION: session.current().id},
            host_config=client.create_host_config(network_mode=self.network.id),
        )["Id"]
        self.addCleanup(client.remove_container, box, force=True)
        client.start(box)
        self.assertEqual(client.wait(box, timeout=60)["StatusCode"], 0)


class AloneTest(ContainerTestCase):
    """Without containers in its class an app listens on the loopback only."""

    receiver = App.asgi(receiver, factory=False)

    def test_one_address(self) -> None:
        instance: Any = self.receiver.server.instance
        self.assertEqual([len(found) for found in instance._listeners.values()], [1])
