# SPDX-License-Identifier: Apache-2.0
"""The page with the report in a real browser: drawn without an error, and usable by keyboard."""

from __future__ import annotations

import json
import re
import tempfile
import unittest
from pathlib import Path
from typing import Any

from itest.config import Config
from itest.report import page, run
from itest.trace import Span
from tests import browser

SERVER = {"engine": "docker", "version": "PostgreSQL 17.6", "server": "c1", "where": "container c1 (postgres:17)"}
HOSTILE = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in test\nAssertionError: <img src=x onerror=alert(1)>'
)


def part(tests: int, failing: tuple[int, ...] = (), worker: str = "") -> dict[str, Any]:
    spans = [Span("start", "postgres", 0.0, 1.0, dict(SERVER))]
    for number in range(tests):
        owner, moment = f"shop.test_{number // 20}.OrderTest", 1.0 + number / 100
        spans.append(
            Span("reset", "postgres", moment, moment + 0.001, {"test": f"{owner}.test_{number}", "server": "c1"})
        )
        outcome, text = ("failed", HOSTILE) if number in failing else ("passed", "")
        facts = {"owner": owner, "outcome": outcome, "text": text}
        spans.append(Span("test", f"{owner}.test_{number}", moment + 0.001, moment + 0.009, facts))
    end = 1.5 + tests / 100
    spans.append(Span("stop", "postgres", end, end + 0.1, {"server": "c1", "log": "LOG:  <b>ready</b>\n"}))
    return run.part(worker or "s1", spans, 1_800_000_000.0, Config(environment={"PYTEST_XDIST_WORKER": worker}))


class BrowserTest(unittest.TestCase):
    def draw(self, *parts: dict[str, Any], script: str = "", **window: int) -> str:
        file = Path(self.enterContext(tempfile.TemporaryDirectory()), "run.html")
        file.write_text(page.render({"format": page.FORMAT, "run": "r", "parts": list(parts)}), encoding="utf-8")
        found = browser.render(file, script, **window)
        self.assertEqual(found.errors, [])
        return re.sub(r"<script.*?</script>", "", found.html, flags=re.DOTALL)

    def title(self, html: str) -> str:
        match = re.search(r"<h1>(.*?)</h1>", html)
        return match[1] if match else html

    def asked(self, expression: str, *parts: dict[str, Any], **window: int) -> Any:
        """What an expression gives once the page is drawn; it may await."""
        script = f"(async () => {{ document.title = 'said ' + JSON.stringify({expression}); }})();"
        html = self.draw(*parts, script=script, **window)
        match = re.search(r"<title>said (.*?)</title>", html)
        assert match is not None, html[:500]
        return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    def test_nothing_at_all_and_a_run_without_tests(self) -> None:
        self.assertEqual(self.title(self.draw()), "No tests ran")
        self.assertEqual(self.title(self.draw(part(0))), "No tests ran")

    def test_one_test(self) -> None:
        html = self.draw(part(1))
        self.assertEqual(self.title(html), "The test passed")
        self.assertIn("PostgreSQL 17.6", html)

    def test_many_with_failures(self) -> None:
        html = self.draw(part(300, failing=(7, 150)))
        self.assertEqual(self.title(html), "2 of 300 tests failed")
        self.assertEqual(html.count('class="flag"'), 2)
        self.assertIn("AssertionError: &lt;img src=x onerror=alert(1)&gt;", html)
        self.assertNotIn("<img", html)
        self.assertIn("&lt;b&gt;ready&lt;/b&gt;", html)

    def test_workers_have_a_lane_each_and_share_that_of_a_server(self) -> None:
        html = self.draw(part(10, worker="gw0"), part(10, worker="gw1"))
        self.assertEqual(self.title(html), "All 20 tests passed")
        self.assertEqual(re.findall(r"<text[^>]*>(gw\d)</text>", html), ["gw0", "gw1"])
        self.assertEqual(html.count('class="card"'), 1)

    def test_it_fits_a_narrow_window(self) -> None:
        found = self.asked("[document.documentElement.scrollWidth, innerWidth]", part(50, failing=(3,)), width=500)
        self.assertLessEqual(found[0], found[1])

    def test_a_run_of_many_thousand_tests_stays_small_where_it_is_drawn(self) -> None:
        found = self.asked("document.querySelectorAll('.chart rect').length", part(6000))
        self.assertLess(found, 4000)

    def test_keys(self) -> None:
        expression = """await (async () => {
            const press = async (...keys) => {
                for (const key of keys) document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
                await new Promise((done) => setTimeout(done, 50));
                return [...document.querySelectorAll(".tick")].map((tick) => tick.textContent).join();
            };
            const all = await press("0"), near = await press("+", "+", "+"), again = await press("0");
            await press("n");
            const picked = document.querySelector(".row.picked .name").textContent;
            await press("n", "n", "n", "?");
            const open = [...document.querySelectorAll(".failure")].map((failure) => failure.open);
            return [all === again, all !== near, picked, open, document.getElementById("keys").open];
        })()"""
        found = self.asked(expression, part(100, failing=(10, 20, 30, 40, 50)))
        self.assertEqual(found, [True, True, "test_10", [True, True, True, True, False], True])

    def test_tests_are_filtered_by_words_and_by_outcome(self) -> None:
        count = "document.querySelectorAll('.row').length"
        expression = (
            "await (async () => { const field = document.getElementById('filter'); field.value = 'test_1. 2';"
            f"field.dispatchEvent(new Event('input')); const words = {count}; field.value = '';"
            f"document.querySelector('[data-outcome=failed]').click(); return [words, {count}]; }})()"
        )
        self.assertEqual(self.asked(expression, part(100, failing=(10, 20))), [11, 2])
