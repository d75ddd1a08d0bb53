# SPDX-License-Identifier: Apache-2.0
"""The docker engine against a real Docker. After each test, nothing may be left under its labels."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import unittest
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from itest import naming, wait
from itest.clock import Deadline, wall
from itest.config import load
from itest.engines import docker
from itest.engines.docker import DockerEngine
from itest.errors import ImageError, InstanceDied, PortTaken, StartError
from itest.spec import ContainerSpec, Port
from itest.trace import Recorder
from tests.integration.needs import need_docker

IMAGE = "busybox:1.37"
SLEEP = ContainerSpec(IMAGE, command=("sleep", "600"))
WEB = ContainerSpec(
    IMAGE,
    command=("sh", "-c", "echo hello > /index.html; exec httpd -f -p 80 -h /"),
    ports={"http": Port(80), "unused": Port(81)},
)


def setUpModule() -> None:
    need_docker()


class DockerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = DockerEngine(load())
        self.addCleanup(self.engine.close)
        self.labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "test", naming.OWNER: naming.owner()}
        self.addCleanup(self.check_nothing_is_left)
        self.trace = Recorder()

    def check_nothing_is_left(self) -> None:
        try:
            self.assertEqual(list(map(str, self.engine.find(self.labels))), [])
        finally:
            self.engine.remove(self.labels)

    def start(self, spec: ContainerSpec, **labels: str) -> Any:
        instance = self.engine.start(spec, {**self.labels, **labels}, Deadline.after(60), self.trace)
        self.addCleanup(instance.stop)
        return instance

    def run_to_end(self, *command: str) -> Any:
        instance = self.start(ContainerSpec(IMAGE, command=command))
        deadline = Deadline.after(30)
        while instance.state().running and not deadline.passed:
            deadline.pause(0.02)
        return instance


class StartTest(DockerTest):
    def test_a_port_is_published_on_the_loopback_address_and_answers(self) -> None:
        instance = self.start(WEB)
        wait.until_ready(wait.http("/index.html", body="hello"), instance, Deadline.after(30), subject="web")
        endpoint = instance.endpoint("http")
        if endpoint.host == "127.0.0.1":
            ports = self.inspect(instance)["NetworkSettings"]["Ports"]
            self.assertEqual(ports["80/tcp"], [{"HostIp": "127.0.0.1", "HostPort": str(endpoint.port)}])
        self.assertNotEqual(instance.endpoint("unused"), endpoint)
        self.assertRegex(str(instance), r"^container [0-9a-f]{12} \(busybox:1\.37\)$")

    def test_a_chosen_port_is_known_to_the_container(self) -> None:
        instance = self.start(
            ContainerSpec(
                IMAGE,
                env={"ADVERTISED": "{endpoint:main}"},
                command=("sh", "-c", 'echo "$ADVERTISED {port:main}"; exec httpd -f -p 80'),
                ports={"main": Port(80, chosen=True)},
            )
        )
        wait.until_ready(wait.http("/", status=404), instance, Deadline.after(30), subject="web")
        endpoint = instance.endpoint()
        self.assertEqual(instance.logs(), f"{endpoint} {endpoint.port}\n")

    def test_tmpfs(self) -> None:
        instance = self.start(ContainerSpec(IMAGE, command=("sleep", "600"), tmpfs={"/data": 8 * 2**20, "/cache": 0}))
        mounts = instance.exec(["mount"]).stdout
        self.assertRegex(mounts, r"tmpfs on /data type tmpfs \(rw,.*size=8192k")
        self.assertIn("tmpfs on /cache type tmpfs (rw,", mounts)

    def test_labels_are_as_given(self) -> None:
        instance = self.start(SLEEP, extra="a=b c")
        labels = self.inspect(instance)["Config"]["Labels"]
        self.assertEqual(labels["extra"], "a=b c")
        self.assertEqual(labels[naming.SESSION], self.labels[naming.SESSION])

    def test_many_at_once(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            instances = list(pool.map(lambda _: self.start(WEB), range(4)))
        self.assertEqual(len({instance.endpoint() for instance in instances}), 4)
        self.assertEqual(len(self.engine.find(self.labels)), 4)
        self.assertEqual(self.engine.remove(self.labels), 4)

    def inspect(self, instance: Any) -> dict[str, Any]:
        return dict(instance._client.inspect_container(instance.id))


class BadInputTest(DockerTest):
    def test_an_image_that_does_not_exist(self) -> None:
        # Whether the registry says so or cannot be reached depends on the machine; the sentence's frame does not.
        image = "itest-containers/does-not-exist:1"
        with self.assertRaises(ImageError) as caught:
            self.start(ContainerSpec(image))
        text = str(caught.exception)
        self.assertTrue(text.startswith(f"image {image} is not on the Docker host and could not be pulled: "), text)
        self.assertRegex(text, "; (the name is wrong or the image is|the registry has no such|the Docker host cannot)")
        self.assertEqual([span.failed for span in self.trace.spans if span.name == "pull"], [True])

    def test_a_registry_that_cannot_be_reached(self) -> None:
        with self.assertRaises(ImageError) as caught:
            self.start(ContainerSpec("localhost:1/web:1"))
        self.assertRegex(
            str(caught.exception),
            r"^image localhost:1/web:1 is not on the Docker host and could not be pulled: .*connection refused.*; the "
            r"Docker host cannot reach the registry localhost:1: check its network, proxy or mirror, or bring the "
            r"image with `docker load`$",
        )

    def test_a_name_that_is_none(self) -> None:
        with self.assertRaisesRegex(ImageError, r"write it as \[registry/\]name\[:tag\]$"):
            self.start(ContainerSpec("Not A Name"))

    def test_a_program_that_does_not_exist(self) -> None:
        with self.assertRaisesRegex(StartError, "^could not start image busybox:1.37, Docker says: .*no-such-program"):
            self.start(ContainerSpec(IMAGE, command=("no-such-program",)))

    def test_a_container_that_exits_at_once(self) -> None:
        instance = self.start(
            ContainerSpec(IMAGE, command=("sh", "-c", "echo no password given >&2; exit 3"), ports={"http": Port(80)})
        )
        with self.assertRaises(InstanceDied) as caught:
            wait.until_ready(wait.http(), instance, Deadline.after(30), subject="Web (image busybox)")
        self.assertEqual(caught.exception.exit_code, 3)
        self.assertIn("exited with exit code 3", str(caught.exception))
        self.assertIn("  | no password given", caught.exception.__notes__[0])
        instance.stop()

    def test_the_endpoint_of_a_container_that_has_exited(self) -> None:
        instance = self.start(ContainerSpec(IMAGE, command=("sh", "-c", "echo oops; exit 3"), ports={"http": Port(80)}))
        deadline = Deadline.after(30)
        while instance.state().running and not deadline.passed:
            deadline.pause(0.02)
        deadline = Deadline.after(2)
        with self.assertRaises(InstanceDied) as caught:
            instance.endpoint()
        self.assertFalse(deadline.passed, "it must not wait for a container that has ended")
        self.assertEqual(caught.exception.exit_code, 3)
        self.assertIn("oops", caught.exception.__notes__[0])

    def test_a_port_that_is_taken_between_choice_and_start(self) -> None:
        spec = ContainerSpec(IMAGE, command=("sleep", "600"), ports={"main": Port(80, chosen=True)})
        first = self.start(spec)
        with mock.patch.object(docker, "free_port", return_value=first.endpoint().port):
            with self.assertRaisesRegex(PortTaken, "port is already allocated|address already in use"):
                self.start(spec)
            self.assertEqual([instance.id for instance in self.engine.find(self.labels)], [first.id])

    def test_a_port_that_another_program_listens_on(self) -> None:
        if self.engine.address.host != "127.0.0.1":
            self.skipTest("Docker is on another machine")
        spec = ContainerSpec(IMAGE, command=("sleep", "600"), ports={"main": Port(80, chosen=True)})
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            mock.patch.object(docker, "free_port", return_value=other.getsockname()[1]),
            self.assertRaises(PortTaken),
        ):
            self.start(spec)
        self.assertEqual(self.engine.find(self.labels), [])

    def test_an_interrupt_between_create_and_start(self) -> None:
        client = self.engine.client
        with mock.patch.object(client, "start", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            self.start(SLEEP)


class InstanceTest(DockerTest):
    def test_state(self) -> None:
        instance = self.run_to_end("sh", "-c", "exit 7")
        self.assertEqual((instance.state().running, instance.state().exit_code), (False, 7))
        self.assertEqual(str(instance.state()), "exited with exit code 7")
        instance.stop()
        self.assertEqual(str(instance.state()), "removed")
        self.assertEqual(instance.logs(), "")
        self.assertEqual(instance.exec(["true"]).exit_code, 125)

    def test_logs(self) -> None:
        says = ("echo one", "echo two >&2", "printf 'three \\377\\n'", "echo late")
        script = "; ".join(f"until [ -e /{number} ]; do usleep 20000; done; {say}" for number, say in enumerate(says))
        instance = self.start(ContainerSpec(IMAGE, command=("sh", "-c", f"{script}; sleep 99")))
        for number, said in enumerate(("one", "two", "three", "late")):  # Docker reads two streams side by side.
            moment = wall()
            instance.exec(["touch", f"/{number}"])
            wait.until_ready(wait.log(said), instance, Deadline.after(30), subject="script")
        self.assertEqual(instance.logs(), "one\ntwo\nthree \ufffd\nlate\n")
        self.assertEqual(instance.logs(tail=2), "three \ufffd\nlate\n")
        self.assertEqual(instance.logs(tail=0), "")
        self.assertEqual(instance.logs(since=moment), "late\n")

    def test_exec(self) -> None:
        instance = self.start(SLEEP)
        result = instance.exec(["sh", "-c", "echo out; printf 'err \\377' >&2; exit 3"])
        self.assertEqual(result, (3, "out\n", "err \ufffd"))
        self.assertEqual(instance.exec(["cat", "/dev/null"]), (0, "", ""))
        refused = instance.exec(["no-such-program"])
        self.assertEqual((refused.exit_code, refused.stdout), (127, ""))
        self.assertIn("no-such-program", refused.stderr)
        large = instance.exec(["sh", "-c", "head -c 3000000 /dev/zero"])
        self.assertEqual(len(large.stdout), 3000000)

    def test_exec_has_a_time_limit(self) -> None:
        instance = self.start(SLEEP)
        for script in ("sleep 30", "while true; do echo; done"):
            deadline = Deadline.after(5)
            with self.subTest(script), self.assertRaisesRegex(TimeoutError, "had not ended after 0.5 s"):
                instance.exec(["sh", "-c", script], timeout=0.5)
            self.assertFalse(deadline.passed)

    def test_stop_from_two_threads(self) -> None:
        instance = self.start(SLEEP)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(instance.stop), pool.submit(instance.stop)]:
                done.result()
        self.assertEqual(instance.state().status, "removed")

    def test_one_engine_on_many_threads(self) -> None:
        instance = self.start(SLEEP)

        def use(number: int) -> None:
            for turn in range(10):
                self.assertTrue(instance.state().running)
                self.assertEqual(self.engine.find({**self.labels, "no": "such"}), [])
                if turn % 5 == 0:
                    self.assertEqual(instance.exec(["echo", f"{number}"]).stdout, f"{number}\n")

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(use, range(12)))


class FindTest(DockerTest):
    def test_from_another_engine(self) -> None:
        instance = self.start(WEB)
        other = DockerEngine(load())
        self.addCleanup(other.close)
        [found] = other.find(self.labels)
        self.assertEqual((found.id, found.endpoint("http")), (instance.id, instance.endpoint("http")))
        self.assertEqual(str(found), str(instance))

    def test_every_label_must_match(self) -> None:
        self.start(SLEEP, colour="red")
        blue = self.start(SLEEP, colour="blue")
        self.assertEqual([found.id for found in self.engine.find({**self.labels, "colour": "blue"})], [blue.id])
        self.assertEqual(self.engine.remove({**self.labels, "colour": "blue"}), 1)
        self.assertEqual(len(self.engine.find(self.labels)), 1)
        self.assertEqual(self.engine.remove({**self.labels, "colour": "green"}), 0)
        self.assertEqual(self.engine.remove(self.labels), 1)

    def test_what_has_ended_is_found_too(self) -> None:
        self.run_to_end("true")
        self.assertEqual(self.engine.remove(self.labels), 1)

    def test_networks_are_removed_too(self) -> None:
        client = self.engine.client
        network = client.create_network(f"itest-{self.labels[naming.SESSION]}", labels=self.labels)["Id"]
        self.assertEqual(self.engine.remove(self.labels), 1)
        self.assertEqual(client.networks(ids=[network]), [])

    def test_two_that_remove_the_same(self) -> None:
        for _ in range(3):
            self.start(SLEEP)
        threads = [threading.Thread(target=self.engine.remove, args=(self.labels,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(self.engine.find(self.labels), [])


class QuietTest(DockerTest):
    def test_nothing_stays_open_after_close(self) -> None:
        gc.collect()  # What earlier tests have left to be collected may warn, too.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            engine = DockerEngine(load())
            instance = engine.start(WEB, self.labels, Deadline.after(60), self.trace)
            instance.endpoint()
            instance.exec(["true"])
            instance.logs()
            instance.stop()
            engine.close()
            del engine, instance
            gc.collect()
        self.assertEqual([str(warning.message) for warning in caught], [])

    def test_a_process_that_only_asks_ends_quietly(self) -> None:
        script = (
            "from itest.config import load; from itest.engines.docker import DockerEngine\n"
            "engine = DockerEngine(load()); assert engine.unavailable() is None; engine.close()"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


if __name__ == "__main__":
    unittest.main()
