# SPDX-License-Identifier: Apache-2.0
"""Who shares a server with whom, and who is the last; locks of two objects are as good as those of two processes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import signal
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from itest import Kafka, Postgres, Redis, joining, naming, sharing, starting, trace, warm
from itest.clock import wall
from itest.config import Config, load
from itest.engines import State
from itest.errors import ItestError
from itest.sharing import Record, Share
from itest.testing import ManualClock
from itest.wait import NotReady

RECORD = Record("0123456789abcdef0123", "secret-of-the-record", "redis", "program", ready=True)


class ShareTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()), "servers", "key")
        self.removed: list[str] = []

    def share(self, lifetime: float = 0.0) -> Share:
        share = Share(self.place, "1@host", lifetime)
        self.addCleanup(share.let_go)
        return share

    def reap(self, session: str = "") -> bool:
        return sharing.reap(self.place, self.removed.append, session)

    def test_what_runs_is_known_though_somebody_deletes_the_directory(self) -> None:
        self.assertTrue(self.reap("label"))
        self.assertEqual(self.removed, ["label"])

    def test_the_first_is_alone_and_so_is_the_last(self) -> None:
        one, other = self.share(), self.share()
        with one.gate():
            self.assertTrue(one.join())
        with other.gate():
            self.assertFalse(other.join())
        with one.gate():
            self.assertFalse(one.leave())
        with other.gate():
            self.assertTrue(other.leave())
            self.assertFalse(other.leave(), "it has left already")

    def test_what_one_has_claimed_no_other_has_until_it_is_given_back(self) -> None:
        one, other = self.share(), self.share()
        with one.gate():
            one.join()
        self.assertTrue(one.claim("database-1"))
        self.assertFalse(other.claim("database-1"))
        self.assertTrue(other.claim("database-2"))
        one.give_back("database-1")
        one.give_back("database-1")
        self.assertTrue(other.claim("database-1"))

    def test_it_can_be_claimed_though_somebody_deletes_the_directory(self) -> None:
        share = self.share()
        with share.gate():
            share.join()
        shutil.rmtree(self.place.parent)
        self.assertTrue(share.claim("database-1"))

    def test_the_last_stops_it_though_a_file_has_the_directorys_place(self) -> None:
        share, server = self.share(lifetime=60.0), mock.Mock(title="Redis 8.0")
        with share.gate():
            share.join()
            share.write(RECORD)
        shutil.rmtree(self.place.parent)
        self.place.parent.touch()
        with self.assertRaisesRegex(ItestError, f"{self.place} cannot be written to .Not a directory.: see what"):
            share.claim("database-1")
        joining.leave(server, share)
        self.assertEqual([name for name, _, _ in server.mock_calls], ["close", "instance.stop"])

    def test_whoever_has_it_stay_is_heard_though_others_still_use_it(self) -> None:
        longest, last = self.share(lifetime=600.0), self.share(lifetime=60.0)
        for share in (longest, last):
            with share.gate():
                share.join()
        longest.write(RECORD)
        for share in (longest, last):
            server = mock.Mock()
            joining.leave(server, share)
            self.assertEqual([name for name, _, _ in server.mock_calls], ["instance.disown", "close"])
        record = longest.read()
        assert record is not None
        self.assertGreater(record.expires, wall() + 500)

    def test_a_full_disk_ends_its_time_sooner_and_nothing_else(self) -> None:
        share, server = self.share(lifetime=60.0), mock.Mock(title="Redis 8.0")
        with share.gate():
            share.join()
            share.write(RECORD)
        with (
            mock.patch.object(Share, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")),
            mock.patch("sys.__stderr__", io.StringIO()) as said,
        ):
            joining.leave(server, share)
        self.assertRegex(
            said.getvalue(), f"^itest: Redis 8.0 stays .* since {self.place} .*No space left.*: make room there"
        )
        self.assertEqual([name for name, _, _ in server.mock_calls], ["instance.disown", "close"])
        self.assertEqual(share.read(), RECORD)

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_what_is_claimed_is_free_when_its_holder_is_killed_and_is_not_its_childs(self) -> None:
        share = self.share()
        with share.gate():
            share.join()
        share.claim("kept")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            other = Share(self.place, "2@host")
            os.write(write, bytes([share.claim("kept"), other.claim("killed")]))
            signal.pause()
        os.close(write)
        self.assertEqual(os.read(read, 2), bytes([False, True]))
        os.close(read)
        self.assertFalse(share.claim("killed"))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.assertTrue(share.claim("killed"))

    def test_a_record_comes_back_and_its_password_is_masked(self) -> None:
        share = self.share()
        with share.gate():
            share.write(RECORD)
        self.assertEqual(self.share().read(), RECORD)
        self.assertEqual(naming.mask("it is secret-of-the-record"), "it is ***")
        self.assertEqual((self.place / "server.json").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.place.stat().st_mode & 0o777, 0o700)

    def test_a_broken_record_is_none(self) -> None:
        share = self.share()
        with share.gate():
            for text in (
                "",
                "{",
                "[]",
                '{"session": "x"}',
                '{"session": "x", "secret": "y", "expires": null}',
                "[" * 100_000,
            ):
                (self.place / "server.json").write_text(text)
                self.assertIsNone(share.read(), text)

    def test_one_that_waited_while_the_directory_went_finds_a_new_one(self) -> None:
        one, other = self.share(), self.share()
        gates = [one.gate(), other.gate()]
        with contextlib.ExitStack() as stack:
            stack.enter_context(gates[0])
            one.write(RECORD)
            real = os.fstat
            seen = []

            def removed_meanwhile(handle: int) -> os.stat_result:
                if not seen:
                    seen.append(handle)
                    stack.close()  # The first leaves the gate, and its directory is gone.
                return real(handle)

            one.forget()
            with mock.patch("itest.sharing.os.fstat", removed_meanwhile), gates[1]:
                self.assertTrue(self.place.is_dir())
                self.assertTrue(other.join())

    def test_nothing_stays_of_one_that_was_for_later_runs_and_did_not_start(self) -> None:
        share = self.share(lifetime=60.0)
        with share.gate():
            share.join()
            share.write(RECORD)
            self.assertTrue(share.leave())
            share.forget()
        self.assertFalse(self.place.exists())

    def test_who_wants_to_use_it_waits_as_long_as_others_may_take_to_start_it(self) -> None:
        with (
            mock.patch.object(sharing, "GATE_WAIT", 0.01),
            self.share().gate(),
            self.assertRaisesRegex(ItestError, "has held the lock .*gate for 0.02 s"),
            self.share().gate(0.01),
        ):
            pass
        config = load({"ITEST_PULL_TIMEOUT": "7", "ITEST_BUILD_TIMEOUT": "20"}, files=False)
        job: Any = mock.Mock(config=config, timeout=100.0, service=Redis(start_attempts=2))
        self.assertEqual(starting.Job.longest.fget(job), 227.0)  # type: ignore[attr-defined]  # a property

    def test_what_may_stay_does_not_end_with_the_container_of_its_run(self) -> None:
        job = mock.Mock(labels={})
        for share, expected in ((self.share(), "1@host"), (self.share(60.0), "1@host container=0")):
            with share.gate(), mock.patch.object(starting, "start") as start:
                share.join()
                start.return_value.footprint.return_value = {}
                joining._start(job, share, RECORD)
            self.assertEqual(job._replace.call_args.kwargs["labels"][naming.OWNER], expected)

    def test_nobody_waits_for_a_server_of_ones_own_where_the_cache_is_full(self) -> None:
        job: Any = mock.Mock(longest=0.0)
        full = OSError(errno.ENOSPC, "No space left on device")
        began = []

        def start(job: object) -> Any:
            with self.share().gate():
                began.append(job)

        for method in ("join", "write"):
            with (
                mock.patch.object(Share, method, side_effect=full),
                mock.patch.object(joining, "_record", return_value=RECORD),
                mock.patch.object(starting, "start", start),
                mock.patch.object(sharing, "GATE_WAIT", 0.01),
            ):
                joining.join(job, self.share())
        self.assertEqual(began, [job, job])

    def test_where_the_cache_cannot_be_written_to_it_is_said_once_that_nothing_stays(self) -> None:
        said = (
            f"nothing stays for later runs, since {self.place} cannot be written to (Read-only file system): set "
            f"ITEST_CACHE_DIR to another directory"
        )
        for lifetime, quiet, lines in ((60.0, False, [said]), (0.0, False, []), (60.0, True, [])):
            job: Any = mock.Mock(longest=0.0, config=Config(cache_dir=self.place, quiet=quiet))
            for method in ("join", "write"):
                with (
                    mock.patch.object(Share, method, side_effect=OSError(errno.EROFS, "Read-only file system")),
                    mock.patch.object(joining, "_record", return_value=RECORD),
                    mock.patch.object(warm, "_unwritable", set()),
                    mock.patch.object(starting, "start"),
                    mock.patch.object(trace, "say") as say,
                ):
                    joining.join(job, self.share(lifetime))
                    joining.join(job, self.share(lifetime))
                self.assertEqual([call.args[0] for call in say.mock_calls], lines)

    def test_one_that_does_not_answer_has_one_time_for_that_however_it_is_asked(self) -> None:
        clock = ManualClock()
        asked: list[float] = []

        def connect(*_: object) -> Any:
            clock.now += joining.ANSWER_TIMEOUT  # As a driver, at a container that is paused.
            raise OSError("timed out")

        def check(instance: object) -> None:
            asked.append(clock.now)
            clock.now += 2.0
            raise NotReady("it does not answer")

        job: Any = mock.Mock(timeout=60.0, clock=clock)
        job.service.title, job.service.connect = "PostgreSQL", connect
        job.service.readiness.return_value = check
        instance: Any = mock.Mock(state_pause=0.0)
        instance.state.return_value = State(running=True, status="paused")
        instance.cut_off.return_value = False
        instance.logs.return_value = ""
        job.engine.find.return_value = [instance]
        with mock.patch.object(trace, "say") as say:
            self.assertIsNone(joining._attach(job, self.share(), RECORD, alone=True))
        self.assertLessEqual(len(asked), 2)
        self.assertIn("does not answer", say.call_args.args[0])

    def test_the_reaper_removes_what_nobody_uses(self) -> None:
        share = self.share()
        with share.gate():
            share.join()
            share.write(RECORD)
        self.assertTrue(self.reap(), "another process uses it and will see to it")
        self.assertEqual(self.removed, [])
        share.let_go()  # As the kernel does when the process is killed.
        self.assertFalse(self.removed)
        self.assertTrue(self.reap())
        self.assertEqual(self.removed, [RECORD.session])
        self.assertFalse(self.place.exists())
        self.assertTrue(self.reap(), "there is nothing left")
        self.assertFalse(self.place.exists())
        self.assertEqual(self.removed, [RECORD.session])

    def test_one_that_was_being_started_is_over_with_its_user(self) -> None:
        share = self.share(60.0)
        with share.gate():
            share.join()
            share.write(RECORD._replace(ready=False, expires=wall() + 60))
        share.let_go()
        self.assertTrue(sharing.is_over(self.place))
        self.assertTrue(self.reap())
        self.assertEqual(self.removed, [RECORD.session])

    def test_one_to_be_reused_stays_for_its_time(self) -> None:
        share = self.share(60.0)
        with share.gate():
            share.write(RECORD._replace(expires=wall() + 60))
        self.assertFalse(self.reap())
        self.assertFalse(sharing.is_over(self.place))
        with share.gate():
            share.write(RECORD._replace(expires=wall() - 1))
        self.assertTrue(sharing.is_over(self.place))
        with share.gate():
            share.join()
        self.assertFalse(self.reap(), "somebody uses it again")
        self.assertEqual(self.removed, [])
        share.let_go()
        self.assertTrue(self.reap())
        self.assertEqual(self.removed, [RECORD.session])

    def test_one_reaper_keeps_the_time(self) -> None:
        with self.share().gate(), contextlib.ExitStack() as one, contextlib.ExitStack() as other:
            self.assertTrue(sharing.keeps_time(self.place, one))
            self.assertFalse(sharing.keeps_time(self.place, other))
            one.close()
            self.assertTrue(sharing.keeps_time(self.place, other))

    def test_whether_the_time_is_kept_can_be_asked_without_keeping_it(self) -> None:
        self.assertFalse(sharing.is_time_kept(self.place))
        with self.share().gate(), contextlib.ExitStack() as one:
            self.assertFalse(sharing.is_time_kept(self.place))
            sharing.keeps_time(self.place, one)
            self.assertTrue(sharing.is_time_kept(self.place))
            one.close()
            self.assertFalse(sharing.is_time_kept(self.place))


class GroupTest(unittest.TestCase):
    """Which processes share."""

    def group(self, **environment: str) -> tuple[str, str] | None:
        with mock.patch.dict(os.environ, environment):
            return sharing.group(load())

    def test_a_process_of_its_own_shares_with_nobody(self) -> None:
        self.assertIsNone(self.group())
        self.assertEqual(sharing.worker_of(), 0)

    def test_workers_of_xdist(self) -> None:
        found = self.group(PYTEST_XDIST_TESTRUNUID="abc")
        assert found is not None
        self.assertEqual(found[0], "abc")
        self.assertTrue(found[1].startswith(f"{os.getppid()}@"))

    def test_workers_of_multiprocessing(self) -> None:
        with mock.patch("itest.sharing.worker_of", lambda: os.getpid()):
            found = self.group()
        assert found is not None
        self.assertEqual(found[0], f"{os.getpid()} {naming.start_time(os.getpid())}")
        self.assertTrue(found[1].startswith(f"{os.getpid()}@"))

    def test_what_is_not_isolated_is_not_shared(self) -> None:
        for service, sharable in (
            (Postgres(), True),
            (Postgres(isolation="rollback"), True),
            (Postgres(isolation="truncate"), False),
            (Postgres(isolation="schema"), False),
            (Postgres(isolation="none"), False),
            (Redis(), True),
            (Redis(isolation="none"), False),
            (Kafka(), True),
            (Kafka(prefix=""), False),
            (Kafka(isolation="none"), False),
        ):
            with self.subTest(service):
                self.assertEqual(service.sharable, sharable)
