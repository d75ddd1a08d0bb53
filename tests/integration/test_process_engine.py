# SPDX-License-Identifier: Apache-2.0
"""The process engine with real processes: small Python and shell servers, and PostgreSQL and Valkey where installed."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from itest import naming, owners, testing, wait
from itest.clock import SYSTEM, Deadline, wall
from itest.config import Config, load
from itest.engines import directory, launcher, process_instance, process_warm
from itest.engines.process import ProcessEngine
from itest.engines.process_instance import ProcessInstance
from itest.errors import InstanceDied, ItestError, PortTaken, StartError, StartTimeout
from itest.spec import ContainerSpec, ProcessSpec
from itest.trace import Recorder
from tests.programs import write_program

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""


def python_server(**fields: Any) -> ProcessSpec:
    """A server that takes one port and logs one line."""
    values = {"argv": (sys.executable, "-c", SERVER, "{port:main}"), "ports": ("main",), **fields}
    return ProcessSpec("a server in Python", **values)


def shell(script: str, **fields: Any) -> ProcessSpec:
    """A shell script as a server."""
    return ProcessSpec("a shell script", **{"argv": ("/bin/sh", "-c", script), "ports": (), **fields})


def kernel_tick() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def eventually(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Poll until it holds."""
    deadline = Deadline.after(seconds)
    while not condition():
        if deadline.passed:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        deadline.pause(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    if os.path.isdir("/proc/self"):
        fields = launcher._stat(pid)
        return fields is not None and fields[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def temporary_directory() -> contextlib.AbstractContextManager[str]:
    """A directory that is no instance's."""
    return tempfile.TemporaryDirectory(prefix="test-itest-")


@unittest.skipUnless(os.name == "posix", "POSIX only")
class EngineTestCase(unittest.TestCase):
    """An engine whose every instance is gone when the test ends."""

    def setUp(self) -> None:
        self.session = naming.session_id()
        self.labels = {naming.SESSION: self.session, naming.SERVICE: "thing", naming.OWNER: f"{os.getpid()}@here"}
        self.engine = ProcessEngine(load())
        self.addCleanup(self.engine.close)
        self.addCleanup(lambda: self.engine.remove({naming.SESSION: self.session}))
        self.trace = Recorder()

    def start(self, spec: ProcessSpec, seconds: float = 20.0, **labels: str) -> ProcessInstance:
        instance = self.engine.start(spec, {**self.labels, **labels}, Deadline.after(seconds), self.trace)
        self.addCleanup(instance.stop)
        return instance

    def ready(self, spec: ProcessSpec) -> ProcessInstance:
        instance = self.start(spec)
        wait.until_ready(wait.port(), instance, Deadline.after(20), subject="it")
        return instance

    def place(self, instance: ProcessInstance) -> Path:
        return next(place for place in directory.scan() if place.name == instance.id)

    def places(self) -> list[Path]:
        return [place for place in directory.scan() if self.session in place.name]


class ProcessEngineTest(EngineTestCase):
    """The Engine and Instance protocols."""

    def test_available(self) -> None:
        self.assertIsNone(self.engine.unavailable())
        with mock.patch("itest.engines.process.os.name", "nt"):
            self.assertEqual(
                self.engine.unavailable(), "servers as local processes need Linux or macOS; use Docker here"
            )

    def test_life_of_a_server(self) -> None:
        instance = self.ready(python_server())
        self.assertTrue(instance.state().running)
        self.assertEqual(str(instance.state()), "running")
        self.assertEqual(instance.endpoint(), instance.endpoint("main"))
        self.assertEqual(instance.endpoint().host, "127.0.0.1")
        self.assertEqual(instance.logs(), "listening\n")
        self.assertRegex(str(instance), r"^process \d+ \(a server in Python\)$")
        self.assertEqual(stat.S_IMODE(self.place(instance).stat().st_mode), 0o700)
        instance.stop()
        instance.stop()
        self.assertFalse(instance.state().running)
        self.assertEqual(instance.state().status, "removed")
        self.assertEqual(instance.logs(), "")
        self.assertEqual(self.places(), [])

    def test_unknown_port(self) -> None:
        instance = self.start(python_server())
        with self.assertRaisesRegex(KeyError, r"has no port 'http'; it has 'main'"):
            instance.endpoint("http")
        with self.assertRaisesRegex(KeyError, r"has no port.$"):
            self.start(shell("sleep 60")).endpoint()

    def test_only_processes(self) -> None:
        with self.assertRaisesRegex(TypeError, "cannot run image redis:7"):
            self.engine.start(ContainerSpec("redis:7"), self.labels, Deadline.after(1), self.trace)

    def test_placeholders_files_and_prepare(self) -> None:
        instance = self.ready(
            python_server(
                files={"etc/conf": "at {endpoint:main}", "password.secret": "s3cr3t"},
                prepare=(("/bin/sh", "-c", "cat *.secret > copy; echo {directory} >> copy; echo $WHERE >> copy"),),
                env={"WHERE": "{port:main}"},
            )
        )
        place = self.place(instance)
        self.assertEqual((place / "etc/conf").read_text(), f"at {instance.endpoint()}")
        self.assertEqual(stat.S_IMODE((place / "etc/conf").stat().st_mode), 0o600)
        self.assertEqual((place / "copy").read_text(), f"s3cr3t{place}\n{instance.endpoint().port}\n")
        self.assertFalse((place / "password.secret").exists())
        [span] = self.trace.spans
        self.assertEqual((span.name, span.subject, span.failed), ("prepare", "thing", False))

    def test_environment_is_not_inherited(self) -> None:
        kept = {"PATH": os.defpath, "HOME": "/home/me", "JAVA_HOME": "/java"}
        engine = ProcessEngine(load({**kept, "PGHOST": "x", "JAVA_TOOL_OPTIONS": "y"}))
        self.addCleanup(engine.close)
        with mock.patch.dict(os.environ, {"REDIS_URL": "z"}):
            spec = shell("env; sleep 60", env={"OWN": "1"})
            instance = engine.start(spec, self.labels, Deadline.after(9), self.trace)
        self.addCleanup(instance.stop)
        eventually(lambda: "OWN" in instance.logs(), "the environment is in the log")
        lines = set(instance.logs().split()) - {f"PWD={self.place(instance)}", "_=/usr/bin/env"}
        expected = {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC", "OWN": "1"}
        self.assertEqual(lines, {f"{name}={value}" for name, value in expected.items()})

    def test_what_is_asked_for_inherits_environment_umask_and_works_elsewhere(self) -> None:
        with temporary_directory() as workplace, mock.patch.dict(os.environ, {"REDIS_URL": "z", "OWN": "theirs"}):
            spec = shell("env; umask; echo up; exec sleep 60", env={"OWN": "1"}, directory=workplace, inherits=True)
            instance = self.start(spec)
            # The environment may have that word in it, too.
            eventually(lambda: instance.logs().endswith("\nup\n"), "the environment is in the log")
            place = self.place(instance)
            lines = instance.logs().splitlines()
            self.assertLessEqual({"REDIS_URL=z", "OWN=1", f"PWD={workplace}", f"{launcher.MARK}={place}"}, set(lines))
            self.assertNotIn("TZ=UTC", set(lines) - {f"{name}={value}" for name, value in os.environ.items()})
            umask = os.umask(0o022)
            os.umask(umask)
            self.assertEqual(int(lines[-2], 8), umask)
            self.assertEqual(instance.exec(["pwd"]).stdout, f"{workplace}\n")
            self.assertEqual(os.listdir(workplace), [])
            self.assertTrue(instance.state().running)
            instance.stop()
            self.assertFalse(place.exists())
            self.assertTrue(os.path.isdir(workplace))

    def test_children_of_one_that_works_elsewhere_end_with_it(self) -> None:
        with temporary_directory() as workplace:
            for end in ("wait", "exit 1"):  # Also if it ended before.
                with self.subTest(end):
                    instance = self.start(shell(f"setsid sleep 60 & echo $!; {end}", directory=workplace))
                    eventually(lambda: instance.logs().strip(), "the child")  # noqa: B023  # called at once
                    if end != "wait":
                        eventually(lambda: not instance.state().running, "its end")  # noqa: B023  # as above
                    child = int(instance.logs())
                    instance.stop()
                    eventually(lambda: not alive(child), "the child is gone")  # noqa: B023  # as above

    @unittest.skipUnless(owners.sees_processes(), "it takes a /proc")
    def test_whether_one_of_another_namespace_runs_is_told_by_what_can_be_seen_of_it(self) -> None:
        self.labels[naming.OWNER] = naming.owner()
        instance = self.start(shell("exec sleep 60"))
        eventually(lambda: launcher.running(self.place(instance)), "its id")

        def seen() -> tuple[str, str, bool | None]:
            [thing] = [each for each in ProcessEngine(load()).things() if each.labels == self.labels]
            return thing.kind, thing.id, thing.running

        runs = ("process", str(launcher.running(self.place(instance))), True)
        self.assertEqual(seen(), runs)
        with mock.patch.object(owners, "_namespace", return_value="1"):
            self.assertEqual(seen(), runs)  # From around it.
            with mock.patch.object(launcher, "inhabitants", return_value=[]):
                self.assertEqual(seen(), ("directory", instance.id, None))
                # Whoever follows its log goes on until its directory is gone.
                with mock.patch.object(launcher, "running", return_value=None):
                    [found] = ProcessEngine(load()).find(self.labels)
                    self.assertTrue(found.state().running)
                    with mock.patch.object(owners, "is_dead", return_value=True):  # The machine was restarted.
                        self.assertFalse(found.state().running)
                    instance.stop()
                    self.assertFalse(found.state().running)

    @unittest.skipUnless(owners.sees_processes(), "it takes a /proc")
    def test_an_id_that_was_written_where_there_was_no_proc_is_nobodys_here(self) -> None:
        with temporary_directory() as place:
            Path(place, launcher.PID_FILE).write_text(f"{os.getpid()}\n")
            self.assertIsNone(launcher.running(Path(place)))
            with mock.patch.object(owners, "sees_processes", return_value=False):
                self.assertEqual(launcher.running(Path(place)), os.getpid())

    def test_it_is_started_again_at_the_same_address(self) -> None:
        with temporary_directory() as workplace:
            script = f"setsid sleep 60 & echo $!; exec {sys.executable} -c '{SERVER}' $0"
            argv = ("/bin/sh", "-c", script, "{port:main}")
            instance = self.ready(python_server(argv=argv, directory=workplace))
            endpoint, before = instance.endpoint(), launcher.running(self.place(instance))
            instance.restart()
            wait.until_ready(wait.log("listening", times=2) & wait.port(), instance, Deadline.after(20), subject="it")
            self.assertEqual(instance.endpoint(), endpoint)
            self.assertNotIn(launcher.running(self.place(instance)), (before, None))
            first, second = (int(line) for line in instance.logs().split() if line.isdecimal())
            self.assertFalse(alive(first))
            self.assertTrue(alive(second))
            found = next(iter(ProcessEngine(load()).find(self.labels)))
            with self.assertRaisesRegex(ItestError, "cannot be restarted here: another process has started it"):
                found.restart()  # type: ignore[attr-defined]  # a ProcessInstance

    def test_it_is_known_again_where_it_works_elsewhere(self) -> None:
        with temporary_directory() as workplace:
            instance = self.start(shell("setsid sleep 60 & echo $!; wait", directory=workplace))
            eventually(lambda: instance.logs().strip(), "the child")
            child = int(instance.logs())
            other = ProcessEngine(load())
            self.addCleanup(other.close)
            self.assertEqual(other.remove(self.labels), 1)
            eventually(lambda: not alive(child), "the child is gone")

    def test_what_runs_beside_one_that_was_found_has_its_variables(self) -> None:
        instance = self.start(shell("exec sleep 60", env={"DB_PASSWORD": "b0bPw", "PLACE": "{directory}/x"}))
        [found] = ProcessEngine(load()).find(self.labels)
        for each in (instance, found):
            said = each.exec(["sh", "-c", "echo $DB_PASSWORD $PLACE"]).stdout
            self.assertEqual(said, f"b0bPw {self.place(instance)}/x\n")
        self.assertNotIn("b0bPw", repr(directory.read(self.place(instance))))
        mode = (self.place(instance) / directory.STATE_FILE).stat().st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_a_workplace_that_is_not_there(self) -> None:
        instance = self.start(shell("sleep 60", directory="/no/such/place"))
        eventually(lambda: not instance.state().running, "its end")
        self.assertIn("/no/such/place", instance.logs())

    def test_exec(self) -> None:
        instance = self.ready(python_server(env={"OWN": "1"}))
        result = instance.exec(["sh", "-c", "pwd; echo $OWN; echo oops >&2; exit 3"])
        self.assertEqual(result, (3, f"{self.place(instance)}\n1\n", "oops\n"))
        self.assertEqual(instance.exec([os.path.basename(sys.executable), "-c", "print(1)"]).stdout, "1\n")
        self.assertEqual(instance.exec(["no-such-program"]).exit_code, 127)

    def test_exec_ends_with_its_command_whatever_that_leaves_in_the_background(self) -> None:
        instance = self.start(shell("exec sleep 60"))
        result = instance.exec(["sh", "-c", "sleep 50 & echo $!"])
        try:
            self.assertEqual(result.exit_code, 0)
        finally:
            os.kill(int(result.stdout), signal.SIGKILL)

    def test_whoever_asks_for_the_log_again_and_again_forgets_no_test(self) -> None:
        instance = self.start(shell("echo of the test before; exec sleep 60"))
        deadline = Deadline.after(10)
        while "before" not in instance.logs():
            self.assertFalse(deadline.passed)
            deadline.pause(0.01)
        since = wall()
        instance.mark()
        for _ in range(1500):
            instance.logs()
        with (self.place(instance) / process_instance.LOG_FILE).open("a") as log:
            log.write("of this test\n")
        self.assertEqual(instance.logs(since=since), "of this test\n")

    def test_exec_is_ended_in_time(self) -> None:
        instance = self.start(shell("exec sleep 60"))
        with self.assertRaisesRegex(
            TimeoutError, r"^`sleep 50` beside process \d+ \(a shell script\) had not ended after 0\.2 s; if it only"
        ):
            instance.exec(["sleep", "50"], timeout=0.2)
        self.assertEqual(len(launcher.inhabitants(self.place(instance))), 1)

    def test_logs(self) -> None:
        instance = self.start(shell("echo one; echo two; until [ -e go ]; do sleep 0.01; done; echo three; sleep 60"))
        eventually(lambda: "two" in instance.logs(), "two lines")
        self.assertEqual(instance.logs(tail=1), "two\n")
        self.assertEqual(instance.logs(tail=0), "")
        SYSTEM.sleep(0.05)
        moment = wall()
        self.assertEqual(instance.logs(since=moment), "")
        (self.place(instance) / "go").touch()
        eventually(lambda: "three" in instance.logs(), "the third line")
        self.assertEqual(instance.logs(since=moment), "three\n")
        self.assertEqual(instance.logs(since=0.0), "one\ntwo\nthree\n")

    def test_long_logs_are_read_from_their_end(self) -> None:
        instance = self.start(shell("sleep 60"))
        with mock.patch.object(process_instance, "_LOG_LIMIT", 100):
            log = self.place(instance) / process_instance.LOG_FILE
            log.write_text("x" * 60 + "\nend\n")
            self.assertEqual((len(instance.logs()), instance.logs_more(0.0)), (65, False))
            moment = wall()
            log.write_text("x" * 1000 + "\nbegin" + "x" * 85 + "\nend\n")
            self.assertEqual(instance.logs(), "begin" + "x" * 85 + "\nend\n")
            self.assertTrue(instance.logs_more(moment))
            log.write_text("x" * 1000 + "\n")  # Nothing but a part of a line.
            self.assertEqual(instance.logs(), "x" * 99 + "\n")

    def test_exit_code_and_signal(self) -> None:
        instance = self.start(shell("exit 7"))
        eventually(lambda: not instance.state().running, "its end")
        self.assertEqual(str(instance.state()), "exited with exit code 7")
        instance = self.start(shell("kill -9 $$"))
        eventually(lambda: not instance.state().running, "its end")
        self.assertEqual(str(instance.state()), "killed by SIGKILL")

    def test_missing_program(self) -> None:
        instance = self.start(ProcessSpec("Nothing 1.0", ("/no/such/program",), ()))
        with self.assertRaises(InstanceDied) as caught:
            wait.until_ready(wait.log("up"), instance, Deadline.after(10), subject="it")
        self.assertEqual(caught.exception.exit_code, 127)
        self.assertIn("/no/such/program: not found", caught.exception.__notes__[0])

    def test_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            with mock.patch("itest.engines.process.free_port", return_value=other.getsockname()[1]):
                instance = self.start(python_server())
            eventually(lambda: not instance.state().running, "its end")
            with self.assertRaisesRegex(
                PortTaken, "^it ended before it was ready: .*, because another program has its host port"
            ):
                wait.until_ready(wait.port(), instance, Deadline.after(10), subject="it")

    def test_failing_prepare(self) -> None:
        password = naming.secret()
        with self.assertRaises(StartError) as caught:
            self.start(shell("", prepare=(("/bin/true",), ("/bin/sh", "-c", f"echo no {password}; exit 3"))))
        self.assertRegex(
            str(caught.exception),
            r"^preparing a shell script failed: `/bin/sh -c 'echo no \*\*\*; exit 3'` exited with code 3, "
            r"\d\.\d s after the start began$",
        )
        self.assertTrue(caught.exception.__notes__[0].endswith(":\n  | no ***"), caught.exception.__notes__)
        self.assertEqual(caught.exception.service, "thing")
        self.assertEqual(self.places(), [])
        self.assertTrue(self.trace.spans[0].failed)

    def test_slow_prepare(self) -> None:
        with self.assertRaises(StartTimeout) as caught:
            self.start(shell("", prepare=(("/bin/sh", "-c", "echo slow; sleep 60"),)), seconds=0.3)
        self.assertEqual(
            str(caught.exception),
            "preparing a shell script took too long: `/bin/sh -c 'echo slow; sleep 60'` had not ended within 0.3 s. "
            "If it only needs longer, raise startup_timeout",
        )
        self.assertEqual(self.places(), [])

    def test_a_start_that_fails_is_a_start_error(self) -> None:
        failure = mock.patch("itest.engines.process.free_port", side_effect=OSError("no free port"))
        with failure, self.assertRaises(StartError) as caught:
            self.start(python_server())
        self.assertEqual(str(caught.exception), "a server in Python could not be started: no free port")
        self.assertEqual(self.places(), [])

    def test_the_thread_that_starts_processes_cannot_start_once(self) -> None:
        begin = threading.Thread.start

        def refused(thread: threading.Thread) -> None:
            if thread.name == "itest-launcher":
                raise RuntimeError("can't start new thread")
            begin(thread)

        with mock.patch.object(threading.Thread, "start", refused), self.assertRaises(StartError) as caught:
            self.start(shell("exec sleep 60"))
        self.assertEqual(caught.exception.cause, "too many threads")
        self.assertIn("can't start new thread", str(caught.exception))
        self.assertIn("`ulimit -u`", str(caught.exception))
        self.engine.close()
        self.assertTrue(self.start(shell("exec sleep 60")).state().running)

    def test_state_file_masks_passwords(self) -> None:
        password = naming.secret()
        instance = self.start(shell("sleep 60", argv=("/bin/sh", "-c", "sleep 60", password)))
        text = (self.place(instance) / directory.STATE_FILE).read_text()
        self.assertNotIn(password, text)
        self.assertEqual(json.loads(text)["labels"], self.labels)


class UnpackTest(unittest.TestCase):
    """A kept state that tar does not unpack."""

    def test_a_tar_that_dies_is_told_by_its_signal(self) -> None:
        place = Path(self.enterContext(temporary_directory()))
        (place / "state.tar").touch()
        program = write_program(place / "tar", "kill -XFSZ $$")
        told = "state.tar could not be unpacked: tar was killed by SIGXFSZ: it said nothing$"
        with mock.patch.object(process_warm, "_tar", lambda: str(program)), self.assertRaisesRegex(StartError, told):
            process_warm.unpack(place / "state.tar", place, None)


class ProcessConformance(testing.EngineConformance):
    """What every engine must do."""

    def engine(self) -> ProcessEngine:
        return ProcessEngine(load())

    def spec(self) -> ProcessSpec:
        return shell("echo ready; sleep 60", ports=("one", "two"))


class StopTest(EngineTestCase):
    """Nothing remains, whatever the server does."""

    def test_stop_signal_arrives(self) -> None:
        witness = Path(self.enterContext(temporary_directory())) / "witness"
        script = f"trap 'echo usr1 > {witness}; exit' USR1; echo up; while :; do sleep 0.01; done"
        instance = self.start(shell(script, stop_signal=signal.SIGUSR1))
        eventually(lambda: "up" in instance.logs(), "up")
        instance.stop()
        self.assertEqual(witness.read_text(), "usr1\n")

    def test_deaf_server_is_killed(self) -> None:
        instance = self.start(shell("trap '' TERM; echo up; while :; do sleep 0.01; done"))
        eventually(lambda: "up" in instance.logs(), "up")
        with mock.patch.object(process_instance, "STOP_WAIT", 0.2):
            instance.stop()
        self.assertEqual(self.places(), [])
        self.assertEqual(instance.state().exit_code, -signal.SIGKILL)

    def test_grandchildren_in_their_own_session(self) -> None:
        instance = self.start(shell("setsid sleep 60 & echo $!; mkdir deep; cd deep; setsid sleep 60 & echo $!; wait"))
        eventually(lambda: len(instance.logs().split()) == 2, "both children")
        children = [int(word) for word in instance.logs().split()]
        instance.stop()
        for child in children:
            eventually(lambda pid=child: not alive(pid), "the child is gone")  # type: ignore[misc]  # inferred

    def test_deaf_grandchild_is_killed(self) -> None:
        instance = self.start(shell("setsid sh -c \"trap '' TERM; echo up; while :; do sleep 0.1; done\" & wait"))
        eventually(lambda: "up" in instance.logs(), "up")
        with mock.patch.object(directory, "STRAGGLER_WAIT", 0.1):
            instance.stop()
        self.assertEqual(self.places(), [])

    def test_dead_server_leaves_nothing(self) -> None:
        instance = self.start(shell("setsid sleep 60 & echo $!; exit 1"))
        eventually(lambda: not instance.state().running, "its end")
        child = int(instance.logs())
        instance.stop()
        eventually(lambda: not alive(child), "the child is gone")
        self.assertEqual(self.places(), [])

    def test_no_descriptor_no_zombie(self) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

        def children() -> set[str]:
            found = set()
            for stat_file in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    pid, _, rest = stat_file.read_text().partition(" ")
                    if rest.rpartition(")")[2].split()[1] == str(os.getpid()):
                        found.add(pid)
            return found

        self.start(shell("sleep 60", prepare=(("/bin/true",),))).stop()
        gc.collect()  # What earlier tests have left to it may have descriptors.
        before, family = descriptors(), children()
        for _ in range(3):
            instance = self.start(shell("sleep 60", prepare=(("/bin/true",),)))
            instance.exec(["true"])
            instance.stop()
        self.assertEqual(descriptors(), before)
        self.assertEqual(children() - family, set())

    def test_directory_that_cannot_be_deleted(self) -> None:
        instance = self.start(shell("sleep 60"))
        with (
            mock.patch.object(directory, "REMOVE_WAIT", 0.1),
            mock.patch("itest.engines.directory.shutil.rmtree"),
            self.assertRaisesRegex(ItestError, r"^the directory .*thing.* could not be deleted within 0\.1 s; look"),
        ):
            instance.stop()
        instance.stop()
        self.assertEqual(self.places(), [])

    def test_close_leaves_what_runs(self) -> None:
        before = threading.enumerate()  # Those of other engines: the tests' session may have servers by now.
        instance = self.ready(python_server())
        self.engine.close()
        SYSTEM.sleep(0.1)
        self.assertTrue(instance.state().running)
        instance.stop()
        self.engine.close()
        self.assertNotIn("itest-launcher", [thread.name for thread in threading.enumerate() if thread not in before])
        self.ready(python_server()).stop()  # and it starts anew


class FindTest(EngineTestCase):
    """By labels alone, as from another process."""

    def setUp(self) -> None:
        super().setUp()
        self.other = ProcessEngine(Config())  # knows nothing but the directories
        self.addCleanup(self.other.close)

    def test_found_instance(self) -> None:
        instance = self.ready(python_server())
        [found] = self.other.find({naming.SESSION: self.session, naming.SERVICE: "thing"})
        self.assertIsNot(found, instance)
        self.assertEqual(str(found), str(instance))
        self.assertEqual(found.endpoint("main"), instance.endpoint("main"))
        self.assertEqual(found.logs(), "listening\n")
        self.assertTrue(found.state().running)
        self.assertEqual(found.exec(["echo", "hello"]).stdout, "hello\n")
        self.assertEqual(self.other.find({naming.SESSION: self.session, naming.SERVICE: "no"}), [])
        self.assertEqual(self.engine.find({naming.SESSION: self.session}), [instance])

    def test_remove(self) -> None:
        instances = [self.ready(python_server()) for _ in range(2)]
        self.assertEqual(self.other.remove({naming.SESSION: self.session}), 2)
        self.assertEqual([instance.state().running for instance in instances], [False, False])
        self.assertEqual(self.places(), [])
        self.assertEqual(self.other.remove({naming.SESSION: self.session}), 0)

    def test_remove_needs_a_label(self) -> None:
        with self.assertRaisesRegex(ValueError, "at least one label"):
            self.other.remove({})

    def test_deaf_server_is_killed(self) -> None:
        instance = self.start(shell("trap '' TERM; echo up; while :; do sleep 0.01; done"))
        eventually(lambda: "up" in instance.logs(), "up")
        with mock.patch.object(process_instance, "STOP_WAIT", 0.2):
            self.assertEqual(self.other.remove(self.labels), 1)
        self.assertFalse(instance.state().running)

    @unittest.skipUnless(os.path.isdir("/proc/self"), "needs /proc")
    def test_reused_process_id(self) -> None:
        """A pid file that names a process which is not the one that wrote it."""
        self.labels[naming.OWNER] = naming.owner()
        instance = self.start(shell("exit 0"))
        eventually(lambda: not instance.state().running, "its end")
        # The kernel tells when a process started in ticks of 10 ms; nobody has another's id again within the same one.
        ended = kernel_tick()
        eventually(lambda: kernel_tick() > ended, "the next tick")
        bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        pid_file = self.place(instance) / launcher.PID_FILE
        pid_file.write_text(f"{bystander.pid} {pid_file.read_text().split(' ', 1)[1]}")
        [found] = self.other.find(self.labels)
        self.assertFalse(found.state().running)
        self.assertEqual(self.other.remove(self.labels), 1)
        self.assertIsNone(bystander.poll())

    def test_directory_without_state_file(self) -> None:
        """Its owner was killed before it could write the file."""
        place = directory.create(self.labels)
        (place / directory.STATE_FILE).write_text('{"labels": {')
        self.assertEqual(self.other.find(self.labels), [])
        self.assertEqual(self.other.remove({naming.SESSION: self.session}), 1)
        self.assertFalse(place.exists())

    def test_other_directories_are_left_alone(self) -> None:
        with tempfile.TemporaryDirectory(prefix="itest-cache-") as other:
            self.assertNotIn(Path(other).resolve(), list(directory.scan()))

    def test_state_in_a_forked_child(self) -> None:
        instance = self.ready(python_server())
        child = os.fork()
        if child == 0:
            os._exit(0 if instance.state().running else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertTrue(instance.state().running)


class ThreadTest(EngineTestCase):
    """The parent-death signal comes when the starting thread ends; services are started from short-lived ones."""

    def test_server_outlives_the_thread_that_asked_for_it(self) -> None:
        started: list[ProcessInstance] = []
        thread = threading.Thread(target=lambda: started.append(self.ready(python_server())))
        thread.start()
        thread.join(30)
        SYSTEM.sleep(0.3)
        self.assertTrue(started[0].state().running)

    def test_many_at_once(self) -> None:
        started: list[ProcessInstance] = []
        threads = [threading.Thread(target=lambda: started.append(self.ready(python_server()))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(len({instance.endpoint().port for instance in started}), 5)
        self.assertEqual([instance.state().running for instance in started], [True] * 5)


if __name__ == "__main__":
    unittest.main()
