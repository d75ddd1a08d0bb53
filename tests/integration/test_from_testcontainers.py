# SPDX-License-Identifier: Apache-2.0
"""docs/from-testcontainers.md: what it shows runs, and the names on both sides are names there are."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import re
import textwrap
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itest import App, Build, Compose, Container, Kafka, Postgres, Redis, wait
from itest.config import Config
from itest.services.compose.view import ComposeService, ComposeView
from itest.services.container import ContainerView
from tests.documents import ROOT, check_document

PAGE = "docs/from-testcontainers.md"
ROW = re.compile(r"^\| (?P<theirs>.+?) \| (?P<ours>.+) \|$", re.M)
BEFORE = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.M)
CODE = re.compile(r"`([^`]+)`")
VARIABLE = re.compile(r"[A-Z]+(?:_[A-Z]+)+")

VERSION = "4.15."


def rows(text: str) -> Iterator[tuple[str, str]]:
    for found in ROW.finditer(text):
        if found["theirs"] not in ("testcontainers", "---"):
            yield found["theirs"], found["ours"]


class PageTest(unittest.TestCase):
    def test_every_example_runs(self) -> None:
        check_document(self, PAGE)


class OursTest(unittest.TestCase):
    def setUp(self) -> None:
        self.code = [code for _, ours in rows((ROOT / PAGE).read_text()) for code in CODE.findall(ours)]

    def test_settings_are_there(self) -> None:
        for code in self.code:
            for name in re.findall(r"ITEST_([A-Z_]+)", code):
                self.assertTrue(hasattr(Config, name.lower()) or name.lower() in Config.__slots__, name)

    def test_fields_are_there(self) -> None:
        classes: list[Any] = [Container, Build, Compose, Postgres, Redis, Kafka]
        fields = {field.name for each in classes for field in dataclasses.fields(each)}
        functions: list[Any] = [wait.http, wait.log, ContainerView.exec, ContainerView.logs, App.container]
        fields |= {name for each in functions for name in inspect.signature(each).parameters}
        fields |= {"A", "read_only"}  # A variable, and a field of Mount.
        named = {name for code in self.code for name in re.findall(r"\b([a-z_]+)=", code)}
        self.assertGreater(len(named), 30)
        self.assertLessEqual(named, fields)

    def test_members_of_views_are_there(self) -> None:
        for code in self.code:
            if found := re.match(r"self\.web\.([a-z_]+)", code):
                there = found[1] == "http_port" or hasattr(ContainerView, found[1]) or found[1] == "server"
                self.assertTrue(there, code)
            if found := re.match(r'(?:self\.stack\["web"\])?\.([a-z]+)', code):
                self.assertTrue(hasattr(ComposeService, found[1]) or found[1] in ("stdout", "stderr", "env"), code)
            if found := re.match(r"self\.stack\.([a-z]+)", code):
                self.assertTrue(hasattr(ComposeView, found[1]), code)


def installed() -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("testcontainers").startswith(VERSION)
    return False


@unittest.skipUnless(installed(), f"needs testcontainers {VERSION}*")
class TheirsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.text = (ROOT / PAGE).read_text()
        spec = importlib.util.find_spec("testcontainers")
        assert spec is not None and spec.submodule_search_locations
        [place] = spec.submodule_search_locations
        self.package = Path(place)
        self.source = "\n".join(
            file.read_text(encoding="utf-8")
            for directory in ("core", "compose", "socat", "community/*")
            for file in self.package.glob(f"{directory}/*.py")
        )

    def test_names_are_there(self) -> None:
        for theirs, _ in rows(self.text):
            for code in CODE.findall(theirs):
                for name in [code.partition("(")[0], *re.findall(r"\b([a-z_]+)=", code)]:
                    with self.subTest(code):
                        if not re.fullmatch(r"\w+", name) or name in ("with", "buildargs"):
                            continue  # A path, a label, Python's own; the docker SDK's.
                        defined = rf"(?:def|class) {name}\b|^\s+(?:self\.)?{name}: |\b{name}="
                        found = re.search(f'"{name}"' if VARIABLE.fullmatch(name) else defined, self.source, re.M)
                        elsewhere = name.startswith("DOCKER_")  # The docker SDK reads some of them.
                        self.assertTrue(found or elsewhere, f"{name} is not in testcontainers")

    def test_what_is_shown_before_compiles_and_imports_what_there_is(self) -> None:
        shown = [textwrap.dedent(block) for block in BEFORE.findall(self.text) if "# before" in block]
        self.assertEqual(len(shown), 5)
        for block in shown:
            tree = ast.parse(block)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("testcontainers"):
                    place = self.package.parent.joinpath(*node.module.split("."))
                    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
                    for alias in node.names:
                        self.assertRegex(file.read_text(), rf"\b{alias.name}\b")
            called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            for name in called:
                if re.match(r"with_|get_|for_status|waiting|wait_", name):
                    self.assertIn(f"def {name}(", self.source)

    def test_every_option_of_a_container_is_mapped(self) -> None:
        core = (self.package / "core" / "container.py").read_text()
        strategies = (self.package / "core" / "wait_strategies.py").read_text()
        compose = (self.package / "compose" / "compose.py").read_text()
        names = set(
            re.findall(
                r"^    def ([a-z]\w+)\(", core.partition("class Reaper")[0].partition("class DockerContainer")[2], re.M
            )
        )
        names |= set(re.findall(r"^class (\w+)\(WaitStrategy\)", strategies, re.M))
        names |= set(re.findall(r"^    def ((?:with|for|using)_\w+)\(", strategies, re.M))
        names |= set(re.findall(r"^    def ([a-z]\w+)\(", compose.partition("class DockerCompose")[2], re.M))
        missing = {name for name in names if not re.search(rf"\b{name}\b", self.text)}
        missing -= {"docker_compose_command", "compose_command_property"}  # Of use inside only.
        self.assertEqual(missing, set())
