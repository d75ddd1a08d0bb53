# SPDX-License-Identifier: Apache-2.0
"""The tree of exceptions."""

from __future__ import annotations

import pickle
import re
import unittest

from itest import errors
from itest.errors import (
    InstanceDied,
    ItestError,
    MissingPackage,
    ReceiveTimeout,
    StartTimeout,
    Unavailable,
)


class TreeTest(unittest.TestCase):
    def test_the_tree_in_the_docstring_is_the_real_one(self) -> None:
        drawn = {
            match[1]: match[0].rstrip()
            for match in re.finditer(
                r"^.*?(\w+Error|\w+) {2,}\S.*$|^    ItestError$", errors.__doc__ or "", re.MULTILINE
            )
            if match[1]
        }
        classes = {
            name: value for name, value in vars(errors).items() if isinstance(value, type) and value is not ItestError
        }
        self.assertEqual(set(drawn), set(classes))
        for name, line in drawn.items():
            with self.subTest(name):
                parent = "StartError" if "│   " in line else "ItestError"
                self.assertEqual(classes[name].__bases__[0].__name__, parent)
                also = re.search(r"\(also an? (\w+)\)", line)
                others = [base.__name__ for base in classes[name].__bases__[1:]]
                self.assertEqual(others, [also[1]] if also else [])

    def test_every_error_survives_the_way_from_a_worker_process(self) -> None:
        for error in (
            MissingPackage("redis", "redis", "the service Redis"),
            MissingPackage("redis", "redis", "the service Redis", "/tests/redis/__init__.py"),
            InstanceDied("it ended", service="Redis", seconds=1.5, exit_code=3),
            StartTimeout("too slow", service="Redis", seconds=60),
            Unavailable("nothing can", {"docker": "no daemon"}),
            ReceiveTimeout("only one", [b"one"]),
        ):
            with self.subTest(type(error).__name__):
                error.add_note("a note")
                copy = pickle.loads(pickle.dumps(error))
                self.assertEqual((type(copy), str(copy), vars(copy)), (type(error), str(error), vars(error)))


class TextTest(unittest.TestCase):
    def test_a_missing_package_names_the_extra_that_brings_it(self) -> None:
        error = MissingPackage("psycopg2", "postgres", "the service PostgreSQL")
        self.assertEqual(
            str(error),
            "the service PostgreSQL needs the package 'psycopg2', which is not installed: "
            "pip install 'itest-containers[postgres]'",
        )
        self.assertEqual(
            (error.package, error.extra, error.purpose), ("psycopg2", "postgres", "the service PostgreSQL")
        )
