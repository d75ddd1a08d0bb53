# SPDX-License-Identifier: Apache-2.0
"""Kafka for other containers: one on the broker's network produces and consumes by the inside address alone."""

from __future__ import annotations

import unittest
from dataclasses import replace
from typing import Any

from itest import Kafka, naming
from itest.clock import Deadline
from itest.config import load
from itest.errors import Unavailable
from itest.services.kafka import recipes
from itest.session import Session
from itest.spec import ContainerSpec
from itest.trace import Recorder
from itest.wait import exec as command

CONSOLE = f"{recipes.HOME}/bin/kafka-console-"


class InsideTest(unittest.TestCase):
    def setUp(self) -> None:
        config = replace(load(), engine="docker", quiet=True)
        self.session = Session(config)
        self.addCleanup(self.session.close)
        service = Kafka(topics={"orders": 3})
        try:
            self.server: Any = self.session.lend(service)
        except Unavailable as error:
            if config.require in ("1", "docker"):
                raise
            self.skipTest(str(error))
        self.lease = self.server.lease(service, "C")
        self.addCleanup(self.lease.close)
        self.lease.seal()
        self.view = self.lease.reset("C.test")
        self.addCleanup(self.view.close)

    def other(self) -> Any:
        """Another container, on a network with the broker's."""
        engine: Any = self.session._engines.docker()
        labels = {naming.SESSION: self.session.id, naming.SERVICE: "test", naming.OWNER: naming.owner()}
        self.addCleanup(engine.remove, labels)
        network = engine.network("kafka", labels)
        engine.connect(self.server.instance, network, ["kafka"])
        spec = ContainerSpec(recipes.IMAGE, entrypoint=("sleep", "600"), network=network)
        instance = engine.start(spec, labels, Deadline.after(30), Recorder())
        command("true")(instance)
        return instance

    def run_in(self, instance: Any, script: str) -> str:
        done = instance.exec(["sh", "-c", script], timeout=60)
        self.assertEqual(done.exit_code, 0, done)
        return str(done.stdout)

    def test_it_produces_and_consumes(self) -> None:
        other, topic = self.other(), self.view.topic("orders")
        address = f"--bootstrap-server {self.view.internal_bootstrap_servers} --topic {topic}"
        self.run_in(other, f"printf 'book\\npen\\n' | {CONSOLE}producer.sh {address}")
        self.assertEqual({each.value for each in self.view.queue.receive("orders", count=2)}, {b"book", b"pen"})
        self.view.queue.send("orders", b"ink")
        got = self.run_in(other, f"{CONSOLE}consumer.sh {address} --from-beginning --max-messages 3 --timeout-ms 30000")
        self.assertEqual(set(got.split()), {"book", "pen", "ink"})

    def test_by_its_name_on_the_network_too(self) -> None:
        address = f"--bootstrap-server kafka:{recipes.INTERNAL_PORT} --topic {self.view.topic('orders')}"
        self.run_in(self.other(), f"echo book | {CONSOLE}producer.sh {address}")
        self.assertEqual([each.value for each in self.view.queue.receive("orders", count=1)], [b"book"])
