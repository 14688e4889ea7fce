"""What each arm of a run chooses, and the data that it trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Statistics, StatisticSpec
from tokensieve.measure.measure import Measurement
from tokensieve.methods import get_method, package_of
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Rule, TopExamples, TopFraction
from tokensieve.pipeline.plan import Arm, Plan
from tokensieve.pipeline.recipe import recipe_values
from tokensieve.progress import ProgressCallback, StageProgress
from tokensieve.runs.card import cleaned_card
from tokensieve.select.cleaned import write_cleaned, write_training
from tokensieve.select.streaming import read_selection, select_shards
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, read_json, write_json, write_text
from tokensieve.store.manifest import LAYOUT, check_layout, is_complete
from tokensieve.train.schedules.self_evolving import read_rounds, write_round_scores

Measurements = Mapping[str, Measurement]
"""The statistics of each model, by its role in the recipe."""


def select_arm(
    plan: Plan, arm: Arm, kept: int | None, measurements: Measurements, folder: Path, progress: StageProgress
) -> dict[str, Any]:
    """Score and choose tokens for an arm, and write its cleaned data; or read what an earlier call chose.

    An arm that selects while the model trains is shown as it would select before the first step, with the base in the
    place of the model in training; its training data holds every token. An arm with rounds of training
    (`train.self_evolving`) has chosen in them, and what it chose is put together here.

    Args:
        plan: the checked run.
        arm: which arm.
        kept: tokens that the recipe's method kept; None for that method itself.
        measurements: where the statistics are.
        folder: of the arm; gets ``scores/``, ``cleaned/``, ``training/`` where the trainer selects, and
            ``selection.json``.
        progress: where progress is shown.

    Returns:
        What ``selection.json`` holds.

    Raises:
        TokensieveError: a selection of other data, models or settings is there.
    """
    method, rule = _before_training(plan, arm, plan.rule(arm, kept))
    loader = Loader(plan, arm.method, measurements)
    identity = {
        "layout": LAYOUT,
        "data": plan.examples.fingerprint,
        "cut": plan.examples.cut,
        "method": arm.method.name,
        "parameters": fingerprint.jsonable(dataclasses.asdict(arm.method)),
        "rule": {"name": type(rule).__name__, **dataclasses.asdict(rule)},
        "online": plan.online(arm.method),
        "keep_turn_end": plan.recipe.select.keep_turn_end,
        "statistics": {f"{role}.{spec.name}": measurements[source].folder.name for role, source, spec in loader.reads},
    }
    package = package_of(arm.method.name)
    identity |= {"package": package} if package is not None else {}
    path = folder / "selection.json"
    if path.is_file():
        selection = read_json(path)
        check_layout(selection.get("layout"), folder)
        fingerprint.check_same(
            {name: selection.get(name) for name in identity},
            identity,
            where=str(path),
            hint="the data or a model changed since: give another output",
        )
        parts = ("scores", "cleaned", "training") if plan.selects_in_training(arm.method) else ("scores", "cleaned")
        if all(is_complete(folder / part) for part in parts):
            return selection
    examples = plan.examples
    method = method.fit(lambda: (statistics for statistics, _ in loader))

    def stage(what: str) -> AbstractContextManager[ProgressCallback]:
        return progress.stage(f"{what} {arm.name}", examples.counts.trainable_tokens, "tokens")

    in_rounds = arm.method.schedule == "self-evolving"
    with atomic_folder(folder / "scores") as scores:
        if in_rounds:
            counts = write_round_scores(examples, folder / "rounds", scores)
        else:
            counts = select_shards(method, rule, loader.read, examples.shards, scores, stage)
    fitted = fingerprint.jsonable(dataclasses.asdict(method)) if method != arm.method else None
    selection = {**identity, "fitted": fitted, "reasons": list(method.reason_names), **counts}
    selection |= {"source_rows": examples.counts.rows}
    with atomic_folder(folder / "cleaned") as cleaned, progress.stage(f"write {arm.name}", None, "examples") as advance:
        written = write_cleaned(examples, folder / "scores", cleaned, jsonl=plan.recipe.select.jsonl)
        selection["examples_written"] = written
        write_text(cleaned / "README.md", cleaned_card(recipe_values(plan.recipe), selection))
        advance(written)
    if plan.selects_in_training(arm.method):
        with atomic_folder(folder / "training") as training:
            write_training(examples, _training_columns(plan, method, loader, folder / "scores"), training)
    selection |= {"rounds": read_rounds(folder / "rounds")} if in_rounds else {}
    write_json(path, selection)
    return selection


def training_method(plan: Plan, method: Method) -> Method:
    """Return what the trainer of an arm is given: the method, or `full` where its weights are in the data already."""
    return get_method("full") if method.online and not plan.online(method) else method


class Loader:
    """Reads the statistics of a method, shard by shard.

    Args:
        plan: the checked run.
        method: what reads them.
        measurements: where they are.
    """

    def __init__(self, plan: Plan, method: Method, measurements: Measurements) -> None:
        self._plan, self._measurements = plan, measurements
        self.reads: list[tuple[str, str, StatisticSpec]] = plan.reads(method)

    def read(self, number: int) -> tuple[Statistics, NDArray[np.int64]]:
        """Return one shard's statistics and the source rows of its examples."""
        examples = self._plan.examples
        shard = examples.read(number)
        values = {(role, spec.name): self._measurements[source].read(spec, number) for role, source, spec in self.reads}
        statistics = examples.statistics(shard, values, int(examples.starts[number]))
        if not self._plan.recipe.select.keep_turn_end:
            statistics = dataclasses.replace(statistics, turn_end=None)
        return statistics, shard.rows

    def __iter__(self) -> Iterator[tuple[Statistics, NDArray[np.int64]]]:
        return (self.read(number) for number in range(self._plan.examples.shards))


def _before_training(plan: Plan, arm: Arm, rule: Rule) -> tuple[Method, Rule]:
    """Return how an arm is shown before training: by its own method and rule, as far as these need no batch."""
    if not plan.online(arm.method):
        return arm.method, rule
    if isinstance(rule, TopExamples):
        return get_method("full"), TopFraction(1.0)
    if isinstance(rule, TopFraction) and rule.scope == "batch":
        return arm.method, dataclasses.replace(rule, scope="dataset")
    return arm.method, rule


def _training_columns(
    plan: Plan, method: Method, loader: Loader, scores: Path
) -> Callable[[int], dict[str, NDArray[Any]]]:
    """Return what gives the per-token columns of a shard that the trainer needs beside ids and labels."""
    online = plan.online(method)

    def columns(number: int) -> dict[str, NDArray[Any]]:
        statistics, _ = loader.read(number)
        if online:
            frozen = {key: value for key, value in statistics.values.items() if key[0] != "current"}
            return {f"{role}.{name}": value for (role, name), value in frozen.items()}
        _, kept = read_selection(scores, number)
        decided: dict[str, NDArray[Any]] = {"kept": kept.astype(np.int8)}
        if method.online:  # measured with a fixed model: nothing changes during the training
            return {**decided, "weights": method.weights(statistics, kept, 0.0)}
        return {**decided, **{f"{role}.{name}": value for (role, name), value in statistics.values.items()}}

    return columns
