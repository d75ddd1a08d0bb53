# SPDX-License-Identifier: Apache-2.0
"""Customised PostgreSQL as it is declared: init, extensions, settings, names. No server needed."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.config import Config
from itest.engines import Endpoint
from itest.errors import DeclarationError, Unavailable
from itest.services.postgres import programs, template
from itest.services.postgres.customs import QUICK_PG_CTL
from itest.services.postgres.programs import Programs


class InitTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        self.enterContext(mock.patch.object(programs, "find_programs", return_value=found))

    def file(self, name: str, text: str = "SELECT 1") -> str:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    def test_scripts_are_where_the_image_looks_for_them_in_the_order_of_the_declaration(self) -> None:
        second, first = self.file("b.sql"), self.file("a.sh")
        spec = Postgres(init=[second, first]).container("geheim")
        self.assertEqual(
            dict(spec.files),
            {
                "/docker-entrypoint-initdb.d/zz-itest-001-b.sql": Path(second),
                "/docker-entrypoint-initdb.d/zz-itest-002-a.sh": Path(first),
            },
        )

    def test_a_directory_stands_for_the_scripts_in_it(self) -> None:
        scripts = ["1.sql.gz", "2.sql", "3.sql.xz", "4.sql.zst", "5.sh"]
        for name in (*scripts, "README.md"):
            self.file(f"d/{name}")
        names = [Path(name).name for name in Postgres(init=[self.directory / "d"]).container("").files]
        self.assertEqual(names, [f"zz-itest-001-{name}" for name in scripts])

    def test_those_of_a_directory_keep_the_order_that_the_image_gives_them(self) -> None:
        in_order = ("01.sql", "etude-1.sql", "étude-2.sql", "etude.sql", "étude.sql", "schema_base.sql", "schema.sql")
        in_order += ("schema.sql.gz", "Zone.sql")
        for name in in_order:
            self.file(f"d/{name}")
        service = Postgres(init=[self.file("b.sql"), self.directory / "d", self.file("a.sql")])
        self.assertEqual(
            [Path(name).name.removeprefix("zz-itest-") for name in service.container("").files],
            [
                "001-b.sql",
                *(f"002-{name}" for name in in_order),
                "003-a.sql",
            ],
        )

    def test_paths_are_relative_to_the_module_of_the_class(self) -> None:
        class T(PostgresMixin, ContainerTestCase):
            postgres = Postgres(init=["fixtures/one.sql"])

        [file] = vars(T)["postgres"].container("").files.values()
        self.assertEqual(file, Path(__file__).resolve().parent / "fixtures" / "one.sql")

    def test_what_is_in_them_is_part_of_the_fingerprint(self) -> None:
        service = Postgres(init=[self.file("a.sql")])
        before = [service.container("").fingerprint(), service.process("", Config()).fingerprint()]
        self.file("a.sql", "SELECT 2")
        after = [service.container("").fingerprint(), service.process("", Config()).fingerprint()]
        self.assertFalse(set(before) & {*after, Postgres().container("").fingerprint()})

    def test_what_only_the_image_runs_is_not_for_local_processes(self) -> None:
        for name, reason in (
            ("setup.sh", "is written for the inside of a container"),
            ("1.sql.zst", "is compressed by zstd, which only the image unpacks"),
        ):
            script = self.file(name)
            with self.subTest(name), self.assertRaises(Unavailable) as caught:
                Postgres(init=[script]).process("", Config())
            self.assertEqual(
                str(caught.exception),
                f"init names {script}, which {reason}: local processes run .sql, .sql.gz and .sql.xz only, use Docker",
            )

    def test_volumes_are_for_containers(self) -> None:
        service = Postgres(volumes={"/seed": self.directory, "/spool": "spool"})
        self.assertEqual(
            {path: mount.source for path, mount in service.container("").options.mounts.items()},
            {"/seed": self.directory, "/spool": "spool"},
        )
        with self.assertRaisesRegex(Unavailable, r"^volumes \(/seed, /spool\) are mounted into containers only"):
            service.process("", Config())

    def test_variables_reach_a_process(self) -> None:
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        env = {"POSTGRES_INITDB_ARGS": "--locale=C --encoding 'SQL_ASCII'", "MYVAR": "1"}
        with mock.patch.object(programs, "find_programs", return_value=found):
            plain, spec = Postgres().process("", Config()), Postgres(env=env).process("", Config())
            same_but_one = Postgres(env={**env, "POSTGRES_INITDB_ARGS": ""}).process("", Config())
        [ours], [initdb] = plain.prepare, spec.prepare
        self.assertEqual((dict(spec.env), initdb), (env, (*ours, "--locale=C", "--encoding", "SQL_ASCII")))
        self.assertEqual(same_but_one.prepare, plain.prepare)
        self.assertEqual(len({each.fingerprint() for each in (plain, spec, same_but_one)}), 3)

    def test_variables_of_the_entrypoint_are_for_containers(self) -> None:
        env = {"PGDATA": "/data", "POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_INITDB_ARGS": ""}
        service = Postgres(env={**env, "POSTGRES_INITDB_WALDIR": "/wal"})
        with self.assertRaises(Unavailable) as caught:
            service.process("", Config())
        self.assertEqual(
            str(caught.exception),
            "env has variables of the image's entrypoint (PGDATA, POSTGRES_INITDB_WALDIR), so it needs Docker",
        )

    def test_who_gets_in_without_a_password_does_not_matter_to_a_process(self) -> None:
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        with mock.patch.object(programs, "find_programs", return_value=found):
            trusting = Postgres(env={"POSTGRES_HOST_AUTH_METHOD": "trust"}).process("", Config())
            self.assertEqual(trusting.prepare, Postgres().process("", Config()).prepare)

    def test_arguments_of_initdb_that_no_shell_could_take_apart_are_named(self) -> None:
        with self.assertRaisesRegex(
            DeclarationError,
            r"T\.it: POSTGRES_INITDB_ARGS in env, \"--locale='C\", is no list of arguments: No closing quotation$",
        ):
            type("T", (ContainerTestCase,), {"it": Postgres(env={"POSTGRES_INITDB_ARGS": "--locale='C"})})

    def test_one_that_is_not_there_is_named(self) -> None:
        with self.assertRaises(DeclarationError) as caught:
            Postgres(init=[self.directory / "x.sql"]).container("")
        self.assertIn(
            f"there is no {self.directory / 'x.sql'}; paths are relative to the module of the test class",
            str(caught.exception),
        )

    def test_a_directory_without_scripts_is_named(self) -> None:
        with self.assertRaisesRegex(DeclarationError, r"which has no file of \.sql, \.sql\.gz, \.sql\.xz, "):
            Postgres(init=[self.directory]).container("")


class PlainTest(unittest.TestCase):
    """Kept states are found by what a server is started with: it must not change for those who customise nothing."""

    def test_a_plain_container_is_asked_for_nothing_more(self) -> None:
        spec = Postgres().container("geheim")
        self.assertEqual(
            set(spec.env), {"POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_INITDB_ARGS", "PGDATA", *QUICK_PG_CTL}
        )
        self.assertEqual((spec.env["POSTGRES_DB"], dict(spec.files), spec.options), ("itest", {}, None))

    def test_a_plain_process_neither(self) -> None:
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        with mock.patch.object(programs, "find_programs", return_value=found):
            spec = Postgres().process("geheim", Config())
        self.assertEqual((dict(spec.env), set(spec.files)), ({}, {"password.secret"}))

    def test_a_plain_template_has_its_old_key(self) -> None:
        plain = template.fingerprint(Postgres(), Path.cwd(), 17)
        self.assertEqual(plain, template.naming.fingerprint("template", template.FORMAT, 17, "", []))
        self.assertNotEqual(plain, template.fingerprint(Postgres(extensions=["vector"]), Path.cwd(), 17))


class NamesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.service = Postgres(user="app", password="p/w", database="shop")

    def test_a_container_is_told(self) -> None:
        env = self.service.container("geheim").env
        found = [env[name] for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")]
        self.assertEqual(found, ["app", "p/w", "shop"])

    def test_a_process_is_told(self) -> None:
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        with mock.patch.object(programs, "find_programs", return_value=found):
            spec = self.service.process("geheim", Config())
        [initdb] = spec.prepare
        self.assertEqual(initdb[initdb.index("--username") + 1], "app")
        self.assertEqual(spec.files["password.secret"], "p/w")

    def test_they_are_in_the_address(self) -> None:
        instance: Any = mock.Mock(endpoint=lambda name: Endpoint("127.0.0.1", 5))
        self.assertEqual(self.service.address(instance, "geheim"), "postgresql://app:p%2Fw@127.0.0.1:5/postgres")

    def test_another_password_is_another_server(self) -> None:
        services = [Postgres(), Postgres(password="one"), Postgres(password="two"), Postgres(user="app")]
        self.assertEqual(len({service.container("").fingerprint() for service in services}), 4)

    def test_no_text_shows_the_password(self) -> None:
        service = Postgres(password="letmein")
        found = Programs("/x/postgres", "/x/initdb", "PostgreSQL 18.6")
        with mock.patch.object(programs, "find_programs", return_value=found):
            shown = [repr(service), repr(service.container("")), repr(service.process("", Config()))]
        self.assertNotIn("letmein", str(shown))
        self.assertIn("Postgres(isolation='', scope='session'", shown[0])
        self.assertIn("user='postgres', database=''", shown[0])


class RefusedTest(unittest.TestCase):
    def refused(self, **fields: Any) -> str:
        with self.assertRaises(DeclarationError) as caught:
            Postgres(**fields).check("T", "postgres")
        return str(caught.exception).removeprefix("T.postgres: ")

    def test_init(self) -> None:
        self.assertEqual(self.refused(init=[3]), "a script of init is named by a path, not by 3")
        self.assertEqual(
            self.refused(init=["a.py"]),
            "init names 'a.py', but the image runs .sql, .sql.gz, .sql.xz, .sql.zst, .sh only; a directory stands for such "
            "files in it",
        )

    def test_extensions(self) -> None:
        self.assertEqual(self.refused(extensions=['a"b']), "'a\"b' is no name of an extension")

    def test_settings(self) -> None:
        self.assertEqual(
            self.refused(settings=["a=b"]),
            'settings must map names to values, settings={"work_mem": "8MB"}, not (\'a=b\',)',
        )
        self.assertIn("is no name of a setting", self.refused(settings={"work mem": 1}))
        self.assertEqual(
            self.refused(settings={"work_mem": None}),
            "work_mem in settings is a NoneType, which is no value: text, numbers, True and False are",
        )
        self.assertEqual(
            self.refused(settings={"port": 1}), "port in settings: the port is chosen by itest, ask the view for it"
        )

    def test_the_place_of_its_socket_is_where_psql_looks_for_it(self) -> None:
        self.assertEqual(
            self.refused(settings={"unix_socket_directories": "/tmp"}),
            "unix_socket_directories in settings: where its socket is, is itest's business; an image's own "
            "psql looks for it there, too",
        )

    def test_settings_are_written_as_the_server_reads_them(self) -> None:
        service = Postgres(settings={"max_connections": 200, "jit": False, "seq_page_cost": 1.5, "timescaledb.x": "y"})
        service.check("T", "postgres")
        self.assertLessEqual(
            {"max_connections=200", "jit=off", "seq_page_cost=1.5", "timescaledb.x=y"}, set(service.options())
        )

    def test_names(self) -> None:
        self.assertEqual(self.refused(user='a"b'), "user='a\"b' is no name: letters, digits, _, $ and - are")
        self.assertEqual(self.refused(database="a b"), "database='a b' is no name: letters, digits, _, $ and - are")
        self.assertIn("PostgreSQL's own", self.refused(user="pg_app"))
        self.assertIn("each class has a database of its own anyway", self.refused(database="postgres"))

    def test_variables_that_have_a_field(self) -> None:
        self.assertEqual(self.refused(env={"POSTGRES_USER": "a"}), "POSTGRES_USER in env: say user='a' instead")
        self.assertEqual(
            self.refused(env={"POSTGRES_PASSWORD": "a"}), "POSTGRES_PASSWORD in env: say password=... instead"
        )
        for name, cure in {
            "POSTGRES_USER": "user=...",
            "POSTGRES_PASSWORD": "password=...",
            "POSTGRES_DB": "database=...",
            "POSTGRES_INITDB_ARGS": "POSTGRES_INITDB_ARGS",
        }.items():
            said = self.refused(env={f"{name}_FILE": "/run/secrets/x"})
            self.assertEqual(said, f"{name}_FILE in env: say {cure} instead")

    def test_what_is_waited_for(self) -> None:
        self.assertEqual(self.refused(ready="up"), "ready='up' is no check, like itest.wait.log('seeded')")

    def test_volumes(self) -> None:
        self.assertIn("is no absolute path in the container", self.refused(volumes={"seed": "data"}))
        self.assertIn("for a file or directory of this machine write a Path", self.refused(volumes={"/seed": "./seed"}))
        self.assertEqual(
            self.refused(volumes={"/var/lib/itest/data": "data"}),
            "volumes: /var/lib/itest/data lies in /var/lib/itest, where itest has the data in memory",
        )

    def test_isolation_by_schema_sees_nothing_of_it(self) -> None:
        for fields in ({"init": ["a.sql"]}, {"extensions": ["vector"]}, {"database": "shop"}):
            self.assertIn("use isolation='database'", self.refused(isolation="schema", **fields))

    def test_images_of_another_kind(self) -> None:
        self.assertIn("is not configured like the official postgres image", self.refused(image="bitnami/postgresql:17"))

    def test_what_an_image_preloads_must_stay(self) -> None:
        image = "timescale/timescaledb:2.24.0-pg17"
        self.assertEqual(
            self.refused(image=image, settings={"shared_preload_libraries": "pg_stat_statements"}),
            f"image {image!r} preloads timescaledb, and shared_preload_libraries in settings takes the place of that: "
            f"write 'timescaledb,pg_stat_statements'",
        )
        Postgres(image, settings={"shared_preload_libraries": "timescaledb, pg_cron"}).check("T", "postgres")
        Postgres(image).check("T", "postgres")
