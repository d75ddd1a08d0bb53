# SPDX-License-Identifier: Apache-2.0
"""Our NamedTuple and that of typing, held to the same."""

from __future__ import annotations

import copy
import inspect
import pickle
import typing
import unittest
from typing import Any

from itest import tuples


class Typings(typing.NamedTuple):
    """That of typing."""

    host: str
    port: int = 80
    names: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"


class Ours(tuples.NamedTuple):
    """Ours."""

    host: str
    port: int = 80
    names: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"


class Derived(Ours):
    def __str__(self) -> str:
        return self.shown.upper()


BOTH: tuple[Any, ...] = (Typings, Ours)
WRONG: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}),
    ((), {"port": 1}),
    (("a", 1, (), 3), {}),
    (("a",), {"prot": 1}),
    (("a",), {"host": "b"}),
    (("a", 1, ()), {"port": 2}),
)


class NamedTupleTest(unittest.TestCase):
    def test_values_come_by_place_by_name_and_by_default(self) -> None:
        for kind in BOTH:
            with self.subTest(kind.__name__):
                self.assertEqual(kind("a", 1, ("b",)), ("a", 1, ("b",)))
                self.assertEqual(kind("a", names=("b",)), ("a", 80, ("b",)))
                self.assertEqual(kind(port=1, host="a"), ("a", 1, ()))
                self.assertEqual(kind("a").shown, "a:80")

    def test_wrong_values_are_refused_in_the_same_words(self) -> None:
        for values, named in WRONG:
            with self.subTest(values=values, named=named):
                said = []
                for kind in BOTH:
                    with self.assertRaises(TypeError) as raised:
                        kind(*values, **named)
                    said.append(str(raised.exception).replace(kind.__name__, "It"))
                self.assertEqual(said[0], said[1])

    def test_it_is_a_tuple_that_stays_as_it_is(self) -> None:
        for kind in BOTH:
            with self.subTest(kind.__name__):
                value = kind("a", 1)
                host, port, _ = value
                self.assertEqual((host, port), ("a", 1))
                self.assertEqual(hash(value), hash(("a", 1, ())))
                for name in ("host", "unknown"):
                    with self.assertRaises(AttributeError):
                        setattr(value, name, "b")

    def test_it_can_be_shown_replaced_copied_and_pickled(self) -> None:
        for kind in BOTH:
            with self.subTest(kind.__name__):
                value = kind("a", 1)
                self.assertEqual(repr(value), f"{kind.__name__}(host='a', port=1, names=())")
                self.assertEqual(value._asdict(), {"host": "a", "port": 1, "names": ()})
                self.assertEqual(value._replace(port=2), kind("a", 2))
                self.assertEqual(kind._fields, ("host", "port", "names"))
                for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
                    self.assertEqual(other, value)
                    self.assertIs(type(other), kind)

    def test_help_shows_its_fields(self) -> None:
        for kind in (*BOTH, Derived):
            with self.subTest(kind.__name__):
                signature = inspect.signature(kind)
                shown = [(each.name, each.annotation, each.default) for each in signature.parameters.values()]
                names = ("names", "tuple[str, ...]", ())
                expected: list[Any] = [("host", "str", inspect.Parameter.empty), ("port", "int", 80), names]
                if kind is Typings:  # It compiles its annotations.
                    expected = [(name, typing.ForwardRef(text), default) for name, text, default in expected]
                self.assertEqual(shown, expected)
                self.assertEqual(inspect.getdoc(kind.port), "Alias for field number 1")

    def test_patterns_match_its_fields_by_place(self) -> None:
        for kind in BOTH:
            with self.subTest(kind.__name__):
                match kind("a", 1):
                    case kind(host, 1, names=found):
                        self.assertEqual((host, found), ("a", ()))
                    case _:
                        self.fail("not matched")

    def test_what_is_derived_from_one_has_its_fields(self) -> None:
        self.assertEqual(Derived("a", names=("b",)), ("a", 80, ("b",)))
        self.assertEqual(str(Derived("a")), "A:80")
        self.assertIsInstance(Derived("a")._replace(port=1), Derived)
