# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced as a whole."""

from __future__ import annotations

import os
import stat
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from itest import lock


class ReplaceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.place / "page.html"

    def test_it_has_the_new_text_and_there_is_nothing_else(self) -> None:
        for text in ("first", "half a character: \ud83d"):
            lock.replace(self.file, text)
            self.assertEqual(self.file.read_text(encoding="utf-8"), text.replace("\ud83d", "\\ud83d"))
        self.assertEqual(os.listdir(self.place), ["page.html"])

    def test_only_its_owner_may_read_it_unless_it_is_for_others(self) -> None:
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        for mode, found in ((0o600, 0o600), (0o666, 0o644)):
            lock.replace(self.file, "text", mode)
            self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), found)

    def test_what_cannot_be_written_leaves_nothing(self) -> None:
        self.file.mkdir()
        with self.assertRaises(OSError):
            lock.replace(self.file, "text")
        self.assertEqual(os.listdir(self.place), ["page.html"])
        self.file.rmdir()
        lock.replace(self.file, "old")
        with mock.patch.object(Path, "replace", side_effect=OSError(28, "No space left")), self.assertRaises(OSError):
            lock.replace(self.file, "new")
        self.assertEqual(os.listdir(self.place), ["page.html"])
        self.assertEqual(self.file.read_text(encoding="utf-8"), "old")
