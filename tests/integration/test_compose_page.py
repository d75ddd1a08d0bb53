# SPDX-License-Identifier: Apache-2.0
"""What docs/compose.md shows, run."""

from __future__ import annotations

import unittest

from tests.documents import check_document


class PageTest(unittest.TestCase):
    def test_every_example_runs(self) -> None:
        check_document(self, "docs/compose.md")
