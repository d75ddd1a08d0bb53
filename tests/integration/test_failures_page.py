# SPDX-License-Identifier: Apache-2.0
"""docs/failures.md: its example fails as the page shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from itest import Postgres, Redis
from tests import documents
from tests.integration.capture import SWEPT
from tests.runners import test_failures
from tests.runners.samples import INHERITED, ROOT, SampleTestCase

PAGE = ROOT / "docs" / "failures.md"
OUTPUT = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def masked(text: str) -> str:
    text = re.sub(r"[\w/.-]+/servers/\w+", "PLACE", re.sub(r"-(it [0-9a-f]{12}|[pn] \d+)", "-N", text))
    return test_failures.masked(re.sub(r"itest_kept_[0-9a-f]{8}_\d+", "itest_kept_ID", text))


class FailuresPageTest(SampleTestCase):
    engine = "docker"

    def output(self, **settings: str) -> str:
        files = documents.files_in(PAGE.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as place, tempfile.TemporaryFile("w+") as output:
            directory = Path(place)
            (directory / "tests").mkdir()
            (directory / "tests" / "__init__.py").touch()
            for name, source in files.items():
                (directory / name).write_text(source, encoding="utf-8")
            environment = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}
            environment.update(PYTHONPATH=str(ROOT), ITEST_ENGINE=self.engine, ITEST_REQUIRE="1", **settings)
            command = [sys.executable, "-m", "unittest", "-v"]
            subprocess.run(command, cwd=place, env=environment, stdout=output, stderr=output, timeout=120)
            output.seek(0)
            return re.sub(rf"itest: (?:{SWEPT.pattern}).*\n", "", output.read())

    def test_it_fails_as_the_page_shows(self) -> None:
        self.needs(Postgres(), Redis())
        shown = [masked(block).strip() for block in OUTPUT.findall(PAGE.read_text(encoding="utf-8"))]
        self.assertGreaterEqual(len(shown), 5)
        output = masked(self.output())
        for block in shown:
            if "kept what" not in block:
                self.assertIn(block, output)

    def test_it_is_kept_as_the_page_shows(self) -> None:
        self.needs(Postgres(), Redis())
        [kept] = [block for block in OUTPUT.findall(PAGE.read_text(encoding="utf-8")) if "kept what" in block]
        cache = tempfile.mkdtemp(prefix="cache-")
        self.addCleanup(shutil.rmtree, cache, ignore_errors=True)  # The reaper may just be tidying up there.
        output = self.output(ITEST_KEEP="failed", ITEST_KEEP_TIME="1", ITEST_WARM="0", ITEST_CACHE_DIR=cache)
        self.assertIn(masked(kept).strip().replace("3600 s", "N s"), re.sub(r"for 1 s;", "for N s;", masked(output)))

    def test_strict(self) -> None:
        self.needs(Postgres(), Redis())
        output = self.output(ITEST_STRICT="1")
        self.assertRegex(
            output, r"LeftBehind: tests\.test_shop\.ShopTest\.test_forgets_a_connection left a database session behind"
        )
        self.assertIn("FAILED (failures=2, errors=2)", output)
