# SPDX-License-Identifier: Apache-2.0
"""Where the time went: one small table on standard error at the end of a run with `ITEST_TIMING=1`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from itest.report.table import plain_console, plain_table
from itest.trace import Span

MOST_ROWS = 6
"""Services with a row of their own, the costliest; the table stays within 12 lines however many there are."""

WHOLE = ("start", "lease", "reset", "stop")
"""Steps that add up to what a service costs."""

PARTS = ("pull", "prepare", "ready")
"""Steps within a start, told as well but not added again."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one service cost, in seconds: the sum of each step by name, and the length of each reset."""

    service: str
    steps: dict[str, float]
    resets: tuple[float, ...] = ()
    servers: int = 0
    failed: int = 0

    @property
    def total(self) -> float:
        return sum(self.steps.get(step, 0.0) for step in WHOLE)

    @property
    def label(self) -> str:
        servers = f" x {self.servers}" if self.servers > 1 else ""
        return f"{self.service}{servers}" + (f" ({self.failed} failed)" if self.failed else "")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; it is left out where no service has anything in it."""

    heading: str
    cell: Callable[[Costs], str]


def print_timing(spans: Sequence[Span]) -> None:
    """Print the table on the real standard error, which runners do not capture. Nothing where nothing was started."""
    stream = sys.__stderr__
    rows = costs(spans)
    if stream is None or stream.closed or not rows:
        return
    total = _together("sum", rows)
    table = plain_table(show_footer=True)
    table.add_column("service", total.service, no_wrap=True)
    columns = [column for column in COLUMNS if any(column.cell(row) != NOTHING for row in rows)]
    for column in columns:
        table.add_column(column.heading, column.cell(total), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.label, *(column.cell(row) for column in columns))
    console = plain_console(stream)
    parts = [step for step in PARTS if any(step in row.steps for row in rows)]
    inside = f" (within start: {', '.join(parts)})" if parts else ""
    console.print(f"\nitest: where the time went, in seconds{inside}", markup=False)
    console.print(table)
    console.print(closing_line(spans), markup=False)


def costs(spans: Sequence[Span]) -> list[Costs]:
    """What each service cost, the costliest first; the cheapest are put together where there are too many."""
    kinds = dict.fromkeys(span.subject for span in spans if span.name in WHOLE + PARTS)
    rows = [_costs(kind, [span for span in spans if span.subject == kind]) for kind in kinds]
    rows.sort(key=lambda row: row.total, reverse=True)
    if len(rows) <= MOST_ROWS:
        return rows
    others = rows[MOST_ROWS - 1 :]
    return [*rows[: MOST_ROWS - 1], _together(f"{len(others)} others", others)]


def closing_line(spans: Sequence[Span]) -> str:
    """How much of the run's time that was. Less than the sum, because services start and stop side by side."""
    ended = sorted((span.started, span.ended) for span in spans if span.ended is not None)
    if not ended:
        return "nothing was finished"
    waited, reached = 0.0, ended[0][0]
    for started, end in ended:
        waited += max(0.0, end - max(started, reached))
        reached = max(reached, end)
    run = reached - ended[0][0]
    return f"side by side that took {waited:.2f} s of a run of {run:.2f} s; the tests themselves {run - waited:.2f} s"


def _costs(service: str, spans: Sequence[Span]) -> Costs:
    steps: dict[str, float] = {}
    for span in spans:
        steps[span.name] = steps.get(span.name, 0.0) + span.seconds
    return Costs(
        service,
        steps,
        resets=tuple(span.seconds for span in spans if span.name == "reset"),
        servers=sum(span.name == "start" for span in spans),
        failed=sum(span.failed for span in spans if span.name in WHOLE),
    )


def _together(label: str, rows: Sequence[Costs]) -> Costs:
    steps = {step: sum(row.steps.get(step, 0.0) for row in rows) for step in {s for row in rows for s in row.steps}}
    return Costs(label, steps, resets=tuple(length for row in rows for length in row.resets))


def _seconds(step: str) -> Callable[[Costs], str]:
    return lambda row: f"{row.steps[step]:.2f}" if step in row.steps else NOTHING


def _median(row: Costs) -> str:
    return f"{statistics.median(row.resets) * 1000:.1f} ms" if row.resets else NOTHING


NOTHING = "-"

COLUMNS = (
    Column("start", _seconds("start")),
    *(Column(step, _seconds(step)) for step in PARTS),
    Column("lease", _seconds("lease")),
    Column("resets", lambda row: str(len(row.resets)) if row.resets else NOTHING),
    Column("median", _median),
    Column("reset", _seconds("reset")),
    Column("stop", _seconds("stop")),
    Column("sum", lambda row: f"{row.total:.2f}"),
)
