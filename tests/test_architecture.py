# SPDX-License-Identifier: Apache-2.0
"""What no single test sees: who imports whom, who reads the environment and the clock, what importing costs."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import os
import re
import statistics
import subprocess
import sys
import tokenize
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import itest
from itest import case
from itest.services.app import AppView, ContainerAppView, ThreadAppView
from itest.services.compose import ComposeService, ComposeView
from itest.services.kafka import KafkaView
from itest.services.postgres import PostgresView
from itest.services.redis import RedisView

PACKAGE = Path(itest.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {
    # What the modules of each group may import of itest: groups named here, besides their own package.
    group: set(others.split())
    for group, others in {
        "base": "",
        "facts": "base",
        "protocols": "base facts",
        "wait": "base facts protocols",
        "engines": "base facts protocols wait",
        "service": "base facts protocols wait",
        "data": "base facts protocols wait service",
        "services": "base facts protocols wait service data",
        "reaper": "base facts protocols wait engines",
        "warm": "base facts protocols wait engines service reaper",
        "report": "base facts",
        "session": "base facts protocols wait engines service data reaper warm report",
        "case": "base facts protocols wait service data session",
        "runner": "base facts protocols wait engines service data services reaper warm report session case door",
        "testing": "base facts protocols wait engines service data reaper report session case",
        "door": "base case service data services session testing wait",
    }.items()
}
GROUPS = {
    "errors": "base", "arguments": "base", "clock": "base", "tuples": "base", "lock": "base", "side_by_side": "base", "silence": "base", "causes": "base", "causes_table": "base", "quick_end": "base", "container_root": "base",
    "config": "facts", "naming": "facts", "owners": "facts", "trace": "facts", "spec": "facts", "build": "facts", "container_options": "facts", "by_hand": "facts", "build_context": "facts",
    "engines": "protocols", "wait": "wait", "wait_errors": "wait", "wait_checks": "wait", "wait_function": "wait",
    "service": "service", "lease": "service", "view": "service", "declaring": "service", "shorthand": "base", "packages": "facts", "versions": "facts", "migrations": "data", "script": "facts", "fixture_files": "data", "fixture_data": "data", "server_settings": "facts", "certificates": "facts",
    "reaper": "reaper", "sweep": "reaper", "session": "session", "choosing": "session", "network": "session", "references": "session", "starting": "session", "starter": "session", "joining": "session", "telling": "session", "log_stream": "session", "warm": "warm", "warm_store": "facts", "warm_listing": "warm", "sharing": "facts", "detached": "facts", "warm_keeper": "warm",
    "case": "case", "loan": "case", "whole_run": "case", "async_clients": "base", "async_tasks": "case", "async_case": "case", "diagnose": "case", "assertions": "case", "notes": "case", "leaks": "facts", "early_reads": "facts", "keeping": "case", "examine": "case", "hanging": "case", "pickling": "case", "django_case": "case", "evidence": "facts", "alive": "service",
    "testing": "testing", "": "door", "__main__": "runner", "cli": "runner", "report": "report",
}  # fmt: skip


class Import(NamedTuple):
    """One import of a module: what, and whether it happens when the importing module is loaded."""

    name: str
    at_load: bool
    line: int


def module_of(file: Path) -> str:
    """`engines.docker` for itest/engines/docker.py, empty for itest/__init__.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def group_of(module: str) -> str:
    """The group that a module of itest belongs to; KeyError for one that has no place in the table yet."""
    head, _, rest = module.partition(".")
    if head == "engines" and rest:
        return "engines"
    return "services" if head == "services" else GROUPS[head]


def imports_of(tree: ast.AST, at_load: bool = True) -> Iterator[Import]:
    """All imports but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_load, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                inside = PACKAGE.parent.joinpath(*node.module.split("."), alias.name)
                is_module = inside.with_suffix(".py").is_file() or inside.is_dir()
                yield Import(f"{node.module}.{alias.name}" if is_module else node.module, at_load, node.lineno)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for branch in node.orelse:
                yield from imports_of(ast.Module([branch], []), at_load)
        else:
            yield from imports_of(node, at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


class Module(NamedTuple):
    """A module of itest."""

    name: str
    path: str
    source: str
    tree: ast.Module


class ArchitectureTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.modules = []
        for file in FILES:
            source = file.read_text(encoding="utf-8")
            cls.modules.append(
                Module(module_of(file), str(file.relative_to(PACKAGE.parent)), source, ast.parse(source))
            )

    def setUp(self) -> None:
        self.wrong: list[str] = []

    def assertNothingWrong(self) -> None:
        self.assertEqual(self.wrong, [], "\n" + "\n".join(self.wrong))

    def test_imports_go_down_the_levels_only(self) -> None:
        for module in self.modules:
            for found in imports_of(module.tree):
                if not (found.name + ".").startswith("itest."):
                    continue
                target = found.name.removeprefix("itest").lstrip(".")
                try:
                    ours, theirs = group_of(module.name), group_of(target)
                except KeyError as error:
                    self.wrong.append(f"{module.path}: {error} has no place in GROUPS yet")
                    break
                # A service may import its own parts, but not another service; an app in a container is a container.
                family = ours == theirs
                if ours == theirs == "services":
                    ends = module.name.split(".")[1], target.split(".")[1]
                    family = ends[0] == ends[1] or ends == ("app", "container")
                if not family and theirs not in LEVELS[ours]:
                    self.wrong.append(f"{module.path}:{found.line}: must not import {found.name}")
        self.assertNothingWrong()

    def test_the_table_names_modules_that_there_are(self) -> None:
        there = {module.name.partition(".")[0] for module in self.modules}
        self.assertEqual(GROUPS.keys() - there, set())

    def test_no_package_of_others_is_imported_when_a_module_is_loaded(self) -> None:
        for module in self.modules:
            for found in imports_of(module.tree):
                if found.at_load and found.name.partition(".")[0] not in {*sys.stdlib_module_names, "itest"}:
                    self.wrong.append(f"{module.path}:{found.line}: import {found.name} where it is used")
        self.assertNothingWrong()

    def test_named_tuples_are_those_that_are_made_quickly(self) -> None:
        for module in self.modules:
            for node in ast.walk(module.tree):
                if not isinstance(node, ast.ImportFrom) or node.module != "typing" or module.name == "tuples":
                    continue
                if "NamedTuple" in [alias.name for alias in node.names]:
                    self.wrong.append(f"{module.path}:{node.lineno}: NamedTuple comes from itest.tuples")
        self.assertNothingWrong()

    def test_only_config_reads_the_environment(self) -> None:
        for module in self.modules:
            for node in ast.walk(module.tree):
                reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv")
                if reads and module.name != "config":
                    self.wrong.append(f"{module.path}:{node.lineno}: settings and variables come from itest.config")
        self.assertNothingWrong()

    def test_only_clock_reads_a_clock_or_sleeps(self) -> None:
        for module in self.modules:
            lines = [found.line for found in imports_of(module.tree) if found.name in ("time", "sched")]
            for node in ast.walk(module.tree):
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr in ("now", "utcnow", "today")
                    and "date" in ast.unparse(node)
                ):
                    lines.append(node.lineno)
            if module.name != "clock":
                self.wrong += [f"{module.path}:{line}: time comes from itest.clock" for line in lines]
        self.assertNothingWrong()

    def test_every_module_says_its_licence_and_its_job_in_at_most_500_lines(self) -> None:
        for module in self.modules:
            if not module.source.startswith("# SPDX-License-Identifier: Apache-2.0\n"):
                self.wrong.append(f"{module.path}: the first line is not the SPDX line")
            if not ast.get_docstring(module.tree):
                self.wrong.append(f"{module.path}: no docstring")
            if (lines := module.source.count("\n")) > 500:
                self.wrong.append(f"{module.path}: {lines} lines")
        self.assertNothingWrong()

    def test_what_is_ignored_has_a_code_and_a_reason(self) -> None:
        proper = re.compile(r"(# type: ignore\[[\w, -]+\]|# noqa: [A-Z]+\d+(, [A-Z]+\d+)*)  # \S.*")
        for module in self.modules:
            for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
                ignores = token.type == tokenize.COMMENT and re.search(r"type: *ignore|\bnoqa\b", token.string)
                if ignores and not proper.search(token.string):
                    self.wrong.append(f"{module.path}:{token.start[0]}: {token.string}")
        self.assertNothingWrong()

    def test_all_that_a_view_has_says_what_it_is(self) -> None:
        views = (
            AppView,
            ComposeService,
            ComposeView,
            ContainerAppView,
            KafkaView,
            PostgresView,
            RedisView,
            ThreadAppView,
        )
        silent = [
            f"{view.__name__}.{name}"
            for view in views
            for name in dir(view)
            if not name.startswith("_")
            and (
                callable(member := inspect.getattr_static(view, name))
                or isinstance(member, property | functools.cached_property)
            )
            and not inspect.getdoc(member)
        ]
        self.assertEqual(silent, [])

    def test_the_public_names_are_sorted_and_there(self) -> None:
        self.assertEqual(itest.__all__, sorted(set(itest.__all__)))
        self.assertEqual(dir(itest), itest.__all__)
        for name in itest.__all__:
            self.assertTrue(getattr(itest, name), name)
        with self.assertRaisesRegex(AttributeError, "module 'itest' has no attribute 'nonsense'"):
            itest.nonsense  # noqa: B018  # that reading it raises is the point

    def test_both_test_cases_are_in_case(self) -> None:
        self.assertIs(case.ContainerTestCase, itest.ContainerTestCase)
        self.assertIs(case.AsyncContainerTestCase, itest.AsyncContainerTestCase)
        with self.assertRaisesRegex(AttributeError, r"module 'itest\.case' has no attribute 'nonsense'"):
            case.nonsense  # noqa: B018  # that reading it raises is the point


class ImportCostTest(unittest.TestCase):
    HEAVY = ("docker", "psycopg2", "redis", "kafka", "sqlalchemy", "asyncpg", "httpx", "requests", "rich", "asyncio")

    def python(self, code: str) -> str:
        # Without the site's own packages' start-up files, and seen from a directory that has no settings.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ITEST_", "PYTHON"))}
        environment["PYTHONPATH"] = str(PACKAGE.parent)
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.run(
            command, env=environment, cwd="/", check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    def test_importing_itest_and_its_test_case_loads_nothing_heavy(self) -> None:
        for statement in ("import itest", "from itest import ContainerTestCase, PostgresMixin, RedisMixin, KafkaMixin"):
            with self.subTest(statement):
                loaded = self.python(f"{statement}\nimport sys; print(*sorted(set({self.HEAVY}) & set(sys.modules)))")
                self.assertEqual(loaded, "")

    def test_importing_itest_has_no_effect(self) -> None:
        code = (
            "import os, sys, threading\n"
            "before = dict(os.environ), list(sys.path), threading.active_count(), sys.gettrace(), len(os.listdir('/dev/fd'))\n"
            "import itest\n"
            "after = dict(os.environ), list(sys.path), threading.active_count(), sys.gettrace(), len(os.listdir('/dev/fd'))\n"
            "print(before == after)"
        )
        self.assertEqual(self.python(code), "True")

    def test_importing_itest_costs_at_most_20_milliseconds_more_than_unittest(self) -> None:
        # Of the processor's time: what other programs take in between is not the import's.
        code = "import unittest, time\nbefore = time.process_time()\nimport itest\nprint(time.process_time() - before)"
        self.assertLess(statistics.median(float(self.python(code)) for _ in range(5)), 0.020)
