# SPDX-License-Identifier: Apache-2.0
"""Directories copied out of a container, also by a Python that has no filters for archives."""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from itest.engines import docker_files
from itest.errors import ItestError


class TakeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.target = Path(self.enterContext(tempfile.TemporaryDirectory()), "copy")

    def take(self, **files: str) -> None:
        """Have a directory copied from a container in which it has these files."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            directory = tarfile.TarInfo("www")
            directory.type = tarfile.DIRTYPE
            archive.addfile(directory)
            for name, text in files.items():
                entry = tarfile.TarInfo(f"www/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        client = mock.Mock(get_archive=lambda container, path: ([buffer.getvalue()], {}))
        docker_files.take(client, "web", "/www", self.target)

    def check(self, refusal: type[Exception]) -> None:
        self.take(**{"index.html": "hello", "sub/page": "page"})
        found = {str(path.relative_to(self.target)): path.read_text() for path in self.target.rglob("*.*")}
        self.assertEqual(found, {"index.html": "hello"})
        self.assertEqual((self.target / "sub/page").read_text(), "page")
        with self.assertRaisesRegex(refusal, "outside"):
            self.take(**{"../outside": "evil"})
        self.assertFalse(self.target.with_name("outside").exists())

    @unittest.skipUnless(hasattr(tarfile, "data_filter"), "this Python has no filters")
    def test_a_directory(self) -> None:
        self.check(tarfile.OutsideDestinationError)

    @unittest.skipIf(sys.version_info >= (3, 12), "each later Python has filters")
    def test_a_directory_by_a_python_without_filters(self) -> None:
        if hasattr(tarfile, "data_filter"):
            self.enterContext(mock.patch.object(tarfile, "data_filter"))
            del tarfile.data_filter
        self.check(ItestError)
