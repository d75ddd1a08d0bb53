# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server that is not itest's: a plain local one, known to the code under test by its URL alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from itest import Postgres, naming, testing
from itest.clock import Deadline
from itest.config import load
from itest.diagnose import HEAD
from itest.engines.process import ProcessEngine
from itest.errors import Unavailable
from itest.trace import Recorder
from itest.wait import until_ready
from tests.integration.sqldump import difference, dump

VARIABLE = "TEST_DATABASE_URL"
"""The variable that the declarations of the tests name."""

TIMEOUT = 60


class Foreign:
    """The server: `url` is its superuser's, in the database `postgres`; `stop` ends it, `restart` has it answer again."""

    def __init__(self, url: str, stop: Callable[[], object], restart: Callable[[], object]) -> None:
        self.url = url
        self.stop = stop
        self.restart = restart

    def url_for(self, database: str, user: str = "") -> str:
        """The URL of a database, as its superuser or as a user that `user` has made."""
        parts = urlsplit(self.url)
        netloc = f"{user}:geheim@{parts.hostname}:{parts.port}" if user else parts.netloc
        return parts._replace(netloc=netloc, path=f"/{database}").geturl()

    def ask(self, sql: str, database: str = "postgres", user: str = "") -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url_for(database, user))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def user(self, name: str, rights: str = "") -> None:
        self.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'geheim' {rights}")

    def dump(self) -> dict[str, Any]:
        """Everything in all of its databases."""
        names = [name for (name,) in self.ask("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")]
        return {f"{name}: {what}": state for name in names for what, state in dump(self.url_for(name)).items()}


@contextlib.contextmanager
def running() -> Iterator[Foreign]:
    """Start one. Raises SkipTest where no PostgreSQL can run as a local process."""
    config = load()
    service = Postgres(settings={"max_prepared_transactions": "4"})
    secret = naming.secret()
    engine = ProcessEngine(config)
    try:
        if reason := engine.unavailable():
            raise unittest.SkipTest(reason)
        try:
            spec = service.process(secret, config)
        except Unavailable as error:
            if config.required:
                raise
            raise unittest.SkipTest(str(error)) from error
        labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "foreign", naming.OWNER: naming.owner()}
        instance = engine.start(spec, labels, Deadline.after(TIMEOUT), Recorder())
        try:
            url = service.address(instance, secret)

            def answer() -> None:
                until_ready(service.readiness(url), instance, Deadline.after(TIMEOUT), subject="the foreign server")

            answer()
            yield Foreign(url, instance.stop, lambda: (instance.restart(), answer()))
        finally:
            instance.stop()
    finally:
        engine.close()


class ForeignTest(unittest.TestCase):
    """Base of tests with a foreign server, one for the class. What is in it may be asked for by `self.foreign`."""

    foreign: Foreign

    @classmethod
    def setUpClass(cls) -> None:
        cls.foreign = cls.enterClassContext(running())

    def database(self, name: str, owner: str = "postgres", sql: str = "") -> None:
        """Make a database for this test."""
        self.foreign.ask(f"CREATE DATABASE {name} OWNER {owner}")
        self.addCleanup(self.foreign.ask, f"DROP DATABASE {name} WITH (FORCE)")
        if sql:
            self.foreign.ask(sql, name)

    @contextlib.contextmanager
    def session(self, url: str) -> Iterator[None]:
        """Within the `with`, declarations with `external=VARIABLE` mean this URL."""
        with testing.session(environment={**os.environ, VARIABLE: url}, quiet=True):
            yield

    def run_classes(self, url: str, *classes: type[unittest.TestCase]) -> unittest.TestResult:
        """Run test classes in a session of their own."""
        result = unittest.TestResult()
        with self.session(url):
            load = unittest.defaultTestLoader.loadTestsFromTestCase
            unittest.TestSuite(map(load, classes)).run(result)
        return result

    def passes(self, url: str, *classes: type[unittest.TestCase]) -> None:
        result = self.run_classes(url, *classes)
        self.assertEqual([trace for _, trace in [*result.failures, *result.errors, *result.skipped]], [])
        self.assertGreater(result.testsRun, 0)

    def untouched(self, before: dict[str, Any]) -> None:
        """Assert that everything is as in this dump."""
        self.assertEqual(difference(before, self.foreign.dump()), [])

    def errors(self, url: str, *classes: type[unittest.TestCase]) -> list[str]:
        """What failed, each by its error's text."""
        result = self.run_classes(url, *classes)
        traces = [trace.partition(f"\n{HEAD}")[0] for _, trace in [*result.failures, *result.errors]]
        return [trace.strip().rpartition("\nitest.errors.")[2] for trace in traces]

    def kill_during(self, url: str, directory: Path, declaration: str, body: str) -> None:
        """Run a test with this body in a process of its own, and kill that when the body has said so by `ready()`."""
        source = f"""
            import sys, time
            from itest import *
            from itest.migrations import SqlFiles
            def ready():
                print("ready", flush=True)
                time.sleep({TIMEOUT})
            class KilledTest(PostgresMixin, ContainerTestCase):
                postgres = Postgres(external="{VARIABLE}", {declaration})
                def test(self):
                    {textwrap.indent(textwrap.dedent(body), " " * 20).strip()}
        """
        (directory / "test_killed.py").write_text(textwrap.dedent(source))
        environment = {**os.environ, VARIABLE: url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            [sys.executable, "-m", "unittest", "test_killed"],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                lines = []
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(line)
                    if line == "ready\n":
                        break
                else:
                    self.fail("".join(lines))
            finally:
                process.kill()
        # Its sessions end when the server notices.
        deadline = Deadline.after(TIMEOUT)
        while (
            self.foreign.ask("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'itest%'")
            and not deadline.passed
        ):
            deadline.pause(0.02)
