# SPDX-License-Identifier: Apache-2.0
"""Fixtures as files: where they are found, what they hold, what is said about a wrong one; and values as texts."""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import unittest
import uuid
from pathlib import Path
from typing import Any
from unittest import mock

import itest
from itest import ContainerTestCase, Postgres, PostgresMixin, fixture_data, fixture_files
from itest.errors import DeclarationError, FixtureError, MissingPackage
from itest.services.postgres.loading.catalog import Key, Table
from itest.services.postgres.loading.encoding import Unfit, copy_text, text_of
from itest.services.postgres.loading.groups import Group, in_order
from itest.services.postgres.view import PostgresView
from itest.testing import MemoryView
from tests.unit.inner import InnerTest, MemoryMixin, run


class FilesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()

    def write(self, name: str, text: str = "") -> Path:
        file = self.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def read(self, name: str, text: str) -> fixture_data.Fixture:
        return fixture_data.read(self.write(name, text))

    def assertRefused(self, message: str, name: str, text: str) -> FixtureError:
        with self.assertRaises(FixtureError) as caught:
            self.read(name, text)
        self.assertEqual(str(caught.exception).replace(f"{self.place}/", ""), message)
        return caught.exception


class LocateTest(FilesTest):
    def locate(self, name: str) -> str:
        return fixture_files.locate(name, [self.place / "tests", self.place]).relative_to(self.place).as_posix()

    def test_beside_the_module_then_in_fixtures_then_at_the_next_place(self) -> None:
        for file in ("users.sql", "tests/fixtures/users.sql", "tests/users.sql"):
            self.write(file)
            self.assertEqual(self.locate("users.sql"), file)

    def test_the_ending_may_be_left_out(self) -> None:
        self.write("tests/fixtures/sub/users.yaml")
        self.assertEqual(self.locate("sub/users"), "tests/fixtures/sub/users.yaml")

    def test_an_ambiguous_name(self) -> None:
        self.write("tests/users.sql")
        self.write("tests/users.csv")
        self.write("users.json")
        with self.assertRaisesRegex(
            FixtureError, "^the fixture 'users' could be users.sql and users.csv in .*tests: add"
        ):
            self.locate("users")

    def test_a_missing_one_says_where_it_was_looked_for(self) -> None:
        with self.assertRaises(FixtureError) as caught:
            self.locate("users.sql")
        p = self.place
        self.assertEqual(
            str(caught.exception),
            f"there is no fixture 'users.sql'; looked for {p}/tests/users.sql, {p}/tests/fixtures/users.sql, "
            f"{p}/users.sql, {p}/fixtures/users.sql",
        )

    def test_a_missing_one_that_lies_further_up(self) -> None:
        self.write("data/users.json")
        self.write("fixtures/books.csv")
        tests = self.place / "tests"
        for name, meant in (("data/users", "../data/users.json"), ("books.csv", "../fixtures/books.csv")):
            with self.subTest(name), self.assertRaises(FixtureError) as caught:
                fixture_files.locate(name, [tests])
            self.assertEqual(
                str(caught.exception).partition("; did")[2], f" you mean {meant}? Paths start at the test's module"
            )
        with self.assertRaisesRegex(
            FixtureError, f"; looked for {self.place}/users.sql, {self.place}/tests/users.sql$"
        ):
            fixture_files.locate("../users.sql", [tests])

    def test_what_is_no_path(self) -> None:
        wrong: Any = ["users.sql"]
        with self.assertRaises(FixtureError) as caught:
            self.locate(wrong)
        self.assertEqual(
            str(caught.exception),
            "a fixture is named by a path, not by ['users.sql']; several are arguments of their own",
        )

    def test_it_is_not_looked_for_where_the_declaration_of_a_mixin_stands(self) -> None:
        default = vars(PostgresMixin)["postgres"].directory
        p = self.place
        for declared, places in ((default, [p]), (p / "base", [p, p / "base"])):
            view = PostgresView(mock.Mock(), "itest_1", "tests.T.test", mock.Mock(), declared)
            view.directory = p
            looked = ", ".join(f"{place / below}/users.sql" for place in places for below in ("", "fixtures"))
            with self.assertRaises(FixtureError) as caught:
                view.load("users.sql")
            self.assertEqual(str(caught.exception), f"there is no fixture 'users.sql'; looked for {looked}")

    def test_a_name_with_a_dot(self) -> None:
        self.write("tests/shop.users.json")
        self.assertEqual(self.locate("shop.users"), "tests/shop.users.json")

    def test_an_unknown_ending(self) -> None:
        self.write("tests/users.toml")
        with self.assertRaisesRegex(
            FixtureError, r"no fixture 'users\.toml'; .*; fixtures are \.sql, \.json, \.yaml, \.yml, \.csv$"
        ):
            self.locate("users.toml")

    def test_an_absolute_path(self) -> None:
        file = self.write("a.csv")
        self.assertEqual(fixture_files.locate(file, [Path("/nowhere")]), file)


class ReadTest(FilesTest):
    def test_json(self) -> None:
        [users, orders] = self.read("a.json", '{"users": [{"id": 1}], "orders": []}').tables
        self.assertEqual(
            (users.table, list(users.rows), orders.table, list(orders.rows)), ("users", [{"id": 1}], "orders", [])
        )

    def test_yaml(self) -> None:
        [users] = self.read("a.yml", "users:\n- {id: 1, born: 2020-01-02}").tables
        self.assertEqual(list(users.rows), [{"id": 1, "born": datetime.date(2020, 1, 2)}])

    def test_csv(self) -> None:
        [users] = self.read("shop.users.csv", '\ufeffid,"na,me"\n1,\n2,"a\nb"\n\n').tables
        self.assertEqual((users.table, users.columns), ("shop.users", ("id", "na,me")))
        self.assertEqual(users.as_rows(), [{"id": "1", "na,me": None}, {"id": "2", "na,me": "a\nb"}])

    def test_values_of_csv_as_copy_reads_them(self) -> None:
        text = 'a,b\r\n"",\r\n"x""y",x"y, z"\n,"""\n"\n"a\nb""","\\"\n'
        [table] = self.read("t.csv", text).tables
        values = [list(row.values()) for row in table.as_rows()]
        self.assertEqual(values, [["", None], ['x"y', "xy, z"], [None, '"\n'], ['a\nb"', "\\"]])

    def test_bad_lines_of_csv(self) -> None:
        self.assertRefused("t.csv: a quote is not closed", "t.csv", 'a,b\n1,"\n')
        for line, count in (("1", 1), ("1,2,3", 3)):
            [table] = self.read("t.csv", f"a,b\n1,2\n{line}\n").tables
            with self.assertRaisesRegex(FixtureError, f"row 2 of t: {count} values for 2 columns"):
                table.as_rows()

    def test_numbers_keep_their_digits(self) -> None:
        [a] = self.read("a.json", '{"a": [{"n": 1.10, "m": -1.5e400, "i": 12345678901234567890}]}').tables
        self.assertEqual(
            [text_of(value, "") for value in a.rows[0].values()], ["1.10", "-1.5e400", "12345678901234567890"]
        )
        self.assertEqual(text_of([a.rows[0]["n"]], "array"), '{"1.10"}')
        self.assertEqual(text_of({"n": a.rows[0]["n"]}, "json"), '{"n": 1.1}')
        [a] = self.read("a.yaml", "a: [{n: 1.10, m: 123456789012345.123456789, o: 1_000.5, p: .inf, q: 1:30.5}]").tables
        texts = ["1.10", "123456789012345.123456789", "1000.5", "inf", "90.5"]
        self.assertEqual([text_of(value, "") for value in a.rows[0].values()], texts)

    def test_half_a_character(self) -> None:
        message = "a.json: \\ud83d is half of a character (a surrogate without the other one)"
        self.assertRefused(message, "a.json", '{"a": [{"b": "\\ud83d"}]}')
        [a] = self.read("b.json", '{"a": [{"b": "\\ud83d\\ude00"}]}').tables
        self.assertEqual(a.rows[0]["b"], "\N{GRINNING FACE}")

    def test_names_in_yaml_are_texts(self) -> None:
        [a] = self.read("a.yaml", "a:\n- {no: 1, on: yes, 5: {2024-01-01: x, null: y}}").tables
        self.assertEqual(a.rows[0], {"no": 1, "on": True, "5": {"2024-01-01": "x", "null": "y"}})

    def test_a_name_twice_in_yaml(self) -> None:
        for line, text in ((3, "users: []\na: []\nusers: []"), (2, "users:\n- {users: 1, a: 2, users: 3}")):
            self.assertRefused(f"a.yaml, line {line}: the name 'users' occurs twice in one object", "a.yaml", text)
        [a, b] = self.read("a.yaml", "a:\n- &x {n: 1, m: 2}\nb:\n- {<<: *x, m: 3}\n- {<<: *x, m: 4}").tables
        self.assertEqual((list(a.rows), list(b.rows)), ([{"n": 1, "m": 2}], [{"n": 1, "m": 3}, {"n": 1, "m": 4}]))

    def test_a_file_is_parsed_once_until_it_changes(self) -> None:
        first = self.read("a.json", '{"users": []}')
        self.assertIs(fixture_data.read(first.file), first)
        again = self.read("a.json", '{"users": [{}]}')
        self.assertEqual(len(again.tables[0].rows), 1)
        os.utime(again.file, (1, 1))
        self.assertIsNot(fixture_data.read(again.file), again)

    def test_what_is_no_json_or_yaml(self) -> None:
        error = self.assertRefused("a.json, line 2: no JSON: Expecting value (column 1)", "a.json", '{"users":\n}')
        self.assertEqual(error.line, 2)
        self.assertRefused("a.yaml, line 2: no YAML: did not find expected ',' or '}'", "a.yaml", "users: {\na: b: c}")

    def test_another_shape(self) -> None:
        form = "{table: [{column: value, ...}, ...]}"
        self.assertRefused(f"a.json holds a list, but must hold {form}", "a.json", "[]")
        self.assertRefused(f"a.yaml holds nothing, but must hold {form}", "a.yaml", "")
        self.assertRefused("a.json: users must be a list of rows, not an object", "a.json", '{"users": {"id": 1}}')
        error = self.assertRefused(
            "a.json: row 2 of users must be {column: value, ...}, not a text", "a.json", '{"users": [{}, "x"]}'
        )
        self.assertEqual((error.table, error.row), ("users", 2))
        self.assertRefused(
            f"a.json is a dump of Django's: load it with Django (manage.py loaddata), or write {form}",
            "a.json",
            '[{"model": "shop.user", "pk": 1, "fields": {}}]',
        )

    def test_a_name_twice_in_json(self) -> None:
        self.assertRefused(
            "a.json: the name 'users' occurs twice in one object", "a.json", '{"users": [], "users": []}'
        )

    def test_an_empty_csv(self) -> None:
        self.assertRefused("a.csv is empty: its first line must name the columns", "a.csv", "")

    def test_what_is_no_utf_8(self) -> None:
        file = self.write("a.csv")
        file.write_bytes(b"\xff\xfe")
        with self.assertRaisesRegex(FixtureError, r"a\.csv is not UTF-8: "):
            fixture_data.read(file)

    def test_without_yaml(self) -> None:
        with mock.patch.dict(sys.modules, {"yaml": None}), self.assertRaises(MissingPackage) as caught:
            self.read("new.yaml", "a: []")
        self.assertIn("pip install 'itest-containers[yaml]'", str(caught.exception))


class EncodingTest(unittest.TestCase):
    def test_values(self) -> None:
        when = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
        identity = uuid.UUID(int=5)
        for value, text in (
            (None, None), (True, "true"), (5, "5"), (0.1, "0.1"), ("x", "x"), (b"\x00\xff", "\\x00ff"),
            (when.date(), "2024-05-06"), (when, "2024-05-06T07:08:09+00:00"), (when.time(), "07:08:09"),
            (identity, str(identity)),
        ):  # fmt: skip
            self.assertEqual(text_of(value, ""), text)

    def test_json_values(self) -> None:
        for value, text in (
            ("x", '"x"'),
            (True, "true"),
            ([1], "[1]"),
            ({"ä": datetime.date(2024, 5, 6)}, '{"ä": "2024-05-06"}'),
        ):
            self.assertEqual(text_of(value, "json"), text)
        self.assertIsNone(text_of(None, "json"))

    def test_arrays(self) -> None:
        self.assertEqual(text_of([1, None, 'a"b\\c', ["x"]], "array"), '{"1",NULL,"a\\"b\\\\c",{"x"}}')
        self.assertEqual(text_of([{"a": [1]}], "json[]"), '{"{\\"a\\": [1]}"}')
        self.assertEqual(text_of([], "array"), "{}")

    def test_what_does_not_fit(self) -> None:
        for value in ([1], {"a": 1}):
            with self.assertRaises(Unfit):
                text_of(value, "", "name")

    def test_rows(self) -> None:
        self.assertEqual(copy_text(["a\tb\n", None, "\\N", ""]), "a\\tb\\n\t\\N\t\\\\N\t\n")


class OrderTest(unittest.TestCase):
    def group(self, oid: int) -> Group:
        source = fixture_data.TableRows(Path("a.json"), str(oid))
        return Group(source, Table(oid, str(oid), str(oid), False, {}), ("id",))

    def key(self, child: int, parent: int) -> Key:
        return Key("k", child, str(child), parent, str(parent), ("a",), ("a",), ("id",), False, True)

    def order(self, groups: list[Group], *keys: Key) -> tuple[list[int], list[int]]:
        ordered, circle = in_order(groups, keys)
        return [group.table.oid for group in ordered], [group.table.oid for group in circle]

    def test_parents_first(self) -> None:
        groups = [self.group(oid) for oid in (3, 2, 1)]
        self.assertEqual(self.order(groups, self.key(3, 2), self.key(2, 1), self.key(2, 9)), ([1, 2, 3], []))

    def test_circles_and_what_waits_for_them(self) -> None:
        groups = [self.group(oid) for oid in (1, 2, 3, 4)]
        self.assertEqual(self.order(groups, self.key(1, 2), self.key(2, 1), self.key(3, 1)), ([4], [1, 2, 3]))

    def test_a_table_that_refers_to_itself(self) -> None:
        self.assertEqual(self.order([self.group(1)], self.key(1, 1)), ([1], []))
        self.assertEqual(self.order([self.group(1), self.group(1)], self.key(1, 1)), ([], [1, 1]))


class DeclarationTest(unittest.TestCase):
    def assertRefused(self, message: str, **fields: Any) -> None:
        with self.assertRaises(DeclarationError) as caught:
            type("T", (ContainerTestCase,), {"postgres": Postgres(**fields)})
        self.assertEqual(str(caught.exception), message)

    def test_a_name_that_is_no_list(self) -> None:
        self.assertRefused("T.postgres: fixtures must be a list: fixtures=['users.sql']", fixtures="users.sql")

    def test_what_is_no_path(self) -> None:
        self.assertRefused("T.postgres: a fixture is named by a path, not by 5", fixtures=[5])


class DecoratorTest(InnerTest):
    def setUp(self) -> None:
        super().setUp()

        def load(view: MemoryView, *files: Path) -> None:
            self.events.append(f"load {' '.join(file.name for file in files)}")

        self.patch = mock.patch.object(MemoryView, "load", load, create=True)
        self.patch.start()
        self.addCleanup(self.patch.stop)

    def inner(self, decorate: Any) -> type[ContainerTestCase]:
        outer = self

        class Inner(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def setUp(self) -> None:
                outer.events.append("setUp")

            @decorate
            def test_a(self) -> None:
                pass

            def test_b(self) -> None:
                pass

        return Inner

    def test_it_loads_after_the_reset_and_before_setUp(self) -> None:
        self.check(run(self.inner(self.two)), ran=2)
        start = self.events.index("reset test_a")
        self.assertEqual(self.events[start : start + 3], ["reset test_a", "load one.sql two.csv", "setUp"])
        self.assertEqual(sum(event.startswith("load") for event in self.events), 1)

    @staticmethod
    def two(test: Any) -> Any:
        return itest.fixtures("fixtures/one.sql", service="memory")(itest.fixtures("fixtures/two")(test))

    def test_a_missing_file_is_the_error_of_the_test(self) -> None:
        result = run(self.inner(itest.fixtures("nothing.sql")))
        self.check(result, ran=2, errors=1)
        self.assertIn("FixtureError: there is no fixture 'nothing.sql'; looked for ", self.last_line(result))

    def test_an_unknown_service(self) -> None:
        result = run(self.inner(itest.fixtures("fixtures/one.sql", service="other")))
        self.assertIn(
            "test_a: itest.fixtures names the service 'other'; those that load are: memory", self.last_line(result)
        )

    def test_no_service_that_loads(self) -> None:
        self.patch.stop()
        result = run(self.inner(itest.fixtures("fixtures/one.sql")))
        self.patch.start()
        self.assertIn("does not know where to load fixtures/one.sql: the class has 0 services", self.last_line(result))

    def test_on_a_class(self) -> None:
        with self.assertRaisesRegex(DeclarationError, r"put the fixtures into the declaration: .*fixtures=\['a.sql'\]"):
            itest.fixtures("a.sql")(type("T", (), {}))

    def test_wrong_names(self) -> None:
        with self.assertRaisesRegex(DeclarationError, "name at least one"):
            itest.fixtures()
        with self.assertRaisesRegex(DeclarationError, "named by a path, not by 5"):
            itest.fixtures(5)  # type: ignore[arg-type]  # which is the point
        itest.fixtures("schema.table")
