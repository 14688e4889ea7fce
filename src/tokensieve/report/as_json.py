"""Results and examples, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from tokensieve.report.differences import run_differences
from tokensieve.report.verdict import method_verdict, run_verdict
from tokensieve.runs.outcomes import MEASURES
from tokensieve.runs.results import Evaluation, Row
from tokensieve.runs.view import RunView


def results_json(view: RunView) -> dict[str, Any]:
    """Return the results of a run, ready for JSON; None for results that were not measured."""
    found = run_differences(view)
    return {
        "run": str(view.folder),
        "method": view.method,
        "verdict": method_verdict(view, view.method, found).to_json(),
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
    verdict = run_verdict(view).to_json()
    return {"verdict": verdict, "example": number, "row": example.row, "arm": arm, "tokens": tokens}


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
