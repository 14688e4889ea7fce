"""The data that the page's script reads about the complete data set: arms, counts by level, scales, the index."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import Threshold, TopCount
from tokensieve.report.analysis.groups import CLASSES, POSITIONS, source_names
from tokensieve.report.analysis.summary import Index, Summary
from tokensieve.report.analysis.sweep import Levels, ratio_parameter, rule_with_share
from tokensieve.report.causes import causes
from tokensieve.report.heatmap import percentile_scale
from tokensieve.report.html.pack import marked_text
from tokensieve.report.terms import TERMS
from tokensieve.report.verdict import Finding
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.outcomes import MEASURES
from tokensieve.runs.results import Estimate, Row
from tokensieve.runs.view import RunView
from tokensieve.select.selection import Selection, SelectionIdentity

_LOSSES = 400  # points of a loss curve
_TYPICAL = (12, 160)  # trainable tokens of an example that is read at a glance


def payload(
    view: RunView,
    levels: Mapping[str, Levels],
    summary: Summary,
    numbers: Int64,
    blocks: Sequence[int],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return the payload; numbers that are not finite are null in it.

    Args:
        view: the run.
        levels: the sweep and token levels of each arm.
        summary: counts of the complete data set.
        numbers: int64 ``[examples]``, the examples that the page can show.
        blocks: number of examples in each block.
        findings: what the verdict is made of.
    """
    index = summary.index.take(numbers)
    statistics = [name for name in summary.edges if not name.startswith("score:")]
    scales = {name: percentile_scale(*ends) for name, ends in summary.percentiles.items()}
    return {
        "method": view.method,
        "arms": [_arm(view, arm, levels[arm], statistics) for arm in view.arms],
        "statistics": statistics,
        "scales": {name: {"low": s.low, "high": s.high, "signed": s.signed} for name, s in scales.items()},
        "ranges": {
            name: {"low": low, "high": high, "least": least, "most": most}
            for name, (low, high) in summary.percentiles.items()
            for least, most in [summary.extremes[name]]
        },
        "sources": source_names(view.store.sources) or ["all"],
        "positions": POSITIONS,
        "classes": CLASSES,
        "markTypes": list(view.store.mark_types),
        "tables": {
            "source": _lists(summary.sources),
            "position": _lists(summary.positions),
            "class": _lists(summary.classes),
            "token": _lists(summary.tokens),
        },
        "tokens": [{"text": _token_name(view, one), "id": one} for one in summary.token_ids.tolist()],
        "histograms": {
            arm: {name: table.tolist() for (owner, name), table in summary.histograms.items() if owner == arm}
            for arm in view.arms
        },
        "edges": _lists(summary.edges),
        "joint": [[*pair, table.tolist()] for pair, table in summary.joint.items()],
        "points": {
            "values": {name: _finite(summary.points[name]) for name in statistics},
            "levels": {arm: summary.points[f"level:{arm}"].tolist() for arm in view.arms},
            "examples": summary.points["example"].tolist(),
            "tokens": summary.points["token"].tolist(),
        },
        "index": {
            "numbers": numbers.tolist(),
            "rows": index.rows.tolist(),
            "sources": index.sources.tolist(),
            "tokens": index.tokens.tolist(),
            "trainable": index.trainable.tolist(),
            "kept": _lists(index.kept),
            "scores": {arm: _finite(means, digits=5) for arm, means in index.scores.items()},
            "disputed": index.disputed.tolist(),
        },
        "examples": len(summary.index.rows),
        "blocks": list(blocks),
        "metrics": _metrics(view.rows),
        "terms": TERMS,
        "findings": [dataclasses.asdict(one) for one in findings],
        "typical": typical(summary.index, index, view.method),
    }


def _token_name(view: RunView, token_id: int) -> str:
    decoder = view.decoder
    return "⟨bytes⟩" if decoder.is_fragment(token_id) else marked_text(decoder.name(token_id))


def typical(every: Index, index: Index, arm: str) -> int | None:
    """Return the place of a short example that is like those that most dropped tokens are of; None without any.

    It is the nearest, in kept share and mean score, to the medians over all dropped tokens of what their examples have:
    where a few examples lose nearly all that is dropped, it is one of these, not one of the many that lose little.

    Args:
        every: all examples.
        index: those to pick from.
        arm: the arm whose dropped tokens count.
    """
    kept, trainable = index.kept[arm], index.trainable
    if not len(trainable):
        return None
    dropped, looks = every.trainable - every.kept[arm], _looks(every, arm)
    middle = np.array([_weighted_median(row, dropped) for row in looks])
    spread = looks.std(axis=1)
    off = (np.abs(_looks(index, arm).T - middle) / np.where(spread > 0, spread, 1)).sum(axis=1)
    mixed = (kept > 0) & (kept < trainable)
    fits = mixed & (trainable >= _TYPICAL[0]) & (trainable <= _TYPICAL[1])
    return int(np.lexsort((trainable, off, ~mixed, ~fits))[0])


def _looks(index: Index, arm: str) -> NDArray[np.float64]:
    """Return float64 ``[2, examples]``: the kept share and the mean score, 0 where nothing is trainable."""
    return np.stack([index.kept[arm] / np.maximum(index.trainable, 1), np.nan_to_num(index.scores[arm])])


def _weighted_median(values: NDArray[np.float64], weights: Int64) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _arm(view: RunView, arm: str, levels: Levels, statistics: Sequence[str]) -> dict[str, Any]:
    selection = view.row(arm).selection
    assert selection is not None
    sweep = levels.sweep
    return {
        "name": arm,
        "sweep": {
            "parameter": sweep.parameter,
            "values": _finite(sweep.values),
            "own": sweep.own,
            "thresholds": _finite(sweep.thresholds),
        },
        "note": _note(selection, sweep.note),
        "scope": getattr(selection.rule, "scope", "dataset"),
        "keepTurnEnd": selection.identity.keep_turn_end,
        "reasons": list(selection.reasons),
        "causes": causes(selection, statistics),
        "count": selection.rule.tokens if isinstance(selection.rule, TopCount) else None,
        "parts": sorted(view.parts(arm, 0)) if view.store.shards else [],
        "recipe": recipe_of(selection),
        "ratio": ratio_parameter(selection),
        "imported": selection.imported,
        "losses": _losses(view.folders[arm]),
        "seeds": len(view.row(arm).seeds),
    }


def _note(selection: Selection, note: str) -> str:
    if selection.online:
        shown = "This method selects while it trains. The page shows what it would select before the first step."
        return f"{shown} Slider disabled: {note}." if note else shown
    return f"Slider disabled: {note}." if note else ""


def recipe_of(selection: Selection) -> dict[str, Any] | None:
    """Return the recipe's ``method``: its name, and the parameters that differ from the method's defaults.

    None if no recipe can produce the arm: an imported arm, or a control with a rule that its method does not have.
    """
    if selection.imported:
        return None
    try:
        method = get_method(selection.method)
        rule = get_method(selection.method, **selection.parameters).rule
    except TokensieveError:
        return {"name": selection.method, **selection.parameters}
    own = {"name": type(rule).__name__, **dataclasses.asdict(rule)}
    parameters = dict(selection.parameters)
    stored = SelectionIdentity.rule_fields(rule_with_share(selection))
    given = {name: value for name, value in stored.items() if own.get(name) != value}
    if given and not isinstance(selection.rule, Threshold):
        if not given.keys() <= parameters.keys():
            return None
        parameters |= given

    def differs(name: str, value: Any) -> bool:
        default = getattr(method, name, None)
        return value != (list(default) if isinstance(default, tuple) else default)

    return {"name": selection.method, **{name: value for name, value in parameters.items() if differs(name, value)}}


def _losses(arm: ArmFolder) -> list[tuple[int, float]]:
    """Return the loss curve of an arm, thinned evenly if it is long."""
    log = arm.training_record().get("log", [])
    points = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry and "step" in entry]
    points = [(step, loss) for step, loss in points if math.isfinite(loss)]
    places = np.unique(np.linspace(0, len(points) - 1, _LOSSES).astype(int)) if len(points) > _LOSSES else []
    return [points[place] for place in places] if len(places) else points


def _metrics(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the metrics to chart: those that at least two arms have."""
    kinds: list[tuple[str, str, Callable[[Row], Estimate | None]]] = [
        (
            f"{measure.title[0].upper()}{measure.title[1:]} of each arm",
            "share" if measure.unit == "share" else "figure",
            lambda row, name=name: row.evaluation.results.get(name),
        )
        for name, measure in MEASURES.items()
    ]
    tasks = dict.fromkeys(key for row in rows for key in row.evaluation.tasks)
    kinds += [(" ".join(key), "figure", lambda row, key=key: row.evaluation.tasks.get(key)) for key in tasks]
    metrics = []
    for title, kind, take in kinds:
        found = [(row.name, take(row)) for row in rows if row.selection is not None]
        shown = [{"name": name, "value": e.value, "low": e.low, "high": e.high} for name, e in found if e is not None]
        if len(shown) > 1:
            metrics.append({"title": title, "kind": kind, "rows": shown})
    return metrics


def _lists(arrays: Mapping[str, NDArray]) -> dict[str, list]:
    return {name: values.tolist() for name, values in arrays.items()}


def _finite(values: Sequence[float] | NDArray, digits: int = 9) -> list[float | None]:
    """Return plain numbers, of 9 digits with float32 precision; a number that is not finite becomes null."""
    found = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(found)
    size = np.where(finite & (found != 0), np.abs(found), 1.0)
    places = digits - 1 - np.floor(np.log10(size)).astype(np.int64)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)  # a power of ten is exact, a part is not
    rounded = np.round(np.where(finite, found, 0.0) * up / down) / up * down
    return [value if known else None for value, known in zip(rounded.tolist(), finite.tolist(), strict=True)]
