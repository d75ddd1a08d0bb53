# SPDX-License-Identifier: Apache-2.0
"""Declarations, views, mixins: what a class body is checked for, and what is said about a mistake in it."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
import tempfile
import unittest
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from itest import (
    AsyncContainerTestCase,
    Container,
    ContainerMixin,
    ContainerTestCase,
    Postgres,
    PostgresMixin,
    Redis,
    RedisMixin,
    packages,
)
from itest.errors import DeclarationError, MissingPackage, NotStarted, Unavailable
from itest.packages import PARTS, client_package, need_client, no_program, stranger
from itest.service import ServiceMixin, declarations
from itest.spec import ContainerSpec, Port
from itest.testing import MemoryEngine, MemoryService, MemoryView
from tests.unit.inner import InnerTest, MemoryMixin, run


class EndedTest(unittest.TestCase):
    """A view of a test that has ended; a class's is used on."""

    def view(self) -> MemoryView:
        service = MemoryService()
        return MemoryView(mock.Mock(), service, "memory", {})

    def test_it_hands_out_nothing_more(self) -> None:
        view, client = self.view(), mock.Mock()
        view.give_to("tests.T.test_a")
        self.assertIs(view._closing(client), client)
        view.close()
        client.close.assert_called_once_with()
        late = mock.Mock()
        with self.assertRaises(NotStarted) as caught:
            view._closing(late)
        self.assertEqual(
            str(caught.exception),
            "this view was of tests.T.test_a, which has ended, and its data is the next test's: let each test ask its own "
            "self for its view",
        )
        late.close.assert_called_once_with()
        view.close()

    def test_that_of_a_class_does(self) -> None:
        view, client = self.view(), mock.Mock()
        view.close()
        view._closing(client)
        view.close()
        client.close.assert_called_once_with()


class DeclarationsTest(unittest.TestCase):
    def test_they_are_collected_bases_first_in_order_of_first_mention(self) -> None:
        one, two, three = MemoryService(), MemoryService(), MemoryService()

        class Base:
            a, b = one, two

        class Sub(Base):
            c = two
            a = three

        self.assertEqual(declarations(Sub), [("a", three), ("b", two), ("c", two)])

    def test_None_opts_out_and_a_later_declaration_in_again(self) -> None:
        class Out(MemoryMixin):
            memory = None  # type: ignore[assignment]  # how one opts out

        class In(Out):
            memory = MemoryService()  # type: ignore[assignment]  # and in again

        self.assertEqual(declarations(Out), [])
        self.assertEqual([name for name, _ in declarations(In)], ["memory"])

    def test_a_declaration_is_frozen(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            Redis().image = "redis:7"  # type: ignore[misc]  # that it is refused is the point

    def test_its_text_shows_no_passwords(self) -> None:
        service = Container("web:1", env={"API_TOKEN": "hush", "MODE": "x"}, command=["serve", "--token", "hush"])
        for each in (service, service.replace(command="serve --token hush --port 80")):
            self.assertNotIn("hush", repr(each))
        self.assertIn("command=('serve', '--token', '***'), ", repr(service))
        self.assertIn("env={'API_TOKEN': '***', 'MODE': 'x'}, ", repr(service))

    def test_replace_makes_a_changed_copy(self) -> None:
        one = Redis("redis:7", scope="class")
        two = one.replace(image="redis:8")
        self.assertEqual((two.image, two.scope, one.image), ("redis:8", "class", "redis:7"))

    def test_a_list_is_kept_as_a_tuple(self) -> None:
        fixtures = ["a.sql"]
        declaration = Postgres(fixtures=fixtures)
        fixtures.append("b.sql")
        self.assertEqual(declaration.fixtures, ("a.sql",))

    def test_paths_start_at_the_module_of_the_class_that_declares_it(self) -> None:
        declaration = MemoryService()
        self.assertEqual(declaration.directory, Path.cwd())

        class Here(ContainerTestCase):
            memory = declaration

        There = type("There", (ContainerTestCase,), {"memory": declaration, "__module__": "unittest"})
        Inherited = type("Inherited", (Here,), {"__module__": "unittest"})
        here, there = Path(__file__).resolve().parent, Path(unittest.__file__).resolve().parent
        for case, directory in ((Here, here), (There, there), (Inherited, here)):
            [(_, found)] = case._itest_declarations  # type: ignore[attr-defined]  # of a ContainerTestCase
            self.assertEqual(found.directory, directory)


class MistakesTest(unittest.TestCase):
    def assertRefused(self, message: str, make: Callable[[], object]) -> None:
        with self.assertRaises(DeclarationError) as caught:
            make()
        self.assertEqual(str(caught.exception).replace(f"{self.id().rpartition('.')[2]}.<locals>.", "").replace(
            f"{type(self).__qualname__}.", ""), message)  # fmt: skip
        self.assertIsInstance(caught.exception, TypeError)

    def test_an_unknown_isolation(self) -> None:
        def make() -> None:
            type("T", (ContainerTestCase,), {"cache": Redis(isolation="rollback")})

        self.assertRefused("T.cache: unknown isolation 'rollback'; Redis supports 'database', 'prefix', 'none'", make)

    def test_an_unknown_scope(self) -> None:
        self.assertRefused(
            "T.cache: unknown scope 'module'; it must be one of 'session', 'class', 'test'",
            lambda: type("T", (ContainerTestCase,), {"cache": Redis(scope="module")}),
        )

    def test_a_startup_timeout_that_is_no_number(self) -> None:
        for wrong in ("30", 0, -1, float("nan"), True, 2000001):
            self.assertRefused(
                f"T.cache: startup_timeout={wrong!r} is no number of seconds above 0, at most 2000000",
                lambda wrong=wrong: type("T", (ContainerTestCase,), {"cache": Redis(startup_timeout=wrong)}),
            )

    def test_one_declaration_under_two_names(self) -> None:
        cache = Redis()
        self.assertRefused(
            "T: first and second are one and the same declaration; declare it twice",
            lambda: type("T", (ContainerTestCase,), {"first": cache, "second": cache}),
        )
        self.assertRefused(  # In another module it is a copy, but one for both.
            "T: first and second are one and the same declaration; declare it twice",
            lambda: type("T", (ContainerTestCase,), {"first": cache, "second": cache, "__module__": "unittest"}),
        )

    def test_a_name_that_unittest_takes_for_a_test(self) -> None:
        self.assertRefused(
            "T.test_cache: unittest takes a name that starts with 'test' for a test; rename it",
            lambda: type("T", (ContainerTestCase,), {"test_cache": Redis()}),
        )

    def test_an_image_without_a_name(self) -> None:
        self.assertRefused(
            "T.postgres: its image has no name; write Postgres('postgres:17'), or leave it out",
            lambda: type("T", (ContainerTestCase,), {"postgres": Postgres("")}),
        )

    def test_a_value_that_is_no_migrator(self) -> None:
        self.assertRefused(
            "T.postgres: 5 is no migrator: give SqlFiles(path), Alembic(ini), MetaData(Base.metadata), Django(settings), "
            "Command(argv) or a function of the view",
            lambda: type("T", (ContainerTestCase,), {"postgres": Postgres(migrations=5)}),
        )

    def test_a_fixture_that_is_no_path(self) -> None:
        with self.assertRaisesRegex(DeclarationError, r"^T\.postgres: a fixture is named by a path, not by 5"):
            type("T", (ContainerTestCase,), {"postgres": Postgres(fixtures=[5])})

    def test_mixins_after_TestCase(self) -> None:
        self.assertRefused(
            "T declares redis, postgres but is not a ContainerTestCase, so nothing would start: "
            "write class T(PostgresMixin, RedisMixin, ContainerTestCase)",
            lambda: type("T", (unittest.TestCase, PostgresMixin, RedisMixin), {}),
        )

    def test_mixins_before_a_plain_TestCase(self) -> None:
        self.assertRefused(
            "T declares postgres but is not a ContainerTestCase, so nothing would start: "
            "write class T(PostgresMixin, ContainerTestCase)",
            lambda: type("T", (PostgresMixin, unittest.TestCase), {}),
        )

    def test_mixins_before_the_TestCase_of_others(self) -> None:
        Djangos = type("Djangos", (unittest.TestCase,), {})
        self.assertRefused(
            "T declares postgres but is not a ContainerTestCase, so nothing would start: "
            "write class T(PostgresMixin, ContainerMixin, Djangos)",
            lambda: type("T", (PostgresMixin, Djangos), {}),
        )

    def test_ContainerMixin_after_TestCase(self) -> None:
        self.assertRefused(
            "T: ContainerMixin comes after unittest.TestCase among its bases and would never be called: "
            "list the mixins first, class T(PostgresMixin, ContainerMixin, ...)",
            lambda: type("T", (unittest.TestCase, ContainerMixin), {}),
        )

    def test_a_coroutine_in_a_class_without_a_loop(self) -> None:
        async def test_order(self: object) -> None:
            pass

        message = (
            "T.test_order is async but the class is not: it would pass without running; "
            "make the class an AsyncContainerTestCase"
        )
        self.assertRefused(message, lambda: type("T", (ContainerTestCase,), {"test_order": test_order}))
        with self.subTest("inherited from a mixin"):
            tests = type("Tests", (ContainerMixin,), {"test_order": test_order})
            self.assertRefused(message, lambda: type("T", (tests, ContainerTestCase), {}))
            type("T", (tests, AsyncContainerTestCase), {})

    def test_a_test_that_yields(self) -> None:
        def test_order(self: object) -> Iterator[None]:
            yield

        async def test_async(self: object) -> AsyncIterator[None]:
            yield

        for base in (ContainerTestCase, AsyncContainerTestCase):
            for test in (test_order, test_async):
                self.assertRefused(
                    "T.test has a `yield` in it, so it would pass without running: write the test without one",
                    lambda base=base, test=test: type("T", (base,), {"test": test}),
                )

    def test_what_only_a_class_that_runs_coroutines_is_asked_for(self) -> None:
        async def method(self: object) -> None:
            pass

        def calls(self: Any) -> None:
            asyncio.run(self.asyncSetUp())
            asyncio.run(self.asyncSetUpClass())

        of_class = {name: classmethod(method) for name in ("asyncSetUpClass", "asyncTearDownClass")}
        of_test = dict.fromkeys(("asyncSetUp", "asyncTearDown"), method)
        cure = "make the class an AsyncContainerTestCase"
        for bases, attributes in (
            ((ContainerTestCase,), of_test | of_class),
            ((type("Mixin", (), {"asyncSetUp": method}), ContainerTestCase), {"asyncSetUp": method}),
            ((ContainerMixin, unittest.IsolatedAsyncioTestCase), of_class),
        ):
            for name, value in attributes.items():
                self.assertRefused(
                    f"T.{name}: nothing would ever call it; {cure}",
                    lambda bases=bases, name=name, value=value: type("T", bases, {name: value}),
                )
        for bases in ((ContainerTestCase,), (ContainerMixin, unittest.IsolatedAsyncioTestCase)):
            self.assertRefused(
                f"T.loop_scope: nothing would ever read it; {cure}",
                lambda bases=bases: type("T", bases, {"loop_scope": "class"}),
            )
        self.assertRefused(
            f"T.test is async but the class is not: it would pass without running; {cure}",
            lambda: type("T", (ContainerTestCase,), {"test": method, "asyncSetUp": method, "setUp": calls}),
        )
        Djangos = type("Djangos", (unittest.TestCase,), {"_setup_and_call": calls})
        type("T", (ContainerMixin, Djangos), {"test": method})
        self.assertRefused(
            "T.setUp is async: nothing would ever await it; make it a plain method",
            lambda: type("T", (ContainerMixin, Djangos), {"test": method, "setUp": method}),
        )
        type("T", (ContainerTestCase,), {"asyncSetUp": method, "setUp": calls})
        type("T", (ContainerMixin, unittest.IsolatedAsyncioTestCase), of_test | {"test": method})
        type("T", (AsyncContainerTestCase,), of_test | of_class | {"test": method, "loop_scope": "class"})

    def test_coroutines_that_nobody_awaits(self) -> None:
        async def method(cls: type) -> None:
            pass

        class_loop = "and set loop_scope = 'class'"
        instead = {
            "setUp": "make it a plain method, or name it asyncSetUp",
            "tearDown": "make it a plain method, or name it asyncTearDown",
            "setUpTestData": "make it a plain method, in which cls.runAsync(...) runs a coroutine",
            "setUpClass": f"make it a plain method, or name it asyncSetUpClass {class_loop}",
            "tearDownClass": f"make it a plain method, or name it asyncTearDownClass {class_loop}",
        }
        for name, advice in instead.items():
            for base, cure in ((ContainerTestCase, "make it a plain method"), (AsyncContainerTestCase, advice)):
                self.assertRefused(
                    f"T.{name} is async: nothing would ever await it; {cure}",
                    lambda base=base, name=name: type("T", (base,), {name: classmethod(method)}),
                )

    def test_what_a_test_case_before_it_hides(self) -> None:
        async def method(cls: type) -> None:
            pass

        of_class: dict[str, object] = {"setUpClass": classmethod(lambda cls: None)}
        of_loop: dict[str, object] = {"asyncSetUpClass": classmethod(method), "asyncTearDownClass": classmethod(method)}
        for base, attributes in (
            (ContainerTestCase, {"setUp": lambda self: None, "tearDown": lambda self: None} | of_class),
            (AsyncContainerTestCase, of_class | {"asyncSetUp": method, "asyncTearDown": method} | of_loop),
            (AsyncContainerTestCase, {"loop_scope": "class"}),
        ):
            for name, value in attributes.items():
                Shop = type("Shop", (), {name: value})
                own: dict[str, object] = {"loop_scope": "class"} if name in of_loop else {}
                with self.subTest(name):
                    self.assertRefused(
                        f"T: Shop.{name} would have no effect: list Shop before {base.__name__} among its bases",
                        lambda bases=(base, Shop), own=own: type("T", bases, own),
                    )
                type("T", (Shop, base), own)
                type("T", (base, Shop), {**own, name: value})  # Its own hides both.

    def test_what_a_test_case_hides_behind_a_method_in_front(self) -> None:
        class Quiet:
            def setUp(self) -> None:
                """Never called but by name."""

        class ProjectBase(ContainerTestCase):
            def setUp(self) -> None:
                super().setUp()

        class CallsByName(ContainerTestCase):
            def setUp(self) -> None:
                super().setUp()
                Quiet.setUp(self)  # type: ignore[arg-type]  # as people write it

        class CallsDecorated(ContainerTestCase):
            setUp = mock.patch.dict({})(CallsByName.setUp)

        class Replaces(ContainerTestCase, Quiet):
            def setUp(self) -> None:
                """On purpose."""

        told = "T: Quiet.setUp would have no effect: list {0} before {1} among its bases"
        for bases, own, names in (
            ((ProjectBase, Quiet), {}, ("Quiet", "ProjectBase")),
            ((ProjectBase, type("Louder", (Quiet,), {})), {}, ("Louder", "ProjectBase")),
            ((ContainerTestCase, Quiet), {"setUp": ProjectBase.setUp}, ("Quiet", "ContainerTestCase")),
        ):
            with self.subTest(bases):
                self.assertRefused(told.format(*names), lambda bases=bases, own=own: type("T", bases, own))
        for right in (
            (Quiet, ProjectBase),
            (CallsByName, Quiet),
            (CallsDecorated, Quiet),
            (Replaces,),
            (type("Sub", (Replaces,), {}), Quiet),
        ):
            type("T", right, {})
        type("T", (ContainerTestCase, Quiet), {"setUp": CallsByName.setUp})

    def test_what_says_that_there_is_a_method(self) -> None:
        class HasSetUp(Protocol):
            number: int

            def setUp(self) -> None: ...

        class Contract(ABC):
            @abstractmethod
            def setUp(self) -> None: ...

            @classmethod
            @abstractmethod
            def setUpClass(cls) -> None: ...

        class ProjectBase(ContainerTestCase):
            def setUp(self) -> None:
                super().setUp()

        for base in (ContainerTestCase, AsyncContainerTestCase, ProjectBase):
            for behind in (HasSetUp, Contract):

                class T(base, behind):  # type: ignore[valid-type,misc]  # each of them
                    pass

    def test_what_is_right_passes(self) -> None:
        for bases in (
            (PostgresMixin, RedisMixin, ContainerTestCase),
            (ContainerTestCase, RedisMixin, PostgresMixin),
            (RedisMixin, ContainerMixin, unittest.TestCase),
            (RedisMixin, AsyncContainerTestCase),
            (RedisMixin, PostgresMixin),
        ):
            type("T", bases, {})


class DescriptorTest(unittest.TestCase):
    def test_without_a_test_case_there_is_no_view(self) -> None:
        class Plain:
            memory = MemoryService()

        for owner in (Plain, Plain()):
            with self.assertRaisesRegex(NotStarted, r"^Memory is only declared on .*Plain; its view exists on a "):
                owner.memory  # noqa: B018  # that reading it raises is the point

    def test_a_mixin_of_mixins_only_declares(self) -> None:
        class Both(MemoryMixin, RedisMixin):
            pass

        self.assertTrue(issubclass(Both, ServiceMixin))
        self.assertEqual([name for name, _ in declarations(Both)], ["redis", "memory"])


class ClientPackageTest(unittest.TestCase):
    def test_a_package_that_is_there(self) -> None:
        self.assertIs(client_package("unittest.mock", "x", "this test"), mock)

    def test_a_package_that_is_not_names_its_extra(self) -> None:
        with (
            mock.patch.dict(sys.modules, {"psycopg2": None}),
            self.assertRaises(MissingPackage) as caught,
        ):
            client_package("psycopg2", "postgres", "the service PostgreSQL")
        self.assertEqual(
            str(caught.exception),
            "the service PostgreSQL needs the package 'psycopg2', which is not installed: "
            "pip install 'itest-containers[postgres]'",
        )

    def test_a_module_of_a_package_that_is_not_there(self) -> None:
        with (
            mock.patch.dict(sys.modules, {"redis.asyncio": None}),
            self.assertRaisesRegex(MissingPackage, "'redis.asyncio'"),
        ):
            client_package("redis.asyncio", "redis", "aclient()")
        with self.assertRaisesRegex(MissingPackage, "'itest_no_client'"):
            client_package("itest_no_client.errors", "x", "this test")

    def test_what_a_test_takes_out_of_sys_modules_is_not_imported_again(self) -> None:
        with tempfile.TemporaryDirectory() as place, mock.patch.object(sys, "path", [place, *sys.path]):
            Path(place, "itest_needed").mkdir()
            Path(place, "itest_needed", "__init__.py").touch()
            Path(place, "itest_needed", "part.py").touch()
            Path(place, "itest_needing.py").write_text("import itest_needed.part\n", encoding="utf-8")
            found = []
            for _ in range(2):
                with mock.patch.dict(sys.modules):
                    needing = client_package("itest_needing", "x", "this test")
                    found.append([needing, *(sys.modules[name] for name in ("itest_needed", "itest_needed.part"))])
                self.assertNotIn("itest_needing", sys.modules)
        self.assertEqual(*found)

    def test_a_package_that_lacks_a_package_says_so_itself(self) -> None:
        missing = ModuleNotFoundError("No module named 'zlib'", name="zlib")
        with (
            mock.patch("importlib.import_module", side_effect=missing),
            self.assertRaises(ModuleNotFoundError) as caught,
        ):
            client_package("psycopg2", "postgres", "the service PostgreSQL")
        self.assertIs(caught.exception, missing)

    def test_whether_it_is_there_is_found_out_without_its_import(self) -> None:
        with tempfile.TemporaryDirectory() as place, mock.patch.object(sys, "path", [place, *sys.path]):
            Path(place, "itest_some_client.py").write_text(
                "raise AssertionError('it was imported')\n", encoding="utf-8"
            )
            need_client("itest_some_client", "x", "this test")

    def test_neither_nothing_nor_a_directory_of_its_name_is_a_package(self) -> None:
        with tempfile.TemporaryDirectory() as place, mock.patch.object(sys, "path", [place, *sys.path]):
            Path(place, "itest_a_directory").mkdir()
            for name in ("itest_no_client", "itest_a_directory"):
                with self.subTest(name), self.assertRaisesRegex(MissingPackage, rf"'{name}'.*\[x\]"):
                    need_client(name, "x", "this test")

    def test_what_the_tests_have_by_a_clients_name_is_told_from_it(self) -> None:
        for name, file in itertools.product(PARTS, ("{}/__init__.py", "{}.py")):
            with (
                self.subTest(name, file=file),
                tempfile.TemporaryDirectory() as place,
                mock.patch.object(sys, "path", [place, *sys.path]),
                mock.patch.dict(sys.modules),
                mock.patch.dict(packages._imported, clear=True),
            ):
                self.assertEqual(stranger(name), "")
                for module in [module for module in sys.modules if module.partition(".")[0] == name]:
                    del sys.modules[module]
                other = Path(place, file.format(name))
                other.parent.mkdir(exist_ok=True)
                other.write_text("", encoding="utf-8")
                importlib.invalidate_caches()
                for need in (need_client, client_package, need_client):  # The second one imports it.
                    with self.assertRaises(MissingPackage) as caught:
                        need(name, "x", "this test")
                    self.assertEqual(
                        str(caught.exception),
                        f"this test needs the package {name!r}, but Python finds another one of that name first, {other}: "
                        f"rename it, or have it found as a part of the tests' package, with an __init__.py beside it and "
                        f"`python -m unittest discover -s tests -t .`",
                    )

    def test_no_program_says_what_was_looked_for_and_what_to_install(self) -> None:
        error = no_program("Redis server", ["the package x", "PATH"], "install redis")
        self.assertIsInstance(error, Unavailable)
        self.assertEqual(
            str(error), "no Redis server for local processes (looked for the package x, PATH); install redis"
        )


class ViewTest(InnerTest):
    def view(self, prepare: Callable[..., object] | None = None) -> MemoryView:
        self.use(MemoryEngine(prepare))
        service = self.service()
        views: list[MemoryView] = []

        class T(ContainerTestCase):
            memory = service

            def test_a(self) -> None:
                views.append(self.memory)

        result = unittest.TestResult()
        T("test_a").run(result)
        self.check(result, ran=1)
        return views[0]

    def test_it_says_where_it_is(self) -> None:
        view = self.view()
        self.assertEqual((view.host, view.port), ("127.0.0.1", 40100))
        self.assertEqual(view.url, f"memory://:{self.session.secret}@127.0.0.1:40100/test_a")
        self.assertEqual(view.url_for("fast"), f"memory+fast://:{self.session.secret}@127.0.0.1:40100/test_a")
        self.assertEqual(view.env, {"MEMORY_URL": view.url})

    def test_its_repr_shows_no_password(self) -> None:
        self.assertEqual(repr(self.view()), "<MemoryView memory://:***@127.0.0.1:40100/test_a>")

    def test_its_log_shows_no_password_and_no_colours(self) -> None:
        view = self.view()
        self.engine.instances[0].log = f"one\n\x1b[1mtwo\x1b[0m\npassword {self.session.secret}\n"
        self.assertEqual(view.logs(), "one\ntwo\npassword ***\n")
        self.assertEqual(view.logs(tail=2), "two\npassword ***\n")
        for wrong in ("2", True, 2.0):
            with self.assertRaisesRegex(
                TypeError, r"^logs\(tail=.*\): it takes a number of lines, or None for all of them$"
            ):
                view.logs(wrong)  # type: ignore[arg-type]

    def test_a_command_runs_beside_the_server(self) -> None:
        self.assertEqual(self.view().exec(["nonsense"]), (127, "", "nonsense: not found"))
        with self.assertRaisesRegex(TypeError, "^timeout=None: a wait takes a number of seconds, at most"):
            self.view().exec(["true"], timeout=None)  # type: ignore[arg-type]  # wrong on purpose

    def test_what_it_handed_out_is_closed_once_and_in_reverse_whatever_happens(self) -> None:
        closed: list[str] = []

        def broken() -> None:
            closed.append("broken")
            raise OSError("the connection is gone")

        view = self.view()
        view.give_to("")  # Its test has ended by now.
        for close in (lambda: closed.append("first"), broken, lambda: closed.append("last")):
            client = mock.Mock(close=close)
            self.assertIs(view._closing(client), client)
        view.close()
        view.close()
        self.assertEqual(closed, ["last", "broken", "first"])


class MissingClientTest(InnerTest):
    def test_a_test_says_which_extra_brings_the_client(self) -> None:
        self.use(MemoryEngine())

        class T(RedisMixin, ContainerTestCase):
            def test_a(self) -> None:
                raise AssertionError("never reached")

        with mock.patch.dict(sys.modules, {"redis": None}):
            result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertEqual(
            self.last_line(result),
            "MissingPackage: the service Redis needs the package 'redis', which is not installed: "
            "pip install 'itest-containers[redis]'",
        )
        self.assertEqual(self.engine.instances, [])


class ContainerSpecTest(unittest.TestCase):
    def test_the_memory_service_is_a_service_like_any_other(self) -> None:
        spec = MemoryService().container("geheim")
        self.assertEqual(
            spec,
            ContainerSpec(
                "memory:1", {"PASSWORD": "geheim"}, ports={"memory": Port(1)}, secrets=frozenset({"PASSWORD"})
            ),
        )
