"""Rows for people and for programs: a table at a terminal, lines with tabs elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..configs.printable import printable


def show_rows(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
) -> None:
    """Nothing at all where there are no rows; `styles`, one a row, are for a terminal.

    A cell is one line: what would end it, or rule the terminal, is escaped.
    """
    if not rows:
        return
    if not console.is_terminal:
        for row in (columns, *rows):
            print("\t".join(map(on_one_line, row)), file=console.file)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for number, row in enumerate(rows):
        cells = [escape(on_one_line(text)) for text in row]
        table.add_row(*cells, style=styles[number] if styles else "")
    console.print(table)


def on_one_line(text: str) -> str:
    """A text as a cell of a table: line ends and tabs become blanks, other control characters are escaped."""
    return printable(" ".join(text.split()) if any(mark in text for mark in "\n\r\t\v\f") else text)
