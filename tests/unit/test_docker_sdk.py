# SPDX-License-Identifier: Apache-2.0
"""The import of Docker's SDK, also where another thread has made it fail once."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from itest.engines import docker_sdk

PACKAGE = """
import itest_half.errors
from itest_half.state import failures
if failures:
    raise failures.pop()
"""


class LoadTest(unittest.TestCase):
    """With a package in place of the real ones, which fails as often as it is told."""

    def setUp(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()), "itest_half")
        place.mkdir()
        place.joinpath("__init__.py").write_text(PACKAGE, encoding="utf-8")
        place.joinpath("errors.py").write_text("", encoding="utf-8")
        place.joinpath("state.py").write_text("from itest_half_failures import failures\n", encoding="utf-8")
        self.failures: list[Exception] = []
        self.enterContext(mock.patch.object(sys, "path", [str(place.parent), *sys.path]))
        self.enterContext(mock.patch.dict(sys.modules, {"itest_half_failures": mock.Mock(failures=self.failures)}))
        for name, value in {
            "_done": False,
            "PAUSE": 0.0,
            "_PACKAGES": ("itest_half",),
            "_MODULES": ("itest_half.errors",),
        }.items():
            self.enterContext(mock.patch.object(docker_sdk, name, value))

    def test_one_that_failed_is_whole_the_next_time(self) -> None:
        self.failures += [
            AttributeError("partially initialized"),
            ImportError("cannot import name"),
            UserWarning("SOCKS"),
        ]
        docker_sdk.load()
        self.assertIs(sys.modules["itest_half"].errors, sys.modules["itest_half.errors"])
        self.assertEqual(self.failures, [])

    def test_what_others_have_left_half_made_is_made_anew(self) -> None:
        self.failures.append(AttributeError("partially initialized"))
        with self.assertRaises(AttributeError):
            __import__("itest_half")
        self.assertIn("itest_half.errors", sys.modules)
        docker_sdk.load()
        self.assertIs(sys.modules["itest_half"].errors, sys.modules["itest_half.errors"])

    def test_a_cassette_of_vcrpy_does_not_see_it(self) -> None:
        """What the SDK makes of its classes would record for good."""
        seen = []

        @contextlib.contextmanager
        def force_reset() -> Iterator[None]:
            seen.append("itest_half.errors" in sys.modules)
            yield
            seen.append("itest_half.errors" in sys.modules)

        with mock.patch.dict(sys.modules, {"vcr.patch": mock.Mock(force_reset=force_reset)}):
            docker_sdk.load()
        self.assertEqual(seen, [False, True])

    def test_one_that_always_fails_says_so(self) -> None:
        self.failures += [AttributeError("broken")] * 50
        with self.assertRaisesRegex(AttributeError, "broken"):
            docker_sdk.load()
        self.assertEqual(len(self.failures), 50 - docker_sdk.ATTEMPTS)

    def test_one_that_is_missing_is_not_tried_again(self) -> None:
        with (
            mock.patch.object(docker_sdk, "_MODULES", ("itest_no_such_package",)),
            self.assertRaises(ModuleNotFoundError),
        ):
            docker_sdk.load()


if __name__ == "__main__":
    unittest.main()
