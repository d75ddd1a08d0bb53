# SPDX-License-Identifier: Apache-2.0
"""What Podman answers in other ways than Docker, as Podman 4.3 was seen to."""

from __future__ import annotations

import io
import itertools
import os
import struct
import tarfile
from unittest import mock

from itest.container_options import ContainerOptions, Mount
from itest.engines import RESTARTING, State, docker_link, docker_quick, docker_things, docker_warm, ports
from itest.engines.docker_registry import familiar, tags
from itest.errors import InstanceDied
from itest.reaper import Reaper
from itest.spec import ContainerSpec, Port
from tests.unit.fake_docker import LABELS, FakeDockerTest

NOT_OURS_YET = "203.0.113.1"
NETWORK = {"Id": "feed" * 16, "IPAM": {"Config": [{"Gateway": "fd00::1"}, {"Gateway": NOT_OURS_YET}]}}


class PodmanTest(FakeDockerTest):
    unix = True

    def setUp(self) -> None:
        super().setUp()
        self.server.software = "Libpod/4.3.1 (linux)"

    def test_it_is_known_by_the_head_of_its_answers(self) -> None:
        self.assertTrue(self.engine.is_podman)

    def test_volumes_are_made_with_labels_before_the_container(self) -> None:
        """One that is made with the container has none, and would stay for ever."""
        self.answers["POST /volumes/create"] = (201, {"Name": "itest-s1-data"})
        self.start(ContainerSpec("web:1", options=ContainerOptions(mounts={"/data": Mount("data")})))
        self.assertEqual(self.server.body("POST /volumes/create")["Labels"], LABELS)
        made = [line.split("?")[0] for line in self.server.requests("POST")]
        self.assertLess(made.index("POST /volumes/create"), made.index("POST /containers/create"))

    def test_a_container_that_has_stopped_has_exited(self) -> None:
        instance = self.start()
        state = {"Running": False, "Status": "stopped", "ExitCode": 3}
        self.answers[f"GET /containers/{instance.id}/json"] = {"State": state}
        self.assertEqual(instance.state(), State(False, "exited", 3))

    def test_one_that_has_stopped_is_started_again_where_its_policy_says_so(self) -> None:
        """0.1 s later, with Podman 4.3. Docker calls one that is `restarting`, and running."""
        instance = self.start()
        for policy, times, code, restarts, again in (
            ("always", 0, 0, 5, True),
            ("unless-stopped", 0, 3, 0, True),
            ("on-failure", 0, 3, 5, True),
            ("on-failure", 2, 3, 1, True),
            ("on-failure", 2, 3, 2, False),
            ("on-failure", 2, 0, 1, False),
            ("no", 0, 3, 0, False),
            ("", 0, 3, 0, False),
        ):
            self.answers[f"GET /containers/{instance.id}/json"] = {
                "State": {"Running": False, "Status": "stopped", "ExitCode": code},
                "HostConfig": {"RestartPolicy": {"Name": policy, "MaximumRetryCount": times}},
                "RestartCount": restarts,
            }
            status = RESTARTING if again else "exited"
            with self.subTest(policy, times=times, code=code, restarts=restarts):
                self.assertEqual(instance.state(), State(again, status, code, restarts=restarts))

    def test_one_that_has_ended_has_no_address(self) -> None:
        instance = self.start(ContainerSpec("web:1", ports={"http": Port(80)}))
        self.answers[f"GET /containers/{instance.id}/json"] = {
            "State": {"Running": False, "Status": "exited", "ExitCode": 3},
            "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}},
        }
        with self.assertRaises(InstanceDied) as caught:
            instance.endpoint()
        self.assertEqual(caught.exception.exit_code, 3)

    def test_a_container_has_no_time_to_end_when_it_is_removed(self) -> None:
        """Podman 5 gives it its own, 10 s, also where the removal is to be forced."""
        instance = self.start()
        words = f"DELETE /v4.0.0/libpod/containers/{instance.id}?force=1&volumes=1&timeout=0"
        self.assertEqual(instance.removal(), (words, self.server.server_address))
        instance.stop()
        self.assertEqual(self.server.requests("DELETE"), [words])
        self.answers[words.partition("?")[0]] = (404, {"message": "no container with ID or name found"})
        instance.stop()

    def test_the_reaper_takes_its_word_for_a_removal(self) -> None:
        instance = self.start()
        request, socket = instance.removal()
        self.answers[request.partition("?")[0]] = [{"Id": instance.id}]  # Docker says 204, and nothing.
        reaper = Reaper("s1", {**os.environ, "DOCKER_HOST": f"unix://{socket}"})
        reaper.send(socket, request)
        self.server.asked.clear()
        reaper.close(done=True)
        os.waitpid(reaper._process.pid, 0)
        self.assertEqual([line for line, _, _ in self.server.asked], [request])

    def test_nothing_comes_after_the_end_of_an_archive(self) -> None:
        """Podman does not read what does, and so refused files now and then: "write |1: broken pipe"."""
        self.start(ContainerSpec("web:1", files={"/srv/page": b"x"}))
        [sent] = [body for line, _, body in self.server.asked if line.startswith("PUT ")]
        with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
            self.assertEqual(archive.getnames(), ["srv/page"])
        self.assertEqual(len(sent), 4 * tarfile.BLOCKSIZE, "its facts, its content and the two empty blocks of the end")

    def test_a_variable_that_a_command_is_not_to_have(self) -> None:
        """Docker takes a name without a value for that, Podman for badly formed."""
        instance = self.start()
        self.answers[f"POST /containers/{instance.id}/exec"] = (201, {"Id": "job"})
        self.answers["POST /exec/job/start"] = (200, b"")
        self.answers["GET /exec/job/json"] = {"Running": False, "ExitCode": 0}
        instance.exec(["page", "--all"], env={"HOME": None, "A": "1", "LANG": None})
        asked = self.server.body(f"POST /containers/{instance.id}/exec")
        self.assertEqual(asked["Cmd"], ["env", "-uHOME", "-uLANG", "page", "--all"])
        self.assertEqual(asked["Env"], ["A=1"])
        self.server.asked.clear()
        instance.exec(["page"], env={"A": "1"})
        self.assertEqual(self.server.body(f"POST /containers/{instance.id}/exec")["Cmd"], ["page"])

    def test_the_image_of_a_kept_state_that_is_in_use_stays(self) -> None:
        """By force, Podman would remove the containers that use it: the servers of another run."""
        self.answers["DELETE /images/itest-warm:1"] = (409, {"message": "image is in use by 1 container"})
        self.assertFalse(docker_warm.discard(self.engine, "itest-warm:1"))
        self.assertEqual(self.server.requests("DELETE"), ["DELETE /images/itest-warm:1?force=False&noprune=False"])

    def test_what_it_says_of_input_that_a_command_has_not_read_is_not_the_commands(self) -> None:
        instance = self.start()
        self.answers[f"POST /containers/{instance.id}/exec"] = (201, {"Id": "job"})
        self.answers["GET /exec/job/json"] = {"Running": False, "ExitCode": 3}
        for verb, said in itertools.product(("read", "write"), (b"oops", b"oops\n", b"")):
            told = f"Error: {verb} unixpacket @->/proc/self/fd/16/attach: {verb}: connection reset by peer\n".encode()
            frames = [data for data in (said, told) if data]
            self.answers["POST /exec/job/start"] = b"".join(
                struct.pack(">BxxxL", 2, len(data)) + data for data in frames
            )
            self.assertEqual(instance.exec(["a"], stdin=b"x"), (3, "", said.decode()))
            self.assertEqual(instance.exec(["a"]), (3, "", (said + told).decode()), "a command may say so itself")

    def test_names_of_images(self) -> None:
        for given, name in {
            "docker.io/library/redis:8": "redis:8",
            "docker.io/apache/kafka:4.1.1": "apache/kafka:4.1.1",
            "localhost/mine:1": "mine:1",
            "ghcr.io/library/redis:8": "ghcr.io/library/redis:8",
            "redis:8": "redis:8",
        }.items():
            self.assertEqual(familiar(given), name)

    def test_an_image_without_a_name(self) -> None:
        """By Podman, by Docker before API 1.43, and since."""
        for listed in (None, ["<none>:<none>"], []):
            self.assertEqual(tags({"RepoTags": listed}), [])
        self.assertEqual(tags({"RepoTags": ["redis:8", "mine:1"]}), ["redis:8", "mine:1"])

    def test_an_image_in_a_list_of_containers(self) -> None:
        item = {
            "Id": "a1" * 32,
            "Image": "docker.io/library/redis:8",
            "Labels": LABELS,
            "Created": 1,
            "State": "running",
        }
        self.answers["GET /containers/json"] = [item]
        [found] = self.engine.find(LABELS)
        self.assertEqual(str(found), "container a1a1a1a1a1a1 (redis:8)")
        [thing] = docker_things.things(self.engine)
        self.assertEqual(thing.title, "redis:8")

    def test_its_version_may_take_long(self) -> None:
        """It asks other programs for theirs, which took more than 2 s on a busy machine."""
        self.assertIsNone(self.engine.unavailable())
        with mock.patch.object(docker_link, "connected") as connected:
            self.assertIs(self.engine.client, connected.return_value)
        self.assertEqual(connected.call_args.args[1], docker_quick.API_TIMEOUT)

    def test_the_address_of_this_machine_on_a_network_comes_with_its_first_container(self) -> None:
        self.answers.update({"GET /networks/n1": NETWORK, "GET /info": {"Rootless": False}})
        with mock.patch("sys.platform", "linux"):
            self.assertEqual(self.engine.host_on("n1"), NOT_OURS_YET)
        self.start(ContainerSpec("web:1", ports={"http": Port(80)}, network="n1"))
        hosts = self.server.body("POST /containers/create")["HostConfig"]["ExtraHosts"]
        self.assertEqual(hosts, [f"host.docker.internal:{NOT_OURS_YET}"], "it takes host-gateway for an address")

    def test_what_is_on_a_network_leaves_it_before_it_is_removed(self) -> None:
        """From under a running container Podman removes the network alone, and not its bridge and its ports' rules."""
        self.answers["GET /networks/n1"] = {**NETWORK, "Containers": {"c1": {}, "c2": {}}}
        self.answers["POST /networks/n1/disconnect"] = [lambda _: (404, {"message": "no such"}), lambda _: (200, b"")]
        self.engine.remove_network("n1")
        self.assertEqual(
            [line for line, _, _ in self.server.asked if "/networks/" in line],
            ["GET /networks/n1", *2 * ["POST /networks/n1/disconnect"], "DELETE /networks/n1"],
        )

    def test_it_never_does_where_networks_are_elsewhere(self) -> None:
        self.answers["GET /networks/n1"] = NETWORK
        self.assertIsNotNone(self.engine.client)  # Imported on the real platform.
        for system, info in {"darwin": {"Rootless": False}, "linux": {"Rootless": True}, "linux2": {}}.items():
            self.answers["GET /info"] = info
            with self.subTest(system, **info), mock.patch("sys.platform", system.rstrip("2")):
                self.assertEqual(self.make().host_on("n1"), ports.HOST)
