# SPDX-License-Identifier: Apache-2.0
"""What a run's spans add up to: by service, by class, and what was saved by states kept of earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from itest.trace import Span

MOST_ROWS = 6
"""Services, and classes, with a row of their own, the costliest; a table stays small however many there are."""

WHOLE = ("fetch", "start", "lease", "reset", "stop")
"""Steps that add up to what a service costs."""

PARTS = ("pull", "build", "prepare", "ready", "migrate")
"""Steps within a start or, `migrate`, within a lease, told as well but not added again."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one service or class cost, in seconds: the sum of each step by name, and the length of each reset."""

    name: str
    steps: dict[str, float]
    resets: tuple[float, ...] = ()
    servers: int = 0
    tests: int = 0
    failed: int = 0

    @property
    def total(self) -> float:
        return sum(self.steps.get(step, 0.0) for step in (*WHOLE, "setup", "test"))

    @property
    def label(self) -> str:
        servers = f" x {self.servers}" if self.servers > 1 else ""
        return f"{self.name}{servers}" + (f" ({self.failed} failed)" if self.failed else "")


def services(spans: Sequence[Span]) -> list[Costs]:
    """What each service cost, the costliest first; the cheapest are put together where there are too many."""
    return _ranked(spans, WHOLE + PARTS, lambda span: span.subject, _service)


def classes(spans: Sequence[Span]) -> list[Costs]:
    """As `services`, for the test classes: to set them up, waiting for servers included, to reset, and the tests."""
    return _ranked(spans, ("setup", "migrate", "reset", "test"), owner, _class)


def together(label: str, rows: Sequence[Costs]) -> Costs:
    """The sum of several."""
    steps = {step: sum(row.steps.get(step, 0.0) for row in rows) for step in {s for row in rows for s in row.steps}}
    resets = tuple(length for row in rows for length in row.resets)
    return Costs(label, steps, resets, tests=sum(row.tests for row in rows))


def owner(span: Span) -> str:
    """The class that a step was done for; empty where it was for several, or nobody's."""
    current: Span | None = span
    while current is not None:
        if current.name == "setup":
            return current.subject
        if "owner" in current.facts:
            return current.facts["owner"]
        if "test" in current.facts:
            return current.facts["test"].rpartition(".")[0]
        current = current.parent
    return ""


def busy(spans: Iterable[Span]) -> float:
    """The seconds in which at least one of these steps went on."""
    ended = sorted((span.started, span.ended) for span in spans if span.ended is not None)
    waited, reached = 0.0, ended[0][0] if ended else 0.0
    for started, end in ended:
        waited += max(0.0, end - max(started, reached))
        reached = max(reached, end)
    return waited


@dataclass(frozen=True, slots=True)
class Saving:
    """What one service's kept state has saved, in seconds; `unknown`: it was kept before anybody measured that."""

    service: str
    took: float
    cold: float
    templates: int = 0
    unknown: bool = False

    @property
    def seconds(self) -> float:
        return self.cold - self.took


def savings(spans: Sequence[Span]) -> list[Saving]:
    """What was saved for each server that began with a kept state."""
    found = []
    for span in spans:
        if span.name != "start" or "kept" not in span.facts or span.ended is None:
            continue
        server = span.facts.get("server")
        templates = [
            float(step.facts["cold"])
            for step in _first_of_each_template(spans)
            if step.facts.get("server") == server and "cold" in step.facts
        ]
        cold = float(span.facts.get("cold", 0.0))
        found.append(
            Saving(span.subject, span.seconds, cold + sum(templates), len(templates), "cold" not in span.facts)
        )
    return found


def _first_of_each_template(spans: Sequence[Span]) -> list[Span]:
    seen: dict[tuple[str, str], Span] = {}
    for span in spans:
        if span.name == "found":
            seen.setdefault((span.facts.get("server", ""), span.facts.get("template", "")), span)
    return list(seen.values())


def _ranked(
    spans: Sequence[Span],
    names: Sequence[str],
    key: Callable[[Span], str],
    make: Callable[[str, list[Span]], Costs],
) -> list[Costs]:
    groups: dict[str, list[Span]] = {}
    for span in spans:
        if span.name in names and (name := key(span)):
            groups.setdefault(name, []).append(span)
    rows = sorted((make(name, group) for name, group in groups.items()), key=lambda row: row.total, reverse=True)
    if len(rows) <= MOST_ROWS:
        return rows
    others = rows[MOST_ROWS - 1 :]
    return [*rows[: MOST_ROWS - 1], together(f"{len(others)} others", others)]


def _service(name: str, spans: list[Span]) -> Costs:
    failed = sum(span.failed for span in spans if span.name in WHOLE)
    servers = sum(span.name == "start" for span in spans)
    return Costs(name, _sums(spans), _resets(spans), servers=servers, failed=failed)


def _class(name: str, spans: list[Span]) -> Costs:
    tests = [span for span in spans if span.name == "test"]
    failed = sum(span.failed for span in tests)
    number = sum("of" not in span.facts for span in tests)
    return Costs(name, _sums(spans), _resets(spans), tests=number, failed=failed)


def _sums(spans: Iterable[Span]) -> dict[str, float]:
    steps: dict[str, float] = {}
    for span in spans:
        steps[span.name] = steps.get(span.name, 0.0) + span.seconds
    return steps


def _resets(spans: Iterable[Span]) -> tuple[float, ...]:
    return tuple(span.seconds for span in spans if span.name == "reset")
