# SPDX-License-Identifier: Apache-2.0
"""Arguments as people give them: the same rules wherever one is taken."""

from __future__ import annotations

import unittest
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

from itest import App, Build, Compose, Container, Healthcheck, Kafka, Postgres, wait
from itest.arguments import bytes_of, changes_of, shell_words_of, text_of, variables_of, words_of
from itest.config import Config
from itest.errors import DeclarationError
from itest.migrations import Command


class Mode(str, Enum):  # noqa: UP042  # The str() of a StrEnum is its text anyway.
    FAST = "fast"


class Number(IntEnum):
    ONE = 1


class ArgumentsTest(unittest.TestCase):
    def test_texts(self) -> None:
        texts = ("a", Path("/b"), 3, 0.5, Mode.FAST, Number.ONE)
        self.assertEqual([text_of("it", value) for value in texts], ["a", "/b", "3", "0.5", "fast", "1"])
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
                "env: A is a bytes, not a text: write one, in quotes or by str(), or leave it out",
            ),
            (
                lambda: variables_of("env", {"A": None}),
                "env: A is a NoneType, not a text: write one, in quotes or by str(), or leave it out",
            ),
            (lambda: variables_of("env", {"A=secret": ""}), "env: 'A=secret' is no name of a variable"),
            (lambda: variables_of("env", ["A=secret"]), "env must be a dict, {'NAME': value}, not a list"),
            (lambda: words_of("it", {"a": 1}), "it: {'a': 1} is no command: write a list of words, or a text"),
            (
                lambda: words_of("it", bytearray(b"ls")),
                "it: bytearray(b'ls') is no command: write a list of words, or a text",
            ),
        ):
            with self.subTest(said), self.assertRaises(DeclarationError) as caught:
                call()
            self.assertEqual(str(caught.exception), said)

    def test_each_declaration_takes_numbers_and_paths(self) -> None:
        env: Any = {"KAFKA_X": Path("/x"), "KAFKA_Y": 1}
        texts = {"KAFKA_X": "/x", "KAFKA_Y": "1"}
        for service in (Postgres(env=env), Kafka(env=env), Container("web:1", env=env)):
            self.assertLessEqual(texts.items(), service.container("").env.items())
        self.assertEqual(App.command(["serve", 80], env=env).environment, texts)
        self.assertEqual(Build("x", args=env).arguments, texts)
        self.assertEqual(Command(["x"], env=env).env, texts)
        compose: Any = Compose("compose.yaml", env=env)
        self.assertEqual(compose.own_spec("", Config()).env, texts)
        words: Any = ["serve", Path("/x"), 80]
        self.assertEqual(Container("web:1", command=words).container("").command, ("serve", "/x", "80"))
        self.assertEqual(App.command(words).argv, ("serve", "/x", "80"))
        self.assertEqual(Command(words).argv, ("serve", "/x", "80"))
        self.assertEqual(Healthcheck(words).test, ("serve", "/x", "80"))
        self.assertEqual(str(wait.exec(*words)), "`serve /x 80` to succeed")
