"""Several runs side by side: results of their arms, differences, and how far they keep the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.places import told
from tokensieve.report.as_json import row_json
from tokensieve.report.differences import ComparedRow, Difference, control_differences, differences
from tokensieve.report.verdict import Verdict, method_verdict
from tokensieve.runs.outcomes import MEASURES
from tokensieve.runs.view import RunView, load_run
from tokensieve.select.streaming import read_kept


@dataclass(frozen=True)
class Agreement:
    """How far two arms over the same examples keep the same tokens.

    Attributes:
        arm: the first arm.
        other: the second arm.
        both: number of tokens that both keep.
        jaccard: ``both``, divided by the tokens that at least one keeps.
        jaccard_by_chance: approximate value for two random selections of the same sizes.
        overlap: ``both``, divided by the tokens of the arm that keeps fewer (overlap coefficient).
    """

    arm: str
    other: str
    both: int
    jaccard: float
    jaccard_by_chance: float
    overlap: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several runs side by side.

    Attributes:
        runs: folder of each run, by its label.
        verdicts: whether the method of each run pays, by the label of the run.
        rows: every arm; then base and reference, once if runs share them.
        random_differences: arms against the random control that keeps as many tokens.
        full_differences: arms against full training.
        method_differences: the methods of the later runs against that of the first.
        agreements: of each pair of arms that have the same examples and drop tokens.
        recipes: values of each recipe key that differs between runs, in the order of the runs.
        notes: limits of the comparison.
    """

    runs: Mapping[str, Path]
    verdicts: Mapping[str, Verdict]
    rows: Sequence[ComparedRow]
    random_differences: Sequence[Difference]
    full_differences: Sequence[Difference]
    method_differences: Sequence[Difference]
    agreements: Sequence[Agreement]
    recipes: Mapping[str, Sequence[Any]]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "runs": {label: str(folder) for label, folder in self.runs.items()},
            "verdicts": {label: verdict.to_json() for label, verdict in self.verdicts.items()},
            "results": [{"run": one.run, **row_json(one.row)} for one in self.rows],
            "against_random": [asdict(one) for one in self.random_differences],
            "against_full": [asdict(one) for one in self.full_differences],
            "against_first_method": [asdict(one) for one in self.method_differences],
            "agreement": [asdict(one) for one in self.agreements],
            "recipes": {key: dict(zip(self.runs, values, strict=True)) for key, values in self.recipes.items()},
            "notes": list(self.notes),
        }


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Compare the arms of one or more runs.

    Raises:
        TokensieveError: there is no run, a run is given twice, or a folder is not a run folder.
    """
    if not folders:
        raise TokensieveError("no run to compare", hint="tokensieve compare runs/a runs/b")
    views = {label: load_run(folder) for label, folder in _labels(folders).items()}
    rows = [ComparedRow(label, row, view) for label, view in views.items() for row in view.rows]
    arms = [one for one in rows if one.row.selection is not None]
    methods = [next(one for one in arms if one.view is view and one.row.name == view.method) for view in views.values()]
    against = control_differences(arms)
    return Comparison(
        {label: view.folder for label, view in views.items()},
        {one.run: method_verdict(one.view, one.name, against) for one in methods},
        [*arms, *_points_of_reference(rows)],
        against.random,
        against.full,
        differences([(one, methods[0]) for one in methods[1:]]),
        list(_agreements(arms)),
        _recipe_differences(views),
        list(_notes(views, arms)),
    )


def _labels(folders: Sequence[Path]) -> dict[str, Path]:
    """Return a short name for each folder: its own name, or the full path if the name is not unique."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise TokensieveError(
            "the same run is given twice", where=", ".join(map(str, folders)), hint="name each run once"
        )
    names = [folder.resolve().name for folder in folders]
    return {
        name if names.count(name) == 1 else told(folder): folder for name, folder in zip(names, folders, strict=True)
    }


def _points_of_reference(rows: Sequence[ComparedRow]) -> Iterator[ComparedRow]:
    seen = []
    for one in rows:
        figures = (one.row.name, one.row.evaluation)
        if one.row.selection is None and figures not in seen:
            seen.append(figures)
            yield one


def _agreements(arms: Sequence[ComparedRow]) -> Iterator[Agreement]:
    groups: dict[str, list[ComparedRow]] = {}
    for one in arms:
        if one.share < 1:
            groups.setdefault(one.view.store.fingerprint, []).append(one)
    for group in groups.values():
        both, trainable = _kept_by_both(group)
        for first, second in combinations(range(len(group)), 2):
            shared = int(both[first, second])
            kept = int(both[first, first]), int(both[second, second])
            chance = kept[0] * kept[1] / max(1, trainable)
            yield Agreement(
                group[first].name,
                group[second].name,
                shared,
                shared / max(1, sum(kept) - shared),
                chance / max(1.0, sum(kept) - chance),
                shared / max(1, min(kept)),
            )


def _kept_by_both(arms: Sequence[ComparedRow]) -> tuple[Int64, int]:
    """Return int64 ``[arms, arms]``, the tokens that both keep, and the number of trainable tokens."""
    both = np.zeros((len(arms), len(arms)), dtype=np.int64)
    store = arms[0].view.store
    for number in range(store.shards):
        columns, offsets = [], []
        for one in arms:
            cu_seqlens, kept = read_kept(one.folder.scores, number)
            offsets.append(cu_seqlens)
            columns.append(kept)
        if any(not np.array_equal(offsets[0], other) for other in offsets[1:]):
            raise TokensieveError(
                "the shards of these arms have different examples",
                where=", ".join(str(one.folder.path) for one in arms),
                hint="run `tokensieve select` again with the recipe of each run",
            )
        kept = np.stack(columns).astype(np.float32)  # a product of float matrices is fast, and exact below 2^24
        for start in range(0, kept.shape[1], 2**20):
            part = kept[:, start : start + 2**20]
            both += (part @ part.T).astype(np.int64)
    return both, store.counts.trainable_tokens


def _recipe_differences(views: Mapping[str, RunView]) -> dict[str, list[Any]]:
    flat = [_flat(view.run_folder.recipe(), "") for view in views.values()]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key not in ("output", "store")]
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _flat(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}" if path else key).items()}


def _notes(views: Mapping[str, RunView], arms: Sequence[ComparedRow]) -> Iterator[str]:
    if len({view.store.fingerprint for view in views.values()}) > 1:
        yield "not all runs have the same examples; kept tokens are compared only between runs that do"
    for name, measure in MEASURES.items():
        found = [one.outcomes[name] for one in arms if name in one.outcomes]
        if any(one.identity != found[0].identity for one in found[1:]):
            other_data = "not all arms were evaluated on the same data"
            yield f"{other_data}; those that were not have no difference of {measure.title}"
    online = [one.name for one in arms if one.row.selection is not None and one.row.selection.online]
    if online:
        yield f"{', '.join(online)}: online; agreement uses what the method would select before the first step"
    # An evaluation by a version that stored only the means.
    bare = [one.name for one in arms if one.row.evaluation.loss is not None and "held_out" not in one.outcomes]
    if bare:
        yield f"{', '.join(bare)}: no held_out.jsonl, so no difference; delete evaluation.json and evaluate again"
