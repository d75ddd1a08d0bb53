# SPDX-License-Identifier: Apache-2.0
"""The page that shows a run: one file that needs no network, for the setting `report`.

The page holds its own data as JSON. A further process of the same run finds its predecessors' there and adds its own, so
that the processes of a parallel run need no other place to meet.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from itest import lock, naming
from itest.config import Config

FORMAT = 1
"""Raised when the data changes: a page of another format is not added to."""

LOCK_WAIT = 30.0
"""Seconds that other processes of the run may take to add theirs."""

_BEFORE, _AFTER = '<script type="application/json" id="run">', "</script>"


def write(path: Path, run: str, part: Mapping[str, Any], config: Config) -> None:
    """Write the page of a session's part of the run, or add it to that of others in the same `run`.

    Raises OSError, and ItestError where the page is locked.
    """
    name = naming.fingerprint(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, config):
        others = [each for each in _earlier(path, name) if each["id"] != part["id"]]
        lock.replace(path, render({"format": FORMAT, "run": name, "parts": [*others, part]}), mode=0o666)


def render(data: dict[str, Any]) -> str:
    """The page for such data."""
    files = resources.files("itest.report")
    page = (files / "page.html").read_text(encoding="utf-8")
    for mark, names in (("/*style*/", ["page.css"]), ("/*script*/", ["page.js", "timeline.js"])):
        page = page.replace(mark, "\n".join((files / name).read_text(encoding="utf-8") for name in names))
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Nothing in it may look like the end of the element, or begin a comment; and JSON reads these as what they were.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    before, mark, after = page.partition("{{data}}")
    assert mark, "the page has a place for the data"
    return before + text + after


def read(page: str) -> dict[str, Any]:
    """The data of a page. Raises ValueError where there is none."""
    start = page.index(_BEFORE) + len(_BEFORE)
    data = json.loads(page[start : page.index(_AFTER, start)])
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    return data


def _earlier(path: Path, run: str) -> list[Any]:
    """What other processes of the run have written there already."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        data = read(path.read_text(encoding="utf-8"))
        if data["run"] == run and data["format"] == FORMAT:
            return list(data["parts"])
    return []


@contextlib.contextmanager
def _alone(path: Path, config: Config) -> Iterator[None]:
    """Within the `with`, no other process writes that page, if the cache directory can be written to."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            place = config.cache_dir / "reports"
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = place / f"{naming.fingerprint('report', str(path))}.lock"
            stack.enter_context(lock.locked(file, LOCK_WAIT, f"writing the report {path}"))
        yield
