"""Rows for people and for programs: a table at a terminal, lines with tabs elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
) -> None:
    """Nothing at all where there are no rows; `styles`, one a row, are for a terminal."""
    if not rows:
        return
    if not console.is_terminal:
        for row in (columns, *rows):
            print("\t".join(row), file=console.file)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for number, row in enumerate(rows):
        table.add_row(*map(escape, row), style=styles[number] if styles else "")
    console.print(table)
