# SPDX-License-Identifier: Apache-2.0
"""What one process has to tell about a run, as plain data for the page: no passwords, no colours, times in seconds."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from itest import naming
from itest.config import Config
from itest.report import costs
from itest.trace import Span

TEXT_LIMIT = 60_000
"""Characters of one text that are shown, its beginning and its end."""


def part(session: str, spans: Sequence[Span], since_1970: float, config: Config) -> dict[str, Any]:
    """The data of one session. Its times count from its own `began` (seconds since 1970); `since_1970` is what must be
    added to a span's times for that."""
    began = min((span.started for span in spans), default=0.0)
    last = max((span.ended if span.ended is not None else span.started for span in spans), default=began)
    return {
        "id": session,
        "pid": os.getpid(),
        "worker": config.variable("PYTEST_XDIST_WORKER"),
        "command": _command(),
        "python": platform.python_version(),
        "began": round(began + since_1970, 4),
        "seconds": round(last - began, 4),
        "services": [_service(span, spans, began, last) for span in spans if span.name == "start"],
        "tests": [_test(span, began, last) for span in spans if span.name == "test"],
        "steps": [_step(span, began, last) for span in spans if span.name in ("setup", "lease", "migrate", "reset")],
        "savings": [
            {
                "service": saving.service,
                "took": round(saving.took, 4),
                "cold": None if saving.unknown else round(saving.cold, 4),
                "templates": saving.templates,
            }
            for saving in costs.savings(spans)
        ],
    }


def _service(start: Span, spans: Sequence[Span], began: float, last: float) -> dict[str, Any]:
    facts = start.facts
    server = facts.get("server", "")
    stop = next((span for span in spans if span.name == "stop" and server and span.facts.get("server") == server), None)
    return {
        "id": server,
        "kind": start.subject,
        "title": facts.get("title", start.subject),
        "version": naming.mask(facts.get("version", "")),
        "where": naming.mask(facts.get("where", "")),
        "engine": facts.get("engine", ""),
        "how": "found" if "found" in facts else "kept" if "kept" in facts else "new",
        "failed": start.failed,
        "start": _times(start, began, last),
        "stop": None if stop is None else _times(stop, began, last),
        "parts": [
            [span.name, *_times(span, began, last)]
            for span in spans
            if _within(span, start) and span.name in costs.PARTS
        ],
        "log": "" if stop is None else stop.facts.get("log", ""),
    }


def _test(span: Span, began: float, last: float) -> dict[str, Any]:
    owner = costs.owner(span)
    name = span.subject.removeprefix(f"{owner}.")
    if name == span.subject and owner:  # `setUpClass (tests.OrderTest)`
        name = name.partition(" (")[0]
    return {
        "class": owner,
        "name": name,
        "at": _times(span, began, last),
        "outcome": span.facts.get("outcome", "not finished"),
        "text": _text(span.facts.get("text", "")),
    }


def _step(span: Span, began: float, last: float) -> list[Any]:
    kind = "" if span.name == "setup" else span.subject
    return [span.name, kind, *_times(span, began, last), costs.owner(span), span.facts.get("server", "")]


def _times(span: Span, began: float, last: float) -> list[float]:
    """Beginning and end; what was never finished ends with the run."""
    ended = last if span.ended is None else span.ended
    return [round(span.started - began, 5), round(ended - began, 5)]


def _within(span: Span, outer: Span) -> bool:
    current = span.parent
    while current is not None and current is not outer:
        current = current.parent
    return current is outer


def _text(text: str) -> str:
    text = naming.clean_log(text).rstrip()
    if len(text) <= TEXT_LIMIT:
        return text
    half = TEXT_LIMIT // 2
    return f"{text[:half]}\n\n… {len(text) - TEXT_LIMIT} characters left out …\n\n{text[-half:]}"


def _command() -> str:
    """What was typed, as far as Python knows: `python -m unittest -v` has a path for its first argument."""
    program, *arguments = sys.argv or [""]
    if program in ("", "-c"):  # Somebody's worker.
        return ""
    directory, name = os.path.split(program)
    if name == "__main__.py":
        program = f"python -m {os.path.basename(directory)}"
    elif " -m " not in program:  # As unittest writes it there.
        program = name
    return naming.mask(" ".join([program, *map(shlex.quote, arguments)]))
