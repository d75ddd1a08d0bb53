# SPDX-License-Identifier: Apache-2.0
"""The command line with real services, each command in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from itest import Postgres, Redis
from itest.clock import Deadline, wall
from itest.config import load
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.errors import Unavailable
from itest.report.page import read
from tests.integration.capture import SWEPT

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
from itest import Container, ContainerTestCase, Postgres, Redis

def people(view):
    view.execute("CREATE TABLE people (name text)")

class PeopleTest(ContainerTestCase):
    postgres = Postgres(migrations=people)
    redis = Redis()

    def test_nothing(self):
        pass

class WebTest(ContainerTestCase):
    redis = Redis()
    web = Container("busybox:1.37", command="httpd -f -p 80", ports=80, env={"CACHE": "{redis.url}"})

    def test_nothing(self):
        pass
"""


MORE = """
from itest import ContainerTestCase, RedisMixin

class CacheTest(RedisMixin, ContainerTestCase):
    def test_nothing(self):
        pass
"""

TWO = """
from itest import ContainerTestCase, Postgres

class TwoTest(ContainerTestCase):
    main = Postgres(migrations=lambda view: view.execute("CREATE TABLE people (name text)"))
    audit = Postgres(migrations=lambda view: view.execute("CREATE TABLE entries (name text)"))

    def test_nothing(self):
        pass
"""

FAILING = """
from itest import ContainerTestCase, Postgres, RedisMixin

class FailingTest(RedisMixin, ContainerTestCase):
    postgres = Postgres(settings={"work_memory": "1MB"})

    def test_nothing(self):
        pass
"""

SLOW = """
from itest import ContainerTestCase, Postgres, RedisMixin

class SlowTest(RedisMixin, ContainerTestCase):
    postgres = Postgres(init=["slow.sql"])

    def test_nothing(self):
        pass
"""

TALKING = """
import os
import subprocess
import sys
from itest import ContainerTestCase, Postgres, RedisMixin

print("imported")

def talk(view):
    print("migrated")
    print("written", file=sys.__stdout__)
    subprocess.run(["echo", "run"], check=True)

class TalkingTest(RedisMixin, ContainerTestCase):
    postgres = Postgres(migrations=talk)

    def test_nothing(self):
        pass
"""


class CommandLineTest(unittest.TestCase):
    """Runs commands in an empty project, with a cache directory of its own."""

    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.place.joinpath("tests").mkdir()
        self.place.joinpath("tests", "__init__.py").touch()
        self.tests = self.place / "tests" / "test_people.py"
        self.tests.write_text(TESTS, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("ITEST_")}
        wanted = {name: os.environ[name] for name in ("ITEST_ENGINE",) if name in os.environ}
        self.environment = {**kept, **wanted, "PYTHONPATH": str(ROOT), "ITEST_CACHE_DIR": str(self.place / "cache")}
        self.environment["ITEST_WARM"] = "0"  # Nobody waits here for states to be kept.

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "itest", *arguments],
            cwd=self.place,
            env={**self.environment, **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    def itest(self, *arguments: str, code: int = 0, **changes: str) -> tuple[str, str]:
        """What the command prints, and what it says on its standard error."""
        process = self.start(*arguments, **changes)
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, code, output + errors)
        self.assertNotIn("Traceback", errors)
        return output, errors

    def last_line(self, errors: str) -> str:
        """Of what a command says itself."""
        return [line for line in errors.splitlines() if not SWEPT.match(line.removeprefix("itest: "))][-1]

    def need_engine(self) -> None:
        """Skip where services cannot run."""
        config = load()
        usable = []
        for engine in (DockerEngine(config), ProcessEngine(config)):
            usable += [engine.name] if config.engine in ("auto", engine.name) and not engine.unavailable() else []
            engine.close()
        if not usable:
            self.skipTest("no engine can be used here")


ENDS_BADLY = """
from contextlib import asynccontextmanager

from fastapi import FastAPI

from itest import App, ContainerTestCase

@asynccontextmanager
async def lifespan(app):
    yield
    raise RuntimeError("the pool is still in use")

class ApiTest(ContainerTestCase):
    api = App.asgi(lambda: FastAPI(lifespan=lifespan))

    def test_nothing(self):
        pass
"""


class ExecTest(CommandLineTest):
    def setUp(self) -> None:
        super().setUp()
        self.need_engine()

    def python(self, code: str, *wanted: str, expected: int = 0, **changes: str) -> tuple[str, str]:
        options = [word for each in wanted for word in ("--with", each)]
        return self.itest("exec", *options, "--", sys.executable, "-c", code, code=expected, **changes)

    def test_an_app_whose_end_raises_is_said_and_the_exit_code_is_the_command_s(self) -> None:
        self.tests.write_text(ENDS_BADLY, encoding="utf-8")
        _, errors = self.python("raise SystemExit(7)", "tests.test_people.ApiTest", expected=7)
        self.assertRegex(
            self.last_line(errors),
            r"^itest: the end of the lifespan of thread .* raised RuntimeError: the pool is still in use$",
        )

    def test_a_command_has_the_urls_and_its_exit_code_is_itest_s(self) -> None:
        code = (
            "import os, sys, redis, psycopg2\n"
            "psycopg2.connect(os.environ['DATABASE_URL']).close()\n"
            "psycopg2.connect(os.environ['ITEST_POSTGRES_URL']).close()\n"
            "redis.Redis.from_url(os.environ['REDIS_URL']).close()\n"
            "print('answers', os.environ['ITEST_REDIS_URL'])\n"
            "sys.exit(7)"
        )
        output, errors = self.python(code, "postgres,redis", expected=7)
        self.assertRegex(output, r"^answers redis://:\w+@127\.0\.0\.1:\d+\n$")
        secret = re.search(r":(\w+)@", output)
        assert secret is not None
        self.assertNotIn(secret[1], errors)
        self.assertRegex(errors, "itest: PostgreSQL .*, ready in ")
        self.check_nothing_is_left(secret[1])

    def check_nothing_is_left(self, secret: str) -> None:
        """The password is in the command line or environment of the servers, and nowhere else."""
        deadline = Deadline.after(20)
        while True:
            ours = [thing for thing in self.things() if thing["owner"] and thing["owner"]["pid"] in self.pids]
            if not ours or deadline.passed:
                self.assertEqual(ours, [])
                return
            deadline.pause(0.1)

    def things(self) -> list[dict[str, Any]]:
        return list(json.loads(self.itest("ps", "--json")[0]))

    @property
    def pids(self) -> set[int]:
        return set(self._pids)

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        process = super().start(*arguments, **changes)
        self._pids = [*getattr(self, "_pids", []), process.pid]
        return process

    def test_a_test_class_s_services_are_migrated(self) -> None:
        code = (
            "import os, psycopg2\n"
            "with psycopg2.connect(os.environ['DATABASE_URL']) as connection, connection.cursor() as cursor:\n"
            "    cursor.execute('SELECT count(*) FROM people')\n"
            "    print(cursor.fetchone())\n"
        )
        for target in ("tests.test_people.PeopleTest", "tests/test_people.py::PeopleTest"):
            self.assertEqual(self.python(code, target)[0], "(0,)\n")

    def test_two_services_of_a_kind(self) -> None:
        self.tests.write_text(TWO, encoding="utf-8")
        code = (
            "import os, psycopg2\n"
            "for name in ('DATABASE_URL', 'AUDIT_DATABASE_URL'):\n"
            "    with psycopg2.connect(os.environ[name]) as connection, connection.cursor() as cursor:\n"
            "        cursor.execute(\"SELECT relname FROM pg_class WHERE relname IN ('people', 'entries')\")\n"
            "        print(cursor.fetchall())\n"
            "print([name for name in os.environ if name.startswith(('MAIN_', 'AUDIT_'))])\n"
        )
        self.assertEqual(
            self.python(code, "tests.test_people.TwoTest")[0],
            "[('people',)]\n[('entries',)]\n['AUDIT_DATABASE_URL', 'AUDIT_PGDATABASE']\n",
        )

    def test_all_test_classes_of_a_package_and_a_module_without_a_dot(self) -> None:
        (self.place / "tests" / "test_more.py").write_text(MORE, encoding="utf-8")
        (self.place / "test_top.py").write_text(MORE, encoding="utf-8")
        code = "import os; print('ITEST_REDIS_URL' in os.environ, 'ITEST_POSTGRES_URL' in os.environ)"
        self.tests.unlink()
        for target in ("tests/", "tests", "test_top", ".", "./", f"{self.place}"):
            with self.subTest(target):
                self.assertEqual(self.python(code, target)[0], "True False\n")
        (self.place / "tests" / "__init__.py").unlink()  # As `unittest discover tests` takes it too.
        self.assertEqual(self.python(code, "tests/")[0], "True False\n")

    def test_what_tests_print_meanwhile_is_not_on_its_output(self) -> None:
        self.tests.write_text(TALKING, encoding="utf-8")
        output, errors = self.python("print('answers')", "tests/test_people.py")
        self.assertEqual(output, "answers\n")
        for word in ("imported", "migrated", "written", "run"):
            self.assertIn(f"{word}\n", errors)

    def test_containers_have_the_network_of_the_class(self) -> None:
        engine = DockerEngine(load())
        reason = engine.unavailable()
        engine.close()
        if reason:
            self.skipTest(reason)
        self.assertRegex(
            self.python("import os; print(os.environ['WEB_URL'])", "tests.test_people.WebTest")[0], "^http://"
        )

    def test_why_docker_that_answers_runs_nothing_is_said_once(self) -> None:
        config = load()
        for service in (Redis(), Postgres()):
            try:
                service.process("", config)
            except Unavailable as error:
                self.skipTest(str(error))
        (self.place / "docker").mkdir()
        (self.place / "docker" / "__init__.py").touch()
        listening = self.enterContext(socket.socket(socket.AF_UNIX))
        listening.bind(str(self.place / "docker.sock"))
        listening.listen()
        settings = {"ITEST_ENGINE": "auto", "DOCKER_HOST": f"unix://{self.place}/docker.sock"}
        _, errors = self.python("pass", "redis,postgres", **settings)
        said = "itest: local processes take the place of containers, as Docker answers at "
        self.assertEqual(errors.count(said), 1, errors)
        self.assertIn(
            "but the package 'docker' is not what it needs: Python finds another one of that name first", errors
        )

    def test_tests_use_the_same_servers(self) -> None:
        argv = [sys.executable, "-m", "unittest", "tests.test_people.PeopleTest"]
        _, errors = self.itest("exec", "--with", "postgres,redis", *argv)
        self.assertIn("(from ITEST_POSTGRES_URL)", errors)
        self.assertRegex(errors, r"Ran 1 test .*\n\nOK\n$")

    def test_a_run_of_tests_keeps_its_page(self) -> None:
        page = self.place / "run.html"
        settings = {"ITEST_REPORT": "run.html", "ITEST_TIMING": "1"}
        argv = [sys.executable, "-m", "unittest", "tests.test_people.PeopleTest"]
        _, errors = self.itest("exec", "--with", "postgres,redis", *argv, **settings)
        self.assertEqual(errors.count("where the time went"), 1, errors)  # The run's own.
        text = page.read_text(encoding="utf-8")
        [part] = read(text)["parts"]
        self.assertEqual([test["name"] for test in part["tests"]], ["test_nothing"])
        self.addCleanup(self.itest, "down", "--all")
        for command in (("exec", "--with", "redis", "true"), ("up", "redis")):
            _, errors = self.itest(*command, **settings)
            self.assertNotIn("where the time went", errors)
            self.assertEqual(page.read_text(encoding="utf-8"), text)

    def test_signals_are_passed_on_and_the_services_are_stopped_after(self) -> None:
        code = (
            "import signal, sys\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(33))\n"
            "print('up', flush=True)\n"
            "signal.pause()\n"
        )
        process = self.start("exec", "--with", "redis", "--", sys.executable, "-c", code)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "up\n")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 33, output + errors)
        self.check_nothing_is_left("")

    def test_what_is_killed_ends_with_128_and_the_signal(self) -> None:
        self.python("import os; os.kill(os.getpid(), 9)", "redis", expected=137)

    def test_a_command_that_is_not_there(self) -> None:
        _, errors = self.itest("exec", "--with", "redis", "no-such-program", code=127)
        self.assertEqual(self.last_line(errors), "itest: there is no program 'no-such-program'")

    def test_a_file_that_is_no_program(self) -> None:
        _, errors = self.itest("exec", "--with", "redis", "./tests/test_people.py", code=126)
        self.assertEqual(self.last_line(errors), "itest: './tests/test_people.py' cannot be run: Permission denied")

    def test_services_that_cannot_be_had_are_125(self) -> None:
        settings = {"ITEST_ENGINE": "docker", "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        _, errors = self.itest("exec", "--with", "redis", "true", code=125, **settings)
        self.assertRegex(errors, "^itest: nothing here can run Redis: docker: there is no Docker socket at ")


class WrongTest(CommandLineTest):
    def test_what_is_wrong_is_2_and_a_sentence(self) -> None:
        for arguments, text in {
            (
                "exec",
                "--with",
                "mysql",
                "true",
            ): "'mysql' is neither a service (postgres, redis, kafka; with an image, ",
            ("exec", "--with", "redis"): "no command is given: itest exec --with postgres -- COMMAND",
            ("exec", "--with", "redis", "--"): "no command is given",
            ("up", "tests.nowhere.Test"): "the tests tests.nowhere.Test cannot be loaded:",
            ("up", "/etc/test_x.py"): "/etc/test_x.py is not below the working directory",
            ("up", ".."): ".. is not below the working directory",
            (
                "up",
                "tests/test_people.py:PeopleTest",
            ): "tests/test_people.py:PeopleTest is no Python file; a class of one is",
            ("up", "tests/test_people.txt"): "tests/test_people.txt is no Python file",
            ("up", "unittest"): "'unittest' is neither a service",
            ("up", "json.decoder"): "no test class with services in json.decoder",
            ("up", "unittest.case"): "the tests unittest.case cannot be loaded: TypeError: ",
            ("exec", "--with", ",", "true"): "no service and no test class is named, but ','",
            ("up", ""): "no service and no test class is named",
            ("logs", "redis", "-n", "-3"): "'-3' is no number of lines",
            ("down",): "say what to stop: services or test classes as for `itest up`, or --all",
            ("down", "redis", "--all"): "say what to stop",
            ("up", "redis", "--for", "ever"): "'ever' is no length of time: write 90s, 30m, 8h or 2d",
        }.items():
            with self.subTest(arguments):
                output, errors = self.itest_code(*arguments)
                self.assertEqual(output, "")
                self.assertIn(text, errors)

    def test_a_module_that_exits(self) -> None:
        self.tests.write_text("import sys; sys.exit(3)", encoding="utf-8")
        for target in ("tests/test_people.py", "tests/"):
            _, errors = self.itest_code("up", target)
            self.assertRegex(errors, rf"^itest: the tests {target} cannot be loaded:(?s:.*)SystemExit: 3\n$")

    def itest_code(self, *arguments: str) -> tuple[str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 2, output + errors)
        return output, errors


class UpTest(CommandLineTest):
    def heard(self, process: subprocess.Popen[str], text: str) -> str:
        """The first line of what it prints that has this text."""
        assert process.stdout is not None
        return next((line for line in process.stdout if text in line), "")

    def setUp(self) -> None:
        super().setUp()
        self.need_engine()
        self.addCleanup(self.itest, "down", "--all")

    def test_up_again_and_down(self) -> None:
        output, _ = self.itest("up", "tests.test_people.PeopleTest")
        lines = output.splitlines()
        self.assertRegex(lines[0], r"^ITEST_POSTGRES_URL=postgresql://postgres:\w+@127\.0\.0\.1:\d+/postgres$")
        self.assertRegex(lines[1], r"^ITEST_REDIS_URL=redis://:\w+@127\.0\.0\.1:\d+$")
        again, errors = self.itest("up", "--export", "tests/test_people.py::PeopleTest")
        self.assertEqual(again, "".join(f"export {line}\n" for line in lines))
        self.assertIn("in use again in ", errors)
        # As in the shell that has evaluated what it exported.
        as_json, _ = self.itest("up", "--json", "redis", ITEST_REDIS_URL=lines[1].split("=", 1)[1])
        self.assertEqual(json.loads(as_json), dict([lines[1].split("=", 1)]))

        for environment in (dict(line.split("=", 1) for line in lines), {"ITEST_REUSE": "1"}):
            process = subprocess.run(
                [sys.executable, "-m", "unittest", "tests.test_people.PeopleTest"],
                cwd=self.place,
                env={**self.environment, **environment},
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertRegex(process.stderr, r"\(from ITEST_POSTGRES_URL\)|PostgreSQL .*, in use again in ")

        for record in self.place.glob("cache/servers/*/server.json"):  # No run has made their time shorter.
            self.assertGreater(json.loads(record.read_text())["expires"], wall() + 7.5 * 3600)
        log, _ = self.itest("logs", "postgres", "-n", "1000")
        self.assertIn("database system is ready to accept connections", log)
        following = [self.start("logs", "redis", "--follow"), self.start("logs", "postgres", "-f", "-n", "1000")]
        for process in following:
            self.assertTrue(self.heard(process, "eady to accept connections"))
        for process in following:  # Other tests may have such servers at the same time, which it goes on with.
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 130, errors)
            self.assertNotIn("Traceback", errors, errors)
        stopped, _ = self.itest("down", "redis", ITEST_REDIS_URL=lines[1].split("=", 1)[1])
        self.assertRegex(stopped, r"^stopped (container|process) \w+ \(.*\)\n$")
        stopped, _ = self.itest("down", "tests.test_people.PeopleTest")
        self.assertEqual(stopped.count("stopped "), 1)
        self.assertEqual(self.itest("down", "--all")[0], "nothing to stop\n")

    def test_its_output_is_the_urls_alone(self) -> None:
        self.tests.write_text(TALKING, encoding="utf-8")
        for options in ((), ("--export",), ("--json",)):
            with self.subTest(options):
                output, errors = self.itest("up", *options, "tests/test_people.py")
                self.assertRegex(output, r"^(\{\s*\"|export )?ITEST_")
                self.assertNotIn("imported", output)
                self.assertIn("imported\n", errors)
        output, errors = self.itest("down", "tests/test_people.py")
        self.assertEqual((output.count("\n"), output.count("stopped ")), (2, 2))

    def test_what_no_later_run_could_find_is_not_left_running(self) -> None:
        place = self.place / "no directory"
        place.write_text("")
        output, errors = self.itest("up", "redis", code=1, ITEST_CACHE_DIR=str(place))
        self.assertEqual(output, "")
        self.assertRegex(
            errors, f"nothing stays for later runs, since {place}.* cannot be written to .*: set ITEST_CACHE_DIR"
        )
        self.assertIn("itest: redis (Redis) cannot be left running\n", errors)

    def things(self) -> list[str]:
        """The services that it has left running, and that stay after their last use."""
        found = json.loads(self.itest("ps", "--json")[0])
        return [each["service"] for each in found if str(each["shared"]).startswith(f"{self.place}/")]

    def wait_until_there_are(self, *services: str) -> None:
        deadline = Deadline.after(30)
        while (found := self.things()) != [*services] and not deadline.passed:
            deadline.pause(0.2)
        self.assertEqual(found, [*services])

    def test_where_one_fails_the_others_stay_only_if_they_were_there(self) -> None:
        self.tests.write_text(FAILING, encoding="utf-8")
        output, errors = self.itest("up", "tests.test_people.FailingTest", code=1)
        self.assertEqual(output, "")
        self.assertRegex(errors, "itest: .*, ready in ")
        self.wait_until_there_are()
        self.itest("up", "redis")
        _, errors = self.itest("up", "tests.test_people.FailingTest", code=1)
        self.assertRegex(errors, "itest: .*, in use again in ")
        [record] = self.place.glob("cache/servers/*/server.json")
        self.assertGreater(json.loads(record.read_text())["expires"], wall() + 7.5 * 3600)
        self.wait_until_there_are("redis")

    def test_ctrl_c_leaves_nothing(self) -> None:
        self.tests.write_text(SLOW, encoding="utf-8")
        (self.place / "tests" / "slow.sql").write_text("SELECT pg_sleep(60);", encoding="utf-8")
        process = self.start("up", "tests.test_people.SlowTest")
        assert process.stderr is not None
        self.assertTrue(any(", ready in " in line for line in process.stderr))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, output), (130, ""), errors)
        self.wait_until_there_are()

    def test_the_log_goes_on_until_nobody_reads_it(self) -> None:
        self.itest("up", "redis")
        for arguments in (("logs", "redis"), ("logs", "redis", "-f", "-n", "100")):
            process = self.start(*arguments)
            assert process.stdout is not None
            process.stdout.close()
            _, errors = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 141, errors)
            self.assertNotIn("Traceback", errors)
        process = self.start("logs", "redis", "-f", "-n", "1")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # As after `| head -1`; an idle server has no more to say.
        _, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 141, errors)

    def test_what_is_in_use_stays(self) -> None:
        self.itest("up", "redis")
        code = "print('up', flush=True); input()"
        process = subprocess.Popen(
            [sys.executable, "-m", "itest", "exec", "--with", "redis", "--", sys.executable, "-c", code],
            cwd=self.place,
            env={**self.environment, "ITEST_REUSE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "up\n")
        _, errors = self.itest("down", "--all", code=1)
        self.assertIn(" stays: a process uses it right now", errors)
        process.communicate("\n", timeout=30)
        self.assertIn("stopped ", self.itest("down", "--all")[0])

    def test_what_cannot_stay(self) -> None:
        output, errors = self.itest("up", "tests.test_people.WebTest", code=1)
        self.assertRegex(output, "^ITEST_REDIS_URL=.*\n$")
        self.assertIn("itest: WebTest.web (Container) is not started: each class has one of its own", errors)
        # Not even by local processes, which can run no Container, does that keep the other one from being stopped.
        stopped, _ = self.itest("down", "tests.test_people.WebTest")
        self.assertEqual(stopped.count("stopped "), 1)


class LogsTest(CommandLineTest):
    def test_a_service_that_does_not_run(self) -> None:
        _, errors = self.itest("logs", "nonsense", code=1)
        self.assertIn("itest: nothing of itest runs the service 'nonsense'", errors)
