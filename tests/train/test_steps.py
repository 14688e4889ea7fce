"""The number of optimizer steps that is told before a training, against the one that the trainer takes."""

from __future__ import annotations

from typing import Any

import pytest
from trl import SFTTrainer

from tests.train.online import load, make_rows
from tokensieve.models.loading import pick_device
from tokensieve.train.settings import sft_config
from tokensieve.train.steps import optimizer_steps, packed_rows

ARGUMENTS: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "learning_rate": 1e-3}


def trained(base, tokenizer, output, rows, **arguments) -> SFTTrainer:
    config = sft_config({**ARGUMENTS, **arguments}, pick_device("cpu"), output_dir=str(output), max_length=64, seed=0)
    trainer = SFTTrainer(load(base), config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "arguments",
    [
        {"per_device_train_batch_size": 3},
        {"per_device_train_batch_size": 3, "dataloader_drop_last": True},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 1.6},
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 6},
        {"per_device_train_batch_size": 2, "max_steps": 5},
    ],
    ids=str,
)
def test_the_steps_of_the_trainer(arguments, base, tokenizer, tmp_path):
    trainer = trained(base, tokenizer, tmp_path, make_rows(), **arguments)
    assert optimizer_steps(trainer.args, 8) == trainer.state.max_steps == trainer.state.global_step


@pytest.mark.filterwarnings("ignore::UserWarning")  # packing without FlashAttention
def test_packed_rows_are_about_as_many_as_their_tokens_fill(base, tokenizer, tmp_path):
    rows = make_rows()
    trainer = trained(base, tokenizer, tmp_path, rows, packing=True, per_device_train_batch_size=1)
    about = packed_rows(sum(map(len, rows["input_ids"])), 64)
    assert about <= len(trainer.train_dataset) <= about + 1  # pyright: ignore[reportArgumentType]
    assert optimizer_steps(trainer.args, len(trainer.train_dataset)) == trainer.state.global_step  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "logged"),
    [({"max_steps": 5}, 5), ({"max_steps": 201}, 100), ({"max_steps": 6, "logging_steps": 3}, 2)],
    ids=str,
)
def test_a_short_training_logs_each_step_and_a_long_one_about_a_hundred(arguments, logged, base, tokenizer, tmp_path):
    trainer = trained(base, tokenizer, tmp_path, make_rows([3, 4]), **arguments)
    assert sum("loss" in entry for entry in trainer.state.log_history) == logged
