# SPDX-License-Identifier: Apache-2.0
"""Migrators without a database: fingerprints, wrong declarations, commands; and scripts taken apart."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import alembic.config as alembic_config
import sqlalchemy
import sqlalchemy.orm

from itest import naming, script
from itest.clock import Deadline
from itest.errors import ConfigError, MigrationError, MissingPackage
from itest.migrations import Alembic, Command, Django, Function, MetaData, Migrator, SqlFiles, migrator


class DirectoryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.base = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()

    def write(self, name: str, text: str = "") -> Path:
        file = self.base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def assertChanges(self, migrator: Migrator, name: str, text: str) -> None:
        """A change of this file changes the fingerprint; the same content has the same one."""
        before = migrator.fingerprint(self.base)
        self.assertEqual(migrator.fingerprint(self.base), before)
        self.write(name, text)
        self.assertNotEqual(migrator.fingerprint(self.base), before, name)


class MigratorTest(unittest.TestCase):
    def test_what_stands_for_a_migrator(self) -> None:
        self.assertEqual(migrator("migrations"), SqlFiles("migrations"))
        self.assertEqual(migrator(Path("migrations")), SqlFiles(Path("migrations")))
        self.assertIsInstance(migrator(print), Function)
        alembic = Alembic()
        self.assertIs(migrator(alembic), alembic)

    def test_one_without_a_base(self) -> None:
        class Own:
            lasting = False
            applied: ClassVar[list[object]] = []

            def fingerprint(self) -> str:
                return "v1"

            def apply(self, view: object) -> None:
                self.applied.append(view)

        own = migrator(Own())
        self.assertEqual((own.fingerprint(Path("/base")), getattr(own, "lasting", True)), ("v1", False))
        view: Any = object()
        own.apply(view, Path("/base"))
        self.assertEqual(Own.applied, [view])

    def test_what_does_not(self) -> None:
        for wrong in (5, SqlFiles, dict):
            with self.assertRaisesRegex(TypeError, "is no migrator: give SqlFiles"):
                migrator(wrong)

    def test_what_they_are_given_of_another_type(self) -> None:
        wrong: Any = None
        a_list = "depends_on must be a list: depends_on=['migrate.py']"
        for text, make in {
            "SqlFiles: path=None: it takes that of a directory or a file": lambda: SqlFiles(wrong),
            "Alembic: ini=None: it takes the path of an alembic.ini": lambda: Alembic(wrong),
            "Django: settings=None: it takes the name of a module, 'shop.settings'": lambda: Django(wrong),
            "Command: cwd=None: it takes a path, or leave it out": lambda: Command(["x"], cwd=wrong),
            "Command: env must be a dict, {'NAME': value}, not a list": lambda: Command(
                ["x"], env=[("PASSWORD", "b0bPw")]
            ),  # type: ignore[arg-type]
            "Command: env must be a dict, {'NAME': value}, not a tuple": lambda: Command(["x"], env=()),  # type: ignore[arg-type]
            "Command: env: A is a NoneType, not a text: write one, in quotes or by str(), or leave it out": lambda: (
                Command(["x"], env={"A": wrong})
            ),
            "timeout='5': a wait takes a number of seconds, at most 2000000": lambda: Command(["x"], timeout="5"),  # type: ignore[arg-type]
            "depends_on=None: it takes a list of glob patterns": lambda: Function(print, wrong),
        }.items():
            with self.subTest(text), self.assertRaises(TypeError) as caught:
                make()
            self.assertEqual(str(caught.exception), text)
        for kind, given in {Command: ["x"], Alembic: "a.ini", Django: "settings", Function: print}.items():
            with self.assertRaises(TypeError) as caught:
                kind(given, depends_on="migrate.py")  # type: ignore[operator]
            self.assertEqual(str(caught.exception), a_list)

    def test_the_configuration_of_alembic_is_no_sql(self) -> None:
        with self.assertRaises(TypeError) as caught:
            migrator("../alembic.ini")
        message = "'../alembic.ini' is no SQL; if it is Alembic's configuration, write Alembic('../alembic.ini')"
        self.assertEqual(str(caught.exception), message)

    def test_a_coroutine_function(self) -> None:
        """Nothing would await it."""

        async def migrate(view: object) -> None:
            """Never called."""

        class Own:
            def fingerprint(self) -> str:
                return "v1"

            async def apply(self, view: object) -> None:
                """Never called."""

            async def __call__(self, view: object) -> None:
                """Never called."""

        class OnlyCalled:
            async def __call__(self, view: object) -> None:
                """Never called."""

        for wrong in (migrate, functools.partial(migrate), Own(), OnlyCalled()):
            with self.assertRaisesRegex(TypeError, "is a coroutine function, and nothing awaits it: make it a plain"):
                migrator(wrong)
        view: Any = object()
        with self.assertRaisesRegex(
            MigrationError, "it returned a coroutine, and nothing awaits that: make it a plain"
        ):
            migrator(lambda view: migrate(view)).apply(view, Path())


class SqlFilesTest(DirectoryTest):
    def test_its_fingerprint(self) -> None:
        self.write("m/1.sql", "a")
        files = SqlFiles("m")
        self.assertChanges(files, "m/1.sql", "b")
        self.assertChanges(files, "m/2.sql", "")
        before = files.fingerprint(self.base)
        self.write("m/below/3.sql", "c")
        self.write("m/README", "c")
        self.assertEqual(files.fingerprint(self.base), before)
        (self.base / "m/2.sql").rename(self.base / "m/0.sql")
        self.assertNotEqual(files.fingerprint(self.base), before)

    def test_no_file(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            SqlFiles("m").fingerprint(self.base)
        self.assertEqual(str(caught.exception), f"SqlFiles('m'): there is no .sql file at {self.base}/m")

    def test_files_further_up(self) -> None:
        self.write("db/m/1.sql", "a")
        self.write("db/tests/unit/m/README", "c")  # A directory without scripts is not the one.
        with self.assertRaises(ConfigError) as caught:
            SqlFiles("m").fingerprint(self.base / "db/tests/unit")
        self.assertEqual(
            str(caught.exception),
            f"SqlFiles('m'): there is no .sql file at {self.base}/db/tests/unit/m; did you mean ../../m? Paths start at the "
            f"test's module",
        )


class MetaDataTest(DirectoryTest):
    def fingerprint(self, *columns: Any, **table: Any) -> str:
        metadata = sqlalchemy.MetaData()
        sqlalchemy.Table("t", metadata, *columns, **table)
        return MetaData(metadata).fingerprint(self.base)

    def test_it_follows_what_is_made(self) -> None:
        column, text = sqlalchemy.Column, sqlalchemy.Text
        made = [
            self.fingerprint(column("a", text)),
            self.fingerprint(column("a", sqlalchemy.Integer)),
            self.fingerprint(column("a", text, index=True)),
            self.fingerprint(column("a", text), schema="s"),
            self.fingerprint(column("a", sqlalchemy.Enum("x", "y", name="e"))),
            self.fingerprint(column("a", sqlalchemy.Enum("x", "z", name="e"))),
            self.fingerprint(column("a", sqlalchemy.Integer, sqlalchemy.Sequence("s", start=1))),
            self.fingerprint(column("a", sqlalchemy.Integer, sqlalchemy.Sequence("s", start=2))),
            self.fingerprint(column("a", text, comment="c")),
        ]
        self.assertEqual(len(set(made)), len(made))
        self.assertEqual(made[0], self.fingerprint(column("a", text)))

    def test_a_declarative_base_has_one(self) -> None:
        class Base(sqlalchemy.orm.DeclarativeBase):
            pass

        self.assertIs(MetaData(Base).metadata, Base.metadata)
        with self.assertRaisesRegex(TypeError, r"^MetaData\(5\): that is no SQLAlchemy MetaData; give Base\.metadata"):
            MetaData(5)

    def test_sqlalchemys_own_will_do(self) -> None:
        class Base(sqlalchemy.orm.DeclarativeBase):
            pass

        class Own(sqlalchemy.MetaData):
            pass

        for value, metadata in ((Base, Base.metadata), (Base.metadata, Base.metadata), (own := Own(), own)):
            found = migrator(value)
            self.assertIsInstance(found, MetaData)
            self.assertIs(found.metadata, metadata)  # type: ignore[attr-defined]  # of a MetaData

    def test_the_order_of_indexes_does_not_matter(self) -> None:
        def table() -> str:
            columns = [sqlalchemy.Column(f"c{n}", sqlalchemy.Text, index=True) for n in range(9)]
            return self.fingerprint(*columns)

        self.assertEqual(len({table() for _ in range(5)}), 1)

    def seeded(self, make: Any) -> MetaData:
        """Tables with a listener that inserts what `make` returns."""
        metadata = sqlalchemy.MetaData()
        table = sqlalchemy.Table("t", metadata, sqlalchemy.Column("a", sqlalchemy.Text))
        sqlalchemy.event.listen(table, "after_create", lambda target, connection, **kw: make(target, connection))
        return MetaData(metadata)

    def test_rows_of_a_listener(self) -> None:
        made = [
            self.seeded(lambda table, connection: connection.execute(table.insert(), [{"a": "x"}])),
            self.seeded(lambda table, connection: connection.execute(table.insert(), [{"a": "y"}])),
            self.seeded(lambda table, connection: connection.execute(table.insert().values(a="x"))),
            self.seeded(lambda table, connection: connection.execute(table.insert().values(a="y"))),
        ]
        prints = [metadata.fingerprint(self.base) for metadata in made]
        self.assertEqual(len(set(prints)), len(prints))
        self.assertEqual([metadata.fingerprint(self.base) for metadata in made], prints)

    def test_rows_that_are_never_the_same(self) -> None:
        numbers = itertools.count()
        metadata = self.seeded(
            lambda table, connection: connection.execute(table.insert().values(a=str(next(numbers))))
        )
        self.assertEqual(metadata.fingerprint(self.base), metadata.fingerprint(self.base))

    def test_a_listener_that_wants_a_real_connection(self) -> None:
        metadata = sqlalchemy.MetaData()
        sqlalchemy.Table("t", metadata, sqlalchemy.Column("a", sqlalchemy.Text))
        sqlalchemy.event.listen(
            metadata, "after_create", lambda target, connection, **kw: connection.execute("x").scalar()
        )
        before = MetaData(metadata).fingerprint(self.base)
        sqlalchemy.Table("u", metadata, sqlalchemy.Column("a", sqlalchemy.Text))
        self.assertNotEqual(MetaData(metadata).fingerprint(self.base), before)


def first(view: object) -> None:
    """A migration."""


def second(view: object, table: str = "") -> None:
    """Another migration."""


class Callable_:
    def __call__(self, view: object) -> None: ...


class Maker:
    def __init__(self, table: Any) -> None:
        self.table = table

    def __call__(self, view: Any) -> None:
        self.make(view)

    def make(self, view: Any) -> None:
        view.execute(f"CREATE TABLE {self.table}")

    @classmethod
    def make_all(cls, view: Any) -> None:
        view.execute(f"CREATE TABLE {cls.__name__}")


class OtherMaker(Maker):
    pass


class Slotted:
    __slots__ = ("table",)

    def __init__(self, table: str) -> None:
        self.table = table

    def __call__(self, view: Any) -> None: ...


class FunctionTest(DirectoryTest):
    def test_functions_of_one_source_differ_by_what_they_close_over(self) -> None:
        def make(table: str, rows: int = 1) -> Any:
            return lambda view, rows=rows: view.execute(f"CREATE TABLE {table}", rows)

        functions = make("a"), make("b"), make("a", 2), make("a")
        prints = [Function(function).fingerprint(self.base) for function in functions]
        self.assertEqual(len(set(prints)), 3)
        self.assertEqual(prints[0], prints[3])

    def assertDiffer(self, *functions: Any) -> None:
        """Their fingerprints differ, and each stays what it is."""
        prints = [Function(function).fingerprint(self.base) for function in functions]
        self.assertEqual(len(set(prints)), len(prints))
        self.assertEqual([Function(function).fingerprint(self.base) for function in functions], prints)

    def test_objects_of_one_class_differ_by_their_state(self) -> None:
        self.assertDiffer(Maker("a"), Maker("b"), Maker("a").make, Maker("b").make, Maker(["a"]), Maker({"a": 1}))
        self.assertDiffer(Maker(Maker("a")), Maker(Maker("b")))
        self.assertDiffer(Slotted("a"), Slotted("b"))
        self.assertDiffer(Maker.make_all, OtherMaker.make_all, Maker("a").make, OtherMaker("a").make)
        same = [Function(maker).fingerprint(self.base) for maker in (Maker(Maker("a")), Maker(Maker("a")))]
        self.assertEqual(same[0], same[1])

    def test_functions_of_one_factory_differ_by_keyword_defaults_and_by_functions_they_call(self) -> None:
        def make(table: str) -> Any:
            def migrate(view: Any, *, name: str = table) -> None:
                view.execute(name)

            return migrate

        def calling(function: Any) -> Any:
            @functools.wraps(function)
            def migrate(view: Any) -> None:
                function(view)

            return migrate

        self.assertDiffer(make("a"), make("b"), calling(make("a")), calling(make("b")), functools.cache(make("a")))
        self.assertDiffer(functools.partial(Maker("a")), functools.partial(Maker("b")))

    def test_a_function_and_an_object_that_lead_back_to_themselves(self) -> None:
        def migrate(view: Any) -> None:
            migrate(view)

        maker = Maker([])
        maker.table.append(maker)
        self.assertDiffer(migrate, maker)

    def test_it_is_the_same_in_every_process(self) -> None:
        code = (
            "from pathlib import Path; from itest.migrations import Function; from tests.unit.test_migrations import Maker, first;"
            "print(Function(Maker([Maker(first)])).fingerprint(Path()))"
        )
        prints = {
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)
        }
        here = Function(Maker([Maker(first)])).fingerprint(Path())
        self.assertEqual(prints, {f"{here}\n".encode()})

    def test_its_source_is_its_fingerprint(self) -> None:
        made = [
            Function(function).fingerprint(self.base)
            for function in (
                first,
                second,
                functools.partial(second, table="a"),
                functools.partial(second, table="b"),
                Callable_(),
            )
        ]
        self.assertEqual(len(set(made)), len(made))
        self.assertEqual(made[0], Function(first).fingerprint(self.base))
        self.assertEqual(made[4], Function(Callable_()).fingerprint(self.base))

    def test_files_it_depends_on(self) -> None:
        self.write("data/a/b.csv", "1")
        self.write("x.sql")
        for pattern in ("data", "data/**/*.csv", "../*/data/a/b.csv", f"{self.base}/data/*/*"):
            self.write("data/a/b.csv", "1")
            self.assertChanges(Function(first, depends_on=["x.sql", pattern]), "data/a/b.csv", pattern)

    def test_a_pattern_that_means_nothing(self) -> None:
        for pattern in ("nothing/*.sql", "nothing"):
            with self.assertRaisesRegex(
                ConfigError, f"^depends_on: there is no file '{pattern.replace('*', '[*]')}' in {self.base}"
            ):
                Function(first, depends_on=[pattern]).fingerprint(self.base)

    def test_what_fails_is_named_with_its_line(self) -> None:
        def broken(view: object) -> None:
            raise ValueError("no such thing")

        with self.assertRaises(MigrationError) as caught:
            Function(broken).apply(mock.Mock(), self.base)
        error = caught.exception
        self.assertRegex(
            str(error),
            r"^the migration FunctionTest\.test_.*\.broken failed at .*test_migrations\.py, line \d+: "
            r'ValueError: no such thing; in the line: raise ValueError\("no such thing"\)$',
        )
        self.assertEqual(error.file and error.file.name, "test_migrations.py")

    def test_a_skip_is_a_skip(self) -> None:
        with self.assertRaises(unittest.SkipTest):
            Function(mock.Mock(side_effect=unittest.SkipTest)).apply(mock.Mock(), self.base)


class FakeView:
    url = f"postgresql://u:{naming.remember_secret('a-secret-password')}@h:1/d"
    dsn, host, port, name, user, password = "host=h", "h", 1, "d", "u", "a-secret-password"
    env: dict[str, str] = {"PGDATABASE": "d"}  # noqa: RUF012  # nobody changes it


class CommandTest(DirectoryTest):
    def run_python(self, code: str, *words: str, **options: Any) -> None:
        view: Any = FakeView()
        Command([sys.executable, "-c", code, *words], **options).apply(view, self.base)

    def test_what_it_is_given(self) -> None:
        code = "import os, sys; open('out', 'w').write(' '.join([*sys.argv[1:], os.environ['PGDATABASE'], os.environ['X']]))"
        self.write("sub/x")
        self.run_python(code, "{url}", "{port}", "{other} ${X} ${url}", env={"X": "{name}!", "N": 1}, cwd="sub")
        self.assertEqual((self.base / "sub/out").read_text(), f"{FakeView.url} 1 {{other}} ${{X}} ${{url}} d d!")

    def test_its_fingerprint(self) -> None:
        made = {
            Command(["a"]).fingerprint(self.base),
            Command(["a", "b"]).fingerprint(self.base),
            Command(["a"], env={"b": "c"}).fingerprint(self.base),
            Command(["a"], cwd="d").fingerprint(self.base),
        }
        self.assertEqual(len(made), 4)
        self.write("m/1.sql")
        self.assertChanges(Command(["a"], depends_on=["m"]), "m/1.sql", "b")

    def test_a_failure_shows_the_end_of_the_output_without_passwords(self) -> None:
        code = "import sys; [print('line', n) for n in range(30)]; print('cannot reach', sys.argv[1], flush=True); sys.exit(3)"
        with self.assertRaises(MigrationError) as caught:
            self.run_python(code, "{url}")
        text = str(caught.exception)
        self.assertRegex(
            text, r"^the migration command `.*postgresql://u:\*\*\*@h:1/d'?` failed with exit code 3 after 0\.\d s; "
        )
        self.assertTrue(text.endswith("line 28\nline 29\ncannot reach postgresql://u:***@h:1/d"), text)
        self.assertNotIn("line 10\n", text)

    def test_passwords_that_it_is_given_are_not_shown(self) -> None:
        code = "import os; print('got', os.environ['API_TOKEN']); raise SystemExit(1)"
        with self.assertRaises(MigrationError) as caught:
            self.run_python(code, "--token", "word-4711", env={"API_TOKEN": "token-of-a-migration"})
        self.assertRegex(str(caught.exception), r" --token '\*\*\*'` failed with exit code 1 .*:\ngot \*\*\*$")
        self.assertEqual(repr(Command(["serve", "--token", "word-4711"])), """Command("serve --token '***'")""")

    def test_one_that_takes_too_long_is_ended_with_its_children(self) -> None:
        view: Any = FakeView()
        # A shell, which has begun long before its time is over.
        command = Command(["sh", "-c", "sleep 600 & echo $! > pid; wait"], timeout=2)
        deadline = Deadline.after(60)
        with self.assertRaisesRegex(
            MigrationError, "was ended, because it took too long, after .* s; it printed nothing$"
        ):
            command.apply(view, self.base)
        self.assertFalse(deadline.passed)
        child = int((self.base / "pid").read_text())
        with self.assertRaises(ProcessLookupError):
            while not deadline.passed:  # It is init's to reap, or ours where there is no init.
                os.kill(child, 0)
                if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                    raise ProcessLookupError
                deadline.pause(0.01)
            os.kill(child, signal.SIGKILL)

    def test_a_program_that_is_not_there(self) -> None:
        view: Any = FakeView()
        with self.assertRaisesRegex(
            ConfigError, r"^the migration command `no-such-program` cannot be run in .*: .*No such file"
        ):
            Command(["no-such-program"]).apply(view, self.base)

    def test_no_traceback_with_local_variables_shows_the_environment(self) -> None:
        view: Any = FakeView()
        with mock.patch.dict(os.environ, {"CI_SECRET": "gehe" + "im"}):
            try:
                Command(["no-such-program"]).apply(view, self.base)
            except ConfigError as error:
                text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        self.assertIn("environment = <", text)
        self.assertNotIn("geheim", text)

    def test_a_line_instead_of_words(self) -> None:
        with self.assertRaisesRegex(TypeError, "a list of words, not 'make migrate'"):
            Command("make migrate")


class AlembicTest(DirectoryTest):
    def setUp(self) -> None:
        super().setUp()
        self.write("db/alembic.ini", "[alembic]\nscript_location = scripts\npath_separator = os\n")
        self.write("db/scripts/env.py", "raise AssertionError('a fingerprint runs nothing')")
        self.write("db/scripts/versions/1.py", "one")

    def test_its_fingerprint(self) -> None:
        alembic = Alembic("db/alembic.ini")
        self.assertChanges(alembic, "db/scripts/versions/1.py", "two")
        self.assertChanges(alembic, "db/scripts/versions/2.py", "")
        self.assertChanges(alembic, "db/scripts/env.py", "")
        self.assertChanges(
            alembic, "db/alembic.ini", "[alembic]\nscript_location = %(here)s/scripts\npath_separator = os\n"
        )
        if "toml_file" in inspect.signature(alembic_config.Config).parameters:  # Since Alembic 1.16.
            self.assertChanges(alembic, "db/pyproject.toml", "")
        before = alembic.fingerprint(self.base)
        self.assertNotEqual(Alembic("db/alembic.ini", "abc").fingerprint(self.base), before)

    def test_no_ini(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            Alembic().fingerprint(self.base)
        self.assertEqual(str(caught.exception), f"Alembic('alembic.ini'): there is no file {self.base}/alembic.ini")

    def test_an_ini_further_up(self) -> None:
        self.write("db/alembic.ini", "")
        with self.assertRaises(ConfigError) as caught:
            Alembic("db/alembic.ini").fingerprint(self.base / "tests")
        self.assertEqual(
            str(caught.exception),
            f"Alembic('db/alembic.ini'): there is no file {self.base}/tests/db/alembic.ini; did you mean ../db/alembic.ini? "
            f"Paths start at the test's module",
        )

    def test_without_alembic(self) -> None:
        with mock.patch.dict(sys.modules, {"alembic": None}), self.assertRaises(MissingPackage) as caught:
            Alembic("db/alembic.ini").fingerprint(self.base)
        self.assertEqual(
            str(caught.exception),
            "migrations by Alembic needs the package 'alembic', which is not installed: "
            "pip install 'itest-containers[alembic]'",
        )

    def test_an_ini_of_flask_migrates(self) -> None:
        self.write("alembic.ini", "[alembic]\n")
        with self.assertRaises(MigrationError) as caught:
            Alembic().fingerprint(self.base)
        self.assertRegex(
            str(caught.exception),
            r"^Alembic\('alembic.ini'\) failed: .*script_location.*; an ini of Flask-Migrate's has none, .* "
            r"flask_migrate.upgrade\(\) runs in the app's context \(docs/migrations.md\)$",
        )


class DjangoTest(DirectoryTest):
    def test_settings_that_are_not_there(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            Django("no_such_project.settings").fingerprint(self.base)
        self.assertEqual(
            str(caught.exception),
            "Django('no_such_project.settings'): there is no such module; run the tests from the directory that "
            "`manage.py` is in, or put it on PYTHONPATH",
        )

    def test_settings_that_fail(self) -> None:
        self.write("itest_failing_settings/__init__.py")
        self.write("itest_failing_settings/base.py", 'import os\nSECRET = os.environ["ITEST_NO_SUCH_SECRET"]\n')
        self.write("itest_failing_settings/local.py", "from itest_failing_settings.base import *\n")
        self.enterContext(mock.patch.object(sys, "path", [str(self.base), *sys.path]))
        with self.assertRaises(MigrationError) as caught:
            Django("itest_failing_settings.local").fingerprint(self.base)
        self.assertRegex(
            str(caught.exception),
            r"^Django\('itest_failing_settings.local'\), import of the settings and apps failed at .*base.py, line 2: "
            r"KeyError: 'ITEST_NO_SUCH_SECRET'; in the line: SECRET = .*; set what they read from the environment before",
        )


class Watched(str):
    """A script that knows how much of it was looked through for lines, and copied."""

    counted = 0
    copied: list[int]

    def count(self, what: str, start: Any = 0, end: Any = None) -> int:
        self.counted += (len(self) if end is None else end) - start
        return super().count(what, start, end)

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        self.copied.append(len(part))
        return part


class RunTest(unittest.TestCase):
    def test_where_no_thread_can_be_had_a_script_runs_on_this_one(self) -> None:
        connection, server = mock.Mock(), mock.Mock()
        with (
            mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
            mock.patch.object(script, "_run_alone", side_effect=[None, script.ScriptError("it is wrong")]) as ran,
        ):
            script.run_alone(connection, "SELECT 1", server, Deadline.after(60))
            with self.assertRaisesRegex(script.ScriptError, "it is wrong"):
                script.run_alone(connection, "SELECT", server)
        self.assertEqual([call.args[1] for call in ran.mock_calls], ["SELECT 1", "SELECT"])
        self.assertEqual(connection.close.call_count, 2)


class SplitTest(unittest.TestCase):
    def split(self, sql: str) -> list[str]:
        return [statement.text for statement in script.split(sql)]

    def test_statements_and_their_lines(self) -> None:
        found = script.split("\n-- a; b\nSELECT 1; /* c; /* d; */ */\n\nSELECT\n 2;;\n;SELECT 3")
        self.assertEqual([(one.text, one.line, one.verb) for one in found], [
            ("SELECT 1;", 3, "SELECT"), ("SELECT\n 2;", 5, "SELECT"), ("SELECT 3", 7, "SELECT"),
        ])  # fmt: skip

    def test_semicolons_that_end_nothing(self) -> None:
        for sql in (
            "SELECT ';', ''';', E'\\';', e';';",
            "SELECT '\\';",
            'SELECT ";" "a"";";',
            "SELECT $$;$$, $a$ ; $$ ; $a$, $1, a$b$c;",
            "SELECT 1 -- ;\n+ 2;",
            "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b);",
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END;",
            "CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC DELETE FROM t; END;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;",
        ):
            self.assertEqual(self.split(sql + " SELECT 9;"), [sql, "SELECT 9;"])

    def test_transactions_are_no_blocks(self) -> None:
        self.assertEqual(self.split("BEGIN; SELECT 1; END;"), ["BEGIN;", "SELECT 1;", "END;"])

    def test_nothing(self) -> None:
        for sql in ("", " \n", "-- only this", "/* and /* this */", ";;"):
            self.assertEqual(self.split(sql), [])

    def test_rows_of_copy(self) -> None:
        found = script.split(
            "COPY t (a) FROM stdin;\n1\n;x'\n\\.\n\nSELECT 1;\ncopy u from STDIN WITH (FORMAT csv);\n\\.\n"
        )
        self.assertEqual(
            [(one.text, one.line, one.rows) for one in found],
            [
                ("COPY t (a) FROM stdin;", 1, "1\n;x'\n"),
                ("SELECT 1;", 6, None),
                ("copy u from STDIN WITH (FORMAT csv);", 7, ""),
            ],
        )

    def test_commands_to_psql(self) -> None:
        self.assertEqual(self.split("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n"), ["SELECT 1;"])
        with self.assertRaises(script.ScriptError) as caught:
            script.split("SELECT 1;\n\\connect other\n")
        self.assertEqual((str(caught.exception), caught.exception.line), ("\\connect is a command to psql, not SQL", 2))
        self.assertEqual(self.split("SELECT 1,\n\\restrict a\n2;"), ["SELECT 1,\n           \n2;"])

    def test_a_script_is_gone_through_once(self) -> None:
        for line in ("-- one", "\\restrict a"):
            with self.subTest(line):
                sql = Watched(f"{line}\n-- two\nSELECT\n1;\n" * 100)
                sql.copied = []
                found = script.split(sql)
                self.assertEqual([one.line for one in found], list(range(3, 400, 4)))
                self.assertLessEqual(sql.counted, len(sql))
                self.assertLess(max(sql.copied), len(sql) / 2)
