"""The results of a run as tables of text, for the page, notebooks and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokensieve.report.cells import Cell, Column, ResultTable, figure_cell, in_unit, number, percent
from tokensieve.report.difference_table import (
    difference_cell,
    difference_columns,
    difference_table,
    differences_in_words,
    differing,
    never_differ_in_words,
)
from tokensieve.report.differences import ControlDifferences
from tokensieve.report.mark_table import mark_table, rare_types_in_words
from tokensieve.report.recovered import recovered_in_words
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.results import POINTS_OF_REFERENCE, Row
from tokensieve.runs.view import RunView

BELOW_RESULTS = "below each result: its 95 % interval, or the token counts of a share"
DIFFERENCES, MARKS = "differences from the controls", "AUROC by word, and tokens removed, by type of mark"
"""Headings of the tables that belong to the results."""


def result_table(view: RunView, found: ControlDifferences) -> ResultTable:
    """Lay out the results of a run, with the differences from its controls.

    Columns without any result are left out. Differences in one measure are columns; those in several are a table of
    their own, with a row for each arm and control. Measures in which no arm differs in any example are named in a
    footnote instead.

    Args:
        view: the run.
        found: the differences of its arms from their controls (`run_differences`).
    """
    notes = tuple(POINTS_OF_REFERENCE[row.name] if row.selection is None else "" for row in view.rows)
    shares = tuple(row.selection.share_reason if row.selection is not None else "" for row in view.rows)
    controls = {"random": found.random, "full": found.full}
    every = [*found.random, *found.full]
    measures = differing(every)
    names = tuple(row.name for row in view.rows)
    further = {
        DIFFERENCES: difference_table(every, difference_cell) if len(measures) > 1 else None,
        MARKS: mark_table(view.rows),
    }
    footnotes = (
        seeds_in_words(view.rows),
        differences_in_words(every),
        never_differ_in_words(every),
        recovered_in_words(view),
        rare_types_in_words(view.rows),
        BELOW_RESULTS,
    )
    return ResultTable(
        names,
        notes,
        (*result_columns(view.rows), *(difference_columns(measures[0], names, controls) if len(measures) == 1 else ())),
        shares,
        tuple(filter(None, footnotes)),
        {heading: table for heading, table in further.items() if table is not None},
    )


def result_columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns that have a result in any row."""
    columns = [_column(rows, "tokens kept", kept_cell)]
    for name, measure in MEASURES.items():

        def result(row: Row, name: str = name, measure: Measure = measure) -> Cell:
            return figure_cell(row.evaluation.results.get(name), in_unit(measure))

        columns.append(_column(rows, measure.title, result))
    columns.append(
        _column(rows, "perplexity", lambda row: figure_cell(row.evaluation.perplexity, number), derived=True)
    )
    for key in dict.fromkeys(key for row in rows for key in row.evaluation.tasks):
        columns.append(
            _column(rows, " ".join(key), lambda row, key=key: figure_cell(row.evaluation.tasks.get(key), number))
        )
    columns += [
        _column(rows, "marked tokens removed", _marked_removed),
        _column(rows, "unmarked tokens removed", _unmarked_removed),
        _column(rows, "AUROC by word", _auroc),
    ]
    return tuple(column for column in columns if any(cell.text for cell in column.cells))


def seeds_in_words(rows: Sequence[Row]) -> str:
    """Return what the results of rows with several seeds are; empty where there are none."""
    names: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        if len(row.seeds) > 1:
            names.setdefault(tuple(row.seeds), []).append(row.name)
    return "; ".join(
        f"{', '.join(dict.fromkeys(arms))}: means over seeds {', '.join(map(str, seeds))}, with 95 % t intervals over "
        "the seeds"
        for seeds, arms in names.items()
    )


def _column(rows: Sequence[Row], title: str, cell: Callable[[Row], Cell], derived: bool = False) -> Column:
    return Column(title, tuple(cell(row) for row in rows), derived)


def kept_cell(row: Row) -> Cell:
    """Return how many tokens an arm keeps."""
    found = row.selection
    if found is None:
        return Cell()
    # Online arms count over all training steps, so the total is shown to make them comparable with other arms.
    offered = f" of {found.trainable:,}" if found.online else ""
    return Cell(percent(found.share), f"{found.kept:,}{offered}")


def _marked_removed(row: Row) -> Cell:
    return _removed(row, "removed", "marked")


def _unmarked_removed(row: Row) -> Cell:
    return _removed(row, "unmarked_removed", "unmarked")


def _removed(row: Row, dropped: str, total: str) -> Cell:
    found = row.selection.marks if row.selection else None
    if not found or not found[total]:
        return Cell()
    return Cell(percent(found[dropped] / found[total]), f"{found[dropped]:,} of {found[total]:,}")


def _auroc(row: Row) -> Cell:
    found = row.selection.marks if row.selection else None
    return Cell() if not found or found["auroc"] is None else Cell(f"{found['auroc']:.2f}")
