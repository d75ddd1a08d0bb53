# SPDX-License-Identifier: Apache-2.0
"""The page with the report: what is in it, from which spans; that it is one file, and hides what must be hidden."""

from __future__ import annotations

import io
import json
import re
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, naming
from itest.config import Config
from itest.report import page, run
from itest.testing import MemoryEngine
from itest.trace import Span
from tests.unit.inner import InnerTest, MemoryMixin
from tests.unit.inner import run as run_inner

OWNER = "shop.tests.OrderTest"


def spans(outcome: str = "passed", text: str = "") -> list[Span]:
    """A run of one test, from the 100th second on."""
    start = Span("start", "postgres", 100.0, 101.0, {"engine": "docker", "version": "PostgreSQL 17.6", "server": "c1"})
    start.facts |= {"where": "container c1 (postgres:17)", "title": "PostgreSQL", "kept": "yes", "cold": "1.5"}
    setup = Span("setup", OWNER, 100.0, 101.5)
    return [
        setup,
        start,
        Span("ready", "postgres", 100.5, 101.0, parent=start),
        Span("lease", "postgres", 101.0, 101.25, {"owner": OWNER, "server": "c1"}, parent=setup),
        Span("reset", "postgres", 101.5, 101.501, {"test": f"{OWNER}.test_a", "server": "c1"}),
        Span("test", f"{OWNER}.test_a", 102.0, 103.0, {"owner": OWNER, "outcome": outcome, "text": text}),
        Span("stop", "postgres", 103.0, 103.5, {"server": "c1", "log": "LOG:  ready\n"}),
    ]


def part(given: list[Span], session: str = "s1", **environment: str) -> dict[str, Any]:
    return run.part(session, given, 1_000_000.0, Config(environment=environment))


class PartTest(unittest.TestCase):
    maxDiff = None

    def test_a_run(self) -> None:
        with mock.patch("sys.argv", ["python -m unittest", "-v", "tests.a b"]):
            found = part(spans())
        self.assertEqual(
            {name: value for name, value in found.items() if name not in ("pid", "python")},
            {
                "id": "s1",
                "worker": "",
                "command": "python -m unittest -v 'tests.a b'",
                "began": 1_000_100.0,
                "seconds": 3.5,
                "services": [
                    {
                        "id": "c1",
                        "kind": "postgres",
                        "title": "PostgreSQL",
                        "version": "PostgreSQL 17.6",
                        "where": "container c1 (postgres:17)",
                        "engine": "docker",
                        "how": "kept",
                        "failed": False,
                        "start": [0.0, 1.0],
                        "stop": [3.0, 3.5],
                        "parts": [["ready", 0.5, 1.0]],
                        "log": "LOG:  ready\n",
                    }
                ],
                "tests": [{"class": OWNER, "name": "test_a", "at": [2.0, 3.0], "outcome": "passed", "text": ""}],
                "steps": [
                    ["setup", "", 0.0, 1.5, OWNER, ""],
                    ["lease", "postgres", 1.0, 1.25, OWNER, "c1"],
                    ["reset", "postgres", 1.5, 1.501, OWNER, "c1"],
                ],
                "savings": [{"service": "postgres", "took": 1.0, "cold": 1.5, "templates": 0}],
            },
        )

    def test_nothing(self) -> None:
        found = part([])
        self.assertEqual((found["tests"], found["services"], found["seconds"]), ([], [], 0.0))

    def test_what_was_never_finished_ends_with_the_run(self) -> None:
        found = part([Span("test", "T.test_a", 1.0, None, {"owner": "T"}), Span("stop", "redis", 2.0, 3.0)])
        self.assertEqual(
            found["tests"], [{"class": "T", "name": "test_a", "at": [0, 2], "outcome": "not finished", "text": ""}]
        )

    def test_the_commands_of_other_runners(self) -> None:
        for argv, expected in (
            (["/usr/lib/python3/site-packages/pytest/__main__.py", "-q"], "python -m pytest -q"),
            (["/venv/bin/unittest-parallel", "-j", "2"], "unittest-parallel -j 2"),
            (["-c"], ""),
            ([""], ""),
        ):
            with self.subTest(argv), mock.patch("sys.argv", argv):
                self.assertEqual(part([])["command"], expected)

    def test_colours_control_characters_and_passwords_are_gone(self) -> None:
        secret = naming.secret()
        found = part(spans("failed", f"\x1b[31mError\x1b[0m: \x00{secret} postgresql://me:word@host/db"))
        self.assertEqual(found["tests"][0]["text"], "Error: *** postgresql://me:***@host/db")

    def test_a_text_too_long_is_cut_in_its_middle(self) -> None:
        text = part(spans("failed", "a" * 50_000 + "b" * 50_000))["tests"][0]["text"]
        self.assertTrue(text.startswith("a" * 30_000) and text.endswith("b" * 30_000))
        self.assertIn("\n\n… 40000 characters left out …\n\n", text)


class Elements(HTMLParser):
    """The tags of a page, with their attributes, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class PageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.config = Config(cache_dir=self.directory / "cache")
        self.path = self.directory / "reports" / "run.html"

    def write(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        page.write(self.path, name, given, self.config)
        return page.read(self.path.read_text(encoding="utf-8"))

    def test_it_holds_its_data(self) -> None:
        given = part(spans())
        self.assertEqual(self.write("run", given)["parts"], [given])
        self.assertEqual([file.name for file in self.path.parent.iterdir()], ["run.html"])

    def test_it_is_one_file_that_fetches_nothing(self) -> None:
        self.write("run", part(spans()))
        text = self.path.read_text(encoding="utf-8")
        for tag, attributes in Elements(text).found:
            for name in ("src", "href", "action", "data"):
                self.assertIn(attributes.get(name), (None, "data:,"), tag)
        code = text[: text.index('<script type="application/json"')] + text[text.index("</script>") :]
        self.assertEqual(re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+|@import|url\(|fetch\(|XMLHttp", code), [])

    def test_no_text_can_break_out_of_its_place(self) -> None:
        text = "</script><script>alert(1)</script><!-- {{data}} /*script*/ \u2028."
        given = part(spans("failed", text))
        found = self.write("run", given)
        self.assertEqual(found["parts"][0]["tests"][0]["text"], text)
        whole = self.path.read_text(encoding="utf-8")
        self.assertEqual(sum(tag == "script" for tag, _ in Elements(whole).found), 2)
        self.assertNotIn("\u2028", whole)

    def test_half_of_a_character_does_not_cost_the_page(self) -> None:
        text = "name \udcff"  # os.fsdecode of a name that is no UTF-8.
        self.assertEqual(self.write("run", part(spans("failed", text)))["parts"][0]["tests"][0]["text"], text)

    def test_processes_of_one_run_share_the_page(self) -> None:
        self.write("run", part(spans(), "s1"))
        self.write("run", part([], "s2"))
        found = self.write("run", part(spans("failed"), "s1"))
        self.assertEqual([each["id"] for each in found["parts"]], ["s2", "s1"])
        self.assertEqual(found["parts"][1]["tests"][0]["outcome"], "failed")

    def test_another_run_begins_anew(self) -> None:
        self.write("run", part([], "s1"))
        self.assertEqual([each["id"] for each in self.write("other", part([], "s2"))["parts"]], ["s2"])

    def test_what_is_no_page_of_ours_is_replaced(self) -> None:
        self.path.parent.mkdir()
        for text in ("", "<p>", '<script type="application/json" id="run">{"run": 1}</script>'):
            self.path.write_text(text, encoding="utf-8")
            self.assertEqual(len(self.write("run", part([]))["parts"]), 1)


class SessionTest(InnerTest):
    """The setting, with a whole run on the memory engine."""

    def setUp(self) -> None:
        self.events = []
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.directory / "run.html"

    def run_with(self, engine: MemoryEngine, **settings: Any) -> None:
        self.use(engine, report=str(self.path), cache_dir=self.directory / "cache", **settings)

        class T(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def test_a(self) -> None:
                pass

            def test_b(self) -> None:
                raise ValueError(f"wrong: {password}")

        password = self.session.secret
        run_inner(T)

    def test_the_page_of_a_run(self) -> None:
        self.run_with(MemoryEngine(lambda instance: setattr(instance, "log", f"begun with {self.session.secret}\n")))
        text = self.path.read_text(encoding="utf-8")
        self.assertNotIn(self.session.secret, text)
        [found] = page.read(text)["parts"]
        self.assertEqual(
            [(test["name"], test["outcome"]) for test in found["tests"]], [("test_a", "passed"), ("test_b", "error")]
        )
        self.assertIn("ValueError: wrong: ***\nitest: the services when this test failed", found["tests"][1]["text"])
        [service] = found["services"]
        self.assertEqual((service["version"], service["log"], service["how"]), ("Memory 1", "begun with ***\n", "new"))
        self.assertEqual(sum(step[0] == "reset" and step[5] == service["id"] for step in found["steps"]), 2)

    def test_a_page_that_cannot_be_written_is_no_failure(self) -> None:
        (self.directory / "file").touch()
        self.path = self.directory / "file" / "run.html"
        with mock.patch("sys.__stderr__", io.StringIO()) as stream:
            self.run_with(MemoryEngine())
        self.assertRegex(
            stream.getvalue(), rf"^itest: could not write the report {self.path}: .*(File exists|Not a directory)"
        )


class JsonTest(unittest.TestCase):
    def test_it_is_plain_json(self) -> None:
        given = part(spans("failed", "\u2028 < \" ' \\"))
        self.assertEqual(json.loads(json.dumps(given)), given)
