"""How fast the stages of a run go: by the shares of a rate, or as short runs of this machine tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tokensieve.containers import StatisticSpec
from tokensieve.measure.statistics import source_of
from tokensieve.models.loading import pick_device, random_model
from tokensieve.models.reward import RewardHead
from tokensieve.models.settings import ModelSettings
from tokensieve.models.size import ModelSize
from tokensieve.pipeline.forecast.hardware import MEASURING_SHARE, TRAINING_SHARE, Hardware
from tokensieve.pipeline.forecast.timed_passes import TrainingRate, measuring_rate, seconds_a_token, training_rate
from tokensieve.pipeline.inputs import Inputs
from tokensieve.train.adapter import adapter_parameters, with_adapter
from tokensieve.train.settings import LoraSettings, TrainSettings
from tokensieve.train.trainer import TrainingSetup

Lora = LoraSettings | None
_SAME_STEP = {
    "gradient_accumulation_steps",
    "learning_rate",
    "logging_steps",
    "lr_scheduler_type",
    "max_steps",
    "num_train_epochs",
    "report_to",
    "save_steps",
    "warmup_steps",
    "weight_decay",
}
"""Arguments that do not change what a batch takes, so that trainings which differ in them are timed once."""
_WIDTH = 256
"""Of a reward head that is timed."""
_LARGEST = 4
"""A model is timed itself where its weights fit this many times into the memory that is usable."""
_LONGEST = 10.0
"""Seconds that a batch may take where a model is timed itself."""


@dataclass(frozen=True)
class Training:
    """How a model is trained, as far as the work and the memory of a batch depend on it.

    Attributes:
        settings: of the recipe.
        adapter: parameters of the adapter; None where all weights are trained.
        batch_size: rows of a micro-batch.
        checkpointing: whether the blocks run forward a second time, in place of keeping their activations.
        packed: tokens of a packed row; None where examples are not packed.
        half: whether products run in half precision.
        every_position: whether the head is applied to positions without a label too.
    """

    settings: TrainSettings
    adapter: int | None
    batch_size: int
    checkpointing: bool
    packed: int | None
    half: bool
    every_position: bool


class Rates(Protocol):
    """How fast one device works."""

    def measuring(
        self, model: ModelSettings, size: ModelSize, specs: Sequence[StatisticSpec], lora: Lora = None
    ) -> float:
        """Return the operations a second of measuring statistics, with an adapter that is not merged where given."""
        ...

    def training(self, size: ModelSize, training: Training) -> TrainingRate:
        """Return how fast the base is trained."""
        ...

    def seconds_a_token(
        self, model: ModelSettings, size: ModelSize, prompts: Sequence[list[int]], rows: int, lora: Lora = None
    ) -> float:
        """Return what one more token of each of so many answers takes."""
        ...


@dataclass(frozen=True)
class SharesOfRate:
    """Rates that are shares of the matrix-product rate of some hardware. An answer reads all weights once a token."""

    hardware: Hardware

    def measuring(
        self, model: ModelSettings, size: ModelSize, specs: Sequence[StatisticSpec], lora: Lora = None
    ) -> float:
        """See `Rates`."""
        del model, specs, lora
        return MEASURING_SHARE * self.hardware.rate(size.dtype)

    def training(self, size: ModelSize, training: Training) -> TrainingRate:
        """See `Rates`."""
        return TrainingRate(TRAINING_SHARE * self.hardware.rate("bfloat16" if training.half else size.dtype))

    def seconds_a_token(
        self, model: ModelSettings, size: ModelSize, prompts: Sequence[list[int]], rows: int, lora: Lora = None
    ) -> float:
        """See `Rates`."""
        del model, prompts, rows, lora
        return size.bytes / self.hardware.bandwidth


class TimedHere:
    """Rates of short runs on this machine; those of a model that is too large for them are shares of its rate.

    Args:
        hardware: this machine.
        inputs: data and models of the run.

    Attributes:
        shares: names of the models whose rates are shares after all.
    """

    def __init__(self, hardware: Hardware, inputs: Inputs) -> None:
        self._hardware, self._inputs = hardware, inputs
        self._device = pick_device(inputs.plan.recipe.measure.device)
        self._by_share = SharesOfRate(hardware)
        self._known: dict[Any, Any] = {}
        self.shares: set[str] = set()

    def measuring(
        self, model: ModelSettings, size: ModelSize, specs: Sequence[StatisticSpec], lora: Lora = None
    ) -> float:
        """See `Rates`."""
        budget = self._inputs.plan.recipe.measure.batch_tokens(self._device.type)
        of_passes = tuple(spec for spec in specs if source_of(spec.name) in ("logits", "pass"))
        if not of_passes or self._too_large(model, size, budget, 2):
            return self._by_share.measuring(model, size, specs)

        def timed() -> float:
            made = self._made(model, lora)
            made.reward_head = RewardHead(size.hidden, _WIDTH).to(self._device)  # read by the statistic `reward` alone
            return measuring_rate(made, size, adapter, self._inputs.examples, of_passes, budget)

        adapter = adapter_parameters(model, lora) or 0
        key = ("measuring", _bare(model), of_passes, repr(lora))
        return self._once(key, timed)

    def training(self, size: ModelSize, training: Training) -> TrainingRate:
        """See `Rates`."""
        plan, recipe = self._inputs.plan, self._inputs.plan.recipe
        assert recipe.data.max_length is not None  # decided with the inputs
        longest = self._inputs.examples.counts.lengths["1"]
        if self._too_large(plan.base, size, training.batch_size * longest, 8):
            return self._by_share.training(size, training)
        tokenizer, length = self._inputs.encoder.tokenizer, recipe.data.max_length
        setup = TrainingSetup(plan.base, tokenizer, training.settings, length, recipe.seed, self._device)

        def timed() -> TrainingRate:
            model = random_model(plan.base, self._device).requires_grad_(True)
            return training_rate(
                model,
                size,
                setup,
                self._inputs.examples,
                training.adapter,
                training.checkpointing,
                training.packed,
                training.every_position,
            )

        arguments = {name: one for name, one in training.settings.arguments.items() if name not in _SAME_STEP}
        key = ("training", repr(training.settings.lora), training.packed, repr(sorted(arguments.items())))
        return self._once(key, timed)

    def seconds_a_token(
        self, model: ModelSettings, size: ModelSize, prompts: Sequence[list[int]], rows: int, lora: Lora = None
    ) -> float:
        """See `Rates`."""
        if self._too_large(model, size, rows, 2):
            return self._by_share.seconds_a_token(model, size, prompts, rows)

        def timed() -> float:
            return seconds_a_token(self._made(model, lora), self._inputs.encoder, prompts, rows)

        key = ("generating", _bare(model), repr(lora))
        return self._once(key, timed)

    def _made(self, model: ModelSettings, lora: Lora) -> Any:
        """Return a model with random weights, for inference, with an adapter that is not merged where given."""
        made = random_model(model, self._device)
        return made if lora is None else with_adapter(made, lora).eval().requires_grad_(False)

    def _too_large(self, model: ModelSettings, size: ModelSize, tokens: int, products: int) -> bool:
        """Whether a batch of tokens, each with so many operations a parameter, would take too long to try."""
        seconds = products * size.parameters * tokens / (MEASURING_SHARE * self._hardware.rate(size.dtype))
        large = _LARGEST * size.bytes > self._hardware.usable or seconds > _LONGEST
        if large:
            self.shares.add(model.path)
        return large

    def _once(self, key: Any, timed: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = timed()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        return self._known[key]


def _bare(model: ModelSettings) -> ModelSettings:
    return dataclasses.replace(model, adapter=None)
