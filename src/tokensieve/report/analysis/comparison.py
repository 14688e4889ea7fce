"""Several runs side by side: results of their arms, differences, and how far they keep the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import bootstrap_ratio
from tokensieve.report.table import row_json
from tokensieve.runs.folder import ArmFolder
from tokensieve.runs.results import Estimate, Evaluation, Row, mean_estimate
from tokensieve.runs.view import RunView, load_run
from tokensieve.select.streaming import read_kept

_SAME_SHARE = 0.001
"""Kept shares that differ by less count as equal: rounding and turn ends cause such differences."""


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One line of one run's results.

    Attributes:
        run: label of the run.
        row: its results.
        view: the run.
    """

    run: str
    row: Row
    view: RunView

    @property
    def name(self) -> str:
        """Run and arm, as one name."""
        return f"{self.run}:{self.row.name}"

    @property
    def folder(self) -> ArmFolder:
        """The arm's folder."""
        return self.view.run_folder.arm(self.row.name)

    @property
    def share(self) -> float:
        """Kept share of the trainable tokens; 1 for base and reference."""
        return self.row.selection.share if self.row.selection else 1.0

    @property
    def first_evaluation(self) -> Evaluation:
        """The figures of the first seed."""
        return next(iter(self.row.seeds.values()), self.row.evaluation)

    @cached_property
    def losses(self) -> Examples | None:
        """Held-out loss by example, of the first seed."""
        data = self.folder.evaluation().get("data", {}).get("held_out")
        return _examples(self.folder, "held_out", "losses", "tokens", ("rows", "tokens"), data)

    @cached_property
    def correct(self) -> Examples | None:
        """Exact matches by question, of the first seed."""
        return _examples(self.folder, "predictions", "correct", None, ("row", "prompt", "answer"))


@dataclass(frozen=True, eq=False)
class Examples:
    """The data behind one evaluation metric.

    Attributes:
        sums: float64 ``[examples]``.
        counts: int64 ``[examples]``, the number of terms in each sum.
        identity: identifies the examples, to check that two arms were evaluated on the same ones.
    """

    sums: NDArray[np.float64]
    counts: Int64
    identity: list[Any]


@dataclass(frozen=True)
class Difference:
    """How much one arm's results differ from another's on the same examples.

    Where both arms have two seeds or more in common, they are means over these, with paired t intervals. Otherwise the
    intervals come from resampling the examples together for both arms (paired bootstrap), and do not include the effect
    of another training seed.

    Attributes:
        arm: the arm.
        against: the arm that is subtracted.
        loss: difference of held-out losses, in nats; None if they cannot be compared.
        exact_match: difference of the exact-match rates; None if they cannot be compared.
        seeds: what the means are over; empty where the intervals are over examples.
    """

    arm: str
    against: str
    loss: Estimate | None
    exact_match: Estimate | None
    seeds: tuple[int, ...] = ()


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
        rows: every arm; then base and reference, once if runs share them.
        random_differences: arms against the random control that keeps as many tokens.
        full_differences: arms against full training, where they share seeds.
        method_differences: the methods of the later runs against that of the first.
        agreements: of each pair of arms that have the same examples and drop tokens.
        recipes: values of each recipe key that differs between runs, in the order of the runs.
        notes: limits of the comparison.
    """

    runs: Mapping[str, Path]
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
    full = [one for one in arms if _is(one, "full")]
    against_random = ((one, _control(one, _as_large(one, arms))) for one in arms if not _is(one, "random"))
    against_full = ((one, _control(one, full)) for one in arms if one not in full)
    return Comparison(
        {label: view.folder for label, view in views.items()},
        [*arms, *_points_of_reference(rows)],
        [difference(one, control) for one, control in against_random if control is not None],
        [found for one, control in against_full if control is not None and (found := difference(one, control)).seeds],
        [difference(one, methods[0]) for one in methods[1:]],
        list(_agreements(arms)),
        _recipe_differences(views),
        list(_notes(views, arms)),
    )


def difference(arm: ComparedRow, against: ComparedRow) -> Difference:
    """Return how an arm's results differ from another's."""
    first, second = arm.row.seeds, against.row.seeds
    common = tuple(seed for seed in first if seed in second)
    if len(common) > 1:
        pairs = [(first[seed], second[seed]) for seed in common]
    else:  # the examples that are read are those of the first seed
        common, pairs = (), [(arm.first_evaluation, against.first_evaluation)]
    return Difference(
        arm.name,
        against.name,
        _estimate(arm.losses, against.losses, [(one.loss, other.loss) for one, other in pairs]),
        _estimate(arm.correct, against.correct, [(one.exact_match, other.exact_match) for one, other in pairs]),
        common,
    )


def _estimate(
    examples: Examples | None,
    others: Examples | None,
    pairs: Sequence[tuple[Estimate | None, Estimate | None]],
) -> Estimate | None:
    if examples is None or others is None or examples.identity != others.identity:
        return None
    differences = [
        Estimate(figure.value - other.value) for figure, other in pairs if figure is not None and other is not None
    ]
    if len(differences) < len(pairs):
        return None
    if len(pairs) > 1:
        return mean_estimate(differences)
    # The tokens are the same on both sides, so the mean of the differences is the difference of the means.
    low, high = bootstrap_ratio(examples.sums - others.sums, examples.counts)
    return Estimate(differences[0].value, low, high)


def _labels(folders: Sequence[Path]) -> dict[str, Path]:
    """Return a short name for each folder: its own name, or the full path if the name is not unique."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise TokensieveError(
            "the same run is given twice", where=", ".join(map(str, folders)), hint="name each run once"
        )
    names = [folder.resolve().name for folder in folders]
    return {
        name if names.count(name) == 1 else str(folder): folder for name, folder in zip(names, folders, strict=True)
    }


def _is(one: ComparedRow, method: str) -> bool:
    return one.row.selection is not None and one.row.selection.method == method


def _control(arm: ComparedRow, controls: Sequence[ComparedRow]) -> ComparedRow | None:
    """Return the control on the same examples, from the arm's own run if possible."""
    fitting = [one for one in controls if one.view.store.fingerprint == arm.view.store.fingerprint]
    return min(fitting, key=lambda one: one.view is not arm.view, default=None)


def _as_large(arm: ComparedRow, arms: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Return the random controls that keep as many tokens as an arm: those that its run has for it, or of its share.

    A method that selects while the model trains may keep another share of its batches than its control.
    """
    controls = [(one, one.row.selection) for one in arms if one.row.selection is not None and _is(one, "random")]
    own = [one for one, made in controls if one.view is arm.view and made.as_many_as == arm.row.name]
    return own or [one for one, _ in controls if abs(one.share - arm.share) < _SAME_SHARE]


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
    for what, examples in (("held-out loss", "losses"), ("exact match", "correct")):
        found = [one for one in (getattr(arm, examples) for arm in arms) if one is not None]
        if any(one.identity != found[0].identity for one in found[1:]):
            yield f"not all arms were evaluated on the same data; those that were not have no difference of {what}"
    if any(len(one.row.seeds) > 1 for one in arms):
        yield "differences of arms with two seeds or more in common are over these seeds; all others are over examples"
    online = [one.name for one in arms if one.row.selection is not None and one.row.selection.online]
    if online:
        yield f"{', '.join(online)}: online; agreement uses what the method would select before the first step"
    # An evaluation by a version that stored only the means.
    bare = [one.name for one in arms if one.row.evaluation.loss is not None and one.losses is None]
    if bare:
        yield f"{', '.join(bare)}: no held_out.jsonl, so no difference; delete evaluation.json and evaluate again"


def _examples(
    arm: ArmFolder, what: str, sums: str, counts: str | None, identity: Sequence[str], data: Any = None
) -> Examples | None:
    rows = arm.evaluation_details(what)
    if rows is None:
        return None
    try:
        return Examples(
            np.array([row[sums] for row in rows], dtype=np.float64),
            np.array([row[counts] if counts else 1 for row in rows], dtype=np.int64),
            [data, *([row[name] for name in identity] for row in rows)],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TokensieveError(
            f"the evaluation of '{arm.name}' cannot be read: {type(error).__name__}: {error}",
            where=str(arm.path),
            hint=arm.evaluate_again,
        ) from error
