"""The table and the answer of a search in the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from tokensieve import yaml12
from tokensieve.report.cells import Cell, Column, ResultTable, number, percent
from tokensieve.report.terminal.tables import print_table
from tokensieve.report.terminal.tokens import print_line
from tokensieve.search.report import SearchReport
from tokensieve.search.search import Entry

_NAME_WIDTH = 30


def print_search(report: SearchReport, console: Console) -> None:
    """Print every training of a search, the answer, its limits, and the lines of a recipe to paste."""
    text = percent if report.unit == "share" else number

    def column(title: str, value: Callable[[Entry], str]) -> Column:
        return Column(title, tuple(Cell(value(entry)) for entry in report.entries))

    columns = (
        column("steps", lambda entry: f"{entry.steps:,}"),
        column("seeds", lambda entry: str(len(entry.seeds))),
        column(report.measure, lambda entry: text(entry.own)),
        column("of full", lambda entry: text(entry.full)),
        column("of random", lambda entry: text(entry.random)),
    )
    names, stages = zip(*((entry.candidate.name, entry.stage) for entry in report.entries), strict=True)
    print_table(ResultTable(names, stages, columns), console, _NAME_WIDTH)
    console.print()
    print_line(console, report.sentence)
    for note in report.notes:
        print_line(console, f"note: {note}")
    console.print()
    for line in yaml12.dump(report.recipe_lines).splitlines():
        console.print(line, markup=False, highlight=False)
