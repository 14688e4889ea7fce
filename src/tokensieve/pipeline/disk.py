"""The room that a run or a search takes on disk, by estimate, against what is free."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokensieve.containers import Role
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.models.loading import local_folder
from tokensieve.pipeline.plan import Plan
from tokensieve.pipeline.recipe import train_settings
from tokensieve.search.halving import SearchPlan
from tokensieve.store.atomic import gives_links
from tokensieve.train.settings import DEFAULT_CHECKPOINTS, TrainSettings

_BYTES_A_TOKEN = 5 + 10
"""Of scores and decisions, and of cleaned data as Parquet."""
_BYTES_OF_JSON = 24
_CHECKPOINTS_WITHOUT_LIMIT = 3
"""Kept by a training without a limit: only its steps tell how many there are."""


@dataclass(frozen=True)
class Room:
    """Bytes that a run or a search writes.

    Attributes:
        store: to the store alone.
        output: to the run folder alone.
        models: of models that stand in both.
        again: of further copies of these in the run folder, which take room only where there are no links.
    """

    store: int
    output: int
    models: int
    again: int = 0

    def by_folder(self, store: Path, output: Path, one_disk: bool, links: bool) -> Mapping[Path, int]:
        """Return the bytes that each disk gets, by a folder of it.

        Args:
            store: folder of the store.
            output: the run folder.
            one_disk: whether both are on one disk.
            links: whether a model can stand in both without a second copy.
        """
        if one_disk:
            return {output: self.store + self.output + self.models + (0 if links else self.models + self.again)}
        return {store: self.store + self.models, output: self.output + self.models + self.again}


def room_needed(plan: Plan, examples: ExampleStore, weights: int, until: str = "report") -> Room:
    """Return what a run writes at most; models and statistics that the store has already are counted too.

    Args:
        plan: of the run.
        examples: the pool.
        weights: bytes of the base.
        until: last stage of the run; one that ends with ``measure`` selects and trains for no arm.
    """
    recipe, seeds = plan.recipe, len(plan.recipe.training_seeds)
    arms = plan.arms if until != "measure" else ()
    cleaned = cleaned_bytes(plan, examples.counts.tokens) if arms else 0
    trained = len(arms) * seeds if recipe.train is not None else 0
    store = _before_arms(plan, examples, weights, [plan.train] if trained else [])
    return Room(store, cleaned, model_bytes(plan.train, weights) * trained)


def cleaned_bytes(plan: Plan, tokens: int) -> int:
    """Return the bytes of scores, decisions and cleaned data of all selections of so many tokens."""
    seeds = len(plan.recipe.training_seeds)
    selections = sum(seeds if arm.by_seed else 1 for arm in plan.arms)
    return tokens * selections * (_BYTES_A_TOKEN + (_BYTES_OF_JSON if plan.recipe.select.jsonl else 0))


def statistics_bytes(plan: Plan, role: Role, tokens: int) -> int:
    """Return the bytes of the statistics of a role over so many tokens; of folds all, and what is joined of them."""
    warm_up = plan.recipe.models[role].warm_up
    copies = warm_up.folds + 1 if warm_up is not None and warm_up.folds > 1 else 1
    return 4 * tokens * len(plan.statistics[role]) * copies


def search_room(plan: Plan, search: SearchPlan, examples: ExampleStore, weights: int) -> Room:
    """Return what a search writes at most: all statistics, and every probe.

    Each model is trained once into the store. Each probe has its method, `full` and `random` with each seed, and the
    cleaned data of all three.

    Args:
        plan: of a run with every method, which measures the statistics.
        search: what is trained.
        examples: the pool.
        weights: bytes of the base.
    """
    cleaned = (
        examples.counts.tokens * _BYTES_A_TOKEN * sum(one.candidates * (2 + one.seeds) for one in search.every_rung)
    )
    placed = sum(one.candidates * 3 * one.seeds for one in search.every_rung)
    model = model_bytes(plan.train, weights)
    store = _before_arms(plan, examples, weights, [plan.train])
    return Room(store, cleaned, model * search.trainings, model * (placed - search.trainings))


def _before_arms(plan: Plan, examples: ExampleStore, weights: int, arms: Sequence[TrainSettings]) -> int:
    """Return the bytes of statistics, of models that are made to score with, and of what passes, with the arms'."""
    statistics = sum(statistics_bytes(plan, role, examples.counts.tokens) for role in plan.statistics)
    models = plan.recipe.models.values()
    warm_ups = [
        train_settings(plan.train, one.warm_up.train) for one in models if one.warm_up for _ in range(one.warm_up.folds)
    ]
    made = sum(model_bytes(settings, weights) for settings in warm_ups)
    return statistics + made + max((_checkpoint_bytes(one, weights) for one in (*warm_ups, *arms)), default=0)


def _checkpoint_bytes(settings: TrainSettings, weights: int) -> int:
    """Return the bytes of the checkpoints that a training holds at most.

    While one is written, those before it are still there: as many as `save_total_limit` says. One of full training has
    the weights and Adam's two moments.
    """
    if settings.arguments.get("save_strategy") == "no":
        return 0
    kept = settings.arguments.get("save_total_limit", DEFAULT_CHECKPOINTS) or _CHECKPOINTS_WITHOUT_LIMIT
    return (kept + 1) * (3 * weights if settings.lora is None else weights // 8)


def check_disk(plan: Plan, examples: ExampleStore, until: str = "report", states: int = 0) -> None:
    """Refuse to start a run that the disk cannot hold; arguments as for `room_needed`.

    Args:
        plan: of the run.
        examples: the pool.
        until: last stage of the run.
        states: bytes of the hidden states that a reward head is trained on.

    Raises:
        TokensieveError: less is free than the run needs.
    """
    room = room_needed(plan, examples, _weights(plan), until)
    room = dataclasses.replace(room, store=room.store + states)
    _check(plan, room, "run", "give another output and store, or set select.jsonl: false")


def check_search_disk(plan: Plan, search: SearchPlan, examples: ExampleStore) -> None:
    """Refuse to start a search whose probes the disk cannot hold; arguments as for `search_room`.

    Raises:
        TokensieveError: less is free than the search needs.
    """
    room = search_room(plan, search, examples, _weights(plan))
    _check(plan, room, "search", "give another output and store, a smaller budget, or train with train.lora")


def search_disk_line(plan: Plan, search: SearchPlan, examples: ExampleStore) -> str:
    """Return what a search needs at most and what is free, for a dry run; arguments as for `search_room`."""
    needs = bytes_by_folder(plan, search_room(plan, search, examples, _weights(plan)))
    told = (
        f"about {need / 1e9:.1f} GB at most in {folder}, where {shutil.disk_usage(folder).free / 1e9:.1f} GB are free"
        for folder, need in needs.items()
    )
    return f"disk: {'; '.join(told)}"


def _check(plan: Plan, room: Room, what: str, way_out: str) -> None:
    for folder, need in bytes_by_folder(plan, room).items():
        free = shutil.disk_usage(folder).free
        if need > free:
            raise TokensieveError(
                f"the {what} needs about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                where=str(folder),
                hint=f"free some room, {way_out}",
            )


def bytes_by_folder(plan: Plan, room: Room) -> Mapping[Path, int]:
    """Return the bytes that each disk gets of the store and the run folder, by a folder of it that exists."""
    store, output = _existing(plan.recipe.store_folder), _existing(plan.recipe.output_folder)
    one_disk = store.stat().st_dev == output.stat().st_dev
    return room.by_folder(store, output, one_disk, one_disk and gives_links(store))


def _weights(plan: Plan) -> int:
    """Return the bytes of the base."""
    base = local_folder(plan.base.path, plan.base.revision, weights=False)
    return sum(path.stat().st_size for path in base.glob("*.safetensors"))


def model_bytes(settings: TrainSettings, weights: int) -> int:
    """Return the bytes of a trained model; those of an adapter are next to none."""
    return weights if settings.lora is None or settings.merge_adapter else 0


def _existing(folder: Path) -> Path:
    """Return a folder, or the one that it will be made in."""
    return next(one for one in (folder, *folder.absolute().parents) if os.path.isdir(one))
