# SPDX-License-Identifier: Apache-2.0
"""docs/ci.md: what it shows is what it says it is, and its variables are settings there are."""

from __future__ import annotations

import configparser
import re
import unittest
from typing import Any

from itest.config import load
from tests.documents import ROOT, files_in

PAGE = ROOT / "docs" / "ci.md"
VARIABLE = re.compile(r"\b(?:ITEST|DOCKER)_[A-Z_]+\b")
DOCKERS = {"DOCKER_HOST", "DOCKER_TLS_CERTDIR", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_AUTH_CONFIG"}


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.text = PAGE.read_text(encoding="utf-8")
        cls.files = files_in(cls.text)

    def yaml(self, name: str) -> Any:
        import yaml

        return yaml.safe_load(self.files[name])

    def variables(self, document: Any) -> dict[str, str]:
        """All variables that the document sets, whatever for."""
        found: dict[str, str] = {}
        if isinstance(document, dict):
            for key, value in document.items():
                if key in ("env", "variables"):
                    found.update(value)
                else:
                    found.update(self.variables(value))
        elif isinstance(document, list):
            for each in document:
                found.update(self.variables(each))
        return found

    def test_every_variable_is_a_setting(self) -> None:
        for name in set(VARIABLE.findall(self.text.replace("DOCKER_*", "").replace("ITEST_*", ""))):
            with self.subTest(name):
                if name.startswith("ITEST_"):
                    self.assertTrue(hasattr(load({}), name.removeprefix("ITEST_").lower()))
                else:
                    self.assertIn(name, DOCKERS)

    def test_itest_takes_the_values(self) -> None:
        for name in self.files:
            if name.endswith(".yml"):
                with self.subTest(name):
                    found = self.variables(self.yaml(name))
                    self.assertTrue(all(isinstance(value, str) for value in found.values()), found)
                    load(found | {"CI": "true"}, ROOT)

    def test_workflows(self) -> None:
        workflows = [name for name in self.files if name.startswith(".github/workflows/")]
        self.assertEqual(len(workflows), 3)
        for name in workflows:
            document = self.yaml(name)
            self.assertLessEqual({"name", "jobs"}, set(document), name)
            for job in document["jobs"].values():
                self.assertIn("runs-on", job)
                self.assertTrue(all(len({"uses", "run"} & set(step)) == 1 for step in job["steps"]), name)
                self.assertIn("python -m unittest", [step.get("run") for step in job["steps"]])

    def test_services_are_where_the_variables_say(self) -> None:
        document = self.yaml(".github/workflows/services.yml")["jobs"]["test"]
        published = {port.split(":")[0] for service in document["services"].values() for port in service["ports"]}
        named = {
            re.search(r":(\d+)", value.split("@")[-1].removeprefix("redis://"))[1] for value in document["env"].values()
        }  # type: ignore[index]
        self.assertEqual(published, named)

    def test_gitlab_jobs(self) -> None:
        for name in (".gitlab-ci.yml", "docker-in-docker/.gitlab-ci.yml"):
            job = self.yaml(name)["test"]
            self.assertIn("python -m unittest", job["script"])
            aliases = {service["alias"] for service in job["services"]}
            hosts = {match for value in job["variables"].values() for match in re.findall(r"(?://|@)(\w+):\d+", value)}
            self.assertLessEqual(hosts - {"postgres"}, aliases)
            self.assertEqual(aliases, hosts)

    def test_tox(self) -> None:
        tox = configparser.ConfigParser(interpolation=None)
        tox.read_string(self.files["tox.ini"])
        self.assertIn("ITEST_*", tox["testenv"]["pass_env"].split())
        for environment in tox["tox"]["env_list"].split(", "):
            name, value = tox[f"testenv:{environment}"]["set_env"].split(" = ")
            self.assertEqual(load({name: value}, ROOT).engine, environment)

    def test_ci_makes_a_missing_service_an_error(self) -> None:
        table = {
            "0": {"CI": "true", "ITEST_REQUIRE": "0"},
            "1": {"CI": "true"},
            "": {},
            "docker": {"CI": "true", "ITEST_REQUIRE": "docker"},
        }
        for expected, environment in table.items():
            config = load(environment, ROOT)
            self.assertEqual((config.require, config.required), (expected, expected not in ("", "0")))
