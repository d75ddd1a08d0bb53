# SPDX-License-Identifier: Apache-2.0
"""What is changed of a Compose project, and what is not."""

from __future__ import annotations

import copy
import itertools
import unittest
from pathlib import Path
from typing import Any, ClassVar

from itest import naming
from itest.engines import compose_model, docker_built
from itest.spec import ComposeSpec

MODEL: dict[str, Any] = {
    "name": "itest-1",
    "services": {
        "web": {
            "build": {"context": "/shop"},
            "container_name": "shop",
            "depends_on": {"db": {"condition": "service_healthy"}, "queue": {"condition": "service_started"}},
            "networks": {"default": None, "back": {"aliases": ["w"]}},
            "ports": [
                {"mode": "ingress", "target": 80, "published": "8000", "protocol": "tcp"},
                {"mode": "ingress", "target": 80, "published": "8001", "protocol": "tcp", "host_ip": "0.0.0.0"},
                {"mode": "ingress", "target": 53, "published": "53", "protocol": "udp"},
            ],
        },
        "db": {
            "image": "postgres:17",
            "healthcheck": {"test": ["CMD", "pg_isready"], "interval": "1m30s", "retries": 2, "start_period": "5s"},
            "labels": {"theirs": "yes"},
            "profiles": ["full"],
        },
        "queue": {"image": "redis:8", "network_mode": "host", "container_name": "queue"},
    },
    "networks": {
        "default": {"name": "itest-1_default"},
        "back": {"name": "fixed"},
        "out": {"name": "o", "external": True},
    },
    "volumes": {"data": {"name": "fixed"}, "plain": None},
}
LABELS = {naming.SESSION: "abc", "money": "5$"}


def spec(**fields: Any) -> ComposeSpec:
    return ComposeSpec((Path("/shop/compose.yaml"),), **fields)


def isolated(wanted: ComposeSpec, model: dict[str, Any] = MODEL, **options: Any) -> dict[str, Any]:
    ports = itertools.count(40000)
    before = copy.deepcopy(model)
    result = compose_model.isolated(model, wanted, LABELS, lambda: ("127.0.0.1", str(next(ports))), **options)
    assert model == before, "the model that was read is not changed"
    return result


class IsolatedTest(unittest.TestCase):
    def test_all_ports_are_published_on_the_loopback_by_ports_of_the_run(self) -> None:
        services = isolated(spec(ports={"db": (5432,), "web": (80, 90)}))["services"]
        self.assertEqual(
            [
                (port["target"], port["protocol"], port["host_ip"], port.get("published"))
                for port in services["web"]["ports"]
            ],
            [(80, "tcp", "127.0.0.1", "40000"), (53, "udp", "127.0.0.1", None), (90, "tcp", "127.0.0.1", "40002")],
        )
        self.assertEqual(services["db"]["ports"][0]["target"], 5432)
        self.assertNotIn("ports", services["queue"])

    def test_several_containers_of_a_service_get_ports_from_docker(self) -> None:
        model = copy.deepcopy(MODEL)
        model["services"]["web"]["deploy"] = {"replicas": 2}
        self.assertNotIn("published", isolated(spec(), model)["services"]["web"]["ports"][0])

    def test_a_container_name_becomes_a_name_on_its_networks(self) -> None:
        services = isolated(spec())["services"]
        self.assertNotIn("container_name", services["web"])
        self.assertEqual(
            services["web"]["networks"], {"default": {"aliases": ["shop"]}, "back": {"aliases": ["w", "shop"]}}
        )
        self.assertNotIn("container_name", services["queue"])
        self.assertNotIn("networks", services["queue"])

    def test_everything_has_the_labels_but_what_is_not_of_the_project(self) -> None:
        result = isolated(spec())
        ours = {naming.SESSION: "abc", "money": "5$$"}
        self.assertEqual(result["services"]["db"]["labels"], {"theirs": "yes", **ours})
        self.assertEqual(result["networks"]["back"], {"name": "itest-1_back", "labels": ours})
        self.assertEqual(result["networks"]["out"], {"name": "o", "external": True})
        self.assertEqual(
            result["volumes"],
            {"data": {"name": "itest-1_data", "labels": ours}, "plain": {"name": "itest-1_plain", "labels": ours}},
        )

    def test_an_image_that_is_built_has_one_name_for_all_runs(self) -> None:
        web = isolated(spec(), cache="me")["services"]["web"]
        self.assertRegex(web["image"], r"^itest-build:[0-9a-f]{16}$")
        self.assertEqual(web, isolated(spec(), cache="me")["services"]["web"])
        self.assertEqual(
            web["build"]["labels"],
            {
                docker_built.FINGERPRINT: web["image"].partition(":")[2],
                docker_built.RECIPE: "/shop/compose.yaml, service web",
                docker_built.CACHE: "me",
            },
        )
        model = copy.deepcopy(MODEL)
        model["services"]["web"]["image"] = "shop:latest"
        web = isolated(spec(), model)["services"]["web"]
        self.assertEqual((web["image"], web["build"]), ("shop:latest", {"context": "/shop"}))

    def test_profiles_were_chosen_already(self) -> None:
        self.assertNotIn("profiles", isolated(spec())["services"]["db"])

    def test_on_the_network_of_the_class_the_main_service_has_its_name(self) -> None:
        result = isolated(spec(ready={"web": ("",)}, aliases=("stack",)), network="itest-orders-1")
        web, db = result["services"]["web"], result["services"]["db"]
        self.assertEqual(web["networks"][compose_model.CLASS_NETWORK], {"aliases": ["stack"]})
        self.assertEqual(db["networks"][compose_model.CLASS_NETWORK], {"aliases": []})
        self.assertEqual(web["extra_hosts"], ["host.docker.internal:host-gateway"])
        self.assertEqual(result["networks"][compose_model.CLASS_NETWORK], {"name": "itest-orders-1", "external": True})
        self.assertNotIn("networks", result["services"]["queue"])

    def test_on_the_network_of_the_class_this_machine_has_the_address_it_has_there(self) -> None:
        db = isolated(spec(), network="itest-orders-1", host="172.18.0.1")["services"]["db"]
        self.assertEqual(db["extra_hosts"], ["host.docker.internal:172.18.0.1"])

    def test_hosts_of_the_file_stay(self) -> None:
        model = copy.deepcopy(MODEL)
        for hosts, expected in (
            (["a=1.2.3.4"], ["a=1.2.3.4", "host.docker.internal:host-gateway"]),
            (["host.docker.internal=1.2.3.4"], ["host.docker.internal=1.2.3.4"]),
            ({"a": ["1.2.3.4"]}, {"host.docker.internal": "host-gateway", "a": ["1.2.3.4"]}),
        ):
            model["services"]["db"]["extra_hosts"] = hosts
            self.assertEqual(isolated(spec(), model, network="n")["services"]["db"]["extra_hosts"], expected)


class FollowedTest(unittest.TestCase):
    def followed(self, **app: Any) -> dict[str, Any]:
        services = {"app": app, "vpn": {"container_name": "shop-vpn"}}
        before = copy.deepcopy(services)
        found = compose_model.followed(services)
        self.assertEqual(services, before)
        app: dict[str, Any] = found["app"]
        return app

    def test_who_names_a_container_of_the_project_means_its_service(self) -> None:
        for key in ("network_mode", "ipc", "pid"):
            self.assertEqual(self.followed(**{key: "container:shop-vpn"}), {key: "service:vpn"})
        self.assertEqual(
            self.followed(volumes_from=["container:shop-vpn:ro", "container:shop-vpn", "vpn"]),
            {"volumes_from": ["vpn:ro", "vpn", "vpn"]},
        )
        self.assertEqual(
            self.followed(external_links=["shop-vpn:gate", "shop-vpn"], links=["vpn"]),
            {"links": ["vpn", "vpn:gate", "vpn:shop-vpn"]},
        )

    def test_what_is_not_of_the_project_stays(self) -> None:
        app = {
            "network_mode": "container:other",
            "ipc": "host",
            "volumes_from": ["vpn", "container:other:ro"],
            "external_links": ["other:o"],
        }
        self.assertEqual(self.followed(**app), app)


class HastenTest(unittest.TestCase):
    OF_IMAGE: ClassVar[dict[str, Any]] = {
        "Test": ["CMD-SHELL", "wget $URL"],
        "Interval": 60_000_000_000,
        "Timeout": 2_000_000_000,
        "StartPeriod": 0,
        "StartInterval": 5_000_000_000,
    }

    def hastened(self, check: Any, of_image: Any = None, start_interval: bool = False) -> Any:
        service = {"image": "postgres:17", **({} if check is None else {"healthcheck": check})}
        before = copy.deepcopy(check)
        compose_model.hasten(service, of_image or {}, start_interval)
        self.assertEqual(check, before, "the model that was read is not changed")
        return service.get("healthcheck")

    def test_health_checks_run_more_often_and_give_up_after_the_same_time(self) -> None:
        given = MODEL["services"]["db"]["healthcheck"]
        check = self.hastened(given)
        self.assertEqual((check["interval"], check["retries"], check["start_period"]), ("1s", 180, "5s"))
        check = self.hastened(given, start_interval=True)
        self.assertEqual((check["interval"], check["retries"]), ("1m30s", 2))
        self.assertEqual((check["start_interval"], check["start_period"]), ("200ms", "185s"))

    def test_health_checks_that_run_often_stay_as_they_are(self) -> None:
        for check in ({"test": ["NONE"], "disable": True}, {"test": ["CMD", "x"], "interval": "500ms"}, {"retries": 9}):
            self.assertEqual(self.hastened(check), check)
        self.assertIsNone(self.hastened(None))

    def test_those_of_images_do_so_too(self) -> None:
        test = ["CMD-SHELL", "wget $$URL"]
        self.assertEqual(
            self.hastened(None, self.OF_IMAGE),
            {"test": test, "interval": "1s", "retries": 180, "timeout": "2s"},
        )
        self.assertEqual(
            self.hastened(None, {"Test": ["CMD", "x"], "Retries": 2})["retries"], 60
        )  # 30 s is the default.
        check = self.hastened(None, self.OF_IMAGE, start_interval=True)
        self.assertEqual((check["start_interval"], check["start_period"]), ("200ms", "180s"))
        self.assertIsNone(self.hastened(None, {"Test": ["NONE"]}))

    def test_what_the_file_says_of_a_check_comes_before_what_its_image_says(self) -> None:
        check = self.hastened({"test": ["CMD", "x"], "timeout": "9s", "retries": 2}, self.OF_IMAGE)
        self.assertEqual(check, {"test": ["CMD", "x"], "interval": "1s", "retries": 120, "timeout": "9s"})
        self.assertEqual(self.hastened({"interval": "1s"}, self.OF_IMAGE), {"interval": "1s"})
        self.assertEqual(self.hastened({"disable": True}, self.OF_IMAGE), {"disable": True})


class ChosenTest(unittest.TestCase):
    def chosen(self, **fields: Any) -> dict[str, Any]:
        return compose_model.chosen(MODEL["services"], spec(**fields))

    def test_all(self) -> None:
        self.assertEqual(list(self.chosen()), ["web", "db", "queue"])

    def test_some_and_what_they_depend_on(self) -> None:
        self.assertEqual(list(self.chosen(services=("queue",))), ["queue"])
        self.assertEqual(list(self.chosen(services=("queue", "web"))), ["web", "db", "queue"])

    def test_nothing_is_linked_to_what_is_left_out(self) -> None:
        services = {"app": {"links": ["db:database", "db", "queue:q"]}, "db": {}, "queue": {}}
        self.assertEqual(compose_model.chosen(services, spec(without=("db",)))["app"], {"links": ["queue:q"]})

    def test_what_it_stands_and_falls_with(self) -> None:
        service = {"network_mode": "service:db", "ipc": "host", "volumes_from": ["db:ro", "container:other"]}
        self.assertEqual(
            list(compose_model.ties(service)), [("network_mode: service:db", "db"), ("volumes_from: db:ro", "db")]
        )

    def test_nothing_depends_on_what_is_left_out(self) -> None:
        found = self.chosen(services=("web",), without=("db",))
        self.assertEqual(list(found), ["web", "queue"])
        self.assertEqual(found["web"]["depends_on"], {"queue": {"condition": "service_started"}})
        self.assertNotIn("depends_on", self.chosen(without=("db", "queue"))["web"])


class NamesTest(unittest.TestCase):
    def test_all_by_which_others_call_a_service(self) -> None:
        services: dict[str, Any] = {
            "web": {"container_name": "shop", "networks": {"default": None, "back": {"aliases": ["w"]}}},
            "db": {"networks": {"back": {}}},
            "sidecar": {"network_mode": "service:web", "container_name": "side"},
        }
        self.assertEqual(compose_model.names(services), {"web": "web", "shop": "web", "w": "web", "db": "db"})


class LastingTest(unittest.TestCase):
    def lasting(self, **fields: Any) -> set[str]:
        waits = {"job": {"condition": "service_completed_successfully"}, "db": {"condition": "service_healthy"}}
        services: dict[str, Any] = {"web": {"ports": [1], "depends_on": waits}, "job": {"ports": [1]}, "db": {}}
        return compose_model.lasting(services, spec(**fields))

    def test_what_publishes_ports_and_nobody_waits_for_its_end(self) -> None:
        self.assertEqual(self.lasting(), {"web"})

    def test_what_is_asked_whether_it_is_ready(self) -> None:
        self.assertEqual(self.lasting(ready={"db": ()}), {"web", "db"})

    def test_what_is_ready_when_it_has_ended_is_a_job(self) -> None:
        self.assertEqual(self.lasting(ready={"web": (), "db": ()}, jobs=("web", "db")), set())


class MainTest(unittest.TestCase):
    def main(self, services: dict[str, Any], /, **fields: Any) -> str:
        return compose_model.main({name: {"ports": value} for name, value in services.items()}, spec(**fields))

    def test_the_only_one_that_publishes(self) -> None:
        self.assertEqual(self.main({"a": None, "b": [1]}), "b")

    def test_one_of_several_that_the_declaration_names(self) -> None:
        self.assertEqual(self.main({"a": [1], "b": [1]}), "")
        self.assertEqual(self.main({"a": [1], "b": [1]}, ready={"b": ("",)}), "b")
        self.assertEqual(self.main({"a": [1], "b": [1]}, ready={"b": ("",)}, services=("a", "b")), "a")
        self.assertEqual(self.main({"a": None, "b": None}, ports={"b": (1,)}), "b")

    def test_none(self) -> None:
        self.assertEqual(self.main({"a": None}), "")
