"""Differences of arms as columns and tables, and what they are over, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tokensieve.evaluate.differences import LEVEL
from tokensieve.report.cells import Cell, Column, ResultTable, figure_cell, signed
from tokensieve.report.differences import AdjustedDifference, Difference
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.results import Estimate


def differing(found: Sequence[Difference]) -> list[str]:
    """Return the names of the measures in which any arm differs in any example and seed, in the order of tables."""
    return [
        name
        for name in MEASURES
        if any(one.value or one.detectable for each in found if (one := each.measures.get(name)) is not None)
    ]


def never_differ_in_words(found: Sequence[Difference]) -> str:
    """Return which measures are left out, since no arm differs in them; empty where there are none."""
    differ = differing(found)
    titles = [
        measure.title
        for name, measure in MEASURES.items()
        if name not in differ and any(name in one.measures for one in found)
    ]
    return f"the same for every arm and its controls, in every example: {', '.join(titles)}" if titles else ""


def difference_columns(
    name: str, arms: Sequence[str], controls: Mapping[str, Sequence[Difference]]
) -> tuple[Column, ...]:
    """Return the differences in one measure as columns, one for each control that any arm is compared with.

    Args:
        name: of the measure.
        arms: the rows of the table.
        controls: the differences of the arms from each control, by the name of the control.
    """
    columns = []
    for control, differences in controls.items():
        by_arm = {one.arm: one.measures.get(name) for one in differences}
        cells = tuple(difference_cell(by_arm.get(arm), MEASURES[name]) for arm in arms)
        columns.append(Column(f"{MEASURES[name].title} minus {control}", cells))
    return tuple(column for column in columns if any(cell.text for cell in column.cells))


def difference_table(
    found: Sequence[Difference], cell: Callable[[AdjustedDifference | None, Measure], Cell]
) -> ResultTable | None:
    """Return differences as a table with a row for each pair of arms, and a column for each measure that differs.

    Args:
        found: the differences.
        cell: writes one of them.

    Returns:
        None where no arm differs in any measure, or there is no difference at all.
    """
    columns = tuple(
        Column(
            f"{measure.title}, {'points' if measure.unit == 'share' else measure.unit}",
            tuple(cell(one.measures.get(name), measure) for one in found),
        )
        for name in differing(found)
        for measure in [MEASURES[name]]
    )
    if not columns:
        return None
    return ResultTable(tuple(one.arm for one in found), tuple(f"minus {one.against}" for one in found), columns)


def difference_cell(found: AdjustedDifference | None, measure: Measure) -> Cell:
    """Return a difference with its interval; a star follows one whose adjusted p-value is below 5 %."""
    if found is None:
        return Cell()
    cell = figure_cell(Estimate(found.value, found.low, found.high), lambda value: signed(value, measure))
    return Cell(f"{cell.text}*" if found.p_adjusted < LEVEL else cell.text, cell.note)


def differences_in_words(found: Sequence[Difference]) -> str:
    """Return what differences are over, and the smallest that could be seen; empty where there are none."""
    parts = []
    for name, measure in MEASURES.items():
        # Results that are the same for every example and seed tell nothing of what could be seen.
        detectable = [one.measures[name].detectable for one in found if name in one.measures]
        if not (detectable := list(filter(None, detectable))):
            continue
        ends = [signed(edge(detectable), measure)[1:] for edge in (min, max)]
        unit = " points" if measure.unit == "share" else ""
        parts.append(f"{measure.title} {' to '.join(dict.fromkeys(ends))}{unit}")
    every = [one for difference in found for one in difference.measures.values()]
    if not every:
        return ""
    over = (
        f"{_counted([one.seeds for one in every], 'seed')} and {_counted([one.examples for one in every], 'example')}"
    )
    return (
        f"differences: paired, with 95 % intervals over {over}; * where p is below 5 % after Holm's adjustment for all "
        f"arms; the smallest that could be seen (5 % level, 80 % power): {'; '.join(parts) or 'unknown'}"
    )


def _counted(found: Sequence[int], what: str) -> str:
    ends = dict.fromkeys((min(found), max(found)))
    return f"{' to '.join(f'{one:,}' for one in ends)} {what}{'' if max(found) == 1 else 's'}"
