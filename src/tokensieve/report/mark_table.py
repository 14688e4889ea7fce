"""How well an arm's scores find each type of marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokensieve.report.cells import Cell, Column, ResultTable
from tokensieve.runs.results import Row

_MOST = 10


def mark_table(rows: Sequence[Row]) -> ResultTable | None:
    """Return the AUROC by word of each type of marks, with the tokens that were removed: a row for each arm.

    The most frequent types are its columns.

    Returns:
        None where the data has fewer than two types, or no arm has scores that tell words apart.
    """
    marks = _by_arm(rows)
    types = _types(marks)[:_MOST]
    if len(types) < 2:
        return None
    columns = (Column(name, tuple(_cell(found.get(name)) for found in marks.values())) for name in types)
    return ResultTable(tuple(marks), ("",) * len(marks), tuple(columns))


def rare_types_in_words(rows: Sequence[Row]) -> str:
    """Return how many types of marks `mark_table` leaves out; empty where it has them all."""
    more = len(_types(_by_arm(rows))) - _MOST
    return f"{more} more types of marks, which are rarer: --json has them" if more > 0 else ""


def _by_arm(rows: Sequence[Row]) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Return what became of each type of marks, by arm and type, of arms whose scores tell words apart."""
    found = {row.name: (row.selection.marks or {}) for row in rows if row.selection is not None}
    return {arm: marks["types"] for arm, marks in found.items() if marks.get("auroc") is not None and "types" in marks}


def _types(marks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return the types, the most frequent first."""
    counts: dict[str, int] = {}
    for found in marks.values():
        counts.update({name: one["marked"] for name, one in found.items()})
    return sorted(counts, key=lambda name: -counts[name])


def _cell(found: Mapping[str, Any] | None) -> Cell:
    if found is None or found["auroc"] is None:
        return Cell()
    return Cell(f"{found['auroc']:.2f}", f"{found['removed']:,} of {found['marked']:,}")
