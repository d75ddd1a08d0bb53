# SPDX-License-Identifier: Apache-2.0
"""What is printed: a table for people, JSON for machines, and what kind of machine it was."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

PACKAGES = (
    "psycopg2-binary",
    "sqlalchemy",
    "redis",
    "kafka-python",
    "pytest",
    "pytest-postgresql",
    "psycopg",
    "testcontainers",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. Times are in the report's unit, `ratio` is to the first of ours in the same cell.

    The first three are the cell, as much of it as the report has headings for.
    """

    service: str
    size: int | str
    dirty: int | str
    strategy: str
    ours: bool
    count: int
    median: float
    p90: float
    ratio: float

    @property
    def cell(self) -> tuple[str, int | str, int | str]:
        return self.service, self.size, self.dirty


@dataclass(frozen=True, slots=True)
class Target:
    """Something that was promised. `measured` and `limit` are in `unit`; `None` where this run did not measure it."""

    text: str
    limit: float
    unit: str
    measured: float | None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if met else "missed"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one benchmark."""

    benchmark: str
    arguments: Sequence[str]
    machine: dict[str, Any]
    rows: Sequence[Row]
    targets: Sequence[Target]
    notes: Sequence[str] = ()
    headings: Sequence[str] = ("service", "size", "dirty")
    unit: str = "ms"

    def as_json(self) -> str:
        targets = [{**asdict(target), "verdict": target.verdict} for target in self.targets]
        found = {
            "benchmark": self.benchmark,
            "arguments": list(self.arguments),
            "machine": self.machine,
            "unit": self.unit,
            "rows": [self._named(row) for row in self.rows],
            "targets": targets,
            "notes": list(self.notes),
        }
        return json.dumps(found, indent=2)

    def _named(self, row: Row) -> dict[str, Any]:
        """The row's values, those of its cell by this report's headings."""
        values = asdict(row)
        for name in ("service", "size", "dirty"):
            del values[name]
        return {**dict(zip(self.headings, row.cell, strict=False)), **values}


def machine(engine: str, servers: Iterable[str]) -> dict[str, Any]:
    """Facts that figures depend on. Nothing that names the machine."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "engine": engine,
        "servers": list(servers),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def show(report: Report) -> None:
    """Print the tables on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=max(110, shutil.get_terminal_size().columns))
    facts = report.machine
    console.print(
        f"\n{report.benchmark}: {facts['cores']} cores ({facts['cpu']}), {facts['memory_gb']} GB, Python "
        f"{facts['python']}, {facts['engine']} engine, {', '.join(facts['servers'])}",
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    columns = zip(*(row.cell for row in report.rows), strict=True)
    for heading, cells in zip(report.headings, columns, strict=False):
        justify: Literal["left", "right"] = "left" if isinstance(cells[0], str) else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    for heading in ("n", f"median {report.unit}", f"p90 {report.unit}", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    before: tuple[int | str, ...] | None = None
    for row in report.rows:
        cell = row.cell[: len(report.headings)]
        if before not in (None, cell):
            table.add_row()
        place = ["" if cell == before else str(part) for part in cell]
        style = "bold" if row.ours else ""
        name = f"itest {row.strategy}" if row.ours else row.strategy
        figures = (str(row.count), f"{row.median:.2f}", f"{row.p90:.2f}", f"{row.ratio:.1f}")
        table.add_row(*place, name, *figures, style=style)
        before = cell
    console.print(table)
    console.print()
    for target in report.targets:
        measured = "" if target.measured is None else f"; measured {target.measured:.2f}"
        word = "at least" if target.at_least else "at most"
        console.print(
            f"{target.verdict:12} {target.text} {word} {target.limit:g} {target.unit}{measured}",
            markup=False,
            soft_wrap=True,
        )
    for note in report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or sys.platform
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
