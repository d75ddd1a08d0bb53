# SPDX-License-Identifier: Apache-2.0
"""What people see of tests that fail: the exact text, in tests/golden, by several runners; and no password in any of it.

ITEST_TEST_GOLDEN=write writes the files anew. Whoever does that reads what has changed.
"""

from __future__ import annotations

import os
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from itest import Kafka, Postgres, Redis
from itest.diagnose import HEAD
from tests.runners.pairs import two_at_a_time
from tests.runners.samples import ROOT, SampleTestCase

GOLDEN = ROOT / "tests" / "golden"

_MASKS = (
    # What differs from run to run and from machine to machine, the longest patterns first.
    (r"\x1b\[[0-9;]*m", ""),
    (r'File "[^"]*/site-packages/([^"]*)", line \d+', r'File "\1", line N'),
    (rf'File "{re.escape(str(ROOT))}/([^"]*)", line \d+', r'File "\1", line N'),
    (r'File "[^"]*/(test_\w+\.py)"', r'File "\1"'),
    (rf"{re.escape(str(ROOT))}/(itest/[\w/]+\.py):\d+", r"\1:N"),
    (r"[\w/.~-]*/site-packages/([\w/]+\.py):\d+", r"\1:N"),
    (r"/\S*/artifacts-\w+", "ARTIFACTS"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \w+ \[\d+\]", "TIME [N]"),
    (r"\d+:([A-Z]) \d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d+", r"N:\1 TIME"),
    (r"process \d+ \(([A-Za-z ]+?) [\d.]+ from ([\w-]+)\)", r"process N (\1 V from \2)"),
    (r"(PostgreSQL|Redis|Valkey|Apache Kafka) \d[\d.]*", r"\1 V"),
    (r"container [0-9a-f]{12}", "container ID"),
    (r"\d+ MB in use", "N MB in use"),
    (r"\bitest_[0-9a-f]{8}_\d+", "itest_ID"),
    (r"\bitest-[0-9a-f]{8}-\d+-", "itest-ID-"),
    (r"session \d+", "session N"),
    (r"[Pp]rocess \d+", "process N"),
    (r"tuple \(\d+,\d+\)", "tuple (N,N)"),
    (r"relation \d+ of database \d+", "relation N of database N"),
    (r"127\.0\.0\.1(:|\", port )\d+", r"127.0.0.1\1N"),
    (r"\d+\.\d+ ?s\b", "N s"),
    (r", without \d+ lines? of routine", ""),
    (r"nothing but \d+ lines? of routine logged", "nothing logged"),
    (r"\(user request from '.*", "(user request from ...)"),
    (r"0x[0-9a-f]+", "0xN"),
)


def masked(text: str) -> str:
    """Without what is different each time: times, ids, versions, places, how Python underlines code, and how the package
    redis came to notice that its server is gone."""
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"log since the test began, (\d+) lines?:\n((?:(?:E )? *\| .*\n)+)", _of_the_test, text)
    text = re.sub(r"(?m)^(E )?  slow( or before this test)?: .*\n", "", text)  # As everything is on a busy machine.
    lines = [line.rstrip() for line in text.splitlines() if not re.fullmatch(r"[\s^~]+", line) or not line.strip()]
    text = re.sub(r'(  File "redis/[^\n]*\n    [^\n]*\n)+', '  File "redis/..."\n', "\n".join(lines))
    text = re.sub(r"(redis/[\w/]+\.py:N: in [^\n]*\n    [^\n]*\n(E    [^\n]*\n)?)+", "redis/...\n", text)
    return text.strip() + "\n"


def _of_the_test(log: re.Match[str]) -> str:
    """Without what a server said of its start: Docker may write that down when its first test has begun."""
    lines = log[2].splitlines(keepends=True)
    kept = [line for line in lines if not re.search(r"\* (Server initialized|Ready to accept connections \w+)$", line)]
    count = int(log[1]) - len(lines) + len(kept)
    return f"log since the test began, {count} line{'s'[: count != 1]}:\n{''.join(kept)}"


class _Failures(SampleTestCase):
    maxDiff = None

    def fails(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What this command writes, which runs the sample; no password is in it or in the artifacts."""
        self.needs(Postgres(), Redis(), Kafka())
        with tempfile.TemporaryDirectory(prefix="artifacts-") as artifacts, tempfile.TemporaryDirectory() as cache:
            secrets = Path(cache, "secrets")
            changes = {"ITEST_TEST_SECRETS": str(secrets), **(environment or {})}
            outcome = self.sample("failures", *command, environment={"ITEST_ARTIFACTS": artifacts, **changes})
            self.assertNotEqual(outcome.code, 0, outcome.output)
            written = {file: file.read_text() for file in Path(artifacts).rglob("*.*") if file.is_file()}
            self.assertGreater(len(written), 10, outcome.output)
            passwords = secrets.read_text().split()
            self.assertTrue(passwords)
            for password in passwords:
                for place, text in {Path("the output"): outcome.output, **written}.items():
                    self.assertNotIn(password, text, f"a password is in {place}")
        return outcome.output

    def assertGolden(self, text: str, name: str) -> None:
        file = GOLDEN / name
        if os.environ.get("ITEST_TEST_GOLDEN") == "write":
            file.write_text(masked(text), encoding="utf-8")
        self.assertEqual(masked(text), file.read_text(encoding="utf-8"))


@two_at_a_time
class FailuresTest(_Failures):
    """On local processes, but for one."""

    def test_unittest(self) -> None:
        output = self.fails("-W", "error", "-m", "unittest")
        self.assertGolden(failures_of(output), "failures-unittest.txt")

    def test_unittest_on_docker(self) -> None:
        self.engine = "docker"
        output = self.fails("-W", "error", "-m", "unittest")
        self.assertGolden(failures_of(output), "failures-unittest-docker.txt")

    def test_pytest(self) -> None:
        self.needs_package("pytest")
        output = self.fails(
            *("-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "--no-header", "--show-capture=no"),
            environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        _, _, shown = output.partition("FAILURES ===")
        self.assertGolden(re.sub(r"(?m)^([=_]){3,} ?(.*?) ?[=_]{3,}$", r"\1\1\1 \2", shown), "failures-pytest.txt")

    def test_junit_xml(self) -> None:
        self.needs_package("xmlrunner")
        # To standard error, and read from there: the directory of a sample is gone when it has ended.
        code = "import sys, unittest, xmlrunner; unittest.main(module=None, argv=['unittest', 'discover'], "
        output = self.fails("-c", f"{code}testRunner=xmlrunner.XMLTestRunner(output=sys.stdout.buffer, verbosity=0))")
        documents = re.findall(r"<testsuite .*?</testsuite>", output, re.DOTALL)
        told = []
        for document in documents:
            for case in ElementTree.fromstring(document).iter("testcase"):
                for problem in case:
                    if problem.tag in ("failure", "error"):
                        told.append(f"--- {case.get('classname')} {case.get('name')}: {problem.tag}\n{problem.text}")
        self.assertGreater(len(told), 10, output)
        self.assertGolden("\n".join(sorted(told)), "failures-junit.txt")

    def noted(self, package: str, *command: str, least: int = 9) -> None:
        self.needs_package(package)
        output = self.fails(*command)
        self.assertGreaterEqual(output.count(HEAD), least, output)
        self.assertIn("wrote to orders (inserted), which has no committed rows", output)
        self.assertIn("ENDED under this test: ", output)

    def test_nose2(self) -> None:
        self.noted("nose2", "-m", "nose2")

    def test_unittest_parallel(self) -> None:
        self.noted("unittest_parallel", "-m", "unittest_parallel", "-j", "2", "--level", "class")

    def test_django_in_parallel(self) -> None:
        self.needs_package("tblib")  # Without it Django cannot tell of a failure in a worker.
        # Its workers pickle exceptions, and those of psycopg2 lose their notes by that.
        self.noted("django", str(Path(__file__).with_name("django_runner.py")), "2", least=4)


def failures_of(output: str) -> str:
    """From the first failure to the line before the count."""
    found = re.search(r"^={70}\n.*(?=^-{70}\nRan )", output, re.MULTILINE | re.DOTALL)
    assert found is not None, output
    return found[0]
