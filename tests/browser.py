# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, for pages: what it makes of a page, and what went wrong over that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FRAMES = "window.requestAnimationFrame = (draw) => setTimeout(draw, 0);"
"""Without a screen Chromium may stop to make frames, and what waits for one waits for ever."""


class Rendered(NamedTuple):
    """The document after its scripts have run, and the errors that they have logged."""

    html: str
    errors: list[str]


def render(page: Path, script: str = "", width: int = 1200, height: int = 900) -> Rendered:
    """Open the page and run a script of one's own in it. Raises SkipTest where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise unittest.SkipTest(f"there is none of {', '.join(NAMES)} here to look at the page with")
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "page.html")
        text = page.read_text(encoding="utf-8").replace("<head>", f"<head><script>{FRAMES}</script>", 1)
        copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        command = [
            program,
            "--headless=new",
            "--disable-gpu",
            "--no-first-run",
            *(["--no-sandbox"] if os.getuid() == 0 else []),
            f"--user-data-dir={directory}/profile",
            f"--window-size={width},{height}",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            "--dump-dom",
            copy.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return Rendered(done.stdout, re.findall(r'CONSOLE[:(\d)]*\] "(.*)", source', done.stderr))
