"""A comparison of runs in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from tokensieve.report.analysis.comparison import Comparison
from tokensieve.report.cells import Cell, Column, ResultTable, percent, spelled
from tokensieve.report.difference_table import (
    difference_cell,
    differences_in_words,
    differing,
    never_differ_in_words,
)
from tokensieve.report.differences import AdjustedDifference, Difference
from tokensieve.report.table import result_columns, seeds_in_words
from tokensieve.report.terminal.runs import print_footnotes, print_line, print_table, print_verdict
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.results import POINTS_OF_REFERENCE

_PAIR_WIDTH = 38


def print_comparison(found: Comparison, console: Console) -> None:
    """Print verdicts, results, differences, agreements and differing recipe keys, in parts that fit the terminal."""
    for label, verdict in found.verdicts.items():
        print_verdict(verdict, console, label if len(found.verdicts) > 1 else "")
    console.print()
    for label, folder in found.runs.items():
        print_line(console, f"{label}: {folder}")
    console.print()
    rows = [one.row for one in found.rows]
    notes = tuple(POINTS_OF_REFERENCE[one.row.name] if one.row.selection is None else one.run for one in found.rows)
    print_table(ResultTable(tuple(row.name for row in rows), notes, result_columns(rows)), console)
    print_footnotes([seeds_in_words(rows)], console)
    _print_differences(
        "difference from the random control that keeps as many tokens", found.random_differences, console
    )
    _print_differences("difference from full", found.full_differences, console)
    _print_differences("difference from the method of the first run", found.method_differences, console)
    if found.agreements:
        console.print()
        print_line(console, "agreement: tokens that two arms both keep")
        columns = (
            Column("Jaccard", tuple(Cell(percent(one.jaccard)) for one in found.agreements)),
            Column("by chance", tuple(Cell(percent(one.jaccard_by_chance)) for one in found.agreements)),
            Column("overlap", tuple(Cell(percent(one.overlap)) for one in found.agreements)),
            Column("tokens", tuple(Cell(f"{one.both:,}") for one in found.agreements)),
        )
        names = tuple(one.arm for one in found.agreements)
        others = tuple(f"and {one.other}" for one in found.agreements)
        print_table(ResultTable(names, others, columns), console, _PAIR_WIDTH)
    if found.recipes:
        console.print()
        print_line(console, "keys in which the recipes differ")
        for key, values in found.recipes.items():
            told = "; ".join(f"{label} {spelled(value)}" for label, value in zip(found.runs, values, strict=True))
            print_line(console, f"  {key}: {told}")
    for note in found.notes:
        console.print()
        print_line(console, f"note: {note}")


def _print_differences(title: str, found: Sequence[Difference], console: Console) -> None:
    if not found:
        return
    console.print()
    print_line(console, title)
    columns = []
    for name in differing(found):
        measure = MEASURES[name]
        unit = ", points" if measure.unit == "share" else ""
        cells = tuple(_with_p(one.measures.get(name), measure) for one in found)
        columns.append(Column(f"{measure.title}{unit}", cells))
    if columns:
        names = tuple(one.arm for one in found)
        others = tuple(f"minus {one.against}" for one in found)
        print_table(ResultTable(names, others, tuple(columns)), console, _PAIR_WIDTH)
        print_line(console, differences_in_words(found))
    if same := never_differ_in_words(found):
        print_line(console, f"  {same}")
    elif not columns:
        print_line(console, "  no results on the same data")


def _with_p(found: AdjustedDifference | None, measure: Measure) -> Cell:
    cell = difference_cell(found, measure)
    return cell if found is None else Cell(cell.text, f"{cell.note}, p {found.p_adjusted:.3f}")
