"""TRL's trainer, choosing and weighing tokens as it trains.

The statistics of the model in training come from the very forward pass that trains: `SFTTrainer.compute_loss` runs as
it is, on a model whose log-probabilities are multiplied by the method's weights on their way. What an offline method
would read from disk, and what an online one reads here, go through the same `score`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import SFTConfig

from tokensieve.containers import IGNORE_INDEX, Float32, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.models.evaluating import evaluating
from tokensieve.models.transformers_private import decoder
from tokensieve.ops.logit_geometry import EXAMPLE_STATISTICS
from tokensieve.ops.rules import TopExamples
from tokensieve.train.accounting import Counts, LossAccumulator, Selected
from tokensieve.train.anchor import Anchor
from tokensieve.train.batches import Batch, ColumnCollator
from tokensieve.train.checkpoints import (
    CompleteCheckpoints,
    checkpoints_in,
    last_complete,
    remove_broken,
)
from tokensieve.train.current_statistics import CurrentStatistics
from tokensieve.train.frozen_columns import column_of, with_frozen_columns
from tokensieve.train.moving_average import MovingAverage
from tokensieve.train.ranking import keep_of_all
from tokensieve.train.running_totals import RunningTotals
from tokensieve.train.selection_state import read_state, write_state
from tokensieve.train.trl_private import FUSED_HEAD_STATISTICS, WeightedSFTTrainer, check_trl, training_metrics
from tokensieve.train.uds import ExampleStatistics
from tokensieve.train.validation import (
    KEPT,
    WEIGHTS,
    check_batches,
    check_loss,
    check_parallelism,
    check_router_loss,
    check_sharding,
    unmarked_answers,
)


class TokenSelectionTrainer(WeightedSFTTrainer):
    """TRL's `SFTTrainer` with a token-selection method.

    Everything that `SFTTrainer` takes is taken as it is. Data is tokenised as `SFTTrainer` does it, or has
    ``input_ids`` and ``labels``. Further columns are read where they are there: ``ROLE.STATISTIC`` (such as
    ``reference.loss``), a number for each token; ``kept``, decisions of an offline selection in place of the method's
    rule; ``weights``, a factor for each token's loss. What a method needs of a frozen model and no column holds is
    measured before the training, once: with the model of that role in ``models``, or, for ``base`` and ``history``,
    with the model as it is before its first step.

    The loss of an optimizer step is the weighted sum over all its micro-batches and processes, divided by the number of
    kept or of all trainable tokens in them, as the method says (``method.divide_by``).

    Logged at each step beside what TRL logs, each with the prefix ``selection/``: ``kept_share``, the means
    ``score_kept`` and ``score_dropped``, and the ``denominator``.

    Args:
        model: as for `SFTTrainer`.
        args: an `SFTConfig`.
        method: a name of ``tokensieve methods``, or a method with its hyper-parameters from `get_method`.
        models: loaded models by role, such as ``{"reference": model}``.
        turn_end_ids: ids that end an assistant turn and are always kept; the tokenizer's EOS when not given, none when
            empty.
        keywords: everything else that `SFTTrainer` takes.

    Raises:
        TokensieveError: a model that a role needs is missing, a layer that the model does not have, attention that
            cannot be intercepted, data that must not be packed, no more examples in a batch than are to be kept.
    """

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *,
        method: str | Method,
        models: Mapping[str, Any] | None = None,
        turn_end_ids: Sequence[int] | None = None,
        **keywords: Any,
    ) -> None:
        self.method = get_method(method) if isinstance(method, str) else method
        check_trl()
        given: Any = args or SFTConfig
        columns = getattr(keywords.get("train_dataset"), "column_names", None) or ()
        packed = given.packing or given.padding_free
        check_batches(self.method, given.per_device_train_batch_size, packed, columns, "SFTConfig: ")
        arguments = {field.name: getattr(given, field.name, None) for field in fields(SFTConfig)}
        check_loss(self.method, arguments, columns, "SFTConfig: ")
        if keywords.get("compute_loss_func") is not None:
            raise TokensieveError(
                "a compute_loss_func computes the loss from all tokens, so the selection would be ignored",
                where="TokenSelectionTrainer: compute_loss_func",
                hint="leave it out; a method of your own can give each token a weight",
            )
        super().__init__(model, args, **keywords)
        check_trl(self)
        if columns and self.accelerator.is_main_process and (way_out := unmarked_answers(given, columns)):
            warnings.warn(
                f"nothing marks the answers in the data, so '{self.method.name}' scores the tokens of prompts too, and "
                f"trains on them. Add {way_out}",
                stacklevel=2,
            )
        if turn_end_ids is None:
            eos = getattr(self.processing_class, "eos_token_id", None)
            turn_end_ids = [] if eos is None else [eos]
        self._turn_end_ids = tuple(turn_end_ids)
        self.counts, self._step = Counts(), LossAccumulator()
        unwrapped = self.accelerator.unwrap_model(self.model)
        self._current = CurrentStatistics(self.method, unwrapped)
        decay = self.method.history_decay
        self._history = MovingAverage(unwrapped, decay) if decay is not None else None
        self._saved_average: dict[str, Tensor] | None = None
        self._check()
        self._anchor = Anchor(unwrapped, (models or {}).get("base")) if self.method.anchor else None
        self.carried = self._add_columns(models or {})
        self.data_collator: Any = ColumnCollator(self.data_collator, self.carried)
        self._example_statistics = self._make_example_statistics()
        self.add_callback(_KeepState(self))
        self.add_callback(RunningTotals(self))
        self.add_callback(CompleteCheckpoints(self))

    def train(self, resume_from_checkpoint: str | bool | None = None, **keywords: Any) -> Any:
        """Train as `SFTTrainer` does; a checkpoint brings back averages, buffers and counts too.

        Args:
            resume_from_checkpoint: a checkpoint; or True for the last complete one in the output folder. Broken ones
                there are removed; training starts from the beginning where no other is left.
            keywords: everything else that `SFTTrainer.train` takes.

        Raises:
            TokensieveError: the checkpoint is broken or another trainer's, or there is none.
        """
        folder = self._last_checkpoint() if resume_from_checkpoint is True else resume_from_checkpoint or None
        if folder is not None:
            self._load_state(Path(str(folder)))
        return super().train(resume_from_checkpoint=folder and str(folder), **keywords)

    def _last_checkpoint(self) -> Path | None:
        output = Path(str(self.args.output_dir))
        if not checkpoints_in(output):
            raise TokensieveError(
                "there is no checkpoint to resume from", where=str(output), hint="train without resume_from_checkpoint"
            )
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            remove_broken(output, unrecorded=False)
        self.accelerator.wait_for_everyone()
        return last_complete(output)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the loss of a batch over the tokens that the method keeps; in evaluation, over all of them."""
        columns = {name: inputs.pop(name) for name in self.carried if name in inputs}
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        selected: Selected | None = None
        if isinstance(self.method.rule, TopExamples):
            inputs, selected = self._choose_examples(model, inputs)
        labels = inputs["labels"]

        def forward(arguments: dict[str, Any]) -> Any:
            nonlocal selected
            batch = Batch.of(inputs)
            frozen = self._frozen_values(batch, columns, model, inputs)
            unwrapped = self.accelerator.unwrap_model(model)
            with self._anchor.record() if self._anchor else nullcontext([]) as states:
                outputs, current = self._current.forward(model, unwrapped, arguments, batch)
            statistics = batch.statistics({**frozen, **current}, self._turn_end_ids)
            weights, selected = self._weights(statistics, batch, columns, selected)
            log_probs = outputs.log_probs * batch.scatter(weights, outputs.log_probs)[:, 1:]
            if self._anchor is not None:
                places = torch.from_numpy(batch.places[selected.decided]).to(log_probs.device)
                divergence = self._anchor.divergence(states[0], arguments, places)
                added = torch.zeros(batch.shape, device=log_probs.device).flatten().index_put((places,), divergence)
                # The loss is the negative of these.
                log_probs = log_probs - self.method.anchor * added.view(batch.shape)[:, 1:]
            return dataclasses.replace(outputs, log_probs=log_probs)

        loss, balance, rest = self.weighted_loss(model, inputs, forward, return_outputs, num_items_in_batch)
        assert selected is not None
        loss = self._divided(loss, selected, num_items_in_batch, labels) + balance
        self._record(selected)
        return (loss, *rest) if return_outputs else loss

    def _frozen_values(
        self, batch: Batch, columns: Mapping[str, Tensor], model: Any, inputs: Mapping[str, Any]
    ) -> dict[tuple[str, str], Float32]:
        """Return the statistics of frozen models and of the history."""
        values = {need: batch.gather(columns[column_of(need)]) for need in self._frozen_needs()}
        if self._history is not None:
            past = self.accelerator.unwrap_model(model)
            # Without dropout, as frozen models are measured: what it drops is no change that training has made.
            with torch.no_grad(), self._history.in_place(), evaluating(past):
                outputs = past(**inputs, fused_lm_head=True)
            values["history", "loss"] = batch.gather_shifted(FUSED_HEAD_STATISTICS["loss"](outputs))
        return values

    def _weights(
        self, statistics: Statistics, batch: Batch, columns: Mapping[str, Tensor], selected: Selected | None
    ) -> tuple[Float32, Selected]:
        """Decide upon the tokens of a batch, where that is not done (``selected``), and weigh them."""
        method = self.method.at(self.counts.examples)
        trainable = statistics.trainable
        if selected is not None:
            kept = trainable  # the others have left the batch
        else:
            scores = method.score(statistics)
            decided = KEPT in columns
            if decided:
                kept = trainable & (batch.gather(columns[KEPT]) > 0)
            else:
                kept = keep_of_all(method.rule, scores, method.offered(statistics), self.accelerator)
            selected = Selected(scores, kept, trainable)
        weights = method.weights(statistics, kept, self.state.global_step / max(1, self.state.max_steps))
        if WEIGHTS in columns:
            weights = weights * batch.gather(columns[WEIGHTS])
        self.counts.examples += len(statistics) * self.accelerator.num_processes
        return weights, selected

    def _divided(self, loss: Tensor, selected: Selected, num_items: Any, labels: Tensor) -> Tensor:
        """Divide by the kept, or all trainable, tokens of the step, where TRL divided by the labels of it."""
        if num_items is None:
            selected.denominator = float(selected.offered if self.method.divide_by == "trainable" else selected.kept)
            counted = (labels[:, 1:] != IGNORE_INDEX).sum()  # TRL has divided by these
            return loss * (counted / selected.denominator) if selected.denominator else loss * 0.0
        if self.method.divide_by == "trainable":
            selected.denominator = float(num_items)
            return loss
        if not self.accelerator.sync_gradients:
            self._step.add(loss, selected.kept)
            return loss
        step, self._step = self._step, LossAccumulator()
        counted: Any = torch.tensor(float(step.kept + selected.kept), device=loss.device)
        if self.args.average_tokens_across_devices:
            counted = self.accelerator.reduce(counted, "sum")
        selected.denominator = float(counted)
        return step.finish(loss, float(num_items), selected.denominator, self.model)

    def _record(self, selected: Selected) -> None:
        self.counts.trainable += selected.offered
        self.counts.kept += selected.kept
        self.counts.empty_batches += selected.kept == 0
        metrics = training_metrics(self)
        for name, value in selected.metrics().items():
            metrics[f"selection/{name}"].append(value)

    @torch.no_grad()
    def _choose_examples(self, model: Any, inputs: dict[str, Any]) -> tuple[dict[str, Any], Selected]:
        """Score the examples of a candidate batch; return those that are trained on, and what was decided."""
        batch = Batch.of(inputs)
        values: dict[tuple[str, str], Float32] = {}
        projections = None
        if self._example_statistics is not None:
            values, projections = self._measure_examples(self._example_statistics, model, inputs, batch)
        statistics = batch.statistics(values, ())
        method = self.method.at(self.counts.examples)
        scores = method.score(statistics)
        kept = method.rule.keep(scores, method.offered(statistics))
        rows = np.unique(np.repeat(np.arange(batch.shape[0]), batch.lengths)[kept])
        chosen = torch.from_numpy(rows)
        if self._example_statistics is not None and projections is not None:
            self._example_statistics.choose(projections[chosen])
        longest = int(batch.lengths[rows].max())
        rest = {
            name: value[chosen.to(value.device), :longest] if isinstance(value, Tensor) and value.dim() == 2 else value
            for name, value in inputs.items()
        }
        return rest, Selected(scores, kept, statistics.trainable)

    def _measure_examples(
        self, measured: ExampleStatistics, model: Any, inputs: dict[str, Any], batch: Batch
    ) -> tuple[dict[tuple[str, str], Float32], Tensor]:
        """Measure a candidate batch with a pass of its own; return the statistics and the projections of examples."""
        backbone = decoder(self.accelerator.unwrap_model(model))
        with self.compute_loss_context_manager():
            hidden = backbone(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        states = hidden.last_hidden_state.flatten(0, 1)
        lengths = batch.lengths.tolist()
        if self.method.options("diversity")["mode"] == "official":
            lengths = [batch.shape[1]] * batch.shape[0]
        else:
            states = states[torch.from_numpy(batch.places).to(states.device)]
        norms, distances, projections = measured.measure(states, lengths)
        values = {
            ("current", name): np.repeat(value, batch.lengths)
            for name, value in zip(EXAMPLE_STATISTICS, (norms, distances), strict=True)
        }
        return values, projections

    def _frozen_needs(self) -> list[tuple[str, str]]:
        without = {("history", "loss")} if self._history is not None else set()
        return sorted(need for need in self.method.needs - without if need[0] != "current")

    def _check(self) -> None:
        # Known now: whether the model is a mixture of experts, and what accelerate's own settings say.
        check_parallelism(self.method, self.accelerator.parallelism_config, "accelerate: ")
        if self.aux_loss_enabled:
            check_router_loss(self.method, self.args.gradient_accumulation_steps, "SFTConfig: ")
        state: Any = self.accelerator.state
        fsdp = state.fsdp_plugin.fsdp_version if self.is_fsdp_enabled else None
        check_sharding(self.method, fsdp, state.deepspeed_plugin.zero_stage if self.is_deepspeed_enabled else None)
        if self.is_deepspeed_enabled and self.args.gradient_accumulation_steps > 1 and self.method.divide_by == "kept":
            raise TokensieveError(
                "DeepSpeed hides the gradients that accumulation must rescale by the number of kept tokens",
                hint="gradient_accumulation_steps=1 with a larger batch, or FSDP",
            )

    def _make_example_statistics(self) -> ExampleStatistics | None:
        if not {("current", name) for name in EXAMPLE_STATISTICS} & self.method.needs:
            return None
        options = self.method.options("diversity")
        dataset: Any = self.train_dataset
        longest = max(len(row) for row in dataset["input_ids"])
        return ExampleStatistics(self._current.head.module, longest, options["buffer"], options["seed"])

    def _add_columns(self, models: Mapping[str, Any]) -> tuple[str, ...]:
        """Measure what no column holds of frozen models; return the columns that batches carry."""
        needs = self._frozen_needs()
        own = self.accelerator.unwrap_model(self.model)
        self.train_dataset = with_frozen_columns(self.train_dataset, self.method, needs, models, own)
        present = self.train_dataset.column_names
        return (*map(column_of, needs), *(name for name in (KEPT, WEIGHTS) if name in present))

    def begin(self) -> None:
        """Start the steps of a training; its model is wrapped and sharded by now."""
        self._step = LossAccumulator()
        if self._history is not None:
            self._history.start()
            if self._saved_average is not None:
                self._history.load(self._saved_average)
        self._saved_average = None

    def _state_file(self, folder: Path) -> Path:
        return folder / f"token_selection-{self.accelerator.process_index}.safetensors"

    def save_state_to(self, folder: Path) -> None:
        """Write averages, buffers and counts of this process beside a checkpoint."""
        write_state(
            self._state_file(folder),
            self.counts,
            self._history.state() if self._history is not None else {},
            self._example_statistics.chosen if self._example_statistics is not None else None,
        )

    def _load_state(self, folder: Path) -> None:
        self.counts, self._saved_average, chosen = read_state(self._state_file(folder))
        if self._example_statistics is not None and chosen is not None:
            self._example_statistics.chosen = chosen


class _KeepState(TrainerCallback):
    """Moves the average with each optimizer step, and saves it with each checkpoint."""

    def __init__(self, trainer: TokenSelectionTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer._history is not None:
            self._trainer._history.update()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.save_state_to(Path(args.output_dir) / f"checkpoint-{state.global_step}")
