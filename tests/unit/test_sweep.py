# SPDX-License-Identifier: Apache-2.0
"""What a sweep takes for left behind, what it leaves alone, and that no run waits for it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from itest import detached, naming, owners, reaper, sharing, sweep, testing
from itest.clock import Deadline, wall
from itest.engines import Thing, directory
from itest.engines.external import ExternalEngine
from itest.errors import ItestError
from itest.sharing import Record, Share
from itest.spec import ContainerSpec
from itest.sweep import Sweeps
from itest.testing import MemoryEngine, MemoryInstance, MemoryService
from itest.trace import Recorder

DEAD = str(owners.current()._replace(pid=4194305))
"""An owner on this machine with a process id above the highest that Linux gives out."""


def add(engine: MemoryEngine, image: str, owner: str, **labels: str) -> MemoryInstance:
    """Something that another run has made."""
    marks = {naming.SESSION: naming.session_id(), naming.SERVICE: "memory", naming.OWNER: owner, **labels}
    instance = engine.start(ContainerSpec(image), marks, Deadline.after(5), Recorder())
    assert isinstance(instance, MemoryInstance)
    return instance


def images(engine: MemoryEngine) -> list[str]:
    return [instance.spec.image for instance in engine.instances]


class OverTest(unittest.TestCase):
    def thing(self, **labels: str) -> Thing:
        return Thing("container", "c0ffee", "web:1", labels, 0.0, True, lambda: None)

    def test_what_belongs_to_a_dead_process_is_over(self) -> None:
        self.assertTrue(sweep.is_over(self.thing(**{naming.OWNER: DEAD})))

    def test_what_belongs_to_a_living_process_or_to_nobody_known_is_not(self) -> None:
        for owner in (naming.owner(), "", "4194305@elsewhere"):
            self.assertFalse(sweep.is_over(self.thing(**{naming.OWNER: owner})), owner)
        self.assertFalse(sweep.is_over(self.thing()))


@unittest.skipUnless(sharing.can_be_reused(), "nothing is shared on this platform")
class SharedTest(unittest.TestCase):
    """Servers that several processes use: their records say whether anybody does, where they can be found."""

    def setUp(self) -> None:
        self.engine = MemoryEngine()
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()), "server")
        self.share = Share(self.directory)

    def shared(self, owner: str = "", *, expires: float = 0.0, session: str = "") -> Thing:
        """A shared server; with a record if that is to name a session, `its` for its own."""
        instance = add(self.engine, "web:1", owner, **{naming.SHARED: str(self.directory)})
        own = instance.labels[naming.SESSION]
        if session:
            with self.share.gate():
                record = Record(own if session == "its" else session, "secret", ready=True, expires=expires)
                self.share.write(record)
        [thing] = self.engine.things()
        return thing

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Somebody uses it within the `with`."""
        user = Share(self.directory)
        with user.gate():
            user.join()
        yield
        user.leave()

    def test_one_that_nobody_uses_and_whose_time_is_over_goes_with_its_record(self) -> None:
        thing = self.shared(expires=1.0, session="its")
        self.assertTrue(sweep.is_over(thing))
        self.assertEqual(sweep.remove([thing]).removed, [thing])
        self.assertEqual((self.engine.instances, self.share.read()), ([], None))

    def test_one_that_has_time_left_stays(self) -> None:
        self.assertFalse(sweep.is_over(self.shared(expires=wall() + 60, session="its")))

    def test_one_that_is_in_use_stays_also_when_that_began_a_moment_ago(self) -> None:
        for owner in ("", DEAD):
            self.engine.instances.clear()
            thing = self.shared(owner, session="its")
            self.assertTrue(sweep.is_over(thing))
            with self.in_use():
                self.assertFalse(sweep.is_over(thing))
                self.assertEqual(sweep.remove([thing]).removed, [])

    def test_unless_it_is_asked_for_all(self) -> None:
        thing = self.shared(session="its")
        with self.in_use():
            self.assertEqual(sweep.remove([thing], in_use=True).removed, [thing])

    def test_one_of_a_run_whose_first_process_lives_stays_and_nobody_waits_for_its_gate(self) -> None:
        with mock.patch.object(sharing, "is_over", side_effect=AssertionError("it was asked")):
            self.assertFalse(sweep.is_over(self.shared(naming.owner(), session="its")))

    def test_without_a_record_of_its_own_only_a_dead_owner_is_certain(self) -> None:
        """The directory may be another machine's or container's, which has the same path there."""
        for session in ("", "another"):
            for owner, over in ((DEAD, True), ("", False), ("4194305@elsewhere", False)):
                with self.subTest(session=session, owner=owner):
                    self.engine.instances.clear()
                    self.assertIs(sweep.is_over(self.shared(owner, expires=1.0, session=session)), over)


class RemoveTest(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = MemoryEngine()

    def test_all_are_removed_and_named(self) -> None:
        add(self.engine, "web:1", DEAD)
        add(self.engine, "web:2", DEAD)
        swept = sweep.remove(self.engine.things())
        self.assertEqual(list(map(str, swept.removed)), ["container memory-1 (web:1)", "container memory-2 (web:2)"])
        self.assertEqual((swept.failed, self.engine.instances), ([], []))

    def test_one_that_cannot_be_removed_does_not_keep_the_others(self) -> None:
        secret = naming.secret()
        first = add(self.engine, "web:1", DEAD)
        add(self.engine, "web:2", DEAD)
        with mock.patch.object(first, "stop", side_effect=ItestError(f"it is stuck with {secret}")):
            swept = sweep.remove(self.engine.things())
        self.assertEqual(
            [(str(thing), why) for thing, why in swept.failed], [("container memory-1 (web:1)", "it is stuck with ***")]
        )
        self.assertEqual(images(self.engine), ["web:1"])

    def test_it_ends_when_it_is_told_to(self) -> None:
        for number in range(3):
            add(self.engine, f"web:{number}", DEAD)
        sweep.remove(self.engine.things(), lambda: len(self.engine.instances) == 2)
        self.assertEqual(images(self.engine), ["web:1", "web:2"])

    def test_what_a_process_keeps_the_state_of_stays(self) -> None:
        self.assertIn(sweep.KEEPER, detached.calling("itest.warm_keeper"))
        kept, _ = add(self.engine, "web:1", DEAD), add(self.engine, "web:2", DEAD)
        code = f"{sweep.KEEPER.replace('from', '# from')}\nimport sys; print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-I", "-S", "-c", code, kept.labels[naming.SESSION]]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
            assert keeper.stdout is not None
            keeper.stdout.readline()  # Its command line can be read a moment after Popen() returns.
            sweep.remove(self.engine.things())
            self.assertEqual(images(self.engine), ["web:1"])
            keeper.communicate(timeout=60)
        sweep.remove(self.engine.things())
        self.assertEqual(images(self.engine), [])

    def test_where_there_is_no_proc_ps_says_who_keeps_a_state(self) -> None:
        add(self.engine, "web:1", DEAD, **{naming.SESSION: "0123456789"})
        with (
            mock.patch.object(Path, "glob", return_value=[]),
            mock.patch.object(subprocess, "run") as run,
        ):
            run.return_value.stdout = f"python -c ...{sweep.KEEPER}... 0123456789\nsh\n"
            self.assertEqual(sweep.remove(self.engine.things()).removed, [])
            run.side_effect = FileNotFoundError("ps")
            self.assertEqual(len(sweep.remove(self.engine.things()).removed), 1)

    def test_an_external_engine_has_made_nothing(self) -> None:
        self.assertEqual(ExternalEngine().things(), [])


@unittest.skipUnless(sys.platform != "win32", "local processes need Linux or macOS")
class DirectoryTest(unittest.TestCase):
    def test_who_is_killed_while_he_deletes_a_directory_leaves_one_that_says_whose_it_is(self) -> None:
        place = directory.create({naming.SESSION: naming.session_id(), naming.OWNER: naming.owner()})
        self.addCleanup(directory.remove, place)
        directory.write(place, directory.Record({naming.OWNER: DEAD}))
        (place / "data").mkdir()
        (place / "data" / "file").touch()
        (place / "itest.log").touch()
        delete = shutil.rmtree

        def killed(path: object, **options: Any) -> None:
            if Path(str(path)) == place:
                raise KeyboardInterrupt
            delete(str(path), **options)

        with mock.patch.object(shutil, "rmtree", killed), self.assertRaises(KeyboardInterrupt):
            directory.remove(place)
        self.assertEqual([entry.name for entry in place.iterdir()], [directory.STATE_FILE])
        self.assertEqual(directory.read(place).labels, {naming.OWNER: DEAD})


class WorkersTest(unittest.TestCase):
    """What is removed at the end of a process, where the reapers of its workers end with it."""

    def setUp(self) -> None:
        self.broken, self.engine = MemoryEngine(), MemoryEngine()
        self.enterContext(mock.patch.object(reaper, "engines", return_value=[lambda: self.broken, lambda: self.engine]))
        self.enterContext(mock.patch.object(detached, "goes_on", return_value=False))
        self.enterContext(mock.patch.dict(sys.modules, {"multiprocessing.popen_any": sys}))

    def test_an_engine_that_cannot_be_asked_does_not_hide_the_other(self) -> None:
        add(self.engine, "web:1", DEAD)
        with mock.patch.object(self.broken, "things", side_effect=OSError("input/output error")):
            sweep.after_workers(os.getpid())
        self.assertEqual(images(self.engine), [])

    def test_it_goes_on_for_no_longer_than_it_may(self) -> None:
        add(self.engine, "web:1", DEAD)
        with mock.patch.object(reaper, "REMOVAL_WAIT", 0.0):
            sweep.after_workers(os.getpid())
        self.assertEqual(images(self.engine), ["web:1"])


class SweepsTest(unittest.TestCase):
    """What a session begins with its first start on an engine."""

    def setUp(self) -> None:
        self.engine = MemoryEngine()

    def sweep(self, *, quiet: bool = False) -> str:
        """What a run says of its sweep."""
        with mock.patch.object(sys, "__stderr__", io.StringIO()) as said:
            sweeps = Sweeps(quiet)
            sweeps.begin(self.engine)
            sweeps.close()
        return said.getvalue()

    def test_what_dead_runs_have_left_is_removed_and_said(self) -> None:
        for owner, image in ((DEAD, "web:1"), (naming.owner(), "web:2"), ("1@elsewhere", "web:3"), (DEAD, "web:4")):
            add(self.engine, image, owner)
        self.assertEqual(
            self.sweep(),
            "itest: removed what a killed run had left: container memory-1 (web:1); container memory-4 (web:4)\n",
        )
        self.assertEqual(images(self.engine), ["web:2", "web:3"])

    def test_nothing_is_said_where_there_is_nothing_and_by_a_quiet_run(self) -> None:
        self.assertEqual(self.sweep(), "")
        add(self.engine, "web:1", DEAD)
        self.assertEqual((self.sweep(quiet=True), images(self.engine)), ("", []))

    def test_what_cannot_be_removed_is_said(self) -> None:
        stuck = add(self.engine, "web:1", DEAD)
        with mock.patch.object(stuck, "stop", side_effect=ItestError("it is stuck")):
            said = self.sweep()
        self.assertEqual(
            said, "itest: could not remove container memory-1 (web:1), which a killed run has left: it is stuck\n"
        )

    def test_an_engine_that_cannot_be_asked_stops_no_run(self) -> None:
        with mock.patch.object(self.engine, "things", side_effect=ItestError("no answer")) as things:
            self.assertEqual(self.sweep(), "")
        things.assert_called_once_with()

    def test_each_engine_is_swept_once_and_none_after_the_end(self) -> None:
        sweeps = Sweeps(quiet=True)
        with mock.patch.object(self.engine, "things", return_value=[]) as things:
            sweeps.begin(self.engine)
            sweeps.begin(self.engine)
            sweeps.close()
            sweeps.begin(self.engine)
        things.assert_called_once_with()

    def test_nothing_is_swept_where_no_thread_can_be_started_any_more(self) -> None:
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("at interpreter shutdown")):
            self.assertEqual(self.sweep(), "")

    def test_nobody_waits_for_it_and_the_end_of_the_run_only_a_moment(self) -> None:
        go = threading.Event()
        slow, other = add(self.engine, "web:1", DEAD), add(self.engine, "web:2", DEAD)
        with mock.patch.object(slow, "stop", lambda: go.wait(60)), mock.patch.object(sweep, "CLOSE_WAIT", 0.1):
            before, began = set(threading.enumerate()), Deadline.after(20)
            self.sweep(quiet=True)
            self.assertLess(began.elapsed, 2)
            [thread] = [each for each in threading.enumerate() if each.name == "itest-sweep" and each not in before]
            go.set()
            thread.join(60)
        self.assertIn(other, self.engine.instances, "the rest is left to a later run")

    def test_engines_that_were_given_to_a_session_are_not_swept(self) -> None:
        add(self.engine, "web:1", DEAD)
        with testing.session(self.engine) as session:
            session.lend(MemoryService())
        self.assertEqual(images(self.engine), ["web:1"])
