"""The room that a run takes on disk, by estimate, against what is free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.models.loading import local_folder
from tokensieve.pipeline.plan import Plan
from tokensieve.pipeline.recipe import train_settings
from tokensieve.store.atomic import gives_links
from tokensieve.train.settings import TrainSettings

_BYTES_A_TOKEN = 5 + 10
"""Of scores and decisions, and of cleaned data as Parquet."""
_BYTES_OF_JSON = 24


@dataclass(frozen=True)
class Room:
    """Bytes that a run writes.

    Attributes:
        store: to the store alone.
        output: to the run folder alone.
        models: of models that stand in both.
    """

    store: int
    output: int
    models: int

    def by_folder(self, store: Path, output: Path, one_disk: bool, links: bool) -> Mapping[Path, int]:
        """Return the bytes that each disk gets, by a folder of it.

        Args:
            store: folder of the store.
            output: the run folder.
            one_disk: whether both are on one disk.
            links: whether a model can stand in both without a second copy.
        """
        if one_disk:
            return {output: self.store + self.output + self.models * (1 if links else 2)}
        return {store: self.store + self.models, output: self.output + self.models}


def room_needed(plan: Plan, examples: ExampleStore, weights: int) -> Room:
    """Return what a run writes at most; models and statistics that the store has already are counted too.

    Args:
        plan: of the run.
        examples: the pool.
        weights: bytes of the base.
    """
    recipe, tokens, seeds = plan.recipe, examples.counts.tokens, len(plan.recipe.training_seeds)
    statistics = 4 * tokens * sum(len(specs) for specs in plan.statistics.values())
    selections = sum(seeds if arm.by_seed else 1 for arm in plan.arms)
    cleaned = tokens * selections * (_BYTES_A_TOKEN + (_BYTES_OF_JSON if recipe.select.jsonl else 0))
    warm_ups = [train_settings(plan.train, one.warm_up.train) for one in recipe.models.values() if one.warm_up]
    made = sum(_model(settings, weights) for settings in warm_ups)
    # A schedule that trains writes its model to the run folder, and not to the store.
    trained = [arm.schedule.trains for arm in plan.arms for _ in range(seeds)] if recipe.train is not None else []
    model = _model(plan.train, weights)
    # Full training writes, for the time of a checkpoint, Adam's two moments and the weights again.
    full = [settings.lora is None for settings in (*warm_ups, *([plan.train] if trained else []))]
    passing = 4 * weights if any(full) else weights // 4
    return Room(statistics + made + passing, cleaned + model * sum(trained), model * (len(trained) - sum(trained)))


def check_disk(plan: Plan, examples: ExampleStore) -> None:
    """Refuse to start a run that the disk cannot hold.

    Raises:
        TokensieveError: less is free than the run needs.
    """
    base = local_folder(plan.base.path, plan.base.revision, weights=False)
    weights = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    store, output = _existing(plan.recipe.store_folder), _existing(Path(plan.recipe.output))
    one_disk = store.stat().st_dev == output.stat().st_dev
    room = room_needed(plan, examples, weights).by_folder(store, output, one_disk, one_disk and gives_links(store))
    for folder, need in room.items():
        free = shutil.disk_usage(folder).free
        if need > free:
            raise TokensieveError(
                f"the run needs about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                where=str(folder),
                hint="free some room, give another output and store, or set select.jsonl: false",
            )


def _model(settings: TrainSettings, weights: int) -> int:
    """Return the bytes of a trained model; those of an adapter are next to none."""
    return weights if settings.lora is None or settings.merge_adapter else 0


def _existing(folder: Path) -> Path:
    """Return a folder, or the one that it will be made in."""
    return next(one for one in (folder, *folder.absolute().parents) if os.path.isdir(one))
