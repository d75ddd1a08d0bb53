# SPDX-License-Identifier: Apache-2.0
"""Warm start with real servers: what the first run leaves to the second, and what makes it useless."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import psycopg2
from docker.errors import ImageNotFound

from itest import Postgres, Redis, detached, naming, wait, warm, warm_keeper, warm_listing, warm_store
from itest.clock import Deadline, wall
from itest.config import Config, load
from itest.engines import directory, docker_warm, process_warm
from itest.engines.docker import DockerEngine
from itest.engines.process import ProcessEngine
from itest.errors import MigrationError, StartError, Unavailable
from itest.migrations import Function, SqlFiles
from itest.report import costs
from itest.services.postgres import PostgresView
from itest.session import Session
from tests.integration.capture import said

MIGRATION = "CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book VALUES (1, 'Emma');"


class WarmTest(unittest.TestCase):
    """One run after the other on one engine, with a cache directory of its own."""

    engine: ClassVar[str] = ""

    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.config = replace(load(), engine=self.engine, quiet=True, cache_dir=self.root / "cache", warm=True)
        self.addCleanup(warm_listing.clear, self.config)
        self.directory = self.root / "sql"
        self.directory.mkdir()
        (self.directory / "1.sql").write_text(MIGRATION)
        self.declaration = Postgres(migrations=SqlFiles(self.directory))
        session = Session(self.config)
        try:
            session._engines.spec(self.declaration, "")
        except Unavailable as error:
            self.skipTest(str(error))
        finally:
            session.close()

    @contextlib.contextmanager
    def run_of(self, config: Config | None = None) -> Any:
        """A run with one class of this declaration: gives its session, closes it, and waits until nothing is left."""
        session = Session(config or self.config)
        try:
            session.lend(self.declaration)
            yield session
        finally:
            session.close()
        self.nothing_left(session)

    def once(self, config: Config | None = None, sql: str = "SELECT title FROM book ORDER BY id") -> tuple[bool, Any]:
        """Whether a run began with a kept state, and what a test of it saw."""
        with self.run_of(config) as session:
            server = session.lend(self.declaration)
            lease = server.lease(self.declaration, "C")
            try:
                lease.seal()
                view = lease.reset("C.test")
                rows = view.execute(sql)
                view.close()
            finally:
                lease.close()
            return self.began_warm(session), rows

    def began_warm(self, session: Session) -> bool:
        [server] = [slot.server for slot in session._slots.values()]
        assert server is not None
        return isinstance(server.origin, warm.State) and server.origin.usable

    def nothing_left(self, session: Session, seconds: float = 30.0) -> None:
        """Of a run nothing is left but states; those are kept, or given up, by then."""
        deadline = Deadline.after(seconds)
        while left := self.left_of(session):
            self.assertFalse(deadline.passed, f"left behind: {left}")
            deadline.pause(0.02)

    def left_of(self, session: Session) -> list[str]:
        label = {naming.SESSION: session.id}
        left = [str(place) for place in directory.scan() if directory.read(place).labels.items() >= label.items()]
        engine = DockerEngine(self.config)
        if self.engine == "docker":
            left += [str(instance) for instance in engine.find(label)]
        engine.close()
        for entry in os.listdir("/proc") if Path("/proc").is_dir() else ():
            with contextlib.suppress(OSError):
                command = Path("/proc", entry, "cmdline").read_bytes()
                if entry.isdecimal() and session.id.encode() in command:
                    left.append(f"process {entry}")
        return left

    def test_the_second_run_begins_where_the_first_ended(self) -> None:
        calls = []

        def migrate(view: PostgresView) -> None:
            calls.append(view.name)
            view.execute(MIGRATION)

        self.declaration = Postgres(migrations=Function(migrate, depends_on=[str(self.directory)]))
        # What it closes over is part of its fingerprint, and so would its calls be.
        with mock.patch.object(Function, "fingerprint", lambda self, base: "always the same"):
            self.assertEqual(self.once(), (False, [("Emma",)]))
            [entry] = warm_listing.entries(self.config)
            kind = "docker image" if self.engine == "docker" else "archive"
            self.assertEqual((entry.service, entry.kind), ("postgres", kind))
            self.assertGreater(entry.size_bytes, 20_000_000)
            self.assertEqual(self.once(), (True, [("Emma",)]))
        self.assertEqual(len(calls), 1)
        self.assertEqual(warm_listing.entries(self.config)[0].created, entry.created, "it is kept once")
        self.assertGreater(warm_listing.entries(self.config)[0].last_used, entry.last_used)

    def test_edited_fixtures_find_the_migrations_of_an_earlier_run(self) -> None:
        calls = []

        def migrate(view: PostgresView) -> None:
            calls.append(view.name)
            view.execute(MIGRATION)

        fixture = self.root / "book.csv"
        self.declaration = Postgres(
            migrations=Function(migrate, depends_on=[str(self.directory)]), fixtures=[str(fixture)]
        )
        with mock.patch.object(Function, "fingerprint", lambda self, base: "always the same"):
            fixture.write_text("id,title\n2,Persuasion\n")
            self.assertEqual(self.once(), (False, [("Emma",), ("Persuasion",)]))
            fixture.write_text("id,title\n2,Sanditon\n")
            self.assertEqual(self.once(), (True, [("Emma",), ("Sanditon",)]))
        self.assertEqual(len(calls), 1)

    def test_migrations_that_are_kept_do_not_run_again(self) -> None:
        self.once()
        with self.run_of() as session:
            server: Any = session.lend(self.declaration)
            found = server.admin("SELECT datname FROM pg_database WHERE datname ~ '^itest_' ORDER BY 1")
            [(name,)] = found
            self.assertRegex(name, "^itest_t_[0-9a-f]{16}$")
            [before] = server.admin("SELECT oid FROM pg_database WHERE datname = %s", name)
            self.assertEqual(server.template(self.declaration, self.root), name)
            self.assertEqual(server.admin("SELECT oid FROM pg_database WHERE datname = %s", name), [before])

    def test_a_changed_migration_is_built_and_kept_beside_the_other(self) -> None:
        self.once()
        (self.directory / "1.sql").write_text(MIGRATION + "INSERT INTO book VALUES (2, 'Persuasion')")
        both = [("Emma",), ("Persuasion",)]
        self.assertEqual(self.once(), (True, both))
        [entry] = warm_listing.entries(self.config)
        self.assertEqual(self.once(), (True, both))
        self.assertEqual(warm_listing.entries(self.config)[0].created, entry.created)
        (self.directory / "1.sql").write_text(MIGRATION)
        self.assertEqual(self.once(), (True, [("Emma",)]))
        self.assertEqual(warm_listing.entries(self.config)[0].created, entry.created, "the first one was still there")

    def test_other_settings_have_another_state(self) -> None:
        self.once()
        self.declaration = self.declaration.replace(settings={"work_mem": "5MB"})
        self.assertEqual(self.once(sql="SHOW work_mem"), (False, [("5MB",)]))
        self.assertEqual(self.once(sql="SHOW work_mem"), (True, [("5MB",)]))
        self.assertEqual(len(warm_listing.entries(self.config)), 2)

    def test_what_init_made_is_kept_and_a_changed_script_begins_anew(self) -> None:
        script = self.root / "init.sql"
        script.write_text("CREATE TABLE pen AS SELECT 'Lamy' AS name; CREATE ROLE writer")
        self.declaration = Postgres(
            init=[script], extensions=["pg_trgm"], user="app", password="letmein", database="shop"
        )
        sql = "SELECT name, 'writer'::regrole::text FROM pen WHERE similarity(name, name) = 1"
        for warm_already in (False, True, True):
            self.assertEqual(self.once(sql=sql), (warm_already, [("Lamy", "writer")]))
        script.write_text(script.read_text().replace("Lamy", "Pelikan"))
        self.assertEqual(self.once(sql=sql), (False, [("Pelikan", "writer")]))
        self.assertEqual(len(warm_listing.entries(self.config)), 2)

    def test_tablespaces_elsewhere_are_a_reason_to_keep_nothing(self) -> None:
        script, space = self.root / "space.sql", self.root / "space"
        script.write_text(  # A program that reads nothing fails COPY now and then (a broken pipe).
            f"COPY (SELECT) TO PROGRAM 'cat >&2; mkdir -p {space}';"
            f"CREATE TABLESPACE fast LOCATION '{space}'; CREATE TABLE pen (name text) TABLESPACE fast"
        )
        self.declaration = Postgres(init=[script])
        for _ in range(2):
            self.assertEqual(self.once(sql="SELECT name FROM pen"), (False, []))
            shutil.rmtree(space, ignore_errors=True)
        [entry] = warm_listing.entries(self.config)
        self.assertEqual(
            (entry.kind, entry.failed),
            ("nothing", "its tablespaces (fast) lie outside of its data directory, which alone can be kept"),
        )

    def test_a_log_elsewhere_is_a_reason_to_keep_nothing(self) -> None:
        elsewhere = self.root / "wal"
        self.declaration = self.declaration.replace(env={"POSTGRES_INITDB_ARGS": f"--no-sync --waldir={elsewhere}"})
        self.root.chmod(0o777)  # It is made by whom the server runs as.
        for _ in range(2):
            self.assertEqual(self.once(), (False, [("Emma",)]))
            shutil.rmtree(elsewhere, ignore_errors=True)
        [entry] = warm_listing.entries(self.config)
        self.assertEqual(entry.kind, "nothing")
        self.assertIn("its write-ahead log lies outside of its data directory", entry.failed)

    def test_a_check_of_ones_own_may_take_longer_than_the_first_answer(self) -> None:
        """The password is changed by that answer: asked for again at the next poll, it was the wrong one."""
        asked = self.root / "asked"
        self.declaration = self.declaration.replace(
            ready=wait.exec("sh", "-c", f"test -e {asked} || {{ mkdir -p {asked}; exit 1; }}")
        )
        for warm_already in (False, True):
            self.assertEqual(self.once(), (warm_already, [("Emma",)]))
            with contextlib.suppress(FileNotFoundError):  # In a container it is the container's own.
                asked.rmdir()

    def test_nothing_is_begun_with_or_kept_where_the_log_of_a_first_start_is_waited_for(self) -> None:
        plain = self.declaration
        self.declaration = plain.replace(ready=wait.log("ready to accept") & wait.port("postgres"))
        self.once()
        self.assertEqual(warm_listing.entries(self.config), [])
        self.declaration = plain
        self.once()
        self.declaration = plain.replace(ready=wait.log("ready to accept"))
        self.assertEqual(self.once()[0], False)
        self.declaration = plain
        self.assertEqual(self.once()[0], True)

    def test_the_password_of_the_first_run_is_not_that_of_the_second(self) -> None:
        with self.run_of() as first:
            first.lend(self.declaration).lease(self.declaration, "C").close()
        [record] = warm_store.all_of(self.config.cache_dir)
        [file] = warm_store.directory(self.config.cache_dir).glob("*.json")
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        with self.run_of() as second:
            server: Any = second.lend(self.declaration)
            good = server.url_of("postgres")
            psycopg2.connect(good).close()
            self.assertNotIn(first.secret, (second.secret, record.secret))
            self.assertNotEqual(second.secret, record.secret)
            for wrong in (first.secret, record.secret):
                with self.assertRaisesRegex(psycopg2.OperationalError, "password authentication failed"):
                    psycopg2.connect(good.replace(second.secret, wrong))

    def test_the_log_of_a_server_that_logs_all_statements_has_no_password(self) -> None:
        self.declaration = self.declaration.replace(settings={"log_statement": "all"})
        secrets = []
        for _ in range(2):
            with self.run_of() as session:
                server: Any = session.lend(self.declaration)
                server.lease(self.declaration, "C").close()
                secrets.append(session.secret)
                statement, deadline = "SELECT 1" if len(secrets) == 1 else "ALTER ROLE", Deadline.after(30)
                while statement not in (log := server.instance.logs()):  # Docker may be some milliseconds behind.
                    self.assertFalse(deadline.passed, log)
                    deadline.pause(0.01)
                self.assertEqual([secret for secret in secrets if secret in log], [])

    def test_what_it_saves_is_known_from_when_it_was_kept(self) -> None:
        def saved() -> list[costs.Saving]:
            with self.run_of() as session:
                server = session.lend(self.declaration)
                with session.trace.span("lease", "postgres"):
                    server.lease(self.declaration, "C").close()
            return costs.savings(session.trace.spans)

        self.assertEqual(saved(), [])
        for record in warm_store.all_of(self.config.cache_dir):
            self.assertEqual(len(record.steps), 2, record)
            self.assertTrue(all(0 < seconds < 120 for seconds in record.steps.values()), record)
        [saving] = saved()
        self.assertEqual((saving.service, saving.templates, saving.unknown), ("postgres", 1, False))
        self.assertGreater(saving.cold, 0.0)
        for record in warm_store.all_of(self.config.cache_dir):  # As an earlier version of itest has left it.
            warm_store.write(self.config.cache_dir, record._replace(steps={}))
        [saving] = saved()
        self.assertTrue(saving.unknown)
        for record in warm_store.all_of(self.config.cache_dir):
            warm_store.remove(self.config.cache_dir, record)
            failed = warm_store.Record(record.fingerprint, "postgres", wall(), failed="it fails")
            warm_store.write(self.config.cache_dir, failed)
        self.assertEqual(saved(), [], "there is none to begin with")

    def test_where_nothing_can_be_kept_that_is_said_once(self) -> None:
        place = self.root / "file"
        place.write_text("")
        config = replace(self.config, cache_dir=place, quiet=False)
        with said() as lines:
            for _ in range(2):
                self.assertFalse(self.once(config)[0])
        told = [line for line in lines if "nothing is kept" in line]
        self.assertEqual(len(told), 1, lines)
        self.assertRegex(told[0], rf"since {place}/warm cannot be written to \(Not a directory\): set ITEST_CACHE_DIR")

    def test_what_never_has_anything_to_keep_leaves_no_lock(self) -> None:
        """Kafka's spec in a container holds a port of the run's own: it left one more file in each run."""
        session = Session(self.config)
        try:
            session.lend(Redis())
        finally:
            session.close()
        self.nothing_left(session)
        self.assertEqual([str(file) for file in warm_store.directory(self.config.cache_dir).glob("*")], [])

    def test_switched_off(self) -> None:
        off = replace(self.config, warm=False)
        self.assertEqual(self.once(off)[0], False)
        self.assertEqual(warm_listing.entries(self.config), [])
        self.once()
        self.assertEqual(self.once(off)[0], False)

    def test_all_is_as_at_the_start_but_for_templates(self) -> None:
        with self.run_of() as session:
            server: Any = session.lend(self.declaration)
            lease = server.lease(self.declaration, "C")
            lease.seal()
            view = lease.reset("C.test")
            view.connection.autocommit = True
            for statement in ("CREATE ROLE walter", "ALTER SYSTEM SET work_mem = '7MB'", "CREATE DATABASE stray"):
                with view.connection.cursor() as cursor:
                    cursor.execute(statement)
            view.close()
            lease.close()
        with self.run_of() as session:
            self.assertTrue(self.began_warm(session))
            server = session.lend(self.declaration)
            self.assertEqual(server.admin("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"), [("postgres",)])
            self.assertEqual(server.admin("SELECT datname FROM pg_database WHERE datname = 'stray'"), [])
            self.assertEqual(server.admin("SHOW work_mem"), [("4MB",)])

    def test_what_nobody_can_undo_is_not_kept(self) -> None:
        with self.run_of() as session:
            server: Any = session.lend(self.declaration)
            server.lease(self.declaration, "C").close()
            server.admin("CREATE TABLE public.forgotten (id int)")
        self.assertEqual(warm_listing.entries(self.config), [])

    def test_templates_with_roles_of_their_own_are_not_kept(self) -> None:
        (self.directory / "1.sql").write_text(MIGRATION + "CREATE ROLE clerk")
        self.assertEqual(self.once()[0], False)
        self.assertEqual(self.once()[0], True, "the initialised server is kept")
        [entry] = warm_listing.entries(self.config)
        (self.directory / "1.sql").write_text(MIGRATION + "CREATE ROLE clerk; CREATE ROLE cook")
        self.assertEqual(self.once()[0], True)
        self.assertEqual(
            warm_listing.entries(self.config),
            [replace(entry, last_used=warm_listing.entries(self.config)[0].last_used)],
        )

    def test_functions_are_kept_only_with_what_they_depend_on(self) -> None:
        self.declaration = Postgres(migrations=lambda view: view.execute(MIGRATION))
        self.once()
        with self.run_of() as session:
            server: Any = session.lend(self.declaration)
            self.assertEqual(server.admin("SELECT datname FROM pg_database WHERE datname ~ '^itest_t_'"), [])

    def test_a_template_whose_migrations_failed_does_not_exist(self) -> None:
        (self.directory / "1.sql").write_text("SELECT wrong")
        with self.run_of() as session:
            with self.assertRaises(MigrationError):
                session.lend(self.declaration).lease(self.declaration, "C")
            server: Any = session.lend(self.declaration)
            self.assertEqual(
                server.admin("SELECT datname FROM pg_database WHERE datname ~ '^itest_(t|[0-9a-f]{8})_'"), []
            )
        (self.directory / "1.sql").write_text(MIGRATION)
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_the_bound(self) -> None:
        small = replace(self.config, warm_size=70)
        self.once(small)
        first = warm_listing.entries(self.config)
        self.assertEqual(len(first), 1)
        self.declaration = self.declaration.replace(settings={"work_mem": "5MB"})
        self.once(small)
        second = warm_listing.entries(self.config)
        self.assertEqual(len(second), 1)
        self.assertNotEqual(first[0].fingerprint, second[0].fingerprint)
        files = [file.suffix for file in warm_store.directory(self.config.cache_dir).iterdir()]
        self.assertEqual(files.count(".tar"), int(self.engine == "process"))

    def test_clear(self) -> None:
        self.once()
        removed = warm_listing.clear(self.config)
        self.assertEqual([entry.service for entry in removed], ["postgres"])
        self.assertEqual(warm_listing.entries(self.config), [])
        self.assertEqual(self.once()[0], False)

    def test_where_the_process_that_keeps_it_is_killed_nothing_is_left(self) -> None:
        keepers: list[int] = []

        def start(code: str, *arguments: str, **options: Any) -> Any:
            if not arguments:  # A reaper.
                return start_really(code, **options)
            # Sweeps know the process by its code.
            waiting = f"{detached.READ}import signal\nsignal.pause()\n{detached.calling('itest.warm_keeper')!r}\n"
            process = start_really(waiting, *arguments, **options)
            keepers.append(process.pid)
            return process

        start_really = detached.start
        session = Session(self.config)
        server = session.lend(self.declaration)
        server.lease(self.declaration, "C").close()
        with (
            mock.patch.object(detached, "start", start),
            mock.patch.object(detached, "goes_on", lambda: True),  # Else the session would wait for it.
        ):
            session.close()
        [keeper] = keepers
        if self.engine == "docker":
            self.assertEqual(len(self.left_of(session)), 2, "the container, and that process")
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        self.nothing_left(session)
        self.assertEqual(warm_listing.entries(self.config), [])

    def test_a_run_that_is_killed_keeps_nothing(self) -> None:
        code = (
            "import sys; from itest import Postgres; from itest.session import current; s = current(); d = Postgres()\n"
            "s.lend(d).lease(d, 'C').close(); print(s.id, flush=True); sys.stdin.read()"
        )
        environment = self.config.child_environment(
            ITEST_CACHE_DIR=str(self.config.cache_dir),
            ITEST_ENGINE=self.engine,
            ITEST_QUIET="1",
            PYTHONPATH=os.getcwd(),
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as owner:
            assert owner.stdout is not None
            session = Session(self.config)
            session.id = owner.stdout.readline().strip()
            owner.send_signal(signal.SIGKILL)
            owner.wait(30)
        self.assertRegex(session.id, "^[0-9a-f]{20}$")
        self.nothing_left(session)
        session.close()
        self.assertEqual(warm_listing.entries(self.config), [])


class ProcessTest(WarmTest):
    engine = "process"

    def archive(self) -> Path:
        [record] = warm_store.all_of(self.config.cache_dir)
        return warm_store.archive(self.config.cache_dir, record)

    def test_a_broken_archive_is_made_anew(self) -> None:
        self.once()
        self.archive().write_bytes(b"\0" * self.archive().stat().st_size)
        broken = self.archive()
        self.assertEqual(self.once(), (False, [("Emma",)]))
        self.assertNotEqual(self.archive(), broken)
        self.assertFalse(broken.exists())
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_one_that_was_made_anew_and_is_broken_too_is_not_made_for_a_day(self) -> None:
        self.once()
        with said() as lines:
            for _ in range(2):
                self.archive().write_bytes(b"\0" * self.archive().stat().st_size)
                self.assertEqual(self.once(replace(self.config, quiet=False)), (False, [("Emma",)]))
        told = [line for line in lines if "the kept state of postgres cannot be used" in line]
        self.assertEqual(len(told), 2, lines)
        self.assertIn("cannot be used and is made anew: ", told[0])
        self.assertIn("cannot be used either, and none is kept for a day: ", told[1])
        [entry] = warm_listing.entries(self.config)
        self.assertEqual(entry.kind, "nothing")
        self.assertIn("it was made anew, and could not be begun with either: ", entry.failed)

    def test_one_that_was_made_anew_and_used_may_be_made_anew_again(self) -> None:
        self.once()
        for _ in range(2):
            self.archive().write_bytes(b"\0" * self.archive().stat().st_size)
            self.assertEqual(self.once(), (False, [("Emma",)]))
            self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_one_with_a_fault_in_its_data_is_made_anew(self) -> None:
        self.once()
        with self.archive().open("r+b") as file:
            start = file.read().index(b"Emma")  # In the table itself: the server would start, and the test fail.
            file.seek(start)
            file.write(b"\0\0\0\0")
        self.assertEqual(self.once(), (False, [("Emma",)]))
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_one_that_is_too_short_is_not_begun_with(self) -> None:
        self.once()
        os.truncate(self.archive(), 1_000_000)
        self.assertEqual(self.once()[0], False)
        self.assertEqual(self.once()[0], True)

    def test_data_that_no_server_can_run_on(self) -> None:
        self.once()
        place = self.root / "data"
        place.mkdir()
        archive = self.archive()
        subprocess.run(["tar", "-xf", archive, "-C", place], check=True, timeout=60)
        (place / "data" / "global" / "pg_control").write_bytes(b"\0" * 8192)
        subprocess.run(["tar", "-cf", archive, "-C", place, "data"], check=True, timeout=60)
        [file] = warm_store.directory(self.config.cache_dir).glob("*.json")
        archive = archive.rename(archive.with_name(process_warm.name_of(file.stem, archive)))
        changed = {"archive": archive.name, "size": archive.stat().st_size}
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        self.assertEqual(self.once(), (False, [("Emma",)]))
        self.assertEqual(self.once()[0], True)

    def test_where_nothing_starts_the_state_is_not_to_blame(self) -> None:
        self.once()
        kept = self.archive()
        with mock.patch.object(ProcessEngine, "start", side_effect=StartError("no")), self.assertRaises(StartError):
            self.once()
        self.assertEqual(self.archive(), kept)
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_half_written_ones_are_ignored(self) -> None:
        self.once()
        place = warm_store.directory(self.config.cache_dir)
        [file] = place.glob("*.json")
        file.rename(file.with_suffix(".0123abcd.new"))
        self.assertEqual(self.once()[0], False)
        file.write_text(file.read_text()[:-10])
        self.assertEqual(self.once()[0], False)
        self.assertEqual(self.once()[0], True)


class DockerTest(WarmTest):
    engine = "docker"

    # What the engine has no part in is shown on local processes alone, where it takes a fifth of the time.
    test_all_is_as_at_the_start_but_for_templates = None
    test_a_changed_migration_is_built_and_kept_beside_the_other = None
    test_a_template_whose_migrations_failed_does_not_exist = None
    test_functions_are_kept_only_with_what_they_depend_on = None
    test_migrations_that_are_kept_do_not_run_again = None
    test_other_settings_have_another_state = None
    test_switched_off = None
    test_what_nobody_can_undo_is_not_kept = None
    test_the_bound = None
    test_the_password_of_the_first_run_is_not_that_of_the_second = None
    test_clear = None
    test_templates_with_roles_of_their_own_are_not_kept = None

    def image(self) -> str:
        [record] = warm_store.all_of(self.config.cache_dir)
        return record.image

    def with_docker(self, action: Any) -> Any:
        engine = DockerEngine(self.config)
        try:
            return action(engine)
        finally:
            engine.close()

    def test_clear_removes_the_image(self) -> None:
        self.once()
        image = self.image()
        self.assertEqual([entry.service for entry in warm_listing.clear(self.config)], ["postgres"])
        with self.assertRaises(ImageNotFound):
            self.with_docker(lambda engine: engine.client.inspect_image(image))

    def test_what_other_cache_directories_have_left_is_bounded_and_goes_with_them(self) -> None:
        self.once()
        own = self.image()
        [theirs] = warm_listing.entries(self.config)
        others = replace(self.config, cache_dir=self.root / "other")
        self.addCleanup(warm_listing.clear, others)
        self.assertIn(theirs.fingerprint, [each.fingerprint for each in warm_listing.foreign(others)])
        clock = mock.patch.object(warm_keeper, "wall", lambda: wall() + warm_keeper.ABANDONED + 60)
        foreign = mock.patch.object(
            warm_listing.warm_store, "exists", lambda address: seen if address == this else True
        )
        this = warm_store.address(self.config.cache_dir)
        for seen, limit, stays in ((True, 0, True), (None, 2**40, True), (None, 0, False), (False, 2**40, False)):
            with self.subTest(seen=seen, limit=limit), clock, foreign:
                self.with_docker(lambda engine, most=limit: warm_keeper.trim(others.cache_dir, most, engine))
                present = self.with_docker(lambda engine: [image["Id"] for image in docker_warm.images(engine)])
                self.assertEqual(own in present, stays)
            if not stays:
                warm_store.remove(self.config.cache_dir, next(warm_store.all_of(self.config.cache_dir)))
                self.once()
                own = self.image()
        self.assertNotIn(theirs.fingerprint, [each.fingerprint for each in warm_listing.clear(others)])
        shutil.rmtree(self.config.cache_dir)
        self.assertIn(theirs.fingerprint, [each.fingerprint for each in warm_listing.clear(others)])

    def test_an_image_without_a_record_is_as_large_as_its_state(self) -> None:
        self.once()
        [entry] = warm_listing.entries(self.config)
        [file] = warm_store.directory(self.config.cache_dir).glob("*.json")
        file.unlink()
        self.assertEqual([each.size_bytes for each in warm_listing.entries(self.config)], [entry.size_bytes])

    def test_an_image_that_is_gone_is_made_anew(self) -> None:
        self.once()
        self.with_docker(lambda engine: docker_warm.discard(engine, self.image()))
        with said() as lines:
            self.assertEqual(self.once(replace(self.config, quiet=False)), (False, [("Emma",)]))
        self.assertEqual([line for line in lines if "kept state" in line], [])
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def test_an_image_that_no_server_can_run_on(self) -> None:
        self.once()

        def spoil(engine: DockerEngine) -> str:
            client = engine.client
            # Labels of its own: by those of the image the end of the run before would take it for what that has left.
            labels = {naming.SESSION: naming.session_id(), naming.OWNER: naming.owner()}
            blank = client.create_container(self.image(), ["x"], labels=labels)["Id"]
            try:
                changes = ['ENTRYPOINT ["/bin/false"]']
                return str(client.commit(blank, docker_warm.REPOSITORY, "spoilt", changes=changes)["Id"])
            finally:
                client.remove_container(blank, v=True, force=True)

        spoilt = self.with_docker(spoil)
        [file] = warm_store.directory(self.config.cache_dir).glob("*.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "image": spoilt}))
        with said() as lines:
            self.assertEqual(self.once(replace(self.config, quiet=False)), (False, [("Emma",)]))
        self.assertIn("the kept state of postgres cannot be used and is made anew: ", "".join(lines))
        own = warm_store.identity(self.config.cache_dir)
        present = self.with_docker(lambda engine: [image["Id"] for image in docker_warm.images(engine, own)])
        self.assertNotIn(spoilt, present)

    def test_neither_image_nor_container_tells_a_password(self) -> None:
        with self.run_of() as session:
            session.lend(self.declaration).lease(self.declaration, "C").close()
        [record] = warm_store.all_of(self.config.cache_dir)
        said = self.with_docker(lambda engine: json.dumps(engine.client.inspect_image(record.image)))
        self.assertIn(record.fingerprint, said)
        self.assertNotIn(session.secret, said)
        self.assertNotIn(record.secret, said)

    def test_it_is_one_layer_also_when_it_is_kept_anew(self) -> None:
        self.once()
        (self.directory / "1.sql").write_text(MIGRATION + "INSERT INTO book VALUES (2, 'x')")
        self.once()
        shown = self.with_docker(lambda engine: engine.client.inspect_image(self.image()))
        base = self.with_docker(lambda engine: engine.client.inspect_image(self.declaration.image))
        self.assertEqual(len(shown["RootFS"]["Layers"]), len(base["RootFS"]["Layers"]) + 1)
        self.assertEqual(len(warm_listing.entries(self.config)), 1)
        own = warm_store.identity(self.config.cache_dir)
        present = self.with_docker(lambda engine: docker_warm.images(engine, own))
        self.assertEqual([image["Id"] for image in present], [self.image()])

    def test_what_init_has_written_elsewhere_is_a_reason_to_keep_nothing(self) -> None:
        for name, script, missing in (
            ("a.sh", "cd /var/lib/postgresql; echo 9 >x; echo 9 >y", "/var/lib/postgresql/x and 1 more"),
            ("b.sql", "COPY (SELECT 9) TO '/var/lib/postgresql/x'", "/var/lib/postgresql/x"),
            ("c.sh", "echo 9 >/var/lib/postgresql/data/in-a-volume", "/var/lib/postgresql/data/in-a-volume"),
            ("d.sh", "echo 9 >/tmp/scratch; echo 9 >/run/postgresql/scratch", ""),
        ):
            with self.subTest(name):
                (self.root / name).write_text(script)
                self.declaration = Postgres(init=[self.root / name])
                self.assertEqual(self.once(sql="SELECT 1"), (False, [(1,)]))
                entry = warm_listing.entries(self.config)[-1]
                self.assertRegex(entry.failed, f"^{missing}, written in the container, would be" if missing else "^$")
                self.assertEqual(entry.kind, "nothing" if missing else "docker image")

    def test_what_the_image_has_put_into_a_volume_is_no_reason(self) -> None:
        image = self.built(
            "FROM postgres:17\nRUN mkdir /seed && echo Emma >/seed/books && chown -R postgres /seed\nVOLUME /seed"
        )
        for name, script, missing in (
            ("a.sql", "CREATE TABLE book AS SELECT 1 AS id, trim(pg_read_file('/seed/books'), E'\n') AS title", ""),
            ("b.sh", "cp -p /seed/books /seed/more", "/seed/more, written"),
        ):
            with self.subTest(name):
                (self.root / name).write_text(script)
                self.declaration = Postgres(image, init=[self.root / name])
                self.assertEqual(self.once(sql="SELECT 1"), (False, [(1,)]))
                self.assertRegex(warm_listing.entries(self.config)[-1].failed, f"^{missing}" if missing else "^$")
        self.declaration = Postgres(image, init=[self.root / "a.sql"])
        self.assertEqual(self.once(), (True, [("Emma",)]))

    def built(self, dockerfile: str) -> str:
        """The id of an image that the test makes; it goes with the test."""

        def build(engine: DockerEngine) -> list[dict[str, Any]]:
            return list(engine.client.build(fileobj=io.BytesIO(dockerfile.encode()), rm=True, decode=True))

        said = self.with_docker(build)
        [image] = [part["aux"]["ID"] for part in said if "aux" in part] or self.fail(str(said))
        self.addCleanup(self.with_docker, lambda engine: docker_warm.discard(engine, image))
        self.addCleanup(warm_listing.clear, self.config)  # Before it: with the last of these it may be gone.
        return str(image)

    def test_the_servers_own_log_is_no_reason(self) -> None:
        (self.root / "a.sql").write_text(MIGRATION)
        for place in ("/var/log/postgresql", "/var/lib/postgresql/log"):
            with self.subTest(place):
                settings = {"logging_collector": True, "log_directory": place}
                self.declaration = Postgres(init=[self.root / "a.sql"], settings=settings)
                for warm_already in (False, True):
                    self.assertEqual(self.once(), (warm_already, [("Emma",)]))

    def test_a_script_that_may_be_executed_is_another_one(self) -> None:
        """The image runs it; one that may not be it reads in."""
        script = self.root / "init.sh"
        script.write_text(
            """#!/bin/bash\n[ "$0" = "$BASH_SOURCE" ] && how=run || how=read\n"""
            """psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "CREATE TABLE script AS SELECT '$how' AS how" """
        )
        self.declaration = Postgres(init=[script])
        for mode, how in ((0o755, "run"), (0o644, "read")):
            script.chmod(mode)
            self.assertEqual(self.once(sql="SELECT how FROM script"), (False, [(how,)]))
        self.assertEqual(self.once(sql="SELECT how FROM script"), (True, [("read",)]))

    def test_templates_with_unlogged_tables_are_not_kept(self) -> None:
        """A copy is recovered as after a crash, and that empties them."""
        (self.directory / "1.sql").write_text(MIGRATION.replace("CREATE", "CREATE UNLOGGED"))
        self.once()
        self.assertEqual(self.once(), (True, [("Emma",)]))


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """Without the base."""
    return unittest.TestSuite([loader.loadTestsFromTestCase(case) for case in (ProcessTest, DockerTest)])


del WarmTest  # It is nobody's test by itself.
