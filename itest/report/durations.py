# SPDX-License-Identifier: Apache-2.0
"""itest's own steps among unittest's slowest tests: `python -m unittest --durations 10`, from Python 3.12 on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itest.trace import Span

STEPS = ("pull", "build", "fetch", "start", "migrate", "stop")
"""Those with a line each; resets have one for all of a service."""


def add(result: Any, spans: Sequence[Span]) -> None:
    """Give the result a duration for each step. Results of older Pythons have no place for them."""
    for label, seconds in lines(spans):
        result.addDuration(label, seconds)


def lines(spans: Sequence[Span]) -> list[tuple[str, float]]:
    """What is added: a text in the place of a test's, and seconds. A start's own, without its pull."""
    found: list[tuple[str, float]] = []
    resets: dict[str, list[float]] = {}
    for span in spans:
        if span.name == "reset":
            resets.setdefault(span.subject, []).append(span.seconds)
        elif span.name in STEPS and span.ended is not None:
            parts = [part for part in spans if part.parent is span and part.name in ("pull", "build")]
            seconds = span.seconds - sum(part.seconds for part in parts)
            what = next((span.facts[fact] for fact in ("version", "title", "image") if span.facts.get(fact)), "")
            found.append((f"itest: {span.name} {span.subject}{f' ({what})' if what else ''}", seconds))
    for kind, lengths in resets.items():
        times = f"{len(lengths)} time{'s' * (len(lengths) != 1)}"
        found.append((f"itest: reset {kind} ({times})", sum(lengths)))
    return found
