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


class TakeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.target = Path(self.enterContext(tempfile.TemporaryDirectory()), "copy")

    def take(self, *entries: tuple[str, str, bytes], path: str = "/www", leads_to: str = "") -> bytes:
        """What is copied from a container that has, below a directory `www`, these: a name, what it holds or where it leads,
        and of what type it is. `leads_to`: `path` is a link to there."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text, kind in (("", "", tarfile.DIRTYPE), *entries):
                entry = tarfile.TarInfo(f"www/{name}")
                entry.type = kind
                if kind == tarfile.REGTYPE:
                    entry.size = len(text)
                entry.linkname = "" if kind == tarfile.REGTYPE else text
                archive.addfile(entry, io.BytesIO(text.encode()))
        answers = {path: ([b"no archive"], {"linkTarget": leads_to}), leads_to or path: ([buffer.getvalue()], {})}
        client = mock.Mock(get_archive=lambda container, asked: answers[asked])
        return docker_files.take(client, "web", path, self.target)

    def found(self) -> dict[str, str]:
        """The content of all files that were copied."""
        return {
            str(path.relative_to(self.target)): path.read_text() for path in self.target.rglob("*") if path.is_file()
        }

    def check(self) -> None:
        self.take(
            ("index.html", "hello", tarfile.REGTYPE),
            ("sub", "", tarfile.DIRTYPE),
            ("sub/page", "page", tarfile.REGTYPE),
            ("sub/link", "../index.html", tarfile.SYMTYPE),
            ("same", "www/sub/page", tarfile.LNKTYPE),
            ("absolute", "/etc/passwd", tarfile.SYMTYPE),
            ("out", "../../outside", tarfile.SYMTYPE),
            ("pipe", "", tarfile.FIFOTYPE),
            ("null", "", tarfile.CHRTYPE),
            ("../outside", "evil", tarfile.REGTYPE),
            ("last", "last", tarfile.REGTYPE),
        )
        expected = {"index.html": "hello", "sub/page": "page", "sub/link": "hello", "same": "page", "last": "last"}
        self.assertEqual(self.found(), expected)
        self.assertEqual({path.name for path in self.target.iterdir()}, {"index.html", "sub", "same", "last"})
        self.assertFalse(self.target.with_name("outside").exists())

    @unittest.skipUnless(hasattr(tarfile, "data_filter"), "this Python has no filters")
    def test_a_directory(self) -> None:
        self.check()

    @unittest.skipIf(sys.version_info >= (3, 12), "each later Python has filters")
    def test_a_directory_by_a_python_without_filters(self) -> None:
        if hasattr(tarfile, "data_filter"):
            self.enterContext(mock.patch.object(tarfile, "data_filter"))
            del tarfile.data_filter
        self.check()

    def test_a_link_is_what_it_leads_to(self) -> None:
        self.take(("page", "page", tarfile.REGTYPE), path="/link", leads_to="/srv/www")
        self.assertEqual(self.found(), {"page": "page"})
