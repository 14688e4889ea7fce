"""The console for the output, and tables of results on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokensieve.report.cells import Column, ResultTable
from tokensieve.report.terminal.tokens import harmless, print_line

_NAME_WIDTH = 20
_PADDING = 2
_UNBROKEN = 2**20  # columns: wider than any line that is printed


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit with 1, the code for errors found by `inspect`


def output_console() -> Console:
    """Return the console for stdout; a closed pipe raises `BrokenPipeError`.

    Text that goes to a pipe or a file is not wrapped, unless ``COLUMNS`` sets a width.
    """
    wraps = sys.stdout.isatty() or "COLUMNS" in os.environ
    return _Output() if wraps else _Output(width=_UNBROKEN)


def print_answer(table: ResultTable, lines: Iterable[str]) -> None:
    """Print a table to the output, and below it the lines that say what it means."""
    console = output_console()
    print_table(table, console)
    console.print()
    for line in lines:
        print_line(console, line)


def print_footnotes(footnotes: Sequence[str], console: Console) -> None:
    """Print what the results of a table are; empty ones are left out."""
    for text in filter(None, footnotes):
        console.print()
        print_line(console, text)


def print_table(table: ResultTable, console: Console, name_width: int = _NAME_WIDTH) -> None:
    """Print a table in parts that fit the terminal.

    Where it takes more than one part, derived columns are left out, and a line below the table names them.

    Args:
        table: what to print.
        console: where to print.
        name_width: maximum width of the names, in columns, where the other columns need the room; longer names are
            folded.
    """
    names = [cell_len(part) for lines in zip(table.names, table.notes, strict=True) for part in _name_lines(*lines)]
    longest = max(names)
    least = min(name_width, console.width // 2, longest)
    columns, left_out = list(table.columns), list[Column]()
    if least + _width(columns) > console.width:
        left_out = [column for column in columns if column.derived]
        columns = [column for column in columns if not column.derived]
    name_width = min(longest, max(least, console.width - _width(columns)))
    for number, part in enumerate(_parts(columns, console.width - name_width)):
        if number:
            console.print()
        console.print(_table(table, part, name_width))
    if left_out:
        titles = ", ".join(one.title for one in left_out)
        print_line(console, f"the terminal is too narrow to show: {titles} (--json has it)")


def _parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """Return the columns in parts that are no wider than the room; a part has one column at least."""
    parts: list[list[Column]] = [[]]
    for column in columns:
        if parts[-1] and _width([*parts[-1], column]) > room:
            parts.append([])
        parts[-1].append(column)
    return parts


def _width(columns: Iterable[Column]) -> int:
    """Return the width of columns, each with the space before it."""
    return sum(_PADDING + _column_width(column) for column in columns)


def _column_width(column: Column) -> int:
    cells = [part for cell in column.cells for part in (cell.text, cell.note)]
    return max(*map(cell_len, cells), *map(cell_len, column.title.split()))


def _name_lines(name: str, note: str) -> list[str]:
    return [harmless(name), *([f"  {note}"] if note else [])]


def _table(results: ResultTable, columns: Sequence[Column], name_width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _PADDING, 0, 0), header_style="", show_edge=False)
    names = [_name_lines(*lines) for lines in zip(results.names, results.notes, strict=True)]
    table.add_column("", width=name_width, overflow="fold")
    for column in columns:
        table.add_column(Text(harmless(column.title)), justify="right", width=_column_width(column), overflow="fold")
    for index, lines in enumerate(names):
        cells = (column.cells[index] for column in columns)
        figures = (Text("\n".join(filter(None, (cell.text or "-", cell.note)))) for cell in cells)
        table.add_row(Text("\n".join(lines)), *figures)
    return table
