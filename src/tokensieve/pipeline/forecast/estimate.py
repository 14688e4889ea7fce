"""The work, time, memory and room on disk of each stage of a run, from lengths and sizes alone.

What the store has already is counted too. Where a result decides, the most is taken: an arm that keeps no token of an
example leaves the example out, and an answer may end before its longest length.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from tokensieve.containers import LOSS, Examples, Role, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.measure.folds import part_of
from tokensieve.measure.statistics import of_a_pass, source_of
from tokensieve.methods._base import Method
from tokensieve.models.loading import pick_device
from tokensieve.models.settings import ModelSettings
from tokensieve.models.size import ModelSize, model_size
from tokensieve.ops.rules import TopExamples
from tokensieve.pipeline.disk import cleaned_bytes, model_bytes, statistics_bytes
from tokensieve.pipeline.forecast.flops import (
    Lengths,
    Passed,
    attention_statistic_flops,
    blocks_flops,
    forward_flops,
    generation_flops,
    head_flops,
    measured_tokens,
    trained_tokens,
    training_flops,
)
from tokensieve.pipeline.forecast.hardware import Hardware
from tokensieve.pipeline.forecast.memory import generating_bytes, measuring_bytes, training_bytes
from tokensieve.pipeline.forecast.rates import Rates, Training
from tokensieve.pipeline.forecast.work import Stage, Work
from tokensieve.pipeline.inputs import Inputs
from tokensieve.pipeline.plan import Arm
from tokensieve.pipeline.recipe import train_settings
from tokensieve.pipeline.reward import Preferences
from tokensieve.pipeline.warm_up import pick_examples
from tokensieve.train.adapter import adapter_parameters
from tokensieve.train.settings import LoraSettings, TrainSettings, WarmUp, sft_config
from tokensieve.train.steps import optimizer_steps, packed_rows

_SELECTED, _WRITTEN, _WRITTEN_AS_JSON = 67e6, 15e6, 6.2e6
"""Tokens a second of selecting, and of writing cleaned data without and with JSON lines (docs/benchmarks.md)."""


class Estimates:
    """What the stages of a run take.

    Args:
        inputs: data and models of the run, tokenised and checked.
        hardware: what it runs on.
        rates: how fast one device of it is.

    Attributes:
        size: of the base.
    """

    def __init__(self, inputs: Inputs, hardware: Hardware, rates: Rates) -> None:
        self._inputs, self._plan, self._hardware, self._rates = inputs, inputs.plan, hardware, rates
        self._pool = Lengths.of(inputs.examples)
        self._sizes: dict[tuple[Any, ...], ModelSize] = {}
        self._adapters: dict[tuple[str, str], int | None] = {}
        self.size = self._size(self._plan.base)

    def stages(self) -> Iterator[Stage]:
        """Yield the stages in the order of a run."""
        examples, recipe = self._inputs.examples, self._plan.recipe
        on_disk = sum(path.stat().st_size for path in examples.folder.rglob("*") if path.is_file())
        yield Stage("tokenise", "done, in the store", Work(examples.counts.tokens), disk=on_disk)
        for role in self._made:
            yield self._make(role)
        if self._inputs.preferences is not None and "reward" in self._plan.statistics:
            yield self._make_reward(self._inputs.preferences)
        for role, specs in self._plan.statistics.items():
            yield self._measure(role, specs)
        yield self._select()
        if recipe.train is not None:
            for arm in self._plan.arms:
                yield self._train(arm)
        if recipe.evaluate.measures:
            yield self._evaluate()

    @property
    def _made(self) -> list[Role]:
        models = self._plan.recipe.models
        return [role for role in self._plan.statistics if models[role].warm_up is not None]

    @property
    def _seeds(self) -> int:
        return len(self._plan.recipe.training_seeds)

    @cached_property
    def _budget(self) -> int:
        return self._plan.recipe.measure.batch_tokens(self._hardware.kind)

    def _size(self, model: ModelSettings) -> ModelSize:
        key = (model.path, model.revision, model.dtype)
        if key not in self._sizes:
            self._sizes[key] = model_size(model)
        return self._sizes[key]

    def _adapter(self, model: ModelSettings, lora: LoraSettings | None) -> int | None:
        """Return the parameters of an adapter; None for none."""
        key = (model.path, repr(lora))
        if key not in self._adapters:
            self._adapters[key] = adapter_parameters(model, lora)
        return self._adapters[key]

    def _model(self, role: Role) -> ModelSettings:
        """Return the model of a role; of one that is to be made, the base that it is made from."""
        return self._inputs.models.get(role, self._plan.base)

    def _rounds(self, role: Role) -> list[int]:
        """Return how many examples each round adds to the data of a role's model."""
        arm = self._plan.refined.get(role)
        return arm.schedule.refinements(arm.method) if arm is not None else []

    def _measure(self, role: Role, specs: Sequence[StatisticSpec]) -> Stage:
        warm_up, model, rounds = self._plan.recipe.models[role].warm_up, self._model(role), len(self._rounds(role))
        folds = warm_up.folds if warm_up is not None else 1
        # The pool of models merges an adapter into float32 weights alone.
        lora = self._made_with(warm_up).lora if warm_up is not None and self._size(model).dtype != "float32" else None
        work = Work()
        for fold in range(folds):  # each part of the pool passes through the model of its part alone
            part = self._pool[part_of(0, len(self._pool), folds) == fold]
            work += self._pass(model, part, specs, lora)
        names = ", ".join(spec.name for spec in specs)
        detail = f"{names}, with {folds + rounds} models" if folds + rounds > 1 else names
        disk = statistics_bytes(self._plan, role, int(self._pool.tokens.sum())) * (1 + rounds)
        return Stage(f"measure {role}", detail, work.times(1 + rounds), self._hardware.devices, disk)

    def _make(self, role: Role) -> Stage:
        """Estimate the trainings that make the model of a role: one, one a fold, or one more each round."""
        warm_up = self._plan.recipe.models[role].warm_up
        assert warm_up is not None
        settings = self._made_with(warm_up)
        training, rounds = self._training(settings), self._rounds(role)
        work = Work()
        for fold in range(warm_up.folds):
            work += self._fit(training, self._warm_up_lengths(role, warm_up, fold))
        first = self._warm_up_lengths(role, warm_up, 0)
        for added in accumulate(rounds):
            # Their scores decide which examples join: here some of every part of the pool do.
            spread = np.linspace(0, len(self._pool) - 1, added).astype(np.int64)
            work += self._fit(training, first + self._pool[spread])
        models = warm_up.folds + len(rounds)
        return Stage(
            f"make {role}",
            f"{models} models" if models > 1 else "",
            work,
            disk=models * self._disk_of(settings),
            training=training,
            longest=self._longest(training, first),
        )

    def _make_reward(self, preferences: Preferences) -> Stage:
        """Estimate the passes that give hidden states; to train a head on them takes next to nothing."""
        model, answers = self._model("reward"), Lengths.of(preferences.examples)
        work, disk = self._pass(model, answers, [StatisticSpec("reward")]), preferences.bytes_of_states(model)
        return Stage("make reward", "hidden states", work, self._hardware.devices, disk)

    def _made_with(self, warm_up: WarmUp) -> TrainSettings:
        return train_settings(self._plan.train, warm_up.train)

    def _warm_up_lengths(self, role: Role, warm_up: WarmUp, fold: int) -> Lengths:
        recipe = self._plan.recipe
        examples = self._inputs.warm_ups.get(role, self._inputs.examples)
        lengths = Lengths.of(examples) if role in self._inputs.warm_ups else self._pool
        seed = recipe.seed if warm_up.seed is None else warm_up.seed
        return lengths[pick_examples(examples, warm_up, role, seed, fold)]

    def _select(self) -> Stage:
        tokens, recipe = int(self._pool.tokens.sum()), self._plan.recipe
        selections = sum(self._seeds if arm.by_seed else 1 for arm in self._plan.arms)
        written = _WRITTEN_AS_JSON if recipe.select.jsonl else _WRITTEN
        seconds = selections * tokens * (1 / _SELECTED + 1 / written)
        detail = f"{selections} selections" if selections > 1 else ""
        return Stage("select", detail, Work(selections * tokens, 0.0, seconds), disk=cleaned_bytes(self._plan, tokens))

    def _train(self, arm: Arm) -> Stage:
        """Estimate the trainings of an arm, and the passes by which it selects on the way."""
        training = self._training(self._plan.train)
        parts = arm.schedule.trainings(arm.method, len(self._pool))
        work = Work()
        first = 0
        for rows in parts:
            part = self._pool[first : first + rows]
            work += self._fit(training, part, arm)
            if arm.schedule.trains:  # it scores each part before it trains on it
                work += self._pass(self._plan.base, part, self._scored(arm), self._plan.train.lora)
            first += rows
        seeds = f"{self._seeds} seeds" if self._seeds > 1 else ""
        rounds = f"{len(parts)} rounds" if len(parts) > 1 else ""
        return Stage(
            f"train {arm.name}",
            ", ".join(filter(None, (seeds, rounds))),
            work.times(self._seeds),
            disk=self._seeds * self._disk_of(self._plan.train),
            training=training,
            longest=self._longest(training, self._pool),
        )

    def _scored(self, arm: Arm) -> list[StatisticSpec]:
        """Return the statistics that the schedule of an arm measures itself."""
        method: Method = arm.method
        return [method.spec(name) for role, name in sorted(method.needs) if role in arm.schedule.provides]

    def _evaluate(self) -> Stage:
        """Estimate the evaluation of the base, the reference and the model of each arm and seed."""
        recipe, plan = self._plan.recipe, self._plan
        reference = recipe.models.get("reference")
        models: list[tuple[ModelSettings, LoraSettings | None]] = [(plan.base, None)]
        folds = reference.warm_up.folds if reference is not None and reference.warm_up is not None else 1
        if reference is not None and folds == 1 and (reference.warm_up is None or "reference" in self._made):
            made = self._made_with(reference.warm_up).lora if reference.warm_up is not None else None
            models.append((self._model("reference"), made))
        if recipe.train is not None:
            models += [(plan.base, plan.train.lora)] * (len(plan.arms) * self._seeds)
        work = Work()
        for model, lora in models:
            work += self._evaluation(model, lora)
        return Stage("evaluate", f"{len(models)} models", work)

    def _evaluation(self, model: ModelSettings, lora: LoraSettings | None) -> Work:
        """Estimate the evaluation of a model, whose adapter is not merged."""
        data, settings = self._inputs.evaluation, self._plan.recipe.evaluate
        measured: list[ExampleStore | list[Examples]] = [] if data.held_out is None else [data.held_out]
        if (unwanted := data.unwanted) is not None:
            measured += [[one] for one in (unwanted.texts, unwanted.ends, unwanted.begins) if one is not None]
        if data.corrected is not None:
            measured += [[data.corrected.corrections], [data.corrected.answers]]
        work = Work()
        for examples in measured:
            work += self._pass(model, Lengths.of(examples), [LOSS], lora)
        if settings.exact_match is not None and data.questions:
            prompts = [one.prompt_ids for one in data.questions]
            work += self._answers(model, prompts, settings.exact_match.max_new_tokens, lora)
        if unwanted is not None and settings.unwanted is not None:
            prompts = [one.prompt_ids for one in unwanted.questions]
            work += self._answers(model, prompts, settings.unwanted.max_new_tokens, lora)
        return work

    def _answers(
        self, model: ModelSettings, prompts: Sequence[list[int]], new_tokens: int, lora: LoraSettings | None
    ) -> Work:
        size, rows = self._size(model), self._plan.recipe.evaluate.batch_size
        adapter = self._adapter(model, lora) or 0
        lengths = sorted((len(prompt) for prompt in prompts), reverse=True)
        batches = math.ceil(len(prompts) / rows)
        seconds = batches * new_tokens * self._rates.seconds_a_token(model, size, prompts, rows, lora)
        reading = generation_flops(size, lengths, 0, adapter) / self._rates.measuring(model, size, [LOSS], lora)
        memory = generating_bytes(size, min(rows, len(prompts)), lengths[0] + new_tokens)
        tokens = sum(lengths) + len(prompts) * new_tokens
        return Work(tokens, generation_flops(size, lengths, new_tokens, adapter), seconds + reading, memory)

    def _pass(
        self,
        model: ModelSettings,
        lengths: Lengths,
        specs: Sequence[StatisticSpec],
        lora: LoraSettings | None = None,
    ) -> Work:
        """Estimate the measuring of statistics of some examples, with an adapter that is not merged where given."""
        size, adapter = self._size(model), self._adapter(model, lora) or 0
        whole = any(source_of(spec.name) == "pass" for spec in specs)
        flops = 0.0
        if any(source_of(spec.name) in ("logits", "pass") for spec in specs):
            passed = measured_tokens(lengths, self._budget, whole)
            flops = forward_flops(size, passed, adapter) + (attention_statistic_flops(size, passed) if whole else 0)
        if any(source_of(spec.name) == "answers" for spec in specs):
            alone = Lengths(lengths.trainable, lengths.trainable, lengths.trainable)
            flops += forward_flops(size, measured_tokens(alone, self._budget, True), adapter)
        for spec in specs:
            if not of_a_pass(spec.name):  # each id of the vocabulary is a sequence of its own
                flops += blocks_flops(size, Passed(size.vocabulary, size.vocabulary, 0))
        longest = int(lengths.tokens.max())
        at_once = torch.get_num_threads() if self._hardware.kind == "cpu" else 1
        memory = measuring_bytes(size, max(self._budget, longest), self._hardware.kind, at_once)
        seconds = flops / self._rates.measuring(model, size, specs, lora)
        return Work(int(lengths.tokens.sum()), flops, seconds, memory)

    def _training(self, settings: TrainSettings) -> Training:
        config = self._config(settings)
        on_gpu = self._hardware.kind == "cuda"
        return Training(
            settings,
            self._adapter(self._plan.base, settings.lora),
            config.per_device_train_batch_size,
            config.gradient_checkpointing,
            self._plan.recipe.data.max_length if config.packing else None,
            bool(settings.arguments.get("bf16", on_gpu) or settings.arguments.get("fp16")),
            not on_gpu,
        )

    def _config(self, settings: TrainSettings) -> Any:
        device = pick_device(self._plan.recipe.measure.device)
        return sft_config(settings.arguments, device, output_dir="unused")

    def _fit(self, training: Training, lengths: Lengths, arm: Arm | None = None) -> Work:
        """Estimate one training on some examples, with what an arm does beside it in every step."""
        size, config = self.size, self._config(training.settings)
        tokens, packed = int(lengths.tokens.sum()), training.packed
        rows = len(lengths) if packed is None else packed_rows(tokens, packed)
        steps = optimizer_steps(config, rows)
        epochs = config.num_train_epochs
        if config.max_steps > 0:
            epochs = steps * config.train_batch_size * config.gradient_accumulation_steps / rows
        passed = trained_tokens(lengths, training.batch_size, packed, training.every_position).times(epochs)
        flops = self._selecting_flops(arm, passed) if arm is not None else 0.0
        trained = passed
        if arm is not None and isinstance(arm.rule, TopExamples) and arm.online:
            trained = passed.times(min(1.0, arm.rule.examples / training.batch_size))
        flops += training_flops(size, trained, training.adapter, training.checkpointing)
        rate = self._rates.training(size, training)
        memory = self.training_memory(training, self._longest(training, lengths))
        return Work(tokens * epochs, flops, rate.start + flops / rate.flops + steps * rate.optimizer, memory)

    @staticmethod
    def _longest(training: Training, lengths: Lengths) -> int:
        return training.packed or int(lengths.tokens.max())

    def training_memory(self, training: Training, longest: int) -> int:
        """Return the peak bytes of training the base on rows of ``longest`` tokens at most."""
        lora, tokens = training.settings.lora, training.batch_size * longest
        on = self._hardware.kind
        return training_bytes(self.size, tokens, lora, training.adapter, training.checkpointing, training.half, on)

    def with_lora(self, training: Training) -> Training:
        """Return a training of an adapter with the default settings, in place of all weights."""
        settings = dataclasses.replace(training.settings, lora=LoraSettings())
        return dataclasses.replace(training, settings=settings, adapter=self._adapter(self._plan.base, settings.lora))

    def _selecting_flops(self, arm: Arm, passed: Passed) -> float:
        """Return the operations by which an arm reads the model in training, beside those that train."""
        if not arm.online:
            return 0.0
        method, size, flops = arm.method, self.size, 0.0
        sources = {source_of(name) for role, name in method.needs if role == "current"}
        if "batch" in sources:
            flops += blocks_flops(size, passed)
        if "pass" in sources:
            flops += attention_statistic_flops(size, passed)
        if method.history_decay is not None:
            flops += blocks_flops(size, passed) + head_flops(size, passed)
        return flops

    def _disk_of(self, settings: TrainSettings) -> int:
        adapter = self._adapter(self._plan.base, settings.lora)
        return 4 * (adapter or 0) + model_bytes(settings, self.size.bytes)
