"""A comparison of runs in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from tokensieve.report.analysis.comparison import Agreement, Comparison
from tokensieve.report.cells import Cell, Column, ResultTable, percent, spelled
from tokensieve.report.difference_table import (
    difference_cell,
    difference_table,
    differences_in_words,
    never_differ_in_words,
)
from tokensieve.report.differences import AdjustedDifference, Difference
from tokensieve.report.table import BELOW_RESULTS, result_columns, seeds_in_words
from tokensieve.report.terminal.runs import print_terms, print_verdict
from tokensieve.report.terminal.tables import print_footnotes, print_table
from tokensieve.report.terminal.tokens import print_line
from tokensieve.runs.outcomes import Measure
from tokensieve.runs.results import POINTS_OF_REFERENCE

_PAIR_WIDTH = 38
_MANY = 8  # arms, of which there are 28 pairs


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
    print_footnotes([BELOW_RESULTS, seeds_in_words(rows)], console)
    _print_differences(
        "difference from the random control that keeps as many tokens", found.random_differences, console
    )
    _print_differences("difference from full", found.full_differences, console)
    _print_differences("difference from the method of the first run", found.method_differences, console)
    if found.agreements:
        console.print()
        _print_agreements(found.agreements, console)
    if found.recipes:
        console.print()
        print_line(console, "keys in which the recipes differ")
        for key, values in found.recipes.items():
            told = "; ".join(f"{label} {spelled(value)}" for label, value in zip(found.runs, values, strict=True))
            print_line(console, f"  {key}: {told}")
    for note in found.notes:
        console.print()
        print_line(console, f"note: {note}")
    print_terms([text for verdict in found.verdicts.values() for text in verdict.texts], console)


def _print_agreements(found: Sequence[Agreement], console: Console) -> None:
    """Print how far arms keep the same tokens: a row for each pair of a few arms, a matrix of many."""
    print_line(console, "agreement: tokens that two arms both keep")
    arms = list(dict.fromkeys(arm for one in found for arm in (one.arm, one.other)))
    if len(arms) >= _MANY:
        print_line(console, "  below the diagonal: Jaccard index; above it: what chance would give")
        print_table(_matrix(arms, found), console, _PAIR_WIDTH)
        return
    columns = (
        Column("Jaccard", tuple(Cell(percent(one.jaccard)) for one in found)),
        Column("by chance", tuple(Cell(percent(one.jaccard_by_chance)) for one in found)),
        Column("overlap", tuple(Cell(percent(one.overlap)) for one in found)),
        Column("tokens", tuple(Cell(f"{one.both:,}") for one in found)),
    )
    names = tuple(one.arm for one in found)
    print_table(ResultTable(names, tuple(f"and {one.other}" for one in found), columns), console, _PAIR_WIDTH)


def _matrix(arms: Sequence[str], found: Sequence[Agreement]) -> ResultTable:
    """Return a matrix in which each arm has a number; arms over other examples have no agreement."""
    shown = {(one.other, one.arm): f"{one.jaccard:.2f}" for one in found}
    shown |= {(one.arm, one.other): f"{one.jaccard_by_chance:.2f}" for one in found}
    columns = (
        Column(str(number), tuple(Cell("·" if row == arm else shown.get((row, arm), "")) for row in arms))
        for number, arm in enumerate(arms, 1)
    )
    width = len(str(len(arms)))
    names = tuple(f"{number:{width}} {arm}" for number, arm in enumerate(arms, 1))
    return ResultTable(names, ("",) * len(arms), tuple(columns))


def _print_differences(title: str, found: Sequence[Difference], console: Console) -> None:
    if not found:
        return
    console.print()
    print_line(console, title)
    if table := difference_table(found, _with_p):
        print_table(table, console, _PAIR_WIDTH)
        print_line(console, differences_in_words(found))
    if same := never_differ_in_words(found):
        print_line(console, f"  {same}")
    elif not table:
        print_line(console, "  no results on the same data")


def _with_p(found: AdjustedDifference | None, measure: Measure) -> Cell:
    cell = difference_cell(found, measure)
    return cell if found is None else Cell(cell.text, f"{cell.note}, p {found.p_adjusted:.3f}")
