# SPDX-License-Identifier: Apache-2.0
"""Every engine does what the protocol says."""

from __future__ import annotations

from itest import testing
from itest.config import load
from itest.engines import Engine
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.spec import ContainerSpec, Port, ProcessSpec, Spec

SAY_READY = ("/bin/sh", "-c", "echo getting there; echo ready; exec sleep 600")


class MemoryEngineTest(testing.EngineConformance):
    def engine(self) -> Engine:
        return testing.MemoryEngine(prepare=lambda instance: setattr(instance, "log", "getting there\nready\n"))

    def spec(self) -> Spec:
        return ContainerSpec("memory:1", ports={"one": Port(1), "two": Port(2)})


class ProcessEngineTest(testing.EngineConformance):
    def engine(self) -> Engine:
        return ProcessEngine(load())

    def spec(self) -> Spec:
        return ProcessSpec("a shell", SAY_READY, ports=("one", "two"))


class DockerEngineTest(testing.EngineConformance):
    def engine(self) -> Engine:
        config = load()
        engine = DockerEngine(config)
        if config.require == "docker" and (reason := engine.unavailable()):
            engine.close()
            self.fail(reason)  # Asked for: a skip would be a green build without Docker.
        return engine

    def spec(self) -> Spec:
        return ContainerSpec("busybox:1.37", command=SAY_READY, ports={"one": Port(8001), "two": Port(8002)})
