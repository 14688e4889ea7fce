"""The table of results as text, for the page and the terminal alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokensieve.report.results import POINTS_OF_REFERENCE, Estimate, Row
from tokensieve.report.view import RunView


@dataclass(frozen=True)
class Cell:
    """One figure as text; empty where there is none.

    Attributes:
        text: the figure.
        note: its 95 % interval, or the count behind a share; empty where there is none.
    """

    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One kind of figure.

    Attributes:
        title: what it is.
        cells: one a row.
        derived: whether it follows from another column, so that a narrow table can do without.
    """

    title: str
    cells: tuple[Cell, ...]
    derived: bool = False


@dataclass(frozen=True)
class ResultTable:
    """The results of a run.

    Attributes:
        names: of the rows: controls, method, points of reference.
        notes: for each row that is no arm what it is; empty for arms.
        columns: those that hold a figure.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]


def result_table(view: RunView) -> ResultTable:
    """Lay out the results of a run; columns without any figure are left out."""
    tasks = dict.fromkeys(key for row in view.rows for key in row.evaluation.tasks)
    columns = [
        _column(view, "tokens kept", _kept),
        _column(view, "held-out loss", lambda row: _figure(row.evaluation.loss, number)),
        _column(view, "perplexity", lambda row: _figure(row.evaluation.perplexity, number), derived=True),
        _column(view, "exact match", lambda row: _figure(row.evaluation.exact_match, percent)),
        *(
            _column(view, " ".join(key), lambda row, key=key: _figure(row.evaluation.tasks.get(key), number))
            for key in tasks
        ),
        _column(view, "planted noise removed", _noise_removed),
        _column(view, "clean tokens lost", _clean_lost),
    ]
    return ResultTable(
        tuple(row.name for row in view.rows),
        tuple(POINTS_OF_REFERENCE[row.name] if row.selection is None else "" for row in view.rows),
        tuple(column for column in columns if any(cell.text for cell in column.cells)),
    )


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def number(value: float) -> str:
    """Return a figure with three decimals, or fewer digits where it is large."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def plain_value(value: float) -> str:
    """Return a value of a heat map: four significant digits, with a typographic minus."""
    return f"{value:.4g}".replace("-", "\u2212")


def _column(view: RunView, title: str, cell: Callable[[Row], Cell], derived: bool = False) -> Column:
    return Column(title, tuple(cell(row) for row in view.rows), derived)


def _figure(figure: Estimate | None, text: Callable[[float], str]) -> Cell:
    if figure is None:
        return Cell()
    if figure.low is None or figure.high is None:
        return Cell(text(figure.value))
    return Cell(text(figure.value), f"{text(figure.low).removesuffix(' %')} to {text(figure.high)}")


def _kept(row: Row) -> Cell:
    return Cell() if row.selection is None else Cell(percent(row.selection.share), f"{row.selection.kept:,}")


def _noise_removed(row: Row) -> Cell:
    if row.noise is None or not row.noise.planted:
        return Cell()
    return Cell(percent(row.noise.removed / row.noise.planted), f"{row.noise.removed:,} of {row.noise.planted:,}")


def _clean_lost(row: Row) -> Cell:
    if row.noise is None or not row.noise.clean:
        return Cell()
    return Cell(
        percent(row.noise.clean_removed / row.noise.clean), f"{row.noise.clean_removed:,} of {row.noise.clean:,}"
    )
