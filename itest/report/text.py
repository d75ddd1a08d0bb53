# SPDX-License-Identifier: Apache-2.0
"""Where the time went: small tables on standard error at the end of a run with `ITEST_TIMING=1`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itest.report import costs
from itest.report.costs import Costs, Saving
from itest.report.table import BETWEEN, plain_console, plain_table, print_table
from itest.trace import Span

if TYPE_CHECKING:
    from rich.console import Console

NAME, LEAST_NAME = 42, 20
"""Columns for a class's name, and how many at least in a narrow terminal; of a longer one its end is shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; it is left out where no row has anything in it."""

    heading: str
    cell: Callable[[Costs], str]


def print_timing(spans: Sequence[Span]) -> None:
    """Print the tables on the real standard error, which runners do not capture. Nothing where nothing was started."""
    stream = sys.__stderr__
    services, classes = costs.services(spans), costs.classes(spans)
    if stream is None or stream.closed or not services:
        return
    console = plain_console(stream)
    console.print(f"\nitest: where the time went, in seconds{_inside(services)}")
    _print(console, "service", services, SERVICE_COLUMNS, lambda row, room: row.label)
    if classes:
        _print(console, "class", classes, CLASS_COLUMNS, _class_label)
    console.print(closing_line(spans))
    for line in saving_lines(costs.savings(spans)):
        console.print(line, soft_wrap=True)


def closing_line(spans: Sequence[Span]) -> str:
    """How much of the run's time that was. Less than the sum, because services start and stop side by side."""
    ended = [span for span in spans if span.ended is not None]
    if not ended:
        return "nothing was finished"
    run = max(span.ended or 0.0 for span in ended) - min(span.started for span in ended)
    waited = costs.busy(span for span in ended if span.name in costs.WHOLE + costs.PARTS)
    tests = [span for span in ended if span.name == "test"]
    themselves = costs.busy(tests) if tests else run - waited
    return f"side by side that took {waited:.2f} s of a run of {run:.2f} s; the tests themselves {themselves:.2f} s"


def saving_lines(savings: Sequence[Saving]) -> list[str]:
    """A line for each service that began with a kept state: what that has saved, by how long it took without."""
    lines = []
    for saving in savings:
        if saving.unknown:
            lines.append(
                f"{saving.service}: {saving.took:.2f} s from its kept state; what that saved is not known, as it was not "
                f"measured when that was kept"
            )
            continue
        templates = f" ({saving.templates} template database{'s' * (saving.templates > 1)} included)"
        templates *= bool(saving.templates)
        lines.append(
            f"{saving.service}: {saving.took:.2f} s from its kept state, {saving.cold:.2f} s when there was none"
            f"{templates}: {_saved(saving.seconds)}"
        )
    return lines


def _saved(seconds: float) -> str:
    return f"{seconds:.2f} s saved" if seconds >= 0.005 else "nothing saved"


def _inside(services: Sequence[Costs]) -> str:
    """Which columns are parts of others."""
    steps = {step for row in services for step in row.steps}
    start = [step for step in costs.PARTS if step in steps and step != "migrate"]
    told = [f"in start: {', '.join(start)}"] * bool(start) + ["in lease: migrate"] * ("migrate" in steps)
    return f" ({'; '.join(told)})" if told else ""


def _print(
    console: Console,
    heading: str,
    rows: Sequence[Costs],
    columns: Sequence[Column],
    label: Callable[[Costs, int], str],
) -> None:
    """Print a row each and their sum. `label` is told how many columns of text it has: in a narrow terminal names are cut,
    not numbers."""
    total = costs.together("sum", rows)
    shown = [column for column in columns if any(column.cell(row) != NOTHING for row in rows)]
    widths = [max(len(text) for text in (each.heading, *map(each.cell, (total, *rows)))) for each in shown]
    room = max(LEAST_NAME, min(NAME, console.width - sum(BETWEEN + width for width in widths)))
    table = plain_table(show_footer=True)
    table.add_column(heading, total.name, no_wrap=True)
    for column in shown:
        table.add_column(column.heading, column.cell(total), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(label(row, room), *(column.cell(row) for column in shown))
    print_table(table, console)


def _class_label(row: Costs, room: int) -> str:
    failed = f" ({row.failed} failed)" if row.failed else ""
    room -= len(failed)
    return (row.name if len(row.name) <= room else f"…{row.name[1 - room :]}") + failed


def _seconds(step: str) -> Callable[[Costs], str]:
    return lambda row: f"{row.steps[step]:.2f}" if step in row.steps else NOTHING


def _median(row: Costs) -> str:
    return f"{statistics.median(row.resets) * 1000:.1f} ms" if row.resets else NOTHING


NOTHING = "-"

RESETS = (
    Column("resets", lambda row: str(len(row.resets)) if row.resets else NOTHING),
    Column("median", _median),
    Column("reset", _seconds("reset")),
)

SERVICE_COLUMNS = (
    Column("fetch", _seconds("fetch")),
    Column("start", _seconds("start")),
    *(Column(step, _seconds(step)) for step in costs.PARTS if step != "migrate"),
    Column("lease", _seconds("lease")),
    Column("migrate", _seconds("migrate")),
    *RESETS,
    Column("stop", _seconds("stop")),
    Column("sum", lambda row: f"{row.total:.2f}"),
)

CLASS_COLUMNS = (
    Column("set-up", _seconds("setup")),
    Column("migrate", _seconds("migrate")),
    *RESETS[:2],
    Column("tests", lambda row: str(row.tests) if row.tests else NOTHING),
    Column("in tests", _seconds("test")),
    Column("sum", lambda row: f"{row.total:.2f}"),
)
