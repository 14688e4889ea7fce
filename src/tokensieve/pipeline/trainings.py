"""The trainings of a run: how many optimizer steps each takes, and whether these are enough to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokensieve.data.example_store import ExampleStore
from tokensieve.models.loading import pick_device
from tokensieve.pipeline.inputs import Inputs
from tokensieve.pipeline.recipe import train_settings
from tokensieve.pipeline.warm_up import warm_up_rows
from tokensieve.train.settings import TrainSettings, sft_config
from tokensieve.train.steps import FEW_STEPS, in_steps, optimizer_steps, packed_rows

_ACCUMULATION = "gradient_accumulation_steps"


@dataclass(frozen=True)
class Training:
    """What is known of a training before it starts; of several, where they take as many steps.

    Attributes:
        what: is trained, in words.
        steps: optimizer steps of each round; about as many where rows are packed.
        basis: what the number follows from, in words.
        section: of the recipe that holds the settings.
        arguments: of the trainer.
    """

    what: str
    steps: Sequence[int]
    basis: str
    section: str
    arguments: Mapping[str, Any]

    @property
    def line(self) -> str:
        """What a dry run says of it."""
        about = "about " if self._packed else ""
        rounds = f" in {len(self.steps)} rounds" if len(self.steps) > 1 else ""
        return f"{self.what}: {about}{in_steps(sum(self.steps))}{rounds} ({self.basis})"

    @property
    def warning(self) -> str | None:
        """What the user should know before it starts; None where it has enough steps."""
        fewest = min(self.steps)
        if fewest >= FEW_STEPS:
            return None
        of_round = " a round" if len(self.steps) > 1 else ""
        more = f"a larger {self.section}.max_steps gives more"
        if not self._fixed:
            size, accumulated = (self.arguments[name] for name in ("per_device_train_batch_size", _ACCUMULATION))
            more = (
                f"a smaller {self.section}.{_ACCUMULATION} ({accumulated} now) or per_device_train_batch_size ({size} "
                f"now){', packing: false' if self._packed else ''} or more num_train_epochs give more"
            )
        return f"{self.what}: {in_steps(fewest)} only{of_round}, which is little to learn from; {more}"

    @property
    def _fixed(self) -> bool:
        return self.arguments.get("max_steps", -1) > 0

    @property
    def _packed(self) -> bool:
        return bool(self.arguments.get("packing")) and not self._fixed


def planned_trainings(inputs: Inputs) -> Iterator[Training]:
    """Yield the trainings of a run: the models to be made, then the arms that take as many steps together.

    An arm that keeps no token of an example leaves it out, and may take fewer steps.
    """
    plan = inputs.plan
    for role, model in plan.recipe.models.items():
        if model.warm_up is not None:
            examples = inputs.warm_ups.get(role, inputs.examples)
            rows = warm_up_rows(examples.counts.examples, model.warm_up, role)
            settings = train_settings(plan.train, model.warm_up.train)
            yield _training(inputs, f"make {role}", examples, rows, f"models.{role}.warm_up.train", settings)
    if plan.recipe.train is None:
        return
    total = inputs.examples.counts.examples
    together: dict[tuple[int, ...], list[str]] = {}
    for arm in plan.arms:
        together.setdefault(tuple(arm.schedule.trainings(arm.method, total)), []).append(arm.name)
    for rows, names in together.items():
        yield _training(inputs, f"train {', '.join(names)}", inputs.examples, rows, "train", plan.train)


def _training(
    inputs: Inputs, what: str, examples: ExampleStore, rows: Sequence[int], section: str, settings: TrainSettings
) -> Training:
    recipe = inputs.plan.recipe
    config = sft_config(settings.arguments, pick_device(recipe.measure.device), output_dir="unused")
    length, counts = recipe.data.max_length, examples.counts
    assert length is not None  # decided with the inputs
    what_rows = f"{sum(rows):,} examples"
    if config.packing:
        rows = [packed_rows(counts.tokens * one // counts.examples, length) for one in rows]
        what_rows = f"about {sum(rows):,} packed rows of {length:,} tokens"
    batch = config.train_batch_size * config.world_size * config.gradient_accumulation_steps
    epochs = "" if config.num_train_epochs == 1 else f", {config.num_train_epochs:g} epochs"
    basis = "max_steps" if config.max_steps > 0 else f"{what_rows}, {batch} a step{epochs}"
    return Training(what, [optimizer_steps(config, one) for one in rows], basis, section, settings.arguments)
