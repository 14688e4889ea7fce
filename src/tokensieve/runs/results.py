"""What a run found: one line for each arm and point of reference, read from the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import read_json

POINTS_OF_REFERENCE = {"base": "before fine-tuning", "reference": "the scoring model"}
"""Models that are evaluated beside the arms, and what they are."""
IMPORTED = "imported"
"""What stands for the method of an arm that was brought into the run."""
CONTROLS = ("full", "random")
"""Methods that are there to compare with."""
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """One result with its 95 % interval, where there is one.

    Attributes:
        value: the result.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What a model was measured on; None for what was not measured.

    Attributes:
        loss: mean loss of held-out response tokens, in nats.
        perplexity: exp of the loss.
        exact_match: share of exact answers.
        tasks: figures of lm-evaluation-harness by task and metric.
    """

    loss: Estimate | None = None
    perplexity: Estimate | None = None
    exact_match: Estimate | None = None
    tasks: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What an arm chose.

    Attributes:
        method: name of the method.
        parameters: its hyper-parameters.
        rule: the selection rule with its name.
        trainable: tokens to choose from.
        kept: tokens chosen.
        examples: examples to choose from.
        examples_without_kept: those of which nothing was chosen.
        threshold: lowest score that was kept by rank; None where no single one exists.
        keep_turn_end: whether the ends of turns were kept whatever their score.
        online: whether tokens were chosen as the model trained; once that is done, ``trainable`` and ``kept`` count
            what it was offered and took over the whole training.
        reasons: names of what can speak against a token, by bit.
        statistics: what the method read, by ``role.statistic``.
        rounds: what each round chose, where selecting and training took turns.
        fitted: hyper-parameters that were derived from the data, None where there are none.
    """

    method: str
    parameters: Mapping[str, Any]
    rule: Mapping[str, Any]
    trainable: int
    kept: int
    examples: int
    examples_without_kept: int
    threshold: float | None
    keep_turn_end: bool = False
    online: bool = False
    reasons: Sequence[str] = ()
    statistics: Mapping[str, str] = field(default_factory=dict)
    rounds: Sequence[Any] = ()
    fitted: Mapping[str, Any] | None = None

    @property
    def share(self) -> float:
        """Kept share of the trainable tokens."""
        return self.kept / self.trainable if self.trainable else 0.0


@dataclass(frozen=True)
class PlantedNoise:
    """What became of noise whose places are known, and of the rest; tokens."""

    planted: int
    removed: int
    clean: int
    clean_removed: int
    auroc: float | None


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        name: of the arm, or ``base`` or ``reference``.
        selection: what it chose; None for the points of reference.
        evaluation: its figures.
        noise: what it removed of the planted noise.
    """

    name: str
    selection: Selection | None
    evaluation: Evaluation
    noise: PlantedNoise | None


def read_rows(folder: Path, arms: list[str]) -> tuple[Row, ...]:
    """Read the lines of a run folder's results: the arms in order, then the points of reference.

    Raises:
        TokensieveError: an arm whose tokens are not selected yet, or a file that is not JSON.
    """
    noise = read_optional(folder / "planted_noise.json")
    rows = [_arm(folder, name, noise) for name in arms]
    for name in POINTS_OF_REFERENCE:
        figures = read_optional(folder / "arms" / name / "evaluation.json")
        if figures and name not in arms:
            rows.append(Row(name, None, _evaluation(figures), None))
    return tuple(rows)


def imported_arms(folder: Path, own: list[str]) -> list[str]:
    """Return the names of the arms that were brought into a run folder, in alphabetical order.

    Args:
        folder: the run folder.
        own: the arms of the run's recipe.
    """
    found = (path.parent.name for path in folder.glob("arms/*/selection.json"))
    return [name for name in sorted(found) if name not in own and is_imported(folder, name)]


def is_imported(folder: Path, arm: str) -> bool:
    """Return whether an arm was brought into a run folder, and not made by its recipe."""
    return read_optional(folder / "arms" / arm / "selection.json").get("method") == IMPORTED


def read_object(path: Path, what: str, hint: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: its file.
        what: the fault when there is no such file.
        hint: what to do about it.

    Raises:
        TokensieveError: the file is missing or holds no JSON object.
    """
    if not path.is_file():
        raise TokensieveError(what, where=str(path), hint=hint)
    try:
        found = read_json(path)
    except json.JSONDecodeError as error:
        raise TokensieveError(f"not JSON: {error}", where=str(path), hint=hint) from error
    if not isinstance(found, dict):
        raise TokensieveError("not a JSON object", where=str(path), hint=hint)
    return found


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one where there is no file."""
    return read_object(path, "", "run the same command again") if path.is_file() else {}


def _arm(folder: Path, name: str, noise: Mapping[str, Any]) -> Row:
    path = folder / "arms" / name / "selection.json"
    hint = f"run `tokensieve select {folder / 'recipe.yaml'}`"
    found = read_object(path, f"the tokens of arm '{name}' are not selected yet", hint)
    trained = read_optional(folder / "arms" / name / "model" / "training.json").get("selection")
    if found.get("online") and trained:
        found |= {"trainable": trained["trainable"], "kept": trained["kept"]}
    selection = Selection(**{field.name: found[field.name] for field in fields(Selection) if field.name in found})
    evaluation = _evaluation(read_optional(folder / "arms" / name / "evaluation.json"))
    return Row(name, selection, evaluation, _noise(noise.get(name)))


def _evaluation(found: Mapping[str, Any]) -> Evaluation:
    held_out, exact = found.get("held_out"), found.get("exact_match")
    return Evaluation(
        loss=Estimate(held_out["loss"], held_out["low"], held_out["high"]) if held_out else None,
        perplexity=Estimate(held_out["perplexity"]) if held_out else None,
        exact_match=Estimate(exact["score"], exact["low"], exact["high"]) if exact else None,
        tasks={
            (task, metric): _task_figure(metrics, metric)
            for task, metrics in (found.get("tasks") or {}).items()
            for metric in metrics
            if not metric.partition(",")[0].endswith("_stderr")
        },
    )


def _task_figure(metrics: Mapping[str, float], metric: str) -> Estimate:
    name, comma, filtered = metric.partition(",")
    value, error = metrics[metric], metrics.get(f"{name}_stderr{comma}{filtered}")
    return Estimate(value) if error is None else Estimate(value, value - _Z * error, value + _Z * error)


def _noise(found: Mapping[str, Any] | None) -> PlantedNoise | None:
    return PlantedNoise(**{field.name: found[field.name] for field in fields(PlantedNoise)}) if found else None
