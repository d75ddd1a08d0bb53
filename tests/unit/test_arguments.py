# SPDX-License-Identifier: Apache-2.0
"""Arguments as people give them: the same rules wherever one is taken."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

from itest import App, Container, Kafka, Postgres
from itest.arguments import bytes_of, changes_of, shell_words_of, text_of, variables_of, words_of
from itest.errors import DeclarationError


class ArgumentsTest(unittest.TestCase):
    def test_texts(self) -> None:
        self.assertEqual([text_of("it", value) for value in ("a", Path("/b"), 3)], ["a", "/b", "3"])
        self.assertEqual([bytes_of("it", value) for value in ("é", b"b", bytearray(b"c"))], ["é".encode(), b"b", b"c"])

    def test_words(self) -> None:
        self.assertEqual(words_of("it", "serve 'a b' $X"), ("serve", "a b", "$X"))
        self.assertEqual(words_of("it", ["serve", Path("/b"), 80]), ("serve", "/b", "80"))
        self.assertEqual(shell_words_of("exec", "serve $X"), ("/bin/sh", "-c", "serve $X"))
        self.assertEqual(shell_words_of("exec", ("serve", 80)), ("serve", "80"))

    def test_variables(self) -> None:
        given = {"A": "a", "B": Path("/b"), "C": 3, "D": 0.5}
        self.assertEqual(variables_of("env", given), {"A": "a", "B": "/b", "C": "3", "D": "0.5"})
        self.assertEqual(changes_of("env", {"A": None, "C": 3}), {"A": None, "C": "3"})

    def test_wrong_ones_are_told_without_the_values_of_variables(self) -> None:
        for call, said in (
            (
                lambda: variables_of("env", {"A": b"secret"}),
                "env: A is a bytes, not a text; write it in quotes, or leave it out",
            ),
            (
                lambda: variables_of("env", {"A": None}),
                "env: A is a NoneType, not a text; write it in quotes, or leave it out",
            ),
            (lambda: variables_of("env", {"A=secret": ""}), "env: 'A=secret' is no name of a variable"),
            (lambda: variables_of("env", ["A=secret"]), "env must be a dict, {'NAME': value}, not a list"),
            (lambda: words_of("it", {"a": 1}), "it: {'a': 1} is no command: write a list of words, or a text"),
        ):
            with self.subTest(said), self.assertRaises(DeclarationError) as caught:
                call()
            self.assertEqual(str(caught.exception), said)

    def test_each_declaration_takes_numbers_and_paths(self) -> None:
        self.assertEqual(Postgres(env={"PGTZ": Path("/etc"), "X": 1}).container("").env["X"], "1")
        self.assertEqual(
            Kafka(env={"KAFKA_LOG_SEGMENT_BYTES": 2_000_000}).container("").env["KAFKA_LOG_SEGMENT_BYTES"], "2000000"
        )
        web: Any = Container("web:1", command=["serve", "--port", 80], env={"X": 1}).container("")
        self.assertEqual((web.command, web.env["X"]), (("serve", "--port", "80"), "1"))
        self.assertEqual(App.command(["serve", 80]).argv, ("serve", "80"))
