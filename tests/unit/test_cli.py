# SPDX-License-Identifier: Apache-2.0
"""The command line on engines in memory: what it prints, and its exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import itest
from itest import cli, naming, sharing, sweep, warm_listing
from itest.cli import logs, look, ps, up, wanted
from itest.clock import Deadline, SystemClock, wall
from itest.config import Config
from itest.engines import State, docker_built
from itest.engines.docker_built import Built
from itest.errors import ConfigError, ItestError
from itest.sharing import Record, Share
from itest.testing import MemoryEngine
from itest.warm_listing import Entry
from tests.unit.test_sweep import DEAD, add, images

ROOT = Path(__file__).resolve().parents[2]

ME = f"{os.getpid()} lives"


class CliTest(unittest.TestCase):
    """Runs commands on one engine in memory."""

    def setUp(self) -> None:
        self.engine = MemoryEngine()
        self.enterContext(mock.patch.object(look, "engines", lambda config: [self.engine]))
        self.enterContext(mock.patch.object(cli, "load", lambda: Config()))
        now = wall()  # Nothing gets older while the machine is busy with something else.
        self.enterContext(mock.patch.object(SystemClock, "wall", lambda: now))

    def run_(self, *arguments: str) -> tuple[int, str, str]:
        """Its exit code, output and errors."""
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            try:
                code = cli.main(arguments)
            except SystemExit as error:
                code = int(error.code or 0)
        return code, output.getvalue(), errors.getvalue()


class UsageTest(CliTest):
    def test_wrong_usage_is_2_and_says_what_is_right(self) -> None:
        for arguments, text in {
            (): "the following arguments are required: COMMAND",
            ("nonsense",): "invalid choice: 'nonsense'",
            ("ps", "--all"): "unrecognized arguments: --all",
            ("down", "--al"): "unrecognized arguments: --al",
            ("sweep", "--a"): "unrecognized arguments: --a",
            ("--vers",): "the following arguments are required: COMMAND",
            ("sweep", "--all", "--cache"): "argument --cache: not allowed with argument --all",
        }.items():
            with self.subTest(arguments):
                code, output, errors = self.run_(*arguments)
                self.assertEqual((code, output), (2, ""))
                self.assertIn(text, errors)

    def test_help_says_what_asks_nothing(self) -> None:
        code, output, _ = self.run_("sweep", "--help")
        self.assertEqual(code, 0)
        self.assertIn("it asks nothing", " ".join(output.split()))

    def test_help_says_what_is_pulled(self) -> None:
        _, output, _ = self.run_("doctor", "--help")
        self.assertIn("Nothing is changed or left, and nothing pulled without --pull.", " ".join(output.split()))

    def test_wrong_settings_are_2_and_a_sentence(self) -> None:
        with (
            mock.patch.dict(os.environ, {"ITEST_ENGINE": "nonsense"}),
            mock.patch.object(cli, "load", itest.config.load),
        ):
            code, _, errors = self.run_("ps")
        self.assertEqual((code, errors.count("\n")), (2, 1))
        self.assertRegex(errors, "^itest: engine = 'nonsense' in the variable ITEST_ENGINE: it must be one of ")

    def test_the_version(self) -> None:
        self.assertEqual(self.run_("--version"), (0, f"itest {itest.__version__}\n", ""))

    def test_ctrl_c_is_130_without_a_traceback(self) -> None:
        for owner, name in ((ps, "show"), (cli, "_parser")):  # The latter imports all commands.
            with self.subTest(name), mock.patch.object(owner, name, side_effect=KeyboardInterrupt):
                self.assertEqual(self.run_("ps"), (130, "", ""))

    def test_other_errors_of_the_system_are_told_as_they_are(self) -> None:
        with (
            mock.patch.object(ps, "show", side_effect=OSError(errno.EIO, "it fails", "/cache/x")),
            self.assertRaises(OSError),
        ):
            self.run_("ps")

    def test_it_is_installed_as_a_command(self) -> None:
        project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
        self.assertEqual(project["project"]["scripts"], {"itest": "itest.cli:main"})

    def test_the_readme_names_the_extras(self) -> None:
        project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
        [told] = re.findall(
            r"The extras are .*?\n\n", ROOT.joinpath("README.md").read_text(encoding="utf-8"), re.DOTALL
        )
        extras = {*project["optional-dependencies"]} - {"benchmarks", "dev"}
        self.assertEqual({*re.findall(r"`(\w+)`", told)}, extras)
        [all_] = project["optional-dependencies"]["all"]
        self.assertEqual(all_, "itest-containers[app,postgres,redis,kafka,sqlalchemy]")

    def test_the_lowest_versions_are_those_that_it_admits(self) -> None:
        project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = [
            each
            for name, of in project["optional-dependencies"].items()
            if name not in ("benchmarks", "dev")
            for each in of
        ]
        bounds = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", each) for each in [*project["dependencies"], *extras]]
        lowest = ROOT.joinpath("tools", "lowest.txt").read_text(encoding="utf-8")
        self.assertEqual(
            {tuple(line.split("==")) for line in lowest.splitlines() if not line.startswith("#")},
            {bound.groups() for bound in bounds if bound},
        )

    def test_the_engines_are_closed(self) -> None:
        self.run_("ps")
        self.assertEqual(self.engine.events, ["close"])


class OutputTest(unittest.TestCase):
    """Where the output goes; with a table, which rich writes, and without."""

    TABLE = (
        "import sys; from itest import cli, warm_listing; from itest.warm_listing import Entry; "
        "warm_listing.entries = lambda config: [Entry('f1', 'redis', 'archive', 1, 1.0, 1.0)]; "
        "sys.exit(cli.main(['ps', '--cache']))"
    )

    def check(self, stdout: int, code: int, errors: str, *before: str) -> None:
        """What it says of such an output, and ends with."""
        cache = self.enterContext(tempfile.TemporaryDirectory())
        settings = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "ITEST_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        for arguments in (("-m", "itest", "ps", "--cache"), ("-c", self.TABLE)):
            with self.subTest(arguments):
                argv = [*before, sys.executable, "-W", "error", *arguments]
                run = subprocess.run(
                    argv, env={**os.environ, **settings}, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
                )
                self.assertEqual((run.returncode, run.stderr), (code, errors))

    def test_nobody_reads_it(self) -> None:
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        os.close(reader)
        self.check(writer, 141, "")

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no such device here")
    def test_the_disk_is_full(self) -> None:
        with open("/dev/full", "w") as full:
            self.check(full.fileno(), 1, "itest: the output cannot be written: No space left on device\n")

    def test_it_is_closed(self) -> None:
        closed = ("sh", "-c", 'exec "$@" >&-', "sh")
        self.check(subprocess.DEVNULL, 1, "itest: the output cannot be written: Bad file descriptor\n", *closed)


class LogsTest(CliTest):
    def test_a_service_that_does_not_run(self) -> None:
        wrong = "itest: nothing of itest runs the service 'nothing'"
        self.assertEqual(self.run_("logs", "nothing"), (1, "", f"{wrong}\n"))
        for service, there in (("web", "there is web"), ("api", "there are api, web")):
            add(self.engine, "web:1", naming.owner(), **{naming.SERVICE: service})
            self.assertEqual(self.run_("logs", "nothing"), (1, "", f"{wrong}; {there}\n"))


class WantedTest(unittest.TestCase):
    def test_blanks_around_commas_do_not_count(self) -> None:
        [cls] = wanted.classes([" redis, postgres ,"])
        self.assertEqual([name for name, _ in cls._itest_declarations], ["redis", "postgres"])

    def test_a_service_that_is_named_twice_is_one_where_its_image_is(self) -> None:
        [cls] = wanted.classes(["redis=valkey/valkey:8,redis=valkey/valkey:8", "postgres", "postgres"])
        self.assertEqual([name for name, _ in cls._itest_declarations], ["redis", "postgres"])
        for words in (["redis=nosuch:1", "redis"], ["redis,redis=nosuch:1"]):
            with self.assertRaisesRegex(ConfigError, "redis is named twice, .* the second time as 'redis"):
                wanted.classes(words)


class PsTest(CliTest):
    def test_nothing(self) -> None:
        self.assertEqual(self.run_("ps"), (0, "nothing of itest is here\n", ""))
        self.assertEqual(self.run_("ps", "--json"), (0, "[]\n", ""))

    def test_a_table(self) -> None:
        add(self.engine, "web[a]:1", naming.owner()).created = wall() - 7
        add(self.engine, "web:2", DEAD).end()
        add(self.engine, "web:3", "77@elsewhere start=1 pidns=2 boot=3 machine=4")
        add(self.engine, "web:4", "", **{naming.SHARED: "/cache/servers/1"})
        things = self.engine.things()
        things.append(things[-1]._replace(title="web:5", running=None))
        self.enterContext(mock.patch.object(self.engine, "things", return_value=things))
        code, output, errors = self.run_("ps")
        heading, _, *rows = [line.split(maxsplit=1)[-1].rstrip() for line in output.splitlines()]
        self.assertEqual((code, errors), (0, ""))
        with mock.patch.object(ps, "WIDTH", 40):  # As in a narrow terminal.
            self.assertIn("container memory-1", self.run_("ps")[1])
        self.assertEqual(" ".join(heading.split()), "version or image engine what state age owner reuse")
        self.assertEqual(
            [" ".join(row.split()) for row in rows],
            [
                f"web[a]:1 memory container memory-1 running 7 s {ME} -",
                "web:2 memory container memory-2 ended 0 s 4194305 has ended -",
                "web:3 memory container memory-3 running 0 s 77@elsewhere -",
                "web:4 memory container memory-4 running 0 s - yes",
                "web:5 memory container memory-4 unknown 0 s - yes",
            ],
        )

    def test_one_that_is_paused(self) -> None:
        add(self.engine, "web:1", "")
        [thing] = self.engine.things()
        with mock.patch.object(self.engine, "things", return_value=[thing._replace(paused=True)]):
            self.assertRegex(self.run_("ps")[1], "memory-1 +paused")

    def test_json(self) -> None:
        mine = add(self.engine, "web:1", naming.owner())
        add(self.engine, "web:2", "", **{naming.SHARED: "/cache/servers/1"})
        _, output, _ = self.run_("ps", "--json")
        first, second = json.loads(output)
        self.assertEqual(
            first,
            {
                "service": "memory",
                "title": "web:1",
                "engine": "memory",
                "kind": "container",
                "id": "memory-1",
                "running": True,
                "created": mine.created,
                "session": mine.labels[naming.SESSION],
                "owner": {"pid": os.getpid(), "host": os.uname().nodename, "lives": True},
                "shared": None,
            },
        )
        self.assertEqual((second["owner"], second["shared"]), (None, "/cache/servers/1"))

    def test_an_engine_that_is_not_there_is_no_error(self) -> None:
        self.engine = MemoryEngine(unavailable="there is no Docker socket")
        self.assertEqual(
            self.run_("ps"),
            (0, "nothing of itest is here\n", "itest: not looked at memory: there is no Docker socket\n"),
        )

    def test_an_engine_that_fails_is_one(self) -> None:
        with mock.patch.object(self.engine, "things", side_effect=ItestError("could not list the containers")):
            for command in ("ps", "sweep"):
                code, _, errors = self.run_(command)
                self.assertEqual((code, errors), (1, "itest: could not list the containers\n"))

    def test_ages(self) -> None:
        ages = {
            -1: "0 s",
            119: "119 s",
            120: "2 min",
            7199: "119 min",
            7200: "2 h",
            172800: "2 days",
            864000: "10 days",
        }
        self.assertEqual({seconds: ps.age(seconds) for seconds in ages}, ages)


class SweepTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        for owner, image in ((DEAD, "web:1"), (naming.owner(), "web:2"), ("77@elsewhere", "web:3"), ("", "web:4")):
            add(self.engine, image, owner)
        add(self.engine, "web:5", "", **{naming.SHARED: "/nowhere/servers/1"})

    def test_what_belongs_to_dead_runs(self) -> None:
        self.assertEqual(self.run_("sweep"), (0, "removed container memory-1 (web:1)\n", ""))
        self.assertEqual(images(self.engine), ["web:2", "web:3", "web:4", "web:5"])
        self.assertEqual(self.run_("sweep"), (0, "nothing to remove\n", ""))

    def test_what_a_process_is_just_keeping_the_state_of_stays(self) -> None:
        session = self.engine.instances[0].labels[naming.SESSION]
        with mock.patch.object(sweep, "keepers", lambda: f"python -c {sweep.KEEPER} {session}"):
            self.assertEqual(self.run_("sweep"), (0, "nothing to remove\n", ""))
        self.assertIn("web:1", images(self.engine))

    def test_json(self) -> None:
        stuck = self.engine.instances[1]
        with mock.patch.object(stuck, "stop", side_effect=ItestError("it is stuck")):
            code, output, errors = self.run_("sweep", "--all", "--json")
        said = json.loads(output)
        self.assertEqual((code, errors), (1, ""))
        self.assertEqual([(each["title"], each["engine"]) for each in said["removed"]], [("web:1", "memory")])
        self.assertEqual([(each["title"], each["reason"]) for each in said["failed"]], [("web:2", "it is stuck")])
        self.assertEqual(said["removed"][0].keys() | {"reason"}, said["failed"][0].keys())

    def test_all_is_also_what_belongs_to_living_processes_of_this_user(self) -> None:
        said = "removed container memory-1 (web:1)\nremoved container memory-2 (web:2)\n"
        self.assertEqual(self.run_("sweep", "--all"), (0, said, ""))
        self.assertEqual(images(self.engine), ["web:3", "web:4", "web:5"])

    @unittest.skipUnless(sharing.can_be_reused(), "nothing is shared on this platform")
    def test_all_is_also_a_shared_server_that_this_user_has_a_record_of(self) -> None:
        share = Share(Path(self.enterContext(tempfile.TemporaryDirectory()), "server"))
        instance = add(self.engine, "web:6", "", **{naming.SHARED: str(share.directory)})
        with share.gate():
            share.write(Record(instance.labels[naming.SESSION], "secret", ready=True, expires=wall() + 60))
        self.run_("sweep")
        self.assertIn("web:6", images(self.engine))
        self.run_("sweep", "--all")
        self.assertEqual(images(self.engine), ["web:3", "web:4", "web:5"])

    def test_all_is_also_a_directory_that_does_not_say_whose_it_is(self) -> None:
        thing = self.engine.things()[3]
        for kind, expected in (("directory", 0), ("network", 1)):
            with mock.patch.object(self.engine, "things", return_value=[itest.engines.Thing(kind, *_rest(thing))]):
                self.run_("sweep", "--all")
            self.assertEqual(images(self.engine).count("web:4"), expected)
            add(self.engine, "web:4", "")
            thing = self.engine.things()[-1]

    def test_what_cannot_be_removed_is_1_and_a_sentence(self) -> None:
        with mock.patch.object(self.engine.instances[0], "stop", side_effect=ItestError("it is stuck")):
            code, _, errors = self.run_("sweep")
        self.assertEqual((code, errors), (1, "itest: could not remove container memory-1 (web:1): it is stuck\n"))


@unittest.skipUnless(sharing.can_be_reused(), "nothing is shared on this platform")
class DownTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.config = Config(cache_dir=Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.enterContext(mock.patch.object(cli, "load", lambda: self.config))
        for number in (1, 2):
            share = Share(sharing.root(self.config) / str(number))
            instance = add(self.engine, f"web:{number}", "", **{naming.SHARED: str(share.directory)})
            with share.gate():
                share.write(Record(instance.labels[naming.SESSION], "secret", ready=True, expires=wall() + 60))

    def test_all_are_stopped_where_nobody_reads_it(self) -> None:
        with mock.patch.object(sys, "stdout") as stdout, self.assertRaises(BrokenPipeError):
            stdout.write.side_effect = BrokenPipeError
            up.stop(argparse.Namespace(wanted=[], all=True), self.config)
        self.assertEqual(images(self.engine), [])

    def test_all_others_are_stopped_where_one_cannot_be(self) -> None:
        with mock.patch.object(self.engine.instances[0], "stop", side_effect=ItestError("it is stuck")):
            code, output, errors = self.run_("down", "--all")
        self.assertEqual((code, output), (1, "stopped container memory-2 (web:2)\n"))
        self.assertEqual(errors, "itest: container memory-1 (web:1) stays: it is stuck\n")
        self.assertEqual(images(self.engine), ["web:1"])

    def test_where_the_cache_cannot_be_written_to_it_says_what_to_do(self) -> None:
        error = OSError(errno.EROFS, "Read-only file system", "/cache/servers/1/gate")
        with mock.patch.object(sharing, "end", side_effect=error):
            code, _, errors = self.run_("down", "--all")
        self.assertEqual((code, images(self.engine)), (1, ["web:1", "web:2"]))
        self.assertIn(f"{error}: see that {sharing.root(self.config)}/1 can be written to; `itest sweep", errors)

    def test_one_that_was_started_in_another_locale_is_found(self) -> None:
        self.config = Config(cache_dir=self.config.cache_dir / "ä")
        share = Share(sharing.root(self.config) / "3")
        spelled = os.fsencode(share.directory).decode("ascii", "surrogateescape")  # As Python does with LC_ALL=C.
        instance = add(self.engine, "web:3", "", **{naming.SHARED: spelled})
        with share.gate():
            share.write(Record(instance.labels[naming.SESSION], "secret", ready=True, expires=wall() + 60))
        thing = self.engine.things()[-1]
        self.assertEqual(self.run_("down", "--all"), (0, "stopped container memory-3 (web:3)\n", ""))
        self.assertIsNone(sweep.share_of(thing._replace(labels={naming.SHARED: "\ud800"})), "no path at all")


class FollowTest(unittest.TestCase):
    class Talking:
        """An instance that says a line and ends."""

        def __init__(self, line: bytes) -> None:
            self._line = line
            self._said = threading.Event()
            self.new: bool | None = None

        def follow(self, stop: threading.Event, *, new: bool) -> Iterator[bytes]:
            self.new = new
            yield self._line
            self._said.set()
            stop.wait(30)

        def state(self) -> State:
            return State(not self._said.is_set())

    def test_it_ends_with_the_last_of_them(self) -> None:
        instances: Any = [self.Talking(b"ready\n"), self.Talking(b"ready too\n")]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.assertTrue(logs.follow(instances, logs.Printer(several=False), new=True))
        self.assertEqual(sorted(output.getvalue().splitlines()), ["ready", "ready too"])
        self.assertEqual([each.new for each in instances], [True, True])

    def test_it_ends_where_nobody_reads_on_and_nothing_more_is_said(self) -> None:
        reader, writer = os.pipe()
        instance: Any = self.Talking(b"ready\n")
        last = Deadline.after(30)  # Else a failing test would wait without end.
        instance.state = lambda: State(not last.passed)
        output = self.enterContext(open(writer, "w"))
        self.enterContext(contextlib.redirect_stdout(output))
        with open(reader) as reading, ThreadPoolExecutor() as pool:
            following = pool.submit(logs.follow, [instance], logs.Printer(several=False), new=True)
            self.assertEqual(reading.readline(), "ready\n")
            reading.close()
            self.assertIsInstance(following.exception(timeout=60), BrokenPipeError)

    def test_lines_of_several_are_whole_and_told_apart(self) -> None:
        first: Any = self.Talking(b"one\ntwo\n")
        second: Any = self.Talking(b"three\n")
        with mock.patch.object(sys, "stdout") as stdout:
            printer = logs.Printer(several=True)
            for instance in (first, second, first):
                self.assertTrue(logs.follow([instance], printer, new=True))
        self.assertEqual(
            [call.args[0] for call in stdout.write.mock_calls],
            [
                f"==> {first} <==\none\n",
                "two\n",
                f"\n==> {second} <==\nthree\n",
                f"\n==> {first} <==\none\n",
                "two\n",
            ],
        )


def _rest(thing: itest.engines.Thing) -> Iterator[object]:
    return (getattr(thing, name) for name in ("id", "title", "labels", "created", "running", "remove"))


class CacheTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        # No test may look for what the user has built, let alone remove it.
        self.enterContext(mock.patch.object(warm_listing, "docker", lambda config: contextlib.nullcontext(self.docker)))
        self.docker: object = None
        self.foreign: list[Entry] = []
        self.enterContext(mock.patch.object(warm_listing, "foreign", lambda config: self.foreign))

    def entries(self, *found: list[Entry]) -> None:
        """What the cache holds each time it is looked at."""
        self.enterContext(mock.patch.object(warm_listing, "entries", side_effect=found))

    def entry(self, name: str = "f1", megabytes: int = 46) -> Entry:
        return Entry(name, "postgres", "archive", megabytes * 1024 * 1024, wall() - 7200, wall() - 60)

    def test_an_empty_one(self) -> None:
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        with mock.patch.object(cli, "load", lambda: Config(cache_dir=directory, engine="process")):
            self.assertEqual(self.run_("ps", "--cache"), (0, "0 kept states, 0.0 MB of at most 2048 MB\n", ""))
            self.assertEqual(self.run_("sweep", "--cache"), (0, "removed 0 kept states, 0.0 MB\n", ""))

    def test_a_table_with_the_total_and_the_limit(self) -> None:
        self.entries([self.entry(), self.entry("f2", 10)])
        _, output, _ = self.run_("ps", "--cache")
        lines = [" ".join(line.split()) for line in output.splitlines()]
        self.assertEqual(lines[0], "service kind fingerprint MB created last used")
        self.assertEqual(lines[2], "postgres archive f1 46.0 2 h ago 60 s ago")
        self.assertEqual(lines[-1], "2 kept states, 56.0 MB of at most 2048 MB")

    def test_those_of_other_cache_directories_are_told_together(self) -> None:
        self.entries([])
        self.foreign = [self.entry(), self.entry("f2", 10)]
        lines = [
            "0 kept states, 0.0 MB of at most 2048 MB",
            "2 kept states, 56.0 MB, of other cache directories on this Docker",
        ]
        self.assertEqual(self.run_("ps", "--cache")[1].splitlines(), lines)

    def test_what_could_not_be_kept_is_told_with_the_reason_and_when_it_is_tried_again(self) -> None:
        now = wall()
        failed = Entry("f2", "postgres", "nothing", 0, now - 4000, now - 4000, "the disk\nhas a fault")
        config = Config(cache_dir=Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.entries([self.entry(), failed], [self.entry(), failed], [])
        with mock.patch.object(cli, "load", lambda: config):
            _, output, _ = self.run_("ps", "--cache")
            swept = self.run_("sweep", "--cache")
        self.assertEqual(
            output.splitlines()[-2:],
            [
                "1 kept state, 46.0 MB of at most 2048 MB",
                "not kept 66 min ago, tried again in 22 h: postgres f2: the disk has a fault",
            ],
        )
        lines = [
            "removed 1 kept state, 46.0 MB",
            "removed the record of 1 that could not be kept: the next run tries again",
        ]
        self.assertEqual(swept, (0, "\n".join(lines) + "\n", ""))

    def test_json(self) -> None:
        entry = self.entry()
        self.entries([entry])
        _, output, _ = self.run_("ps", "--cache", "--json")
        found = json.loads(output)
        self.assertEqual((found["total_bytes"], found["limit_bytes"]), (entry.size_bytes, 2048 * 1024 * 1024))
        [record] = found["entries"]
        self.assertEqual(Entry(**record), entry)

    def test_sweeping_it_says_how_much_that_was(self) -> None:
        self.entries([self.entry()], [])
        config = Config(cache_dir=Path(self.enterContext(tempfile.TemporaryDirectory())))
        with mock.patch.object(cli, "load", lambda: config):
            self.assertEqual(self.run_("sweep", "--cache"), (0, "removed 1 kept state, 46.0 MB\n", ""))

    def test_what_cannot_be_deleted_counts_as_what_stays_alone(self) -> None:
        self.entries([self.entry(), self.entry("f2")], [self.entry()])
        with mock.patch.object(warm_listing, "clear", lambda config: warm_listing.entries(config)):
            code, output, errors = self.run_("sweep", "--cache")
        self.assertEqual((code, output), (1, "removed 1 kept state, 46.0 MB\n"))
        self.assertIn("could not remove the kept state f1 of postgres", errors)

    def test_images_that_were_built_are_listed_below(self) -> None:
        self.entries([], [])
        self.docker = mock.Mock()
        built = Built("itest-build:f1", "/project/Dockerfile", 3 * 1024 * 1024, wall() - 7200)
        with mock.patch.object(docker_built, "of", return_value=[built]):
            _, output, _ = self.run_("ps", "--cache")
            _, as_json, _ = self.run_("ps", "--cache", "--json")
        lines = [" ".join(line.split()) for line in output.splitlines()]
        self.assertEqual(lines[0], "0 kept states, 0.0 MB of at most 2048 MB")
        self.assertEqual(lines[1], "image built from MB with its base created")
        self.assertEqual(lines[3:], ["itest-build:f1 /project/Dockerfile 3.0 2 h ago", "1 image that was built"])
        self.assertEqual([Built(**each) for each in json.loads(as_json)["built"]], [built])

    def test_images_that_were_built_are_removed_too(self) -> None:
        self.entries([], [])
        self.docker = object()
        built = [Built(f"itest-build:f{number}", "/project/Dockerfile", 0, 0.0) for number in range(3)]
        with (
            mock.patch.object(warm_listing, "clear", return_value=[]),
            mock.patch.object(docker_built, "clear", return_value=(built[:2], built[2:])),
        ):
            code, output, errors = self.run_("sweep", "--cache")
        self.assertEqual((code, output), (1, "removed 0 kept states, 0.0 MB\nremoved 2 images that were built\n"))
        self.assertEqual(errors, "itest: could not remove image itest-build:f2: a container uses it; see `itest ps`\n")

    def test_sweeping_as_json(self) -> None:
        entry, left = self.entry(), self.entry("f2")
        self.entries([left])
        self.docker = object()
        built = [Built(f"itest-build:f{number}", "/project/Dockerfile", 0, 0.0) for number in range(3)]
        with (
            mock.patch.object(warm_listing, "clear", return_value=[entry]),
            mock.patch.object(docker_built, "clear", return_value=(built[:2], built[2:])),
        ):
            code, output, errors = self.run_("sweep", "--cache", "--json")
        counts = {"states": 1, "bytes": entry.size_bytes, "failures": 0, "images": 2}
        self.assertEqual((code, errors), (1, ""))
        self.assertEqual(json.loads(output), {"removed": counts, "failed": ["f2", "itest-build:f2"], "elsewhere": []})

    def test_what_stays_of_it_is_1_and_a_sentence(self) -> None:
        self.entries([self.entry()])
        with mock.patch.object(warm_listing, "clear", return_value=[]):
            code, output, errors = self.run_("sweep", "--cache")
        self.assertEqual((code, output), (1, "removed 0 kept states, 0.0 MB\n"))
        self.assertRegex(
            errors, "^itest: could not remove the kept state f1 of postgres: a server still runs from it, or "
        )
