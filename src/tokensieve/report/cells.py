"""Results as text: cells, columns, tables, and how figures are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokensieve.runs.outcomes import Measure
from tokensieve.runs.results import Estimate


@dataclass(frozen=True)
class Cell:
    """One result as text; empty if there is none.

    Attributes:
        text: the result.
        note: its 95 % interval, or the count behind a share; empty if there is none.
    """

    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One metric.

    Attributes:
        title: name of the metric.
        cells: one per row.
        derived: whether it follows from another column; the terminal leaves it out where it takes a table's width.
    """

    title: str
    cells: tuple[Cell, ...]
    derived: bool = False


@dataclass(frozen=True)
class ResultTable:
    """The results of a run.

    Attributes:
        names: names of the rows: controls, method, base, reference.
        notes: a description of each row; empty for arms.
        columns: the columns that have a result.
        shares: how many tokens each arm keeps, and why; empty for rows that are not arms.
        footnotes: what the results and their differences are over.
        further: smaller tables that belong to it, by their headings.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    shares: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    further: Mapping[str, ResultTable] = field(default_factory=dict)


def spelled(value: Any) -> str:
    """Return a setting as text, lists and mappings without brackets and without Python's words.

    >>> spelled(None), spelled([]), spelled([1, 2]), spelled(True), spelled({"name": "profit"})
    ('unset', 'unset', '1, 2', 'true', 'name: profit')
    """
    if value is None or value == []:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name}: {spelled(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def number(value: float) -> str:
    """Return a number with three decimals, or one decimal if it is large."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def in_unit(measure: Measure) -> Callable[[float], str]:
    """Return what formats a result of a measure."""
    return percent if measure.unit == "share" else number


def plain_value(value: float) -> str:
    """Return a value of a heat map: four significant digits, with a typographic minus."""
    return f"{value:.4g}".replace("-", "\u2212")


def signed(value: float, measure: Measure) -> str:
    """Return a difference with its sign, of shares in percentage points."""
    text = f"{100 * value:+.1f}" if measure.unit == "share" else f"{value:+.3f}"
    return text.replace("-", "\u2212")


def figure_cell(figure: Estimate | None, text: Callable[[float], str]) -> Cell:
    """Return a result with its interval, both formatted by ``text``."""
    if figure is None:
        return Cell()
    if figure.low is None or figure.high is None:
        return Cell(text(figure.value))
    return Cell(text(figure.value), f"{text(figure.low).removesuffix(' %')} to {text(figure.high)}")


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(0.01), duration(0.4), duration(42), duration(600), duration(9000)
    ('<0.1 s', '0.4 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 0.1:
        return "<0.1 s"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def in_bytes(count: int) -> str:
    """Return a number of bytes in the unit that suits it.

    >>> in_bytes(1234), in_bytes(56_789_000), in_bytes(80_000_000_000)
    ('1.2 kB', '57 MB', '80 GB')
    """
    unit, size = next((one for one in _UNITS if count >= one[1]), _UNITS[-1])
    value = count / size
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
