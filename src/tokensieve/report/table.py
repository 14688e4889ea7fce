"""Results as a table of text, for the page and the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tokensieve.evaluate.differences import LEVEL
from tokensieve.report.differences import AdjustedDifference, Difference, run_differences
from tokensieve.report.recovered import recovered_in_words
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.results import POINTS_OF_REFERENCE, Estimate, Evaluation, Row
from tokensieve.runs.view import RunView


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
        derived: whether it follows from another column; narrow tables leave it out.
    """

    title: str
    cells: tuple[Cell, ...]
    derived: bool = False


@dataclass(frozen=True)
class ResultTable:
    """The results of a run.

    Attributes:
        names: names of the rows: controls, method, base, reference.
        notes: a description of each row that is not an arm; empty for arms.
        columns: the columns that have a result.
        shares: how many tokens each arm keeps, and why; empty for rows that are not arms.
        footnotes: what the results and their differences are over.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    shares: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()


def result_table(view: RunView) -> ResultTable:
    """Lay out the results of a run; columns without any result are left out."""
    notes = tuple(POINTS_OF_REFERENCE[row.name] if row.selection is None else "" for row in view.rows)
    shares = tuple(row.selection.share_reason if row.selection is not None else "" for row in view.rows)
    found = run_differences(view)
    controls = {"random": found.random, "full": found.full}
    differences = differences_in_words([*found.random, *found.full])
    footnotes = (seeds_in_words(view.rows), differences, recovered_in_words(view))
    return ResultTable(
        tuple(row.name for row in view.rows),
        notes,
        result_columns(view.rows, controls),
        shares,
        tuple(filter(None, footnotes)),
    )


def result_columns(
    rows: Sequence[Row], controls: Mapping[str, Sequence[Difference]] | None = None
) -> tuple[Column, ...]:
    """Return the columns that have a result in any row.

    Args:
        rows: the results.
        controls: the differences of the rows' arms from each control, by the name of the control.
    """
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
    for name, measure in MEASURES.items():
        for control, differences in (controls or {}).items():
            by_arm = {one.arm: one.measures.get(name) for one in differences}
            cells = tuple(difference_cell(by_arm.get(row.name), measure) for row in rows)
            columns.append(Column(f"{measure.title} minus {control}", cells))
    return tuple(column for column in columns if any(cell.text for cell in column.cells))


def difference_cell(found: AdjustedDifference | None, measure: Measure) -> Cell:
    """Return a difference with its interval; a star follows one whose adjusted p-value is below 5 %."""
    if found is None:
        return Cell()
    cell = figure_cell(Estimate(found.value, found.low, found.high), lambda value: signed(value, measure))
    return Cell(f"{cell.text}*" if found.p_adjusted < LEVEL else cell.text, cell.note)


def signed(value: float, measure: Measure) -> str:
    """Return a difference with its sign, of shares in percentage points."""
    text = f"{100 * value:+.1f}" if measure.unit == "share" else f"{value:+.3f}"
    return text.replace("-", "\u2212")


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


def results_json(view: RunView) -> dict[str, Any]:
    """Return the results of a run, ready for JSON; None for results that were not measured."""
    found = run_differences(view)
    return {
        "run": str(view.folder),
        "method": view.method,
        "results": [row_json(row) for row in view.rows],
        "against_random": [asdict(one) for one in found.random],
        "against_full": [asdict(one) for one in found.full],
        "warnings": list(view.warnings),
    }


def row_json(row: Row) -> dict[str, Any]:
    """Return one line of the results, ready for JSON; ``seeds`` has the results of each where there are several."""
    seeds = {seed: _evaluation_json(one) for seed, one in row.seeds.items()} if len(row.seeds) > 1 else {}
    selection = asdict(row.selection) | {"share": row.selection.share} if row.selection else None
    return {
        "name": row.name,
        "selection": selection,
        **_evaluation_json(row.evaluation),
        **({"seeds": seeds} if seeds else {}),
    }


def _evaluation_json(found: Evaluation) -> dict[str, Any]:
    tasks: dict[str, dict[str, Any]] = {}
    for (task, metric), estimate in found.tasks.items():
        tasks.setdefault(task, {})[metric] = asdict(estimate)
    results = {name: asdict(found.results[name]) if name in found.results else None for name in MEASURES}
    return {**results, "perplexity": found.perplexity and asdict(found.perplexity), "tasks": tasks}


def example_json(view: RunView, number: int, arm: str) -> dict[str, Any]:
    """Return every token of an example with an arm's decisions and all statistics, ready for JSON.

    Where the data has marks, ``mark`` is the type of a token's mark, or None. Statistics of a token that is not
    trainable are meaningless, and are None.

    Args:
        view: the run.
        number: of the example, from 0.
        arm: whose decisions, score and reasons to give.

    Raises:
        TokensieveError: an unknown example or arm.
    """
    example = view.example(number)
    values = {"score": example.value(arm, "score")}
    values |= {name: example.value(arm, name) for name in example.shard.statistics}
    ids, trainable, kept = example.token_ids, example.trainable.tolist(), example.kept(arm).tolist()
    marks = [0] * len(ids) if example.marks is None else example.marks.tolist()
    row = view.row(arm)
    reasons = example.reasons(arm, row.selection.reasons if row.selection else ())
    tokens = [
        {
            "position": at,
            "id": token,
            "text": view.decoder.name(token),
            "trainable": trainable[at],
            "kept": trainable[at] and kept[at],
            **({"mark": view.store.mark_types[marks[at] - 1] if marks[at] else None} if view.store.mark_types else {}),
            **{name: _finite(value[at]) if trainable[at] else None for name, value in values.items()},
            "reasons": reasons[at],
        }
        for at, token in enumerate(ids)
    ]
    return {"example": number, "row": example.row, "arm": arm, "tokens": tokens}


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


def figure_cell(figure: Estimate | None, text: Callable[[float], str]) -> Cell:
    """Return a result with its interval, both formatted by ``text``."""
    if figure is None:
        return Cell()
    if figure.low is None or figure.high is None:
        return Cell(text(figure.value))
    return Cell(text(figure.value), f"{text(figure.low).removesuffix(' %')} to {text(figure.high)}")


def _column(rows: Sequence[Row], title: str, cell: Callable[[Row], Cell], derived: bool = False) -> Column:
    return Column(title, tuple(cell(row) for row in rows), derived)


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None


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
