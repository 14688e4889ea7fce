from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from tokensieve import TokenSelectionCallback, TokensieveError

ROWS = [
    ([5, 6, 7, 8], [-100, 6, -100, 8]),
    ([5, 6, 7, 8, 9, 10], [-100, -100, -100, 8, 9, 10]),
    ([5, 9], [5, -100]),  # a label that nothing predicts
    ([11, 12, 13], [-100, -100, 13]),
]
PREFIX = "selection/"


class Sink(TrainerCallback):
    """Stands where a tracker stands: keeps what it is told to log."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        found = {name.removeprefix(PREFIX): value for name, value in logs.items() if name.startswith(PREFIX)}
        if found:
            self.entries.append({"step": state.global_step, **found})


def trained(base, tokenizer, output, rows=ROWS, **arguments) -> tuple[list[dict[str, Any]], SFTTrainer]:
    sink = Sink()
    settings = {"per_device_train_batch_size": 2, "num_train_epochs": 2, "logging_steps": 1, "save_strategy": "no"}
    settings |= {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "seed": 0}
    settings |= {"gradient_checkpointing": False, "train_sampling_strategy": "sequential", "max_length": 32}
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base.path),
        SFTConfig(output_dir=str(output), **{**settings, **arguments}),
        train_dataset=Dataset.from_dict({"input_ids": [r[0] for r in rows], "labels": [r[1] for r in rows]}),
        eval_dataset=Dataset.from_dict({"input_ids": [rows[0][0]], "labels": [rows[0][1]]}),
        processing_class=tokenizer,
        callbacks=[sink],  # before ours, as trackers are
    )
    trainer.add_callback(TokenSelectionCallback(trainer))
    trainer.train()
    return sink.entries, trainer


def test_what_is_trained_on_is_counted_by_hand(base, tokenizer, tmp_path):
    entries, trainer = trained(base, tokenizer, tmp_path)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["trained_tokens"] for entry in entries] == [5, 6, 11, 12]
    assert [entry["trained_share"] for entry in entries] == pytest.approx([5 / 10, 1 / 5] * 2)
    assert [entry["empty_rows"] for entry in entries] == [0, 0.5, 0, 0.5]
    assert all(entry["trained_tokens_per_second"] > 0 for entry in entries)
    logged = [entry for entry in trainer.state.log_history if f"{PREFIX}trained_share" in entry]
    assert all("loss" in entry for entry in logged), "one entry a step, with the loss"
    assert trainer.model is not None
    assert not trainer.model._forward_pre_hooks


def test_accumulation_and_rare_entries_add_up(base, tokenizer, tmp_path):
    entries, _ = trained(base, tokenizer, tmp_path, gradient_accumulation_steps=2, logging_steps=2)
    assert [entry["trained_tokens"] for entry in entries] == [12]
    assert entries[0]["trained_share"] == pytest.approx(12 / 30)
    assert entries[0]["empty_rows"] == 0.25


def test_entries_at_the_end_of_each_epoch(base, tokenizer, tmp_path):
    entries, _ = trained(base, tokenizer, tmp_path, logging_strategy="epoch")
    assert [entry["trained_tokens"] for entry in entries] == [6, 12]


def test_evaluation_is_not_counted(base, tokenizer, tmp_path):
    entries, trainer = trained(base, tokenizer, tmp_path, eval_strategy="steps", eval_steps=1)
    assert [entry["trained_tokens"] for entry in entries] == [5, 6, 11, 12]
    assert any("eval_loss" in entry for entry in trainer.state.log_history)
    assert not any(name.startswith(f"eval_{PREFIX}") for entry in trainer.state.log_history for name in entry)


def test_packed_rows(base, tokenizer, tmp_path):
    entries, _ = trained(base, tokenizer, tmp_path, packing=True, packing_strategy="wrapped", padding_free=False)
    # In one row the label of an example's first token follows the example before, and is trained on.
    assert [entry["trained_tokens"] for entry in entries] == [7, 14]


def test_a_second_training_begins_anew(base, tokenizer, tmp_path):
    _, trainer = trained(base, tokenizer, tmp_path)
    sink = next(one for one in trainer.callback_handler.callbacks if isinstance(one, Sink))
    sink.entries.clear()
    trainer.train()
    assert [entry["trained_tokens"] for entry in sink.entries] == [5, 6, 11, 12]


def test_other_trainers_are_refused(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base.path)
    plain = Trainer(model, TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"))
    with pytest.raises(TokensieveError, match=r"(?s)Trainer does not take.*SFTTrainer"):
        TokenSelectionCallback(plain)
