# SPDX-License-Identifier: Apache-2.0
"""The database of a class: cloned from its template, brought back to its baseline before each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming
from itest.errors import ItestError, ResetError
from itest.lease import Lease
from itest.services.postgres import shared
from itest.services.postgres.administered import SESSIONS
from itest.services.postgres.kept import Kept
from itest.services.postgres.leaks import end_idle, left_busy
from itest.services.postgres.recycle import Recycler
from itest.services.postgres.spares import Spare, Spares, unwritten
from itest.services.postgres.undo import NeedsClone
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.evidence import Aside, Evidence
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.probe_recycle import ProbeRecycler
    from itest.services.postgres.server import PostgresServer


class PostgresLease(Lease[PostgresView]):
    """A database of a class's own, under one name for all its tests, so that addresses stay the same.

    `way` is how the last reset was done: `clean` (there was nothing to undo), `undone` or `cloned`; `reason` is why it
    had to be cloned.
    """

    def __init__(self, server: PostgresServer, service: Postgres, owner: str) -> None:
        self.way = self.reason = ""
        self._written_since = ""
        """Where the log was when the test began, if that is not where the recycler has read up to."""
        self._ended = self._told_to = ""
        """What the note of the next test that fails says of the sessions of others that were ended last, as a pool of the
        class's own meets them; and which test that was."""
        self._settled = ""
        """The test after which was looked at what it has left: its own failure says that."""
        self._server = server
        self._directory = service.directory
        self._isolated = service.isolation_or_default != "none"
        self._own = self._isolated or server.instance.owned
        self._was_spare = False
        self._recycler: Recycler | ProbeRecycler | None = None
        self._state: shared.Shared | None = None
        self._last_test = owner
        if self._own:
            self._pristine = server.template(service, service.directory)
            self._name = self._spare() or server.create(self._pristine)
        else:  # isolation="none" on an external server: its database as it is, nothing made and nothing dropped
            self._pristine = self._name = server.database
        if self._isolated:
            server.remember_shared(self)
        self._position = self._log_position()
        self._untouched = self._used_by_class = False
        self._kept = Kept(server, self._name, naming.application_name(owner))
        self.view = PostgresView(server, self._name, owner, self._kept, self._directory)

    def seal(self) -> None:
        self.view.report_uncommitted()
        self.view.close()
        self._kept.close()
        self._kept.used_by = self.used_by
        if not self._isolated:
            return
        server = self._server
        sessions, busy = self._foreign_sessions()
        self._used_by_class = sessions > 0
        if self._written():  # Then what there is now may differ from the template.
            self._cut(sessions, busy, "at the end of the baseline")
            self._pristine = server.create(self._name)
            self._was_spare = False
        self._recycler = self._new_recycler(self._position if self._was_spare else "")
        self._untouched = True

    def _written(self) -> bool:
        """Whether anybody may have written to the database since it was lent."""
        server, position = self._server, self._log_position()
        if position == self._position or not server.can_recycle():
            return position != self._position
        # Others write too; and who only reads leaves hints in the pages.
        with contextlib.suppress(server.driver.Error):
            until = unwritten(server, self._name, str(self._position))
            if until and not server.snapshot(self._pristine).unlogged:
                self._position = until
                return False
        return True

    def reset(self, test: str) -> PostgresView:
        """Undo what the test before did, or clone the database anew under its old name where undoing will not do."""
        if self._isolated:
            try:
                self._reset(self._last_test)
            except self._server.driver.Error as error:
                reason = naming.mask(str(error).strip())
                raise ResetError(f"the database {self._name} could not be reset for {test}: {reason}") from error
        else:
            self._scrub()  # Else what failed in a transaction would fail all that follow.
        return self._view(test)

    def lend(self, test: str) -> PostgresView | None:
        self._scrub()
        return self._view(test)

    def _scrub(self) -> None:
        self._kept.scrub(test=self._last_test)
        self._tell(self._kept.told)

    def _view(self, test: str) -> PostgresView:
        self._last_test = test
        return PostgresView(self._server, self._name, test, self._kept, self._directory)

    def evidence(self, since: float) -> Evidence:
        from itest.services.postgres import evidence  # Only failing tests need it.

        written = self._recycler.written(self._written_since) if isinstance(self._recycler, Recycler) else {}
        found = evidence.evidence(self._server, self._name, since, written)
        if self._ended and self._settled != self._last_test and self._told_to in ("", self._last_test):
            self._told_to = self._last_test
            found.lines[:0] = self._ended.splitlines()
        return found

    def waits(self) -> list[str]:
        from itest.services.postgres import evidence

        return evidence.waits(self._server, self._name)

    def reconnected(self) -> None:
        self._ended = self._kept.told

    def meaning(self, log: Sequence[str]) -> list[str]:
        from itest.services.postgres import evidence

        return evidence.meaning(self._server, self._name, log)

    def settle(self, test: str, since: float, alone: bool) -> None:
        if self._recycler is None:  # There is no baseline to go back to.
            return
        self._settled = test
        try:
            self._reset(test)
            # A pool of the class's own connects again in a test, as the baseline's end may have ended its sessions, or grows.
            if alone and not self._used_by_class:
                self._tell(end_idle(self._server, self._name, since, self._kept.pids(), test))
        except self._server.driver.Error as error:
            raise ResetError(f"what {test} has left could not be looked at: {naming.mask(str(error))}") from error

    def put_aside(self, test: str, write: Callable[[str, str], Path]) -> Aside | None:
        from itest.services.postgres.aside import aside

        if not self._isolated or self._recycler is None:
            return None
        server = self._server
        kept = naming.identifier("itest", "kept", server.token, str(next(server.numbers)), *test.split(".")[-2:])
        self._clone_again(f"to keep what {_short(test)} left", lambda name: server.rename(name, kept))
        return aside(server, kept, write)

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        given = self._give_back()
        if self._recycler is not None:
            self._recycler.close()
        if not self._own:
            return
        for name in {self._name, self._pristine} - self._server.templates - given:
            with contextlib.suppress(self._server.driver.Error, ResetError):
                self._server.drop(name)
        if self._isolated:
            with contextlib.suppress(self._server.driver.Error, ResetError):
                self._server.restore_shared(self)

    def _reset(self, left_by: str) -> None:
        self.reason = ""
        try:
            if self._recycler is None:
                raise NeedsClone("the last reset was not done to its end")
            if self._untouched and self._log_position() == self._position:
                self._untouched, self.way = False, "clean"  # Nobody has had it yet.
                return
            self._untouched = False
            self.way = "undone" if self._recycler.recycle(self._kept, left_by) else "clean"
        except (NeedsClone, self._server.driver.Error) as error:  # Of an unknown trouble, too, a new clone is the cure.
            self.way, self.reason = "cloned", naming.shorten(str(error))
        except BaseException:  # A signal handler's. What was not undone must not count as seen, so the next one clones.
            self._forget_recycler()
            raise
        if self.way == "cloned":  # Not where that was caught: what fails here would be told as if it had come of it.
            self._clone_again(f"after {_short(left_by)}, as {naming.shorten(self.reason, 60)}")
        self._tell(self._kept.told)

    def _clone_again(self, when: str, out_of_the_way: Callable[[str], object] | None = None) -> None:
        server = self._server
        self._forget_recycler()
        self._kept.close()
        self._cut(*self._foreign_sessions(), when)
        (out_of_the_way or server.drop)(self._name)
        if self._state is not None:
            shared.restore(server, self._state)
        server.create(self._pristine, self._name)
        self._recycler = self._new_recycler()

    def _forget_recycler(self) -> None:
        recycler, self._recycler = self._recycler, None
        if recycler is not None:
            recycler.close()

    def _cut(self, sessions: int, busy: int, when: str) -> None:
        """So many sessions of others are ended now, some of them in a transaction."""
        if sessions:
            self.cuts += 1
            theirs = f"{sessions} session{'s'[: sessions != 1]} of others"
            self._tell(
                f"itest ended {theirs} {when}: an engine of your own, at module level too, needs pool_pre_ping=True"
            )
        if busy:  # Which no ping before it is used can mend.
            self._tell(left_busy(self._last_test, self.used_by, in_transaction=True))

    def _tell(self, ended: str | None) -> None:
        if ended:
            self._ended, self._told_to = ended, ""

    def _foreign_sessions(self) -> tuple[int, int]:
        """How many others than itest have in the database, and how many of them are in a transaction. They are ended where it
        is to be copied or dropped."""
        theirs = f"{SESSIONS} AND NOT starts_with(application_name, 'itest')"
        [(sessions, busy)] = self._server.admin(f"SELECT count(*), count(xact_start) FROM {theirs}", self._name)
        return int(sessions), int(busy)

    def _spare(self) -> str:
        """A database that another class has given back; empty: there is none."""
        if not self._isolated or not self._server.can_recycle():
            return ""
        name = self._server.part(Spares).take(self._pristine)
        self._was_spare = bool(name)
        return name

    def _give_back(self) -> set[str]:
        """Bring the database to what it was at first, for the next class with the same template. Its name, if that was
        done; else it is of no more use."""
        server, recycler = self._server, self._recycler
        if not isinstance(recycler, Recycler) or self._pristine not in server.templates:
            return set()
        try:
            if server.admin("SELECT FROM pg_replication_slots WHERE database = %s", self._name):
                return set()
            server.end_sessions(self._name, but=recycler.pid)
            if not self._untouched:
                recycler.recycle(self._kept, self._last_test)
            if not recycler.as_new:
                return set()
        except (NeedsClone, ItestError, server.driver.Error):
            return set()
        server.part(Spares).give(self._pristine, Spare(self._name, recycler.position))
        return {self._name}

    def _new_recycler(self, since: object = "") -> Recycler | ProbeRecycler:
        server = self._server
        if not server.can_recycle():
            from itest.services.postgres.probe_recycle import ProbeRecycler

            return ProbeRecycler(server, self._name)
        self._state = shared.read(server, self._name)
        return Recycler(server, self._name, self._pristine, self._state, str(since))

    def _log_position(self) -> object:
        """Where the write-ahead log ends. It moves when anybody writes, so the same position means the same data.

        No two positions are taken for the same on external servers, where `nextval` may leave no trace.
        """
        if not self._server.instance.owned:
            return object()
        [(position,)] = self._server.admin("SELECT pg_current_wal_insert_lsn()::text")
        return position


def _short(test: str) -> str:
    return test.rpartition(".")[2]
