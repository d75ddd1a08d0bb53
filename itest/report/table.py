# SPDX-License-Identifier: Apache-2.0
"""The one look of all tables: plain columns under their headings, and no colours in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from itest.errors import MissingPackage
from itest.packages import stranger

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
"""Columns of what is printed where there is no terminal that has a width."""

BETWEEN = 2
"""Blanks between two columns of a table."""


def plain_table(*, show_footer: bool = False) -> Table:
    """An empty table. Raises MissingPackage."""
    _need_rich()
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, show_footer=show_footer, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def plain_console(stream: TextIO, width: int = WIDTH) -> Console:
    """What prints a table on a stream; `width` counts where that is no terminal. Raises MissingPackage."""
    _need_rich()
    from rich.console import Console

    class Raising(Console):
        """Leaves it to its caller what a reader that has left means; rich would end the process with 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    terminal = stream.isatty()
    return Raising(
        file=stream,
        force_terminal=terminal,  # No colours into files, even where FORCE_COLOR would ask rich for them: CI sets it.
        width=None if terminal else width,
        highlight=False,
        markup=False,  # Names are shown as they are, be there brackets or colons in them.
        emoji=False,
    )


def print_table(table: Table, console: Console) -> None:
    """Print it as wide as it is. In a narrower terminal its lines go on in the next one: rich would take away whole columns."""
    width = console.width
    console.width = max(width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
    console.width = width


def _need_rich() -> None:
    """Raise MissingPackage where Python finds something else by that name; that it is missing, Python says as well."""
    if other := stranger("rich"):
        raise MissingPackage("rich", "", "a table", other)
